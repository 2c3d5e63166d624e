"""From the numbers of a batch to rows that were stored earlier: no pixels, no words."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch.utils.data import Dataset

from lift.data import kinds
from lift.data.asked import Request
from lift.data.dice import turns
from lift.data.joined import Joined
from lift.data.policy import Policy
from lift.data.stored_pairs import StoredPairs
from lift.data.transform import Transform
from lift.errors import ConfigError, DataError, LiftError
from lift.terms import Batch, Caption, Dropped, Source


class StoredBatchMaker(Dataset):
    """Batches of stored image vectors by request; equal requests give equal batches.

    Where random views are stored, an image shows itself and each of them in turn. Captions are
    those that a batch of pixels would show.

    Attributes:
        prints: as `lift.data.making.BatchMaker` has it. The files are not here to be hashed: a
            sample that was shown gets a number of its key, and none for its look.
    """

    def __init__(
        self, source: Source, pairs: StoredPairs, seed: int, policy: Policy, *, shared: bool = False
    ) -> None:
        """Keep what batches are made from.

        Args:
            source: the pairs.
            pairs: their rows.
            seed: of views and captions.
            policy: which captions an image shows.
            shared: batches are parts of larger ones, and may come out empty.
        """
        self._source, self._pairs, self._seed = source, pairs, seed
        self._policy, self._shared = policy, shared
        self.prints: Int64[np.ndarray, "samples 2"] | None = None
        weights = pairs.weight
        # Captions that all fit alike take turns, and those need no loop over samples.
        self._in_turn = policy.words == "one" and bool((weights == weights[:1]).all())

    def at(self, transform: Transform) -> StoredBatchMaker:
        """Refuse: rows have the resolution that they were made at."""
        raise ConfigError(
            f"Stored features are of one resolution, not {transform.resolution}: leave out "
            "low_resolution, or train on pixels."
        )

    def __getitem__(self, request: Request) -> Any:
        try:
            return self._batch(request)
        except LiftError as error:
            return error  # raised by the consumer: DataLoader would bury the sentence

    def rows(self, request: Request) -> Int64[np.ndarray, " shown"]:
        """Return the cache rows of the captions that a batch shows."""
        kept = self._pairs.has_both[request.numbers]
        places, _ = self._shown(request.epochs[kept], request.numbers[kept])
        return self._pairs.caption_row[places]

    def _batch(self, request: Request) -> Batch:
        pairs = self._pairs
        kept = pairs.has_both[request.numbers]
        epochs, numbers = request.epochs[kept], request.numbers[kept]
        if not len(numbers) and not self._shared:
            raise DataError(
                f"No sample of a batch of {len(request.numbers)} has both stored features and a "
                "caption: run `lift embed --images` on all of the data."
            )
        places, owner = self._shown(epochs, numbers)
        row = pairs.caption_row[places]
        texts = (
            self._mixtures(epochs, numbers)
            if self._policy.mixes
            else pairs.captions.take_stored(row)
        )
        weight = pairs.weight[places] if self._policy.several else np.ones(len(places), np.float32)
        own, _ = pairs.places(numbers)
        source = self._source
        of = source.source_of(numbers) if isinstance(source, Joined) else np.zeros_like(numbers)
        return Batch(
            images=torch.from_numpy(pairs.images.take_stored(self._image_rows(epochs, numbers))),
            texts=torch.from_numpy(texts),
            owner=torch.from_numpy(owner),
            row=torch.from_numpy(row),
            weight=torch.from_numpy(weight) if (weight != 1).any() else None,
            index=torch.from_numpy(numbers),
            source=torch.from_numpy(of),
            prints=torch.from_numpy(self._prints(numbers)),
            own_row=torch.from_numpy(pairs.caption_row[own]),
            dropped=tuple(self._dropped(number) for number in request.numbers[~kept].tolist()),
        )

    def _shown(
        self, epochs: np.ndarray, numbers: np.ndarray
    ) -> tuple[Int64[np.ndarray, " c"], Int64[np.ndarray, " c"]]:
        """Return the places of the captions that samples show, and whose they are."""
        pairs, policy = self._pairs, self._policy
        if policy.words == "all":
            return pairs.places(numbers)
        begins, sizes = pairs.starts[numbers], pairs.starts[numbers + 1] - pairs.starts[numbers]
        everyone = np.arange(len(numbers))
        if policy.mixes:
            return begins, everyone
        if self._in_turn:
            return begins + turns(self._seed, pairs.key_number[numbers], epochs, sizes), everyone
        chosen = [
            begin + self._chosen(begin, size, int(key), epoch)
            for begin, size, key, epoch in zip(
                begins.tolist(),
                sizes.tolist(),
                pairs.key_number[numbers].tolist(),
                epochs.tolist(),
                strict=True,
            )
        ]
        counts = [len(found) for found in chosen]
        return np.concatenate([np.empty(0, np.int64), *chosen]), np.repeat(everyone, counts)

    def _chosen(self, begin: int, size: int, key: int, epoch: int) -> Int64[np.ndarray, " shown"]:
        pairs = self._pairs
        of = slice(begin, begin + size)
        captions = [
            Caption("", pairs.roles[role], weight)
            for role, weight in zip(pairs.role[of].tolist(), pairs.weight[of].tolist(), strict=True)
        ]
        return self._policy.shown_by_number(captions, key, self._seed, epoch)

    def _mixtures(self, epochs: np.ndarray, numbers: np.ndarray) -> Float32[np.ndarray, "b d"]:
        pairs = self._pairs
        points = [
            self._policy.point(
                pairs.captions.take(pairs.caption_row[pairs.starts[n] : pairs.starts[n + 1]]),
                self._seed,
                epoch,
                n,
            )
            for epoch, n in zip(epochs.tolist(), numbers.tolist(), strict=True)
        ]
        return np.concatenate([np.empty((0, pairs.captions.dimensions), np.float32), *points])

    def _image_rows(self, epochs: np.ndarray, numbers: np.ndarray) -> Int64[np.ndarray, " b"]:
        """Return which row of each image an epoch shows: the whole image, or one of its views."""
        pairs = self._pairs
        rows = pairs.image_row[numbers]
        views = pairs.view_starts[numbers + 1] - pairs.view_starts[numbers]
        if not views.any():
            return rows
        shown = turns(self._seed, pairs.key_number[numbers], epochs, views + 1)
        of = shown > 0
        rows[of] = pairs.view_row[pairs.view_starts[numbers[of]] + shown[of] - 1]
        return rows

    def _prints(self, numbers: np.ndarray) -> Int64[np.ndarray, "b 2"]:
        prints = np.zeros((len(numbers), 2), np.int64)
        if self.prints is not None:
            new = self.prints[numbers, 0] == 0
            prints[new, 0] = self._pairs.key_number[numbers[new]].astype(np.int64) | 1
        return prints

    def _dropped(self, number: int) -> Dropped:
        pairs = self._pairs
        captions = int(pairs.starts[number + 1] - pairs.starts[number])
        kind = kinds.NO_FEATURES if captions else kinds.CAPTION_ROLES
        return Dropped(str(number), kind, f"sample {number} is {kind}")
