"""What a scan of a shard found, kept in a folder, so that the next opening needs no scan."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from lift.data.formats._index import PLACES, Chunk, Spool
from lift.data.tally import Tally
from lift.errors import StorageError
from lift.files import whole_file

_VERSION = 1
_LEAST_SAMPLES = 1024
"""Shards of fewer are scanned about as fast as a file is opened."""

_FACTS = b"lift.shard"
_CHECK = b"lift.check"
_COLUMNS = [f"{name}_{kind}" for name in ("image", "text", "json", "extra") for kind in ("at", "n")]
_SCHEMA = pa.schema([*((name, pa.int64()) for name in _COLUMNS), ("key", pa.binary())])


class Mark(NamedTuple):
    """What tells one state of a shard from another.

    Attributes:
        size: bytes.
        tag: the time of its last change in ns, or what a server calls its version; "" unknown.
    """

    size: int
    tag: str


class Scans:
    """Scans of shards as Arrow files, one a shard and way of reading it.

    A file that is damaged, or was made of another state of its shard, is as good as none. A
    folder that can't be written keeps nothing, without an error: all it saves is time. Several
    processes may use a folder at once.
    """

    def __init__(self, folder: str | None) -> None:
        """Choose the folder; None takes `lift/index` in the user's cache folder."""
        self._folder = _usual() if folder is None else Path(folder)

    def holds(self, what: dict[str, Any]) -> bool:
        """Return whether a scan is kept, sound or not."""
        path = self._path(what)
        return path is not None and path.is_file()

    def load(self, what: dict[str, Any], mark: Mark, into: Spool) -> Tally | None:
        """Add the samples of a shard to `into` and return what was left out; None if not kept.

        Args:
            what: the shard, and every option that decides what a sample is.
            mark: the shard's state.
            into: an empty spool; it is empty again where nothing is returned.
        """
        path = self._path(what)
        if path is None or not path.is_file():
            return None
        try:
            tally = _load(path, what, mark, into)
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError):
            tally = None
        if tally is None:
            into.clear()
        return tally

    def keep(
        self, what: dict[str, Any], mark: Mark, spool: Spool, left_out: Tally, costly: bool
    ) -> None:
        """Keep what was found in a shard, unless finding it again costs little."""
        path = self._path(what)
        if path is None or (len(spool) < _LEAST_SAMPLES and not costly):
            return
        facts = _facts(what, mark, left_out, spool)
        check = str(zlib.crc32(facts)).encode()
        schema = _SCHEMA.with_metadata({_FACTS: facts, _CHECK: check})
        try:
            path.unlink(missing_ok=True)  # a stale one; the first of several new ones stays
            with whole_file(path, first=True) as aside, pa.ipc.new_file(aside, schema) as writer:
                for chunk in spool.chunks():
                    writer.write_batch(_batch(chunk))
        except (StorageError, OSError, pa.ArrowException):
            return

    def _path(self, what: dict[str, Any]) -> Path | None:
        if self._folder is None:
            return None
        name = hashlib.blake2b(_json(what), digest_size=20).hexdigest()
        return self._folder / f"{name}.arrow"


def _usual() -> Path | None:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lift" / "index"
    except RuntimeError:  # a user without a home
        return None


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _sums(chunk: Chunk, sums: tuple[int, int, int] = (0, 0, 0)) -> tuple[int, int, int]:
    """Return the running checksums of numbers, lengths and keys, however they are cut."""
    numbers, lengths = (np.ascontiguousarray(part) for part in (chunk.files, chunk.lengths))
    return (
        zlib.crc32(numbers.data, sums[0]),
        zlib.crc32(lengths.data, sums[1]),
        zlib.crc32(chunk.keys, sums[2]),
    )


def _facts(what: dict[str, Any], mark: Mark, left_out: Tally, spool: Spool) -> bytes:
    sums = (0, 0, 0)
    for chunk in spool.chunks():
        sums = _sums(chunk, sums)
    return _json(
        {
            "version": _VERSION,
            "what": what,
            "size": mark.size,
            "tag": mark.tag,
            "samples": len(spool),
            "counts": left_out.counts,
            "first": left_out.first,
            "order": list(left_out.counts),
            "sums": sums,
        }
    )


def _batch(chunk: Chunk) -> pa.RecordBatch:
    count = len(chunk.lengths)
    ends = np.concatenate([[0], np.cumsum(chunk.lengths)]).astype(np.int32)
    numbers = [pa.array(np.ascontiguousarray(chunk.files[:, at])) for at in range(PLACES)]
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(chunk.keys)]
    keys = pa.Array.from_buffers(pa.binary(), count, buffers)
    return pa.RecordBatch.from_arrays([*numbers, keys], schema=_SCHEMA)


def _load(path: Path, what: dict[str, Any], mark: Mark, into: Spool) -> Tally | None:
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        metadata = reader.schema.metadata or {}
        written = metadata.get(_FACTS, b"")
        if metadata.get(_CHECK) != str(zlib.crc32(written)).encode():
            return None
        facts = json.loads(written)
        asked = {"version": _VERSION, "what": what, "size": mark.size, "tag": mark.tag}
        # By way of JSON, where tuples are lists.
        if _json({name: facts[name] for name in asked}) != _json(asked):
            return None
        if not reader.schema.equals(_SCHEMA):
            return None
        sums = (0, 0, 0)
        for number in range(reader.num_record_batches):
            chunk = _chunk(reader.get_batch(number))
            sums = _sums(chunk, sums)
            into.add(chunk)
        if list(sums) != facts["sums"] or len(into) != facts["samples"]:
            return None
    tally = Tally()
    tally.update({why: facts["counts"][why] for why in facts["order"]}, facts["first"])
    return tally


def _chunk(batch: pa.RecordBatch) -> Chunk:
    batch.validate(full=True)
    columns = [batch.column(at).to_numpy(zero_copy_only=True) for at in range(PLACES)]
    _, ends, keys = batch.column(PLACES).buffers()
    offsets = np.frombuffer(ends, np.int32, batch.num_rows + 1)
    whole = b"" if keys is None else keys.slice(0, int(offsets[-1])).to_pybytes()
    return Chunk(np.stack(columns, axis=1), np.diff(offsets).astype(np.int64), whole)
