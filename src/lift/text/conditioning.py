"""Linear transforms of a fixed text space, fitted on its rows in one pass, and the way back.

Images may be trained against W (t - mu) in place of the text row t; afterwards the transform is
folded into the image head (`Condition.fold`), so that the model answers in the untouched space.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lift.errors import CheckpointError, ConfigError, NotFinite
from lift.terms import unit

Kind = Literal["none", "centre", "whiten", "pca"]
Mean = Literal["project", "subtract"]

NAMES = ("condition.mean", "condition.matrix", "condition.gain")
"""Of the tensors that are saved."""

_NULL = 1e-13
"""Smallest variance of an axis that rows of unit length reach: a deviation of 3e-7, which is what
float32 rounds to."""

_NO_MEAN = 1e-9
"""A mean shorter than this is rounding, and its direction is nobody's."""

_TIE = 1e-6
"""Entries this near to the largest tie with it, so that rounding doesn't choose among them."""


@dataclass(frozen=True, kw_only=True)
class ConditionConfig:
    """What is done to the text rows that images are trained against.

    Attributes:
        kind: nothing; the mean taken out and no more (centre); also turned to the axes of largest
            variance (pca); also all axes scaled to one variance (whiten).
        dimensions: axes of pca or whiten that are kept, the largest first; 0 keeps all.
        shrinkage: share of the mean variance in each axis' variance before whitening, so that
            axes of noise are not blown up (Ledoit and Wolf 2004).
        mean: how it is taken out. "project" drops its direction from every row, which is linear:
            the order of images for a text outlives the fold exactly. "subtract" takes it off each
            row, what others do; the fold then is exact only for texts whose component along the
            mean is the usual one.
    """

    kind: Kind = "none"
    dimensions: int = 0
    shrinkage: float = 0.1
    mean: Mean = "project"

    def __post_init__(self) -> None:
        if self.dimensions < 0 or self.dimensions == 1:
            raise ConfigError(
                "condition.dimensions must be at least 2, or 0 for all of them, not "
                f"{self.dimensions}."
            )
        if self.dimensions and self.kind not in ("whiten", "pca"):
            raise ConfigError(
                f"condition.kind={self.kind} keeps every axis, so condition.dimensions="
                f"{self.dimensions} has no meaning: leave it at 0, or take pca or whiten."
            )
        if not 0 <= self.shrinkage <= 1:
            raise ConfigError(f"condition.shrinkage must lie in [0, 1], not {self.shrinkage}.")


class Moments:
    """Count, mean and covariance of rows that come once, block by block.

    Memory is d x d whatever the number of rows. Sums are in float64; rows of unit length lose no
    digits to the difference of sums that a covariance is.
    """

    def __init__(self, dimensions: int) -> None:
        self.count = 0
        self._sum = np.zeros(dimensions)
        self._products = np.zeros((dimensions, dimensions))

    def add(self, rows: Float64[np.ndarray, "n d"]) -> None:
        """Take in some rows."""
        self.count += len(rows)
        self._sum += rows.sum(axis=0)
        self._products += rows.T @ rows

    @property
    def mean(self) -> Float64[np.ndarray, " d"]:
        """The mean row."""
        return self._sum / self.count

    @property
    def covariance(self) -> Float64[np.ndarray, "d d"]:
        """The covariance over the rows, divided by their number."""
        return self._products / self.count - np.outer(self.mean, self.mean)


@dataclass(frozen=True, eq=False)
class Condition:
    """A fitted transform: rows t of unit length become W (t - mu).

    Attributes:
        mean: mu [d].
        matrix: W [k d]. Where the mean is projected out, W mu = 0.
        gain: the slope between cosines of the raw space and of the conditioned one. A temperature
            that was learned there serves here when it is multiplied with this.
    """

    mean: Float[Tensor, " d"]
    matrix: Float[Tensor, "k d"]
    gain: float

    @property
    def width(self) -> int:
        """Numbers `k` of a conditioned row."""
        return len(self.matrix)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Condition:
        """Return the same transform elsewhere, or in another precision."""
        return Condition(self.mean.to(device, dtype), self.matrix.to(device, dtype), self.gain)

    def apply(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Return W (t - mu) of text rows as they are stored; `unit` of that is the new `z_text`.

        Rows are brought to unit length first, as they were for the fit. Never in half precision,
        whatever the towers run in.
        """
        t = unit(rows)
        with torch.autocast(rows.device.type, enabled=False):
            return (t - self.mean.to(t)) @ self.matrix.to(t).T

    def fold(self) -> Float64[Tensor, "d k"]:
        """Return F, with which an image vector g of the conditioned space becomes unit(F g).

        With m = mu / |mu|, F = (I - m m') W'. Training compares g with texts by

            W (t - mu) . g / |W (t - mu)|  =  (t . W'g  -  mu . W'g) / |W (t - mu)|        (1)

        and in the raw space a search computes

            t . F g  =  t . W'g  -  (t . m) (m . W'g).                                     (2)

        Text to image: t is fixed, images vary. The length in (1) belongs to the text alone and
        changes no order. mu . W'g is a constant of each image; a raw vector has no place for a
        constant, but all texts share the mean direction, so taking it out of W'g takes off the
        constant as far as t . m = |mu|. So the order by (2) is that by (1)

        - for every text where W mu = 0: the mean was projected out in the fit, both terms vanish;
        - for a text with t . m = |mu| where it was subtracted. What is left for others is
          (t . m - |mu|) (m . W'g). Without I - m m' it would be all of (t . m) (m . W'g).

        That is a dot product with F g as it is. A bundle returns unit(F g), divided by |F g|, a
        length of each image: where rows of W are orthonormal (centre, pca) and the mean was
        projected out, |F g| = 1 and nothing changes; whitening stretches axes, |F g| varies, and
        the order of images survives only nearly.

        Image to text: the image is fixed, texts vary, and |W (t - mu)| in (1) is not in (2). It
        can't be: it belongs to the text, which stays untouched. For centre it hardly varies, since
        t has unit length; whitened texts differ in length, so zero-shot classification and the
        choice of a caption give other answers than in the conditioned space. This direction has no
        need of I - m m', and where the mean was subtracted it pays for it with the same rest.

        `runs/conditioning.py text` measures all of it on MiniLM rows.
        """
        mean = self.mean.double()
        length = float(mean.norm())
        back = self.matrix.double().T
        if length < _NO_MEAN:
            return back.clone()
        m = mean / length
        return back - torch.outer(m, m @ back)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return what a file of safetensors holds of it."""
        gain = torch.tensor([self.gain], dtype=torch.float64)
        return dict(zip(NAMES, (self.mean, self.matrix, gain), strict=True))

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> Condition:
        """Return what `to_tensors` gave; other tensors beside it are left alone.

        Raises:
            CheckpointError: something is missing, or shapes don't fit each other.
        """
        missing = [name for name in NAMES if name not in tensors]
        if missing:
            raise CheckpointError(
                f"The saved transform of the text space lacks {', '.join(missing)}; copy the "
                "folder again from where it was made."
            )
        mean, matrix, gain = (tensors[name] for name in NAMES)
        if mean.ndim != 1 or matrix.ndim != 2 or matrix.shape[1] != len(mean) or gain.numel() != 1:
            raise CheckpointError(
                f"The saved transform of the text space has a mean of {tuple(mean.shape)} and a "
                f"matrix of {tuple(matrix.shape)}, which don't fit; copy the folder again from "
                "where it was made."
            )
        return Condition(mean, matrix, float(gain))


def fit(
    config: ConditionConfig, blocks: Iterable[Float[np.ndarray, "_ d"]], dimensions: int
) -> Condition:
    """Return the transform of rows that come once, in any blocks and order.

    Where two axes have the same variance to about 1e-10 of the largest, which is first is up to
    rounding; all else is the same for any order.

    Args:
        config: what to fit; not kind="none".
        blocks: distinct rows as they are stored, each block used before the next is asked for.
        dimensions: length of a row.

    Raises:
        ConfigError: more axes asked for than the rows reach, or fewer than two rows.
        NotFinite: NaN, infinity, or a row of zeros.
    """
    assert config.kind != "none", "there is nothing to fit"
    moments = Moments(dimensions)
    for block in blocks:
        moments.add(_unit_rows(block))
    if moments.count < 2:
        raise ConfigError(
            f"A transform of the text space can't be fitted on {moments.count} row(s); embed more "
            "captions, or say condition.kind=none."
        )
    mean, covariance = moments.mean, moments.covariance
    basis = _without(mean) if config.mean == "project" else np.eye(dimensions)
    matrix = basis if config.kind == "centre" else _axes(config, basis, covariance)
    return _condition(mean, matrix, covariance)


def _unit_rows(block: np.ndarray) -> Float64[np.ndarray, "n d"]:
    rows = block.astype(np.float64)
    lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    good = np.isfinite(lengths) & (lengths > 0)
    if not good.all():
        raise NotFinite(
            f"{int((~good).sum())} of {len(rows)} text rows hold NaN, infinity or only zeros, so "
            "the text space can't be conditioned on them; look at the cache with `lift audit`."
        )
    return rows / lengths


def _without(mean: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, "_ d"]:
    """Return orthonormal rows that span all that is orthogonal to the mean.

    They are those of the reflection that turns the mean onto an axis (Householder 1958), without
    that axis: near to the axes there were, and no choice among equals as eigenvectors have it.
    """
    length = np.sqrt(mean @ mean)
    if length < _NO_MEAN:
        return np.eye(len(mean))
    turned = mean / length
    axis = _first_largest(turned)
    turned[axis] += 1.0 if turned[axis] >= 0 else -1.0
    mirror = np.eye(len(mean)) - 2.0 * np.outer(turned, turned) / (turned @ turned)
    return np.delete(mirror, axis, axis=0)


def _axes(
    config: ConditionConfig, basis: Float64[np.ndarray, "b d"], covariance: np.ndarray
) -> Float64[np.ndarray, "k d"]:
    """Return the axes of largest variance within a basis, scaled for whitening."""
    values, vectors = np.linalg.eigh(basis @ covariance @ basis.T)
    values, vectors = values[::-1], vectors[:, ::-1]
    reached = int((values > _NULL).sum())
    if max(config.dimensions, 2) > reached:
        raise ConfigError(
            f"The rows of the cache reach {reached} axes, and condition.dimensions="
            f"{config.dimensions} asks for more; embed more captions, or ask for fewer."
        )
    kept = config.dimensions or reached
    axes = vectors[:, :kept].T @ basis
    for axis in axes:  # either sign is an eigenvector: the largest entry shall be positive
        axis *= 1.0 if axis[_first_largest(axis)] > 0 else -1.0
    if config.kind == "pca":
        return axes
    share = config.shrinkage
    shrunk = (1.0 - share) * values[:kept] + share * values.mean()
    return axes / np.sqrt(shrunk)[:, None]


def _first_largest(values: Float64[np.ndarray, " d"]) -> int:
    sizes = np.abs(values)
    return int(np.argmax(sizes >= sizes.max() * (1.0 - _TIE)))


def _condition(mean: np.ndarray, matrix: np.ndarray, covariance: np.ndarray) -> Condition:
    """Return the transform with its gain: mean length of F g over that of W (t - mu), both as
    root of the mean square, for images spread like the texts."""
    found = Condition(torch.from_numpy(mean), torch.from_numpy(np.ascontiguousarray(matrix)), 1.0)
    fold = found.fold().numpy()
    conditioned = matrix @ covariance @ matrix.T
    power = float(np.trace(conditioned))
    gain = math.sqrt(float(np.sum((fold @ conditioned) * fold))) / power
    return Condition(found.mean, found.matrix, gain)
