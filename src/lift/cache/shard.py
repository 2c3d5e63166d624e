"""One shard: an Arrow IPC file of one record batch with keys, rows, token counts and cuts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from lift.cache.codec import Codec
from lift.cache.fidelity import Fidelity
from lift.cache.place import Place
from lift.errors import CacheError, ConfigError
from lift.text.encoder import KEY_BYTES
from lift.text.keys import KEY

FORMAT = "lift.cache.shard/1"
_NAME = re.compile(r"shard-\d{5,}\.arrow")
_MAGIC = b"ARROW1"
_TAG = b"lift"
_FIDELITY = b"lift.fidelity"
_VERSIONS = b"lift.versions"
_ABSENT = b"lift.absent"


@dataclass(frozen=True)
class ShardView:
    """A shard mapped into memory: reading a row touches only its pages.

    Attributes:
        keys: S16 [n], a view of the file.
        stored: the codec's form of the rows [n w], a view of the file.
        tokens: int32 [n], tokens before any cut, a view of the file.
        fidelity: what the codec changed in these rows, None where version 1 wrote them.
        versions: of the packages that computed these rows; None where version 1 wrote them.
        offset: where the stored rows begin in the file, in bytes.
        absent: {why: keys [n] of images that came with these rows and can't be decoded}.
    """

    keys: np.ndarray
    stored: np.ndarray
    tokens: np.ndarray
    cuts: pa.BooleanArray
    fidelity: Fidelity | None
    versions: Mapping[str, str] | None
    offset: int
    absent: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def truncated(self) -> np.ndarray:
        """Return which captions were cut, bool [n]: a copy, since Arrow packs bits."""
        return self.cuts.to_numpy(zero_copy_only=False)


_DAMAGE = (
    *(pa.ArrowException, OSError, ValueError, IndexError, KeyError),
    *(TypeError, AttributeError, OverflowError, MemoryError, ConfigError),
)
"""What reading a shard with changed bytes was seen to raise, and its neighbours: Arrow checks
lengths and text of a file only as far as it needs them."""


def rows_in(path: Path) -> int:
    """Return the rows of a shard file by itself, 0 where it can't be read."""
    try:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            return sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))
    except _DAMAGE:
        return 0


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def name_of(number: int) -> str:
    """Return the file name of shard `number`."""
    return f"shard-{number:05d}.arrow"


def is_shard(name: str) -> bool:
    """Return whether a file of this name holds rows."""
    return _NAME.fullmatch(name) is not None


def schema(codec: Codec, fingerprint: str) -> pa.Schema:
    """Return the schema of every shard of a cache; its metadata names space and codec."""
    tag = json.dumps({"format": FORMAT, "fingerprint": fingerprint, "codec": codec.name})
    return pa.schema(
        [
            pa.field("key", pa.binary(KEY_BYTES), nullable=False),
            pa.field("row", codec.type, nullable=False),
            pa.field("tokens", pa.int32(), nullable=False),
            pa.field("truncated", pa.bool_(), nullable=False),
        ],
        metadata={_TAG: tag.encode("ascii")},
    )


def write_shard(
    place: Place,
    name: str,
    shape: pa.Schema,
    columns: Mapping[str, pa.Array],
    fidelity: Fidelity,
    versions: Mapping[str, str],
    absent: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write one shard whole; equal columns give equal bytes.

    Args:
        place, name: where.
        shape: of every shard of its cache, see `schema`.
        columns: the values.
        fidelity, versions: see `ShardView`.
        absent: {why: keys of what came with these rows and has none, 32 hex digits each}.

    Raises:
        StorageError: the disk is full or the folder can't be written.
    """
    arrays = [columns[column] for column in shape.names]
    batch = pa.RecordBatch.from_arrays(arrays, schema=shape)
    told = {
        _FIDELITY: json.dumps(fidelity.as_dict()).encode("ascii"),
        _VERSIONS: json.dumps(dict(versions)).encode("ascii"),
    }
    if absent:
        told[_ABSENT] = json.dumps({why: list(keys) for why, keys in absent.items()}).encode()

    def fill(path: Path) -> None:
        # A Python file: its OSError keeps the number that tells a full disk from others.
        with path.open("wb") as file, pa.ipc.new_file(file, shape) as writer:
            writer.write_batch(batch, custom_metadata=told)

    place.write(name, fill)


def open_shard(path: Path, shape: pa.Schema, codec: Codec, rows: int | None = None) -> ShardView:
    """Return the shard in `path`, mapped.

    Args:
        path: the file.
        shape: of every shard of its cache, see `schema`.
        codec: of its cache.
        rows: how many it has by the manifest; None where no manifest lists it yet.

    Raises:
        CacheError: not a whole shard of this cache, or one with another number of rows.
    """
    try:
        # The views keep the map alive; closing it here would pull memory from under them.
        mapped = pa.memory_map(str(path))
        start = mapped.read_buffer(len(_MAGIC)).address
        reader = pa.ipc.open_file(mapped)
        if not reader.schema.equals(shape, check_metadata=True) or reader.num_record_batches != 1:
            raise CacheError(
                f"{path} is not a shard of this cache (its schema says "
                f"{_describe(reader.schema)}); remove it and embed again."
            )
        batch, told = reader.get_batch_with_custom_metadata(0)
        batch.validate()  # lengths of the buffers: numpy would read beyond the file otherwise
        if any(column.null_count for column in batch.columns):
            raise ValueError("values are missing in it")
        if rows not in (None, len(batch)):
            raise ValueError(f"it has {len(batch)} rows, the manifest says {rows}")
        key, row, tokens, truncated = (batch.column(name) for name in shape.names)
        stored = codec.stored(row)
        view = ShardView(
            keys=np.frombuffer(key.buffers()[1], KEY, count=len(batch)),
            stored=stored,
            tokens=tokens.to_numpy(zero_copy_only=True),
            cuts=truncated,
            fidelity=_fidelity(told),
            versions=_versions(told),
            offset=stored.__array_interface__["data"][0] - start,
            absent=_absent(told),
        )
        if len(view.stored) != len(batch):
            raise ValueError(f"it has {len(view.stored)} vectors for {len(batch)} rows")
    except _DAMAGE as error:
        raise CacheError(
            f"{path} can't be read as a shard ({' '.join(str(error).split())[:200]}); copy the "
            "cache again, or remove the folder and embed again."
        ) from error
    return view


def _fidelity(told: pa.KeyValueMetadata | None) -> Fidelity | None:
    stated = (told or {}).get(_FIDELITY)
    return None if stated is None else Fidelity.from_dict(json.loads(stated))


def _versions(told: pa.KeyValueMetadata | None) -> dict[str, str] | None:
    stated = (told or {}).get(_VERSIONS)
    return None if stated is None else {str(k): str(v) for k, v in json.loads(stated).items()}


def _absent(told: pa.KeyValueMetadata | None) -> dict[str, np.ndarray]:
    stated = json.loads((told or {}).get(_ABSENT, b"{}"))
    return {
        str(why): np.frombuffer(bytes.fromhex("".join(keys)), KEY) for why, keys in stated.items()
    }


def _describe(found: pa.Schema) -> str:
    tag = (found.metadata or {}).get(_TAG, b"nothing of lift")
    return f"{tag.decode('utf-8', 'replace')}; columns {', '.join(found.names)}"
