"""The texts of a step, known to every rank before any image is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from lift.errors import DataError
from lift.ranks import Ranks
from lift.terms import Batch


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a step's texts are about, over all ranks and batches.

    Images are numbered rank by rank, within a rank batch by batch.

    Attributes:
        owner: for each text, the number of its image.
        row: for each text, its row.
        weight: for each text, how well it fits; None where all fit alike.
        texts: as stored; None where each rank keeps its own, because it trains the text side.
        negatives, negative_row: texts that describe no image of the step, as stored, and their
            rows; None where there are none.
        images: how many there are over all ranks.
        first: for each own batch, the number of its first image.
        wish: whether any rank wants to stop.
        own_rows: rows of all captions of the step's images, shown or not, where they are asked for.
    """

    owner: Int64[Tensor, " c"]
    row: Int64[Tensor, " c"]
    weight: Float[Tensor, " c"] | None
    texts: Shaped[Tensor, "c stored"] | None
    negatives: Shaped[Tensor, "e stored"] | None
    negative_row: Int64[Tensor, " e"] | None
    images: int
    first: tuple[int, ...]
    wish: bool = False
    own_rows: Int64[Tensor, " o"] | None = None


def gather(
    batches: Sequence[Batch],
    ranks: Ranks,
    *,
    stored: bool,
    own_rows: bool = False,
    wish: bool = False,
) -> Gathered:
    """Tell every rank the texts of the step; only rows and numbers travel, never images.

    Args:
        batches: the own ones, on the device.
        ranks: who takes part; each calls this at the same step.
        stored: whether texts are stored rows that all ranks need; else they stay where they are.
        own_rows: whether somebody asks for the rows of all captions of the step's images.
        wish: whether this rank wants to stop.

    Raises:
        DataError: no sample of the step can be used, on any rank.
    """
    own = [len(batch.images) for batch in batches]
    captions = sum(len(batch.row) for batch in batches)
    weighed = any(batch.weight is not None for batch in batches)
    more = sum(0 if batch.negatives is None else len(batch.negatives) for batch in batches)
    about = torch.tensor([[sum(own), captions, weighed, more, wish]])
    images, texts, weights, extra, wishes = ranks.gather(about, [1] * ranks.size).T.tolist()
    if not sum(images):
        first_reason = next((drop.reason for batch in batches for drop in batch.dropped), "")
        raise ranks.agreed(
            DataError(f"No sample of a whole step can be used; one of them: {first_reason}")
        )
    start = sum(images[: ranks.worker.rank])
    first = tuple(start + sum(own[:number]) for number in range(len(own)))
    about = torch.stack(
        [
            torch.cat([batch.owner + n for batch, n in zip(batches, first, strict=True)]),
            torch.cat([batch.row for batch in batches]),
        ],
        1,
    )
    about = ranks.gather(about, texts)
    weight = None
    if any(weights):
        held = [_weight(batch) for batch in batches]
        weight = ranks.gather(torch.cat(held), texts)
    rows = ranks.gather(torch.cat([batch.texts for batch in batches]), texts) if stored else None
    negatives = negative_row = None
    if any(extra):
        held = [b.negatives for b in batches if b.negatives is not None]
        numbers = [b.negative_row for b in batches if b.negative_row is not None]
        negatives = ranks.gather(torch.cat(held) if held else batches[0].texts[:0], extra)
        empty = batches[0].row[:0]
        negative_row = ranks.gather(torch.cat(numbers) if numbers else empty, extra)
    return Gathered(
        owner=about[:, 0],
        row=about[:, 1],
        weight=weight,
        texts=rows,
        negatives=negatives,
        negative_row=negative_row,
        images=sum(images),
        first=first,
        wish=any(wishes),
        own_rows=ranks.gather(torch.cat([b.own_row for b in batches])) if own_rows else None,
    )


def _weight(batch: Batch) -> Tensor:
    if batch.weight is not None:
        return batch.weight
    return torch.ones(len(batch.row), device=batch.row.device)
