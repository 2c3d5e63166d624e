"""What came before a run: whether it can be at all, and training that its cost does not hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch

from lift import plugins
from lift.bundle_record import BundleRecord, read_record
from lift.cache.reader import EmbeddingCache
from lift.errors import ConfigError, LiftError
from lift.model_folder import MARKER, require_model
from lift.training.compared import Before
from lift.training.config import LowResolutionConfig, MosaicConfig, RunConfig
from lift.training.effort import image_flops
from lift.training.encoder_cost import encoder_size
from lift.training.methods import require_start

UNTRAINED = ("hashing", "vectors")
"""Encoders that are no network, or whose origin nobody knows."""


def require_possible(config: RunConfig) -> None:
    """Raise LiftError for what no data would make a run of, without reading data or weights.

    Raises:
        ConfigError: a LiT without a start, a start with another tower, or parts held still that
            are not there or leave nothing to train.
        CheckpointError: the start is no model.
    """
    require_start(config)
    trained = {"image.tower"}
    trained |= {"image.head"} if config.head.layers else set()
    trained |= {"text.tower"} if config.text_tower is not None else set()
    trained |= {"text.head"} if config.text_head.layers else set()
    for name in config.freeze:
        if name not in trained:
            raise ConfigError(f"freeze names {name}, which this model does not have: leave it out.")
    if trained <= {*config.held_still}:
        raise ConfigError("freeze leaves nothing to train: name fewer parts.")
    if config.start and not config.features:
        _require_same_tower(config, started_from(config.start))


def started_from(start: str) -> BundleRecord:
    """Return what the model says of itself that a run starts from.

    Raises:
        CheckpointError: no readable model there.
    """
    return read_record(require_model(start) / MARKER)


def before(config: RunConfig) -> Iterator[Before]:
    """Yield the training that a run stands on: its start's, and its text encoder's."""
    if config.start:
        record = started_from(config.start)
        samples = record.origin.get("samples")
        samples = samples if isinstance(samples, int) and samples > 0 else None
        yield Before(what=config.start, samples=samples, flops=_flops(config, record, samples))
    if config.text_tower is not None:
        if config.text_tower.name == "pretrained":
            model = str(plugins.resolve(config.text_tower).options["model"])
            named = "minilm" if model == "minilm" else "sentence_transformer"
            options = {} if model == "minilm" else {"model": model}
            part = dataclasses.replace(
                config.text_tower, room="text/encoders", name=named, options=options
            )
            yield Before(what=encoder_size(part).name, text=True)
    elif config.cache:
        cache = EmbeddingCache.open(config.cache)
        if cache.part.name not in UNTRAINED:
            yield Before(what=cache.space.model, text=True)


def _flops(config: RunConfig, record: BundleRecord, samples: int | None) -> float | None:
    """Return what the image side of a start was trained for; None where that can't be known."""
    if samples is None or record.image.tower is None:
        return None
    trained = dataclasses.replace(
        config,
        tower=record.image.tower,
        head=record.image.head,
        transform=record.transform,
        freeze=(),
        features="",
        mosaic=MosaicConfig(),
        low_resolution=LowResolutionConfig(),
    )
    try:
        return samples * image_flops(trained, record.space.dimensions)
    except LiftError:
        return None


def _require_same_tower(config: RunConfig, record: BundleRecord) -> None:
    """Raise ConfigError as the run itself would, from shapes alone."""
    assert record.image.tower is not None, "an image side has a tower"
    with torch.device("meta"):
        theirs, ours = (
            {name: tensor.shape for name, tensor in made.state_dict().items()}
            for made in (plugins.rebuild(record.image.tower), plugins.build(config.tower))
        )
    lacking = [name for name, shape in ours.items() if theirs.get(name) != shape]
    if lacking:
        raise ConfigError(
            f"The model {config.start} has another tower than recipe {config.recipe} "
            f"(tower.{lacking[0]} does not fit): give the recipe that it was trained with, or "
            "another start."
        )
