"""One image or several, in whatever form, as a stream that comes in pieces."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lift.errors import DataError


def as_many(images: Any) -> Any:
    """Return a sequence or iterator of images; a single one becomes a list of one.

    Raises:
        DataError: an array that is neither an image nor several.
    """
    if isinstance(images, str | bytes | Path) or hasattr(images, "convert"):
        return [images]
    if isinstance(images, np.ndarray):
        if images.ndim == 3:
            return [images]
        if images.ndim != 4:
            raise DataError(
                f"An array of images is `h w 3` or `n h w 3`, not of shape {images.shape}."
            )
    return images


def chunks(stream: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of up to `size` items."""
    items = iter(stream)
    return iter(lambda: list(itertools.islice(items, size)), [])
