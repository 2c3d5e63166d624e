"""Read a finished cache of image features: rows by the content of the image files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int64

from lift.cache import manifest as records
from lift.cache.manifest import Manifest
from lift.cache.opened import OpenedCache
from lift.cache.place import place_of
from lift.cache.reader import EmbeddingCache
from lift.config import Part, convert
from lift.errors import CacheError, ConfigError
from lift.image_space import ImageSpace
from lift.text.keys import keys_of

ROOM, NAME = "features", "tower"
"""What a plan says in place of a text encoder's room and name."""


def features_part(
    tower: Part, transform: Mapping[str, Any], views: int, grid: int, seed: int
) -> Part:
    """Return what a plan keeps of how image features are made, as plain values.

    Args:
        tower: as the user gave it, folders and all.
        transform: plain values of a `Transform`, random changes (of the views) among them.
        views: random views of each image that have rows.
        grid: cells of a side of the patch grid that have rows, 0 for none.
        seed: of the views.
    """
    named = {"room": tower.room, "name": tower.name, "options": dict(tower.options)}
    options = {"tower": named, "transform": dict(transform)}
    return Part(ROOM, NAME, {**options, "views": views, "grid": grid, "seed": seed})


def open_any(folder: str | Path) -> EmbeddingCache | FeatureCache:
    """Return the cache in a folder, whichever kind it is; raises as `open` of both."""
    plan = records.read_plan(place_of(folder))
    images = plan is not None and isinstance(plan.space, ImageSpace)
    return FeatureCache.open(folder) if images else EmbeddingCache.open(folder)


class FeatureCache(OpenedCache):
    """The rows of images, known by the content of their files; see `OpenedCache`.

    A row is of a whole image, of a random view of it or of a cell of its patch grid: see
    `lift.cache.addresses`. Links (role "image", "view" or "patch") tie rows to keys of samples.

    Attributes:
        space: what its rows mean.
        tower: the part that made them, as the user gave it.
        transform: how pixels reached it, as plain values of a `Transform`; its `augment` is that
            of the views.
        views, grid, seed: see `features_part`.
    """

    SPACE: ClassVar[type] = ImageSpace
    ITEMS: ClassVar[str] = "images"
    ITS: ClassVar[str] = (
        "a cache of image features (`lift embed --images --data DATA --tower TOWER --out FOLDER`)"
    )

    def __init__(self, folder: str | Path, manifests: Sequence[Manifest]) -> None:
        """Use `open` instead."""
        super().__init__(folder, manifests)
        space = self.plan.space
        assert isinstance(space, ImageSpace), "open() looks"
        self.space: ImageSpace = space
        told = self.part.options
        try:
            self.tower: Part = convert(Part, told["tower"], "tower")
            self.transform: Mapping[str, Any] = convert(dict, told["transform"], "transform")
            self.views, self.grid, self.seed = (
                int(convert(int, told[name], name)) for name in ("views", "grid", "seed")
            )
        except (KeyError, ConfigError) as error:
            raise CacheError(
                f"The plan of {folder} does not say how its features were made ({error}); remove "
                "the folder and embed again."
            ) from error

    def find_images(
        self, hashes: Sequence[str], view: int | None = None
    ) -> Int64[np.ndarray, " n"]:
        """Return the row number of every image, -1 where it has none.

        Args:
            hashes: of the image files' content, 32 hex digits each (`content_hash(...).hex()`).
            view: of a random view; None for the whole image.
        """
        end = "" if view is None else f"/v{view}"
        return self.find_keys(keys_of([found + end for found in hashes]))
