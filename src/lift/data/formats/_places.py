"""From a sample's number to its storage group and its place in it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


class Places:
    """Running sums of group sizes, searched by halving."""

    def __init__(self, groups: Sequence[int]) -> None:
        self._ends = list(accumulate(groups))
        self.total = self._ends[-1] if self._ends else 0

    def __call__(self, index: int) -> tuple[int, int]:
        """Return (group, place in it). Raises IndexError outside the samples."""
        if not 0 <= index < self.total:
            raise IndexError(f"no sample {index} among {self.total}")
        group = bisect_right(self._ends, index)
        return group, index - (self._ends[group - 1] if group else 0)
