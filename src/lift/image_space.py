"""The identity of image features: which tower made them, from which pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lift.config import Part
from lift.identity import Identity


@dataclass(frozen=True, kw_only=True)
class ImageSpace(Identity):
    """What has to be equal for two stored image vectors to be comparable.

    Attributes:
        tower: the part that rebuilds the tower's network, pooling included; no place on disk is in
            it (see `kept` in `lift.towers`).
        weights: "sha256:..." of its weights; what somebody said of them where nobody here has them.
        transform: how pixels reach it, as plain values; random changes are not in it.
        dimensions: length of a row.
        normalised: whether the rows have unit length.
    """

    FORMAT: ClassVar[str] = "lift.image_space/1"
    KIND: ClassVar[str] = "image space"

    tower: Part
    weights: str
    transform: Mapping[str, Any]
    dimensions: int
    normalised: bool = False

    @property
    def name(self) -> str:
        """Return a few words for tables."""
        model = str(self.tower.options.get("model") or "")
        return f"{self.tower.name} {model}".strip()
