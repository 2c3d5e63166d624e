"""One optimiser step, readable aloud: batches in, weights moved, facts out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lift.data.transform import Transform
from lift.errors import NotFinite
from lift.model import TwoSided
from lift.terms import Batch
from lift.world import Precision, autocast


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did.

    Attributes:
        loss: mean over the step's batches.
        grad_norm: global norm before clipping.
        images: how many were in the step.
        by_source: mean loss of the images of each source, where it was asked for.
    """

    loss: float
    grad_norm: float
    images: int
    by_source: Mapping[int, float] = field(default_factory=dict)


def train_step(
    model: TwoSided,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    transform: Transform,
    *,
    clip_norm: float | None,
    device: torch.device,
    precision: Precision,
    decode: Callable[[Tensor], Tensor] = Tensor.float,
    by_source: bool = False,
) -> StepReport:
    """Average the gradients of `batches`, clip, and move the weights once.

    Towers run in `precision`; objectives work in float32 by themselves.

    Args:
        model: the two sides and the objective.
        optimizer: of the model's parameters.
        batches: as the loader made them.
        transform: of the model's images.
        clip_norm: largest global norm of the gradient; None clips nothing.
        device: of the model.
        precision: of the towers.
        decode: from a batch's texts, moved to the device, to float32 rows: `Loader.decode`.
        by_source: also find the loss of each source's images.

    Raises:
        NotFinite: loss or gradient is NaN or infinite; the weights have not moved.
    """
    optimizer.zero_grad(set_to_none=True)
    losses, parts = [], []
    for batch in batches:
        here = batch.to(device, non_blocking=True)  # already there where batches are moved ahead
        assert isinstance(here.images, Tensor), "the loader has finished the images"
        # Stored bytes cross to the device, and outside autocast no bit of a row gets lost.
        texts = decode(here.texts)
        with autocast(device, precision):
            images = transform.normalise(here.images)
            loss, by_image = model(
                images, texts, here.owner, here.row, here.weight, by_image=by_source
            )
        (loss / len(batches)).backward()
        losses.append(loss.detach())
        parts.append(by_image)
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = nn.utils.clip_grad_norm_(parameters, clip_norm if clip_norm else math.inf)
    # One transfer for both numbers: the device is asked to wait once a step.
    mean, grad_norm = torch.stack([torch.stack(losses).mean(), norm]).tolist()
    if not (math.isfinite(mean) and math.isfinite(grad_norm)):
        raise NotFinite(_name_rows(batches, losses, mean, grad_norm, decode))
    optimizer.step()
    model.objective.constrain()  # type: ignore[operator]
    images = sum(len(batch.images) for batch in batches)
    return StepReport(mean, grad_norm, images, _by_source(batches, parts) if by_source else {})


def _by_source(batches: Sequence[Batch], parts: Sequence[Tensor]) -> dict[int, float]:
    """Return the mean part of the loss of each source's images."""
    losses = torch.cat(list(parts)).double().cpu()
    sources = torch.cat([batch.source for batch in batches])
    return {int(n): float(losses[sources == n].mean()) for n in sources.unique().tolist()}


def _name_rows(
    batches: Sequence[Batch],
    losses: Sequence[Tensor],
    loss: float,
    grad_norm: float,
    decode: Callable[[Tensor], Tensor],
) -> str:
    """Say which rows to look at: those with bad texts, else the whole failing batch."""
    for batch, value in zip(batches, losses, strict=True):
        bad = ~torch.isfinite(decode(batch.texts)).all(dim=1)
        if bad.any():
            rows = batch.row[bad].tolist()
            return f"The cache holds NaN or Inf in row(s) {rows[:8]}; run `lift audit` on it."
        if not math.isfinite(float(value)):
            break
    else:
        batch = batches[-1]
    return (
        f"Loss {loss} with gradient norm {grad_norm}: the step was not taken. Samples "
        f"{batch.index[:8].tolist()} (first 8), cache rows {batch.row[:8].tolist()}. "
        "Try a lower optim.lr, a longer optim.warmup_steps or precision=float32."
    )
