"""Every column of samples: its type, and what it says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa

from lift.curation.syntax import FIELD


class Column(NamedTuple):
    """A column's type, and what it says."""

    type: pa.DataType
    meaning: str


COLUMNS = {
    "key": Column(pa.string(), "the sample's key"),
    "number": Column(pa.int64(), "the sample's number in its source"),
    "source": Column(pa.string(), "the source's name"),
    "captions": Column(pa.int64(), "how many captions"),
    "roles": Column(pa.string(), 'their roles, sorted, a blank between: `"raw" in roles`'),
    "caption": Column(pa.string(), "the first caption (of the role asked for)"),
    "chars": Column(pa.int64(), "its characters"),
    "words": Column(pa.int64(), "its words"),
    "caption_copy": Column(pa.int64(), "how many earlier samples have an equal one"),
    "language": Column(pa.string(), "the field language or lang, or what the cache's links say"),
    "bytes": Column(pa.int64(), "of the image file"),
    "width": Column(pa.int64(), "of the image, upright, in pixels; from its header"),
    "height": Column(pa.int64(), "of the image, upright, in pixels; from its header"),
    "aspect": Column(pa.float64(), "width / height"),
    "image_copy": Column(pa.int64(), "how many earlier samples have the same image bytes"),
    "cluster": Column(pa.int32(), "of the caption's stored row, by k-means"),
    "visualness": Column(pa.float32(), "above 0 where the caption is about what can be seen"),
    "alignment": Column(pa.float32(), "cosine of image and caption by an earlier model"),
    "similarity": Column(pa.float32(), "largest cosine of the caption with the task's texts"),
}
"""Every column but the samples' own fields, which are `field.NAME`, or NAME where that is free."""


def resolve(names: Iterable[str]) -> tuple[str, ...]:
    """Return the columns that an expression's names stand for, each once."""
    return tuple(
        dict.fromkeys(n if n in COLUMNS or n.startswith(FIELD) else f"{FIELD}{n}" for n in names)
    )


def schema_of(names: Sequence[str]) -> pa.Schema:
    """Return the types of resolved columns; fields are text."""
    return pa.schema([(n, COLUMNS[n].type if n in COLUMNS else pa.string()) for n in names])
