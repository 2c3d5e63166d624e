"""One head from another: the same function in another kind, two in a row, a map behind one."""

from __future__ import annotations

import copy
import dataclasses

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from lift.heads import Head, HeadConfig, MLPHead, build_head


def linear_head(
    weight: Float[Tensor, "d width"], bias: Float[Tensor, " d"] | None = None, *, unit: bool = False
) -> MLPHead:
    """Return a head that is one matrix, in the type of its numbers; it draws none.

    Args:
        weight, bias: what it does to a row.
        unit: whether rows are scaled to unit length first.
    """
    config = HeadConfig(layers=1, bias=bias is not None, unit=unit)
    head = _undrawn(config, weight.shape[1], len(weight))
    state = {"layers.0.weight": weight.detach().clone()}
    if bias is not None:
        state["layers.0.bias"] = bias.detach().clone()
    head.load_state_dict(state, assign=True)
    assert isinstance(head, MLPHead)
    return head


def outputs(head: nn.Module) -> list[nn.Linear]:
    """Return the matrices that write into the shared space: their sum is what the head gives."""
    assert isinstance(head, Head), type(head)
    return list(head.last)


def fold_into(
    weight: Float[Tensor, "k h"], bias: Float[Tensor, " k"] | None, back: Float64[Tensor, "d k"]
) -> tuple[Float[Tensor, "d h"], Float[Tensor, " d"] | None]:
    """Return the last matrix of a head, and its bias, with a linear map F behind it.

    Unit length comes after the head and F is linear, so unit(F unit(h)) = unit(F h): nothing is
    lost by folding F in before it.
    """
    back = back.cpu()  # some devices have no float64

    def behind(value: Tensor) -> Tensor:
        return (back @ value.detach().cpu().double()).to(value)

    return behind(weight), None if bias is None else behind(bias)


def chained(first: Head, then: Head) -> Head:
    """Return a new head that is both, one after the other; `then` has none before it.

    Where `then` brings rows to unit length, it does so to what `first` gives.
    """
    assert then.config.before is None and first.shared == then.width, "heads that fit"
    config = dataclasses.replace(
        then.config,
        before=_spelled(first),
        between=then.width,
        hidden=then.config.hidden_width(then.width, then.shared),
    )
    head = _undrawn(config, first.width, then.shared)
    state = {f"before.{name}": value for name, value in first.state_dict().items()}
    head.load_state_dict(copy.deepcopy({**state, **then.state_dict()}), assign=True)
    return head.train(then.training)


@torch.no_grad()
def start_at(head: Head, other: Head) -> bool:
    """Make `head` compute what `other` does, to rounding; return whether it can.

    It can where `other` is a matrix (any kind whose branch is still 0) and `head` is a matrix or
    has one beside a branch, which is set to 0; and where both have the same shape. A head that
    standardises goes on doing so by its own numbers, or by the other's where that has some. What
    they do to rows before that has to be the same. Where it can't, nothing has changed.
    """
    same = (head.width, head.inner, head.shared, head.config.unit)
    if same != (other.width, other.inner, other.shared, other.config.unit):
        return False
    found = _matrix_of(other) if other.is_matrix else None
    if not (_alike(head, other) if found is None else _takes(head, *found)):
        return False
    if (head.before is None) != (other.before is None):
        return False
    if head.before is not None and other.before is not None:
        if not start_at(head.before, other.before):
            return False
    if found is not None:
        _set_matrix(head, other, *found)
        return True
    for ours, theirs in zip(_own(head), _own(other), strict=True):
        ours.copy_(theirs)
    if head.config.standardise:
        none = torch.zeros_like(head.mean)
        head.mean.copy_(other.mean if other.config.standardise else none)
        head.spread.copy_(other.spread if other.config.standardise else none + 1)
    return True


def folded_behind(head: Head, back: Float64[Tensor, "d k"]) -> Head:
    """Return a new head: `head`, then the linear map `back`; exact but for rounding.

    No random number is drawn, and the head itself stays as it is. What fits the new one's
    `config` builds it again.
    """
    made = copy.deepcopy(head)
    made.config, made.shared = _spelled(head), len(back)
    for linear in outputs(made):
        weight, bias = fold_into(linear.weight, linear.bias, back)
        linear.weight = nn.Parameter(weight, linear.weight.requires_grad)
        linear.out_features = len(back)
        if bias is not None:
            linear.bias = nn.Parameter(bias, linear.bias.requires_grad)
    return made


def _matrix_of(head: Head) -> tuple[Float64[Tensor, "d inner"], Float64[Tensor, " d"]]:
    """Return what the head does to rows that are not standardised yet."""
    weight, bias = head.entry.weight.detach().cpu().double(), head.entry.bias
    offset = weight.new_zeros(len(weight)) if bias is None else bias.detach().cpu().double()
    if head.config.standardise:
        weight = weight / head.spread.cpu().double()
        offset = offset - weight @ head.mean.cpu().double()
    return weight, offset


def _takes(head: Head, weight: Tensor, bias: Tensor) -> bool:
    """Return whether the head is a matrix, or has one beside a branch, that can be this one."""
    has_one = not isinstance(head, MLPHead) or head.config.layers == 1
    return has_one and (head.entry.bias is not None or not bias.any())


def _set_matrix(head: Head, other: Head, weight: Tensor, bias: Tensor) -> None:
    """Make the head this matrix, standardised by its own numbers or the other's."""
    for branch in head.last[1:]:
        branch.weight.zero_()
    if head.config.standardise:
        if other.config.standardise:
            head.mean.copy_(other.mean)
            head.spread.copy_(other.spread)
        bias = bias + weight @ head.mean.cpu().double()
        weight = weight * head.spread.cpu().double()
    head.entry.weight.copy_(weight)
    if head.entry.bias is not None:
        head.entry.bias.copy_(bias)


def _alike(head: Head, other: Head) -> bool:
    """Return whether the other's numbers, as they are, make the head compute the same."""
    if type(head) is not type(other) or (other.config.standardise and not head.config.standardise):
        return False
    return [p.shape for p in _own(head)] == [p.shape for p in _own(other)]


def _own(head: Head) -> list[nn.Parameter]:
    """Return what is trained, without the head before it; dropout changes names, not the order."""
    return [p for name, p in head.named_parameters() if not name.startswith("before.")]


def _spelled(head: Head) -> HeadConfig:
    """Return its options with the hidden width said, whatever the width of its space."""
    return dataclasses.replace(
        head.config, hidden=head.config.hidden_width(head.width, head.shared)
    )


def _undrawn(config: HeadConfig, width: int, shared: int) -> Head:
    """Return a head whose numbers are still to be assigned."""
    # On the meta device torch would load its compiler to draw nothing: 2.6 s in every process.
    with torch.random.fork_rng(devices=[]):
        return build_head(config, width, shared)
