"""Who is right for whom in a step: the ground truth that the objectives share, in a few vectors.

Of `b` own images and the `c` texts of the step only the pairs that belong together are kept, once
for each distinct text: as many numbers as there are texts, even where all captions are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lift.candidates import Candidates
from lift.errors import ConfigError


def check_ignore_above(value: float | None, where: str) -> None:
    """Raise ConfigError unless `value` is None or a cosine that can drop something."""
    if value is not None and not -1.0 <= value < 1.0:
        raise ConfigError(f"{where}.ignore_above is a cosine in [-1, 1), not {value}.")


def check_rows(texts: Candidates, share_equal: bool) -> None:
    """Raise ConfigError where equal texts have to be found and nobody says which are."""
    if texts.row is None and share_equal:
        raise ConfigError("share_equal needs `row`, the cache row of each caption; pass it or off.")
    if texts.row is None and texts.extra is not None:
        raise ConfigError(
            "Extra texts need `row`, the cache row of each caption: an image's own text is none "
            "of its competitors."
        )


@dataclass(frozen=True, slots=True)
class Links:
    """A sparse matrix of own images x distinct texts: which belong together, and how well.

    Attributes:
        image: for each pair, the image, counted from the first own one; ascending.
        text: for each pair, the number of the distinct text.
        weight: for each pair, how well the two fit.
        distinct: how many distinct texts there are.
        cuts: where the pairs of each span of images start, and where the last ends.
    """

    image: Int64[Tensor, " p"]
    text: Int64[Tensor, " p"]
    weight: Float[Tensor, " p"]
    distinct: int
    cuts: Sequence[int]

    def tile(self, span: int, first: int, shape: tuple[int, int], place: Tensor) -> Right:
        """Return the part of the matrix that is a tile of images x texts.

        Args:
            span: the number of the span of images.
            first: its first image.
            shape: images and texts of the tile.
            place: for each distinct text, where in the tile it stands, or a number outside.
        """
        pairs = slice(self.cuts[span], self.cuts[span + 1])
        column = place[self.text[pairs]]
        inside = (column >= 0) & (column < shape[1])
        column = column.clamp(0, max(shape[1] - 1, 0))
        image = self.image[pairs] - first
        return Right(shape, image, column, self.weight[pairs] * inside)


@dataclass(frozen=True, slots=True)
class Right:
    """How right each text of a tile is for each of its images: the matrix T of docstrings.

    Attributes:
        shape: images and texts.
        image, column, weight: places in the tile and what stands there; 0 elsewhere. A place
            that has no text here has weight 0.
        copy_of: for each text, the column that stands for all texts equal to it; None where
            no two are equal.
    """

    shape: tuple[int, int]
    image: Int64[Tensor, " p"]
    column: Int64[Tensor, " p"]
    weight: Float[Tensor, " p"]
    copy_of: Int64[Tensor, " k"] | None = None

    @property
    def _flat(self) -> Tensor:
        return self.image * self.shape[1] + self.column

    def dense(self) -> Float[Tensor, "r k"]:
        """Return the matrix."""
        cells = self.weight.new_zeros(self.shape[0] * self.shape[1])
        cells = cells.index_add_(0, self._flat, self.weight).view(self.shape)
        return cells if self.copy_of is None else cells[:, self.copy_of]

    def sums(self, values: Float[Tensor, "r k"]) -> tuple[Tensor, Tensor]:
        """Return the sums over texts [r] and over images [k] of T x values."""
        if self.copy_of is not None:
            cells = self.dense().mul_(values)
            return cells.sum(1), cells.sum(0)
        cells = values.reshape(-1)[self._flat] * self.weight
        over_texts, over_images = cells.new_zeros(self.shape[0]), cells.new_zeros(self.shape[1])
        over_texts.index_add_(0, self.image, cells)
        return over_texts, over_images.index_add_(0, self.column, cells)

    def subtract_from(
        self,
        values: Float[Tensor, "r k"],
        image: Float[Tensor, " r"],
        text: Float[Tensor, " k"] | None,
    ) -> None:
        """Subtract T x (image[i] + text[j]) from contiguous values, in place."""
        if self.copy_of is not None:
            factor = image[:, None] if text is None else image[:, None] + text
            values.sub_(self.dense().mul_(factor))
            return
        factor = image[self.image] if text is None else image[self.image] + text[self.column]
        values.view(-1).index_add_(0, self._flat, self.weight * factor, alpha=-1)


@dataclass(frozen=True, slots=True)
class Targets:
    """What is right in a step; sums are over all its images and texts, whoever owns them.

    Attributes:
        links: own images x distinct texts.
        alike: for each text, the number of its distinct text.
        repeated: whether a distinct text may stand for several texts.
        image: for each own image, the sum over texts of how right they are.
        text: for each text, the sum over images.
        images, texts: how many have a sum above 0, among all of the step.
    """

    links: Links
    alike: Int64[Tensor, " c"]
    repeated: bool
    image: Float[Tensor, " b"]
    text: Float[Tensor, " c"]
    images: Float[Tensor, ""]
    texts: Float[Tensor, ""]


def targets(
    texts: Candidates, spans: Sequence[slice], share_equal: bool, dtype: torch.dtype, most: float
) -> Targets:
    """Find what is right for whom.

    A text is right for the image it describes and, with `share_equal`, for every image that owns
    an equal text: one with the same `row`. How right is its weight (the largest, where a text
    stands twice for an image), or 1.

    Args:
        texts: of the step.
        spans: of own images, whose links are wanted.
        share_equal: see above.
        dtype: of weights and sums.
        most: what larger weights count as.
    """
    owner, count = texts.owner, len(texts.owner)
    given = texts.weight
    weight = torch.ones(count, dtype=dtype, device=owner.device) if given is None else given
    weight = weight.to(dtype).clamp(max=most)
    if share_equal and texts.row is not None:
        found, alike = torch.unique(texts.row, return_inverse=True)
        distinct = len(found)
        pair, place = torch.unique(owner * distinct + alike, return_inverse=True)
        image, text = pair // max(distinct, 1), pair % max(distinct, 1)
        weight = torch.zeros_like(pair, dtype=dtype).scatter_reduce_(0, place, weight, "amax")
        copies = torch.zeros_like(found, dtype=dtype)
        copies.index_add_(0, alike, torch.ones_like(alike, dtype=dtype))
        per_text = torch.zeros_like(copies).index_add_(0, text, weight)[alike]
        share = weight * copies[text]
    else:
        image, text = torch.sort(owner, stable=True)
        alike, distinct, per_text = torch.arange(count, device=owner.device), count, weight
        share = weight = weight[text]
    per_image = torch.zeros(texts.images, dtype=dtype, device=owner.device)
    per_image.index_add_(0, image, share)
    own = slice(texts.first, texts.first + (spans[-1].stop if spans else 0))
    return Targets(
        _own(Links(image, text, weight, distinct, ()), texts.first, spans),
        alike,
        distinct < count,
        per_image[own],
        per_text,
        (per_image > 0).sum().to(dtype),
        (per_text > 0).sum().to(dtype),
    )


def _own(links: Links, first: int, spans: Sequence[slice]) -> Links:
    """Return the links of own images, which are counted from 0, cut at the spans."""
    if not spans:
        none = slice(0, 0)
        found = links.image[none], links.text[none], links.weight[none]
        return Links(*found, links.distinct, (0,))
    ends = torch.tensor([s.start for s in spans] + [spans[-1].stop], device=links.image.device)
    cuts = torch.searchsorted(links.image, ends + first).tolist()
    own = slice(cuts[0], cuts[-1])
    found = links.image[own] - first, links.text[own], links.weight[own]
    return Links(*found, links.distinct, [cut - cuts[0] for cut in cuts])


def own_texts(texts: Candidates, images: int) -> Bool[Tensor, " c"]:
    """Return which texts describe one of so many own images."""
    return (texts.owner >= texts.first) & (texts.owner < texts.first + images)
