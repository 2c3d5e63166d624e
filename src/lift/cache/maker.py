"""What makes the rows of a cache: a text encoder, or a tower for images behind the same face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from lift.cache.addresses import Address
from lift.cache.manifest import Space
from lift.config import Part
from lift.text.encoder import EncodedTexts
from lift.text.roles import Linked
from lift.text.space import TextSpace
from lift.world import Precision


@runtime_checkable
class RowMaker(Protocol):
    """What the writer needs; every `lift.text.encoder.TextEncoder` is one.

    Attributes:
        space, part, saw, device, matryoshka, probes: as a text encoder has them. Of images the
            probes are names of pictures that are drawn by formula.
    """

    @property
    def space(self) -> Space: ...
    @property
    def part(self) -> Part: ...
    @property
    def saw(self) -> tuple[str, ...]: ...
    @property
    def device(self) -> str: ...
    @property
    def matryoshka(self) -> bool: ...
    @property
    def probes(self) -> tuple[str, ...]: ...

    def encode(
        self,
        texts: Sequence[str],
        *,
        precision: Precision = "float32",
        token_budget: int | None = None,
    ) -> EncodedTexts:
        """Return a row for every text, or for the image at every `Address`."""
        ...


@dataclass(frozen=True)
class EncodedImages(EncodedTexts):
    """What a tower returns: some images can't be decoded.

    Attributes:
        absent: {position: why there is no row}; such a row is zeros here, and is not stored.
    """

    absent: Mapping[int, str] = field(default_factory=dict)


def items_of(space: Space) -> str:
    """Return what the rows of a space stand for, in messages."""
    return "captions" if isinstance(space, TextSpace) else "images"


def home_of(item: Linked) -> str:
    """Return the text whose hash says which part an item goes to.

    A derived text goes with its parent, all rows of an image go together.
    """
    return item.parent or (item.text.image if isinstance(item.text, Address) else item.text)
