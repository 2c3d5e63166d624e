"""How many equal ones came before: ranks of 16-byte keys, sorted on disk."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from lift.data.spilled import Spilled, room_for
from lift.text.encoder import KEY_BYTES
from lift.text.keys import KEY

_BUCKETS = 64  # each is an open file
_RECORD = np.dtype([("key", KEY), ("place", np.int64)])


class Copies:
    """Keys in order, and for each of them how many equal ones came before it.

    Memory holds one of 64 buckets: about 8 MB at ten million keys. The disk holds 32 bytes a key.
    """

    def __init__(self) -> None:
        self._buckets = [Spilled(_RECORD) for _ in range(_BUCKETS)]
        self._length = 0

    def append(self, keys: np.ndarray) -> None:
        """Add keys [n] of the kind `lift.text.keys.KEY`; an all-zero one has no copies."""
        records = np.empty(len(keys), _RECORD)
        records["key"] = keys
        records["place"] = np.arange(self._length, self._length + len(keys))
        self._length += len(keys)
        bucket = (
            np.ascontiguousarray(keys).view(np.uint8).reshape(len(keys), KEY_BYTES)[:, 0] % _BUCKETS
        )
        order = np.argsort(bucket, kind="stable")
        ends = np.cumsum(np.bincount(bucket, minlength=_BUCKETS))
        for number, piece in enumerate(np.split(records[order], ends[:-1])):
            if len(piece):
                self._buckets[number].append(piece)

    def earlier(self) -> Int64[np.ndarray, " n"]:
        """Return how many equal keys came before each, mapped from disk."""
        counts = room_for(self._length, np.int64)
        for bucket in self._buckets:
            records = bucket.mapped()
            if not len(records):
                continue
            order = np.argsort(records["key"], kind="stable")
            keys = records["key"][order]
            begins = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
            sizes = np.diff(np.append(begins, len(keys)))
            rank = np.arange(len(keys)) - np.repeat(begins, sizes)
            counts[records["place"][order]] = np.where(keys == b"", 0, rank)
        return counts
