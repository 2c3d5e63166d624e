"""Write one tar shard of small pictures: the same samples give the same bytes on any machine."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lift.config import from_dict, to_json
from lift.curation.image_files import kind_of, smaller
from lift.data import kinds
from lift.data.tally import Tally
from lift.errors import BrokenSample, ConfigError, DataError
from lift.files import whole_file, write_text
from lift.terms import Sample, Source

KEY_FIELD = "key"
RAW = "raw"
_WEIGHTS = "weights"
_OWN = (KEY_FIELD, _WEIGHTS)
"""Names in a sample's JSON that are neither a role nor a field."""

_SAFE = re.compile(r"[A-Za-z0-9_-]{1,80}")
_LONGEST = 80
"""With its extension a name then fits the oldest tar header (100 bytes)."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is the same for every shard.

    Attributes:
        side, quality: of the pictures; see `smaller`.
        shard_samples: samples of a shard, those that turn out broken included.
        roles: of all captions.
        numbered: keys get the number of their source in front, because they repeat between them.
    """

    side: int
    quality: int
    shard_samples: int
    roles: tuple[str, ...]
    numbered: bool


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """What lies in a finished shard; its file beside the shard says that it is finished.

    Attributes:
        samples: in the shard; 0 of a shard without file, whose samples were all broken.
        captions: by role.
        having: samples that have a caption of a role.
        kept: pictures that are the source's own bytes.
        bytes_before, bytes_after: of the image files.
        shard_bytes, sha256: of the tar.
        changed: what was written otherwise than it came, by reason.
        left_out, examples: samples that are not in it, by reason, and the first of each.
    """

    samples: int = 0
    captions: Mapping[str, int] = field(default_factory=dict)
    having: Mapping[str, int] = field(default_factory=dict)
    kept: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    shard_bytes: int = 0
    sha256: str = ""
    changed: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)


def shard_path(folder: Path, number: int) -> Path:
    """Return where a shard lies."""
    return folder / f"shard-{number:05d}.tar"


def record_path(folder: Path, number: int) -> Path:
    """Return where a shard's record lies."""
    return shard_path(folder, number).with_suffix(".json")


def read_record(folder: Path, number: int) -> ShardRecord | None:
    """Return the record of a finished shard, None where it has to be made."""
    try:
        values = json.loads(record_path(folder, number).read_text(encoding="utf-8"))
        record = from_dict(ShardRecord, values)
        size = shard_path(folder, number).stat().st_size if record.samples else 0
    except (OSError, ValueError, ConfigError, TypeError):
        return None
    return record if size == record.shard_bytes else None


def write_shard(
    sources: Sequence[Source], start: int, end: int, folder: Path, number: int, work: Work
) -> ShardRecord:
    """Write samples `start` to `end` (of all sources, one after another) as one shard.

    Raises:
        DataError: a source can't be read any more; a BrokenSample where its layout is strict.
        StorageError: the disk refused; nothing half-written stays.
    """
    path, packer = shard_path(folder, number), _Packer(work)
    # `first`: a worker that outlived a killed run may be writing the same bytes.
    path.unlink(missing_ok=True)
    with whole_file(path, first=True) as aside:
        with tarfile.open(aside, "w", format=tarfile.USTAR_FORMAT) as archive:
            for place in range(start, end):
                packer.add(archive, *_at(sources, place))
        with open(aside, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = aside.stat().st_size
    if not packer.samples:
        path.unlink(missing_ok=True)  # a reader refuses a shard without samples
        size, sha256 = 0, ""
    record = packer.record(size, sha256)
    write_text(record_path(folder, number), to_json(record))
    return record


def _at(sources: Sequence[Source], place: int) -> tuple[Source, int, int]:
    """Return the source in which a place lies, its number, and the sample's own number."""
    for which, source in enumerate(sources):
        if place < len(source):
            return source, which, place
        place -= len(source)
    raise IndexError(place)


class _Packer:
    """Puts samples into an archive and counts."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.samples = self._kept = self._before = self._after = 0
        self._captions = dict.fromkeys(work.roles, 0)
        self._having = dict.fromkeys(work.roles, 0)
        self._changed: dict[str, int] = {}
        self._left_out = Tally()

    def add(self, archive: tarfile.TarFile, source: Source, which: int, number: int) -> None:
        key = ""
        try:
            sample = source.read(number)
            key = sample.key
            if not sample.captions:
                raise BrokenSample(kinds.IMAGE_WITHOUT_CAPTION, f"Sample {key} has no caption.")
            image, kept = smaller(sample.image, self._work.side, self._work.quality)
        except BrokenSample as error:
            if getattr(getattr(source, "bounds", None), "strict", False):
                raise
            sentence = str(error) if not key or key in str(error) else f"Sample {key}: {error}"
            self._left_out.add(kind_of(error), sentence)
            return
        key = f"{which}/{key}" if self._work.numbered else key
        name, how = member_name(key)
        self._count(how)
        self._count("foils that are not packed", len(sample.foils))
        record, text = self._texts(sample, key)
        for kind, content in (("jpg", image), ("json", record), ("txt", text)):
            if content:
                _put(archive, f"{name}.{kind}", content)
        self.samples += 1
        self._kept += kept
        self._before += len(sample.image)
        self._after += len(image)

    def _texts(self, sample: Sample, key: str) -> tuple[bytes, bytes]:
        """Return the sample's `.json`, and its `.txt` with one raw caption a line."""
        record: dict[str, Any] = {KEY_FIELD: key}
        weights: dict[str, list[float]] = {}
        for caption in sample.captions:
            record.setdefault(caption.role, []).append(caption.text)
            weights.setdefault(caption.role, []).append(caption.weight)
            self._captions[caption.role] = self._captions.get(caption.role, 0) + 1
        for role in weights:
            self._having[role] = self._having.get(role, 0) + 1
        if any(weight != 1.0 for found in weights.values() for weight in found):
            record[_WEIGHTS] = weights
        raw = [" ".join(text.splitlines()) for text in record.get(RAW, ())]
        broken = sum(a != b for a, b in zip(raw, record.get(RAW, ()), strict=True))
        self._count("captions whose line breaks are spaces in .txt", broken)
        for name, value in sample.fields.items():
            while name in self._work.roles or name in _OWN or name in record:
                name = f"{name}_"
            record[name] = value
        return _json(record), "".join(f"{line}\n" for line in raw).encode("utf-8", "replace")

    def _count(self, what: str, count: int = 1) -> None:
        if what and count:
            self._changed[what] = self._changed.get(what, 0) + count

    def record(self, size: int, sha256: str) -> ShardRecord:
        return ShardRecord(
            samples=self.samples,
            captions=self._captions,
            having=self._having,
            kept=self._kept,
            bytes_before=self._before,
            bytes_after=self._after,
            shard_bytes=size,
            sha256=sha256,
            changed=self._changed,
            left_out=self._left_out.counts,
            examples=self._left_out.first,
        )


def member_name(key: str) -> tuple[str, str]:
    """Return a file name for a key that no reader takes apart, and what was done to it.

    Letters, digits, `_` and `-` stay. Other bytes are written as in URLs (`a/b.c` becomes
    `a%2Fb%2Ec`), which can be undone; where that is longer than 80, a hash stands for the key.
    The key itself is in the sample's JSON.
    """
    if _SAFE.fullmatch(key):
        return key, ""
    content = key.encode("utf-8", "surrogatepass")
    name = quote(content, safe="").replace(".", "%2E").replace("~", "%7E")
    if 0 < len(name) <= _LONGEST:
        return name, "keys written as in URLs for file names"
    return "~" + hashlib.blake2b(content, digest_size=16).hexdigest(), "keys hashed for file names"


def _json(record: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:  # half of a pair, in a key or field
        return json.dumps(record).encode("ascii")


def _put(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    # Owner, time and mode are TarInfo's own constants: nothing of this machine is stored.
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def require_usable(roles: Sequence[str]) -> None:
    """Raise DataError for a role whose name has another meaning in a sample's JSON."""
    for role in roles:
        if role in _OWN or not role:
            raise DataError(
                f"Captions have the role {role!r}, which is the name of something else in packed "
                "samples; give them another role (COLUMN:ROLE)."
            )
