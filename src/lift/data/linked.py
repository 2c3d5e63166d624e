"""Captions that only the cache knows: rewrites from another file, phrases of the captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from lift.data.spilled import Spilled, room_for
from lift.errors import ConfigError, DataError
from lift.terms import Caption, Source
from lift.text.keys import KEY, KeyIndex, keys_of

_RECORD = np.dtype([("number", "<i8"), ("row", "<i8"), ("role", "<i4"), ("weight", "<f4")])
_CHUNK = 4_096
NEVER = "negative"
"""The role of texts that do not describe their image."""


@runtime_checkable
class Links(Protocol):
    """What ties rows to images, as `lift.cache.reader.EmbeddingCache` has it."""

    def links(self) -> Iterable[pa.Table]:
        """Return tables with `image`, `caption` (key of its row), `role` and `weight`."""
        ...

    def find_keys(self, keys: np.ndarray) -> Int64[np.ndarray, " n"]:
        """Return the row number of every key, -1 where it has none."""
        ...


class LinkedRows:
    """For each sample the rows that a cache ties to its key; on disk, 32 bytes a link.

    Attributes:
        counts: links found, by role.
        strangers: links whose image is not among the samples.
        starts: where each sample's records begin, int64 [samples + 1].
        records: of all samples in their order: `number`, `row`, `role` (a place in `roles`) and
            `weight`.
        roles: names of the roles that were met.
    """

    def __init__(self, source: Source, cache: Links, roles: Sequence[str]) -> None:
        """Read all links of a cache.

        Args:
            source: the samples.
            cache: with links.
            roles: to take; empty takes all but negatives.

        Raises:
            DataError: samples share keys.
        """
        self.counts: Counter[str] = Counter()
        self.strangers = 0
        self.roles: list[str] = []
        found = self._found(source, cache, frozenset(roles))
        self.starts, self.records = _by_number(found, len(source))

    def _found(self, source: Source, cache: Links, roles: frozenset[str]) -> Spilled:
        index = KeyIndex.on_disk(_hashed(source))
        if twins := index.repeated():
            raise DataError(
                f"{twins:,} samples of {source.name} have the key of another, so the cache can't "
                "tell whose its rows are: give those sources other names or folders and embed "
                "them again, or take one of them. (Where it is loader.linked that asks for the "
                "cache's rows: leave it out.)"
            )
        found = Spilled(_RECORD)
        codes: dict[str, int] = {}
        for table in cache.links():
            for batch in table.to_batches(max_chunksize=_CHUNK):
                images = batch["image"].to_pylist()
                named = batch["role"].to_pylist()
                taken = np.array(
                    [
                        bool(image) and (role in roles if roles else role != NEVER)
                        for image, role in zip(images, named, strict=True)
                    ],
                    dtype=bool,
                )
                numbers = index.find(keys_of(images))
                self.strangers += int((taken & (numbers < 0)).sum())
                rows = cache.find_keys(_keys(batch["caption"]))
                taken &= (numbers >= 0) & (rows >= 0)
                records = np.empty(int(taken.sum()), _RECORD)
                records["number"], records["row"] = numbers[taken], rows[taken]
                records["weight"] = batch["weight"].to_numpy()[taken]
                own = [role for role, take in zip(named, taken, strict=True) if take]
                records["role"] = [codes.setdefault(role, len(codes)) for role in own]
                self.counts.update(own)
                found.append(records)
        self.roles = list(codes)
        return found


class LinkedCaptions(LinkedRows):
    """For each sample the captions that the cache ties to its key."""

    def __init__(self, source: Source, cache: object, roles: Sequence[str]) -> None:
        """Read all links of a cache; arguments as for `LinkedRows`.

        Raises:
            ConfigError: rows without links.
            DataError: no link of these roles is about these samples, or samples share keys.
        """
        if not isinstance(cache, Links):
            raise ConfigError("loader.linked=true needs a cache that `lift embed` made.")
        super().__init__(source, cache, roles)
        if not self.counts:
            wanted = f" of the roles {', '.join(roles)}" if roles else ""
            if tuple(roles) == (NEVER,):
                raise DataError(
                    f"The cache ties no negative to the keys of {source.name}: embed the captions "
                    "with --derive negative, or leave out loader.negatives."
                )
            raise DataError(
                f"The cache ties no caption{wanted} to the keys of {source.name}: embed captions "
                "with the keys of their images (texts:path=...,key=COLUMN,role=...), or leave out "
                "loader.linked."
            )

    def of(self, number: int) -> tuple[list[Caption], Int64[np.ndarray, " n"]]:
        """Return the captions of a sample, without their texts, and their rows."""
        found = self.records[self.starts[number] : self.starts[number + 1]]
        captions = [
            Caption("", self.roles[role], weight)
            for role, weight in zip(found["role"].tolist(), found["weight"].tolist(), strict=True)
        ]
        return captions, found["row"].astype(np.int64)


def _hashed(source: Source) -> Iterator[np.ndarray]:
    keys = (key for key, _ in source.texts())
    while chunk := list(islice(keys, _CHUNK)):
        yield keys_of(chunk)


def _keys(column: Any) -> np.ndarray:
    """Return fixed-size binary keys as numpy's."""
    return np.array(column.to_pylist(), dtype=KEY)


def _by_number(found: Spilled, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where each sample's records begin, and all records in the order of the samples."""
    records = found.mapped()
    starts = room_for(samples + 1, np.int64)
    for first in range(0, len(records), _CHUNK):
        np.add.at(starts, records["number"][first : first + _CHUNK] + 1, 1)
    np.cumsum(starts, out=starts)
    filled, placed = room_for(samples, np.int64), room_for(len(records), _RECORD)
    for first in range(0, len(records), _CHUNK):
        chunk = records[first : first + _CHUNK]
        chunk = chunk[np.argsort(chunk["number"], kind="stable")]
        numbers = chunk["number"]
        within = np.arange(len(chunk)) - np.searchsorted(numbers, numbers)
        placed[starts[numbers] + filled[numbers] + within] = chunk
        np.add.at(filled, numbers, 1)
    return starts, placed
