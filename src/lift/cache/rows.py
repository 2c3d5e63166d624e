"""Rows of several shards under one numbering: mapped, found by key, decoded when they are taken."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int64, Shaped
from torch import Tensor

from lift.cache import shard as shards
from lift.cache.codec import Codec
from lift.cache.manifest import Shard
from lift.cache.place import Place
from lift.errors import CacheError
from lift.text.keys import KEY, KeyIndex

_OPEN_SHARDS = 30_000
"""Mapped at once; the system allows some 65,000 maps a process."""

_BLOCK_BYTES = 1 << 20
"""Fits the second cache of a core: reading into it is faster than into fresh memory."""

_ENDS = 1 << 17

_INDEXED_IN_MEMORY = 250_000
"""Rows whose index (5 MB) is quicker to make in memory than on disk."""


class StoredRows:
    """Rows of shards, numbered in their order.

    Attributes:
        codec: how rows are stored.
        shards: each with the place that holds it.
    """

    def __init__(
        self, name: str, owned: Sequence[tuple[Place, Shard]], schema: pa.Schema, codec: Codec
    ) -> None:
        """Map nothing yet.

        Args:
            name: of the cache, for messages.
            owned: the shards in the order of row numbers.
            schema: of every one of them.
            codec: of every one of them.
        """
        self.codec, self.shards = codec, tuple(owned)
        self._name, self._schema = name, schema
        sizes = [shard.rows for _, shard in owned]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._views: OrderedDict[int, shards.ShardView] = OrderedDict()
        self._index: KeyIndex | None = None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def keys(self) -> Iterator[np.ndarray]:
        """Yield the keys [n] of every shard."""
        for number in range(len(self.shards)):
            yield self.view(number).keys

    def find_keys(self, keys: Sequence[bytes] | np.ndarray) -> Int64[np.ndarray, " n"]:
        """Return the row number of every 16-byte key (see `caption_key`), -1 where none.

        The first call makes an index: in memory for a small cache, else in an unnamed temporary
        file that is mapped, so that memory does not grow with the rows.
        """
        if not isinstance(keys, np.ndarray):
            keys = np.frombuffer(b"".join(keys), KEY)
        return self.index().find(keys)

    def index(self) -> KeyIndex:
        """Return the index of all keys."""
        if self._index is None:
            if len(self) <= _INDEXED_IN_MEMORY:
                self._index = KeyIndex(np.concatenate([np.empty(0, KEY), *self.keys()]))
            else:
                scratch = self.shards[0][0].scratch
                self._index = KeyIndex.on_disk(self.keys(), scratch)
        return self._index

    def take(self, rows: Sequence[int] | np.ndarray) -> Float32[np.ndarray, "n d"]:
        """Return the rows of these numbers, in their order, decoded to float32.

        Raises:
            CacheError: a number outside the cache.
        """
        return self.codec.decode(self.take_stored(rows))

    def take_stored(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the rows of these numbers as the codec stores them [n w].

        Raises:
            CacheError: a number outside the cache (-1 among them: see `require`).
        """
        rows = np.asarray(rows, np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            bad = rows[(rows < 0) | (rows >= len(self))][0]
            raise CacheError(
                f"The cache {self._name} has rows 0 to {len(self) - 1}, not {bad}; look captions "
                "up with require()."
            )
        taken = self.codec.empty(len(rows))
        for view, places, local in self._by_shard(rows):
            taken[places] = view.stored[local]
        return taken

    def truncated(self, rows: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Return of which rows the text was cut before it was embedded."""
        found = np.zeros(len(rows), np.bool_)
        for view, places, local in self._by_shard(rows):
            found[places] = view.truncated[local]
        return found

    def _by_shard(
        self, rows: Int64[np.ndarray, " n"]
    ) -> Iterator[tuple[shards.ShardView, np.ndarray, np.ndarray]]:
        """Yield (shard, which of the rows lie there, where in it)."""
        if not len(rows):
            return
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(owner, kind="stable")
        owners, begins = np.unique(owner[order], return_index=True)
        for number, of_shard in zip(owners.tolist(), np.split(order, begins[1:]), strict=True):
            yield self.view(number), of_shard, rows[of_shard] - self._starts[number]

    def decode(self, stored: Shaped[Tensor, "n w"]) -> Float32[Tensor, "n d"]:
        """Return the rows of what `take_stored` gave, on the device where that is now."""
        return self.codec.decode_on(stored)

    def scan(self, count: int | None = None) -> Iterator[np.ndarray]:
        """Yield all stored rows [n w] in order, in blocks of at most `count` (None: a megabyte).

        A block is valid until the next one is asked for: both are one piece of memory. Rows are
        read here, not mapped: a cold file comes faster that way.
        """
        count = count or max(1, _BLOCK_BYTES // self.codec.bytes_per_row)
        room = self.codec.empty(count)
        for number, (place, shard) in enumerate(self.shards):
            for near, coming in self.shards[number : number + 2]:
                _fetch_ends(near.local(coming.file, coming.bytes))
            with place.local(shard.file, shard.bytes).open("rb", buffering=0) as file:
                file.seek(self.view(number).offset)
                for start in range(0, shard.rows, count):
                    block = room[: min(count, shard.rows - start)]
                    _fill(file, block)
                    yield block

    def view(self, number: int) -> shards.ShardView:
        """Return shard `number`, mapped without a copy."""
        view = self._views.get(number)
        if view is None:
            place, shard = self.shards[number]
            path = place.local(shard.file, shard.bytes)
            view = shards.open_shard(path, self._schema, self.codec, shard.rows)
            self._views[number] = view
            if len(self._views) > _OPEN_SHARDS:
                self._views.popitem(last=False)
        else:
            self._views.move_to_end(number)
        return view


def _fetch_ends(path: Path) -> None:
    """Ask the system for both ends of a file, where Arrow says what is in it, while others work."""
    if hasattr(os, "posix_fadvise"):  # not on macOS
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            for start in (0, max(0, size - _ENDS)):
                os.posix_fadvise(file.fileno(), start, _ENDS, os.POSIX_FADV_WILLNEED)


def _fill(file: FileIO, block: np.ndarray) -> None:
    room = block.view(np.uint8).reshape(-1).data
    while len(room):
        got = file.readinto(room)
        if not got:
            raise CacheError(f"{file.name} ended before its last row; copy the cache again.")
        room = room[got:]
