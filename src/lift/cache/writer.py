"""Embed captions into a folder: each distinct one once, shard by shard, resumable anywhere."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from lift import plugins
from lift.cache import manifest as records
from lift.cache import shard as shards
from lift.cache.manifest import Manifest, Plan, Shard
from lift.cache.planning import new_plan, require_plan, version_note, versions
from lift.config import Part
from lift.errors import CacheError, ConfigError, DataError, NotFinite, StorageError
from lift.files import remove_partial, sole_writer
from lift.text.encoder import TextEncoder, clean
from lift.text.keys import KeySet, keys_of
from lift.world import Precision, threads

_CHUNK = 4_096
_PROBED = 64


@dataclass(frozen=True, kw_only=True)
class EmbedReport:
    """What one run of `embed` did.

    Attributes:
        folder: the cache.
        captions: captions offered, repeats included.
        distinct: distinct ones among them (after cleaning).
        stored: distinct ones that had a row before this run.
        embedded: rows that this run made.
        truncated: rows of this run whose caption was longer than the encoder's cap.
        rows: rows in the cache now.
        precision, threads, device: what the encoder computed with.
        seconds: wall time of the whole run.
        captions_per_second: rows made in a second of this run.
        left_out: items of the data that are no samples, by reason.
        notes: sentences about this run that are no error, such as new versions of packages.
    """

    folder: str
    captions: int
    distinct: int
    stored: int
    embedded: int
    truncated: int
    rows: int
    precision: Precision
    threads: int
    device: str
    seconds: float
    captions_per_second: float
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def table(self) -> str:
        """Return the counters as lines of text."""
        lines = [
            ("captions", f"{self.captions:,}"),
            ("distinct", f"{self.distinct:,}"),
            ("already stored", f"{self.stored:,}"),
            ("embedded now", f"{self.embedded:,}"),
            ("truncated", f"{self.truncated:,}"),
            ("rows in cache", f"{self.rows:,}"),
            ("computed in", f"{self.precision} on {self.device}, {self.threads} thread(s)"),
            ("time", f"{self.seconds:.1f} s ({self.captions_per_second:,.0f} captions/s)"),
        ]
        lines += [(f"left out: {why}", f"{count:,}") for why, count in self.left_out.items()]
        lines += [("note", note) for note in self.notes]
        wide = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:<{wide}}  {value}" for name, value in lines)


def embed(
    captions: Iterable[str],
    encoder: TextEncoder,
    folder: str | Path,
    *,
    codec: str | Part = "float16",
    precision: Precision | Literal["auto"] = "float32",
    rows_per_shard: int | None = None,
    token_budget: int | None = None,
    progress: bool = True,
) -> EmbedReport:
    """Store a row for every distinct caption; the same command again goes on where it stopped.

    The first run writes a plan (precision, batching, threads) that later runs obey, so a cache
    that was killed and resumed is bit-equal to one that was not. Captions that a finished cache
    lacks are appended as new shards. Memory holds one shard and two keys of 16 bytes a caption.

    Args:
        captions: any number of texts; read once, in order.
        encoder: makes the rows.
        folder: of the cache; created where it is missing.
        codec: the file in `cache/codecs`.
        precision: inside the encoder; "auto" times both when the cache is created.
        rows_per_shard: None takes 16,384, or what the cache was created with.
        token_budget: padded tokens a batch; None takes the device's default, or the cache's.
        progress: show a bar with captions/s and time left, where stderr is a terminal.

    Raises:
        ConfigError: no such codec, or a number that is not positive.
        DataError: no captions, an empty one, or one that is not text; the message says which.
        SpaceMismatch: the folder holds rows of another space.
        CacheError: the folder holds something else, other choices, or damaged files.
        StorageError: the disk is full, or another process writes into the folder; what was
            written before stays whole.
        NotFinite: the encoder returned NaN or infinity.
    """
    start = time.perf_counter()
    folder = Path(folder)
    total = len(captions) if isinstance(captions, Sized) else None
    texts = _cleaned(captions)
    first = list(itertools.islice(texts, _PROBED))
    if not first:
        raise DataError("There are no captions to embed: the set is empty.")
    for name, value in (("rows_per_shard", rows_per_shard), ("token_budget", token_budget)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be positive, not {value}.")
    part = codec if isinstance(codec, Part) else Part("cache/codecs", codec)
    wanted = {
        "codec": plugins.resolve(part),
        "precision": None if precision == "auto" else precision,
        "rows_per_shard": rows_per_shard,
        "token_budget": token_budget,
    }
    _prepare(folder)
    with sole_writer(folder):
        remove_partial(folder)
        plan = records.read_plan(folder)
        if plan is None:
            plan = new_plan(folder, encoder, wanted, first)
        require_plan(plan, encoder, wanted, folder)
        bar = tqdm(
            total=total,
            unit=" captions",
            dynamic_ncols=True,
            disable=None if progress else True,
            desc="embed",
        )
        with threads(plan.threads), bar:
            run = _Run(folder, plan, encoder, bar)
            run.take(itertools.chain(first, texts))
            return run.finish(start)


class _Run:
    """One run over one folder; the caller holds its lock."""

    def __init__(self, folder: Path, plan: Plan, encoder: TextEncoder, bar: tqdm) -> None:
        self.folder, self.plan, self.encoder, self.bar = folder, plan, encoder, bar
        self.codec = plan.build_codec()
        self.schema = plan.schema()
        self.stored = KeySet()
        self.before = records.read_manifest(folder)
        self.shards = self._read_shards()
        self.seen = KeySet()
        self.pending: list[str] = []
        self.captions = self.found = self.embedded = self.truncated = 0

    def _read_shards(self) -> list[Shard]:
        """Return the shards that are there, listed in the manifest or not, and learn their keys."""
        listed = self.before.shards if self.before else ()
        count = sum(1 for _ in self.folder.glob("shard-*.arrow"))
        found: list[Shard] = []
        for number in range(max(count, len(listed))):
            path = self.folder / shards.name_of(number)
            size = path.stat().st_size if path.is_file() else None
            if size is None or (number < len(listed) and size != listed[number].bytes):
                raise CacheError(
                    f"{path} is missing or does not have its size any more; remove the folder "
                    "and embed again."
                )
            rows = listed[number].rows if number < len(listed) else None
            view = shards.open_shard(path, self.schema, self.codec, rows)
            self.stored.add(view.keys)
            found.append(listed[number] if number < len(listed) else _shard_record(path, view))
        return found

    def take(self, texts: Iterator[str]) -> None:
        """Embed every caption that is neither stored nor repeated."""
        while chunk := list(itertools.islice(texts, _CHUNK)):
            keys = keys_of(chunk)
            new = self.seen.add(keys)
            stored = self.stored.contains(keys) & new
            fresh = new & ~stored
            self.captions += len(chunk)
            self.found += int(stored.sum())
            self.pending += [chunk[i] for i in np.flatnonzero(fresh)]
            self.bar.update(len(chunk) - int(fresh.sum()))
            while len(self.pending) >= self.plan.rows_per_shard:
                self._write(self.pending[: self.plan.rows_per_shard])
                del self.pending[: self.plan.rows_per_shard]
        if self.pending:
            self._write(self.pending)
            self.pending = []

    def _write(self, texts: list[str]) -> None:
        """Embed and store one shard; its bytes depend on its captions and the plan alone."""
        rows, tokens, cuts = [], [], []
        for start in range(0, len(texts), self.plan.block):
            block = texts[start : start + self.plan.block]
            encoded = self.encoder.encode(
                block, precision=self.plan.precision, token_budget=self.plan.token_budget
            )
            finite = np.isfinite(encoded.rows).all(axis=1)
            if not finite.all():
                raise NotFinite(
                    f"The encoder returned NaN or infinity for {int((~finite).sum())} caption(s), "
                    f"first for {block[int(np.argmin(finite))]!r}; check its weights or use "
                    "precision float32."
                )
            rows.append(self.codec.encode(encoded.rows))
            tokens.append(encoded.tokens)
            cuts.append(encoded.truncated)
            self.bar.update(len(block))
        columns = {
            "key": pa.array(keys_of(texts).view("V16").tolist(), self.schema.field("key").type),
            "row": pa.concat_arrays(rows),
            "tokens": pa.array(np.concatenate(tokens)),
            "truncated": pa.array(np.concatenate(cuts)),
        }
        path = self.folder / shards.name_of(len(self.shards))
        shards.write_shard(path, self.schema, columns)
        record = _shard_record(path, shards.open_shard(path, self.schema, self.codec))
        self.shards.append(record)
        self.embedded += record.rows
        self.truncated += record.truncated

    def finish(self, start: float) -> EmbedReport:
        """Write the manifest, if there is anything new to say, and return the report."""
        rows = sum(shard.rows for shard in self.shards)
        known = (self.before.versions if self.before else ()) or (self.plan.versions,)
        now = versions()
        note = version_note(known, now) if self.embedded else ""
        if self.before is None or len(self.before.shards) != len(self.shards):
            earlier = self.before.devices if self.before else (self.plan.device,)
            records.write_record(
                self.folder,
                Manifest(
                    plan=self.plan,
                    shards=tuple(self.shards),
                    counters={
                        "rows": rows,
                        "tokens": sum(shard.tokens for shard in self.shards),
                        "truncated": sum(shard.truncated for shard in self.shards),
                        "captions": self.captions,
                        "distinct": len(self.seen),
                    },
                    devices=tuple(sorted({*earlier, self.encoder.device})),
                    versions=(*known, now) if note else tuple(known),
                ),
            )
        seconds = time.perf_counter() - start
        return EmbedReport(
            folder=str(self.folder),
            captions=self.captions,
            distinct=len(self.seen),
            stored=self.found,
            embedded=self.embedded,
            truncated=self.truncated,
            rows=rows,
            precision=self.plan.precision,
            threads=self.plan.threads,
            device=self.encoder.device,
            seconds=seconds,
            captions_per_second=self.embedded / seconds,
            notes=(note,) if note else (),
        )


def _cleaned(captions: Iterable[str]) -> Iterator[str]:
    """Yield cleaned captions, counting from 1 to name the one that is none."""
    previous = None
    for number, caption in enumerate(captions, 1):
        after = f" (after {previous!r})" if previous is not None else ""
        if not isinstance(caption, str):
            raise DataError(
                f"Caption {number}{after} is not text but {caption!r}; remove or mend it."
            )
        text = clean(caption)
        if not text:
            raise DataError(f"Caption {number}{after} is empty: {caption!r}; remove or mend it.")
        yield text
        previous = caption


def _prepare(folder: Path) -> None:
    """Make the folder; refuse one that holds anything but a cache."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = sorted(p.name for p in folder.iterdir() if not records.is_ours(p.name))
    except OSError as error:
        raise StorageError(
            f"Can't make a cache in {folder}: {error.strerror}; give a folder that you may "
            "write to."
        ) from error
    if foreign:
        raise CacheError(
            f"{folder} holds something else ({', '.join(foreign[:3])}"
            f"{', ...' if len(foreign) > 3 else ''}); give an empty or a new folder."
        )


def _shard_record(path: Path, view: shards.ShardView) -> Shard:
    return Shard(
        file=path.name,
        rows=len(view.keys),
        bytes=path.stat().st_size,
        sha256=shards.file_hash(path),
        tokens=int(view.tokens.sum()),
        truncated=int(view.truncated.sum()),
    )
