"""A finished cache, whatever its rows are of: opened, compared with its records, mapped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from jaxtyping import Int64

from lift.cache import links, probes
from lift.cache import manifest as records
from lift.cache import shard as shards
from lift.cache.fidelity import Fidelity, merge
from lift.cache.manifest import Manifest, Space
from lift.cache.place import Place, place_of
from lift.cache.rows import StoredRows
from lift.config import Part
from lift.errors import CacheError, MissingRows
from lift.model_folder import MARKER
from lift.text.encoder import clean
from lift.text.keys import keys_of
from lift.world import Precision

OpenedT = TypeVar("OpenedT", bound="OpenedCache")


class OpenedCache(StoredRows):
    """The base of the two kinds of cache; safe after fork, and pickled as its address.

    Attributes:
        SPACE: the kind of space that its rows live in.
        ITEMS, ITS: what rows stand for, and what such a cache is, in messages.
        folder: where it lies: a path or a URL.
        manifests: its records, one a part.
        plan: how its rows were made, whichever part they are in.
        part: what made it.
        saw: benchmarks whose captions that was trained on.
        codec: how rows are stored.
        precision: what they were computed in. Not part of the space: rows of bfloat16 and of
            float32 are comparable, but differ by about 1e-3.
        dimensions: length of a row.
    """

    SPACE: ClassVar[type]
    ITEMS: ClassVar[str]
    ITS: ClassVar[str]

    def __init__(self, folder: str | Path, manifests: Sequence[Manifest]) -> None:
        """Use `open` instead."""
        self.folder, self.manifests = folder, tuple(manifests)
        self.plan = self.manifests[0].plan
        self.part: Part = self.plan.encoder
        self.saw = self.plan.saw
        self.precision: Precision = self.plan.precision
        self.dimensions = self.plan.space.dimensions
        self.place = place_of(folder)
        self._places = [records.part_place(self.place, self.plan, m.part) for m in self.manifests]
        owned = [(p, s) for p, m in self._parts() for s in m.shards]
        super().__init__(str(folder), owned, self.plan.schema(), self.plan.build_codec())

    @classmethod
    def open(cls: type[OpenedT], folder: str | Path, *, verify: bool = False) -> OpenedT:
        """Return the cache in `folder`, its parts compared and the sizes of its files checked.

        Args:
            folder: of the cache: a path, or a URL that fsspec knows.
            verify: also compare every file with its checksum (reads all of it).

        Raises:
            CacheError: nothing there, not finished, damaged, of a newer format, or of another
                kind: stored image features where captions belong, or the other way round.
        """
        place = place_of(folder)
        plan = records.read_plan(place)
        manifests = records.read_manifests(place, plan)
        found = [manifest for manifest in manifests.values() if manifest is not None]
        told = plan or (found[0].plan if found else None)
        if told is not None and not isinstance(told.space, cls.SPACE):
            raise CacheError(_other_kind(folder, told.space, cls.ITS))
        if missing := [number for number, manifest in manifests.items() if manifest is None]:
            raise CacheError(_why_not(place, plan, missing))
        cache = cls(folder, found)
        cache._require_sizes()
        if verify and (bad := cache.damaged()):
            raise CacheError(
                f"{folder}/{bad[0]} does not have its checksum ({len(bad)} of "
                f"{len(list(cache.files()))} files): the cache is damaged; copy it again, or "
                "remove the folder and embed again."
            )
        return cache

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "manifests": self.manifests}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # With the manifests of then: a cache that has grown since keeps its first rows.
        self.__init__(state["folder"], state["manifests"])

    @property
    def manifest(self) -> Manifest:
        """Return the manifest of a cache in one part; of several, that of the first."""
        return self.manifests[0]

    @property
    def counters(self) -> Mapping[str, int]:
        """Return the counters of all parts, added up."""
        names = {name: None for m in self.manifests for name in m.counters}
        return {name: sum(m.counters.get(name, 0) for m in self.manifests) for name in names}

    @property
    def fidelity(self) -> Fidelity | None:
        """Return what the codec changed over all rows, None where an older lift wrote some."""
        measured = [manifest.fidelity for manifest in self.manifests]
        return merge(found for found in measured if found) if all(measured) else None

    def find(self, texts: Sequence[str]) -> Int64[np.ndarray, " n"]:
        """Return the row number of every text (of images: address), -1 where it has none."""
        return self.find_keys(keys_of([clean(text) for text in texts]))

    def require(self, texts: Sequence[str]) -> Int64[np.ndarray, " n"]:
        """Return the row number of every text (of images: address).

        Raises:
            MissingRows: with how many have none, and the first of them.
        """
        rows = self.find(texts)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            raise MissingRows(
                f"{len(missing)} of {len(texts)} {self.ITEMS} have no row in the cache "
                f"{self.folder}; the first is {texts[int(missing[0])]!r}. Run `lift embed` on this "
                "set with the same folder: it adds what is missing."
            )
        return rows

    def links(self) -> Iterable[links.LinkTable]:
        """Yield what ties rows to images, file by file; see `lift.cache.links`."""
        for place, manifest in self._parts():
            for shard in manifest.links:
                yield links.read(place, shard)

    def probes(self) -> probes.Probes | None:
        """Return the probes with their rows, None in a cache of an older lift."""
        return probes.read(self.place, self.plan.space)

    def absent(self) -> Iterable[np.ndarray]:
        """Yield keys [n] of images that can't be decoded: they have no row, and never will."""
        for number in range(len(self.shards)):
            yield from self.view(number).absent.values()

    def files(self) -> Iterable[tuple[Place, records.Shard]]:
        """Yield every file that a manifest lists, with the place that holds it."""
        for place, manifest in self._parts():
            yield from ((place, shard) for shard in (*manifest.shards, *manifest.links))

    def damaged(self) -> list[str]:
        """Return the files whose content is not what their checksum says."""
        return [
            shard.file
            for place, shard in self.files()
            if shards.file_hash(place.local(shard.file, shard.bytes)) != shard.sha256
        ]

    def _require_sizes(self) -> None:
        sizes = {id(own): own.sizes() for own in self._places}
        for own, shard in self.files():
            size = sizes[id(own)].get(shard.file)
            if size != shard.bytes:
                found = "is missing" if size is None else f"has {size} bytes"
                raise CacheError(
                    f"{own}/{shard.file} {found}, the manifest says {shard.bytes}: the cache is "
                    "damaged; copy it again, or remove the folder and embed again."
                )

    def _parts(self) -> Iterable[tuple[Place, Manifest]]:
        return zip(self._places, self.manifests, strict=True)


_OF_A_MODEL = {"run.json", MARKER}
"""What lies in the folder of a run, and of a saved model."""


def _other_kind(folder: str | Path, space: Space, wanted: str) -> str:
    """Say what a cache holds instead of what was asked for."""
    if isinstance(space, records.TextSpace):
        holds = f"the rows of captions ({space.encoder} {space.model}), made by `lift embed`"
    else:
        holds = f"image features ({space.name}), made by `lift embed --images`"
    return f"{folder} holds {holds}; {wanted} is needed here."


def _why_not(place: Place, plan: records.Plan | None, missing: Sequence[int]) -> str:
    """Say why a folder that lacks a manifest is no cache."""
    there = place.names()
    if plan is None and not _OF_A_MODEL.isdisjoint(there):
        return f"{place} is a run (a model), not a cache; caches are made with `lift embed`."
    if plan is None and not any(records.is_ours(name) for name in there):
        return f"There is no cache in {place}; make one with `lift embed`."
    parts = plan.parts if plan else 1
    rows = 0
    for number in range(parts):
        own = records.part_place(place, plan, number) if plan else place
        names = [name for name in own.names() if shards.is_shard(name)]
        rows += sum(shards.rows_in(own.local(name)) for name in names)
    if parts == 1:
        what, how = "no manifest", "the same `lift embed` command"
    else:
        names = ", ".join(f"{number + 1}/{parts}" for number in missing)
        what = f"no manifest of part {names}"
        how = f"`lift embed` with --part {missing[0] + 1}/{parts}, and so on for each of them,"
    return (
        f"The cache in {place} is not finished: {rows} rows are there, but {what}; run {how} "
        "again, it goes on from them."
    )
