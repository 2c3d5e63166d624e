"""A tower as what makes the rows of a cache: images in by address, decoded beside the work."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from lift.cache.addresses import PATCH, VIEW, WHOLE, Address, content_hash
from lift.cache.features import features_part
from lift.cache.maker import EncodedImages
from lift.config import to_dict
from lift.data.pictures import read_at
from lift.data.stored_views import StoredViews, drawn_view
from lift.data.transform import cut, scaled
from lift.errors import BrokenSample, ConfigError, DataError, MissingRows
from lift.image_tower import ImageTower
from lift.terms import Source
from lift.text.encoder import EncodedTexts, default_token_budget
from lift.world import Precision

_PROBES = 16
_PROBE = "probe "
_PATCH = 16
"""Pixels of a side of what counts as a token in a budget."""

_MOST_WORKERS = 8

_Wanted: TypeAlias = list[tuple[int, Address]]
"""Places in the list that is encoded, with what belongs there; all of one image."""


class _Seen(NamedTuple):
    """What the tower is to see of one image.

    Attributes:
        plain: (place, pixels) of the whole image and of its views.
        cells: {place: cell} of the patch grid, with the pixels of the whole image.
    """

    plain: list[tuple[int, Tensor]]
    cells: Mapping[int, tuple[int, int]]
    pixels: Tensor | None


@dataclass
class _Waiting:
    """Images that wait until a batch is full."""

    plain: list[tuple[int, Tensor]] = field(default_factory=list)
    grids: list[tuple[Mapping[int, tuple[int, int]], Tensor]] = field(default_factory=list)


class TowerEncoder:
    """Rows of images by their addresses; see `lift.cache.maker.RowMaker`.

    An image is read and decoded once for all of its rows in one call. Views are drawn on the
    picture itself; a canvas plays no part in them. Which images share a batch
    follows from the list alone, so equal lists give equal bits.

    Attributes:
        tower: what computes.
        space, part, saw, device, matryoshka, probes: see there.
    """

    saw: tuple[str, ...] = ()
    matryoshka = False

    def __init__(
        self,
        tower: ImageTower,
        sources: Sequence[Source] = (),
        *,
        views: int = 0,
        grid: int = 0,
        seed: int = 0,
        workers: int | None = None,
        strict: bool = False,
    ) -> None:
        """Hold a tower.

        Args:
            tower: what computes.
            sources: where images are read: the places of addresses count in them.
            views: random views of each image.
            grid: cells of a side of the patch grid.
            seed: of the views.
            workers: threads that decode; None takes as many as there are cores, at most 8.
            strict: an image that can't be decoded is an error, not left out.

        Raises:
            ConfigError: a number that can't be, or what the tower can't do.
        """
        transform = tower.transform
        _require(tower, views, grid, workers)
        self.tower, self.space, self.device = tower, tower.space, tower.device.type
        self.part = features_part(tower.part, to_dict(transform), views, grid, seed)
        self.probes = tuple(f"{_PROBE}{number}" for number in range(_PROBES))
        self._sources, self._strict, self._grid = tuple(sources), strict, grid
        self._views = StoredViews(views, seed, transform.augment)
        self._workers = workers or min(_MOST_WORKERS, os.cpu_count() or 1)

    def encode(
        self,
        texts: Sequence[str],
        *,
        precision: Precision = "float32",
        token_budget: int | None = None,
    ) -> EncodedTexts:
        """Return the row of every address (or probe).

        Args:
            texts: addresses with their places, or names of probes.
            precision: of the products in the tower.
            token_budget: tokens of 16 x 16 pixels a batch; None takes the device's default.

        Raises:
            MissingRows: an address that nobody gave a place.
            DataError: an image that changed since it was hashed.
            BrokenSample: an image that can't be decoded, where that is to be an error.
        """
        tokens = -((-self.tower.transform.resolution // _PATCH) ** 2)
        size = max(1, (token_budget or default_token_budget(self.device)) // tokens)
        rows = np.zeros((len(texts), self.space.dimensions), np.float32)
        absent: dict[int, str] = {}
        waiting = _Waiting()
        for wanted, seen in self._decoded(texts, size):
            if isinstance(seen, BrokenSample):
                if self._strict:
                    raise seen
                absent |= {place: f"images, {seen.kind}" for place, _ in wanted}
                continue
            waiting.plain += seen.plain
            if seen.pixels is not None:
                waiting.grids.append((seen.cells, seen.pixels))
            self._compute(waiting, rows, size, size, precision)
        self._compute(waiting, rows, size, 1, precision)
        none = np.zeros(len(texts), np.int32)
        return EncodedImages(rows, none, none.astype(bool), absent=absent)

    def _compute(
        self,
        waiting: _Waiting,
        rows: Float32[np.ndarray, "n d"],
        size: int,
        least: int,
        precision: Precision,
    ) -> None:
        """Fill in the rows of what waits, batch by batch, while at least so many images do."""
        while len(waiting.plain) >= least:
            batch, waiting.plain = waiting.plain[:size], waiting.plain[size:]
            pixels = torch.stack([image for _, image in batch])
            rows[[place for place, _ in batch]] = self.tower.features(pixels, precision).numpy()
        side = self._grid
        while len(waiting.grids) >= least:
            some, waiting.grids = waiting.grids[:size], waiting.grids[size:]
            pixels = torch.stack([image for _, image in some])
            made = self.tower.grid(pixels, side, precision).numpy()
            for number, (cells, _) in enumerate(some):
                for place, (row, column) in cells.items():
                    rows[place] = made[(number * side + row) * side + column]

    def _decoded(
        self, texts: Sequence[str], size: int
    ) -> Iterator[tuple[_Wanted, _Seen | BrokenSample]]:
        """Yield what is seen of each image, in order; some are decoded ahead."""
        images: dict[str, _Wanted] = {}
        for place, text in enumerate(texts):
            if text.startswith(_PROBE):
                images[text] = [(place, Address("0" * 32))]
            elif isinstance(text, Address) and text.place is not None:
                images.setdefault(text.image, []).append((place, text))
            else:
                raise MissingRows(
                    f"Nobody said where the image {text!r} is: give the data that holds it."
                )
        ahead: deque[tuple[_Wanted, Future[_Seen | BrokenSample]]] = deque()
        with ThreadPoolExecutor(self._workers, "lift-decode") as pool:
            try:
                for name, wanted in images.items():
                    content = self._content(name, wanted)
                    ahead.append((wanted, pool.submit(self._seen, content, wanted)))
                    if len(ahead) > size + self._workers:
                        done, future = ahead.popleft()
                        yield done, future.result()
                while ahead:
                    done, future = ahead.popleft()
                    yield done, future.result()
            finally:
                for _, future in ahead:
                    future.cancel()

    def _content(self, name: str, wanted: _Wanted) -> bytes | np.ndarray:
        """Return the bytes of an image file, or a picture to probe with.

        Sources are read by one thread.
        """
        if name.startswith(_PROBE):
            side = self.tower.transform.resolution
            return probe_picture(int(name.removeprefix(_PROBE)), side)
        at = wanted[0][1].place
        assert at is not None, "looked at above"
        sample = read_at(self._sources, at)
        if content_hash(sample.image).hex() != name:
            raise DataError(
                f"The image of sample {sample.key!r} has changed since its content was hashed; "
                "run the command again."
            )
        return sample.image

    def _seen(self, content: bytes | np.ndarray, wanted: _Wanted) -> _Seen | BrokenSample:
        try:
            return self._shown(content, wanted)
        except BrokenSample as error:
            return error

    def _shown(self, content: bytes | np.ndarray, wanted: _Wanted) -> _Seen:
        transform = self.tower.transform
        picture = transform.opened(content)
        decoded: dict[int, UInt8[Tensor, "3 h w"]] = {}

        def pixels(shrink: int) -> UInt8[Tensor, "3 h w"]:
            if shrink not in decoded:
                decoded[shrink] = picture.pixels(shrink)
            return decoded[shrink]

        plain: list[tuple[int, Tensor]] = []
        cells: dict[int, tuple[int, int]] = {}
        whole: Tensor | None = None
        for place, address in wanted:
            if address.role != VIEW and whole is None:
                whole = transform.from_canvas(transform.canvas_from(pixels(1)))
            if address.role == WHOLE:
                assert whole is not None
                plain.append((place, whole))
            elif address.role == PATCH:
                cells[place] = address.cell
            else:
                side = transform.resolution
                view = drawn_view(
                    self._views, address.image, address.view, picture.height, picture.width, side
                )
                found = pixels(transform.shrink(view))
                view = scaled(view, picture, found.shape[1], found.shape[2])
                plain.append((place, transform.finish(view, cut(found, view.box))))
        return _Seen(plain, cells, whole if cells else None)


def probe_picture(number: int, side: int) -> UInt8[np.ndarray, "s s 3"]:
    """Return one of the pictures by which a tower that drifted is noticed.

    Slanted stripes, another width and colour in each, from whole numbers alone: equal anywhere.
    """
    y, x = np.mgrid[:side, :side].astype(np.int64)
    channels = []
    for channel in range(3):
        across, down = (number * 5 + channel * 3) % 7 + 1, (number * 3 + channel * 5) % 6 - 2
        phase = (x * across + y * down) * 512 // side + 131 * channel + 57 * number
        channels.append(np.minimum(np.abs(phase % 512 - 256), 255))
    return np.stack(channels, axis=2).astype(np.uint8)


def _require(tower: ImageTower, views: int, grid: int, workers: int | None) -> None:
    """Refuse what can't be done, before anything is read."""
    told = {"views": views, "grid": grid, "workers": 1 if workers is None else workers}
    for name, value in told.items():
        if value < (name == "workers"):
            raise ConfigError(f"{name} can't be {value}.")
    if grid:
        side = tower.transform.resolution
        tower.grid(torch.zeros(1, 3, side, side, dtype=torch.uint8), grid)
