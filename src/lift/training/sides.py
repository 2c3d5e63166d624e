"""The two sides at the start of a run: drawn from the seed, or taken from another model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lift import plugins
from lift.bundle import load as load_bundle
from lift.model import TwoSided, build_side
from lift.training.config import RunConfig
from lift.training.texts import Texts


def frozen(model: TwoSided, config: RunConfig) -> list[nn.Module]:
    """Return the parts of a model that the config holds still; `require_possible` found them."""
    found = []
    for name in config.freeze:
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
        started = load_bundle(config.start)
        theirs = started.side.state_dict()
        ours = image.state_dict()
        # A head belongs to the space that it was trained into; a tower does not.
        same = texts.facts.get("space", {}).get("fingerprint") == started.space.fingerprint
        taken = ("tower.", "head.") if same and texts.condition is None else ("tower.",)
        fits = {
            name: value
            for name, value in theirs.items()
            if name.startswith(taken) and _fits(name, value, ours)
        }
        image.load_state_dict({**ours, **fits})
    text = build_side(texts.side, texts.width, texts.width)
    model = TwoSided(image, text, plugins.build(config.objective))
    if config.precision == "float64":
        model = model.double()
    for part in frozen(model, config):
        part.requires_grad_(False)
    return model.to(device)


def _fits(name: str, value: Tensor, ours: Mapping[str, Tensor]) -> bool:
    return name in ours and ours[name].shape == value.shape
