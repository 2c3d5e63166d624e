"""What a run takes from elsewhere: tower and transform of stored features, or of its start."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from lift.cache.features import FeatureCache
from lift.config import Part, from_dict
from lift.data.transform import Transform
from lift.errors import ConfigError
from lift.heads import Head
from lift.image_tower import space_of
from lift.model import TwoSided
from lift.training.before import started_from
from lift.training.config import RunConfig


def is_open(tower: Part) -> bool:
    """Return whether a recipe leaves it to features or start which tower it is."""
    return tower.name == "stored" and not tower.options.get("width")


def filled(config: RunConfig) -> RunConfig:
    """Return the config with the tower and the transform that its features or its start have.

    Random changes of images stay those of the recipe.

    Raises:
        ConfigError: no tower at all.
        LiftError: no features, or no start, where the config says.
    """
    if config.features:
        cache = FeatureCache.open(config.features)
        tower = cache.tower if is_open(config.tower) else config.tower
        return dataclasses.replace(config, tower=tower, transform=_of(config, cache.transform))
    if not is_open(config.tower):
        return config
    if not config.start:
        raise ConfigError(
            f"Recipe {config.recipe} has no tower of its own: give --set features=FOLDER (made by "
            "`lift embed --images`), or --set start=MODEL."
        )
    record = started_from(config.start)
    assert record.image.tower is not None, "an image side has a tower"
    transform = dataclasses.replace(record.transform, augment=config.transform.augment)
    return dataclasses.replace(config, tower=record.image.tower, transform=transform)


def _of(config: RunConfig, stored: Mapping[str, Any]) -> Transform:
    own = config.transform.augment
    return dataclasses.replace(from_dict(Transform, stored, "transform"), augment=own)


def require_same_tower(config: RunConfig, model: TwoSided, features: FeatureCache | None) -> None:
    """Raise SpaceMismatch unless a model's tower is the one that made its features, if any."""
    if features is None:
        return
    tower = model.image.tower
    assert tower is not None, "an image side has a tower"
    if config.precision == "float64":  # its weights were float32, and are so again
        tower = copy.deepcopy(tower).float()
    pixels = config.transform if tower.resolution else None
    features.space.require_same(
        space_of(config.tower, tower, pixels),
        ours=f"the features {config.features}",
        theirs=f"the tower {config.tower.name}",
    )


_LOOKED_AT = 16_384
"""Rows from which a mean and a spread are taken: both are known to 1% by then."""


def standardise(model: TwoSided, features: FeatureCache | None) -> None:
    """Give a head that standardises the mean and spread of stored features, if it has none yet.

    What the head computes stays the same. Rows are spread evenly over the cache, so every rank, and
    a resumed run, finds the same numbers.
    """
    head = model.image.head
    if features is None or not isinstance(head, Head) or not head.config.standardise:
        return
    if bool((head.mean != 0).any()) or head.before is not None or head.config.unit:
        return  # its start brought them, or its rows are not the features
    count = min(len(features), _LOOKED_AT)
    rows = features.take(np.linspace(0, len(features) - 1, count).astype(np.int64))
    mean, spread = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    spread[spread < 1e-6 * max(float(spread.max()), 1e-12)] = 1.0  # what does not vary
    head.standardise_by(torch.from_numpy(mean), torch.from_numpy(spread))


def require_start_fits(
    config: RunConfig, theirs: Mapping[str, Any], ours: Mapping[str, Any]
) -> None:
    """Raise ConfigError where a start's tower is not the one that made the run's features."""
    for name, value in theirs.items():
        if name.startswith("tower.") and not (name in ours and ours[name].equal(value)):
            raise ConfigError(
                f"The model {config.start} stands on another tower than the features "
                f"{config.features} (its {name} differs): give a model that was fitted on them."
            )
