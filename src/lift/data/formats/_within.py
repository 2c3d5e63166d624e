"""A source that shows some samples of another one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from lift.data.tally import Tally
from lift.terms import Source


class Within(ABC):
    """What a part of another source hands on.

    Attributes:
        _inner: the other source.
        _owners: its storage group of each of the own groups; empty where groups are others.
    """

    _inner: Source
    _owners: list[int]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _outside(self, tally: Tally) -> None:
        """Count what of the inner source is not in this part."""

    @property
    def window_samples(self) -> int | None:
        """Return how many samples in random order are read without loading a group again."""
        window = getattr(self._inner, "window_samples", None)
        # As many files as the inner source's own window, which hold fewer samples that are kept.
        return None if window is None else max(1, int(window * len(self) / len(self._inner)))

    @property
    def counters(self) -> Mapping[str, int]:
        """Return what is left out, by reason: by the inner source, and as outside this part."""
        return self._all().counts

    @property
    def examples(self) -> Mapping[str, str]:
        """Return the first example of each reason in `counters`."""
        return self._all().first

    def ahead(self, groups: Sequence[int]) -> None:
        """Tell the inner source which of its groups will be read next."""
        tell: Callable[[Sequence[int]], None] | None = getattr(self._inner, "ahead", None)
        if tell is not None and self._owners:
            tell([self._owners[group] for group in groups])

    def promise(self) -> str:
        """Return how long remote reads of the inner source may stall, "" where none is remote."""
        return str(getattr(self._inner, "promise", str)())

    def _all(self) -> Tally:
        tally, inner = Tally(), cast(Any, self._inner)
        tally.update(getattr(inner, "counters", {}), getattr(inner, "examples", {}))
        self._outside(tally)
        return tally
