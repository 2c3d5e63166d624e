"""Every image of some sources by the hash of its content, with the rows that it is to have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lift.cache.addresses import HASH_DIGITS, Place, addresses, content_hash
from lift.data.spilled import Spilled
from lift.errors import BrokenSample, DataError, Unreachable
from lift.terms import Sample, Source
from lift.text.roles import Linked

_RECORD = np.dtype(
    [("image", f"V{HASH_DIGITS // 2}"), ("source", "i4"), ("number", "i8"), ("end", "i8")]
)
_CHUNK = 4_096

UNREADABLE = "unreadable"


class Found(NamedTuple):
    """One image: hash of its content (32 hex digits), key of its sample, where it is read."""

    image: str
    key: str
    place: Place


class Pictures:
    """The rows of every image, as the writer of a cache takes them; it can be read again.

    The first complete reading reads and hashes each image file and keeps hash, key and place in
    an unnamed temporary file (32 bytes and the key); later ones read that.

    Attributes:
        counters: images that can't be read, by reason; of the complete reading.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        views: int = 0,
        grid: int = 0,
        strict: bool = False,
    ) -> None:
        """Keep what to read; nothing is read yet.

        Args:
            sources: where the images are.
            views: random views of each image that get rows.
            grid: cells of a side of the patch grid that get rows.
            strict: the first image that can't be read ends the reading.
        """
        self.sources, self.views, self.grid = tuple(sources), views, grid
        self._strict = strict
        self._records, self._keys = Spilled(_RECORD), Spilled(np.uint8)
        self._complete, self._first = False, ""
        self.counters: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many rows there are at most: equal images share theirs."""
        return sum(map(len, self.sources)) * (1 + self.views + self.grid**2)

    def __iter__(self) -> Iterator[Linked]:
        for found in self.images():
            source = self.sources[found.place.source].name
            for address in addresses(found.image, self.views, self.grid, found.place):
                yield Linked(address, found.key, address.role, source)

    def images(self) -> Iterator[Found]:
        """Yield every image in order, those of equal content each by itself.

        Raises:
            DataError: none can be read.
            BrokenSample: an image can't be read, and that is to end the reading.
            Unreachable: the place that holds them does not answer.
        """
        return self._known() if self._complete else self._read()

    def _read(self) -> Iterator[Found]:
        self.counters.clear()
        self._records, self._keys = Spilled(_RECORD), Spilled(np.uint8)
        for place in self._places():
            sample = self._sample(place)
            if sample is None:
                continue
            digest, key = content_hash(sample.image), sample.key.encode("utf-8", "surrogatepass")
            self._keys.append(np.frombuffer(key, np.uint8))
            self._records.append(np.array([(digest, *place, len(self._keys))], _RECORD))
            yield Found(digest.hex(), sample.key, place)
        if self.counters and not len(self._records):
            raise DataError(
                f"None of {self.counters.total():,} images can be read; the first: {self._first}"
            )
        self._complete = True

    def _places(self) -> Iterator[Place]:
        for source, pairs in enumerate(self.sources):
            yield from (Place(source, number) for number in range(len(pairs)))

    def _sample(self, place: Place) -> Sample | None:
        try:
            return read_at(self.sources, place)
        except BrokenSample as error:
            if self._strict:
                raise
            self.counters[f"{self.sources[place.source].name}, {error.kind}"] += 1
            self._first = self._first or str(error)
            return None

    def _known(self) -> Iterator[Found]:
        records, keys, start = self._records.mapped(), self._keys.mapped(), 0
        for first in range(0, len(records), _CHUNK):
            for image, source, number, end in records[first : first + _CHUNK].tolist():
                key = keys[start:end].tobytes().decode("utf-8", "surrogatepass")
                yield Found(image.hex(), key, Place(source, number))
                start = end


def read_at(sources: Sequence[Source], place: Place) -> Sample:
    """Return a sample.

    Raises:
        BrokenSample: it can't be read.
        Unreachable: the place that holds it does not answer.
    """
    try:
        return sources[place.source].read(place.number)
    except (BrokenSample, Unreachable):
        raise
    except DataError as error:
        raise BrokenSample(UNREADABLE, str(error)) from error
