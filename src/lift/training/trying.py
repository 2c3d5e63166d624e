"""What is tried before the first step: sizes that the tower takes, the fastest precision."""

from __future__ import annotations

import torch

from lift.data.loader import Loader
from lift.model import TwoSided
from lift.ranks import Ranks
from lift.training.config import RunConfig
from lift.world import Precision, Products, probe_precision, probe_products


def try_sizes(config: RunConfig, model: TwoSided, loader: Loader, device: torch.device) -> None:
    """Raise ConfigError, before anything is written, for images that the tower can't take."""
    sizes = [(config.transform.resolution, config.mosaic.tiles if config.mosaic.every else 1)]
    if config.low_steps:
        small = config.low_resolution.resolution
        loader.at_resolution(small)
        sizes.append((small, 1))
    kind = torch.float64 if config.precision == "float64" else torch.float32
    model.eval()
    with torch.no_grad():
        for side, tiles in sizes:
            images = torch.zeros(tiles * tiles, 3, side, side, dtype=torch.uint8, device=device)
            model.image(config.transform.normalise(images).to(kind), tiles)


def choose_precision(
    config: RunConfig, model: TwoSided, loader: Loader, device: torch.device, ranks: Ranks
) -> tuple[Precision, Products, dict[str, float]]:
    """Return the run's precision: the config's, or the fastest of those timed on a real batch."""
    if config.precision != "auto":
        return config.precision, "highest", {}
    chosen: Precision = "float32"
    how: Products = "highest"
    measured: dict[str, float] = {}
    with ranks.together():
        if ranks.first:
            batch = next(iter(loader.batches(0, 1)))
            images = config.transform.normalise(loader.images(batch.to(device)))
            model.train()

            def step() -> None:
                model.zero_grad(set_to_none=True)
                z = model.image(images)
                z.backward(torch.ones_like(z))

            chosen, measured = probe_precision(step, device)
            if chosen == "float32":
                how, more = probe_products(step, device)
                measured |= more
            model.zero_grad(set_to_none=True)
    chosen, how, measured = ranks.agree([chosen, how, measured])
    return chosen, how, measured
