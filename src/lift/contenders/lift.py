"""A model that lift made: the folder of a run or of a bundle."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lift import bundle
from lift.bundle import Bundle
from lift.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of a model of ours.

    Attributes:
        model: folder of a finished run or of a bundle.
    """

    model: str


def build(config: Config, device: torch.device) -> Bundle:
    """Return the model.

    Raises:
        CheckpointError: no model there, a newer format, or damaged weights.
    """
    try:
        return bundle.load(config.model, device=str(device))
    except OSError as error:
        raise CheckpointError(
            f"The model {config.model} can't be read ({error.strerror or error}); give the folder "
            "of a run or of a bundle."
        ) from error
