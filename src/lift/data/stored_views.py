"""Random views of images whose features are stored: drawn again from the file alone.

Which view number v of an image is follows from its content and the cache's plan, so nobody stores
crops or flips: a small tower is shown exactly what the large one saw, at its own resolution, and
the row to compare with is `HASH/v3`. The idea of keeping a teacher's outputs with what was drawn
is Faghri et al. 2023 (arXiv 2303.08983).
"""

from __future__ import annotations

from dataclasses import dataclass

from lift.cache.features import FeatureCache
from lift.config import convert
from lift.data.augment import Augment, View, draw_view
from lift.data.dice import generator
from lift.errors import CacheError, ConfigError

_STORED_VIEW = 41
"""Purpose of the dice, of which nobody else has this number."""


@dataclass(frozen=True)
class StoredViews:
    """What decides the views of every image.

    Attributes:
        count: views of each image; 0 where only whole images are stored.
        seed: of the draws.
        augment: how strong each random change is.
    """

    count: int
    seed: int
    augment: Augment

    @classmethod
    def of(cls, cache: FeatureCache) -> StoredViews:
        """Return the views that a cache has rows of. Raises CacheError where its plan is damaged.

        Zero views: its rows are of whole images (or of features computed elsewhere).
        """
        try:
            augment = convert(Augment, cache.transform.get("augment", {}), "augment")
        except ConfigError as error:
            raise CacheError(f"The plan of {cache.folder} is damaged ({error}).") from error
        return cls(cache.views, cache.seed, augment)


def drawn_view(
    views: StoredViews, image: str, number: int, height: int, width: int, side: int
) -> View:
    """Return view `number` of an image.

    The box is in pixels of the picture and the colours are shares, whatever the resolution is:
    equal for every model. Only an erased rectangle is in pixels of the resized crop, and follows
    `side` to the nearest pixel.

    Args:
        views: of the cache.
        image: hash of the image file's content, 32 hex digits.
        number: of the view, from 0.
        height, width: of the picture, upright and undecoded (`Picture.height`, `.width`).
        side: resolution of the model that is to see it.

    Raises:
        ConfigError: no such view.
    """
    if not 0 <= number < views.count:
        raise ConfigError(
            f"There is no view {number}: the cache has {views.count} of each image, from 0."
        )
    item = int.from_bytes(bytes.fromhex(image)[:8], "little")
    rng = generator(views.seed, _STORED_VIEW, number, item)
    return draw_view(height, width, side, views.augment, rng)
