"""The same images with their pixels prepared in other ways: which way tells them apart best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

from lift.data.image import decode
from lift.diagnosis._figures import few, placed
from lift.errors import DataError, MissingRows
from lift.terms import Encoder

IMAGES = 192
"""Images that are encoded anew, once for each way."""

STATISTICS = {
    "ImageNet's mean and deviation": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CLIP's mean and deviation": (
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    ),
    "values from -1 to 1": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "values from 0 to 1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and deviation of the pixels of common towers, as `with_pixels` takes them."""

SWAPPED = "red and blue exchanged"
AS_IS = "as it is"


class Trial(NamedTuple):
    """One way to prepare pixels.

    Attributes:
        name: which.
        places: for each image, the share of other images' captions that lie further from it than
            its own one does.
    """

    name: str
    places: Float64[np.ndarray, " k"]


def trials(
    encoder: Encoder, file: Callable[[int], bytes], z_text: Float32[np.ndarray, "m d"]
) -> list[Trial]:
    """Return what each way gives, the encoder's own first; none where nothing can be tried.

    Args:
        encoder: what encodes the images.
        file: gives the image file of a pair by its number.
        z_text: the captions of the pairs; at most `IMAGES` of them are tried, evenly spaced.
    """
    places, pixels = _read(file, few(len(z_text), IMAGES))
    if len(places) < 2:
        return []
    found = []
    for name, way, change in _ways(encoder):
        try:
            z = way.encode_images([change(image) for image in pixels])
        except (DataError, MissingRows):  # stored vectors, for one, take no pixels in memory
            break
        found.append(Trial(name, placed(z, z_text[places])))
    return found


def _ways(encoder: Encoder) -> Sequence[tuple[str, Encoder, Callable[[Any], Any]]]:
    """Return (name, encoder, what is done to an image before)."""
    ways: list[tuple[str, Encoder, Callable[[Any], Any]]] = [
        (AS_IS, encoder, lambda image: image),
        (SWAPPED, encoder, lambda image: np.ascontiguousarray(image[..., ::-1])),
    ]
    other = getattr(encoder, "with_pixels", None)
    if other is not None:
        for name, (mean, std) in STATISTICS.items():
            ways.append((name, other(mean, std), lambda image: image))
    return ways


def _read(file: Callable[[int], bytes], wanted: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return which pairs' images can be read, and their pixels [h w 3] in at most about 512."""
    kept: list[int] = []
    pixels: list[np.ndarray] = []
    for place in wanted.tolist():
        try:
            image = decode(file(place), at_least=256).numpy().transpose(1, 2, 0)
        except DataError:
            continue  # it was readable a moment ago; the others do as well
        step = max(1, max(image.shape[:2]) // 512)
        pixels.append(np.ascontiguousarray(image[::step, ::step]))
        kept.append(place)
    return np.array(kept, np.int64), pixels
