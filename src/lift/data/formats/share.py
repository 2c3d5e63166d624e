"""A share of another source, drawn by the keys: `share:data=[WORDS],start=0,stop=0.9`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lift.data.dice import key_number
from lift.data.formats._within import Within
from lift.data.joined import Joined
from lift.data.spilled import Mapped, Spilled
from lift.data.tally import Tally
from lift.errors import ConfigError, DataError
from lift.terms import Caption, Sample, Source

_BLOCK = 8192
_ALL = 1 << 63
"""One more than the largest `key_number`."""
OUTSIDE = "outside the share"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of a share.

    Attributes:
        data: words that open the source, in brackets where they hold commas or `::`.
        start, stop: the samples whose keys' place in [0, 1) is in [start, stop). Shares whose
            intervals are apart have no key in common, whatever the order of the source, and what
            is added to the source later moves no sample from one to another.
        seed: another seed, other places; a share of a share needs one of its own.
        strict: the first sample that can't be used ends the reading.
    """

    data: str = ""
    start: float = 0.0
    stop: float = 1.0
    seed: int = 0
    strict: bool = False

    def __post_init__(self) -> None:
        if self.data.startswith("[") and self.data.endswith("]"):
            object.__setattr__(self, "data", self.data[1:-1])
        if not self.data:
            raise ConfigError("share needs the words of its data: share:data=[train.tar],stop=0.9.")
        if not 0 <= self.start < self.stop <= 1:
            raise ConfigError(
                f"A share is from start to stop, 0 <= start < stop <= 1, not {self.start:g} to "
                f"{self.stop:g}."
            )


def build(config: Config) -> Source:
    """Open the source and read its keys; of joined ones each gives its share.

    Raises:
        ConfigError: no such source, or a selection with weights.
        DataError: nothing there, or not readable.
    """
    from lift.data.source import open_source  # which loads formats, this one among them

    inner = open_source(config.data, strict=config.strict)
    if not isinstance(inner, Joined):
        return Share(config, inner)
    shares = [Share(config, source) for source in inner.sources]
    full = [number for number, share in enumerate(shares) if len(share)]
    if not full:
        return shares[0]
    weights = None if inner.weights is None else [inner.weights[number] for number in full]
    return Joined([shares[number] for number in full], weights)


def place_of(key: str, seed: int) -> int:
    """Return a key's place, of 2**63: it has nothing to do with that of other uses of keys."""
    return key_number(f"share\0{seed}\0{key}")


def is_inside(key: str, start: float, stop: float, seed: int) -> bool:
    """Return whether a key is in a share."""
    return int(start * _ALL) <= place_of(key, seed) < int(stop * _ALL)


class Share(Within):
    """Some samples of another source, in its order.

    Attributes:
        name: of the inner source, and which share.
        whereabouts: of the inner source.
        groups: samples of each storage group of the inner source that has any here.
        window_samples: of the inner source, less what is outside; see `Layout`.
        clusters: samples of each cluster of the inner source that has any here; () without.
    """

    def __init__(self, config: Config, inner: Source) -> None:
        if getattr(inner, "slots", 0):
            raise ConfigError(
                f"{inner.name} is a selection with weights, which a share would lose: select from "
                "the share instead."
            )
        self._config, self._inner = config, inner
        self.name = f"{inner.name} (share {config.start:g} to {config.stop:g})"
        self.whereabouts = getattr(inner, "whereabouts", "")
        self._numbers = Mapped.of(self._read_keys())
        full, groups = self._counts(inner.groups)
        self._owners, self.groups = full, tuple(groups)
        self.clusters = tuple(self._counts(getattr(inner, "clusters", ()))[1])

    def _read_keys(self) -> np.ndarray:
        """Return the numbers of the samples of this share; 8 bytes each lie on disk."""
        numbers, held = Spilled(np.int64), list[int]()
        for number, (key, _) in enumerate(self._inner.texts()):
            if self._holds(key):
                held.append(number)
            if len(held) == _BLOCK:
                numbers.append(np.array(held, np.int64))
                held.clear()
        numbers.append(np.array(held, np.int64))
        return numbers.mapped()

    def _holds(self, key: str) -> bool:
        return is_inside(key, self._config.start, self._config.stop, self._config.seed)

    def _counts(self, sizes: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return which runs of the inner source have samples here, and how many."""
        ends = np.searchsorted(self._numbers.values, np.cumsum(np.asarray(sizes, np.int64)))
        counts = np.diff(ends, prepend=0)
        full = np.flatnonzero(counts)
        return full.tolist(), counts[full].tolist()

    def __len__(self) -> int:
        return len(self._numbers.values)

    def read(self, index: int) -> Sample:
        """Return sample `index`.

        Raises:
            DataError: it can't be read, or the source has changed since it was opened.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index} among {len(self)}")
        sample = self._inner.read(int(self._numbers.values[index]))
        if not self._holds(sample.key):
            raise self._changed()
        return sample

    def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        """Yield (key, captions) of every sample of this share, without reading image bytes."""
        count = 0
        for key, captions in self._inner.texts():
            if self._holds(key):
                count += 1
                yield key, captions
        if count != len(self):
            raise self._changed()

    def _changed(self) -> DataError:
        return DataError(f"{self._inner.name} changed while a share of it was in use; start again.")

    def _outside(self, tally: Tally) -> None:
        tally.add(OUTSIDE, self.name, len(self._inner) - len(self))
