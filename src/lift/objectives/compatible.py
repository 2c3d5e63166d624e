"""An objective that also keeps image-text cosines near text-text cosines: one index for both.

Contrast alone only ranks. Nothing keeps its images as near to their captions as other captions are,
so that in an index of images and texts they come far behind (fastembed #129: 0.098 at best).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lift import plugins
from lift.candidates import Candidates
from lift.config import Part, part_field
from lift.errors import ConfigError
from lift.objectives._targets import own_texts
from lift.objectives._tiles import Grid, Tile, exactly, spans

_ROOM = "objectives"
_ROWS = 1024
"""Captions in a piece."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the compatible objective.

    Attributes:
        of: the objective that ranks.
        weight: what the terms below count beside it. The more, the more images come up among texts
            and the less well they are told apart.
        positives: pull the cosines of an image with its own captions to `target`.
        everyone: pull its cosines with all other texts to those that its captions have.
        target: the cosine that captions of one image have among each other; None finds it in each
            step, among the images that have several (1 where none has).
    """

    of: Part = part_field(_ROOM, "softmax")
    weight: float = 10.0
    positives: bool = True
    everyone: bool = True
    target: float | None = None


class Compatible(nn.Module):
    """Another objective plus `weight` times the squared distance of cosines from those of texts.

    Image i has the own captions t_k, with weights w_k that add up to 1, and m_i = sum w_k t_k:
    m_i . t_j is the mean cosine of its captions with text j. Both terms are means over the step's
    images that have captions:

    - everyone: the mean over texts j that are not right for i of (z_i . t_j - m_i . t_j)^2;
    - positives: the mean over own captions, by weight, of (z_i . t_k - target)^2. There m_i . t_k
      would be no goal: it holds the cosine of a caption with itself.

    So an image stands where its captions stand, and near them as far as they are from each other.
    Extra texts count as others that are not right. No gradient goes through m_i or the target.

    The found target is, as all texts of a step are known to every rank, the same on all of them:
    the mean over images with several different captions of the mean cosine of two. Nothing but
    vectors is kept for the gradient, and what belongs to pairs is made twice, in tiles.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.of: Any = plugins.build(config.of)
        self.splits: bool = self.of.splits

    def forward(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> Float[Tensor, ""]:
        """Return the own part of the loss; the rest as in `lift.candidates.Objective`."""
        ranked = self.of(z_image, texts)
        with exactly(z_image.device):
            step = _Step(self.config, z_image, texts)
            near = _Loss.apply(z_image, texts.z, step)
        assert isinstance(near, Tensor)
        return ranked + near

    @torch.no_grad()
    def by_image(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> Float[Tensor, " b"]:
        """Return what the inner objective says, plus each image's own terms times `weight`."""
        ranked = self.of.by_image(z_image, texts)
        with exactly(z_image.device):
            step = _Step(self.config, z_image, texts)
            return ranked + self.config.weight * step.find(z_image)

    def constrain(self) -> None:
        """Do as the inner objective does."""
        self.of.constrain()

    def scalars(self) -> dict[str, float]:
        """Return the inner objective's numbers."""
        return self.of.scalars()


class _Step:
    """Both terms of one step's own images, in two passes over the same tiles."""

    def __init__(self, config: Config, z_image: Float[Tensor, "b d"], texts: Candidates) -> None:
        self.config, self.texts = config, texts
        self.grid = Grid(
            texts,
            len(z_image),
            z_image.dtype,
            share_equal=texts.row is not None,
            ignore_above=None,
        )
        # A caption's share of its own image's, whoever else has an equal one.
        given = texts.weight
        weight = torch.ones_like(self.grid.z[:, 0]) if given is None else given.to(z_image.dtype)
        sums = weight.new_zeros(texts.images).index_add_(0, texts.owner, weight)
        self.sums = sums[texts.first : texts.first + len(z_image)]
        self.images = (sums > 0).sum().to(z_image.dtype).clamp(min=1)
        self.own = own_texts(texts, len(z_image)).nonzero()[:, 0]
        owner = texts.owner[self.own]
        self.owner = owner - texts.first
        self.share = weight[self.own] / _not_0(sums[owner])
        self.target = self._target(weight) if config.positives else weight.new_zeros(())
        self.others: Tensor | None = None

    def _target(self, weight: Float[Tensor, " c"]) -> Float[Tensor, ""]:
        """Return the cosine that own captions shall have: as given, or as found."""
        if self.config.target is not None:
            return torch.full_like(weight.sum(), self.config.target)
        return _agreement(self.texts, self.grid.z, weight)

    def find(self, z_image: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """Go over all pairs once; return each own image's terms, and note its number of others."""
        found = torch.zeros_like(z_image[:, 0])
        if self.config.everyone:
            self.others = torch.zeros_like(found)
            for tile in self._tiles():
                apart, right = self._apart(z_image, tile)
                found[tile.images] += apart.square_().sum(1)
                self.others[tile.images] += (~right).sum(1).to(found.dtype)
            taught = (self.sums > 0) & (self.others > 0)
            found = torch.where(taught, found / _not_0(self.others), 0.0)
        if self.config.positives:
            for piece, far in self._far(z_image):
                found.index_add_(0, self.owner[piece], far.square() * self.share[piece])
        return found

    def gradients(
        self, z_image: Float[Tensor, "b d"], of_text: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Go over all pairs again; return the gradients of the part by images and by texts."""
        factor = 2 * self.config.weight / self.images
        image = torch.zeros_like(z_image)
        text = torch.zeros_like(self.grid.z) if of_text else None
        if self.others is not None:
            counts = torch.where(self.sums > 0, factor / _not_0(self.others), 0.0)
            step = len(self.grid.columns) * len(self.grid.rows)
            for number, tile in enumerate(self._tiles()):
                slopes = self._apart(z_image, tile)[0].mul_(counts[tile.images, None])
                image[tile.images].addmm_(slopes, tile.z)
                if text is not None and number < step:  # extra texts come last, and stand still
                    text[tile.texts].addmm_(slopes.T, z_image[tile.images])
        if self.config.positives:
            for piece, far in self._far(z_image):
                slopes = (far * self.share[piece] * factor)[:, None]
                image.index_add_(0, self.owner[piece], slopes * self.grid.z[self.own[piece]])
                if text is not None:
                    text[self.own[piece]] += slopes * z_image[self.owner[piece]]
        return image, text

    def _tiles(self) -> Iterator[Tile]:
        return itertools.chain(self.grid.tiles(), self.grid.extra_tiles())

    def _apart(self, z_image: Tensor, tile: Tile) -> tuple[Tensor, Tensor]:
        """Return by how much cosines of a tile differ from captions', 0 in right pairs; and those.

        Pairs of images without captions are as far apart as they are: nobody counts them.
        """
        mean = self.grid.summed(tile.images) / _not_0(self.sums[tile.images, None])
        apart = (z_image[tile.images] - mean) @ tile.z.T
        right = tile.right.dense() > 0
        if tile.dropped is not None:
            right = right | tile.dropped
        return apart.masked_fill_(right, 0.0), right

    def _far(self, z_image: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield pieces of the own captions, with their cosines less the target."""
        for piece in spans(0, len(self.own), _ROWS):
            z = self.grid.z[self.own[piece]]
            yield piece, (z_image[self.owner[piece]] * z).sum(1) - self.target


def _agreement(
    texts: Candidates, z: Float[Tensor, "c d"], weight: Float[Tensor, " c"]
) -> Float[Tensor, ""]:
    """Return the mean, over images with several different captions, of the mean cosine of two.

    Captions with a weight of 0 don't count. It is 1 where no image has several.
    """
    row = torch.arange(len(z), device=z.device) if texts.row is None else texts.row
    row = torch.unique(row, return_inverse=True)[1]
    place = torch.arange(len(row), device=z.device)
    first = torch.full_like(row, len(row)).scatter_reduce_(0, row, place, "amin")
    counted = weight > 0
    pair = torch.unique(texts.owner[counted] * max(len(row), 1) + row[counted])
    image, text = pair // max(len(row), 1), first[pair % max(len(row), 1)]
    # The cosines of all pairs of an image's captions are |sum t|^2 - sum |t|^2: no pair is made.
    # Images in pieces: their sums are as large as the vectors of a step.
    edges = torch.arange(0, texts.images + _ROWS, _ROWS, device=z.device)
    total, several = z.new_zeros(()), z.new_zeros(())
    for start, (low, high) in zip(
        range(0, texts.images, _ROWS),
        itertools.pairwise(torch.searchsorted(image, edges).tolist()),
        strict=False,
    ):
        own = z[text[low:high]]
        here = image[low:high] - start
        sums = z.new_zeros(min(_ROWS, texts.images - start), z.shape[1]).index_add_(0, here, own)
        alone, number = (z.new_zeros(len(sums)) for _ in range(2))
        alone.index_add_(0, here, own.square().sum(1))
        number.index_add_(0, here, torch.ones_like(own[:, 0]))
        pairs = number * (number - 1)
        total += torch.where(pairs > 0, (sums.square().sum(1) - alone) / _not_0(pairs), 0.0).sum()
        several += (pairs > 0).sum()
    return torch.where(several > 0, total / _not_0(several), 1.0)


def _not_0(x: Tensor) -> Tensor:
    """Return what may divide, where 0 stands for nothing to divide."""
    return torch.where(x > 0, x, 1.0)


class _Loss(torch.autograd.Function):
    """The own part of both terms; what is kept for the gradient are the vectors."""

    @staticmethod
    def forward(ctx: Any, z_image: Tensor, z_text: Tensor, step: _Step) -> Any:
        ctx.step = step
        ctx.save_for_backward(z_image)
        return step.config.weight * step.find(z_image).sum() / step.images

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *factors: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (z_image,) = ctx.saved_tensors
        with exactly(z_image.device):
            found = ctx.step.gradients(z_image, ctx.needs_input_grad[1])
        image, text = (None if g is None else g.mul_(factors[0]) for g in found)
        return image, text, None


def build(config: Config) -> Compatible:
    """Return the objective.

    Raises:
        ConfigError: a weight, target or inner objective that can't be one, or no term to weigh.
    """
    if not 0 < config.weight < math.inf:
        raise ConfigError(f"compatible.weight must be above 0, not {config.weight}.")
    if not (config.positives or config.everyone):
        raise ConfigError(
            "compatible has two terms, and both are off: set compatible.positives or "
            f"compatible.everyone, or take objective={config.of.name}."
        )
    if config.target is not None and not -1 <= config.target <= 1:
        raise ConfigError(f"compatible.target is a cosine in [-1, 1], not {config.target}.")
    if config.of.room != _ROOM or config.of.name == "compatible":
        raise ConfigError(f"compatible.of={config.of.name} is not an objective that ranks.")
    return Compatible(config)
