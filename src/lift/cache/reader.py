"""Read a finished cache: from captions to row numbers, from row numbers to float32 rows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from lift.cache import shard as shards
from lift.cache.manifest import Manifest, is_ours, read_manifest
from lift.config import Part
from lift.errors import CacheError, MissingRows
from lift.text.encoder import clean
from lift.text.keys import KEY, KeyIndex, keys_of
from lift.text.space import TextSpace
from lift.world import Precision

_OPEN_SHARDS = 1_024
"""Mapped at once; the system allows some 65,000 maps a process."""


class EmbeddingCache:
    """A finished cache, mapped; safe after fork, and pickled as its path.

    Attributes:
        folder: where it lies.
        manifest: its record.
        space: what its rows mean.
        part: the encoder that made it.
        saw: benchmarks whose captions that encoder was trained on.
        codec: how rows are stored.
        precision: what the encoder computed them in. Not part of the space: rows of bfloat16
            and of float32 are comparable, but differ by about 1e-3.
        dimensions: length of a row.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Use `open` instead."""
        self.folder, self.manifest = folder, manifest
        self.space: TextSpace = manifest.plan.space
        self.part: Part = manifest.plan.encoder
        self.saw = manifest.plan.saw
        self.codec = manifest.plan.build_codec()
        self.precision: Precision = manifest.plan.precision
        self.dimensions = self.space.dimensions
        self._schema = manifest.plan.schema()
        sizes = [shard.rows for shard in manifest.shards]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._views: OrderedDict[int, shards.ShardView] = OrderedDict()
        self._index: KeyIndex | None = None

    @classmethod
    def open(cls, folder: str | Path, *, verify: bool = False) -> EmbeddingCache:
        """Return the cache in `folder`, the sizes of its files checked.

        Args:
            folder: of the cache.
            verify: also compare every shard with its checksum (reads all of it).

        Raises:
            CacheError: nothing there, not finished, damaged, or of a newer format.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if manifest is None:
            raise CacheError(_why_not(folder))
        cache = cls(folder, manifest)
        for shard in manifest.shards:
            path = folder / shard.file
            size = path.stat().st_size if path.is_file() else None
            if size != shard.bytes:
                found = "is missing" if size is None else f"has {size} bytes"
                raise CacheError(
                    f"{path} {found}, the manifest says {shard.bytes}: the cache is damaged; "
                    "copy it again, or remove the folder and embed again."
                )
        if verify and (bad := cache.damaged()):
            raise CacheError(
                f"{folder / bad[0]} does not have its checksum ({len(bad)} of "
                f"{len(manifest.shards)} shards): the cache is damaged; copy it again, or remove "
                "the folder and embed again."
            )
        return cache

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "manifest": self.manifest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # With the manifest of then: a cache that has grown since keeps its first rows.
        self.__init__(state["folder"], state["manifest"])

    def find(self, texts: Sequence[str]) -> Int64[np.ndarray, " n"]:
        """Return the row number of every text, -1 where it has none."""
        return self.find_keys(keys_of([clean(text) for text in texts]))

    def find_keys(self, keys: Sequence[bytes] | np.ndarray) -> Int64[np.ndarray, " n"]:
        """Return the row number of every 16-byte key (see `caption_key`), -1 where none."""
        if self._index is None:
            views = [self.view(number).keys for number in range(len(self.manifest.shards))]
            self._index = KeyIndex(np.concatenate([np.empty(0, KEY), *views]))
        if not isinstance(keys, np.ndarray):
            keys = np.frombuffer(b"".join(keys), KEY)
        return self._index.find(keys)

    def require(self, texts: Sequence[str]) -> Int64[np.ndarray, " n"]:
        """Return the row number of every text.

        Raises:
            MissingRows: with how many have none, and the first of them.
        """
        rows = self.find(texts)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            raise MissingRows(
                f"{len(missing)} of {len(texts)} captions have no row in the cache {self.folder}; "
                f"the first is {texts[int(missing[0])]!r}. Run `lift embed` on this set with the "
                "same folder: it adds what is missing."
            )
        return rows

    def take(self, rows: Sequence[int] | np.ndarray) -> Float32[np.ndarray, "n d"]:
        """Return the rows of these numbers, in their order, decoded to float32.

        Raises:
            CacheError: a number outside the cache (-1 among them: see `require`).
        """
        rows = np.asarray(rows, np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            bad = rows[(rows < 0) | (rows >= len(self))][0]
            raise CacheError(
                f"The cache {self.folder} has rows 0 to {len(self) - 1}, not {bad}; look captions "
                "up with require()."
            )
        taken = np.empty((len(rows), self.dimensions), np.float32)
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(owner):
            of_shard = owner == number
            stored = self.view(int(number)).stored
            taken[of_shard] = self.codec.decode(stored[rows[of_shard] - self._starts[number]])
        return taken

    def view(self, number: int) -> shards.ShardView:
        """Return shard `number`, mapped without a copy."""
        view = self._views.get(number)
        if view is None:
            shard = self.manifest.shards[number]
            path = self.folder / shard.file
            view = shards.open_shard(path, self._schema, self.codec, shard.rows)
            self._views[number] = view
            if len(self._views) > _OPEN_SHARDS:
                self._views.popitem(last=False)
        return view

    def damaged(self) -> list[str]:
        """Return the shard files whose content is not what their checksum says."""
        return [
            s.file
            for s in self.manifest.shards
            if shards.file_hash(self.folder / s.file) != s.sha256
        ]


def _why_not(folder: Path) -> str:
    """Say why a folder without a manifest is no cache."""
    names: Iterable[str] = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    ours = [name for name in names if is_ours(name)]
    if not ours:
        return f"There is no cache in {folder}; make one with `lift embed`."
    rows = sum(shards.rows_in(path) for path in folder.glob("shard-*.arrow"))
    return (
        f"The cache in {folder} is not finished: {rows} rows are there, but no manifest; run the "
        "same `lift embed` command again, it goes on from them."
    )
