"""One optimiser step, readable aloud: batches in, weights moved, facts out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lift.errors import NotFinite
from lift.model import TwoSided
from lift.terms import Batch
from lift.training.gathered import gather
from lift.training.passes import Means, Passes

Compile = Literal["off", "block", "side"]


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did, over all ranks.

    Attributes:
        loss: of the step.
        grad_norm: global norm before clipping.
        images: how many were in the step.
        by_source: mean loss of the images of each source, where it was asked for.
        wish: whether any rank wants to stop.
    """

    loss: float
    grad_norm: float
    images: int
    by_source: Mapping[int, float] = field(default_factory=dict)
    wish: bool = False


class Stepper:
    """Takes optimiser steps of a model; ranks that share a step take it together.

    All images of a step are compared with all its texts, whichever rank or batch they are in. What
    towers drop at random is drawn by (seed, step, rank), so a step needs no memory of others.
    """

    def __init__(
        self,
        means: Means,
        optimizer: torch.optim.Optimizer,
        *,
        clip_norm: float | None = None,
        compiled: Compile = "off",
    ) -> None:
        """Make the model ready to be trained by all ranks.

        Args:
            means: what steps work with.
            optimizer: of the model's parameters.
            clip_norm: largest global norm of the gradient; None clips nothing.
            compiled: see `RunConfig.compile`.
        """
        self.means, self.optimizer = means, optimizer
        self._clip_norm = clip_norm
        model, ranks, device = means.model, means.ranks, means.device
        if compiled != "off":
            _compile(model, compiled)
        self._whole: nn.Module = _Doing(model)
        if ranks.size > 1:
            with ranks.telling():
                self._whole = DistributedDataParallel(
                    self._whole,
                    device_ids=[device] if device.type == "cuda" else None,
                    gradient_as_bucket_view=True,
                )
        self._laid_out = ranks.size == 1

    def close(self) -> None:
        """Let go of what speaks to other ranks, before their group is dissolved."""
        self._whole = nn.Identity()

    def take(
        self,
        batches: Sequence[Batch],
        step: int,
        *,
        tiles: int = 1,
        sources: int = 0,
        wish: bool = False,
    ) -> StepReport:
        """Move the weights once, by the gradient of the step's loss.

        Args:
            batches: the own ones, as the loader made them.
            step: its number; it decides what towers drop.
            tiles: make mosaics of so many tiles a side.
            sources: also find the loss of each of so many sources' images; 0 for no.
            wish: whether this rank wants to stop after the step; the report says so to all.

        Raises:
            NotFinite: loss or gradient is NaN or infinite; the weights have not moved.
            DataError: no image on any rank.
            RankLost: another rank ended.
        """
        here = [batch.to(self.means.device, non_blocking=True) for batch in batches]
        told = gather(
            here,
            self.means.ranks,
            stored=self.means.model.text.is_stored,
            own_rows=self.means.bank is not None,
            wish=wish,
        )
        passes = Passes(self.means, here, told, step, tiles, sources > 0)
        if not self._laid_out:
            # DistributedDataParallel orders its buckets by its first backward pass, and sums of
            # three ranks round by the place in a bucket: without a pass that is thrown away, a
            # resumed run would differ in the last bit from one that was never stopped.
            self._backward(passes.plainly())
            self._laid_out = True
        self._backward(passes)
        return self._move(batches, passes, sources)

    def _backward(self, passes: Passes) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with self.means.ranks.telling():
            passes.run(self._whole)

    def _move(self, batches: Sequence[Batch], passes: Passes, sources: int) -> StepReport:
        parameters = [p for p in self.means.model.parameters() if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, self._clip_norm or math.inf)
        ranks = self.means.ranks
        loss = torch.stack(passes.losses).sum()
        # One transfer for both numbers; some devices have no float64.
        loss, grad_norm = torch.stack([ranks.sum(loss[None])[0], norm.to(loss.dtype)]).tolist()
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise ranks.agreed(NotFinite(self._name_rows(batches, passes, loss, grad_norm)))
        self.optimizer.step()
        self.means.model.objective.constrain()  # type: ignore[operator]
        by_source = self._by_source(batches, passes.by_image, sources) if sources else {}
        told = passes.told
        return StepReport(loss, grad_norm, told.images, by_source, told.wish)

    def _by_source(
        self, batches: Sequence[Batch], parts: Sequence[Tensor], sources: int
    ) -> dict[int, float]:
        """Return the mean loss of each source's images, over all ranks."""
        sums = torch.zeros(2, sources, dtype=torch.float64)
        of = torch.cat([batch.source for batch in batches])
        losses = torch.cat(list(parts)).cpu().double()
        sums.index_add_(1, of, torch.stack([losses, torch.ones_like(losses)]))
        total, count = self.means.ranks.sum(sums).tolist()
        return {n: total[n] / count[n] for n in range(sources) if count[n]}

    def _name_rows(
        self, batches: Sequence[Batch], passes: Passes, loss: float, grad_norm: float
    ) -> str:
        """Say which rows to look at: those with bad texts, else the own failing batch."""
        told = passes.told
        if told.texts is not None:
            bad = ~torch.isfinite(self.means.decode(told.texts)).all(dim=1)
            if bad.any():
                rows = told.row[bad].tolist()
                return f"The cache holds NaN or Inf in row(s) {rows[:8]}; run `lift audit` on it."
        for batch in batches:
            stored = (("features", batch.images), ("rows of the teacher", batch.teacher))
            for what, rows in stored:
                if isinstance(rows, torch.Tensor) and rows.is_floating_point():
                    bad = ~torch.isfinite(rows).all(dim=1).cpu()
                    if bad.any():
                        return (
                            f"The stored {what} of sample(s) {batch.index[bad][:8].tolist()} hold "
                            "NaN or Inf; run `lift audit` on their folder."
                        )
        # In a step of several passes the anchor's part of each batch stands behind the loss.
        failing = [n for n, part in enumerate(passes.losses) if not math.isfinite(float(part))]
        at = failing[0] - (len(passes.losses) - len(batches)) if failing else -1
        batch = batches[max(at, 0) if failing else -1]
        return (
            f"Loss {loss} with gradient norm {grad_norm}: the step was not taken. Samples "
            f"{batch.index[:8].tolist()} (first 8), cache rows {batch.row[:8].tolist()}. "
            "Try a lower optim.lr, a longer optim.warmup_steps or precision=float32."
        )


class _Doing(nn.Module):
    """Does what it is told with the model: DistributedDataParallel watches one forward."""

    def __init__(self, model: TwoSided) -> None:
        super().__init__()
        self.model = model

    def forward(self, what: Callable[[TwoSided], Tensor]) -> Tensor:
        """Return `what(model)`."""
        return what(self.model)


def _compile(model: TwoSided, what: Compile) -> None:
    """Compile the sides in place: names and weights stay as they are."""
    for side in (model.image, model.text):
        if what == "side" and not side.is_stored:
            side.compile()
            continue
        for block in getattr(side.tower, "blocks", ()):
            block.compile()
