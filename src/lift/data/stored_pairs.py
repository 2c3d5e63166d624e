"""Pairs as rows: which stored image vectors and which stored captions belong together."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt64

from lift.cache.addresses import VIEW, WHOLE
from lift.cache.features import FeatureCache
from lift.cache.reader import EmbeddingCache
from lift.data import kinds
from lift.data.dice import key_number
from lift.data.linked import LinkedRows
from lift.data.rows import of_roles
from lift.data.spilled import Spilled, room_for
from lift.data.tally import Tally
from lift.errors import DataError, MissingRows
from lift.terms import Source, unit

BLOCK = 4_096
_CHUNK = 4_096


class PairBlock(NamedTuple):
    """Some neighbouring samples that have a stored image and a caption.

    Attributes:
        h: image vectors as the tower gave them.
        t: caption vectors of unit length.
        owner: for each caption, the position in `h` that it describes.
        weight: for each caption, how well it fits its image relative to others.
        number: of each sample in the source.
        key: a number for each sample, by which parts are drawn; equal images have one.
    """

    h: Float32[np.ndarray, "b width"]
    t: Float32[np.ndarray, "c d"]
    owner: Int64[np.ndarray, " c"]
    weight: Float32[np.ndarray, " c"]
    number: Int64[np.ndarray, " b"]
    key: UInt64[np.ndarray, " b"]


class StoredPairs:
    """For each sample of a source its image row and its caption rows; on disk, mapped.

    Attributes:
        name: of the source.
        captions, images: the two caches.
        image_row: row of each sample's image, -1 where none is stored.
        starts: where each sample's captions begin; one more at the end.
        caption_row, weight: of each caption.
        role: of each caption, a place in `roles`.
        key_number: 63 bits that stand for each sample's key.
        view_starts, view_row: rows of each sample's stored random views, likewise.
        missing: samples that are in no pair, by reason.
        met: captions of each role, those that don't take part included.
        digest: of all keys, captions and images in order (32 hex digits).
    """

    def __init__(
        self,
        source: Source,
        captions: EmbeddingCache,
        images: FeatureCache,
        roles: Sequence[str] = (),
    ) -> None:
        """Read all captions of the source, and all links of the images' cache; no pixels.

        Args:
            source: the pairs.
            captions: a row for each caption.
            images: rows of the images, tied to the samples' keys.
            roles: of the captions that take part; empty for all.

        Raises:
            DataError: no sample has both, samples share a key, or a key has two images.
            MissingRows: captions without a row; how many, and the first of them.
        """
        self.name, self.captions, self.images = source.name, captions, images
        self.roles: list[str] = []
        self.missing = Tally()
        self.met: Counter[str] = Counter()
        linked = LinkedRows(source, images, (WHOLE, VIEW))
        self.image_row = self._whole(source, linked)
        self.view_starts, self.view_row = _views(linked)
        self._read(source, frozenset(roles))
        if not len(self):
            raise DataError(self._nothing(source))

    def __len__(self) -> int:
        """Return how many samples there are that have both."""
        return self.usable

    @property
    def samples(self) -> int:
        """Return how many samples the source has."""
        return len(self.image_row)

    def blocks(
        self, size: int = BLOCK, start: int = 0, stop: int | None = None
    ) -> Iterator[PairBlock]:
        """Yield the pairs of samples `start` to `stop` - 1 in order, `size` samples at a time."""
        stop = self.samples if stop is None else min(stop, self.samples)
        for first in range(start, stop, size):
            numbers = np.arange(first, min(first + size, stop))
            numbers = numbers[self.has_both[numbers]]
            if len(numbers):
                yield self.block(numbers)

    def block(self, numbers: Int64[np.ndarray, " b"]) -> PairBlock:
        """Return the pairs of some samples that have both."""
        places, owner = self.places(numbers)
        rows = torch.from_numpy(self.captions.take(self.caption_row[places]))
        return PairBlock(
            h=self.images.take(self.image_row[numbers]),
            t=unit(rows).numpy(),
            owner=owner,
            weight=self.weight[places],
            number=numbers,
            key=self.image_row[numbers].astype(np.uint64),  # equal images go together
        )

    def places(
        self, numbers: Int64[np.ndarray, " b"]
    ) -> tuple[Int64[np.ndarray, " c"], Int64[np.ndarray, " c"]]:
        """Return the places of all captions of some samples, and whose they are."""
        return spans(self.starts, numbers)

    def _whole(self, source: Source, linked: LinkedRows) -> Int64[np.ndarray, " n"]:
        if WHOLE not in linked.roles:
            raise DataError(
                f"The features in {self.images.folder} are of none of the images of {source.name}: "
                "their keys differ. Run `lift embed --images` on this data with that folder."
            )
        rows = room_for(len(source), np.int64)
        rows[:] = -1
        role = linked.roles.index(WHOLE)
        for start in range(0, len(linked.records), _CHUNK):
            found = linked.records[start : start + _CHUNK]
            found = found[found["role"] == role]
            twice = (rows[found["number"]] >= 0) & (rows[found["number"]] != found["row"])
            rows[found["number"]] = found["row"]
            twice |= rows[found["number"]] != found["row"]
            if twice.any():
                self._refuse_two_images(source, int(found["number"][np.argmax(twice)]))
        return rows

    def _refuse_two_images(self, source: Source, number: int) -> None:
        key = next(itertools.islice(source.texts(), number, None))[0]
        raise DataError(
            f"The features in {self.images.folder} hold two images under the key {key!r}: embed "
            "sources that share keys, or that have changed, into folders of their own."
        )

    def _read(self, source: Source, roles: frozenset[str]) -> None:
        digest = hashlib.blake2b(digest_size=16)
        codes: dict[str, int] = {}
        counts, keys = Spilled(np.int64), Spilled(np.uint64)
        rows, weights, kinds_of = Spilled(np.int64), Spilled(np.float32), Spilled(np.int16)
        held: list[tuple[str, list]] = []
        missing, first = 0, ""

        def flush() -> None:
            nonlocal missing, first
            texts = [caption.text for _, taken in held for caption in taken]
            found = self.captions.find(texts)
            if (found < 0).any():
                missing += int((found < 0).sum())
                first = first or texts[int(np.argmax(found < 0))]
            own = [caption for _, taken in held for caption in taken]
            rows.append(found)
            weights.append(np.array([caption.weight for caption in own], np.float32))
            kinds_of.append(np.array([codes.setdefault(c.role, len(codes)) for c in own], np.int16))
            counts.append(np.array([len(taken) for _, taken in held], np.int64))
            keys.append(np.array([key_number(key) for key, _ in held], np.uint64))
            held.clear()

        for number, (key, captions) in enumerate(source.texts()):
            taken = of_roles(captions, tuple(roles))
            self.met.update(caption.role for caption in captions)
            words = "\0".join([key, *(caption.text for caption in captions)])
            digest.update(words.encode("utf-8", "surrogatepass") + b"\n")
            if captions and not taken:
                self.missing.add(kinds.CAPTION_ROLES, f"sample {key!r}")
            elif taken and self.image_row[number] < 0:
                self.missing.add(kinds.NO_FEATURES, f"sample {key!r}")
            held.append((key, taken))
            if len(held) >= _CHUNK:
                flush()
        flush()
        if missing:
            raise MissingRows(
                f"{missing} captions of {source.name} have no row in the cache; the first is "
                f"{first!r}. Run `lift embed` on this data with the cache's folder: it adds what "
                "is missing."
            )
        sizes = counts.mapped()
        self.starts = room_for(len(sizes) + 1, np.int64)
        np.cumsum(sizes, out=self.starts[1:])
        self.caption_row, self.weight, self.role = (s.mapped() for s in (rows, weights, kinds_of))
        self.key_number = keys.mapped()
        self.roles = list(codes)
        self.has_both = room_for(len(sizes), np.bool_)
        np.logical_and(self.image_row >= 0, sizes > 0, out=self.has_both)
        self.usable = int(self.has_both.sum())
        digest.update(self.image_row.data)
        self.digest = digest.hexdigest()

    def _nothing(self, source: Source) -> str:
        why = next(iter(self.missing.first.values()), "")
        return (
            f"No sample of {source.name} has both a stored image and a caption"
            f"{f' (the first without: {why})' if why else ''}: run `lift embed --images` on this "
            "data with the features' folder."
        )


def spans(
    starts: Int64[np.ndarray, " s"], numbers: Int64[np.ndarray, " b"]
) -> tuple[Int64[np.ndarray, " c"], Int64[np.ndarray, " c"]]:
    """Return every place from `starts[n]` to `starts[n + 1]`, and which of the numbers it is of."""
    begins, sizes = starts[numbers], starts[numbers + 1] - starts[numbers]
    owner = np.repeat(np.arange(len(numbers)), sizes)
    before = np.cumsum(sizes) - sizes
    return np.arange(int(sizes.sum())) - before[owner] + begins[owner], owner


def _views(linked: LinkedRows) -> tuple[np.ndarray, np.ndarray]:
    """Return where each sample's views begin, and their rows in the order that they were linked."""
    starts, found = room_for(len(linked.starts), np.int64), Spilled(np.int64)
    if VIEW in linked.roles:
        role = linked.roles.index(VIEW)
        for start in range(0, len(linked.records), _CHUNK):
            records = linked.records[start : start + _CHUNK]
            records = records[records["role"] == role]
            np.add.at(starts, records["number"] + 1, 1)
            found.append(records["row"])
        np.cumsum(starts, out=starts)
    return starts, found.mapped()
