"""Read a finished cache of captions: from texts to row numbers, from those to float32 rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from lift.cache.manifest import Manifest
from lift.cache.opened import OpenedCache
from lift.text.space import TextSpace


class EmbeddingCache(OpenedCache):
    """The rows of captions; see `OpenedCache`.

    Attributes:
        space: what its rows mean.
    """

    SPACE: ClassVar[type] = TextSpace
    ITEMS: ClassVar[str] = "captions"
    ITS: ClassVar[str] = "a cache of captions (`lift embed --data DATA --out FOLDER`)"

    def __init__(self, folder: str | Path, manifests: Sequence[Manifest]) -> None:
        """Use `open` instead."""
        super().__init__(folder, manifests)
        space = self.plan.space
        assert isinstance(space, TextSpace), "open() looks"
        self.space: TextSpace = space
