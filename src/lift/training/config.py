"""What a run is: every option that can change its result, in one frozen value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lift import plugins
from lift.config import Part, part_field
from lift.data.loader import LoaderConfig
from lift.data.transform import Transform
from lift.errors import ConfigError, unknown
from lift.heads import HeadConfig
from lift.model import SideConfig
from lift.text.conditioning import ConditionConfig
from lift.training.anchor import AnchorConfig
from lift.training.guard import GuardConfig


def require(facts: Mapping[str, bool]) -> None:
    """Raise ConfigError with the sentences that are not true."""
    wrong = [f"{sentence}." for sentence, holds in facts.items() if not holds]
    if wrong:
        raise ConfigError(" ".join(wrong))


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with linear warm-up and cosine decay.

    Attributes:
        lr: peak learning rate.
        betas, eps: AdamW's; 1e-6 keeps attention key biases from drifting on pure noise.
        weight_decay: on matrices only; vectors, biases, norms and the temperature get none.
        warmup_steps: optimiser steps of linear warm-up.
        final_lr: share of `lr` left at the last step.
        clip_norm: largest global norm of a step's gradient; None clips nothing.
        accumulate: batches of a step. All images of a step are contrasted with all its texts,
            however many batches it comes in; where the objective doesn't split by image, or text
            is trained too, every image is computed twice for that (Gao et al. 2021, GradCache).
        layer_decay: what the rate of a tower's layer is multiplied by for each layer above it;
            1 trains all alike.
        text_rate: what the rate of a trained text tower is multiplied by; one that starts from a
            language model's weights wants a small one.
    """

    lr: float = 1e-3
    betas: tuple[float, ...] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 0.2
    warmup_steps: int = 500
    final_lr: float = 0.0
    clip_norm: float | None = 1.0
    accumulate: int = 1
    layer_decay: float = 1.0
    text_rate: float = 1.0

    def __post_init__(self) -> None:
        decay, warmup = self.weight_decay, self.warmup_steps
        require(
            {
                f"optim.lr must be above 0, not {self.lr}": self.lr > 0,
                f"optim.betas must be two numbers in [0, 1), not {self.betas}": len(self.betas) == 2
                and all(0 <= beta < 1 for beta in self.betas),
                f"optim.eps must be above 0, not {self.eps}": self.eps > 0,
                f"optim.weight_decay must be 0 or more, not {decay}": decay >= 0,
                f"optim.warmup_steps must be 0 or more, not {warmup}": warmup >= 0,
                f"optim.final_lr must lie in [0, 1], not {self.final_lr}": 0 <= self.final_lr <= 1,
                f"optim.clip_norm must be above 0, or none, not {self.clip_norm}": (
                    self.clip_norm is None or self.clip_norm > 0
                ),
                f"optim.accumulate must be at least 1, not {self.accumulate}": self.accumulate >= 1,
                f"optim.layer_decay must lie in (0, 1], not {self.layer_decay}": (
                    0 < self.layer_decay <= 1
                ),
                f"optim.text_rate must be above 0, not {self.text_rate}": self.text_rate > 0,
            }
        )


@dataclass(frozen=True, kw_only=True)
class MosaicConfig:
    """Steps whose images are tiles of larger ones, each matched to its own captions.

    A tower that only ever pools a whole image need not keep track of where things are: its
    patches may all say the same. A mosaic asks each region for its own text.

    Attributes:
        every: one step in so many is made of mosaics; 0 for none.
        tiles: tiles of a mosaic's side.
    """

    every: int = 0
    tiles: int = 2

    def __post_init__(self) -> None:
        require(
            {
                f"mosaic.every must be 0 or more, not {self.every}": self.every >= 0,
                f"mosaic.tiles must be at least 2, not {self.tiles}": self.tiles >= 2,
            }
        )


@dataclass(frozen=True, kw_only=True)
class LowResolutionConfig:
    """A run that begins with small images and ends with full ones (RECLIP, 2304.06028).

    Attributes:
        resolution: pixels of a side in the first part; 0 for no such part.
        share: of the steps that are in it.
    """

    resolution: int = 0
    share: float = 0.8

    def __post_init__(self) -> None:
        require(
            {
                f"low_resolution.resolution must be 0 or more, not {self.resolution}": (
                    self.resolution >= 0
                ),
                f"low_resolution.share must lie in [0, 1], not {self.share}": 0 <= self.share <= 1,
            }
        )


PARTS = ("image.tower", "image.head", "text.tower", "text.head")
"""What `RunConfig.freeze` can hold still."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A complete training run; a recipe is a function that returns one.

    Attributes:
        recipe: its name.
        data: the pairs to train on (`path`, `format:key=value,...`).
        licences: of the data, in free words, for the model's record: one a source, or one for all.
        validation: pairs for the evaluations during and after training; empty for none.
        cache: folder of stored caption vectors, made by `lift embed`.
        encoder: the text encoder whose space the cache must be in; None accepts any space of
            the right width.
        dimensions: width that the cache's rows must have; 0 accepts any. Where the text side is
            trained, the width of the space that it makes.
        samples: images seen in all.
        pairs: distinct pairs that the recipe was made for (0: unknown); only `--dry-run` uses it.
        features: folder of stored image features, made by `lift embed --images`: no pixel is
            looked at, and the tower that made them is held still.
        tower, head: the image side. A tower `stored` without a width is that of the features, or
            of the start.
        text_tower, text_head: the text side where it is more than stored rows; the run then
            needs no cache and makes a space of its own.
        start: folder of a model whose image side the run starts from, instead of random weights.
        freeze: parts that are not trained, of `PARTS`.
        last_blocks: of the image tower only so many blocks are trained, and what comes after
            them; 0 trains all.
        anchor: what images are kept near to while they are trained: the start, or a teacher.
        guard: what the start can do that the run must not lose.
        condition: the linear transform of the text rows that images are trained against; the
            saved model answers in the untouched space all the same.
        bank: stored captions that are drawn each step as further competitors of images.
        mosaic: steps made of mosaics.
        low_resolution: a first part of the run on small images.
        ema: decay of the running mean of weights that is judged and saved; None saves the last.
        evaluations: names of `lift/evals`, with options, run on `validation`.
        evaluate_every, checkpoint_every, log_every: in optimiser steps; 0 is at the end only.
        patience: end the run after so many evaluations without a better figure (the primary one
            of the first evaluation), and keep the weights of the best; 0 goes on to the end.
        compile: what `torch.compile` makes faster: nothing, each repeated "block" of the towers
            (quick to compile), or each "side" as a whole. On CPUs it gains nothing.
        profile: steps that torch's profiler watches, from the tenth on; 0 for none.
        precision: "auto" times bfloat16 and, on CPUs, two ways to multiply float32, once, when the
            run is created, and keeps the fastest that is exact enough; "float64" is for checks.
        threads: torch threads on CPU; None takes torch's own count when the run is created.
    """

    recipe: str
    data: str = ""
    licences: tuple[str, ...] = ()
    validation: str = ""
    cache: str = ""
    encoder: Part | None = part_field("text/encoders", "minilm")
    dimensions: int = 0
    samples: int
    pairs: int = 0
    transform: Transform
    loader: LoaderConfig
    features: str = ""
    tower: Part = part_field("towers", "vit")
    head: HeadConfig = field(default_factory=HeadConfig)
    text_tower: Part | None = part_field("text_towers", None)
    text_head: HeadConfig = field(default_factory=lambda: HeadConfig(layers=0))
    start: str = ""
    freeze: tuple[str, ...] = ()
    last_blocks: int = 0
    anchor: AnchorConfig = field(default_factory=AnchorConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    objective: Part = part_field("objectives", "softmax")
    condition: ConditionConfig = field(default_factory=ConditionConfig)
    bank: int = 0
    mosaic: MosaicConfig = field(default_factory=MosaicConfig)
    low_resolution: LowResolutionConfig = field(default_factory=LowResolutionConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    ema: float | None = None
    evaluations: tuple[str, ...] = ()
    evaluate_every: int = 0
    patience: int = 0
    checkpoint_every: int = 500
    log_every: int = 20
    compile: Literal["off", "block", "side"] = "off"
    profile: int = 0
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    device: str = "auto"
    threads: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        often = {
            n: getattr(self, n)
            for n in (
                *("evaluate_every", "checkpoint_every", "log_every", "bank", "profile"),
                *("patience", "last_blocks"),
            )
        }
        for name in self.freeze:
            if name not in PARTS:
                raise unknown("part in freeze:", name, PARTS)
        if self.text_tower is not None and not self.dimensions:
            raise ConfigError(
                "A trained text side makes a space of its own: say how wide with "
                "--set dimensions=512."
            )
        conditioned = self.condition.kind != "none"
        extra = self.bank or self.loader.negatives
        require(
            {
                **self._about_features(),
                "anchor.cache has random views of the pictures themselves: set "
                "transform.canvas=none": not self.anchor.cache or self.transform.canvas is None,
                "patience counts evaluations: give evaluate_every and evaluations": (
                    not self.patience or bool(self.evaluate_every and self.evaluations)
                ),
                "condition needs stored rows: leave it out where text is trained": (
                    self.text_tower is None or not conditioned
                ),
                "bank and loader.negatives need stored rows, and text is trained: leave them out": (
                    self.text_tower is None or not extra
                ),
                "objective=cosine pushes nothing away: leave out bank and loader.negatives": (
                    self.objective.name != "cosine" or not extra
                ),
                "objective=cosine needs fixed texts: two trained sides would meet in one point": (
                    self.objective.name != "cosine"
                    or self.text_tower is None
                    or {"text.tower", "text.head"} <= {*self.freeze}
                    or ("text.tower" in self.freeze and not self.text_head.layers)
                ),
                "text_head needs a text_tower: stored rows have no head, or the saved model could "
                "not read them": self.text_tower is not None or not self.text_head.layers,
                f"low_resolution.resolution must be below the resolution "
                f"{self.transform.resolution}, not {self.low_resolution.resolution}": (
                    self.low_resolution.resolution < self.transform.resolution
                ),
                f"condition and objective={self.objective.name} exclude each other: prefixes and "
                "cosines of conditioned rows are not those of the rows that an index holds": (
                    self.objective.name not in ("matryoshka", "compatible") or not conditioned
                ),
                f"ema must lie between 0 and 1, or be none, not {self.ema}": (
                    self.ema is None or 0 < self.ema < 1
                ),
                f"threads must be at least 1, or none, not {self.threads}": (
                    self.threads is None or self.threads >= 1
                ),
                f"seed must lie in [0, 2**63), not {self.seed}": 0 <= self.seed < 2**63,
                **{f"{name} must be 0 or more, not {n}": n >= 0 for name, n in often.items()},
                f"samples={self.samples} is less than one step of {self.step_samples} images; "
                "raise samples or lower loader.batch_size": self.steps >= 1,
            }
        )

    def _about_features(self) -> dict[str, bool]:
        """Return what has to be true where images come as stored rows."""
        if not self.features:
            return {}
        loader = self.loader
        return {
            "features are stored rows, and the text is trained: leave out one of the two": (
                self.text_tower is None
            ),
            "features have one resolution: leave out low_resolution and mosaic": (
                not self.low_resolution.resolution and not self.mosaic.every
            ),
            "features are of a tower that is held still: leave out last_blocks": (
                not self.last_blocks
            ),
            "features bring no pixels that an anchor could look at: give anchor.cache, or leave "
            "the anchor": not self.anchor.pulls,
            "features know the captions of the data only: leave out loader.linked and "
            "loader.negatives": not loader.linked and not loader.negatives,
        }

    @property
    def held_still(self) -> tuple[str, ...]:
        """The parts that are not trained; a tower whose features are stored is one of them."""
        more = ("image.tower",) if self.features and "image.tower" not in self.freeze else ()
        return (*self.freeze, *more)

    @property
    def step_samples(self) -> int:
        """Images of one optimiser step."""
        return self.loader.batch_size * self.optim.accumulate

    @property
    def steps(self) -> int:
        """Optimiser steps of the run."""
        return self.samples // self.step_samples

    @property
    def low_steps(self) -> int:
        """Steps of the first part, on small images."""
        low = self.low_resolution
        return round(self.steps * low.share) if low.resolution else 0

    def tiles_of(self, step: int) -> int:
        """Return how many tiles a side the images of a step have; 1 is no mosaic."""
        every = self.mosaic.every
        return self.mosaic.tiles if every and (step + 1) % every == 0 else 1

    def with_checkpointing(self) -> RunConfig:
        """Return the same run with activations computed twice instead of kept, where it can."""

        def twice(tower: Part) -> Part:
            options = {**tower.options, "checkpoint_activations": True}
            return dataclasses.replace(tower, options=options)

        text = self.text_tower and twice(self.text_tower)
        return dataclasses.replace(self, tower=twice(self.tower), text_tower=text)

    @property
    def image(self) -> SideConfig:
        """The image side."""
        return SideConfig(tower=self.tower, head=self.head)

    @property
    def text(self) -> SideConfig:
        """The text side: stored rows with nothing to train, or a tower."""
        return SideConfig(tower=self.text_tower, head=self.text_head)

    def resolved(self) -> RunConfig:
        """Return the config with every option of every part spelled out and checked."""
        return dataclasses.replace(
            self,
            encoder=plugins.resolve(self.encoder) if self.encoder else None,
            tower=plugins.resolve(self.tower),
            text_tower=plugins.resolve(self.text_tower) if self.text_tower else None,
            objective=plugins.resolve(self.objective),
        )
