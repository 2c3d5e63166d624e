"""What img2dataset says beside each shard of the images that it could not fetch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lift.data.tally import Tally
from lift.errors import DataError

_FETCHED = "success"
_MOST_KINDS = 20
_LONGEST_KIND = 60


def not_downloaded(shards: Sequence[Path]) -> Tally:
    """Return the failed downloads of shards by reason, of those with a `.parquet` beside them.

    Raises:
        DataError: a `.parquet` that can't be read.
    """
    tally = Tally()
    for shard in shards:
        table = shard.with_suffix(".parquet")
        if table.is_file():
            try:
                _count(table, tally)
            except (pa.ArrowException, OSError) as error:
                raise DataError(
                    f"{table} can't be read ({error}); it says what was not downloaded into "
                    f"{shard.name}: mend it, or move it away and go without."
                ) from error
    return tally


def _count(path: Path, tally: Tally) -> None:
    with pq.ParquetFile(path) as file:
        names = [n for n in ("status", "error_message", "key") if n in file.schema_arrow.names]
        if "status" not in names:
            return
        for batch in file.iter_batches(columns=names):
            status = batch.column("status").cast(pa.string())
            other = pc.call_function("not_equal", [status, pa.scalar(_FETCHED)])
            failed = batch.filter(pc.fill_null(other, True))
            for row in failed.to_pylist():
                why = f"not downloaded: {_kind(row['status'], row.get('error_message'))}"
                if why not in tally.counts and len(tally.counts) >= _MOST_KINDS:
                    why = "not downloaded: other reasons"
                tally.add(why, f"{row.get('key', 'a row')} of {path.name}")


def _kind(status: object, message: object) -> str:
    """Return the part of an error's message that many share: no hosts, no quoted text."""
    text = re.sub(r"<urlopen error |\[Errno -?\d+\] |^\W+", "", str(message or ""))
    kind = text.partition(":")[0].partition("'")[0].strip(" <>[](,")
    return kind[:_LONGEST_KIND] or str(status or "without status").replace("_", " ")
