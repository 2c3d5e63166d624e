"""What all layouts share: numbers to places, bounds, and captions that can't be used, counted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from lift.data import kinds
from lift.data.formats._places import Places
from lift.data.tally import Tally
from lift.errors import BrokenSample, ConfigError, DataError, Unreachable
from lift.terms import Caption, Sample

Told: TypeAlias = tuple[str, Callable[[], tuple[Caption, ...]]]
"""A sample's key and what returns its captions, or raises BrokenSample."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Options that every layout has; a layout's Config inherits them.

    Attributes:
        max_image_bytes: a sample with a larger file is left out and counted.
        max_caption_chars: likewise, a sample with a longer caption.
        strict: the first sample that can't be used ends the reading.
    """

    max_image_bytes: int = 64 << 20
    max_caption_chars: int = 20_000
    strict: bool = False

    def __post_init__(self) -> None:
        if self.max_image_bytes < 1 or self.max_caption_chars < 1:
            raise ConfigError(
                "max_image_bytes and max_caption_chars must be above 0, not "
                f"{self.max_image_bytes} and {self.max_caption_chars}."
            )


Refuse: TypeAlias = Callable[[str, str], None]
"""Is told (kind, sentence) of what is no sample: counts it, or raises BrokenSample."""


@dataclass(kw_only=True)
class Absent:
    """What is left out while opening: counted, or raised where the layout is strict.

    Kinds are those of `lift.data.kinds`.
    """

    strict: bool
    tally: Tally = field(default_factory=Tally)

    def add(self, kind: str, example: str) -> None:
        """Count one more, with its name as the example. Raises BrokenSample if strict."""
        if self.strict:
            raise BrokenSample(kind, f"{example}: {kind}; strict=true stops at the first.")
        self.tally.add(kind, example)

    def refuse(self, kind: str, sentence: str) -> None:
        """Count one more, with a sentence as the example. Raises it if strict."""
        if self.strict:
            raise BrokenSample(kind, sentence)
        self.tally.add(kind, sentence)

    def broken(self, error: BrokenSample) -> None:
        """Count what an error says. Raises it if strict."""
        if self.strict:
            raise error
        self.tally.add(error.kind, str(error))


class Layout(ABC):
    """A source whose samples lie in storage groups; see `lift.terms.Source`.

    Attributes:
        name: what to call it.
        whereabouts: the folders or URLs of its files, for guesses at what data they are.
        groups: samples of each storage group (a tar, a row group, a folder), in order.
        window_samples: how many samples in random order are read without loading a group again
            and again; None where any order costs the same.
        bounds: what is left out.
        absent: items that are no samples, found while opening; counted by reason.
    """

    window_samples: int | None = None

    def __init__(
        self,
        name: str,
        whereabouts: str,
        groups: Sequence[int],
        bounds: Bounds,
        absent: Tally | None = None,
    ) -> None:
        self.name, self.whereabouts = name, whereabouts
        self.groups = tuple(groups)
        self.bounds = bounds
        self.absent = absent or Tally()
        self._unusable = Tally()
        self._places = Places(self.groups)

    def __len__(self) -> int:
        return self._places.total

    def read(self, index: int) -> Sample:
        """Return sample `index`. Raises BrokenSample naming it where it can't be read."""
        group, place = self._places(index)
        try:
            return self._read(group, place)
        except (BrokenSample, Unreachable):
            raise
        except DataError as error:
            raise BrokenSample(kinds.ROW_UNREADABLE, f"Sample {index}: {error}") from error

    def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        """Yield (key, captions) of every sample in order, without reading image bytes.

        A sample whose captions can't be used comes with none, so that places stay numbers, and
        is counted, as is a caption that can't be used beside others; unless the layout is strict.
        """
        unusable = Tally()
        for group in range(len(self.groups)):
            for key, told in self._told(group):
                try:
                    captions = told()
                except BrokenSample as error:
                    if self.bounds.strict:
                        raise
                    unusable.add(error.kind, str(error))
                    captions = ()
                for trouble in getattr(captions, "troubles", ()):
                    if self.bounds.strict:
                        raise trouble
                    unusable.add(trouble.kind + kinds.BESIDE, str(trouble))
                yield key, tuple(captions)
        self._unusable = unusable

    @property
    def counters(self) -> Mapping[str, int]:
        """Return what is left out, by reason: when opening, and by the last reading of texts."""
        return self._all().counts

    @property
    def examples(self) -> Mapping[str, str]:
        """Return the first example of each reason in `counters`."""
        return self._all().first

    def _all(self) -> Tally:
        both = Tally()
        for tally in (self.absent, self._unusable):
            both.update(tally.counts, tally.first)
        return both

    def ahead(self, groups: Sequence[int]) -> None:  # noqa: B027 -- files need nothing
        """Hear which groups are read next; what comes from afar is fetched in the background."""

    def promise(self) -> str:
        """Return how long reading may wait for a server at most, as a sentence; "" for files."""
        return ""

    @abstractmethod
    def _read(self, group: int, place: int) -> Sample:
        """Return the sample at a place of a group."""

    @abstractmethod
    def _told(self, group: int) -> Iterator[Told]:
        """Yield key and captions of every sample of a group, in order."""
