"""The images x texts of a step, tile by tile: no matrix of a whole step ever lies in memory."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lift.candidates import Candidates
from lift.errors import ConfigError
from lift.objectives._targets import Links, Right, Targets, check_rows, targets
from lift.terms import unit

CELLS = {"cpu": 1 << 20, "cuda": 1 << 23}
"""Numbers in a tile: on a CPU a few such tiles stay in its caches; a GPU wants large products."""
_EXTRA_ROWS = 2048
"""Extra texts in memory at a time, unless tiles are smaller."""

_BACKENDS: tuple[Any, ...] = (torch.backends.cuda, torch.backends.mkldnn)
_PRODUCTS = tuple(backend.matmul for backend in _BACKENDS)
"""Where it is said how products of float32 are rounded, by `set_float32_matmul_precision` too."""


@contextlib.contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Compute in the type that the numbers have, whatever is set outside.

    Logits reach 100, where bfloat16 steps by 0.5: neither an outer autocast nor products of
    float32 that are rounded to less ("high", "medium") may touch them.
    """
    rounded = [(part, part.fp32_precision) for part in _PRODUCTS]
    rounded = [(part, how) for part, how in rounded if how in ("tf32", "bf16")]
    for part, _ in rounded:
        part.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for part, how in rounded:
            part.fp32_precision = how


def spans(start: int, stop: int, size: int) -> list[slice]:
    """Return slices of at most `size` that cover the numbers from `start` to `stop`."""
    return [slice(at, min(at + size, stop)) for at in range(start, stop, max(size, 1))]


def sides(images: int, texts: int, cells: int) -> tuple[int, int]:
    """Return how many images and how many texts a tile of so many cells has."""
    if images * texts <= cells:
        return images, texts
    rows = min(images, 1 << ((cells.bit_length() - 1) // 2))
    return rows, cells // rows


@dataclass(frozen=True, slots=True)
class Tile:
    """Some own images against some texts.

    Attributes:
        images: which own images.
        texts: which texts.
        z: vectors of those texts.
        right: how right they are; extra texts are right for nobody.
        dropped: pairs that are neither right nor safely wrong; None where there are none.
    """

    images: slice
    texts: slice
    z: Float[Tensor, "k d"]
    right: Right
    dropped: Bool[Tensor, "r k"] | None


class Grid:
    """Own images against all texts of a step and its extra texts, in tiles.

    With `ignore_above`, a text that is not right for an image but has a cosine above that to one
    of the image's own texts is dropped. Extra texts equal to an own text are dropped in any case.
    """

    def __init__(
        self,
        texts: Candidates,
        images: int,
        dtype: torch.dtype,
        *,
        share_equal: bool,
        ignore_above: float | None,
        keep_untaught: bool = False,
        most: float = float("inf"),
    ) -> None:
        """Find what is right for whom.

        Args:
            texts: of the step.
            images: how many of its images are own ones.
            dtype: of the image vectors.
            share_equal: texts that are equal are right for each other's images.
            ignore_above: see above; None drops none of the step's texts.
            keep_untaught: drop no pair of an image or a text that has no target: where those
                don't count anyway, their sums stay finite.
            most: what larger weights count as.

        Raises:
            ConfigError: equal texts can't be told; more images than the step has.
        """
        check_rows(texts, share_equal)
        if texts.first + images > texts.images:
            raise ConfigError(
                f"A step of {texts.images} images has no images {texts.first} to "
                f"{texts.first + images - 1}; Candidates.images counts those of all ranks."
            )
        self.texts, self.images, self.z = texts, images, texts.z.detach().to(dtype)
        self.cells = CELLS.get(self.z.device.type, CELLS["cpu"])
        height, width = sides(images, len(self.z), self.cells)
        self.rows, self.columns = spans(0, images, height), spans(0, len(self.z), width)
        self._keep_untaught = keep_untaught
        self._drops, self._ignore_above = ignore_above is not None, ignore_above or 0.0
        self.targets: Targets = targets(texts, self.rows, share_equal, dtype, most)
        self._extra_links: Links | None = None
        self._extra_known: list[tuple[slice, Tensor, bool]] = []
        if texts.extra is not None and images:
            self._meet(texts.extra.row)

    @functools.cached_property
    def _own(self) -> Links:
        """Own images x their own texts, whatever is equal to those."""
        return targets(self.texts, self.rows, False, self.z.dtype, float("inf")).links

    def tiles(self) -> Iterator[Tile]:
        """Yield all tiles of own images x texts, image by image."""
        found = self.targets
        where = None if found.repeated else torch.argsort(found.alike)
        for span, rows in enumerate(self.rows):
            for columns in self.columns:
                z, shape = self.z[columns], (_length(rows), _length(columns))
                copy_of = None
                if where is None:
                    place, copy_of = _places(found.alike[columns], found.links.distinct)
                else:
                    place = where - columns.start
                right = found.links.tile(span, rows.start, shape, place)
                right = replace(right, copy_of=copy_of)
                dropped = None
                if self._drops:
                    dropped = self._near(span, z) & (right.dense() == 0)
                    if self._keep_untaught:
                        dropped &= (found.image[rows] > 0)[:, None] & (found.text[columns] > 0)
                yield Tile(rows, columns, z, right, dropped)

    def extra_tiles(self) -> Iterator[Tile]:
        """Yield all tiles of own images x extra texts; each extra text is taken once."""
        if self.texts.extra is None or self._extra_links is None:
            return
        none = torch.zeros(0, dtype=torch.int64, device=self.z.device)
        for columns, known, some in self._extra_known:
            z = self.texts.extra.take(columns.start, columns.stop).detach().to(self.z.dtype)
            for span, rows in enumerate(self.rows):
                shape = (_length(rows), _length(columns))
                dropped = None
                if some:
                    place, copy_of = _places(known, self._extra_links.distinct)
                    own = self._extra_links.tile(span, rows.start, shape, place)
                    dropped = replace(own, copy_of=copy_of).dense() > 0
                if self._drops:
                    near = self._near(span, z)
                    dropped = near if dropped is None else dropped | near
                right = Right(shape, none, none, none.to(self.z.dtype))
                yield Tile(rows, columns, z, right, dropped)

    def described(self, rows: slice) -> Float[Tensor, "r d"]:
        """Return, for a span of images, the unit vector of the weighted mean of their own texts.

        It is zero for an image without texts, or whose weights are all 0.
        """
        return unit(self.summed(rows))

    def summed(self, rows: slice) -> Float[Tensor, "r d"]:
        """Return, for a span of images, the sum of their own texts times weights."""
        sums = self.z.new_zeros(_length(rows), self.z.shape[1])
        for pairs in self._pairs(self.rows.index(rows)):
            own = self.z[self._own.text[pairs]] * self._own.weight[pairs, None]
            sums.index_add_(0, self._own.image[pairs] - rows.start, own)
        return sums

    def _pairs(self, span: int) -> Sequence[slice]:
        """Return pieces of the own texts of a span of images, none larger than a side of a tile."""
        cuts = self._own.cuts
        return spans(cuts[span], cuts[span + 1], max(_length(self.rows[span]), 512))

    def _near(self, span: int, z: Float[Tensor, "k d"]) -> Bool[Tensor, "r k"]:
        """Return which texts are too close to one of the own texts of the images of a span."""
        rows = self.rows[span]
        hits = z.new_zeros(_length(rows), len(z))
        for pairs in self._pairs(span):
            close = self.z[self._own.text[pairs]] @ z.T > self._ignore_above
            hits.index_add_(0, self._own.image[pairs] - rows.start, close.to(z.dtype))
        return hits > 0

    def _meet(self, row: Int64[Tensor, " e"]) -> None:
        """Find which extra texts some own image owns, once for all passes."""
        assert self.texts.row is not None
        own, alike = torch.unique(self.texts.row[self._own.text], return_inverse=True)
        self._extra_links = replace(
            self._own,
            text=alike,
            weight=torch.ones_like(self._own.weight),
            distinct=len(own),
        )
        known = torch.full_like(row, len(own))
        if len(own):
            place = torch.searchsorted(own, row).clamp(max=len(own) - 1)
            known = torch.where(own[place] == row, place, known)
        size = max(1, min(_EXTRA_ROWS, self.cells // max(_length(s) for s in self.rows)))
        pieces = spans(0, len(row), size)
        some = [(known[piece] < len(own)).any() for piece in pieces]
        flags = torch.stack(some).tolist() if some else []
        self._extra_known = [
            (piece, known[piece], bool(flag)) for piece, flag in zip(pieces, flags, strict=True)
        ]


def _places(ids: Int64[Tensor, " k"], distinct: int) -> tuple[Tensor, Tensor]:
    """Return where each distinct text stands in a tile (-1: nowhere), and whom each copies.

    A text without a number (`distinct`) copies a column that nothing is right in.
    """
    place = torch.full((distinct + 1,), -1, dtype=torch.int64, device=ids.device)
    place[ids] = torch.arange(len(ids), device=ids.device)
    return place[:distinct], place[ids]


def _length(span: slice) -> int:
    return span.stop - span.start
