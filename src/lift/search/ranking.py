"""Rows that are near to a query, of both kinds, as one list of items."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lift.errors import ConfigError
from lift.merging import Calibration
from lift.search.terms import KINDS, Kind, Merge

SCALE = 20.0
"""What cosines are multiplied with where no calibration says how sure they make: the scale that
sentence-transformers trains text encoders with (MultipleNegativesRankingLoss)."""

RANK_CONSTANT = 60
"""k of reciprocal rank fusion (Cormack et al. 2009)."""

DEPTH = 100
"""Items of each kind that are ranked where ranks are added up, if no more are wanted: else the
order would depend on how many hits are asked for."""


class Near(NamedTuple):
    """A row near to a query.

    Attributes:
        item: whose it is; any value that tells items apart.
        cosine: with the query.
        field, number: of which field, the how-manieth of it.
    """

    item: Hashable
    cosine: float
    field: str
    number: int


class Ranked(NamedTuple):
    """An item of the one list: its score, and the row that stands for it."""

    item: Hashable
    score: float
    kind: Kind
    row: Near


@dataclass(frozen=True)
class Ranking:
    """How rows become one list.

    A field's weight w multiplies the odds that an item is right: log(w) is added to its log odds,
    or to `SCALE` times the cosine where nobody calibrated. An item scores as its best row does; in
    turns (reciprocal rank fusion) what its best image and its best text are worth adds up.

    Attributes:
        weights: of fields, above 0; 1 where none is named.
        calibrations: from cosines to log odds for each kind, where they were fitted.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    calibrations: Mapping[Kind, Calibration] = field(default_factory=dict)

    @classmethod
    def told(cls, weights: Mapping[str, float], calibrations: Mapping[str, Any]) -> Ranking:
        """Return what a record says: slope and offset of both kinds, or of none.

        Raises:
            ConfigError: calibrations that are none.
        """
        try:
            curves: dict[Kind, Calibration] = {
                kind: Calibration(*(float(number) for number in calibrations[kind]))
                for kind in KINDS
                if calibrations
            }
            sane = all(math.isfinite(c.slope + c.offset) and c.slope > 0 for c in curves.values())
        except (KeyError, TypeError, ValueError, OverflowError):
            sane, curves = False, {}
        if not sane:
            raise ConfigError(f"The calibrations {calibrations!r} are none.")
        return cls(weights, curves)

    def way(self, merge: Merge, of: Kind | None, present: Sequence[Kind]) -> Merge:
        """Return how hits are merged: never "auto".

        Args:
            merge: as asked.
            of: what the query is made of.
            present: the kinds that there are rows of.
        """
        if merge != "auto":
            known = all(kind in self.calibrations for kind in present)
            return "reciprocal" if merge == "calibrated" and not known else merge
        if len(present) < 2:
            return "cosine"
        both = all(kind in self.calibrations for kind in KINDS)
        return "calibrated" if both and of == "text" else "reciprocal"

    def best_unseen(self, kind: Kind, way: Merge, cosine: float) -> float:
        """Return the most that a row can score whose cosine is at most this one."""
        slope, offset = self._line(kind, way)
        most = max((math.log(w) for w in self.weights.values()), default=0.0)
        return slope * cosine + offset + max(most, 0.0)

    def even(self, kind: Kind) -> bool:
        """Whether all fields of a kind count alike: its rows are ordered by their cosines."""
        return kind == "image" or all(weight == 1.0 for weight in self.weights.values())

    def _line(self, kind: Kind, way: Merge) -> tuple[float, float]:
        if way == "calibrated" and kind in self.calibrations:
            return self.calibrations[kind].slope, self.calibrations[kind].offset
        return SCALE, 0.0

    def merged(self, lists: Mapping[Kind, Sequence[Near]], *, top: int, way: Merge) -> list[Ranked]:
        """Return the best items, best first, each once; equal scores keep the order of the lists.

        Args:
            lists: rows of each kind, in any order.
            top: how many.
            way: see `way`; "auto" is none.
        """
        best: dict[Hashable, Ranked] = {}
        for kind, rows in lists.items():
            own = self.items_of(kind, rows, way)
            if way == "reciprocal":
                own = [
                    one._replace(score=1 / (RANK_CONSTANT + rank + 1))
                    for rank, one in enumerate(own)
                ]
            for one in own:
                other = best.get(one.item)
                if other is None:
                    best[one.item] = one
                elif way == "reciprocal":
                    ahead = one if one.score > other.score else other
                    best[one.item] = ahead._replace(score=one.score + other.score)
                elif one.score > other.score:
                    best[one.item] = one
        return sorted(best.values(), key=lambda one: -one.score)[:top]

    def items_of(self, kind: Kind, rows: Sequence[Near], way: Merge) -> list[Ranked]:
        """Return the items of one kind's rows, best first, each by its best row."""
        slope, offset = self._line(kind, way)
        bonus = {name: math.log(weight) for name, weight in self.weights.items()}
        best: dict[Hashable, tuple[float, Near]] = {}
        for row in rows:
            score = slope * row.cosine + offset + bonus.get(row.field, 0.0)
            other = best.get(row.item)
            if other is None or score > other[0]:
                best[row.item] = score, row
        found = [Ranked(item, score, kind, row) for item, (score, row) in best.items()]
        return sorted(found, key=lambda one: -one.score)
