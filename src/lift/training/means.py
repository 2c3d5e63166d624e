"""What the steps of a run work with, put together once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lift.bundle import load as load_bundle
from lift.cache.reader import EmbeddingCache
from lift.data.loader import Loader
from lift.errors import ConfigError, SpaceMismatch
from lift.model import TwoSided
from lift.ranks import Ranks
from lift.training.bank import Bank
from lift.training.config import RunConfig
from lift.training.passes import Means
from lift.training.texts import Texts, rows_shown
from lift.world import Precision


def means_of(
    config: RunConfig,
    precision: Precision,
    model: TwoSided,
    texts: Texts,
    loader: Loader,
    device: torch.device,
    ranks: Ranks,
) -> Means:
    """Return what every step of a run works with, but for what images are held to."""
    condition = None
    if texts.condition is not None:
        kind = torch.float64 if precision == "float64" else torch.float32
        condition = texts.condition.to(device, kind).apply
    means = Means(
        model=model,
        transform=config.transform,
        device=device,
        precision=precision,
        ranks=ranks,
        seed=config.seed,
        decode=loader.decode,
        decode_stored=texts.rows.decode,
        condition=condition,
        stored_images=bool(config.features),
        anchor=config.anchor,
        decode_teacher=loader.decode_teacher,
    )
    if config.bank:
        assert isinstance(texts.rows, EmbeddingCache), "the config says so"
        rows = rows_shown(texts.rows, loader.source, config.loader.taking_part)
        means.bank = Bank(texts.rows, rows, config.bank, config.seed, means.unit_stored)
    return means


def teacher_of(
    config: RunConfig, loader: Loader, texts: Texts, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Return what makes references of a teacher's stored rows.

    Raises:
        SpaceMismatch: a teacher of another space.
        ConfigError: a teacher that knows nothing of the run's conditioning.
    """
    if not config.anchor.model:
        return loader.decode_teacher
    teacher = load_bundle(config.anchor.model, device=str(device))
    if texts.condition is not None:
        raise ConfigError(
            f"The teacher {config.anchor.model} answers in the space itself, and the images of "
            "this run meet conditioned rows: leave out condition, or say anchor.of=tower."
        )
    fingerprint = texts.facts.get("space", {}).get("fingerprint")
    if teacher.space.fingerprint != fingerprint:
        raise SpaceMismatch(
            f"The teacher {config.anchor.model} answers in the text space "
            f"{teacher.space.fingerprint}, this run is in {fingerprint}: give a teacher of "
            "the same space (`lift fit` makes one of its features)."
        )
    side = teacher.side.requires_grad_(False).eval()

    def references(stored: Tensor) -> Tensor:
        with torch.no_grad():
            return side.finish(loader.decode_teacher(stored))

    return references
