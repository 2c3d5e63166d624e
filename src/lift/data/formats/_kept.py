"""The samples that a manifest keeps: numbers, keys and weights, mapped from temporary files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from lift.config import Part, from_dict
from lift.data.dice import generator, key_number
from lift.data.spilled import Spilled
from lift.errors import ConfigError, DataError

FORMAT = 1
METADATA = b"lift"

_OFFSET = 31
"""Purpose of the dice: where systematic sampling starts in an epoch."""

_ONE = 1 << 32
"""A weight of 1: running sums are whole numbers of 2**-32, so that no rounding adds up."""

_MOST_SLOTS = 1 << 30

_TYPES: Mapping[str, Callable[[pa.DataType], bool]] = {
    "number": pa.types.is_integer,
    "cluster": pa.types.is_integer,
    "weight": pa.types.is_floating,
    "key": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
}


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a manifest says of itself, besides its rows.

    Attributes:
        data: the words or the part that open the source; "" where nobody said.
        name: of the source.
        samples: how many the source had.
        digest: of every key and caption of the source, in order.
        where, weight: the expressions.
        seed: of the clusters.
        clusters: how many were made; 0 where samples keep the order of the source.
        counts: samples kept, and left out by reason.
        examples: the first sample of each reason.
        settings: what else the columns were made with, for people.
        format: raised when older code can't read it.
    """

    data: str | Part
    name: str
    samples: int
    digest: str
    where: str = ""
    weight: str = ""
    seed: int = 0
    clusters: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT


def writable(text: str) -> str:
    """Return text that UTF-8 can hold: names in a tar may be bytes that are no text."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def read_record(path: Path) -> Record:
    """Return what a manifest says of itself.

    Raises:
        DataError: it is missing, damaged, of a newer format, or no manifest.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except FileNotFoundError as error:
        raise DataError(
            f"There is no manifest {path}; make one with `lift data select`."
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    if METADATA not in metadata:
        raise DataError(f"{path} is no manifest of `lift data select`: it does not say its data.")
    try:
        values = json.loads(metadata[METADATA])
        written = values["format"]
        if isinstance(written, int) and written > FORMAT:
            raise DataError(
                f"{path} has format {written}, this version reads up to {FORMAT}: upgrade "
                "lift-align."
            )
        return from_dict(Record, values, path.name)
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise _damaged(path, error) from error


class Kept:
    """The rows of a manifest in its order.

    Attributes:
        numbers: of the samples in their source; ascending in each run.
        keys: `key_number` of their keys.
        clusters: samples of each run; () without clusters.
        slots: draws of an epoch, 0 without weights.
        too_small: samples that no epoch shows: their weights' fractions add up to less than one.
    """

    def __init__(self, path: Path, record: Record) -> None:
        """Read a manifest; 16 bytes a sample lie on disk, 24 with weights.

        Raises:
            DataError: damaged, or changed by hand into something that can't be.
        """
        self._path, self._record = path, record
        self.clusters, self.slots, self.too_small = (), 0, 0
        numbers, keys = Spilled(np.int64), Spilled(np.int64)
        runs: list[int] = []
        last_number = last_cluster = -1
        for rows in self._rows(["number", "key", *(["cluster"] if record.clusters else [])]):
            number = rows.column("number").to_numpy().astype(np.int64, copy=False)
            cluster = np.zeros(len(number), np.int64)
            if record.clusters:
                cluster = rows.column("cluster").to_numpy().astype(np.int64)
            before = np.concatenate([[last_cluster], cluster[:-1]])
            steps = np.diff(np.concatenate([[last_number], number]))
            rising = (cluster > before) | ((cluster == before) & (steps > 0))
            if not rising.all() or number.min() < 0 or number.max() >= record.samples:
                raise DataError(
                    f"{path} has samples out of order, twice, or beyond the {record.samples:,} of "
                    "its source; select again."
                )
            for size, new in _runs(cluster > before):
                if new:
                    runs.append(size)
                else:
                    runs[-1] += size
            last_number, last_cluster = int(number[-1]), int(cluster[-1])
            numbers.append(number)
            names = rows.column("key").to_pylist()
            keys.append(np.fromiter(map(key_number, names), np.int64, len(names)))
        self.numbers, self.keys = numbers.mapped(), keys.mapped()
        if not len(self.numbers):
            raise DataError(f"{path} keeps no sample; select again with another expression.")
        if record.clusters:
            self.clusters = tuple(runs)
        if record.weight:
            self._sums = self._weighted()

    def __len__(self) -> int:
        return len(self.numbers)

    def drawn(self, slots: np.ndarray, seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
        """Return which sample each slot of an epoch shows."""
        # The sums end a little below `slots`: an offset beyond that would pass the last sample.
        room = max(1, _ONE - (self.slots * _ONE - int(self._sums[-1])))
        offset = int(generator(seed, _OFFSET, epoch).integers(room))
        points = np.asarray(slots, np.int64) * _ONE + offset
        return np.searchsorted(self._sums, points, side="right").astype(np.int64)

    def slots_before(self, sample: int) -> int:
        """Return how many slots lie before a sample, whatever the offset, but for one."""
        return min(self.slots, -(-int(self._sums[sample - 1]) // _ONE)) if sample else 0

    def _weighted(self) -> np.ndarray:
        """Return running sums in 2**-32; sets `slots`.

        Whole parts of weights are always shown. Fractions are scaled so that they add up to a
        whole number: then every epoch has as many slots, and all fractions the same fate.
        """
        whole, fractions = 0, 0.0
        for weights in self._weights():
            whole += int(np.floor(weights).sum())
            fractions += float((weights % 1).sum())
        self.slots = whole + int(fractions)
        if not 1 <= self.slots <= _MOST_SLOTS:
            raise DataError(
                f"The weights of {self._path} add up to {whole + fractions:,.6g}; an epoch has 1 "
                f"to {_MOST_SLOTS:,} samples, so multiply `weight` by a number."
            )
        scale = int(fractions) / fractions if fractions else 0.0
        sums, before = Spilled(np.int64), 0
        for weights in self._weights():
            # Rounded down: their sum never passes the slots.
            part = np.floor(weights % 1 * (scale * _ONE)).astype(np.int64).clip(max=_ONE - 1)
            part += np.floor(weights).astype(np.int64) * _ONE
            self.too_small += int((part == 0).sum())
            running = before + np.cumsum(part)
            sums.append(running.clip(max=self.slots * _ONE))
            before = int(running[-1])
        return sums.mapped()

    def _weights(self) -> Iterator[np.ndarray]:
        for rows in self._rows(["weight"]):
            weights = rows.column("weight").to_numpy().astype(np.float64)
            if not (np.isfinite(weights) & (weights > 0)).all():
                raise DataError(f"{self._path} has a weight that is no number above 0.")
            yield weights

    def _rows(self, columns: list[str]) -> Iterator[pa.Table]:
        """Yield these columns of a manifest by row group, without nulls."""
        try:
            with pq.ParquetFile(self._path) as file:
                for number in range(file.metadata.num_row_groups):
                    rows = file.read_row_group(number, columns=columns, use_threads=False)
                    missing = set(columns) - set(rows.column_names)
                    if missing or any(column.null_count for column in rows.columns):
                        raise DataError(f"{self._path} lacks values of {', '.join(columns)}.")
                    for name in columns:
                        if not _TYPES[name](rows.schema.field(name).type):
                            raise DataError(f"{self._path} has a {name} of another type.")
                    if len(rows):
                        yield rows.combine_chunks()
        except (pa.ArrowException, OSError, ValueError, TypeError) as error:
            raise _damaged(self._path, error) from error


def _runs(new: np.ndarray) -> Iterator[tuple[int, bool]]:
    """Yield (length, whether it begins a cluster) of the stretches that a chunk is cut into."""
    begins = np.flatnonzero(new)
    bounds = np.unique(np.concatenate([[0], begins, [len(new)]]))
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        yield end - start, bool(new[start])


def _damaged(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return DataError(f"{path} can't be read as a manifest ({reason}); select again.")
