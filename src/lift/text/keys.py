"""Sets and indexes of 16-byte caption keys in a few bytes each, searched in bulk."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Int64

from lift.text.encoder import KEY_BYTES, clean

KEY = np.dtype(f"S{KEY_BYTES}")
"""numpy's byte strings sort and compare whole 16-byte values in C; a void type does not sort."""


def keys_of(cleaned: Sequence[str]) -> np.ndarray:
    """Return the keys [n] of texts that `clean` has been through (see `caption_key`)."""
    blake = hashlib.blake2b
    digests = b"".join(blake(t.encode("utf-8"), digest_size=KEY_BYTES).digest() for t in cleaned)
    return np.frombuffer(digests, KEY)


class KeySet:
    """A growing set of keys: 16 bytes a key, twice that while two sorted runs are merged."""

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def contains(self, keys: np.ndarray) -> Bool[np.ndarray, " n"]:
        """Return which of the keys are in the set."""
        found = np.zeros(len(keys), bool)
        for run in self._runs:
            found |= run[np.minimum(np.searchsorted(run, keys), len(run) - 1)] == keys
        return found

    def add(self, keys: np.ndarray) -> Bool[np.ndarray, " n"]:
        """Add keys and return which were new; of equal ones among them, the first."""
        distinct, first = np.unique(keys, return_index=True)
        absent = ~self.contains(distinct)
        new = np.zeros(len(keys), bool)
        new[first[absent]] = True
        if absent.any():
            self._runs.append(distinct[absent])
        # Runs at least double in length from last to first, so there are few to search.
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            merged = np.concatenate([self._runs.pop(-2), self._runs.pop(-1)])
            merged.sort(kind="stable")  # merges the two sorted halves
            self._runs.append(merged)
        return new


def count_distinct(texts: Iterable[str]) -> int:
    """Return how many texts differ after cleaning; 16 bytes are kept of each, never the text."""
    seen = KeySet()
    stream = iter(texts)
    while chunk := [clean(text) for text in itertools.islice(stream, 4096)]:
        seen.add(keys_of(chunk))
    return len(seen)


class KeyIndex:
    """From key to row number: 24 bytes a row (20 below 2^31 rows), built once."""

    def __init__(self, keys: np.ndarray) -> None:
        """Index `keys` [n], where position is row number."""
        order = np.argsort(keys, kind="stable")
        self._rows = order.astype(np.int32) if len(keys) < 2**31 else order
        self._keys = keys[order]

    def find(self, keys: np.ndarray) -> Int64[np.ndarray, " n"]:
        """Return the row of every key, -1 where there is none."""
        if not len(self._keys):
            return np.full(len(keys), -1, np.int64)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._rows[at], -1).astype(np.int64)

    def repeated(self) -> int:
        """Return how many rows have the key of another row (0 in a sound cache)."""
        return int((self._keys[1:] == self._keys[:-1]).sum())
