"""Every pair judged on its own by a sigmoid with learned scale and bias (SigLIP's loss)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lift.candidates import Candidates
from lift.errors import ConfigError
from lift.objectives._targets import check_ignore_above
from lift.objectives._tiles import Grid, exactly


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the sigmoid objective.

    Attributes:
        init_scale: what the cosines are multiplied by at the start.
        init_bias: what is added to them; near -ln(batch) the first steps are calm, and SigLIP
            takes -10 for large batches.
        max_scale: the most that the scale may become.
        share_equal: captions that are equal are right for each other's images.
        ignore_above: text-text cosine above which another image's caption is left out of the sum
            instead of being pushed away; None leaves none out.
    """

    init_scale: float = 10.0
    init_bias: float = -10.0
    max_scale: float = 100.0
    share_equal: bool = True
    ignore_above: float | None = None


class Sigmoid(nn.Module):
    """-sum(log sigmoid(label (scale cos + bias))) / b over all pairs (Zhai et al. 2023, eq. 1).

    `label` is 1 where a caption is right for an image, else -1; a pair with a weight below 1 is
    judged both ways, in that proportion. `b` is the number of images of the step. Extra texts are
    wrong for every image that does not own them.

    A pair needs no other one, so nothing is told between ranks and no logits are kept: they are
    made in tiles, each of which gives its part of the gradient at once. Both parameters are 0-d,
    so the optimiser does not decay them.
    """

    splits = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.init_scale)))
        self.bias = nn.Parameter(torch.tensor(config.init_bias))

    def forward(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> Float[Tensor, ""]:
        """Return the own part of the loss in nats an image; the rest as in `terms.Objective`.

        Weights above 1 count as 1.
        """
        numbers = [p.to(z_image.dtype) for p in (self.log_scale, self.bias)]
        sloped = [x.requires_grad for x in (z_image, texts.z, *numbers)]
        with exactly(z_image.device):
            step = _Step(self.config, z_image, texts, torch.is_grad_enabled() and any(sloped))
            loss = _Loss.apply(z_image, texts.z, *numbers, step)
        assert isinstance(loss, Tensor)
        return loss

    @torch.no_grad()
    def by_image(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> Float[Tensor, " b"]:
        """Return the sum over each image's pairs; their mean over a step is the loss."""
        numbers = [p.to(z_image.dtype) for p in (self.log_scale, self.bias)]
        with exactly(z_image.device):
            found = _Step(self.config, z_image, texts, False).find(z_image, *numbers)
        return found.by_image

    @torch.no_grad()
    def constrain(self) -> None:
        """Clamp the log scale to [0, ln max_scale]; the bias is free."""
        self.log_scale.clamp_(0.0, math.log(self.config.max_scale))

    def scalars(self) -> dict[str, float]:
        """Return `scale` and `bias`, the numbers in scale * cosine + bias."""
        return {"scale": math.exp(self.log_scale.item()), "bias": self.bias.item()}


class _Found(NamedTuple):
    """What a pass finds: each image's sum, and gradients of the part where they are asked for."""

    by_image: Tensor
    image: Tensor | None = None
    text: Tensor | None = None
    log_scale: Tensor | None = None
    bias: Tensor | None = None


class _Step:
    """The loss of one step, and its gradients, in one pass over the tiles."""

    def __init__(
        self, config: Config, z_image: Float[Tensor, "b d"], texts: Candidates, sloped: bool
    ) -> None:
        self.images = max(texts.images, 1)
        self._sloped, self._text_sloped = sloped, sloped and texts.z.requires_grad
        self._grid = Grid(
            texts,
            len(z_image),
            z_image.dtype,
            share_equal=config.share_equal,
            ignore_above=config.ignore_above,
            most=1.0,
        )

    def find(self, z_image: Tensor, log_scale: Tensor, bias: Tensor) -> _Found:
        """Go over all tiles: loss by image, and the gradients of their sum over b."""
        scale, grid = log_scale.exp(), self._grid
        by_image = z_image.new_zeros(len(z_image))
        image = torch.zeros_like(z_image) if self._sloped else None
        text = torch.zeros_like(grid.z) if self._text_sloped else None
        by_bias = torch.zeros_like(bias)
        ones = z_image.new_ones(grid.images)
        for tiles, own in ((grid.tiles(), True), (grid.extra_tiles(), False)):
            for tile in tiles:
                logits = (z_image[tile.images] @ tile.z.T).mul_(scale).add_(bias)
                # log(1 + exp(x)) for what is wrong; for what is right, x less.
                pairs = nn.functional.softplus(logits)
                right = tile.right.sums(logits)[0]
                if tile.dropped is not None:
                    pairs.masked_fill_(tile.dropped, 0.0)
                by_image[tile.images] += pairs.sum(1) - right
                if image is None:
                    continue
                slopes = logits.sigmoid_()
                if tile.dropped is not None:
                    slopes.masked_fill_(tile.dropped, 0.0)
                tile.right.subtract_from(slopes, ones[tile.images], None)
                by_bias += slopes.sum()
                image[tile.images].addmm_(slopes, tile.z)
                if text is not None and own:
                    text[tile.texts].addmm_(slopes.T, z_image[tile.images])
        if image is None:
            return _Found(by_image)
        factor = scale / self.images
        image.mul_(factor)
        # The sum of slope x scale x cosine over all pairs, without another look at them.
        by_scale = torch.zeros_like(bias)
        for rows in grid.rows:
            by_scale += (image[rows] * z_image[rows]).sum()
        text = None if text is None else text.mul_(factor)
        return _Found(by_image, image, text, by_scale, by_bias / self.images)


class _Loss(torch.autograd.Function):
    """The own part of the loss, which brings its gradients along.

    What is kept for the gradient is as large as the image vectors. It is handed over and not
    copied; whoever asks for the gradient a second time has it computed again.
    """

    @staticmethod
    def forward(
        ctx: Any, z_image: Tensor, z_text: Tensor, log_scale: Tensor, bias: Tensor, step: _Step
    ) -> Any:
        by_image, *ctx.found = step.find(z_image, log_scale, bias)
        ctx.step = step
        ctx.save_for_backward(z_image, log_scale, bias)
        return by_image.sum() / step.images

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *factors: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        found, ctx.found = ctx.found, None
        if found is None:
            z_image, log_scale, bias = ctx.saved_tensors
            with exactly(z_image.device):
                _, *found = ctx.step.find(z_image, log_scale, bias)
        return *(None if slope is None else slope.mul_(factors[0]) for slope in found), None


def build(config: Config) -> Sigmoid:
    """Return the objective.

    Raises:
        ConfigError: a scale or cosine that can't be one.
    """
    if not 1.0 <= config.init_scale <= config.max_scale:
        raise ConfigError(
            f"sigmoid.init_scale must lie in [1, max_scale] = [1, {config.max_scale:g}], "
            f"not {config.init_scale}."
        )
    check_ignore_above(config.ignore_above, "sigmoid")
    return Sigmoid(config)
