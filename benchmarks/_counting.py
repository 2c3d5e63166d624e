"""FLOPs and memory of a recipe's step, counted from its own modules; nothing is computed."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from _timing import kept_bytes
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from lift import plugins
from lift.config import Part
from lift.model import HeadConfig, Side, build_side
from lift.text_towers import transformer
from lift.towers import vit
from lift.training import methods
from lift.training.config import RunConfig


def clip_of(base: RunConfig, tokens: int, *, matched: bool = False) -> RunConfig:
    """Return CLIP with the image tower of a recipe, its captions padded to `tokens`.

    Args:
        base: a recipe of LIFT.
        tokens: of every caption.
        matched: keep LIFT's head and the width of its space; else both sides have CLIP's matrix,
            into a space as wide as the text tower (512 beside ViT-B).
    """
    config = methods.apply("clip", base)
    assert config.text_tower is not None, "the method has a text tower"
    options = {**config.text_tower.options, "context": tokens}
    text = Part(config.text_tower.room, config.text_tower.name, options)
    config = dataclasses.replace(config, text_tower=text)
    if matched:
        return config
    matrix = HeadConfig(layers=1, bias=False)
    return dataclasses.replace(
        config, head=matrix, text_head=matrix, dimensions=int(options["width"])
    )


def checkpointed(config: RunConfig) -> RunConfig:
    """Return the recipe with every block of its towers computed twice instead of stored."""

    def twice(tower: Part) -> Part:
        return Part(tower.room, tower.name, {**tower.options, "checkpoint_activations": True})

    text = config.text_tower
    return dataclasses.replace(
        config, tower=twice(config.tower), text_tower=None if text is None else twice(text)
    )


def sides(config: RunConfig) -> list[tuple[Side, Any]]:
    """Return what a step computes on torch's present device: each side, and its input shape."""
    side = config.transform.resolution
    found: list[tuple[Side, Any]] = [
        (build_side(config.image, None, config.dimensions), (3, side, side))
    ]
    if config.text_tower is not None:
        context = plugins.configure(config.text_tower).context
        found.append((build_side(config.text, None, config.dimensions), (context,)))
    return found


def _input(shape: Any, count: int) -> Tensor:
    if len(shape) == 1:
        return torch.zeros(count, *shape, dtype=torch.int64)
    return torch.empty(count, *shape)


def counted_flops(config: RunConfig) -> float:
    """Return FLOPs of a pair, forward and backward, as torch counts what is executed."""
    total = 0
    with torch.device("meta"):
        for side, shape in sides(config):
            with FlopCounterMode(display=False) as counter:
                side(_input(shape, 2)).sum().backward()
            total += counter.get_total_flops() / 2
    return total


def closed_flops(config: RunConfig) -> float:
    """Return FLOPs of a pair, forward and backward, in closed form; nothing counts twice."""
    tower = plugins.configure(config.tower)
    total = vit.training_flops(tower, _head_flops(config.head, tower.width, config.dimensions))
    if config.text_tower is not None:
        text = plugins.configure(config.text_tower)
        head = _head_flops(config.text_head, text.width, config.dimensions)
        total += transformer.training_flops(text, text.context, head)
    return float(total)


def _head_flops(head: HeadConfig, wide_in: int, wide_out: int) -> int:
    widths = [wide_in, *[head.hidden or wide_out] * (head.layers - 1), wide_out]
    return 2 * sum(a * b for a, b in itertools.pairwise(widths)) if head.layers else 0


def loss_flops(config: RunConfig) -> float:
    """Return FLOPs of the loss for one pair, over all the step's texts.

    Forward, forward again where tiles are not kept, and the images' gradient; where texts are
    trained, theirs too.
    """
    products = 3 if config.text_tower is None else 4
    return products * 2.0 * config.step_samples * config.dimensions


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Bytes that autograd keeps of one pair for the backward pass, weights left out.

    Attributes:
        kept: until the backward pass gets there.
        again: what one block adds while it is computed again; 0 without checkpointing.
    """

    kept: float
    again: float = 0.0


def kept_of_a_pair(config: RunConfig, precision: str) -> Kept:
    """Return what a pair adds to what is kept: the slope over two batches.

    Tensors are pretended on a CPU, whose attention keeps what a GPU's does (not its scores).
    Weights that autocast turns to bfloat16 are kept too, but once a step, not once a pair.
    """
    kept = [_kept(config, count, precision) for count in (2, 4)]
    found = (kept[1] - kept[0]) / 2
    if not plugins.configure(config.tower).checkpoint_activations:
        return Kept(kept=found)
    plain = dataclasses.replace(config, tower=_stored(config.tower))
    depth = plugins.configure(config.tower).depth
    images = [_kept(dataclasses.replace(plain, text_tower=None), n, precision) for n in (2, 4)]
    return Kept(kept=found, again=(images[1] - images[0]) / 2 / depth)


def _stored(tower: Part) -> Part:
    return Part(tower.room, tower.name, {**tower.options, "checkpoint_activations": False})


def _kept(config: RunConfig, count: int, precision: str) -> int:
    total = 0
    cast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    with FakeTensorMode():
        for side, shape in sides(config):
            x = _input(shape, count)
            known = [x, *side.parameters()]
            entered: list[int] = []
            blocks = list(getattr(side.tower, "blocks", ()))
            if getattr(getattr(side.tower, "config", None), "checkpoint_activations", False):
                # Inside a checkpointed block nothing is saved but what goes in.
                _note_inputs(blocks, entered)
            with cast if precision == "bfloat16" else contextlib.nullcontext():
                total += kept_bytes(lambda side=side, x=x: side(x), iter(known))
            total += sum(entered)
    return total


def _note_inputs(blocks: Iterable[nn.Module], entered: list[int]) -> None:
    for block in blocks:
        block.register_forward_pre_hook(lambda _, given: entered.append(given[0].nbytes))
