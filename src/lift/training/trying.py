"""What is tried before the first step: sizes that the tower takes, the fastest precision."""

from __future__ import annotations

import torch

from lift.candidates import Candidates
from lift.data.loader import Loader
from lift.model import TwoSided
from lift.ranks import Ranks
from lift.terms import unit
from lift.training.config import RunConfig
from lift.world import Precision, Products, probe_precision, probe_products


def try_sizes(
    config: RunConfig, model: TwoSided, width: int, loader: Loader, device: torch.device
) -> None:
    """Try what steps will be made of, on nothing, before anything is written.

    Raises:
        ConfigError: images that the tower can't take, or vectors that the objective can't.
    """
    tiles = config.mosaic.tiles if config.mosaic.every else 1
    sizes = [(config.transform.resolution, tiles)]
    if config.low_steps:
        small = config.low_resolution.resolution
        loader.at_resolution(small)
        sizes += [(small, 1), (small, tiles)]
    kind = torch.float64 if config.precision == "float64" else torch.float32
    model.eval()
    with torch.no_grad():
        if config.features:
            sizes = []
            h = torch.zeros(1, model.image.tower.width, dtype=kind, device=device)  # type: ignore
            model.image.finish(h)
        for side, tiles in sizes:
            images = torch.zeros(tiles * tiles, 3, side, side, dtype=torch.uint8, device=device)
            model.image(config.transform.normalise(images).to(kind), tiles)
        z = unit(torch.ones(1, width, dtype=kind, device=device))
        first = torch.zeros(1, dtype=torch.int64, device=device)
        model.objective(z, Candidates.alone(z, first, first))


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
            images = loader.images(batch.to(device))
            seen = images if config.features else config.transform.normalise(images)
            model.train()

            def step() -> None:
                model.zero_grad(set_to_none=True)
                z = model.image.finish(seen) if config.features else model.image(seen)
                if z.requires_grad:  # else all of the image side is frozen
                    z.backward(torch.ones_like(z))

            chosen, measured = probe_precision(step, device)
            if chosen == "float32":
                how, more = probe_products(step, device)
                measured |= more
            model.zero_grad(set_to_none=True)
    chosen, how, measured = ranks.agree([chosen, how, measured])
    return chosen, how, measured
