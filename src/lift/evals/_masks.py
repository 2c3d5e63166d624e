"""Masks of classes: read from a PNG, and compared with the scores of a patch grid."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from PIL import Image

from lift.errors import BrokenSample, DataError
from lift.evals._changes import BROKEN, MOST_PIXELS
from lift.evals._metrics import TIE, Z95, wilson
from lift.terms import Metric, Outcomes

NOBODY = 255
"""A pixel of no class."""

MOST_SIDE = 512
"""A larger mask is judged on that many pixels of its longer side, the nearest ones."""

_AT_ONCE = 1 << 23
"""Scores in memory at a time."""


def mask_of(content: bytes, key: str) -> UInt8[np.ndarray, "h w"]:
    """Return the class of each pixel.

    Args:
        content: a PNG with a palette, or grey with 8 bits.
        key: of the sample, for errors.

    Raises:
        BrokenSample: it is no such PNG, damaged, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata; broken pixels raise
            with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
                if image.width * image.height > MOST_PIXELS or image.mode not in ("P", "L"):
                    raise ValueError(f"{image.width} x {image.height} of mode {image.mode}")
                scale = MOST_SIDE / max(image.size)
                if scale < 1:
                    width, height = (max(1, round(side * scale)) for side in image.size)
                    image = image.resize((width, height), Image.Resampling.NEAREST)
                return np.array(image, dtype=np.uint8)
    except BROKEN as error:
        reason = str(error).partition("<")[0].strip() or type(error).__name__
        raise BrokenSample(
            "damaged mask", f"The mask of sample {key!r} can't be read: {reason}."
        ) from error


def overlaps(
    scores: Float[np.ndarray, "rows cols k"],
    truth: Int64[np.ndarray, "h w"],
    frame: Float[np.ndarray, " 4"],
) -> Float[np.ndarray, "3 k"]:
    """Return pixels of an image by class: rightly named, named, and that are of it.

    Scores between centres of cells are interpolated linearly; beyond the outermost centres (and
    outside the frame) they are those of the nearest. Classes that tie share a pixel.

    Args:
        scores: of each cell for each class.
        truth: the place of each pixel's class among these, -1 where it is none: not judged.
        frame: the part of the image that the cells cover.
    """
    down = _weights(truth.shape[0], scores.shape[0], float(frame[1]), float(frame[3]))
    across = _weights(truth.shape[1], scores.shape[1], float(frame[0]), float(frame[2]))
    classes = scores.shape[2]
    found = np.zeros((3, classes))
    wide = np.einsum("rck,wc->rwk", scores, across)
    for strip in _strips(truth.shape[0], truth.shape[1] * classes):
        own = truth[strip].ravel()
        judged = np.flatnonzero(own >= 0)
        if not len(judged):
            continue
        values = np.einsum("hr,rwk->hwk", down[strip], wide).reshape(-1, classes)[judged]
        tied = values >= values.max(axis=1, keepdims=True) - TIE
        credit = tied / tied.sum(axis=1, keepdims=True)
        is_of = own[judged]
        found[0] += np.bincount(is_of, credit[np.arange(len(is_of)), is_of], minlength=classes)
        found[1] += credit.sum(axis=0)
        found[2] += np.bincount(is_of, minlength=classes)
    return found


def _strips(rows: int, of_row: int) -> Iterator[slice]:
    step = max(1, _AT_ONCE // max(of_row, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _weights(pixels: int, cells: int, low: float, high: float) -> Float[np.ndarray, "pixels cells"]:
    """Return what each cell has in each pixel along one side: linear, clamped at the ends."""
    centre = (np.arange(pixels) + 0.5) / pixels
    at = np.clip((centre - low) / (high - low) * cells - 0.5, 0, cells - 1)
    first = np.minimum(at.astype(np.int64), max(cells - 2, 0))
    rest = at - first
    found = np.zeros((pixels, cells))
    found[np.arange(pixels), first] = 1 - rest
    if cells > 1:
        found[np.arange(pixels), first + 1] += rest
    return found


def mean_iou(
    found: Float[np.ndarray, "n 3 k"],
    mine: Bool[np.ndarray, " k"],
    clusters: np.ndarray | None = None,
) -> Metric:
    """Return the mean over some classes of intersection over union, over all images together.

    Each class's is a ratio of sums over images. Its 95% interval is that of the linearised ratio
    (Cochran 1977, section 6.5), summed over classes within an image; `outcomes` holds each image's
    part in it, so that two models can be compared image by image.

    Args:
        found: of each image what `overlaps` returns.
        mine: the classes; each has a pixel.
        clusters: a number for each image, equal within what counts as one.
    """
    inter, union = found[:, 0, mine], (found[:, 1] + found[:, 2] - found[:, 0])[:, mine]
    whole = union.sum(axis=0)
    ratio = inter.sum(axis=0) / whole
    value = math.fsum(ratio) / len(ratio)
    moved = ((inter - ratio * union) / whole).mean(axis=1)
    own = np.arange(len(moved)) if clusters is None else clusters
    _, place = np.unique(own, return_inverse=True)
    total = np.bincount(place, moved)
    count = len(total)
    reach = Z95 * math.sqrt(float(total @ total) * count / max(count - 1, 1))
    low, high = max(0.0, value - reach), min(1.0, value + reach)
    if reach < 1e-9 or count == 1:
        low, high = wilson(value, count)
    values = (value + len(moved) * moved).astype(np.float32)
    told = None if clusters is None else clusters.astype(np.int64)
    return Metric(value, min(low, value), max(high, value), count, Outcomes(values, None, told))


def chance_iou(truth: Float[np.ndarray, " k"]) -> float:
    """Return the mean over classes that have pixels, where all classes share every pixel.

    Args:
        truth: pixels of each class.
    """
    guessed, own = truth.sum() / len(truth), truth[truth > 0]
    hit = own / len(truth)
    return float((hit / (own + guessed - hit)).mean())


def classes_named(told: object, where: str) -> tuple[str, ...]:
    """Return the names of classes, in the order of their numbers. Raises DataError for others."""
    names = told if isinstance(told, list) else []
    good = all(isinstance(name, str) and name.strip() for name in names)
    if not good or not 1 <= len(names) <= NOBODY:
        raise DataError(f"{where} is not a list of 1 to {NOBODY} names of classes.")
    return tuple(names)
