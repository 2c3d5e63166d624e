"""A large model's vectors of random views, for a small one to learn from without running it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from lift.cache.addresses import content_hash
from lift.cache.features import FeatureCache
from lift.data.augment import View
from lift.data.dice import key_number, turn
from lift.data.stored_views import StoredViews, drawn_view
from lift.text.keys import keys_of


class Teacher:
    """Stored vectors of images and of their views; a reinforced data set (arXiv 2303.08983)."""

    def __init__(self, cache: FeatureCache) -> None:
        """Keep the cache; without views, images show what they like and get its row of the whole.

        Raises:
            CacheError: its plan is damaged.
        """
        self._cache, self._views = cache, StoredViews.of(cache)

    def shown(
        self, content: bytes, key: str, seed: int, epoch: int, size: tuple[int, int, int]
    ) -> tuple[str, View | None]:
        """Return the address of what the teacher says, and the view that it says it of.

        Views take turns from a random start.

        Args:
            content: of the image file.
            key: of the sample.
            seed: of the run.
            epoch: from 0.
            size: height and width of the picture, and the side that the model sees.
        """
        image = content_hash(content).hex()
        if not self._views.count:
            return image, None
        number = turn(seed, key_number(key), epoch, self._views.count)
        return f"{image}/v{number}", drawn_view(self._views, image, number, *size)

    def rows(
        self, addresses: Sequence[str]
    ) -> tuple[Shaped[np.ndarray, "b stored"], Bool[np.ndarray, " b"]]:
        """Return the stored rows of some addresses, and which of them there are."""
        found = self._cache.find_keys(keys_of(list(addresses)))
        known = found >= 0
        return self._cache.take_stored(np.where(known, found, 0)), known

    def decode(self, stored: Shaped[Tensor, "b stored"]) -> Float[Tensor, "b width"]:
        """Return rows of a batch, computed on the device where those are."""
        return self._cache.decode(stored)
