"""The two records of a cache: the plan, written first and obeyed; the manifest, written last."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pyarrow as pa

from lift import plugins
from lift.cache import shard as shards
from lift.cache.codec import Codec
from lift.cache.fidelity import Fidelity
from lift.cache.place import Place
from lift.config import Part, from_dict, to_json
from lift.errors import CacheError, ConfigError
from lift.files import is_leftover
from lift.image_space import ImageSpace
from lift.text.encoder import TextEncoder, build_encoder
from lift.text.space import TextSpace
from lift.world import Precision

VERSION = 2
"""Of plan, manifest and shards together; a reader refuses what is newer than itself.

1: one part. 2: several parts, probe sentences, links, the codec's measured error, a checksum.
"""

PLAN = "plan.json"
MANIFEST = "manifest.json"
PROBES = "probes.arrow"
RecordT = TypeVar("RecordT")

Space: TypeAlias = TextSpace | ImageSpace
"""What rows mean: those of captions, or those of images."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was chosen when the cache was created; every later run obeys it.

    Attributes:
        format, version: of the files.
        space, fingerprint: what the rows mean.
        encoder: the part that rebuilds the encoder; a file can't ask for trust in code. Of image
            features `lift.cache.features.features_part`.
        saw: benchmarks whose captions the encoder was trained on.
        codec: how rows are stored.
        precision: of the products inside the encoder.
        token_budget: padded tokens a batch.
        rows_per_shard: rows of every shard but the last of a run.
        block: captions handed to the encoder at once, counted from a shard's start.
        parts: into how many the captions are divided, by the hash of their text.
        threads: torch threads.
        device: where the cache was begun.
        versions: of the packages that can move a last bit.
    """

    format: str = "lift.cache.plan"
    version: int = VERSION
    space: Space
    fingerprint: str
    encoder: Part
    saw: tuple[str, ...]
    codec: Part = field(metadata={"room": "cache/codecs"})
    precision: Precision
    token_budget: int
    rows_per_shard: int
    block: int
    threads: int
    device: str
    parts: int = 1
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse numbers that no run would have chosen."""
        for name in ("parts", "token_budget", "rows_per_shard", "block", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, and has to be positive")

    def schema(self) -> pa.Schema:
        """Return the Arrow schema of every shard."""
        return shards.schema(self.build_codec(), self.fingerprint)

    def build_codec(self) -> Codec:
        """Return the codec."""
        return plugins.build(self.codec, self.space.dimensions)

    def build_encoder(self, device: str = "auto") -> TextEncoder:
        """Return the encoder, its space checked against the plan's; a model's own code is not run.

        Raises:
            ConfigError: the model only runs with its own code, or is not there; or the rows are
                not of captions.
            MissingPackage: its packages or weights are not installed.
            SpaceMismatch: what is installed makes rows of another space.
        """
        if not isinstance(self.space, TextSpace):
            raise ConfigError(
                f"These are image features of the tower {self.space.name}: no text encoder makes "
                "them; open the tower with lift.features.tower_of."
            )
        encoder = build_encoder(self.encoder, device)
        self.space.require_same(encoder.space, ours="the cache", theirs="the encoder built for it")
        return encoder


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of rows or links, as it was when it was finished."""

    file: str
    rows: int
    bytes: int
    sha256: str
    tokens: int = 0
    truncated: int = 0


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The record without which rows do not exist.

    Attributes:
        format, version: of the files.
        plan: how the rows were made.
        part: which one this is, counted from 0.
        shards: in the order of row numbers.
        links: files that tie texts to images; see `lift.cache.links`.
        counters: rows, tokens, truncated, links; and of the run that added the last file: captions
            offered, distinct among them, negatives left out.
        fidelity: what the codec changed, measured over these rows; see `lift.cache.fidelity`.
        devices: where runs that finished computed.
        versions: sets of package versions that they computed with, in the order of their coming;
            empty in caches from before this was recorded.
        checksum: SHA-256 of all the rest; "" in version 1.
    """

    format: str = "lift.cache.manifest"
    version: int = VERSION
    plan: Plan
    part: int = 0
    shards: tuple[Shard, ...]
    links: tuple[Shard, ...] = ()
    counters: Mapping[str, int]
    fidelity: Fidelity | None = None
    devices: tuple[str, ...]
    versions: tuple[Mapping[str, str], ...] = ()
    checksum: str = ""

    @property
    def rows(self) -> int:
        """Return the number of rows in all shards."""
        return sum(shard.rows for shard in self.shards)


def part_name(number: int, parts: int) -> str:
    """Return the folder of part `number`, which users count from 1."""
    return f"part-{number + 1}-of-{parts}"


def part_place(place: Place, plan: Plan, number: int) -> Place:
    """Return where part `number` lies: a cache of one part lies in its own folder."""
    return place if plan.parts == 1 else place.sub(part_name(number, plan.parts))


def is_ours(name: str) -> bool:
    """Return whether a cache may hold a file or folder of this name."""
    fixed = name in (PLAN, MANIFEST, PROBES) or is_leftover(name)
    return fixed or _OURS.fullmatch(name) is not None


_OURS = re.compile(r"(shard|links)-\d{5,}\.arrow|part-\d+-of-\d+|\..*")
"""Names with a dot in front are of systems and tools (.DS_Store, .nfs...): no business of ours."""


def write_plan(place: Place, plan: Plan) -> None:
    """Write the plan, unless another part was first. Raises StorageError where that fails."""
    text = to_json(plan)
    place.write(PLAN, lambda path: _write(path, text), new=True)


def write_manifest(place: Place, manifest: Manifest) -> None:
    """Write the manifest of a part, whole. Raises StorageError where that fails."""
    text = to_json(dataclasses.replace(manifest, checksum=_checksum(manifest)))
    place.write(MANIFEST, lambda path: _write(path, text))


def read_plan(place: Place) -> Plan | None:
    """Return the plan of a cache, None where there is none yet."""
    plan = _read(Plan, place, PLAN)
    if plan is not None:
        _check_fingerprint(plan, f"{place}/{PLAN}")
    return plan


def read_manifest(place: Place) -> Manifest | None:
    """Return the manifest of one part, None where there is none yet.

    Raises:
        CacheError: damaged, changed by hand, or of a newer format.
    """
    manifest = _read(Manifest, place, MANIFEST)
    if manifest is not None:
        _check_fingerprint(manifest.plan, f"{place}/{MANIFEST}")
        for number, (shard, link) in enumerate(zip_longest(manifest.shards, manifest.links)):
            expected = (f"shard-{number:05d}.arrow", f"links-{number:05d}.arrow")
            for found, name in zip((shard, link), expected, strict=True):
                if found is not None and found.file != name:
                    # A file of another name could be anybody's, and lie anywhere.
                    raise CacheError(
                        f"{place}/{MANIFEST} lists {found.file!r} where {name} belongs; get the "
                        "cache again from somebody you trust."
                    )
        if manifest.version > 1 and manifest.checksum != _checksum(manifest):
            raise CacheError(
                f"{place}/{MANIFEST} was changed after it was written: its content does not have "
                "the checksum that it states; copy it again, or remove it and run `lift embed` "
                "again, which keeps the rows."
            )
    return manifest


def read_manifests(place: Place, plan: Plan | None) -> dict[int, Manifest | None]:
    """Return {number: manifest, None where it is not finished} of every part.

    Raises:
        CacheError: a manifest is damaged, or the parts do not belong together.
    """
    if plan is None or plan.parts == 1:
        only = read_manifest(place)
        if plan is not None and only is not None and only.plan != plan:
            raise CacheError(
                f"{place}/{PLAN} was changed after it was written: it is not the plan that "
                f"{MANIFEST} holds; copy it again."
            )
        return {0: only}
    expected = {part_name(number, plan.parts) for number in range(plan.parts)}
    others = sorted(n for n in place.names() if n.startswith("part-") and n not in expected)
    if strays := [name for name in others if place.sub(name).read(MANIFEST) is not None]:
        raise CacheError(
            f"{place} holds {strays[0]}, but its plan says {plan.parts} parts; remove what does "
            "not belong there."
        )
    found: dict[int, Manifest | None] = {}
    for number in range(plan.parts):
        own = part_place(place, plan, number)
        manifest = found[number] = read_manifest(own)
        if manifest is not None and (manifest.plan != plan or manifest.part != number):
            raise CacheError(
                f"{own}/{MANIFEST} belongs to another cache: it was made by another plan than "
                f"{place}/{PLAN}; remove that part and embed it again."
            )
    return found


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _checksum(manifest: Manifest) -> str:
    text = to_json(dataclasses.replace(manifest, checksum=""))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _read(kind: type[RecordT], place: Place, name: str) -> RecordT | None:
    path = f"{place}/{name}"
    content = place.read(name)
    if content is None:
        return None
    try:
        values: dict[str, Any] = json.loads(content.decode("utf-8"))
        version = values.get("version")
        if values.get("format") != _default(kind, "format") or not isinstance(version, int):
            raise ConfigError(f"it does not say that it is a {_default(kind, 'format')}")
        if version > VERSION:
            raise CacheError(
                f"{path} is of format version {version}, and this lift reads up to {VERSION}; "
                "install a newer lift-align."
            )
        return from_dict(kind, _with_space(values, name), name)
    except (ValueError, AttributeError, RecursionError, ConfigError) as error:
        raise CacheError(
            f"{path} is damaged ({' '.join(str(error).split())[:200]}); remove the folder and "
            "embed again."
        ) from error


def _with_space(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the values of a plan or manifest with the space that it names, of either kind."""
    if isinstance(plan := values.get("plan"), dict):
        return {**values, "plan": _with_space(plan, f"{where}.plan")}
    space = values.get("space")
    if not isinstance(space, dict):
        return values
    kind = ImageSpace if "tower" in space else TextSpace
    return {**values, "space": from_dict(kind, space, f"{where}.space")}


def _default(kind: Any, name: str) -> Any:
    return next(f.default for f in dataclasses.fields(kind) if f.name == name)


def _check_fingerprint(plan: Plan, path: str) -> None:
    if plan.fingerprint != plan.space.fingerprint:
        raise CacheError(
            f"{path} was changed after it was written: its space has the fingerprint "
            f"{plan.space.fingerprint}, not the stated {plan.fingerprint}; embed again."
        )
