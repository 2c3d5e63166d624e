"""What training an arm costs, by closed forms: image side, text side, rows made offline."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lift import plugins
from lift.cache.features import FeatureCache
from lift.cache.reader import EmbeddingCache
from lift.config import Part
from lift.data.source import open_source
from lift.errors import ConfigError, LiftError
from lift.heads import HeadConfig
from lift.training.config import RunConfig
from lift.training.encoder_cost import encoder_size, lengths_in_cache

CAPTIONS = 20_000
"""Captions whose lengths stand for all: every n-th of them."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What an arm costs (1 multiply-add = 2 FLOPs).

    Objective, data, optimiser and evaluations are not in it, nor is what is computed twice
    (`checkpoint_activations`, `optim.accumulate` with a trained text side).

    Attributes:
        image_flops: of training on one image, head included.
        text_flops: of training on its captions, head included; 0 for stored rows.
        tokens: that a caption takes up in a batch, padding included; None for stored rows.
        samples: images seen.
        embedding_flops: of making the rows once, offline; None where the arm needs none, or where
            the encoder's size is unknown.
        embedding: how many captions by what, in words; "" where the arm needs no rows.
    """

    image_flops: float
    text_flops: float
    tokens: float | None
    samples: int
    embedding_flops: float | None = None
    embedding: str = ""

    @property
    def sample_flops(self) -> float:
        """FLOPs of training on one image with its captions."""
        return self.image_flops + self.text_flops

    @property
    def run_flops(self) -> float:
        """FLOPs of the whole training, without the embedding."""
        return self.sample_flops * self.samples


def effort(config: RunConfig) -> Effort:
    """Count what a run costs. Reads its captions or its cache; trains nothing.

    Raises:
        LiftError: data or cache that can't be read.
    """
    config = config.resolved()
    samples = config.steps * config.step_samples
    if config.text_tower is None:
        cache = EmbeddingCache.open(config.cache)
        flops, words = embedding_of(cache)
        image = image_flops(config, cache.dimensions)
        return Effort(image_flops=image, text_flops=0.0, tokens=None, samples=samples,
                      embedding_flops=flops, embedding=words)  # fmt: skip
    part, lengths, shown = _captions(config)
    tokens = padded_length(config, part, lengths, shown)
    return Effort(
        image_flops=image_flops(config, config.dimensions),
        text_flops=shown * text_flops(config, part, tokens),
        tokens=tokens,
        samples=samples,
    )


def embedding_of(cache: EmbeddingCache) -> tuple[float | None, str]:
    """Return the FLOPs of making a cache's rows (None: unknown), and what that was, in words."""
    size = encoder_size(cache.part)
    words = f"{len(cache):,} captions by {size.name}"
    try:
        each = size.flops(lengths_in_cache(cache).mean)
    except LiftError:  # rows that came without token counts
        each = None
    if each is None:
        return None, f"{words}, of unknown cost"
    return each * len(cache), words


def image_flops(config: RunConfig, dimensions: int) -> float:
    """Return the FLOPs of training the image side on one image, mean over the whole run.

    Raises:
        ConfigError: a tower without closed forms.
    """
    trained = {
        option: f"image.{name}" not in config.held_still
        for option, name in (("tower", "tower"), ("head_trained", "head"))
    }
    if config.features:  # the tower was run once, when they were stored
        width = FeatureCache.open(config.features).dimensions
        head, inner = (f(config.head, width, dimensions) for f in (head_flops, inner_flops))
        return _side(0.0, 0.0, head, inner, **trained)
    module = _forms(config.tower)
    tower = dataclasses.replace(
        plugins.configure(config.tower), resolution=config.transform.resolution
    )
    head, inner = (f(config.head, tower.width, dimensions) for f in (head_flops, inner_flops))
    low, mosaic = config.low_resolution, config.mosaic
    parts = [(1.0, tower)]
    if low.resolution:
        small = dataclasses.replace(tower, resolution=low.resolution)
        parts = [(low.share, small), (1 - low.share, tower)]
    # One step in so many puts tiles^2 images into one.
    whole = 1 - (1 - mosaic.tiles**-2) / mosaic.every if mosaic.every else 1.0
    return sum(
        share
        * _side(
            whole * module.forward_flops(shape),
            whole * module.training_flops(shape),
            head,
            inner,
            **trained,
        )
        for share, shape in parts
    )


def text_flops(config: RunConfig, part: Part, tokens: float) -> float:
    """Return the FLOPs of training the text side on one caption of so many tokens.

    Args:
        config: the run, for the head and what is frozen.
        part: its text tower, with the vocabulary and context that it came out with.
        tokens: that the tower computes, padding included; between two lengths a mean.

    Raises:
        ConfigError: a tower without closed forms.
    """
    trained = {
        option: f"text.{name}" not in config.freeze
        for option, name in (("tower", "tower"), ("head_trained", "head"))
    }
    if part.name == "pretrained":
        forward, training, width = _pretrained(part, tokens)
    else:
        module, tower = _forms(part), plugins.configure(part)
        width = tower.width
        forward, training = (
            _between(lambda length, f=f: f(tower, length), tokens)
            for f in (module.forward_flops, module.training_flops)
        )
    head, inner = (f(config.text_head, width, config.dimensions) for f in (head_flops, inner_flops))
    return _side(forward, training, head, inner, **trained)


def _between(flops: Callable[[int], float], tokens: float) -> float:
    """Return what texts of two neighbouring lengths cost on average."""
    low = math.floor(tokens)
    return flops(low) + (tokens - low) * (flops(low + 1) - flops(low))


def _pretrained(part: Part, tokens: float) -> tuple[float, float, int]:
    """Return FLOPs forward and in training, and the width, of a tower that was there already."""
    model = part.options.get("model", "minilm")
    named = {} if model == "minilm" else {"model": model}
    size = encoder_size(Part("text/encoders", "sentence_transformer" if named else "minilm", named))
    forward = size.flops(tokens)
    if forward is None:
        raise ConfigError(
            f"What the text model {model} costs is not known ({size.source}); compare at equal "
            "samples: --budget samples."
        )
    return forward, 3 * forward, size.width


def head_flops(head: HeadConfig, width: int, dimensions: int) -> float:
    """Return the FLOPs of a head's forward pass on one vector; biases are left out."""
    if not head.layers:
        return 0.0
    first = 0.0
    if head.before is not None and head.between is not None:
        first, width = head_flops(head.before, width, head.between), head.between
    hidden = head.hidden_width(width, dimensions)
    widths = [width, *[hidden] * (head.layers - 1), dimensions]
    cells = sum(a * b for a, b in itertools.pairwise(widths))
    if head.kind != "mlp":
        cells += width * dimensions
    if head.kind == "gated":
        cells += width * hidden
    return first + 2.0 * cells


def inner_flops(head: HeadConfig, width: int, dimensions: int) -> float:
    """Return the part of `head_flops` that is of matrices behind others of the same head."""
    if not head.layers:
        return 0.0
    if head.before is not None and head.between is not None:  # all of it is behind that one
        own = head_flops(head, width, dimensions) - head_flops(head.before, width, head.between)
        return own + inner_flops(head.before, width, head.between)
    hidden = head.hidden_width(width, dimensions)
    widths = [*[hidden] * (head.layers - 1), dimensions]
    return 2.0 * sum(a * b for a, b in itertools.pairwise(widths))


def _side(
    forward: float, training: float, head: float, inner: float, *, tower: bool, head_trained: bool
) -> float:
    """Return the FLOPs of a side; what is frozen costs its forward pass, and what passes through.

    A matrix costs its forward pass again for the gradient of its weights, and again for that of
    its input where something below it is trained: the tower, or matrices of the same head.

    Args:
        forward, training: of the tower.
        head, inner: of the head's forward pass, and the part of it that is behind other matrices.
        tower, head_trained: which of the two is trained.
    """
    through = head if tower else inner if head_trained else 0.0
    return (training if tower else forward) + (1 + head_trained) * head + through


def _forms(part: Part):
    """Return the part's file, which has `forward_flops` and `training_flops`."""
    module = plugins.load(part.room, part.name)
    for name in ("forward_flops", "training_flops"):
        if not hasattr(module, name):
            raise ConfigError(
                f"What {part.room}/{part.name} costs is not known (it has no {name}); compare at "
                "equal samples: --budget samples."
            )
    return module


def padded_length(
    config: RunConfig, part: Part, lengths: Sequence[int], captions_an_image: float = 1.0
) -> float:
    """Return the tokens that a caption takes up in a batch, on average.

    Padded to the longest of a batch of B, that is the mean largest of B captions drawn from all:
    sum of l_i ((i/n)^B - ((i-1)/n)^B) over the n sorted lengths.
    """
    if part.options.get("pad_to") == "context":
        return float(part.options["context"])
    ordered = np.sort(np.asarray(lengths, np.float64))
    drawn = config.loader.batch_size * captions_an_image
    below = (np.arange(len(ordered) + 1) / len(ordered)) ** drawn
    return float((ordered * np.diff(below)).sum())


def _captions(config: RunConfig) -> tuple[Part, list[int], float]:
    """Return the text tower as it will come out, lengths of captions, and captions an image shows.

    The tokenizer is made as the run will make it.
    """
    from lift.data.tokens import captions_of
    from lift.text_side import fitted, tokenizer_of

    assert config.text_tower is not None
    source = open_source(config.data)
    roles = config.loader.taking_part
    tokenizer = tokenizer_of(config.text_tower, captions_of(source, roles))
    part = fitted(config.text_tower, tokenizer)
    count, kept = _every_nth(captions_of(source, roles))
    if not kept:
        raise ConfigError(f"{source.name} has no caption to count; name a source that has some.")
    encoded = tokenizer.encode(kept, part.options["context"])
    shown = captions_shown(config)
    if config.loader.captions == "all":
        shown = count / len(source)
    return part, [len(ids) for ids in encoded.ids], shown


def captions_shown(config: RunConfig) -> float:
    """Return how many captions of an image a step shows; 1 where all: the data say how many."""
    shares = config.loader.policy.shares
    return sum(shares.values()) if shares else 1.0


def _every_nth(texts: Iterable[str]) -> tuple[int, list[str]]:
    """Return how many texts there are, and at most `CAPTIONS` of them, evenly spaced."""
    kept: list[str] = []
    step, count = 1, 0
    for count, text in enumerate(texts, 1):
        if (count - 1) % step == 0:
            kept.append(text)
        if len(kept) > CAPTIONS:
            kept, step = kept[::2], 2 * step
    return count, kept
