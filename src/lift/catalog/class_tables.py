"""Tables of images with the names of their classes: Parquet files, one a split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lift.catalog import Found, quoted
from lift.catalog._first import columns, files
from lift.catalog._plans import by_split, of_classes, of_pairs, prompts

TITLE = "Tables of images with classes"
WHERE = (
    "Your own, or any classification set of huggingface.co/datasets as Parquet with the names of "
    "the classes."
)
LAYOUT = "test.parquet (and train.parquet) with image and class_name, label_name or article_type"

_LABELS = ("class_name", "label_name", "article_type", "category", "class")
_CAPTIONS = ("title", "caption", "text", "description")
_COARSER = ("sub_category", "master_category", "superclass", "group")
_ROWS = 2_000_000
_KEYS = ("key", "id", "image_id")


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


def look(folder: Path) -> list[Found]:
    """Return classification of the held-out images, taught by the others; see the room."""
    held, taught = by_split(files(folder, "*.parquet"))
    names = set(columns(held[0])) if held else set()
    label = next((name for name in _LABELS if name in names), None)
    if label is None or "image" not in names:
        return []
    caption = next((name for name in _CAPTIONS if name in names), None)
    key = next((name for name in _KEYS if name in names), None)
    options = f",image=image,caption={caption or label}" + (f",key={key}" if key else "")
    data = f"table:path={_paths(held)}{options}"
    train = f"table:path={_paths(taught)}{options}" if taught else ""
    words = of_classes(data, label)
    taught_label = _taught_label(held, taught, names)
    if train and taught_label:
        words += of_classes(data, taught_label, train)[1:]
    if more := prompts(folder, folder.name):
        words.insert(1, f"{words[0]}{more}")
    if caption is not None:
        words += of_pairs(data, folder.name if folder.name.isidentifier() else "", several=False)
    return [Found("class_tables", str(folder), tuple(words))]


def _taught_label(held: list[Path], taught: list[Path], names: set[str]) -> str:
    """Return the first label whose held-out classes are all taught, "" for none.

    What nobody taught can't be told: of a long tail of classes, coarser ones are asked.
    """
    for label in (*_LABELS, *_COARSER):
        if label in names:
            known, asked = _classes(taught, label), _classes(held, label)
            if asked and asked <= known:
                return label
    return ""


def _classes(found: list[Path], label: str) -> set[str]:
    """Return the values of a column; none where it can't be read, or has very many rows."""
    try:
        if sum(pq.read_metadata(file).num_rows for file in found) > _ROWS:
            return set()
        tables = [pq.read_table(file, columns=[label]) for file in found]
        return {str(one) for table in tables for one in table.column(0).unique().to_pylist()}
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return set()


def _paths(found: list[Path]) -> str:
    """Return the files of a split as one path."""
    if len(found) == 1:
        return quoted(found[0])
    return "[" + ",".join(f'"{file}"' for file in found) + "]"
