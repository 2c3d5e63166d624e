"""What a run would cost, before it is run: parameters, FLOPs, memory, steps, cache.

FLOPs are those of `lift.training.effort`; the rest is counted from the modules that would run,
with shapes for tensors: nothing is allocated or computed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from lift import plugins
from lift.errors import ConfigError
from lift.model import count_parameters
from lift.training import amounts
from lift.training.config import PARTS, LowResolutionConfig, MosaicConfig, RunConfig
from lift.training.effort import captions_shown, image_flops, text_flops
from lift.training.kept import kept_of, pretended, sides

BYTES_PER_PARAMETER = 16
"""float32 weight, gradient and AdamW's two moments; a weight alone is 4."""


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Of one image or caption through tower and head; None where the tower does not tell.

    Attributes:
        forward: at rest, every patch and path counted.
        training: forward and backward, as the run trains it.
    """

    forward: float | None
    training: float | None


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a run would cost (1 multiply-add = 2 FLOPs); objective and data are not in it.

    Attributes:
        tower_parameters, head_parameters: of the image side.
        text_tower_parameters, text_head_parameters: of the text side; 0 for stored rows. Where
            the tokenizer is made from the captions, at most as many.
        trained_parameters: how many of all these are trained.
        image, text: FLOPs of one image, and of one caption (None: stored rows).
        tokens: of that caption, the longest that the tower reads; 0 for stored rows.
        captions: of an image that go through the text tower; 0 for stored rows.
        weight_bytes: weights, gradients, moments, and the running mean of weights.
        activation_bytes: that an image and its captions add to the peak, in float32: kept for the
            backward pass, and what one block takes while it is computed again.
        bfloat16_bytes: the same under autocast.
        batch: images of a step; `accumulate` batches of `batch / accumulate` in turn.
        accumulate: see `OptimConfig`.
        steps: optimiser steps.
        samples: images seen.
        cache_rows, cache_bytes: float16 rows for one caption a pair (0: pairs unknown, or no rows).
        dimensions: of the text space.
        tokenizer_is_made: from the run's captions; it may come out with fewer tokens than allowed.
    """

    tower_parameters: int
    head_parameters: int
    text_tower_parameters: int
    text_head_parameters: int
    trained_parameters: int
    image: Flops
    text: Flops | None
    tokens: int
    captions: float
    weight_bytes: int
    activation_bytes: int
    bfloat16_bytes: int
    batch: int
    accumulate: int
    steps: int
    samples: int
    cache_rows: int
    cache_bytes: int
    dimensions: int
    tokenizer_is_made: bool = False

    @property
    def parameters(self) -> int:
        """Of both sides together."""
        image = self.tower_parameters + self.head_parameters
        return image + self.text_tower_parameters + self.text_head_parameters

    @property
    def sample_flops(self) -> float | None:
        """FLOPs of training on one image with its captions."""
        if self.text is None or self.image.training is None:
            return self.image.training
        text = self.text.training
        return None if text is None else self.image.training + self.captions * text

    def table(self) -> str:
        """Return the budget as aligned text."""
        rows = [*self._parameter_rows(), *self._flops_rows()]
        what = "a sample" if self.text is None else "a pair"
        rows += [
            ("steps", f"{self.steps:,} of {self.batch:,} images ({self.samples:,} seen)"),
            ("weights, gradients, moments", amounts.size(self.weight_bytes)),
        ]
        batch = self.batch // self.accumulate
        for kind, each in (("float32", self.activation_bytes), ("bfloat16", self.bfloat16_bytes)):
            memory = self.weight_bytes + each * batch
            rows += [
                (f"activations {what}, {kind}", amounts.size(each)),
                (f"memory at batch {batch:,}, {kind}", amounts.size(memory)),
            ]
        space = "shared space" if self.text else "text space"
        rows.append((space, f"{self.dimensions} dimensions"))
        if self.cache_rows:
            size = amounts.size(self.cache_bytes)
            rows.append(("cache, float16", f"{size} for {self.cache_rows:,} captions"))
        wide = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{wide}}  {value}" for name, value in rows)

    def _parameter_rows(self) -> list[tuple[str, str]]:
        most = "at most " if self.tokenizer_is_made else ""
        rows = [
            ("parameters", f"{most}{self.parameters:,}"),
            ("  image tower", f"{self.tower_parameters:,}"),
            ("  image head", f"{self.head_parameters:,}"),
        ]
        if self.text is not None:
            rows += [
                ("  text tower", f"{most}{self.text_tower_parameters:,}"),
                ("  text head", f"{self.text_head_parameters:,}"),
            ]
        if held := self.parameters - self.trained_parameters:
            rows.append(("  held still, of these", f"{held:,}"))
        return rows

    def _flops_rows(self) -> list[tuple[str, str]]:
        whole = self.sample_flops
        counted = [("an image", self.image)]
        if self.text is not None:
            counted.append((f"a caption of {self.tokens} tokens (the longest)", self.text))
        rows = []
        for what, flops in counted:
            rows += [
                (f"FLOPs {what}, forward", _gf(flops.forward)),
                ("  forward and backward", _gf(flops.training)),
            ]
        if self.captions > 1:
            rows.append(("captions an image", f"{self.captions:g}"))
        run = "unknown" if whole is None else f"{whole * self.samples:.3g}"
        return [*rows, ("FLOPs of the run", run)]


def budget(config: RunConfig, dimensions: int, pairs: int = 0) -> Budget:
    """Count what `config` would cost in a space of `dimensions`.

    Args:
        config: the run.
        dimensions: width of the text space, or of the space that both sides are trained for.
        pairs: distinct captions to store; 0 takes the recipe's own figure.

    Raises:
        LiftError: options that don't fit together, or a text tower that can't be found.
    """
    with pretended():
        computed = sides(config, dimensions)
        kept, half = (round(kept_of(computed, kind).most) for kind in ("float32", "bfloat16"))
    image, text = computed[0].side, computed[1].side if len(computed) > 1 else None
    parts = [image.tower, image.head, *([text.tower, text.head] if text else [None, None])]
    sizes = [sum(p.numel() for p in part.parameters()) if part else 0 for part in parts]
    trained = sum(count_parameters(part) if part else 0 for part in parts)
    idle = sum(sizes) - trained
    rows = 0 if text else pairs or config.pairs
    tokens = computed[1].shape[0] if text else 0
    return Budget(
        tower_parameters=sizes[0],
        head_parameters=sizes[1],
        text_tower_parameters=sizes[2],
        text_head_parameters=sizes[3],
        trained_parameters=trained,
        image=_flops(config, lambda run: image_flops(run, dimensions)),
        text=_text(config, tokens),
        tokens=tokens,
        captions=captions_shown(config) if text else 0.0,
        weight_bytes=BYTES_PER_PARAMETER * trained + 4 * idle + 4 * sum(sizes) * bool(config.ema),
        activation_bytes=kept,
        bfloat16_bytes=half,
        batch=config.step_samples,
        accumulate=config.optim.accumulate,
        steps=config.steps,
        samples=config.steps * config.step_samples,
        cache_rows=rows,
        cache_bytes=rows * dimensions * 2,
        dimensions=dimensions,
        tokenizer_is_made=_makes_tokenizer(config),
    )


def _makes_tokenizer(config: RunConfig) -> bool:
    """Return whether how many tokens there are is known only once captions are read."""
    tower = config.text_tower
    return tower is not None and plugins.resolve(tower).options.get("tokenizer") == "bpe"


def _text(config: RunConfig, tokens: int) -> Flops | None:
    tower = config.text_tower
    if tower is None:
        return None
    return _flops(config, lambda run: text_flops(run, tower, tokens))


def _flops(config: RunConfig, count: Callable[[RunConfig], float]) -> Flops:
    """Return a side's FLOPs, at rest and in training; None where its tower does not tell."""
    rest = dataclasses.replace(
        config, freeze=PARTS, low_resolution=LowResolutionConfig(), mosaic=MosaicConfig()
    )
    try:
        return Flops(forward=count(rest), training=count(config))
    except ConfigError:
        return Flops(forward=None, training=None)


def _gf(flops: float | None) -> str:
    if flops is None:
        return "unknown"
    return f"{flops / 1e9:.2f} GF" if flops >= 1e8 else f"{flops / 1e6:.3g} MF"
