"""Methods: functions that turn a recipe of LIFT into another method with all else the same.

What is matched: image tower, pooling, image head, width of the shared space, clipping, optimiser,
order of the data, views, samples, evaluations. What a method changes is its text side, and its
objective where that is what it is. Two things follow from a trained text side, whatever the base
says: one caption is shown at a time where LIFT mixes several into one point (tokens can't be
mixed), and what lives on stored rows only (conditioning, bank, negatives and captions that only the
cache knows) is off. `lift compare` names every option that differs.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from lift import plugins
from lift.config import Part, part
from lift.errors import ConfigError, unknown
from lift.heads import HeadConfig
from lift.text.conditioning import ConditionConfig
from lift.training.config import RunConfig
from lift.training.encoder_space import read_space

CONTEXT = 77
"""Tokens that CLIP's text tower reads at most; the base's own cap of captions comes first."""

MINILM_WIDTH = 384

Method = Callable[[RunConfig], RunConfig]


def text_shape(width: int, depth: int) -> dict[str, int]:
    """Return width, depth and heads of a text transformer that fits an image tower.

    As deep as the image tower, two thirds as wide (to whole heads of 64): 12 x 512 with 8 heads
    beside B/16 (12 x 768), as in CLIP-B (Radford et al. 2021), and in proportion beside others.
    """
    heads = max(1, round(width * 2 / 3 / 64))
    return {"width": 64 * heads, "depth": depth, "heads": heads}


def clip(base: RunConfig) -> RunConfig:
    """Both sides trained: a text transformer in CLIP's shape, scaled to the image tower.

    The objective is the base's softmax, or a plain one where the base has another.
    """
    objective = base.objective if base.objective.name == "softmax" else part(*_SOFTMAX)
    return _text_trained(base, _transformer(base), _MATRIX, objective=objective)


def siglip(base: RunConfig) -> RunConfig:
    """As `clip`, with SigLIP's loss: every pair judged on its own by a sigmoid."""
    kept = {"share_equal", "ignore_above"} & base.objective.options.keys()
    options = {name: base.objective.options[name] for name in sorted(kept)}
    objective = part("objectives", "sigmoid", **options)
    return _text_trained(base, _transformer(base), _MATRIX, objective=objective)


def lit(base: RunConfig) -> RunConfig:
    """As `clip`, with a finished image tower held still: say whose with `--set start=FOLDER`.

    Zhai et al. 2022 (2111.07991). The image head is new, and trained: it belongs to the
    space that it leads into.
    """
    return _frozen(clip(base), "image.tower")


def clip_minilm(base: RunConfig) -> RunConfig:
    """Both sides trained, the text side from MiniLM's weights: pre-trained text, not frozen."""
    return _minilm(base)


def frozen_minilm(base: RunConfig) -> RunConfig:
    """As `clip_minilm`, with the text side held still: LIFT with its text encoder run live."""
    return _frozen(_minilm(base), "text.tower")


def frozen_random(base: RunConfig) -> RunConfig:
    """As `clip`, with the text side held still at its random weights: frozen, not pre-trained."""
    return _frozen(clip(base), "text.tower", "text.head")


METHODS: dict[str, Method] = {
    function.__name__: function
    for function in (clip, siglip, lit, clip_minilm, frozen_minilm, frozen_random)
}
"""By the word after the plus of `flickr8k_tiny+clip`."""


def apply(method: str, base: RunConfig) -> RunConfig:
    """Return `base` as another method; its recipe is called BASE+METHOD.

    Raises:
        ConfigError: no such method (with the nearest match), or a base that trains its text side.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if base.text_tower is not None:
        raise ConfigError(
            f"Recipe {base.recipe} trains its text side already; put +{method} behind a recipe "
            "of LIFT."
        )
    return dataclasses.replace(METHODS[method](base), recipe=f"{base.recipe}+{method}")


def describe() -> list[tuple[str, str]]:
    """Return (name, first sentence) of every method."""
    return [
        (name, (inspect.getdoc(function) or "").split("\n")[0])
        for name, function in METHODS.items()
    ]


def require_start(config: RunConfig) -> None:
    """Raise ConfigError for a LiT that was not told whose image side it starts from."""
    if config.recipe.endswith("+lit") and not config.start:
        raise ConfigError(
            f"{config.recipe} holds a finished image tower still and needs one: say whose with "
            "--set start=FOLDER_OF_A_MODEL."
        )


_SOFTMAX = ("objectives", "softmax")
_MATRIX = HeadConfig(layers=1, bias=False)
"""CLIP's text projection."""


def _transformer(base: RunConfig) -> Part:
    tower = plugins.configure(base.tower)
    shape = text_shape(tower.width, tower.depth)
    context = (base.encoder and base.encoder.options.get("max_tokens")) or CONTEXT
    return part("text_towers", "transformer", **shape, context=context)


def _minilm(base: RunConfig) -> RunConfig:
    """Return the base with MiniLM run live, in MiniLM's own space: its text side has no head."""
    return dataclasses.replace(
        clip(base),
        text_tower=part("text_towers", "pretrained"),
        text_head=HeadConfig(layers=0),
        dimensions=MINILM_WIDTH,
    )


def _frozen(config: RunConfig, *parts: str) -> RunConfig:
    return dataclasses.replace(config, freeze=tuple(dict.fromkeys((*config.freeze, *parts))))


def _text_trained(base: RunConfig, tower: Part, head: HeadConfig, **changes: Any) -> RunConfig:
    """Return the base with a text tower where its stored rows were."""
    loader = dataclasses.replace(
        base.loader,
        captions="one" if base.loader.captions == "mix" else base.loader.captions,
        linked=False,
        negatives=0,
    )
    return dataclasses.replace(
        base,
        cache="",
        encoder=None,
        dimensions=_shared_width(base),
        loader=loader,
        text_tower=tower,
        text_head=head,
        condition=ConditionConfig(),
        bank=0,
        **changes,
    )


def _shared_width(base: RunConfig) -> int:
    """Return the width that the base's rows have, so that the image head keeps its shape."""
    width = base.dimensions or read_space(base.encoder).dimensions
    if not width and base.encoder is not None and base.encoder.name == "minilm":
        width = MINILM_WIDTH  # where its package is not installed
    if not width:
        raise ConfigError(
            f"How wide the rows of recipe {base.recipe} are is not known; say it: --set "
            "dimensions=384."
        )
    return width
