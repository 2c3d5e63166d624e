"""What keeps images near to where another model puts them: the run's own start, or a teacher.

Tuning a tower that knew something makes it forget: LLM2CLIP's falls from 74.5 to 56.4 on ImageNet.
ProCLIP (arXiv 2510.18795) holds it by two terms, named here as there, and ends at 67.8.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lift.errors import ConfigError, unknown
from lift.model import Side
from lift.ranks import Ranks
from lift.terms import unit

What = Literal["tower", "vector"]

_CELLS = 1 << 20
"""Numbers of a piece of the images x references of a step."""


@dataclass(frozen=True, kw_only=True)
class AnchorConfig:
    """How an image side is held while it is trained; with both weights 0, not at all.

    Attributes:
        instance: weight of the mean over images of 1 - cos(a, r), where a is the image's vector
            now and r its reference.
        structure: weight of the mean Kullback-Leibler divergence, in nats, of how near an image is
            to the references of the step's other images: from softmax_j(r . r_j / temperature) to
            softmax_j(a . r_j / temperature).
        temperature: what cosines are divided by there.
        of: what is compared: what the "tower" gives, scaled to unit length, or the "vector" in the
            shared space.
        cache: folder of a teacher's stored features, best of many random views (`lift embed
            --images --views 8`); empty for the run's own start, which is computed beside the model.
        model: the teacher, whose head those features go through where of=vector.
    """

    instance: float = 0.0
    structure: float = 0.0
    temperature: float = 0.1
    of: What = "tower"
    cache: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        for name in ("instance", "structure"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ConfigError(f"anchor.{name} is a weight of 0 or more, not {value}.")
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"anchor.temperature must be above 0, not {self.temperature}.")
        if self.of not in get_args(What):
            raise unknown("anchor.of", self.of, get_args(What))
        if bool(self.model) != bool(self.cache and self.of == "vector"):
            raise ConfigError(
                "A teacher's stored features become vectors of the shared space by its head: "
                "anchor.model (the teacher), anchor.cache (its features) and anchor.of=vector come "
                "together."
            )
        if self.cache and not self.pulls:
            raise ConfigError(
                f"anchor.cache={self.cache} pulls nothing: give anchor.instance or "
                "anchor.structure a weight, or leave it out."
            )

    @property
    def pulls(self) -> bool:
        """Whether it has a part in the loss."""
        return self.instance > 0 or self.structure > 0


class Start:
    """The image side as it was at the start of a run, at rest: nothing is dropped or learned."""

    def __init__(self, side: Side, config: AnchorConfig) -> None:
        """Copy the side, in the memory that its tower (and head) takes.

        Args:
            side: before the first step; a resumed run makes it anew before it loads its state.
            config: what is compared.
        """
        head = side.head if config.of == "vector" else None
        self._side = copy.deepcopy(Side(side.tower, head)).eval().requires_grad_(False)

    @torch.no_grad()
    def rows(self, images: Tensor, tiles: int = 1) -> Float[Tensor, "b d"]:
        """Return the references of images, of unit length; arguments as in `Side.forward`."""
        return self._side(images, tiles)


@dataclass(frozen=True, slots=True)
class References:
    """Where images of a step shall be.

    Attributes:
        rows: of unit length, one an image: of all images of the step for the structure term, else
            of the own ones.
        known: which of them there are; the rest take no part.
        count: how many images of the whole step have one.
        first: the place in `rows` of the first own image.
    """

    rows: Float[Tensor, "n d"]
    known: Bool[Tensor, " n"]
    count: Float[Tensor, ""]
    first: int = 0

    @staticmethod
    def gather(
        own: Float[Tensor, "b d"],
        known: Bool[Tensor, " b"] | None,
        ranks: Ranks,
        config: AnchorConfig,
    ) -> References:
        """Return the references of a step; every rank calls it at the same step.

        Args:
            own: of the own images, batch by batch, of any length; they carry no gradient.
            known: which of them there are; None for all. What stands in the others is not read.
            ranks: who takes part.
            config: the structure term needs the rows of all ranks, the other one a count.
        """
        rows = unit(own.detach())
        if known is None:
            known = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        rows = torch.where(known[:, None], rows, 0.0)
        first = 0
        if config.structure and ranks.size > 1:
            sizes = ranks.sizes(rows)
            first = sum(sizes[: ranks.worker.rank])
            rows = ranks.gather(rows, sizes)
            known = ranks.gather(known.to(torch.int64), sizes) > 0
            count = known.sum().to(rows.dtype)
        else:
            count = ranks.sum(known.sum().to(rows.dtype)[None])[0]
        return References(rows, known, count, first)

    def after(self, images: int) -> References:
        """Return the same for what follows so many own images: the next batch."""
        return replace(self, first=self.first + images)


def anchor_loss(
    a: Float[Tensor, "b d"], references: References, config: AnchorConfig
) -> Float[Tensor, ""]:
    """Return the own part of both terms, each times its weight.

    Parts add up to the step's, over ranks and batches, and so do gradients, as in
    `lift.candidates.Objective`: the mean is over all images of the step that have a reference.

    Instance: 1 - cos is half of ProCLIP's squared distance, which adds up over images where this
    is a mean. Structure: ProCLIP compares the distances between images of one process, each of
    them moving; here the others stand still at their references. So an image's part needs no
    other image's gradient, a step in parts is exact, and ranks tell each other references only. An
    image is not compared with its own reference there: that is what the first term does.

    Args:
        a: vectors of own images, of any length: of the tower, or in the shared space.
        references: those of the step; `references.first` says where the own ones stand.
        config: weights and temperature.

    Raises:
        ConfigError: references of another width.
    """
    if a.shape[1] != references.rows.shape[1]:
        where = "what the tower gives" if config.of == "tower" else "the shared space"
        raise ConfigError(
            f"The anchor's references have {references.rows.shape[1]} numbers, {where} has "
            f"{a.shape[1]}; compare in a space that both have (anchor.of=vector), or take "
            "references of that width."
        )
    with torch.autocast(a.device.type, enabled=False):
        z = unit(a)
        rows = references.rows.to(z.dtype)
        own = slice(references.first, references.first + len(z))
        known = references.known[own]
        share = 1.0 / references.count.to(z.dtype).clamp(min=1)
        total = z.new_zeros(())
        if config.instance:
            far = 1.0 - (z * rows[own]).sum(1)
            total = total + config.instance * share * torch.where(known, far, 0.0).sum()
        if config.structure:
            sloped = torch.is_grad_enabled() and z.requires_grad
            part = _Structure.apply(z, rows, references, config.temperature, sloped)
            assert isinstance(part, Tensor)
            total = total + config.structure * share * part
        return total


class _Structure(torch.autograd.Function):
    """The sum of divergences; its gradient is found with it, piece by piece, so none is kept."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, rows: Tensor, references: References, heat: float, sloped: bool
    ) -> Any:
        loss, slope = z.new_zeros(()), torch.zeros_like(z) if sloped else None
        size = max(1, _CELLS // max(len(rows), 1))
        known, others = references.known, references.count > 1
        for start in range(0, len(z), size):
            piece = slice(start, min(start + size, len(z)))
            own = torch.arange(piece.start, piece.stop, device=z.device) + references.first
            left = ~known.expand(len(own), -1)
            left[torch.arange(len(own), device=z.device), own] = True
            counted = (known[own] & others)[:, None]
            goal = _logs(rows[own], rows, left, heat)
            found = _logs(z[piece], rows, left, heat)
            share = torch.where(counted, goal.exp(), 0.0)
            # Where nothing is counted all logits are -inf and their softmax is no number.
            loss += torch.where(share > 0, share * (goal - found), 0.0).sum()
            if slope is not None:
                wrong = torch.where(counted, found.exp(), 0.0) - share
                slope[piece] = wrong @ rows / heat
        if slope is not None:
            ctx.save_for_backward(slope)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *factors: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,) = ctx.saved_tensors
        return slope * factors[0], None, None, None, None


def _logs(
    z: Float[Tensor, "r d"], rows: Float[Tensor, "n d"], left: Bool[Tensor, "r n"], heat: float
) -> Float[Tensor, "r n"]:
    """Return the logarithms of how near vectors are to references, but those that are left out."""
    return ((z @ rows.T) / heat).masked_fill_(left, -math.inf).log_softmax(1)
