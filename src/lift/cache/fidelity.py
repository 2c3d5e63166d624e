"""What a codec changes, measured on the rows themselves: cosines, and neighbours that stay."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped

from lift.cache.codec import Codec
from lift.config import from_dict, to_dict

QUERIES = 128
GALLERY = 2_048
NEAREST = 10

_BLOCK = 2_048
_TIE = 1e-6
"""Cosines this close are one: float32 rows say no more, and equal texts have equal rows."""


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Sums over rows, so that shards and parts add up; the shares are made from them at the end.

    Attributes:
        rows: how many were compared with what is decoded for them.
        cosine_sum: of the cosines between a row and its decoded self.
        worst_cosine: the smallest of them; 1 where there are no rows.
        queries: rows that looked for their nearest other rows.
        top1: queries whose nearest decoded row is a nearest row in truth, too.
        places: of all queries' lists of the nearest ten (fewer where there are fewer rows).
        top10: places of the decoded lists that are filled with one of the ten nearest in truth.
    """

    rows: int = 0
    cosine_sum: float = 0.0
    worst_cosine: float = 1.0
    queries: int = 0
    top1: int = 0
    places: int = 0
    top10: int = 0

    @property
    def mean_cosine(self) -> float:
        """The mean cosine; 1 where there are no rows."""
        return self.cosine_sum / self.rows if self.rows else 1.0

    @property
    def top1_agreement(self) -> float:
        """The share of queries whose nearest row stays nearest; 1 where nobody asked."""
        return self.top1 / self.queries if self.queries else 1.0

    @property
    def top10_overlap(self) -> float:
        """The share of the nearest ten that stay among the nearest ten; 1 where nobody asked."""
        return self.top10 / self.places if self.places else 1.0

    def words(self) -> str:
        """Return the figures in one line."""
        return (
            f"cosine {self.mean_cosine:.5f} on average, {self.worst_cosine:.5f} at worst; "
            f"of {self.queries:,} queries {self.top1_agreement:.1%} keep their nearest, "
            f"{self.top10_overlap:.1%} of the nearest ten stay"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the sums as plain values, for JSON."""
        return to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Fidelity:
        """Return what `as_dict` gave. Raises ConfigError on anything else."""
        return from_dict(cls, values, "fidelity")


def measure(
    codec: Codec,
    rows: Float32[np.ndarray, "n d"],
    stored: Shaped[np.ndarray, "n w"] | None = None,
    *,
    queries: int = QUERIES,
    gallery: int = GALLERY,
) -> Fidelity:
    """Return what `codec` changes in `rows` (one shard's), in float64 and without chance.

    Cosines are over all rows. For agreement the first `gallery` rows are searched with the first
    `queries` of them, each query leaving itself out, by cosine: once in the rows as they are, once
    in the decoded ones. Queries are never encoded, as in training and search, where images or
    fresh texts ask and stored rows answer. Cosines within 1e-6 are ties, and a tie is agreement.

    Args:
        codec: how rows are stored.
        rows: before they are stored.
        stored: their stored form, where it is at hand; made here where it is not.
        queries, gallery: see above.

    Raises:
        CacheError: rows that the codec can't hold.
    """
    head = _unit(rows[:gallery])
    asked = min(queries, len(head)) if len(head) > 1 else 0
    nearest = min(NEAREST, len(head) - 1)
    counted = {"rows": len(rows), "queries": asked, "places": asked * max(nearest, 0)}
    if codec.exact:
        everything = {"top1": asked, "top10": counted["places"]}
        return Fidelity(cosine_sum=float(len(rows)), **counted, **everything)
    decoded_head = np.empty_like(head)
    cosines = np.empty(len(rows))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        if stored is None:
            decoded = codec.decode(codec.stored(codec.encode(block)))
        else:
            decoded = codec.decode(stored[start : start + _BLOCK])
        cosines[start : start + _BLOCK] = _cosines(block, decoded)
        room = decoded_head[start : start + _BLOCK]
        room[:] = _unit(decoded[: len(room)])
    top1 = top10 = 0
    for start in range(0, asked, QUERIES):
        stop = min(start + QUERIES, asked)
        first, ten = _agreement(head, decoded_head, start, stop, nearest)
        top1, top10 = top1 + first, top10 + ten
    return Fidelity(
        cosine_sum=math.fsum(cosines),
        worst_cosine=float(cosines.min(initial=1.0)),
        top1=top1,
        top10=top10,
        **counted,
    )


def merge(parts: Iterable[Fidelity]) -> Fidelity:
    """Return the measurements of several shards as one; their order does not matter."""
    parts = tuple(parts)
    return Fidelity(
        rows=sum(part.rows for part in parts),
        cosine_sum=math.fsum(part.cosine_sum for part in parts),
        worst_cosine=min((part.worst_cosine for part in parts), default=1.0),
        queries=sum(part.queries for part in parts),
        top1=sum(part.top1 for part in parts),
        places=sum(part.places for part in parts),
        top10=sum(part.top10 for part in parts),
    )


def _agreement(
    head: Float64[np.ndarray, "g d"],
    decoded: Float64[np.ndarray, "g d"],
    start: int,
    stop: int,
    nearest: int,
) -> tuple[int, int]:
    """Return how many of the queries `start` to `stop` keep their first, and places kept."""
    own = np.arange(start, stop)
    each = np.arange(stop - start)
    truth, found = head[start:stop] @ head.T, head[start:stop] @ decoded.T
    truth[each, own] = found[each, own] = -np.inf
    best = truth.max(axis=1) - _TIE
    tenth = np.partition(truth, -nearest, axis=1)[:, -nearest] - _TIE
    kept: Bool[np.ndarray, "q k"] = (
        np.take_along_axis(truth, np.argpartition(found, -nearest, axis=1)[:, -nearest:], axis=1)
        >= tenth[:, None]
    )
    return int((truth[each, found.argmax(axis=1)] >= best).sum()), int(kept.sum())


def _unit(rows: Float32[np.ndarray, "n d"]) -> Float64[np.ndarray, "n d"]:
    wide = rows.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-300)


def _cosines(
    rows: Float32[np.ndarray, "n d"], decoded: Float32[np.ndarray, "n d"]
) -> Float64[np.ndarray, " n"]:
    """Return the cosine of each pair; 1 for two zero rows, 0 for one."""
    a, b = rows.astype(np.float64), decoded.astype(np.float64)
    products = np.einsum("nd,nd->n", a, b)
    squares = np.einsum("nd,nd->n", a, a), np.einsum("nd,nd->n", b, b)
    both_zero = (squares[0] == 0) & (squares[1] == 0)
    lengths = np.sqrt(squares[0]) * np.sqrt(squares[1])
    return np.where(both_zero, 1.0, products / np.where(lengths > 0, lengths, 1.0)).clip(-1, 1)
