"""What was left out and why: a count and a first example for each reason."""

from __future__ import annotations

from collections.abc import Mapping

from lift.errors import shortened


class Tally:
    """Counts by reason, in the order in which the reasons were met.

    Attributes:
        counts: how many, by reason.
        first: the sentence or name of the first of each reason.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.first: dict[str, str] = {}

    def add(self, why: str, example: str, count: int = 1) -> None:
        """Count `count` more of the reason `why`."""
        if count:
            self.counts[why] = self.counts.get(why, 0) + count
            self.first.setdefault(why, shortened(example))

    def update(self, counts: Mapping[str, int], first: Mapping[str, str]) -> None:
        """Add what another tally counted."""
        for why, count in counts.items():
            self.add(why, first.get(why, ""), count)

    def sentence(self) -> str:
        """Return `3 without caption (the first: a.jpg), 1 ...`, or "nothing"."""
        told = (f"{n:,} {why} (the first: {self.first[why]})" for why, n in self.counts.items())
        return "; ".join(told) or "nothing"
