"""Features that were computed elsewhere: rows come in and go out."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from lift.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is known of the rows.

    Attributes:
        width: length of a row; 0 in a recipe that leaves it to the run's features.
        model: in words, what made them; vectors of different models should not share them.
    """

    width: int = 0
    model: str = ""

    def __post_init__(self) -> None:
        if self.width < 0:
            raise ConfigError(f"towers/stored: width must be at least 1, not {self.width}.")


def build(config: Config) -> Stored:
    """Return the tower, which has nothing to learn.

    Raises:
        ConfigError: nobody said how wide its rows are.
    """
    if not config.width:
        raise ConfigError(
            "towers/stored: width says how long a row is; give it, or the features that have one "
            "(--set features=FOLDER)."
        )
    return Stored(config)


class Stored(nn.Module):
    """Hands rows on.

    Attributes:
        config: what it was built from.
        width: length of `h_image`.
        resolution: 0, as no pixels come in.
        blocks: none.
    """

    resolution = 0
    blocks: tuple[nn.Module, ...] = ()

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.width = config, config.width

    def forward(self, rows: Float[Tensor, "b ..."]) -> Float[Tensor, "b width"]:
        """Return the rows.

        Raises:
            ConfigError: they are of another width, or pixels.
        """
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise ConfigError(
                f"towers/stored takes rows of {self.width} numbers that were computed elsewhere, "
                f"not {tuple(rows.shape)}; images need the tower that made the rows."
            )
        return rows
