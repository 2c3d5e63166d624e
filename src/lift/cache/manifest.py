"""The two records of a cache: the plan, written first and obeyed; the manifest, written last."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from lift import plugins
from lift.cache import shard as shards
from lift.cache.codec import Codec
from lift.config import Part, from_dict, to_json
from lift.errors import CacheError, ConfigError
from lift.files import write_text
from lift.text.encoder import TextEncoder, build_encoder
from lift.text.space import TextSpace
from lift.world import Precision

VERSION = 1
"""Of plan, manifest and shards together; a reader refuses what is newer than itself."""

PLAN = "plan.json"
MANIFEST = "manifest.json"
RecordT = TypeVar("RecordT")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was chosen when the cache was created; every later run obeys it.

    Attributes:
        format, version: of the files.
        space, fingerprint: what the rows mean.
        encoder: the part that rebuilds the encoder; a file can't ask for trust in code.
        saw: benchmarks whose captions the encoder was trained on.
        codec: how rows are stored.
        precision: of the products inside the encoder.
        token_budget: padded tokens a batch.
        rows_per_shard: rows of every shard but the last of a run.
        block: captions handed to the encoder at once, counted from a shard's start.
        threads: torch threads.
        device: where the cache was begun.
        versions: of the packages that can move a last bit.
    """

    format: str = "lift.cache.plan"
    version: int = VERSION
    space: TextSpace
    fingerprint: str
    encoder: Part
    saw: tuple[str, ...]
    codec: Part
    precision: Precision
    token_budget: int
    rows_per_shard: int
    block: int
    threads: int
    device: str
    versions: Mapping[str, str] = field(default_factory=dict)

    def schema(self) -> pa.Schema:
        """Return the Arrow schema of every shard."""
        return shards.schema(self.build_codec(), self.space.dimensions, self.fingerprint)

    def build_codec(self) -> Codec:
        """Return the codec."""
        return plugins.build(self.codec)

    def build_encoder(self, device: str = "auto") -> TextEncoder:
        """Return the encoder, its space checked against the plan's; a model's own code is not run.

        Raises:
            ConfigError: the model only runs with its own code, or is not there.
            MissingPackage: its packages or weights are not installed.
            SpaceMismatch: what is installed makes rows of another space.
        """
        encoder = build_encoder(self.encoder, device)
        self.space.require_same(encoder.space, ours="the cache", theirs="the encoder built for it")
        return encoder


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One shard file, as it was when it was finished."""

    file: str
    rows: int
    bytes: int
    sha256: str
    tokens: int
    truncated: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The record without which rows do not exist.

    Attributes:
        format, version: of the files.
        plan: how the rows were made.
        shards: in the order of row numbers.
        counters: rows, tokens, truncated; and of the run that added the last shard: captions
            offered, distinct among them.
        devices: where runs that finished computed.
        versions: sets of package versions that they computed with, in the order of their coming;
            empty in caches from before this was recorded.
    """

    format: str = "lift.cache.manifest"
    version: int = VERSION
    plan: Plan
    shards: tuple[Shard, ...]
    counters: Mapping[str, int]
    devices: tuple[str, ...]
    versions: tuple[Mapping[str, str], ...] = ()

    @property
    def rows(self) -> int:
        """Return the number of rows in all shards."""
        return sum(shard.rows for shard in self.shards)


def is_ours(name: str) -> bool:
    """Return whether a cache may hold a file of this name."""
    fixed = name in (PLAN, MANIFEST, ".lock") or name.startswith(".partial-")
    return fixed or (name.startswith("shard-") and name.endswith(".arrow"))


def write_record(folder: Path, record: Plan | Manifest) -> None:
    """Write the plan or the manifest, whole. Raises StorageError where that fails."""
    name = PLAN if isinstance(record, Plan) else MANIFEST
    write_text(folder / name, to_json(record))


def read_plan(folder: Path) -> Plan | None:
    """Return the plan of a cache, None where there is none yet."""
    plan = _read(Plan, folder / PLAN)
    if plan is not None:
        _check_fingerprint(plan, folder / PLAN)
    return plan


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a cache, None where there is none yet.

    Raises:
        CacheError: damaged, or of a newer format.
    """
    manifest = _read(Manifest, folder / MANIFEST)
    if manifest is not None:
        _check_fingerprint(manifest.plan, folder / MANIFEST)
    return manifest


def _read(kind: type[RecordT], path: Path) -> RecordT | None:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = values.get("version")
        if values.get("format") != _default(kind, "format") or not isinstance(version, int):
            raise ConfigError(f"it does not say that it is a {_default(kind, 'format')}")
        if version > VERSION:
            raise CacheError(
                f"{path} is of format version {version}, and this lift reads up to {VERSION}; "
                "install a newer lift-align."
            )
        return from_dict(kind, values, path.name)
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError, OSError, ConfigError) as error:
        raise CacheError(
            f"{path} is damaged ({' '.join(str(error).split())[:200]}); remove the folder and "
            "embed again."
        ) from error


def _default(kind: Any, name: str) -> Any:
    return next(f.default for f in dataclasses.fields(kind) if f.name == name)


def _check_fingerprint(plan: Plan, path: Path) -> None:
    if plan.fingerprint != plan.space.fingerprint:
        raise CacheError(
            f"{path} was changed after it was written: its space has the fingerprint "
            f"{plan.space.fingerprint}, not the stated {plan.fingerprint}; embed again."
        )
