"""How much work a training step is, in closed form: FLOPs of one image and its caption.

A multiply-add is 2 FLOPs; norms, activations and softmax are left out, as the literature does and
as torch's counter does. Attention counts every pair of tokens, as kernels without a mask do.
"""

from __future__ import annotations

from dataclasses import dataclass

from _contenders import VOCABULARY, Setting, text_config

from lift.text_towers import transformer
from lift.towers import vit

OPTIMISER_FLOPS = 18
"""A weight and step: AdamW's two moments, root, quotient and decay, and the norm for clipping."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """FLOPs of one image and its caption, forward and backward.

    Attributes:
        tower: of the image tower.
        text: of the text tower.
        heads: of what follows the towers.
        loss: of the products of the loss, which grow with the batch.
        optimiser: of one step, divided by the images of the step.
    """

    tower: float
    text: float = 0.0
    heads: float = 0.0
    loss: float = 0.0
    optimiser: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.tower + self.text + self.heads + self.loss + self.optimiser

    @property
    def beside(self) -> float:
        """Share of head, loss and optimiser."""
        return (self.heads + self.loss + self.optimiser) / self.total


def lift_heads_flops(setting: Setting) -> float:
    """Return those of the paper's two layers on one vector."""
    hidden = setting.head.hidden or setting.dimensions
    return 6.0 * (setting.tower.width * hidden + hidden * setting.dimensions)


def clip_heads_flops(setting: Setting) -> float:
    """Return those of the matrix after each of CLIP's towers."""
    return 6.0 * (setting.tower.width + setting.text_width) * setting.text_width


def bare(setting: Setting) -> Work:
    """Return the work of the tower alone."""
    return Work(tower=vit.training_flops(setting.tower))


def lift(setting: Setting) -> Work:
    """Return the work of LIFT's step: three products in the loss, where tiles are recomputed."""
    hidden = setting.head.hidden or setting.dimensions
    weights = tower_weights(setting) + setting.tower.width * hidden + hidden * setting.dimensions
    return Work(
        tower=vit.training_flops(setting.tower),
        heads=lift_heads_flops(setting),
        loss=3 * 2.0 * setting.batch * setting.dimensions,
        optimiser=OPTIMISER_FLOPS * weights / setting.batch,
    )


def clip(setting: Setting) -> Work:
    """Return the work of CLIP's step: in the loss a product forward and one for each gradient."""
    width, depth = setting.text_width, setting.tower.depth
    text = depth * 12 * width**2 + (VOCABULARY + setting.tokens) * width
    heads = (setting.tower.width + width) * width
    return Work(
        tower=vit.training_flops(setting.tower),
        text=transformer.training_flops(text_config(setting), setting.tokens),
        heads=clip_heads_flops(setting),
        loss=3 * 2.0 * setting.batch * width,
        optimiser=OPTIMISER_FLOPS * (tower_weights(setting) + text + heads) / setting.batch,
    )


def tower_weights(setting: Setting) -> int:
    """Return about how many weights the image tower has: its matrices and positions."""
    tower = setting.tower
    block = 4 * tower.width**2 + 2 * tower.width * tower.hidden
    return tower.depth * block + (3 * tower.patch**2 + tower.patches) * tower.width
