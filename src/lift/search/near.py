"""From vectors to hits: rows of both kinds, enough of them that the best items are among them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from lift.errors import ConfigError, unknown
from lift.search.filters import Filter
from lift.search.ranking import DEPTH, Near, Ranked
from lift.search.terms import KINDS, Hit, Kind, Merge, Searchable, Stored
from lift.search.view import NOBODY, View

MOST = 1_000
"""Hits of one answer."""

MERGES: tuple[Merge, ...] = ("auto", "calibrated", "reciprocal", "cosine")


def require_askable(
    asked: Searchable, z: np.ndarray, top: int, kinds: Sequence[Kind], merge: Merge
) -> None:
    """Raise ConfigError unless something can be asked so."""
    if z.ndim != 2 or z.shape[1] != asked.space.dimensions:
        raise ConfigError(
            f"{asked.name} is asked with vectors of {asked.space.dimensions} numbers, not of the "
            f"shape {z.shape}."
        )
    if not 1 <= top <= MOST:
        raise ConfigError(f"An answer has from 1 to {MOST:,} hits, not {top}.")
    if not kinds or any(kind not in KINDS for kind in kinds):
        raise unknown("kinds to look for:", str(list(kinds)), KINDS)
    if merge not in MERGES:
        raise unknown("way to merge", str(merge), MERGES)


def near(
    view: View,
    z: Float32[np.ndarray, "q d"],
    *,
    of: Sequence[Kind | None],
    top: int,
    where: Filter | None,
    kinds: Sequence[Kind],
    merge: Merge,
) -> list[list[Hit]]:
    """Return the best items for each vector; see `lift.search.terms.Searchable`."""
    present: list[Kind] = [kind for kind in KINDS if kind in kinds and view.sides[kind].live]
    ways: list[Merge] = [view.ranking.way(merge, kind, present) for kind in of]
    depth = max(top, DEPTH) if "reciprocal" in ways else top
    lists: dict[Kind, list[list[Near]]] = {
        kind: _rows(view, kind, z, ways, depth, where) for kind in present
    }
    ranked = [
        view.ranking.merged({kind: lists[kind][q] for kind in present}, top=top, way=way)
        for q, way in enumerate(ways)
    ]
    wanted = {int(one.item) for own in ranked for one in own}  # type: ignore[call-overload]
    stored = view.stored(sorted(wanted))
    return [[_hit(one, stored) for one in own if one.item in stored] for own in ranked]


def _rows(
    view: View,
    kind: Kind,
    z: Float32[np.ndarray, "q d"],
    ways: Sequence[Merge],
    top: int,
    where: Filter | None,
) -> list[list[Near]]:
    """Return rows of a kind for each vector, such that its best `top` items are all among them.

    An item may have several rows, and a field's weight may lift a row above nearer ones: twice as
    many rows are asked for until neither can matter.
    """
    side, allowed = view.sides[kind], view.allowed(kind, where)
    most = len(side.owner) if allowed is None else int(allowed.sum())
    found: list[list[Near]] = [[] for _ in z]
    if not most:
        return found
    each = side.live / max(side.items, 1)  # rows of an item
    want = min(most, int(np.ceil(top * each)) + (0 if each == 1 else top))
    open_ = list(range(len(z)))
    while open_:
        places, cosines = side.engine.nearest(z[open_], want, allowed)
        left = []
        for row, q in enumerate(open_):
            found[q] = _known(view, kind, places[row], cosines[row])
            if want < most and not _enough(view, kind, found[q], ways[q], top):
                left.append(q)
        open_, want = left, min(most, 2 * want)
    return found


def _known(view: View, kind: Kind, places: np.ndarray, cosines: np.ndarray) -> list[Near]:
    side, names = view.sides[kind], view.fields
    there = (places >= 0) & (places < len(side.owner))
    places, cosines = places[there], cosines[there]
    owners = side.owner[places]
    return [
        Near(owner, cosine, names.get(name, ""), number)
        for owner, cosine, name, number in zip(
            owners.tolist(),
            cosines.tolist(),
            side.field[places].tolist(),
            side.number[places].tolist(),
            strict=True,
        )
        if owner != NOBODY
    ]


def _enough(view: View, kind: Kind, rows: Sequence[Near], way: Merge, top: int) -> bool:
    """Return whether no row that was not asked for can be among the best `top` items."""
    if len({row.item for row in rows}) < top:
        return False
    if view.ranking.even(kind):
        return True
    least = view.ranking.items_of(kind, rows, way)[top - 1].score
    return least >= view.ranking.best_unseen(kind, way, rows[-1].cosine)


def _hit(one: Ranked, stored: dict[int, Stored]) -> Hit:
    item = stored[one.item]  # type: ignore[index]
    texts = item.texts.get(one.row.field, ()) if one.kind == "text" else ()
    text = texts[one.row.number] if one.row.number < len(texts) else ""
    return Hit(item.key, one.score, one.row.cosine, one.kind, one.row.field, one.row.number, text)
