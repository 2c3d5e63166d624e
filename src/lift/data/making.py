"""From the numbers of a batch to its tensors; runs in workers or in the training process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from lift.data.augment import View
from lift.data.canvas import CanvasStore
from lift.data.crops import Crops
from lift.data.dice import generator
from lift.data.joined import Joined
from lift.data.likeness import file_hash, look_at, look_of
from lift.data.policy import Policy
from lift.data.rows import Rows, of_roles
from lift.data.transform import Transform, cut
from lift.errors import BrokenSample, DataError, LiftError, MissingRows
from lift.terms import Batch, Caption, Dropped, Source

_VIEW = 3
_MIX = 4
"""Purposes of the dice: a sample's random view in an epoch, and the mixture of its captions."""


class Request(NamedTuple):
    """The samples of one batch and the epoch that each is in."""

    epochs: Int64[np.ndarray, " n"]
    numbers: Int64[np.ndarray, " n"]


class _Told(NamedTuple):
    """What is known of a sample besides its pixels."""

    key: str
    captions: Sequence[Caption]
    rows: Int64[np.ndarray, " n"]


class _Shown(NamedTuple):
    """One sample as its batch shows it."""

    view: View
    crop: UInt8[Tensor, "3 h w"]
    rows: Int64[np.ndarray, " shown"]
    weights: Float32[np.ndarray, " shown"]
    mixture: Float32[np.ndarray, "1 d"] | None
    prints: tuple[int, int]


class BatchMaker(Dataset):
    """Batches by request; equal requests give equal batches in any process."""

    def __init__(
        self,
        source: Source,
        cache: Rows,
        transform: Transform,
        seed: int,
        *,
        policy: Policy,
        roles: Sequence[str] = (),
        canvas_bytes: int = 0,
        strict: bool = False,
        whole_crops: bool = False,
        prints: Int64[np.ndarray, "samples 2"] | None = None,
    ) -> None:
        """Keep what batches are made from.

        Args:
            source: the pairs.
            cache: a row for each of their captions.
            transform: from images to what the model sees.
            seed: of views and captions.
            policy: which captions an image shows.
            roles: of the captions that take part; empty for all.
            canvas_bytes: memory for decoded canvases, used where all fit.
            strict: the first sample that can't be used ends the run.
            whole_crops: leave resizing and colours to the device.
            prints: hashes of samples that are known, in memory shared with whoever fills them;
                others are hashed when they are shown. None hashes nothing.
        """
        self._source, self._cache, self._transform = source, cache, transform
        self._seed, self._policy, self._roles = seed, policy, tuple(roles)
        self._strict, self._whole_crops, self._prints = strict, whole_crops, prints
        self._canvases = CanvasStore.fitting(len(source), transform.canvas, canvas_bytes)
        # Where canvases are kept, keys and rows are too: then a sample is read once.
        self._known: dict[int, _Told] = {}

    def __getitem__(self, request: Request) -> Any:
        try:
            return self._batch(request)
        except LiftError as error:
            return error  # raised by the consumer: DataLoader would bury the sentence

    def rows(self, request: Request) -> Int64[np.ndarray, " shown"]:
        """Return the cache rows that a batch shows; samples that can't be used show none."""
        shown = [np.empty(0, np.int64)]
        for epoch, number in zip(*map(np.ndarray.tolist, request), strict=True):
            try:
                told = self._known.get(number) or self._read(number)[0]
            except BrokenSample:  # counted and named when its batch is made
                continue
            shown.append(told.rows[self._chosen(told, epoch)])
        return np.concatenate(shown)

    def _batch(self, request: Request) -> Batch:
        shown: list[_Shown] = []
        numbers: list[int] = []
        dropped: list[Dropped] = []
        for epoch, number in zip(*map(np.ndarray.tolist, request), strict=True):
            try:
                shown.append(self._shown(number, epoch))
                numbers.append(number)
            except BrokenSample as error:
                if self._strict:
                    raise
                # Numbers are unique where keys of joined sources may not be.
                dropped.append(Dropped(str(number), error.kind, str(error)))
        if not shown:
            raise DataError(
                f"No sample of a batch of {len(request.numbers)} can be used; the last: "
                f"{dropped[-1].reason}"
            )
        owner = np.repeat(np.arange(len(shown)), [len(sample.rows) for sample in shown])
        row = np.concatenate([sample.rows for sample in shown])
        mixtures = [sample.mixture for sample in shown if sample.mixture is not None]
        texts = np.concatenate(mixtures) if mixtures else self._cache.take_stored(row)
        weights = np.concatenate([sample.weights for sample in shown])
        index = np.array(numbers, dtype=np.int64)
        source = self._source
        of = source.source_of(index) if isinstance(source, Joined) else np.zeros_like(index)
        return Batch(
            images=self._images(shown),
            texts=torch.from_numpy(texts),
            owner=torch.from_numpy(owner),
            row=torch.from_numpy(row),
            weight=torch.from_numpy(weights) if (weights != 1).any() else None,
            index=torch.from_numpy(index),
            source=torch.from_numpy(of),
            prints=torch.tensor([sample.prints for sample in shown], dtype=torch.int64),
            dropped=tuple(dropped),
        )

    def _images(self, shown: Sequence[_Shown]) -> Tensor | Crops:
        if self._whole_crops:
            return Crops.pack([s.view for s in shown], [s.crop for s in shown])
        return torch.stack([self._transform.finish(s.view, s.crop) for s in shown])

    def _shown(self, number: int, epoch: int) -> _Shown:
        """Return a sample's view and captions of an epoch.

        Raises:
            BrokenSample: it has no caption to use, or its image can't be read.
        """
        told, pixels, view, prints = self._look(number, epoch)
        chosen = self._chosen(told, epoch)
        mixture = self._mixture(number, told.rows, epoch) if self._policy.mixes else None
        weights = np.ones(len(chosen), dtype=np.float32)
        if self._policy.several:
            weights[:] = [told.captions[place].weight for place in chosen]
        return _Shown(view, cut(pixels, view.box), told.rows[chosen], weights, mixture, prints)

    def _look(
        self, number: int, epoch: int
    ) -> tuple[_Told, UInt8[Tensor, "3 h w"], View, tuple[int, int]]:
        """Return a sample, its pixels, the view of them, and hashes of what is new."""
        rng = generator(self._seed, _VIEW, epoch, number)
        new = self._prints is not None and not self._prints[number, 0]
        held = self._canvases.get(number) if self._canvases else None
        if held is not None and not new and number in self._known:
            view = self._transform.draw(held.shape[1], held.shape[2], rng)
            return self._known[number], held, view, (0, 0)
        told, content = self._read(number)
        try:
            pixels, view, look = self._decoded(content, held, rng, new)
        except BrokenSample as error:
            raise BrokenSample(error.kind, f"sample {told.key!r}: {error}") from error
        if held is None and self._canvases:
            self._canvases.put(number, pixels)
        return told, pixels, view, (file_hash(content), look) if new else (0, 0)

    def _decoded(
        self, content: bytes, held: Tensor | None, rng: np.random.Generator, new: bool
    ) -> tuple[UInt8[Tensor, "3 h w"], View, int]:
        """Return pixels to cut the view from, the view, and (of a new image) its look."""
        transform = self._transform
        if transform.canvas is None:
            picture = transform.opened(content)
            view = transform.draw(picture.height, picture.width, rng)
            pixels, view = transform.decoded(picture, view)
            return pixels, view, look_of(pixels) if new else 0
        canvas = transform.canvas_of(content) if held is None else held
        view = transform.draw(canvas.shape[1], canvas.shape[2], rng)
        return canvas, view, look_at(transform.opened(content)) if new else 0

    def _read(self, number: int) -> tuple[_Told, bytes]:
        try:
            sample = self._source.read(number)
        except BrokenSample:
            raise
        except DataError as error:
            raise BrokenSample("unreadable", str(error)) from error
        captions = of_roles(sample.captions, self._roles, sample.key)
        texts = [caption.text for caption in captions]
        rows = self._cache.find(texts)
        if (rows < 0).any():
            missing = texts[int(np.argmax(rows < 0))]
            raise MissingRows(f"Sample {sample.key!r} has changed: {missing!r} has no row.")
        told = _Told(sample.key, captions, rows)
        if self._canvases:
            self._known[number] = told
        return told, sample.image

    def _chosen(self, told: _Told, epoch: int) -> Int64[np.ndarray, " shown"]:
        """Return the places of the captions that are shown (for a mixture the first stands)."""
        if self._policy.mixes:
            return np.zeros(1, dtype=np.int64)
        return self._policy.shown(told.captions, told.key, self._seed, epoch)

    def _mixture(
        self, number: int, rows: Int64[np.ndarray, " n"], epoch: int
    ) -> Float32[np.ndarray, "1 d"]:
        """Return a sample's point between its captions in an epoch."""
        texts = self._cache.take(rows)
        texts /= np.maximum(np.linalg.norm(texts, axis=1, keepdims=True), 1e-12)
        weights = generator(self._seed, _MIX, epoch, number).dirichlet(np.ones(len(rows)))
        return weights.astype(np.float32)[None] @ texts
