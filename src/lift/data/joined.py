"""Several sources as one: `a::b` one after the other, `a@2::b@1` mixed by weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

import numpy as np
from jaxtyping import Int64

from lift.data.formats._places import Places
from lift.data.tally import Tally
from lift.errors import ConfigError
from lift.terms import Caption, Sample, Source


class Joined:
    """The samples of several sources, numbered one source after the other.

    Attributes:
        sources: in the order of the numbers.
        weights: share of a run's samples that each gives, relative to the others; None takes all
            as one set, each sample once an epoch.
        begins: number of each source's first sample.
        window_samples: see `lift.data.formats._layout.Layout`; the least of all sources.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float] | None) -> None:
        """Join `sources`.

        Raises:
            ConfigError: a weight that is not above 0.
        """
        if weights is not None and min(weights) <= 0:
            raise ConfigError(f"Weights of sources must be above 0, not {min(weights):g}.")
        self.sources = tuple(sources)
        self.weights = None if weights is None else tuple(weights)
        self.name = " + ".join(source.name for source in sources)
        self.groups = tuple(size for source in sources for size in source.groups)
        sizes = [len(source) for source in sources]
        self.begins = tuple(accumulate(sizes, initial=0))[:-1]
        self._places = Places(sizes)
        windows = [getattr(source, "window_samples", None) for source in sources]
        self.window_samples = min((w for w in windows if w is not None), default=None)
        self.whereabouts = " ".join(getattr(source, "whereabouts", "") for source in sources)

    def __len__(self) -> int:
        return self._places.total

    def read(self, index: int) -> Sample:
        """Return sample `index`, as its source has it."""
        source, place = self._places(index)
        return self.sources[source].read(place)

    def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        """Yield (key, captions) of every sample of every source in order."""
        for source in self.sources:
            yield from source.texts()

    def source_of(self, numbers: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return which source each sample is of."""
        return np.searchsorted(np.array(self.begins), numbers, side="right") - 1

    def ahead(self, groups: Sequence[int]) -> None:
        """Tell each source which of its groups will be read next."""
        first = 0
        for source in self.sources:
            own = [g - first for g in groups if first <= g < first + len(source.groups)]
            tell: Callable[[Sequence[int]], None] | None = getattr(source, "ahead", None)
            if tell is not None and own:
                tell(own)
            first += len(source.groups)

    def promise(self) -> str:
        """Return how long remote reads may stall, "" where none is remote."""
        told = (getattr(source, "promise", str)() for source in self.sources)
        return " ".join(dict.fromkeys(sentence for sentence in told if sentence))

    @property
    def counters(self) -> Mapping[str, int]:
        """Return what the sources leave out, by source and reason."""
        return self._all().counts

    @property
    def examples(self) -> Mapping[str, str]:
        """Return the first example of each reason in `counters`."""
        return self._all().first

    def _all(self) -> Tally:
        found = Tally()
        for source in self.sources:
            examples = getattr(source, "examples", {})
            for why, number in getattr(source, "counters", {}).items():
                found.add(f"{source.name}, {why}", examples.get(why, ""), number)
        return found


def sources_of(source: Source) -> tuple[Source, ...]:
    """Return the sources that are joined in one, or the one."""
    return source.sources if isinstance(source, Joined) else (source,)
