"""Two stages that put an image tower into a language model: complete configs as functions.

LLaVA-1.5 (Liu et al. 2023, 2310.03744; its scripts/v1_5): a connector of two layers is trained on
captions while tower and language model stand still, then connector and language model are tuned on
conversations. LIFT's paper (section on LLaVA) compares its towers with CLIP's in the same way.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from lift.errors import ConfigError
from lift.world import Precision

IMAGE = "<image>"
"""What stands for an image in a conversation, and the token that its patches take the place of."""

_SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)


@dataclass(frozen=True, kw_only=True)
class Template:
    """How turns become one text: `system`, then `user` question ` ` `assistant` ` ` answer `end`.

    Attributes:
        system: what comes first.
        user, assistant: what announces a question and an answer.
        end: what ends an answer; None is the tokenizer's own end of text.
        asked: whether questions are shown; else a text is the image and the answer alone.
    """

    system: str = ""
    user: str = "USER: "
    assistant: str = "ASSISTANT:"
    end: str | None = None
    asked: bool = True


PLAIN = Template(end="\n", asked=False)
"""An image and its caption, nothing else: LLaVA's first stage."""
VICUNA = Template(system=_SYSTEM + " ")
"""The wording that Vicuna 1.5 was tuned with: LLaVA's second stage."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What one stage trains, on how much, and how fast.

    Attributes:
        language: whether the language model is tuned, too; the connector always is, the tower
            never.
        template: how conversations become texts.
        lr: highest rate; it rises over `warmup` of the steps and falls with half a cosine to 0.
        batch_size: conversations a step.
        epochs: how often each conversation is shown.
        micro_batch: conversations in memory at a time; what a step learns does not depend on it,
            but for rounding.
        warmup: share of the steps.
        betas, eps, weight_decay, clip: AdamW's, and the longest gradient. No bias and no norm
            decays.
        max_tokens: where a text is cut, patches of the image included.
        precision: of the products; weights are kept as they came.
        recompute: compute blocks of the language model again in the backward pass instead of
            keeping what they made.
        checkpoint_every: steps between two checkpoints; 0 saves when stopped and at the end only.
    """

    language: bool
    template: Template
    lr: float
    batch_size: int
    epochs: int = 1
    micro_batch: int = 16
    warmup: float = 0.03
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0
    max_tokens: int = 2048
    precision: Precision = "float32"
    recompute: bool = False
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        least = ("batch_size", "epochs", "micro_batch", "max_tokens")
        complaints = [
            f"{name} must be at least 1, not {getattr(self, name)}."
            for name in least
            if getattr(self, name) < 1
        ]
        if not (math.isfinite(self.lr) and self.lr > 0):
            complaints.append(f"lr must be above 0, not {self.lr}.")
        if not 0 <= self.warmup < 1:
            complaints.append(f"warmup must lie in [0, 1), not {self.warmup}.")
        if self.checkpoint_every < 0:
            complaints.append(f"checkpoint_every must not be negative: {self.checkpoint_every}.")
        if complaints:
            raise ConfigError(" ".join(complaints))


@dataclass(frozen=True, kw_only=True)
class TwoStage:
    """A tower and a language model become one that sees.

    Attributes:
        connector: the first stage.
        tuning: the second.
        layer: whose patch tokens the language model gets, counted as `ViT.tokens` does: -2 is what
            leaves the last block but one.
    """

    connector: Stage
    tuning: Stage
    layer: int = -2


def llava_1_5() -> TwoStage:
    """LLaVA-1.5 as published: 558k captions at 1e-3 by 256, 665k conversations at 2e-5 by 128.

    AdamW without decay, 3% warm-up, cosine, bfloat16, one epoch each, patches of layer -2. One
    thing differs: an image is squared as its tower was trained to see it, never padded.
    """
    shared = Stage(
        language=False,
        template=PLAIN,
        lr=1e-3,
        batch_size=256,
        precision="bfloat16",
        recompute=True,
    )
    tuning = dataclasses.replace(shared, language=True, template=VICUNA, lr=2e-5, batch_size=128)
    return TwoStage(connector=shared, tuning=tuning)


def miniature() -> TwoStage:
    """The same two stages for a language model of a few hundred thousand weights on one core.

    Steps are fewer and rates higher, as small models take them; runs/llava_mini.py trains it.
    """
    connector = Stage(
        language=False,
        template=Template(asked=False),
        lr=3e-3,
        batch_size=16,
        max_tokens=256,
        checkpoint_every=0,
    )
    tuning = dataclasses.replace(
        connector, language=True, template=Template(), lr=1e-3, batch_size=8
    )
    return TwoStage(connector=connector, tuning=tuning)
