"""Tar shards: files that share a name are one sample (`KEY.jpg`, `KEY.txt`, `KEY.json`)."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lift.data.formats import _tar
from lift.data.formats._captions import as_fields, captions, lines
from lift.data.formats._paths import expand, key_prefixes, source_name, whereabouts
from lift.data.formats._places import Places
from lift.data.formats._recent import Recent
from lift.errors import ConfigError, DataError
from lift.terms import Caption, Sample

IMAGES = ("jpg", "jpeg", "png", "webp")
_HELD_ENTRIES = 65_536
"""Of the shards kept open: four windows of the loader's order, about 25 MB."""

_LEAST_ENTRIES = 256
"""What a shard counts at least, so that no more than 256 files are open at a time."""

_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of tar shards.

    Attributes:
        path: a shard, a glob, a brace range (`train-{0000..0003}.tar`), or a list of them.
        caption_field: the field(s) of `.json` that hold captions (a string or a list), each with
            its name as the role; None takes `.txt`, every line that is not blank a caption.
        max_member_bytes: samples with a larger file are left out and counted.
    """

    path: str | tuple[str, ...] = ()
    caption_field: str | tuple[str, ...] | None = None
    max_member_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        if self.max_member_bytes < 1:
            raise ConfigError(f"max_member_bytes must be above 0, not {self.max_member_bytes}.")


def build(config: Config) -> Shards:
    """Scan the headers of every shard and return the source.

    Raises:
        DataError: a shard is missing, cut off or not a tar.
    """
    return Shards(config)


class _Entry(NamedTuple):
    """Where one sample lies: (offset, bytes) of each of its files."""

    key: str
    image: tuple[int, int]
    text: tuple[int, int] | None
    record: tuple[int, int] | None


class _Shard:
    """An open shard and where its samples lie."""

    def __init__(self, path: Path, prefix: str, config: Config) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DataError(f"{path} can't be opened ({error.strerror}).") from error
        weakref.finalize(self, os.close, self._fd)
        self.left_out: dict[str, list[str]] = {}
        self.entries: list[_Entry] = []
        seen: set[str] = set()
        for key, files, too_large in self._grouped(config.max_member_bytes):
            if key in seen:
                raise DataError(f"{path} holds the sample {key!r} twice; keys must be unique.")
            seen.add(key)
            entry = self._entry(prefix + key, files, too_large, config)
            if entry is not None:
                self.entries.append(entry)

    def _grouped(self, most: int) -> Iterator[tuple[str, dict[str, tuple[int, int]], bool]]:
        """Yield (key, files by extension, whether one is too large) of neighbouring members."""
        key: str | None = None
        files: dict[str, tuple[int, int]] = {}
        too_large = False
        for member in _tar.members(self._fd, str(self.path)):
            folder, _, file = member.name.rpartition("/")
            stem, dot, extension = file.partition(".")
            if not member.ordinary or not dot or not stem:
                if not member.name.endswith("/"):
                    self._leave_out("not a sample's file", member.name)
                continue
            here = f"{folder}/{stem}" if folder else stem
            if here != key:
                if key is not None:
                    yield key, files, too_large
                key, files, too_large = here, {}, False
            extension = extension.lower()
            if extension in files:
                raise DataError(f"{self.path} holds {member.name!r} twice.")
            files[extension] = (member.offset, member.size)
            too_large = too_large or member.size > most
        if key is not None:
            yield key, files, too_large

    def _entry(
        self, key: str, files: dict[str, tuple[int, int]], too_large: bool, config: Config
    ) -> _Entry | None:
        image = next((files[extension] for extension in IMAGES if extension in files), None)
        text, record = files.get("txt"), files.get("json")
        if too_large:
            self._leave_out("over max_member_bytes", key)
        elif image is None:
            self._leave_out("without image", key)
        elif (text if config.caption_field is None else record) is None:
            self._leave_out("without caption", key)
        else:
            return _Entry(key, image, text, record)
        return None

    def _leave_out(self, reason: str, name: str) -> None:
        self.left_out.setdefault(reason, []).append(name)

    def bytes_at(self, place: tuple[int, int], key: str) -> bytes:
        offset, size = place
        try:
            found = os.pread(self._fd, size, offset)
        except OSError as error:
            raise DataError(f"Sample {key} can't be read ({error.strerror}).") from error
        if len(found) != size:
            raise DataError(f"Sample {key} can't be read: {self.path} became shorter.")
        return found


class Shards:
    """Samples of tar shards, read at their offsets.

    Attributes:
        whereabouts: the folders of the shards.
        counters: what was left out while scanning, by reason; zero where nothing was.
        left_out: the first few names of each reason.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._files = expand(config.path)
        self._prefixes = key_prefixes(self._files)
        self.name = source_name(self._files)
        self.whereabouts = whereabouts(self._files)
        reasons = (
            "without image",
            "without caption",
            "over max_member_bytes",
            "not a sample's file",
        )
        self.counters: dict[str, int] = dict.fromkeys(reasons, 0)
        self.left_out: dict[str, tuple[str, ...]] = dict.fromkeys(reasons, ())
        groups: list[int] = []
        for number in range(len(self._files)):
            shard = self._load(number)
            groups.append(len(shard.entries))
            for reason, names in shard.left_out.items():
                self.counters[reason] += len(names)
                self.left_out[reason] = (*self.left_out[reason], *names)[:_NAMED]
        self.groups = tuple(groups)
        self._places = Places(groups)
        self._shards = self._fresh()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_shards"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._shards = self._fresh()

    def _fresh(self) -> Recent[_Shard]:
        return Recent(
            self._load, _HELD_ENTRIES, lambda shard: max(_LEAST_ENTRIES, len(shard.entries))
        )

    def __len__(self) -> int:
        return self._places.total

    def read(self, index: int) -> Sample:
        """Return sample `index`. Raises DataError naming the sample where it can't be read."""
        number, place = self._places(index)
        shard = self._shard(number)
        entry = shard.entries[place]
        record = self._record(shard, entry)
        return Sample(
            key=entry.key,
            image=shard.bytes_at(entry.image, entry.key),
            captions=self._captions(shard, entry, record),
            fields=as_fields(record, self._caption_fields() or ("captions", "caption")),
        )

    def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        """Yield (key, captions) of every sample in order, without reading image bytes."""
        wants_record = self._config.caption_field is not None
        for number in range(len(self._files)):
            shard = self._shard(number)
            for entry in shard.entries:
                record = self._record(shard, entry) if wants_record else {}
                yield entry.key, self._captions(shard, entry, record)

    def _load(self, number: int) -> _Shard:
        return _Shard(self._files[number], self._prefixes[number], self._config)

    def _shard(self, number: int) -> _Shard:
        shard = self._shards(number)
        if len(shard.entries) != self.groups[number]:
            raise DataError(f"{shard.path} changed while it was being read; start again.")
        return shard

    def _caption_fields(self) -> tuple[str, ...]:
        field = self._config.caption_field
        return () if field is None else (field,) if isinstance(field, str) else field

    def _record(self, shard: _Shard, entry: _Entry) -> dict[str, Any]:
        if entry.record is None:
            return {}
        try:
            record = json.loads(shard.bytes_at(entry.record, entry.key))
        except (ValueError, RecursionError) as error:
            raise DataError(f"Sample {entry.key} has a damaged .json ({error}).") from error
        if not isinstance(record, dict):
            raise DataError(f"Sample {entry.key} has a .json that is no object.")
        return record

    def _captions(
        self, shard: _Shard, entry: _Entry, record: dict[str, Any]
    ) -> tuple[Caption, ...]:
        if self._config.caption_field is None:
            assert entry.text is not None, "entries without captions are left out of the index"
            return tuple(lines(shard.bytes_at(entry.text, entry.key), "caption", entry.key))
        found: list[Caption] = []
        for field in self._caption_fields():
            if field not in record:
                raise DataError(
                    f"Sample {entry.key} has no field {field!r} in its .json; "
                    f"known: {', '.join(sorted(record)) or 'none'}."
                )
            found += captions(record[field], field, entry.key)
        return tuple(found)
