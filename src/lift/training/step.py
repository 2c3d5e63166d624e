"""One optimiser step, readable aloud: batches in, weights moved, facts out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
    """

    loss: float
    grad_norm: float
    images: int


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

    Raises:
        NotFinite: loss or gradient is NaN or infinite; the weights have not moved.
    """
    optimizer.zero_grad(set_to_none=True)
    losses = []
    for batch in batches:
        # Stored bytes cross to the device, and outside autocast no bit of a row gets lost.
        texts = decode(batch.texts.to(device, non_blocking=True))
        with autocast(device, precision):
            images = transform.normalise(batch.images.to(device, non_blocking=True))
            loss = model(images, texts, batch.owner.to(device), batch.row.to(device))
        (loss / len(batches)).backward()
        losses.append(loss.detach())
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = nn.utils.clip_grad_norm_(parameters, clip_norm if clip_norm else math.inf)
    # One transfer for both numbers: the device is asked to wait once a step.
    mean, grad_norm = torch.stack([torch.stack(losses).mean(), norm]).tolist()
    if not (math.isfinite(mean) and math.isfinite(grad_norm)):
        raise NotFinite(_name_rows(batches, losses, mean, grad_norm, decode))
    optimizer.step()
    model.objective.constrain()  # type: ignore[operator]
    return StepReport(mean, grad_norm, sum(len(batch.images) for batch in batches))


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
