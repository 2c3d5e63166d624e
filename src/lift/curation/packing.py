"""Pack pairs into tar shards of small pictures, stopped and gone on with at any moment."""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lift.config import Part, to_dict, to_json
from lift.curation import shards
from lift.curation.advice import counted, size
from lift.curation.layout_words import words_of
from lift.curation.pack_plan import FORMAT, PLAN, settle, survey
from lift.curation.shards import ShardRecord, Work
from lift.data.source import left_out
from lift.data.tally import Tally
from lift.errors import ConfigError, DataError, StorageError
from lift.files import is_ours_or_empty, remove_partial, sole_writer, write_text
from lift.terms import Source

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class PackReport:
    """What lies in a finished folder.

    Attributes:
        folder: where.
        samples, of: samples packed, and samples of the sources.
        shards: files.
        captions: by role.
        having: samples that have a caption of a role.
        kept: pictures that are the source's own bytes.
        bytes_before, bytes_after: of the image files of the packed samples.
        shard_bytes: of the tars.
        changed: what was written otherwise than it came, by reason.
        left_out, examples: items that were not packed, by reason, and the first of each.
        data: the words for `--data`.
    """

    folder: Path
    samples: int
    of: int
    shards: int
    captions: Mapping[str, int]
    having: Mapping[str, int]
    kept: int
    bytes_before: int
    bytes_after: int
    shard_bytes: int
    changed: Mapping[str, int]
    left_out: Mapping[str, int]
    examples: Mapping[str, str]
    data: str

    def table(self) -> str:
        """Return the figures as text."""
        lines = [
            f"{self.samples:,} of {self.of:,} samples in {self.shards:,} shard(s), "
            f"{size(self.shard_bytes)}: {self.folder}",
            f"captions: {counted(self.captions)}",
            f"image files: {size(self.bytes_before)} before, {size(self.bytes_after)} after; "
            f"{self.kept:,} kept as they were",
        ]
        for role, count in self.having.items():
            if count < self.samples:
                lines.append(f"{self.samples - count:,} samples have no caption {role!r}")
        lines += [f"{count:,} {what}" for what, count in self.changed.items()]
        for why, count in self.left_out.items():
            lines.append(f"left out: {count:,} {why} (the first: {self.examples.get(why, '')})")
        return "\n".join(lines)


def pack(
    sources: Sequence[Source],
    out: str | Path,
    *,
    side: int = 256,
    quality: int = 90,
    shard_samples: int = 1000,
    workers: int = 0,
    progress: bool = True,
) -> PackReport:
    """Write shards of small pictures with all captions and fields of some pairs.

    Running it again goes on where it stopped; the bytes are those of a run that was never
    stopped, for any number of workers.

    Args:
        sources: pairs; their samples come one source after another.
        out: the folder.
        side: a picture's shorter side is at most this, in pixels.
        quality: of the JPEGs.
        shard_samples: samples of a shard, those that turn out broken included.
        workers: processes beside this one; 0 does the work here.
        progress: draw progress bars.

    Raises:
        ConfigError: an option that can't be.
        DataError: no sample can be packed, a key comes twice in a source, or a worker died.
        StorageError: the folder holds something else, or other pairs, or the disk refused.
    """
    _require(side, quality, shard_samples, workers)
    folder = Path(out)
    if not is_ours_or_empty(folder, PLAN):
        raise StorageError(f"{folder} holds something else; give an empty or a new folder.")
    packed, roles, numbered = survey(sources, progress)
    work = Work(
        side=side, quality=quality, shard_samples=shard_samples, roles=roles, numbered=numbered
    )
    with sole_writer(folder):
        remove_partial(folder)
        settle(folder, packed, work)
        total = sum(map(len, sources))
        spans = [
            (number, start, min(start + shard_samples, total))
            for number, start in enumerate(range(0, total, shard_samples))
        ]
        missing = [span for span in spans if shards.read_record(folder, span[0]) is None]
        with tqdm(total=total, desc="packed", unit="img", disable=not progress) as bar:
            bar.update(total - sum(end - start for _, start, end in missing))
            for _, start, end in _made(sources, missing, folder, work, workers):
                bar.update(end - start)
        return _finish(folder, sources, len(spans), work)


def _require(side: int, quality: int, shard_samples: int, workers: int) -> None:
    for name, value, low, high in (
        ("side", side, 16, 8192),
        ("quality", quality, 1, 100),
        ("shard_samples", shard_samples, 1, 1_000_000),
        ("workers", workers, 0, 1024),
    ):
        if not low <= value <= high:
            raise ConfigError(f"{name} must be from {low} to {high:,}, not {value}.")


# --- the work -----------------------------------------------------------------------------------

Span = tuple[int, int, int]
"""Number of a shard, its first sample, and the one behind its last."""


def _made(
    sources: Sequence[Source], spans: Sequence[Span], folder: Path, work: Work, workers: int
) -> Iterator[Span]:
    """Write shards, and yield each when it is there."""
    if workers == 0:
        for span in spans:
            shards.write_shard(sources, span[1], span[2], folder, span[0], work)
            yield span
        return
    method = "fork" if sys.platform == "linux" else None  # as the loader does
    pool = ProcessPoolExecutor(
        min(workers, max(1, len(spans))),
        mp_context=multiprocessing.get_context(method),
        initializer=_begin,
        initargs=(sources, folder, work),
    )
    waiting, running = iter(spans), dict[Future, Span]()
    try:
        while True:
            for span in itertools.islice(waiting, 2 * workers - len(running)):
                running[_submitted(pool, span)] = span
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                done.result()
                yield running.pop(done)
    except BrokenProcessPool as error:
        raise DataError(
            "A worker died; often memory ran out. Give fewer --workers and run the same command "
            "again: finished shards stay."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
        remove_partial(folder)  # what a dead worker left


def _submitted(pool: ProcessPoolExecutor, span: Span) -> Future:
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside other threads; the workers use none of theirs.
        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
        return pool.submit(_one, span)


_own: dict[str, Any] = {}
"""In a worker: what every shard needs."""


def _begin(sources: Sequence[Source], folder: Path, work: Work) -> None:
    torch.set_num_threads(1)  # the threads of the forking process are not there
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    _own.update(sources=sources, folder=folder, work=work)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave when the command is gone, however it ended: nobody else would tell."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _one(span: Span) -> None:
    number, start, end = span
    shards.write_shard(_own["sources"], start, end, _own["folder"], number, _own["work"])


# --- the end ------------------------------------------------------------------------------------


def _finish(folder: Path, sources: Sequence[Source], count: int, work: Work) -> PackReport:
    """Add up the records of all shards, and write the manifest last."""
    total, tally, changed, files = ShardRecord(), Tally(), Tally(), []
    captions, having = (dict.fromkeys(work.roles, 0) for _ in range(2))
    for source in sources:
        absent = getattr(source, "absent", None)
        if absent is not None:
            tally.update(absent.counts, absent.first)
        else:
            tally.update(left_out(source), getattr(source, "examples", {}))
    for number in range(count):
        record = shards.read_record(folder, number)
        if record is None:
            raise StorageError(f"Shard {number} of {folder} is gone; run the same command again.")
        total = _sum(total, record)
        tally.update(record.left_out, record.examples)
        changed.update(record.changed, {})
        for sums, found in ((captions, record.captions), (having, record.having)):
            for role, more in found.items():
                sums[role] = sums.get(role, 0) + more
        if record.samples:
            name = shards.shard_path(folder, number).name
            files.append({"file": name, "samples": record.samples, "sha256": record.sha256})
    if not total.samples:
        raise DataError(f"No sample could be packed: {tally.sentence()}.")
    report = PackReport(
        folder=folder,
        samples=total.samples,
        of=sum(map(len, sources)),
        shards=len(files),
        captions=captions,
        having=having,
        kept=total.kept,
        bytes_before=total.bytes_before,
        bytes_after=total.bytes_after,
        shard_bytes=total.shard_bytes,
        changed=changed.counts,
        left_out=tally.counts,
        examples=tally.first,
        data=_data_words(folder, having),
    )
    # Where the folder lies is not in it: it may be moved.
    values = {n: to_dict(v) for n, v in vars(report).items() if n not in ("folder", "data")}
    write_text(folder / MANIFEST, to_json({"format": FORMAT, **values, "files": files}))
    return report


def _sum(total: ShardRecord, record: ShardRecord) -> ShardRecord:
    names = ("samples", "kept", "bytes_before", "bytes_after", "shard_bytes")
    return dataclasses.replace(
        total, **{name: getattr(total, name) + getattr(record, name) for name in names}
    )


def _data_words(folder: Path, having: Mapping[str, int]) -> str:
    """Return what reads the shards back, with every role."""
    roles = list(having)
    options: dict[str, Any] = {
        "path": str(folder / "shard-*.tar"),
        "caption_field": tuple(roles) if len(roles) > 1 else roles[0],
        "key_field": shards.KEY_FIELD,
    }
    return words_of(Part("data/formats", "webdataset", options))
