"""Whatever lies in a folder that can be searched: an index, or a database with images beside it."""

from __future__ import annotations

from pathlib import Path

from lift.search import attached_record
from lift.search.attached import Attached
from lift.search.index import Index


def open_searchable(folder: str | Path, *, device: str = "auto") -> Index | Attached:
    """Open what `lift index build` or `lift index attach` made, for asking.

    Args:
        folder: of either.
        device: where queries are encoded.

    Raises:
        DataError: neither lies there, or it is damaged.
        LiftError: the database can't be reached.
    """
    folder = Path(folder)
    if attached_record.is_attached(folder):
        return Attached.open(folder, device=device)
    return Index.open(folder, device=device)
