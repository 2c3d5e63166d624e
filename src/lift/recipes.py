"""Recipes: functions that return a complete run. A published number names one of them."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Sequence

from lift.config import override, part
from lift.data.augment import Augment
from lift.data.loader import LoaderConfig
from lift.data.transform import Transform
from lift.errors import ConfigError, unknown
from lift.heads import HeadConfig
from lift.training import methods
from lift.training.anchor import AnchorConfig
from lift.training.config import OptimConfig, RunConfig
from lift.training.paper import paper, unmatched

HALF = (0.5, 0.5, 0.5)
"""Mean and deviation of SigLIP's pixels: values from -1 to 1."""
QUARTER = (0.25, 0.25, 0.25)
"""About the deviation of photos around their mean."""
ORIGINAL, RECAPTIONS = 77, 323
"""Tokens after which the paper's captions were cut: those of DataComp, and the longer rewrites."""


SHORT = {name: f"lift_b16_512m+{name}" for name in ("clip", "siglip", "lit")}
"""Methods that need no base to be named: the paper's own comparison."""

_NOT_RECIPES = ("names", "get", "describe", "is_known")


def names() -> list[str]:
    """Return the recipes' names, without methods."""
    return [
        name
        for name, function in inspect.getmembers(sys.modules[__name__], inspect.isfunction)
        if function.__module__ == __name__ and not name.startswith("_") and name not in _NOT_RECIPES
    ]


def is_known(word: str) -> bool:
    """Return whether a word is a recipe's name, with a method or not."""
    base, plus, method = SHORT.get(word, word).partition("+")
    return base in names() and (not plus or method in methods.METHODS)


def get(word: str, options: Sequence[str] = ()) -> RunConfig:
    """Return a recipe: `flickr8k_tiny`, `flickr8k_tiny+clip`, `clip`.

    Args:
        word: a recipe's name; behind a plus, the method that it becomes (`lift.training.methods`).
        options: `key=value` words that change the recipe before it becomes that method.

    Raises:
        ConfigError: no such recipe or method, with the nearest match.
    """
    base, plus, method = SHORT.get(word, word).partition("+")
    if base in SHORT:
        raise ConfigError(f"{word} names two methods; write RECIPE+METHOD, as in {SHORT[base]}.")
    if base not in names():
        raise unknown("recipe", base, [*names(), *SHORT])
    config = override(getattr(sys.modules[__name__], base)(), options)
    return methods.apply(method, config) if plus else config


def describe() -> list[tuple[str, str]]:
    """Return (name, first sentence) of every recipe, and of every method as `+NAME`."""
    own = [
        (name, (inspect.getdoc(getattr(sys.modules[__name__], name)) or "").split("\n")[0])
        for name in names()
    ]
    return [*own, *((f"+{name}", sentence) for name, sentence in methods.describe())]


def quickstart() -> RunConfig:
    """Drawn scenes, MiniLM, a tiny ViT: the whole road in a few minutes on two cores."""
    captions = "resolution=48,short=1,long=1"
    return RunConfig(
        recipe="quickstart",
        data=f"scenes:count=2400,seed=1,{captions}",
        validation=f"scenes:count=300,start=2400,seed=1,{captions}",
        samples=25_600,
        transform=Transform(
            resolution=48, canvas=48, mean=HALF, std=HALF, augment=Augment(scale=(0.8, 1.0))
        ),
        loader=LoaderConfig(batch_size=64),
        tower=part(
            "towers", "vit", width=128, depth=4, heads=4, patch=8, resolution=48, pooling="mean"
        ),
        optim=OptimConfig(lr=2e-3, weight_decay=0.1, warmup_steps=50),
        evaluations=("retrieval", "compositional"),
        evaluate_every=100,
        checkpoint_every=200,
    )


def flickr8k_tiny() -> RunConfig:
    """Flickr8k photos (2,600 with five captions each) from scratch in about 7 CPU-minutes."""
    return RunConfig(
        recipe="flickr8k_tiny",
        samples=60 * 2_600,
        pairs=13_000,
        transform=Transform(
            resolution=64,
            canvas=112,
            mean=HALF,
            std=QUARTER,
            resize="squash",
            augment=Augment(
                scale=(0.25, 1.0),
                flip=0.5,
                jitter=0.8,
                brightness=0.2,
                contrast=0.2,
                saturation=0.2,
                grey=0.05,
            ),
        ),
        loader=LoaderConfig(batch_size=64, captions="mix"),
        tower=part(
            "towers",
            "vit",
            width=128,
            depth=4,
            heads=2,
            patch=8,
            resolution=64,
            pooling="mean",
            patch_dropout=0.5,
            drop_path=0.1,
        ),
        head=HeadConfig(layers=2, hidden=512),
        # Few photos: a temperature left free falls until every photo is told apart by heart.
        objective=part("objectives", "softmax", learn_temperature=False),
        optim=OptimConfig(lr=1e-3, weight_decay=0.1, warmup_steps=120),
        evaluations=("retrieval",),
        evaluate_every=1000,
        checkpoint_every=1000,
    )


def products_tiny() -> RunConfig:
    """Shop products (14,000 small photos with titles) from scratch in about 13 CPU-minutes."""
    return RunConfig(
        recipe="products_tiny",
        samples=15 * 14_000,
        pairs=14_000,
        transform=Transform(
            resolution=64,
            canvas=80,
            mean=HALF,
            std=QUARTER,
            resize="squash",
            # Of the squashed 60 x 80 photo; products face one way, so a flip is a new view.
            augment=Augment(scale=(0.6, 1.0), aspect=(0.8, 1.45), flip=0.5),
        ),
        loader=LoaderConfig(batch_size=64),
        tower=part(
            "towers",
            "vit",
            width=192,
            depth=6,
            heads=3,
            patch=16,
            resolution=64,
            pooling="attention",
            drop_path=0.05,
        ),
        head=HeadConfig(layers=2, hidden=768),
        objective=part("objectives", "softmax", share_equal=True),
        optim=OptimConfig(lr=1e-3, weight_decay=0.1, warmup_steps=160),
        evaluations=("retrieval",),
        evaluate_every=800,
        checkpoint_every=800,
    )


def products_speedrun() -> RunConfig:
    """Shop products in under half a CPU-minute: a schedule tuned on held-back training products."""
    return RunConfig(
        recipe="products_speedrun",
        samples=20_000,
        pairs=14_000,
        # Four patches of a 32 x 32 photo, seen at most twice: no random views, which only slow
        # down what is learned in so short a time. NOTEBOOK.md has what was tried.
        transform=Transform(
            resolution=32,
            canvas=32,
            mean=HALF,
            std=QUARTER,
            resize="squash",
            augment=Augment(scale=(1.0, 1.0), aspect=(1.0, 1.0)),
        ),
        loader=LoaderConfig(batch_size=64),
        tower=part(
            "towers",
            "vit",
            width=128,
            depth=3,
            heads=2,
            patch=16,
            resolution=32,
            pooling="mean",
        ),
        head=HeadConfig(layers=2, hidden=768),
        objective=part("objectives", "softmax", share_equal=True),
        optim=OptimConfig(lr=1.5e-3, weight_decay=0.1, warmup_steps=40),
        evaluations=("retrieval",),
        checkpoint_every=0,
        precision="float32",
    )


def head() -> RunConfig:
    """A head on stored image features (`--set features=FOLDER`): minutes on a CPU, no pixels."""
    return RunConfig(
        recipe="head",
        encoder=None,
        samples=1_000_000,
        transform=Transform(),
        loader=LoaderConfig(batch_size=1024, captions="one"),
        tower=part("towers", "stored"),
        head=HeadConfig(kind="residual", layers=2, hidden=1024, dropout=0.1, standardise=True),
        optim=OptimConfig(lr=1e-3, weight_decay=0.1, warmup_steps=50),
        evaluations=("retrieval",),
        evaluate_every=100,
        patience=3,
        checkpoint_every=500,
        precision="float32",
    )


def tune() -> RunConfig:
    """A tower that knows something already, tuned with an anchor (`--set start=MODEL`)."""
    return RunConfig(
        recipe="tune",
        encoder=None,
        samples=100_000,
        transform=Transform(augment=Augment(scale=(0.6, 1.0))),
        loader=LoaderConfig(batch_size=64),
        tower=part("towers", "stored"),
        head=HeadConfig(kind="residual", layers=2, hidden=1024, standardise=True),
        # Three Towers and ProCLIP: held near to where it was, a tower keeps what it knew.
        anchor=AnchorConfig(instance=1.0, structure=1.0),
        optim=OptimConfig(lr=1e-4, weight_decay=0.05, warmup_steps=100, layer_decay=0.85),
        evaluations=("retrieval",),
        evaluate_every=500,
        checkpoint_every=500,
    )


def lift_b16_128m() -> RunConfig:
    """The paper's LIFT, ViT-B/16, 128 million samples seen once (original captions)."""
    return paper("lift_b16_128m", samples=128_000_000, pairs=128_000_000, cap=ORIGINAL)


def lift_b16_512m() -> RunConfig:
    """The paper's LIFT, ViT-B/16, 512 million samples (256 million recaptioned pairs twice)."""
    return paper("lift_b16_512m", samples=512_000_000, pairs=256_000_000, cap=RECAPTIONS)


def lift_b16_1280m() -> RunConfig:
    """The paper's LIFT, ViT-B/16, 1.28 billion samples (426 million original pairs three times)."""
    return paper("lift_b16_1280m", samples=1_278_000_000, pairs=426_000_000, cap=ORIGINAL)


def lift_b16_128m_cosine() -> RunConfig:
    """`lift_b16_128m` with the cosine loss: matched pairs only, no negatives."""
    return _cosine(lift_b16_128m())


def lift_b16_512m_cosine() -> RunConfig:
    """`lift_b16_512m` with the cosine loss: matched pairs only, no negatives."""
    return _cosine(lift_b16_512m())


def lift_b16_1280m_cosine() -> RunConfig:
    """`lift_b16_1280m` with the cosine loss: matched pairs only, no negatives."""
    return _cosine(lift_b16_1280m())


def clip_reference() -> RunConfig:
    """The CLIP of the paper's repository, 1.28 billion samples, 77 tokens; not matched to LIFT."""
    base = paper("clip_reference", samples=1_278_000_000, pairs=426_000_000, cap=ORIGINAL)
    return unmatched(base, context=ORIGINAL)


def clip_reference_long() -> RunConfig:
    """The CLIP of the paper's repository, 512 million samples, 323 tokens; not matched to LIFT."""
    base = paper("clip_reference_long", samples=512_000_000, pairs=256_000_000, cap=RECAPTIONS)
    return unmatched(base, context=RECAPTIONS)


def _cosine(config: RunConfig) -> RunConfig:
    return dataclasses.replace(
        config, recipe=f"{config.recipe}_cosine", objective=part("objectives", "cosine")
    )
