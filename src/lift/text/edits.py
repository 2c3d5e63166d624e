"""How far a text encoder moves for an edit of a caption, beside how far for a paraphrase.

For unit rows p and n of a caption and its edit and any unit image vector v,
v.p - v.n = v.(p - n) <= |p - n| (Cauchy and Schwarz). The distance of the two texts therefore
bounds the margin by which any image tower in that space, however it is trained, can prefer the
one to the other. A paraphrase moves the row as well: what an edit is worth shows beside that.

Intervals are of 95% and take everything that is about one photo (or one caption, where no photo
is named) as one observation: influences are summed within it (for the area under the curve as in
Obuchowski 1997), and the variance sets the number of items of Wilson's interval.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from lift.terms import Metric
from lift.text.geometry import SAME, distances
from lift.text.pairs import Edit, PairSet, choose

TIE = 1e-6
"""Distances closer than this are equal."""

_Z95 = 1.959963984540054
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Distances:
    """Distances |a - b| between unit rows, from 0 to 2.

    Attributes:
        count: of pairs of texts.
        mean: with an interval over photos.
        quantiles: at 10, 25, 50, 75 and 90%.
        curve: 101 quantiles, from the smallest to the largest.
    """

    count: int
    mean: Metric
    quantiles: tuple[float, ...]
    curve: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the median distance."""
        return self.quantiles[2]


@dataclass(frozen=True)
class Kind:
    """What the edits of one kind do.

    Attributes:
        name: the kind; "all" for all of them together.
        bound: |p - n| of caption and edit: no image tower reaches a larger margin of cosines.
        blind: edits that give the very row of their caption, so that nothing can tell them apart.
        compared: edits whose caption has a paraphrase.
        nearer: share of those that lie nearer to the caption than the paraphrase does; ties are
            half; None where none is compared.
        auc: chance that an edit lies further from its caption than a paraphrase, of whatever
            caption, from its own: 1 tells them apart by distance, 0.5 is chance, and below it
            edits are the nearer ones.
    """

    name: str
    bound: Distances
    blind: int
    compared: int
    nearer: Metric | None
    auc: Metric | None


@dataclass(frozen=True)
class Sensitivity:
    """Edits, paraphrases and unrelated captions beside each other.

    Attributes:
        all: every edit; those of each kind count as often as they were chosen.
        kinds: by name.
        paraphrases: distances of a caption and its paraphrase; None without any.
        unrelated: distances of captions that describe different things: of each caption and the
            next in the order of the choice; None where there is one caption.
    """

    all: Kind
    kinds: tuple[Kind, ...]
    paraphrases: Distances | None
    unrelated: Distances | None


@dataclass(frozen=True)
class Chosen:
    """The texts that the figures are taken on.

    Attributes:
        edits: at least one.
        paraphrases: for each edit, one of its caption, or None.
        texts: every distinct text among them, in the order to encode.
    """

    edits: tuple[Edit, ...]
    paraphrases: tuple[str | None, ...]
    texts: tuple[str, ...]


def choose_texts(pairs: PairSet, limit: int) -> Chosen:
    """Return at most `limit` edits, evenly over kinds, with a paraphrase where there is one."""
    edits = choose(pairs, limit)
    paraphrases = tuple(pairs.paraphrase(edit) for edit in edits)
    texts: dict[str, None] = {}
    for edit, other in zip(edits, paraphrases, strict=True):
        texts.update(dict.fromkeys([edit.caption, edit.text, *([other] if other else [])]))
    return Chosen(edits, paraphrases, tuple(texts))


def held(chosen: Chosen, known: Collection[str]) -> Chosen | None:
    """Return what is left of the choice where only some texts have rows; None without any edit."""
    kept = [
        (edit, other if other in known else None)
        for edit, other in zip(chosen.edits, chosen.paraphrases, strict=True)
        if edit.caption in known and edit.text in known
    ]
    if not kept:
        return None
    edits, paraphrases = zip(*kept, strict=True)
    texts = [text for edit in edits for text in (edit.caption, edit.text)]
    texts += [text for text in paraphrases if text]
    return Chosen(edits, paraphrases, tuple(dict.fromkeys(texts)))


def sensitivity(chosen: Chosen, z: Float64[np.ndarray, "n d"]) -> Sensitivity:
    """Return how edits and paraphrases move the rows.

    Args:
        chosen: what `choose_texts` gave.
        z: unit rows of its `texts`, in their order.
    """
    row = {text: i for i, text in enumerate(chosen.texts)}
    edits = chosen.edits
    own = np.array([row[edit.caption] for edit in edits])
    moved = distances(z[own], z[np.array([row[edit.text] for edit in edits])])
    other = np.array([-1 if text is None else row[text] for text in chosen.paraphrases])
    apart = np.where(other < 0, np.nan, distances(z[own], z[other]))
    photos = _numbers([edit.photo or edit.caption for edit in edits])
    names = np.array([edit.kind for edit in edits])
    kinds = []
    for name in sorted(set(names.tolist())):
        mine = names == name
        kinds.append(_kind(name, moved[mine], apart[mine], own[mine], photos[mine]))
    once, known = _first_of_each(own), np.flatnonzero(other >= 0)
    known = known[_first_of_each(own[known])]
    following = np.roll(once, -1)
    strange = photos[once] != photos[following]
    far = distances(z[own[once]], z[own[following]])[strange]
    return Sensitivity(
        all=_kind("all", moved, apart, own, photos),
        kinds=tuple(kinds),
        paraphrases=describe(apart[known], photos[known]) if len(known) else None,
        unrelated=describe(far, photos[once][strange]) if len(far) else None,
    )


def describe(values: Float64[np.ndarray, " n"], clusters: Int64[np.ndarray, " n"]) -> Distances:
    """Return mean and quantiles of at least one distance."""
    mean = float(values.mean())
    deviation, groups = _deviation((values - mean) / len(values), clusters)
    reach = _Z95 * deviation if groups > 1 else 2.0  # of a single one nothing is known
    metric = Metric(mean, max(0.0, mean - reach), min(2.0, mean + reach), groups)
    curve = np.quantile(values, np.linspace(0, 1, 101))
    quantiles = np.quantile(values, _QUANTILES)
    return Distances(len(values), metric, tuple(quantiles.tolist()), tuple(curve.tolist()))


def nearer(
    edits: Float64[np.ndarray, " n"],
    paraphrases: Float64[np.ndarray, " n"],
    clusters: Int64[np.ndarray, " n"],
) -> Metric:
    """Return the share of edits with a smaller distance than the paraphrase beside them."""
    credit = np.where(
        np.abs(edits - paraphrases) <= TIE, 0.5, (edits < paraphrases).astype(np.float64)
    )
    mean = float(credit.mean())
    return _interval(mean, (credit - mean) / len(credit), clusters, most=len(credit))


def area(
    edits: Float64[np.ndarray, " m"],
    edit_clusters: Int64[np.ndarray, " m"],
    paraphrases: Float64[np.ndarray, " n"],
    paraphrase_clusters: Int64[np.ndarray, " n"],
) -> Metric:
    """Return the chance that an edit's distance is above a paraphrase's, ties half.

    This is the area under the curve that tells the two apart by distance.
    """
    above = _below(np.sort(paraphrases), edits)
    below = 1.0 - _below(np.sort(edits), paraphrases)
    mean = float(above.mean())
    influence = np.concatenate([(above - mean) / len(above), (below - mean) / len(below)])
    return _interval(mean, influence, np.concatenate([edit_clusters, paraphrase_clusters]))


def _kind(
    name: str, moved: np.ndarray, apart: np.ndarray, own: np.ndarray, photos: np.ndarray
) -> Kind:
    """Return the figures of some edits, whose captions' paraphrases lie `apart` (NaN: none)."""
    known = np.isfinite(apart)
    share = auc = None
    if known.any():
        once = np.flatnonzero(known)[_first_of_each(own[known])]
        share = nearer(moved[known], apart[known], photos[known])
        auc = area(moved[known], photos[known], apart[once], photos[once])
    return Kind(
        name=name,
        bound=describe(moved, photos),
        blind=int((moved <= SAME).sum()),
        compared=int(known.sum()),
        nearer=share,
        auc=auc,
    )


def _below(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return for each value the share of the ordered ones below it, ties half."""
    less = np.searchsorted(ordered, values - TIE, "left")
    no_more = np.searchsorted(ordered, values + TIE, "right")
    return (less + no_more) / (2.0 * len(ordered))


def _interval(
    mean: float, influence: np.ndarray, clusters: np.ndarray, most: float = math.inf
) -> Metric:
    """Return a share with Wilson's interval over as many items as give its variance."""
    deviation, groups = _deviation(influence, clusters)
    items = float(groups)
    if 0 < mean < 1 and deviation > 0:
        items = min(most, mean * (1 - mean) / deviation**2)
    spread = _Z95**2 / items
    middle = (mean + spread / 2) / (1 + spread)
    half = _Z95 * math.sqrt(mean * (1 - mean) / items + spread / (4 * items)) / (1 + spread)
    low, high = max(0.0, min(mean, middle - half)), min(1.0, max(mean, middle + half))
    return Metric(mean, low, high, groups)


def _deviation(influence: np.ndarray, clusters: np.ndarray) -> tuple[float, int]:
    """Return the standard deviation of a figure from its items' influences, and the clusters."""
    _, number = np.unique(clusters, return_inverse=True)
    sums = np.bincount(number, influence)
    count = len(sums)
    return math.sqrt(float(sums @ sums) * count / max(count - 1, 1)), count


def _numbers(names: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """Return a number for each name, equal for equal ones."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], np.int64)


def _first_of_each(values: np.ndarray) -> np.ndarray:
    """Return the first position of every distinct value, in order."""
    return np.sort(np.unique(values, return_index=True)[1])
