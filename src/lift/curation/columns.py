"""Columns of samples, each computed only where asked for: in chunks, kept on disk meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lift.curation import clusters
from lift.curation.column_list import COLUMNS, resolve, schema_of
from lift.curation.means import Means, Texts
from lift.curation.reading import Reading
from lift.data.spilled import Spilled, SpilledTable
from lift.data.tally import Tally
from lift.terms import Source

__all__ = ["COLUMNS", "Computed", "Means", "compute", "resolve", "schema_of"]

_BLOCK = 4096


@dataclass
class Computed:
    """Columns of all usable samples of a source, on disk.

    Attributes:
        names: of the columns: `number`, `key`, and those asked for.
        digest: of every key and caption of the source, in order.
        samples: how many the source has.
        left_out: samples that can't be used, by reason; they are in no table.
        sizes: samples of each cluster, where they were asked for.
    """

    names: tuple[str, ...]
    digest: str
    samples: int
    left_out: Tally
    sizes: tuple[int, ...]
    _table: SpilledTable
    _later: Mapping[str, np.ndarray]

    def tables(self) -> Iterator[pa.Table]:
        """Yield the columns, some thousand samples at a time."""
        start = 0
        for table in self._table:
            for name, values in self._later.items():
                part = np.array(values[start : start + len(table)])
                column = pa.array(part, COLUMNS[name].type, mask=part < 0)
                table = table.append_column(name, column)
            start += len(table)
            yield table.select(list(self.names))


def compute(
    source: Source, names: Sequence[str], means: Means, *, progress: bool = False
) -> Computed:
    """Return columns of every usable sample of a source; it is read once, in order.

    Args:
        source: the pairs. Images are read only where a column needs them.
        names: columns, or fields of the samples (`field.NAME`, or NAME alone).
        means: what they are computed with.
        progress: draw a progress bar.

    Raises:
        ConfigError: a column lacks its means, or no sample has a field asked for.
        MissingRows: a caption has no row in the cache.
        SpaceMismatch: cache and encoder are not of one space.
        DataError: the source can't be read.
    """
    reading = Reading(source, names, means)
    reading.run(progress)
    later, sizes = {}, ()
    if "caption_copy" in reading.names:
        later["caption_copy"] = reading.captions.earlier()
    if "image_copy" in reading.names:
        later["image_copy"] = reading.images.earlier()
    if "cluster" in reading.names:
        later["cluster"], sizes = _clusters(reading.rows.mapped(), means)
    return Computed(
        names=reading.names,
        digest=reading.digest.hexdigest(),
        samples=reading.samples,
        left_out=reading.left_out,
        sizes=sizes,
        _table=reading.table.close(),
        _later=later,
    )


def _clusters(rows: np.ndarray, means: Means) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the cluster of each sample by its stored row (-1 where it has none), and sizes."""
    assert means.cache is not None
    texts = Texts(means.cache, None)
    some = rows[clusters.sampled(len(rows), means.seed)]
    centres = clusters.fit(texts.of_rows(some[some >= 0]), means.clusters, means.seed)
    owners, sizes = Spilled(np.int32), np.zeros(means.clusters, np.int64)
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        owner = np.full(len(part), -1, np.int32)
        owner[part >= 0] = clusters.assign(texts.of_rows(part[part >= 0]), centres)
        sizes += np.bincount(owner[part >= 0], minlength=means.clusters)
        owners.append(owner)
    return owners.mapped(), tuple(sizes.tolist())
