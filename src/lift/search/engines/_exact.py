"""Comparing with every row: a matrix product block by block over the map, the best kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from lift.search.engines import NOWHERE, Vectors

_BLOCK_VALUES = 1_572_864
"""Of a block of rows: 6 MB of float32, 4,096 rows of 384. Larger ones are slower where several
questions are asked (on 2 MB of cache a core), smaller ones cost calls."""

_MOST_QUESTIONS = 256
"""In one pass over the rows; their cosines with a block are 4 MB at 384 values."""

_MOST_PAIRS_VALUES = 4_194_304
"""Of pairs whose cosines are computed in float64 at once: 32 MB a side."""

_FEW = 0.25
"""Where fewer of a block's rows are allowed, they are copied together first."""

_LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Found:
    """The best so far: for each question the places and cosines, in order."""

    places: Int64[np.ndarray, "q top"]
    cosines: Float32[np.ndarray, "q top"]

    @classmethod
    def nothing(cls, questions: int, top: int) -> Found:
        return cls(
            np.full((questions, top), NOWHERE, np.int64),
            np.full((questions, top), -np.inf, np.float32),
        )

    def with_pairs(
        self,
        asked: Int64[np.ndarray, " p"],
        places: Int64[np.ndarray, " p"],
        cosines: Float32[np.ndarray, " p"],
    ) -> Found:
        """Return the best of these and of pairs of a question and a place that is not among them.

        Rows that hold what is not finite are never found.
        """
        questions, top = self.places.shape
        kept = np.isfinite(cosines)
        old = self.places.reshape(-1) != NOWHERE
        asked = np.concatenate([np.repeat(np.arange(questions), top)[old], asked[kept]])
        places = np.concatenate([self.places.reshape(-1)[old], places[kept]])
        cosines = np.concatenate([self.cosines.reshape(-1)[old], cosines[kept]])
        order = np.lexsort((places, -cosines, asked))
        asked, places, cosines = asked[order], places[order], cosines[order]
        rank = np.arange(len(asked)) - np.searchsorted(asked, asked)
        best = rank < top
        found = Found.nothing(questions, top)
        found.places[asked[best], rank[best]] = places[best]
        found.cosines[asked[best], rank[best]] = cosines[best]
        return found


def cosines_of(
    vectors: Vectors,
    z: Float32[np.ndarray, "q d"],
    asked: Int64[np.ndarray, " p"],
    places: Int64[np.ndarray, " p"],
) -> Float32[np.ndarray, " p"]:
    """Return the cosine of each pair of a question and a row, summed in float64.

    A row's figure is the same whatever it stands beside, which no matrix product promises.
    """
    found = np.empty(len(asked), np.float32)
    step = max(1, _MOST_PAIRS_VALUES // max(1, z.shape[1]))
    with np.errstate(all="ignore"):  # a damaged row may hold anything
        for start in range(0, len(asked), step):
            part = slice(start, start + step)
            rows = vectors[places[part]].astype(np.float64)
            rows *= z[asked[part]]
            found[part] = rows.sum(axis=1)
    return found


def exact(
    vectors: Vectors,
    z: Float32[np.ndarray, "q d"],
    top: int,
    allowed: Bool[np.ndarray, " m"] | None = None,
    *,
    first: int = 0,
) -> Found:
    """Return the nearest of the rows from `first` on.

    Memory is that of some blocks, however many rows there are.
    """
    vectors = np.asarray(vectors)
    stop = len(vectors) if allowed is None else min(len(vectors), len(allowed))
    parts = [
        _pass(vectors, z[start : start + _MOST_QUESTIONS], top, allowed, first, stop)
        for start in range(0, len(z), _MOST_QUESTIONS)
    ]
    if not parts:
        return Found.nothing(0, top)
    return Found(
        np.concatenate([part.places for part in parts]),
        np.concatenate([part.cosines for part in parts]),
    )


def _pass(
    vectors: Vectors,
    z: Float32[np.ndarray, "q d"],
    top: int,
    allowed: Bool[np.ndarray, " m"] | None,
    first: int,
    stop: int,
) -> Found:
    found = Found.nothing(len(z), top)
    width = max(1, vectors.shape[1])
    rows = max(64, _BLOCK_VALUES * (4 if len(z) == 1 else 1) // width)
    question = torch.from_numpy(np.ascontiguousarray(z, np.float32))
    slack = _slack(z)
    for start in range(first, stop, rows):
        end = min(start + rows, stop)
        mask = None if allowed is None else allowed[start:end]
        inside: Int64[np.ndarray, " b"] | None = None
        if mask is not None:
            count = int(np.count_nonzero(mask))
            if not count:
                continue
            if count < _FEW * (end - start):
                inside, mask = np.flatnonzero(mask), None
        block = vectors[start:end] if inside is None else vectors[start + inside]
        cosines = _products(question, block)
        if mask is not None and not mask.all():
            cosines[:, torch.from_numpy(~mask)] = -torch.inf
        asked, places = _worth_a_look(cosines, found, slack)
        if len(asked):
            places = places if inside is None else inside[places]
            found = found.with_pairs(
                asked, start + places, cosines_of(vectors, z, asked, start + places)
            )
    return found


def _slack(z: Float32[np.ndarray, "q d"]) -> Float64[np.ndarray, " q"]:
    """Return by how much a float32 sum of d products of unit rows may be off, whatever its order.

    d * 2^-24 * |x| |y| (Higham, Accuracy and Stability, 3.5), and rounding once more.
    """
    with np.errstate(all="ignore"):
        return np.linalg.norm(z.astype(np.float64), axis=1) * z.shape[1] * 2.0**-24 + 2.0**-22


def _products(question: Tensor, block: Float[np.ndarray, "b d"]) -> Float32[Tensor, "q b"]:
    try:
        rows = torch.from_dlpack(block)  # unlike from_numpy, takes what can't be written
    except BufferError:  # NumPy before 2.1
        rows = torch.from_numpy(block.copy())
    rows = rows.float()  # torch decodes float16 five times as fast as NumPy
    return question @ rows.T


def _worth_a_look(
    cosines: Float32[Tensor, "q b"], found: Found, slack: Float64[np.ndarray, " q"]
) -> tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]:
    """Return the pairs of question and row of a block that may be among the best.

    What these cosines lack in accuracy is made up for by looking at all within the slack.
    """
    top = found.places.shape[1]
    floor = torch.from_numpy((found.cosines[:, -1] - slack).astype(np.float32))
    floor = torch.nan_to_num(floor, nan=_LOWEST, neginf=_LOWEST)
    near = np.flatnonzero((cosines >= floor[:, None]).numpy())
    if len(near) > 2 * top * len(cosines):
        # NaN counts as largest in topk; what is not finite is no answer here.
        best = torch.nan_to_num(cosines, nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)
        best = best.topk(min(top, best.shape[1]), dim=1).values[:, -1]
        twice = torch.from_numpy((2 * slack).astype(np.float32))
        floor = torch.maximum(floor, torch.nan_to_num(best - twice, nan=_LOWEST, neginf=_LOWEST))
        near = np.flatnonzero((cosines >= floor[:, None]).numpy())
    asked, places = np.divmod(near, cosines.shape[1])
    return asked, places
