"""An image's nearness to a text as a number with gradients: for guidance, and as a reward."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lift.bundle import Bundle
from lift.errors import ConfigError
from lift.merging import Calibration
from lift.scoring.resizing import prepared
from lift.terms import unit
from lift.world import Precision, autocast

LEAST_SPREAD = 1e-4
"""Cosines with reference texts that vary less than this say nothing; it is divided by instead."""

TextsLike = str | Sequence[str] | Tensor
"""A text, several, or their vectors."""


class Scorer:
    """How near images are to texts, by a model that stands still.

        scorer = Scorer(lift.load("run"))
        loss = 1 - scorer.score(pixels, "a red scarf")    # gradient goes to the pixels

    Nothing of the model is trained, changed or put into another mode: the scorer has modules of
    its own on the same weights, and none of those ever gets a gradient. What is not asked here
    (`encode_images`, `similarity`) stays with the model.

    Attributes:
        model: as given.
        precision: what the tower computes in.
        batch_size: images that go through the tower together.
    """

    def __init__(
        self,
        model: Bundle,
        *,
        precision: Precision | None = None,
        batch_size: int = 64,
        rounded: bool = False,
        recompute: bool = False,
    ) -> None:
        """Take a model.

        Args:
            model: any bundle.
            precision: None: the model's own; float64 takes a copy of the weights.
            batch_size: see above.
            rounded: whether resized pixels are rounded to 255ths, as those of files are; the
                gradient is that of no rounding.
            recompute: whether to compute each batch a second time for the gradient instead of
                keeping what it needs: memory for one batch, time for four thirds.

        Raises:
            ConfigError: a batch of none.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {batch_size}.")
        self.model = model
        self.precision: Precision = precision or model.precision
        self.batch_size = batch_size
        self._rounded, self._recompute = rounded, recompute
        self._side = _frozen(model.side, double=self.precision == "float64")
        self._dtype = torch.float64 if self.precision == "float64" else torch.float32

    def z_images(self, pixels: Tensor) -> Float[Tensor, "b d"]:
        """Return a unit-length row an image, with the gradient to its pixels.

        Args:
            pixels: floats [b 3 h w], RGB in [0, 1], upright, of any size; they are cut and resized
                as the model's own images are.

        Raises:
            ConfigError: what is no batch of such images.
        """
        if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
            raise ConfigError(
                f"Pixels are floats from 0 to 1 of shape b x 3 x h x w, not {pixels.dtype} of "
                f"shape {tuple(pixels.shape)}; divide whole numbers by 255."
            )
        if not pixels.shape[2] or not pixels.shape[3]:
            raise ConfigError(f"Images of {pixels.shape[3]} x {pixels.shape[2]} pixels show none.")
        if not len(pixels):
            return pixels.new_zeros((0, self.model.dimensions))
        rows = []
        for chunk in pixels.to(self.model.device).split(self.batch_size):
            if self._recompute and torch.is_grad_enabled() and chunk.requires_grad:
                rows.append(
                    checkpoint(self._rows, chunk, use_reentrant=False, preserve_rng_state=False)
                )
            else:
                rows.append(self._rows(chunk))
        return torch.cat(rows)

    def _rows(self, pixels: Tensor) -> Tensor:
        seen = prepared(self.model.transform, pixels.to(self._dtype), rounded=self._rounded)
        with autocast(self.model.device, self.precision):
            return self._side(seen)

    def z_texts(self, texts: TextsLike) -> Float[Tensor, "n d"]:
        """Return unit-length rows of texts, from the model's text encoder and without gradient.

        Rows that are given are made unit length, and their gradient stays.

        Raises:
            ConfigError: rows of another width.
            MissingPackage: the text encoder is not installed.
        """
        if isinstance(texts, Tensor):
            rows = texts[None] if texts.ndim == 1 else texts
            if rows.ndim != 2 or rows.shape[1] != self.model.dimensions:
                raise ConfigError(
                    f"Vectors of texts are n x {self.model.dimensions}, not {tuple(texts.shape)}."
                )
            return unit(rows.to(self.model.device, self._dtype))
        rows = torch.from_numpy(self.model.encode_texts(texts))
        return rows.to(self.model.device, self._dtype)

    def score(
        self,
        pixels: Tensor,
        texts: TextsLike,
        *,
        pairs: bool = True,
        reference: TextsLike | None = None,
        calibration: Calibration | None = None,
    ) -> Float[Tensor, "b ..."]:
        """Return how near each image is to its text, with the gradient to the pixels.

        Args:
            pixels: as in `z_images`.
            texts: one an image, or one for all; texts, or their vectors.
            pairs: False: every image with every text [b n].
            reference: two texts or more that could be said of any image. Then a score is in
                standard deviations above the image's mean cosine with these: an image that is near
                to whatever is said (a hub) gains nothing by it.
            calibration: from cosines to the log odds that the text is right
                (`lift.merging.calibrate`).

        Raises:
            ConfigError: texts that don't pair with the images, a single reference text, or both
                ways to put a score on a scale.
        """
        z = self.z_images(pixels)
        return self._scaled(z, similarity(z, self.z_texts(texts), pairs), reference, calibration)

    def reward(
        self,
        pixels: Tensor,
        texts: TextsLike,
        *,
        pairs: bool = True,
        reference: TextsLike | None = None,
        calibration: Calibration | None = None,
    ) -> Float32[Tensor, "b ..."]:
        """Return the same numbers without gradient, as float32 on the CPU; see `score`."""
        with torch.no_grad():
            scores = self.score(
                pixels, texts, pairs=pairs, reference=reference, calibration=calibration
            )
        return scores.float().cpu()

    def _scaled(
        self,
        z: Tensor,
        cosines: Tensor,
        reference: TextsLike | None,
        calibration: Calibration | None,
    ) -> Tensor:
        if calibration is not None:
            if reference is not None:
                raise ConfigError("A score is scaled by a reference or a calibration, not by both.")
            return calibration.slope * cosines + calibration.offset
        if reference is None:
            return cosines
        others = z @ self.z_texts(reference).T
        if others.shape[1] < 2:
            raise ConfigError("A reference has two texts or more.")
        middle, spread = others.mean(dim=1), others.std(dim=1).clamp_min(LEAST_SPREAD)
        shape = (-1, *(1,) * (cosines.ndim - 1))
        return (cosines - middle.view(shape)) / spread.view(shape)


def similarity(
    z: Float[Tensor, "b d"], z_text: Float[Tensor, "n d"], pairs: bool = True
) -> Float[Tensor, "b ..."]:
    """Return the cosine of images and texts of unit length, with the gradient to both.

    Args:
        z, z_text: rows of one space.
        pairs: row by row (one text may stand for all); False: each image with each text [b n].

    Raises:
        ConfigError: other numbers of rows.
    """
    if not pairs:
        return z @ z_text.T
    if len(z_text) not in (1, len(z)):
        raise ConfigError(
            f"{len(z_text)} texts don't pair with {len(z)} images; give one each, or pairs=False."
        )
    return (z * z_text).sum(dim=1)


def _frozen(side: nn.Module, double: bool) -> nn.Module:
    """Return a module at rest on the same weights, which has nothing to train."""
    shared: dict[int, Tensor] = {}
    if not double:
        for parameter in side.parameters():
            shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
        shared.update((id(buffer), buffer) for buffer in side.buffers())
    own = copy.deepcopy(side, shared)
    return (own.double() if double else own).eval().requires_grad_(False)
