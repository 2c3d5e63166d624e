"""What autograd keeps of an image and its captions for the backward pass; nothing is computed."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from lift import plugins
from lift.cache.features import FeatureCache
from lift.model import Side, SideConfig, build_side
from lift.text_side import fitted, tokenizer_of
from lift.training.config import RunConfig
from lift.training.effort import captions_shown
from lift.world import Precision


@dataclass(frozen=True, kw_only=True)
class Computed:
    """A side that a step computes.

    Attributes:
        side: in the mode and with the parts frozen in which it is trained.
        shape: of one item that goes in: 3 x h x w pixels, t tokens, or what a tower gave.
        items: of an image: 1, or its captions.
        tokens: whether they are.
    """

    side: Side
    shape: tuple[int, ...]
    items: float = 1.0
    tokens: bool = False

    def batch(self, count: int) -> Tensor:
        """Return what `count` items are, on torch's present device; its values don't matter."""
        if self.tokens:
            return torch.zeros(count, *self.shape, dtype=torch.int64)
        return torch.empty(count, *self.shape)


def sides(config: RunConfig, dimensions: int) -> list[Computed]:
    """Return what a step computes, built on torch's present device: the image side comes first.

    A text side reads its whole context: the longest that a batch can be. Of a tower that is there
    already the weights are read, also where everything else is pretended.

    Args:
        config: the run.
        dimensions: of the shared space.

    Raises:
        LiftError: options that don't fit together, or a text tower that can't be found.
    """
    if config.features:  # a tower that was run earlier takes no part
        width = FeatureCache.open(config.features).dimensions
        shape, alone = (width,), SideConfig(head=config.head)
        image = _trained(config, "image", build_side(alone, width, dimensions))
    else:
        shape = (3, config.transform.resolution, config.transform.resolution)
        image = _trained(config, "image", build_side(config.image, None, dimensions))
    found = [Computed(side=image, shape=shape)]
    if config.text_tower is not None:
        there = config.text_tower.name == "pretrained"
        part = config.text_tower
        with unset_fake_temporarily() if there else contextlib.nullcontext():
            if there:
                part = fitted(part, tokenizer_of(part, ()))
            text = build_side(dataclasses.replace(config.text, tower=part), None, dimensions)
        shape = (plugins.configure(part).context,)
        text = _trained(config, "text", text)
        found.append(Computed(side=text, shape=shape, items=captions_shown(config), tokens=True))
    return found


def _trained(config: RunConfig, name: str, side: Side) -> Side:
    side.train()
    for part in ("tower", "head"):
        module = getattr(side, part)
        if module is not None and f"{name}.{part}" in config.freeze:
            module.eval().requires_grad_(False)
    return side


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Bytes that autograd keeps of an image and its captions, weights and inputs left out.

    Attributes:
        kept: until the backward pass gets there.
        again: what one block adds while it is computed again; 0 without checkpointing, and for
            towers of other libraries.
    """

    kept: float
    again: float = 0.0

    @property
    def most(self) -> float:
        """Both: what an image adds to the peak."""
        return self.kept + self.again


def pretended() -> FakeTensorMode:
    """Return a block in which tensors have shapes only, on a CPU.

    Its attention keeps what a GPU's does; on the meta device it would keep its scores too.
    """
    return FakeTensorMode(allow_non_fake_inputs=True)


def kept_of_a_pair(config: RunConfig, dimensions: int, precision: Precision = "float32") -> Kept:
    """Return what an image with its captions adds to what is kept; see `sides` for errors."""
    with pretended():
        return kept_of(sides(config, dimensions), precision)


def kept_of(computed: Sequence[Computed], precision: Precision = "float32") -> Kept:
    """Return the same of sides that were built in a `pretended` block, within it.

    It is the slope over two batches: weights that autocast turns to bfloat16 are kept too, but
    once a step.
    """
    each = [_of_a_side(one, precision) for one in computed]
    return Kept(
        kept=sum(found.kept * one.items for found, one in zip(each, computed, strict=True)),
        # One block of one side at a time.
        again=max(found.again * one.items for found, one in zip(each, computed, strict=True)),
    )


def _of_a_side(computed: Computed, precision: Precision) -> Kept:
    small, large = 2, 4
    cast = contextlib.nullcontext()
    if precision == "bfloat16":
        cast = torch.autocast("cpu", torch.bfloat16)
    kept, again = [], []
    for count in (small, large):
        with cast:
            whole, block = _of_a_batch(computed.side, computed.batch(count))
        kept.append(whole)
        again.append(block)
    scale = (2 if precision == "float64" else 1) / (large - small)
    return Kept(kept=scale * (kept[1] - kept[0]), again=scale * (again[1] - again[0]))


def _of_a_batch(side: Side, x: Tensor) -> tuple[int, int]:
    """Return the bytes kept of a batch, and those of one block while it is computed again."""
    entered: list[tuple[Any, ...]] = []
    blocks: Any = getattr(side.tower, "blocks", ())
    recomputed = getattr(getattr(side.tower, "config", None), "checkpoint_activations", False)
    recomputed = bool(recomputed and blocks and side.tower and side.tower.training)
    with _noting(blocks[0], entered) if recomputed else contextlib.nullcontext():
        whole = kept_bytes(lambda: side(x), [x, *side.parameters()])
    if not recomputed:
        return whole, 0
    given = entered[0]
    known = [tensor for tensor in given if isinstance(tensor, Tensor)]
    return whole, kept_bytes(lambda: blocks[0](*given), [*known, *blocks[0].parameters()])


@contextlib.contextmanager
def _noting(module: nn.Module, entered: list[tuple[Any, ...]]):
    """Note what goes into a module."""
    hook = module.register_forward_pre_hook(lambda _, given: entered.append(given))
    try:
        yield
    finally:
        hook.remove()


def kept_bytes(forward: Callable[[], object], but: Iterable[Tensor]) -> int:
    """Return the bytes of distinct storages that autograd keeps for the backward pass.

    Args:
        forward: builds a graph; it is not run backward.
        but: what is there anyway: weights and inputs.
    """
    known = {tensor.untyped_storage()._cdata for tensor in but}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            kept[storage._cdata] = storage  # held, so that no number is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        graph = forward()
    del graph
    return sum(storage.nbytes() for storage in kept.values())
