"""An objective on several prefixes of the vectors at once, so that an index may cut them short."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lift import plugins
from lift.candidates import Candidates, Extra
from lift.config import Part, part_field
from lift.errors import ConfigError
from lift.terms import unit

_ROOM = "objectives"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the matryoshka objective.

    Attributes:
        of: the objective that every length is trained with.
        prefixes: lengths to train beside the full one, in ascending order.
        weights: what each prefix and, last, the full length count; all alike where empty.
    """

    of: Part = part_field(_ROOM, "softmax")
    prefixes: tuple[int, ...] = (64, 128, 256)
    weights: tuple[float, ...] = ()


class Matryoshka(nn.Module):
    """Weighted mean of one objective over prefixes of the space (Kusupati et al. 2022).

    arXiv 2205.13147, equation 1, with a mean for the sum. Image and text vectors are cut to the
    first k values and scaled to length 1 again, so that a prefix of an image vector matches the
    same prefix of a text vector. That a prefix of a fixed text vector says much is up to the text
    encoder. All lengths share one temperature and bias. Cut vectors are kept for the gradient: as
    many values as the prefixes have together, for each image and text.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.of: Any = plugins.build(config.of)
        self.splits: bool = self.of.splits
        weights = config.weights or (1.0,) * (len(config.prefixes) + 1)
        self._shares = [weight / sum(weights) for weight in weights]

    def forward(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> Float[Tensor, ""]:
        """Return the own part of the loss; the rest as in `lift.candidates.Objective`.

        Raises:
            ConfigError: a prefix is not shorter than the space.
        """
        parts = [share * self.of(*cut) for share, cut in self._cuts(z_image, texts)]
        return torch.stack(parts).sum()

    @torch.no_grad()
    def by_image(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> Float[Tensor, " b"]:
        """Return the weighted mean over lengths of what the inner objective says."""
        parts = [share * self.of.by_image(*cut) for share, cut in self._cuts(z_image, texts)]
        return torch.stack(parts).sum(0)

    def constrain(self) -> None:
        """Do as the inner objective does."""
        self.of.constrain()

    def scalars(self) -> dict[str, float]:
        """Return the inner objective's numbers."""
        return self.of.scalars()

    def _cuts(
        self, z_image: Tensor, texts: Candidates
    ) -> Iterator[tuple[float, tuple[Tensor, Candidates]]]:
        """Yield, for every length that counts, its share and the vectors cut to it."""
        width = z_image.shape[1]
        *prefixes, last = self.config.prefixes
        if last >= width:
            raise ConfigError(
                f"matryoshka.prefixes has {last}, which is not shorter than the vectors of this "
                f"space; they have {width} values. The full length is always trained."
            )
        for share, length in zip(self._shares, (*prefixes, last), strict=False):
            if share:
                yield share, (_cut(z_image, length), _cut_texts(texts, length))
        if self._shares[-1]:
            yield self._shares[-1], (z_image, texts)


def _cut(z: Tensor, length: int) -> Tensor:
    return unit(z[:, :length])


def _cut_texts(texts: Candidates, length: int) -> Candidates:
    """Return the texts, extra ones too, cut to a length."""
    extra = texts.extra
    if extra is not None:
        take = extra.take
        extra = Extra(extra.row, lambda start, stop: _cut(take(start, stop), length))
    return replace(texts, z=_cut(texts.z, length), extra=extra)


def build(config: Config) -> Matryoshka:
    """Return the objective.

    Raises:
        ConfigError: prefixes, weights or an inner objective that can't be one.
    """
    prefixes, weights = config.prefixes, config.weights
    if not prefixes or list(prefixes) != sorted(set(prefixes)) or prefixes[0] < 1:
        raise ConfigError(
            f"matryoshka.prefixes are lengths from 1 up, each longer than the one before, "
            f"not {list(prefixes)}."
        )
    if weights and (len(weights) != len(prefixes) + 1 or min(weights) < 0 or not sum(weights)):
        raise ConfigError(
            f"matryoshka.weights needs {len(prefixes) + 1} numbers from 0 up, one for each prefix "
            f"and one for the full length, and not all 0; it has {list(weights)}."
        )
    if config.of.room != _ROOM or config.of.name == "matryoshka":
        raise ConfigError(f"matryoshka.of={config.of.name} is not an objective of one length.")
    return Matryoshka(config)
