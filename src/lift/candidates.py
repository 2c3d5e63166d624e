"""What a step's images are told apart from, and what an objective makes of it.

Letters as in `lift.terms`: `b` own images, `c` texts of the step over all ranks, `e` extra texts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lift.errors import ConfigError
from lift.ranks import ALONE, Ranks


@dataclass(frozen=True, slots=True)
class Extra:
    """Texts that belong to no image of a step: images compete with them, they pull nothing.

    They take part in the image-to-text direction only: no image of theirs is here that a text
    could be told apart from. Where the fixed side holds millions of texts, they are never in
    memory together.

    Attributes:
        row: for each, its row in the cache; a text that an image owns under the same row is no
            competitor of that image.
        take: from the numbers of two ends to the unit vectors [stop - start, d] between them, on
            the device of the images.
    """

    row: Int64[Tensor, " e"]
    take: Callable[[int, int], Tensor]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The texts that a step's images are compared with: all of them, whoever owns the images.

    Images are numbered over all ranks and all batches of a step. An objective gets the vectors of
    some of the images, its own, and all texts; its parts over all own images add up to the loss.

    Attributes:
        z: vectors of unit length; they carry a gradient where the text side is trained.
        owner: for each text, the number of the image it describes.
        row: for each text, its row in the cache: equal texts have equal rows; None where nobody
            needs it.
        weight: for each text, how well it fits its image relative to others; None where all fit
            alike.
        images: how many images there are in all.
        first: the number of the first own image; the others follow.
        extra: further competitors of images.
        ranks: who holds the other images. An objective that `splits` asks them nothing.
    """

    z: Float[Tensor, "c d"]
    owner: Int64[Tensor, " c"]
    row: Int64[Tensor, " c"] | None = None
    weight: Float[Tensor, " c"] | None = None
    images: int = 0
    first: int = 0
    extra: Extra | None = None
    ranks: Ranks = ALONE

    @staticmethod
    def alone(
        z_text: Float[Tensor, "c d"],
        owner: Int64[Tensor, " c"] | None = None,
        row: Int64[Tensor, " c"] | None = None,
        weight: Float[Tensor, " c"] | None = None,
        *,
        images: int | None = None,
        extra: Extra | None = None,
    ) -> Candidates:
        """Return the texts of one process whose batch is the step.

        Args:
            z_text, owner, row, weight, extra: as above; without `owner`, text i has image i.
            images: how many there are; as many as texts if not given.
        """
        images = len(z_text) if images is None else images
        if owner is None:
            if images != len(z_text):
                raise ConfigError(
                    f"{len(z_text)} captions for {images} images need `owner`: which image each "
                    "describes."
                )
            owner = torch.arange(images, device=z_text.device)
        return Candidates(z_text, owner, row, weight, images, 0, extra)


@runtime_checkable
class Objective(Protocol):
    """What a file in `objectives/` builds: an `nn.Module` that owns temperature and bias.

    Called with the vectors of the own images it returns their part of the step's loss, a scalar:
    summed over all ranks and batches it is the loss, and so are the gradients. `z_image[i]` is
    image `texts.first + i`. Only `texts.ranks` knows of other processes.

    Attributes:
        splits: whether the part of some images needs no word about the other images, so that a
            step in several batches is exact without computing any image twice.
    """

    splits: bool

    def __call__(self, z_image: Float[Tensor, "b d"], texts: Candidates) -> Float[Tensor, ""]: ...

    def by_image(self, z_image: Float[Tensor, "b d"], texts: Candidates) -> Float[Tensor, " b"]:
        """Return each own image's loss (of the image-to-text half), for reports."""
        ...

    def constrain(self) -> None:
        """Bring parameters back into their range; called after every optimiser step."""
        ...

    def scalars(self) -> dict[str, float]:
        """Return temperature, bias and the like as plain numbers, for logs and bundles."""
        ...
