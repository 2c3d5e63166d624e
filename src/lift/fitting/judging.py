"""How well a linear map finds the caption of an image: on pairs that it was not fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32

from lift.evals.retrieval import Pairs, figures_of
from lift.fitting.gathering import Held, Items
from lift.linear import Linear
from lift.terms import Metric, unit

SCALES = np.power(2.0, np.arange(0, 17) / 2)
"""Inverse temperatures that are tried: 1 to 256."""

_CHOICES = 1_024
"""Pairs that a temperature is looked for among."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a map does on held-out pairs.

    Attributes:
        metrics: recall at 1, 5 and 10 and median rank in both directions, with intervals.
        mean_cosine: between the image's vector and its captions.
        images, captions: how many there are, and what was searched.
        items: what was mapped; where that are captions, "image" in a metric's name is one that was
            mapped, and "text" its true vector.
    """

    metrics: Mapping[str, Metric]
    mean_cosine: float
    images: int
    captions: int
    items: Items = "images"

    @property
    def protocol(self) -> str:
        """What was compared with what."""
        if self.items == "captions":
            return f"{self.captions:,} captions, mapped and searched among their true vectors"
        return (
            f"held out by image, {self.images:,} images and all {self.captions:,} captions: "
            "each searched among the others'"
        )


def mapped(linear: Linear, h: Float[np.ndarray, "n w"]) -> Float32[np.ndarray, "n d"]:
    """Return z = unit(W h + b) of every row."""
    return unit(torch.from_numpy(linear.apply(h))).float().numpy()


def judge(linear: Linear, held: Held, items: Items = "images") -> Judged | None:
    """Return the figures of a map on pairs; None where there are none.

    Captions with equal vectors are one text: any image that has it is right.
    """
    if not len(held):
        return None
    z_image = mapped(linear, held.h)
    as_bytes = np.ascontiguousarray(held.t).view(f"V{held.t.shape[1] * 4}").ravel()
    _, same = np.unique(as_bytes, return_inverse=True)
    names = [str(n) for n in range(len(held))]
    pairs = Pairs(
        list(range(len(held))), names, [""] * len(held.t), held.owner, same.astype(np.int64)
    )
    cosine = (z_image[held.owner] * held.t).sum(axis=1)
    return Judged(
        metrics=figures_of(pairs, held.t, z_image),
        mean_cosine=float(cosine.mean()),
        images=len(held),
        captions=len(held.t),
        items=items,
    )


def reciprocal_rank(
    z_image: Float32[np.ndarray, "n d"], z_text: Float32[np.ndarray, "n d"]
) -> float:
    """Return the mean of 1 / rank of the own partner in both directions; ties share their ranks.

    Unlike recall at 10 it tells maps apart among few pairs and among many.
    """
    scores = z_image @ z_text.T
    own = np.diagonal(scores)
    found = []
    for rival, axis in ((own[:, None], 1), (own[None, :], 0)):
        ahead, tied = (scores > rival).sum(axis=axis), (scores == rival).sum(axis=axis)
        found.append((1.0 / (ahead + (tied + 1) / 2)).mean())
    return float(np.mean(found))


def scale_of(z_image: Float32[np.ndarray, "n d"], z_text: Float32[np.ndarray, "n d"]) -> float:
    """Return the inverse temperature under which each image's own text is likeliest, of a few."""
    scores = (z_image[:_CHOICES] @ z_text[:_CHOICES].T).astype(np.float64)
    own = np.diagonal(scores)
    best, found = np.inf, float(SCALES[0])
    for scale in SCALES.tolist():
        rest = scale * (scores - scores.max(axis=1, keepdims=True))
        loss = np.log(np.exp(rest).sum(axis=1)) - scale * (own - scores.max(axis=1))
        if loss.mean() < best:
            best, found = float(loss.mean()), scale
    return found
