"""From an image side trained on conditioned text rows to one that answers in the raw space."""

from __future__ import annotations

import copy
import dataclasses

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lift.model import HeadConfig, MLPHead, Side
from lift.text.conditioning import Condition


def folded(side: Side, config: HeadConfig, condition: Condition) -> tuple[Side, HeadConfig]:
    """Return the side with the transform folded into its head, and that head's options.

    Exact but for rounding: the new side returns unit(F z) where the old one returns z. The tower
    is shared with the side, the head is new; the side itself stays as it is, and no random number
    is drawn.

    Args:
        side: trained on rows of `condition.width` numbers.
        config: of its head.
        condition: what its text rows went through.
    """
    back, raw = condition.fold(), len(condition.mean)
    # What was the width of the space it was trained in is now a width of its own.
    hidden = config.hidden or condition.width
    made = dataclasses.replace(config, layers=max(1, config.layers), hidden=hidden)
    if side.head is None:
        made = dataclasses.replace(made, bias=False, dropout=0.0)
        like = next(iter(side.parameters()), torch.empty(0))
        head = _head(made, condition.width, raw)
        state = {"layers.0.weight": back.to(like)}
    else:
        assert isinstance(side.head, MLPHead), type(side.head)
        state = copy.deepcopy(side.head.state_dict())
        first, last = side.head.layers[0], f"layers.{len(side.head.layers) - 1}"
        assert isinstance(first, torch.nn.Linear)
        head = _head(made, first.in_features, raw)
        weight, bias = fold_into(state[f"{last}.weight"], state.get(f"{last}.bias"), back)
        state[f"{last}.weight"] = weight
        if bias is not None:
            state[f"{last}.bias"] = bias
    head.load_state_dict(state, assign=True)
    changed = Side(side.tower, head.train(side.training))
    changed.training = side.training  # not train(): the tower is the side's, too
    return changed, made


def fold_into(
    weight: Float[Tensor, "k h"], bias: Float[Tensor, " k"] | None, back: Float64[Tensor, "d k"]
) -> tuple[Float[Tensor, "d h"], Float[Tensor, " d"] | None]:
    """Return the last matrix of a head, and its bias, with F = `Condition.fold()` behind it.

    Unit length comes after the head and F is linear, so unit(F unit(h)) = unit(F h): nothing is
    lost by folding F in before it.
    """
    back = back.cpu()  # some devices have no float64

    def behind(value: Tensor) -> Tensor:
        return (back @ value.detach().cpu().double()).to(value)

    return behind(weight), None if bias is None else behind(bias)


def _head(config: HeadConfig, width: int, shared: int) -> MLPHead:
    with torch.device("meta"):  # weights are given to it, none are drawn
        return MLPHead(config, width, shared)
