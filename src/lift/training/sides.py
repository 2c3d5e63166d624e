"""The two sides at the start of a run: drawn from the seed, or taken from another model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lift import plugins
from lift.bundle import load as load_bundle
from lift.heads import Head
from lift.model import Side, TwoSided, build_side
from lift.moved_heads import start_at
from lift.training.config import RunConfig
from lift.training.given import require_start_fits
from lift.training.optim import freeze_but_last
from lift.training.texts import Texts


def frozen(model: TwoSided, config: RunConfig) -> list[nn.Module]:
    """Return the parts of a model that the config holds still; `require_possible` found them."""
    found = []
    for name in config.held_still:
        side, _, part = name.partition(".")
        found.append(getattr(getattr(model, side), part))
    return found


def build_model(config: RunConfig, texts: Texts, device: torch.device) -> TwoSided:
    """Return the model at its start, with the parts frozen that the config names.

    `lift.training.before.require_possible` has compared the start's tower with the config's.
    """
    torch.manual_seed(config.seed)
    image = build_side(config.image, None, texts.width)
    if config.start:
        _start_from(config, image, texts)
    text = build_side(texts.side, texts.width, texts.width)
    model = TwoSided(image, text, plugins.build(config.objective))
    if config.precision == "float64":
        model = model.double()
    for part in frozen(model, config):
        part.requires_grad_(False)
    if config.last_blocks:
        assert image.tower is not None, "an image side has a tower"
        freeze_but_last(image.tower, config.last_blocks)
    return model.to(device)


def _start_from(config: RunConfig, image: Side, texts: Texts) -> None:
    """Give an image side the weights of the model that the run starts from."""
    started = load_bundle(config.start, device="cpu")
    theirs, ours = started.side.state_dict(), image.state_dict()
    if config.features:
        require_start_fits(config, theirs, ours)
    tower = {
        name: value
        for name, value in theirs.items()
        if name.startswith("tower.") and _fits(name, value, ours)
    }
    image.load_state_dict({**ours, **tower})
    # A head belongs to the space that it was trained into; a tower does not.
    same = texts.facts.get("space", {}).get("fingerprint") == started.space.fingerprint
    if not same or texts.condition is not None:
        return
    if isinstance(image.head, Head) and isinstance(started.side.head, Head):
        start_at(image.head, started.side.head)


def _fits(name: str, value: Tensor, ours: Mapping[str, Tensor]) -> bool:
    return name in ours and ours[name].shape == value.shape
