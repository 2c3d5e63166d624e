"""Two rungs on the same queries: what each found, and whether the difference is more than noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64

from lift.evals._metrics import recall_at_k
from lift.evals.retrieval import Pairs, collect, groups, search
from lift.rungs.record import Against
from lift.terms import Encoder, ImageLike, Source

K = 10
_Z95 = 1.959963984540054


class Listening:
    """An Encoder that keeps the vectors that passed through it.

    Attributes:
        name, saw: those of the encoder.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.name, self.saw = encoder.name, encoder.saw
        self._encoder = encoder
        self._images: list[np.ndarray] = []
        self._texts: dict[str, np.ndarray] = {}

    def encode_images(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n d"]:
        """Return what the encoder returns."""
        z = self._encoder.encode_images(images)
        self._images.append(z)
        return z

    def encode_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return what the encoder returns."""
        z = self._encoder.encode_texts(texts)
        self._texts.update(zip(texts, z, strict=True))
        return z

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def hits(self, pairs: Pairs) -> Float[np.ndarray, " c"] | None:
        """Return for each caption whether its image is among the first ten; None where unknown.

        A caption that several images have is found with any of them. Of images with equal scores
        none is first: a hit then counts in part.
        """
        z_image = np.concatenate(self._images)
        if len(z_image) != len(pairs.keys):
            return None  # some image could not be read
        images_of = groups(pairs.owner, pairs.same, int(pairs.same.max()) + 1)
        z_text = np.stack([self._texts[text] for text in pairs.texts])
        spots = search(
            *(z_text, z_image, np.arange(len(z_text))),
            rights=(lambda caption: images_of[pairs.same[caption]],),
        )
        return recall_at_k(spots[0], K)


def compare(
    ours: Float[np.ndarray, " c"],
    theirs: Float[np.ndarray, " c"],
    owner: Int64[np.ndarray, " c"],
    other: str,
) -> Against:
    """Return the mean difference of two rungs' hits, with its 95% interval.

    Captions of one image succeed and fail together, so the variance is that of sums over images
    (the cluster-robust one, as in `lift.evals`).

    Args:
        ours, theirs: of each caption.
        owner: its image.
        other: what to call the second.
    """
    apart = ours - theirs
    mean = float(apart.mean())
    _, image = np.unique(owner, return_inverse=True)
    sums = np.bincount(image, apart - mean)
    count = len(sums)
    spread = float(sums @ sums) * count / max(count - 1, 1)
    half = _Z95 * spread**0.5 / len(apart)
    return Against(
        other=other,
        queries=len(apart),
        images=count,
        better=mean,
        low=mean - half,
        high=mean + half,
    )


def pairs_of(source: Source) -> Pairs:
    """Return all captions and whose they are."""
    return collect(source, None, False)
