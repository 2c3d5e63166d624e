"""Questions of right and wrong texts: their credit, a guess without the image, and a text oracle.

A question is answered right if every right text of it scores higher than every wrong one. Ties
are broken by nobody: the credit is the expectation over all orders of tied texts (see `credits`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64

from lift.errors import DataError
from lift.evals import _metrics as metrics
from lift.evals._encode import Images, encode_distinct
from lift.terms import Encoder, Foil, Sample, unit
from lift.text.encoder import clean

FOLDS = 5
"""Parts that a guess without the image is fitted across."""

RIDGE = 0.3
"""Penalty of that fit, as a share of the mean of the eigenvalues that are not 0."""

BLIND_WORDS = f"blind: ridge {RIDGE:g} by kind, {FOLDS} folds of images"
ORACLE_WORDS = "oracle: mean of other captions"

TAUGHT = 4000
"""Questions that a fit learns from at most, evenly spaced: the rest would change little."""

_BLOCK = 4096
"""Texts whose scores are computed at a time."""


@dataclass(frozen=True)
class Question:
    """Right and wrong texts of one image.

    Attributes:
        key, index: of the sample, and its number in the source.
        place: of the image among those that are asked about.
        image: a number, equal where the bytes of the images are.
        kind: what is wrong with the wrong texts.
        captions, foils: the distinct right and wrong texts.
        others: the image's other captions.
    """

    key: str
    index: int
    place: int
    image: int
    kind: str
    captions: tuple[str, ...]
    foils: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def chance(self) -> float:
        """What guessing scores: one order of right and wrong texts among all."""
        return 1.0 / math.comb(len(self.captions) + len(self.foils), len(self.foils))

    @property
    def is_broken(self) -> bool:
        """Whether a text is both right and wrong, so that nobody can answer."""
        return bool({clean(t) for t in self.captions} & {clean(t) for t in self.foils})


@dataclass(frozen=True)
class Asked:
    """All questions of a source, and the images that they are about.

    Attributes:
        questions: in the order of the source.
        z_image: a row for each image that is asked about.
        without: images that nothing is asked about.
    """

    questions: list[Question]
    z_image: Float32[np.ndarray, "i d"]
    without: int

    @property
    def images(self) -> Int64[np.ndarray, " q"]:
        """Return the number of each question's image (`Question.image`)."""
        return np.array([q.image for q in self.questions], dtype=np.int64)


def collect(images: Images) -> Asked:
    """Encode the images of a source and return its questions; all vectors are held.

    Raises:
        DataError: no image can be read.
        NotFinite: the encoder returned NaN.
    """
    questions: list[Question] = []
    rows: list[np.ndarray] = []
    without = 0
    for numbers, samples, z_image in images:
        content = images.content[-len(samples) :]
        for at, sample in enumerate(samples):
            if not sample.foils:
                without += 1
                continue
            place = len(rows)
            rows.append(z_image[at])
            questions += _questions(sample, numbers[at], place, content[at])
    z = np.stack(rows) if rows else np.empty((0, 0), np.float32)
    return Asked(questions, z, without)


def _questions(sample: Sample, index: int, place: int, image: int) -> Iterable[Question]:
    """Yield the questions of a sample: foils of one group are one, others stand alone."""
    groups: dict[tuple[str, int], list[Foil]] = {}
    for number, foil in enumerate(sample.foils):
        groups.setdefault((foil.group, -1) if foil.group else ("", number), []).append(foil)
    for foils in groups.values():
        right = _distinct(foil.caption for foil in foils)
        wrong = _distinct(foil.foil for foil in foils)
        asked = {_words(text) for text in (*right, *wrong)}
        others = _distinct(c.text for c in sample.captions if _words(c.text) not in asked)
        yield Question(sample.key, index, place, image, foils[0].kind, right, wrong, others)


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the texts whose cleaned form is new, in order."""
    return tuple({clean(text): text for text in reversed(list(texts))}.values())[::-1]


def _words(text: str) -> tuple[str, ...]:
    """Return the words of a text, without case and punctuation at their ends."""
    return tuple(word.strip(".,;:!?\"'").casefold() for word in clean(text).split())


@dataclass(frozen=True)
class Texts:
    """The texts of all questions, one after the other.

    Attributes:
        z: vectors of the distinct texts [u d].
        row: of each text in `z`.
        question: that it belongs to.
        wrong: whether it is.
        other_row, other_question: of each other caption, likewise.
    """

    z: Float32[np.ndarray, "u d"]
    row: Int64[np.ndarray, " t"]
    question: Int64[np.ndarray, " t"]
    wrong: Bool[np.ndarray, " t"]
    other_row: Int64[np.ndarray, " o"]
    other_question: Int64[np.ndarray, " o"]


def encode(encoder: Encoder, questions: Sequence[Question], others: bool = True) -> Texts:
    """Return the texts of some questions with their vectors; every distinct text is encoded once.

    Raises:
        DataError: a vector is not of unit length.
        NotFinite: a vector holds NaN or infinity.
    """
    told: list[str] = []
    question: list[int] = []
    wrong: list[bool] = []
    for number, one in enumerate(questions):
        told += [*one.captions, *one.foils]
        question += [number] * (len(one.captions) + len(one.foils))
        wrong += [False] * len(one.captions) + [True] * len(one.foils)
    beside = [(n, text) for n, q in enumerate(questions) for text in (q.others if others else ())]
    z, row = encode_distinct(encoder, [*told, *(text for _, text in beside)])
    return Texts(
        z,
        row[: len(told)],
        np.array(question, dtype=np.int64),
        np.array(wrong, dtype=np.bool_),
        row[len(told) :],
        np.array([number for number, _ in beside], dtype=np.int64),
    )


def scores(
    z_query: Float32[np.ndarray, "k d"], place: Int64[np.ndarray, " q"], texts: Texts
) -> Float32[np.ndarray, " t"]:
    """Return the cosine of each text with the vector of its question.

    Args:
        z_query: vectors to compare with.
        place: of each question's own among them.
        texts: all of them.
    """
    found = np.empty(len(texts.row), np.float32)
    owner = place[texts.question]
    for start in range(0, len(found), _BLOCK):
        part = slice(start, start + _BLOCK)
        found[part] = np.einsum("td,td->t", z_query[owner[part]], texts.z[texts.row[part]])
    return found


def edges(
    found: Float[np.ndarray, " t"], texts: Texts, count: int
) -> tuple[Int64[np.ndarray, " q"], Int64[np.ndarray, " q"]]:
    """Return for each question the place of its lowest right and of its highest wrong text."""
    order = np.lexsort((np.where(texts.wrong, -found, found), texts.wrong, texts.question))
    question, wrong = texts.question[order], texts.wrong[order]
    numbers = np.arange(count)
    return (
        order[np.searchsorted(2 * question + wrong, 2 * numbers)],
        order[np.searchsorted(2 * question + wrong, 2 * numbers + 1)],
    )


def credits(
    found: Float[np.ndarray, " t"], texts: Texts, count: int
) -> tuple[Float[np.ndarray, " q"], Bool[np.ndarray, " q"]]:
    """Return the credit of each question, and whether ties had a say in it.

    With p right and n wrong texts tied at the score of the best wrong one, and all other right
    ones above, it is 1 / C(p + n, n): the share of orders in which all p come first.
    """
    values = found.astype(np.float64)
    best = np.full(count, -np.inf)
    np.maximum.at(best, texts.question[texts.wrong], values[texts.wrong])
    lead = values - best[texts.question]
    tied = np.abs(lead) <= metrics.TIE
    lost = _per(texts.question, ~texts.wrong & (lead < 0) & ~tied, count) > 0
    right = _per(texts.question, tied & ~texts.wrong, count)
    wrong = _per(texts.question, tied & texts.wrong, count)
    drawn = ~lost & (right > 0)
    credit = np.where(lost, 0.0, 1.0)
    pairs = zip(right[drawn].tolist(), wrong[drawn].tolist(), strict=True)
    credit[drawn] = [1.0 / math.comb(p + n, n) for p, n in pairs]
    return credit, drawn


def _per(question: np.ndarray, marked: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(question[marked], minlength=count)


def oracle(texts: Texts, count: int) -> tuple[Float32[np.ndarray, "q d"], Bool[np.ndarray, " q"]]:
    """Return for each question the unit mean of the image's other captions, and whether it has any.

    It stands in the image's place: what it can't tell apart, no image vector that means the same
    as the captions can.
    """
    has = np.bincount(texts.other_question, minlength=count) > 0
    each = np.ones(len(texts.other_row))
    sums = _sums(texts.z, texts.other_row, texts.other_question, each, count)
    return unit(torch.from_numpy(sums)).numpy().astype(np.float32), has


def _sums(
    z: Float32[np.ndarray, "u d"],
    row: Int64[np.ndarray, " t"],
    group: Int64[np.ndarray, " t"],
    weight: Float[np.ndarray, " t"],
    count: int,
) -> Float64[np.ndarray, "count d"]:
    """Return the weighted sums of rows by group, in float64."""
    found = np.zeros((count, z.shape[1]))
    for start in range(0, len(row), _BLOCK):
        part = slice(start, start + _BLOCK)
        np.add.at(found, group[part], z[row[part]] * weight[part, None])
    return found


def blind(
    texts: Texts, questions: Sequence[Question], images: Int64[np.ndarray, " q"]
) -> Float[np.ndarray, " t"]:
    """Return a score of each text that no image had a part in; higher is guessed to be right.

    A linear score w.t is fitted for each kind on caption - foil (its sign is the answer, so it
    needs no offset), across folds: questions about one image are in one fold, and no question is
    judged by a fit that saw the same texts asked. Of more than `TAUGHT` questions, as many teach.
    """
    found = np.zeros(len(texts.row))
    side = 2 * texts.question + texts.wrong
    weight = np.where(texts.wrong, -1.0, 1.0) / np.bincount(side)[side]
    same = _same(questions)
    kinds = np.array([question.kind for question in questions])
    for kind in np.unique(kinds):
        mine = np.flatnonzero(kinds == kind)
        fold = folds(images[mine])
        for number in range(int(fold.max()) + 1):
            judged = mine[fold == number]
            others = mine[fold != number]
            taught = others[~np.isin(same[others], same[judged])]
            w = _fit(texts, weight, taught, len(questions))
            asked = np.isin(texts.question, judged)
            found[asked] = texts.z[texts.row[asked]] @ w
    return found


def _fit(
    texts: Texts, weight: np.ndarray, taught: Int64[np.ndarray, " m"], count: int
) -> Float[np.ndarray, " d"]:
    """Return the direction from wrong to right texts that some questions teach."""
    taught = taught[metrics.spread_out(np.arange(len(taught)), TAUGHT)]
    place = np.full(count, -1)
    place[taught] = np.arange(len(taught))
    own = np.flatnonzero(place[texts.question] >= 0)
    group = place[texts.question[own]]
    x = _sums(texts.z, texts.row[own], group, weight[own], len(taught))
    w = ridge(x, np.ones(len(taught)))
    length = np.linalg.norm(w)
    return w / length if length > 0 else w  # on the scale of cosines, where ties are told


def _same(questions: Sequence[Question]) -> Int64[np.ndarray, " q"]:
    """Return a number for each question, equal where the texts are, whichever is right."""
    place: dict[frozenset[str], int] = {}
    texts = (frozenset(map(clean, (*q.captions, *q.foils))) for q in questions)
    return np.array([place.setdefault(t, len(place)) for t in texts], dtype=np.int64)


def folds(groups: Int64[np.ndarray, " q"], count: int = FOLDS) -> Int64[np.ndarray, " q"]:
    """Return the fold of each item: equal groups are together, groups are dealt out in turn."""
    _, rank = np.unique(groups, return_inverse=True)
    return (rank % count).astype(np.int64)


def ridge(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"], strength: float = RIDGE
) -> Float[np.ndarray, " d"]:
    """Return w that minimises |x w - y|^2 + penalty |w|^2 in float64; zeros where x is nothing."""
    rows, width = x.shape
    total = float(np.square(x).sum())
    if total <= metrics.TIE**2 * max(rows, 1):  # differences that are only rounding
        return np.zeros(width)
    penalty = strength * total / min(rows, width)
    if rows <= width:
        return x.T @ np.linalg.solve(x @ x.T + penalty * np.eye(rows), y)
    return np.linalg.solve(x.T @ x + penalty * np.eye(width), x.T @ y)


def alike(questions: Sequence[Question]) -> metrics.Alike | None:
    """Return which questions ask the same texts; None where no two images do."""
    place: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
    pair = [place.setdefault((q.captions, q.foils), len(place)) for q in questions]
    if len(place) == len({(q.image, p) for q, p in zip(questions, pair, strict=True)}):
        return None
    return metrics.Alike(np.arange(len(questions)), np.array(pair, dtype=np.int64))


def require_questions(asked: Asked, name: str, what: str) -> None:
    """Raise DataError where nothing is asked."""
    if not asked.questions:
        raise DataError(
            f"{name} holds no foils (wrong captions to compare with), so the {what} evaluation "
            "can't ask anything; take a source that has them."
        )
