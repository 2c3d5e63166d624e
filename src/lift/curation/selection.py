"""Keep or weight samples by expressions over their columns; what is kept goes into a manifest."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lift.cache.reader import EmbeddingCache
from lift.config import Part, to_dict
from lift.curation.columns import Computed, Means, compute, resolve, schema_of
from lift.curation.expression import Expression, parse
from lift.data.formats.selected import METADATA, Record
from lift.data.source import left_out
from lift.data.spilled import Spilled, SpilledTable, room_for
from lift.errors import ConfigError, DataError
from lift.files import whole_file
from lift.terms import Encoder, Source
from lift.text.encoder import TextEncoder

Words: TypeAlias = "str | Part"
"""What opens a source: words or a part; "" where nobody can say."""

_ROWS = 16_384
"""Rows of a row group of the manifest."""

_NO_WEIGHT = "a weight of 0"
_NO_CAPTION = "no caption to cluster by"


@dataclass(frozen=True)
class Dropped:
    """What one term of the condition left out; a sample counts with the first term it fails.

    Attributes:
        why: the term, or why the sample could not be used at all.
        samples: how many.
        unknown: how many of these have no value to judge by.
        first: the first sample's key, or what was said of it.
    """

    why: str
    samples: int
    unknown: int
    first: str


@dataclass(frozen=True)
class Selection:
    """What was kept.

    Attributes:
        path: the manifest.
        name: of the source.
        samples: how many the source has.
        kept: how many of them are in the manifest.
        dropped: the others, by reason.
        weights: sum, least and largest of the weights; None where nobody asked.
        clusters: kept samples of each cluster, by its number; () without clusters.
        columns: of the manifest.
        source_left_out: items of the source that are no samples, by reason.
    """

    path: Path
    name: str
    samples: int
    kept: int
    dropped: tuple[Dropped, ...]
    weights: tuple[float, float, float] | None
    clusters: tuple[int, ...]
    columns: tuple[str, ...]
    source_left_out: Mapping[str, int]

    def table(self) -> str:
        """Return the counts as aligned text."""
        lines = [f"{self.name}: {self.kept:,} of {self.samples:,} samples kept"]
        lines[0] += f" ({100 * self.kept / self.samples:.1f}%)"
        told = [d for d in self.dropped if d.samples]
        if told:
            head = ("dropped by", "samples", "no value", "the first")
            rows = [(d.why, f"{d.samples:,}", f"{d.unknown:,}", d.first) for d in told]
            sizes = [max(len(row[c]) for row in (head, *rows)) for c in range(3)]
            for why, samples, unknown, first in (head, *rows):
                numbers = f"{samples:>{sizes[1]}}  {unknown:>{sizes[2]}}"
                lines.append(f"  {why:<{sizes[0]}}  {numbers}  {first}")
        lines += [f"  not read as a sample: {n:,} {why}" for why, n in self.source_left_out.items()]
        if self.weights:
            total, least, largest = self.weights
            lines.append(f"weights add up to {total:,.6g}, from {least:.6g} to {largest:.6g}")
        if self.clusters:
            sizes = [size for size in self.clusters if size]
            lines.append(f"{len(sizes):,} clusters of {min(sizes):,} to {max(sizes):,} samples")
        lines.append(f"{self.path} holds {', '.join(self.columns)}")
        return "\n".join([*lines, f"use it with: --data selected:path={self.path}"])


def select(
    sources: Source | tuple[Words, Source] | Sequence[Source | tuple[Words, Source]],
    *,
    out: str | Path,
    where: str = "",
    weight: str = "",
    cache: EmbeddingCache | None = None,
    encoder: TextEncoder | None = None,
    judge: Encoder | None = None,
    task: Sequence[str] = (),
    role: str = "",
    clusters: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> Selection:
    """Write a manifest of the samples that an expression keeps; see `lift.data.formats.selected`.

    Equal inputs give equal bytes. Nothing is written where nothing is kept.

    Args:
        sources: one source, or (the words that open it, the source), alone or in a list of one.
        out: the manifest, a parquet file.
        where: a condition over columns (see `lift.curation.columns.COLUMNS`); "" keeps all.
        weight: a number from columns: how often a sample is shown in an epoch; "" for once each.
            A weight of 0 drops the sample.
        cache: stored rows of the captions, for columns that compare texts.
        encoder: the live encoder of the cache's space; None builds it where it is needed.
        judge: an earlier model, for `alignment`.
        task: texts of the task, for `similarity`.
        role: of the caption that columns are about; "" for a sample's first.
        clusters: sort the kept samples into so many clusters of like captions; 0 for none.
        seed: of the clusters.
        progress: draw a progress bar.

    Raises:
        ConfigError: an expression that can't be read or computed, a column without its means, or
            several sources.
        DataError: the source can't be read, a weight is no number, or nothing is kept.
        MissingRows: a caption has no row in the cache.
        StorageError: the disk refused.
    """
    words, source = _one(sources)
    condition = parse(where) if where.strip() else None
    weighting = parse(weight) if weight.strip() else None
    if clusters < 0:
        raise ConfigError(f"clusters must be 0 or more, not {clusters}.")
    names = [*(condition.columns if condition else ()), *(weighting.columns if weighting else ())]
    names += ["cluster"] if clusters else []
    empty = schema_of(resolve(["number", "key", *names])).empty_table()
    _ = condition and condition.truth(empty), weighting and weighting.number(empty)
    aids = {"cache": cache, "encoder": encoder, "judge": judge, "task": tuple(task)}
    means = Means(role=role, clusters=clusters, seed=seed, **aids)  # pyright: ignore
    computed = compute(source, names, means, progress=progress)
    kept = _Kept(computed, condition, weighting, clusters)
    record = Record(
        data=words,
        name=source.name,
        samples=computed.samples,
        digest=computed.digest,
        where=where,
        weight=weight,
        seed=seed,
        clusters=clusters,
        counts={"kept": len(kept.table), **{d.why: d.samples for d in kept.dropped}},
        examples={d.why: d.first for d in kept.dropped if d.samples},
        settings=_settings(means),
    )
    return kept.write(Path(out), record, left_out(source))


def _one(
    sources: Source | tuple[Words, Source] | Sequence[Source | tuple[Words, Source]],
) -> tuple[Words, Source]:
    if isinstance(sources, Source):
        return "", sources
    if isinstance(sources, tuple) and len(sources) == 2 and isinstance(sources[0], str | Part):
        return sources[0], sources[1]  # pyright: ignore[reportReturnType]
    if len(sources) != 1:
        raise ConfigError(
            f"A manifest is about one source, not {len(sources)}; select from each into its own, "
            "and join them as selected:a.parquet::selected:b.parquet."
        )
    only = sources[0]
    return ("", only) if isinstance(only, Source) else only  # pyright: ignore[reportReturnType]


def _settings(means: Means) -> dict[str, object]:
    """Return what else decided the columns, for people who read the manifest."""
    found = {
        "role": means.role,
        "space": means.cache.space.fingerprint if means.cache else "",
        "judge": means.judge.name if means.judge else "",
        "task": list(means.task),
    }
    return {name: value for name, value in found.items() if value}


class _Kept:
    """The samples that pass, on disk, and counts of the others."""

    def __init__(
        self,
        computed: Computed,
        condition: Expression | None,
        weighting: Expression | None,
        clusters: int,
    ) -> None:
        self._computed, self._weighting, self._clusters = computed, weighting, clusters
        self._terms = condition.terms() if condition else ()
        why = [term.text for term in self._terms]
        why += [_NO_WEIGHT] * bool(weighting) + [_NO_CAPTION] * bool(clusters)
        self._counts = [[0, 0] for _ in why]
        self._first = [""] * len(why)
        self._total, self._least, self._largest = 0.0, math.inf, 0.0
        self._owners, self._sizes = Spilled(np.int32), np.zeros(max(1, clusters), np.int64)
        names = [name for name in computed.names if name not in ("number", "key", "cluster")]
        lead = ["number", "key", *(["weight"] if weighting else [])]
        # A field called `weight` is `field.weight` here: no two columns share a name.
        asked = "cluster" in computed.names
        self.columns = (*lead, *(["cluster"] if asked else []), *names)
        types = {"weight": pa.float32()}
        schema = schema_of(self.columns)
        self._schema = pa.schema([(f.name, types.get(f.name, f.type)) for f in schema])
        table = SpilledTable(self._schema)
        for rows in computed.tables():
            table.append(self._passing(rows))
        self.table = table.close()
        lost = computed.left_out
        self.dropped = (
            *(Dropped(kind, n, 0, lost.first[kind]) for kind, n in lost.counts.items()),
            *(
                Dropped(reason, count, unknown, first)
                for reason, (count, unknown), first in zip(
                    why, self._counts, self._first, strict=True
                )
            ),
        )

    def _passing(self, rows: pa.Table) -> pa.Table:
        passing = np.ones(len(rows), bool)
        for at, term in enumerate(self._terms):
            passing = self._count(at, rows, passing, term.truth(rows))
        weights = None
        if self._weighting is not None:
            weights = self._weights(rows, passing)
            passing = self._count(len(self._terms), rows, passing, pa.array(weights > 0))
            rows = rows.append_column("weight", pa.array(weights))
        if self._clusters:
            has = pa.array(~np.asarray(rows.column("cluster").is_null()))
            passing = self._count(len(self._counts) - 1, rows, passing, has)
        kept = rows.filter(pa.array(passing)).select(list(self.columns))
        if weights is not None and len(kept):
            shown = weights[passing].astype(np.float64)
            self._total += float(shown.sum())
            self._least = min(self._least, float(shown.min()))
            self._largest = max(self._largest, float(shown.max()))
        if self._clusters:
            owner = kept.column("cluster").to_numpy()
            self._sizes += np.bincount(owner, minlength=self._clusters)
            self._owners.append(owner)
        return kept

    def _count(self, at: int, rows: pa.Table, before: np.ndarray, truth: pa.Array) -> np.ndarray:
        """Return which rows still pass, and count those that stop here."""
        says = np.asarray(truth.fill_null(False))
        stopped = np.flatnonzero(before & ~says)
        if len(stopped):
            self._counts[at][0] += len(stopped)
            self._counts[at][1] += int(np.asarray(truth.is_null())[stopped].sum())
            self._first[at] = self._first[at] or rows.column("key")[int(stopped[0])].as_py()
        return before & says

    def _weights(self, rows: pa.Table, passing: np.ndarray) -> np.ndarray:
        """Return float32 weights, 0 where a sample does not pass."""
        assert self._weighting is not None
        found = np.asarray(self._weighting.number(rows).fill_null(math.nan))
        with np.errstate(over="ignore"):
            weights = np.where(passing, found, 0.0).astype(np.float32)
        wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
        if len(wrong):
            key = rows.column("key")[int(wrong[0])].as_py()
            raise DataError(
                f"The weight of sample {key!r} is {found[wrong[0]]:g}, which is no number of 0 or "
                f"more; change the expression {self._weighting.text!r}, or leave the sample out "
                "with `where` (is_null(x) tells a missing value)."
            )
        return weights

    def write(self, out: Path, record: Record, source_left_out: Mapping[str, int]) -> Selection:
        """Write the manifest whole. Raises DataError where it would be empty."""
        if not len(self.table):
            told = "; ".join(
                f"{d.samples:,} by {d.why} (the first: {d.first})"
                for d in self.dropped
                if d.samples
            )
            raise DataError(
                f"None of the {self._computed.samples:,} samples of {record.name} is kept, and "
                f"nothing was written; dropped: {told}."
            )
        said = json.dumps(to_dict(record), ensure_ascii=False, sort_keys=True)
        schema = self._schema.with_metadata({METADATA: said.encode("utf-8", "backslashreplace")})
        with (
            whole_file(out) as aside,
            pq.ParquetWriter(aside, schema, compression="zstd") as writer,
        ):
            for rows in self._order():
                writer.write_table(self.table.take(rows).replace_schema_metadata(schema.metadata))
        weights = (self._total, self._least, self._largest)
        return Selection(
            path=out,
            name=record.name,
            samples=self._computed.samples,
            kept=len(self.table),
            dropped=self.dropped,
            weights=weights if self._weighting else None,
            clusters=tuple(self._sizes.tolist()) if self._clusters else (),
            columns=self.columns,
            source_left_out=source_left_out,
        )

    def _order(self) -> Iterator[np.ndarray]:
        """Yield rows of the table in the manifest's order: by cluster, then by number."""
        total = len(self.table)
        places = room_for(total, np.int64) if self._clusters else None
        if places is not None:
            owners, free = self._owners.mapped(), np.cumsum(self._sizes) - self._sizes
            for start in range(0, total, _ROWS):
                part = owners[start : start + _ROWS]
                order = np.argsort(part, kind="stable")
                counts = np.bincount(part, minlength=self._clusters)
                rank = np.arange(len(part)) - np.repeat(np.cumsum(counts) - counts, counts)
                places[free[part[order]] + rank] = start + order
                free += counts
        for start in range(0, total, _ROWS):
            rows = np.arange(start, min(start + _ROWS, total))
            yield rows if places is None else np.array(places[rows])
