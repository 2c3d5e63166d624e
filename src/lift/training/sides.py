"""The two sides at the start of a run: drawn from the seed, or taken from another model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lift import plugins
from lift.bundle import load as load_bundle
from lift.errors import ConfigError
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


def build_model(
    config: RunConfig, texts: Texts, device: torch.device
) -> tuple[TwoSided, tuple[str, ...]]:
    """Return the model at its start, with the parts frozen that the config names, and notes.

    `lift.training.before.require_possible` has compared the start's tower with the config's.

    Raises:
        ConfigError: images shall stay at the vectors of a head that nobody has trained.
    """
    torch.manual_seed(config.seed)
    image = build_side(config.image, None, texts.width)
    why = _start_from(config, image, texts) if config.start else "there is no start"
    held = config.anchor.pulls and config.anchor.of == "vector" and not config.anchor.cache
    if why and held and image.head is not None:
        raise ConfigError(
            f"anchor.of=vector holds images where the start's head puts them, and the head of this "
            f"run begins anew: {why}. Say anchor.of=tower."
        )
    notes = (f"The head of this run begins anew: {why}.",) if why and config.start else ()
    text = build_side(texts.side, texts.width, texts.width)
    model = TwoSided(image, text, plugins.build(config.objective))
    if config.precision == "float64":
        model = model.double()
    for part in frozen(model, config):
        part.requires_grad_(False)
    if config.last_blocks:
        assert image.tower is not None, "an image side has a tower"
        freeze_but_last(image.tower, config.last_blocks)
    return model.to(device), notes


def _start_from(config: RunConfig, image: Side, texts: Texts) -> str:
    """Give an image side the weights of the model that the run starts from.

    Returns why the start's head is not among them; "" where it is, or where there is none.
    """
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
    if image.head is None:
        return ""
    # A head belongs to the space that it was trained into; a tower does not.
    if texts.facts.get("space", {}).get("fingerprint") != started.space.fingerprint:
        return f"that of {config.start} answers in another text space"
    if texts.condition is not None:
        return f"that of {config.start} answers in the space itself, not in the conditioned one"
    assert isinstance(image.head, Head), type(image.head)
    if isinstance(started.side.head, Head) and start_at(image.head, started.side.head):
        return ""
    return f"that of {config.start} is of a shape that it can't take over"


def _fits(name: str, value: Tensor, ours: Mapping[str, Tensor]) -> bool:
    return name in ours and ours[name].shape == value.shape
