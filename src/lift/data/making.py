"""From the numbers of a batch to its tensors; runs in workers or in the training process."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from lift.data.asked import Found, Request, Told
from lift.data.canvas import CanvasStore
from lift.data.crops import Crops, Room
from lift.data.dice import generator
from lift.data.image import Picture
from lift.data.joined import Joined
from lift.data.likeness import file_hash, look_of
from lift.data.linked import LinkedCaptions
from lift.data.policy import Policy
from lift.data.rows import Rows, lacking, of_roles
from lift.data.teacher import Teacher
from lift.data.transform import Transform, cut, scaled
from lift.errors import BrokenSample, DataError, LiftError, MissingRows, Unreachable
from lift.terms import Batch, Dropped, Sample, Source

_VIEW = 3
_WRONG = 7
"""Purposes of the dice: a sample's random view in an epoch, and which wrong texts it brings along
(5 and 6 are the training's)."""


_InT = TypeVar("_InT")
_OutT = TypeVar("_OutT")


class BatchMaker(Dataset):
    """Batches by request; equal requests give equal batches in any process.

    Attributes:
        prints: see `lift.data.loader.Loader.hash_into`; None hashes nothing.
    """

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
        linked: LinkedCaptions | None = None,
        negatives: LinkedCaptions | None = None,
        negatives_each: int = 0,
        shared: bool = False,
        teacher: Teacher | None = None,
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
            linked: captions that the cache knows, besides those of the source.
            negatives: texts that the cache ties to images as wrong ones.
            negatives_each: how many of them an image brings along.
            shared: batches are parts of larger ones, and may come out empty.
            teacher: whose random views images show.
        """
        self._teacher = teacher
        self._negatives, self._negatives_each, self._shared = negatives, negatives_each, shared
        self._source, self._cache, self._transform = source, cache, transform
        self._seed, self._policy, self._roles = seed, policy, tuple(roles)
        self._strict, self._whole_crops, self._linked = strict, whole_crops, linked
        self.prints: Int64[np.ndarray, "samples 2"] | None = None
        self._canvases = CanvasStore.fitting(len(source), transform.canvas, canvas_bytes)
        # Where canvases are kept, keys and rows are too: then a sample is read once.
        self._known: dict[int, Told] = {}

    def at(self, transform: Transform) -> BatchMaker:
        """Return a maker of the same batches, seen by a transform of the same canvas."""
        other = copy.copy(self)
        other._transform = transform
        return other

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
        lost: list[Dropped] = []
        wanted = zip(*map(np.ndarray.tolist, request), strict=True)
        found = self._surviving(lambda place: self._found(*place), wanted, lost)
        images, found = self._images(found, lost)
        if images is None and self._shared:
            side = self._transform.resolution
            images = torch.empty(0, 3, side, side, dtype=torch.uint8)
        if images is None:
            raise DataError(
                f"No sample of a batch of {len(request.numbers)} can be used; the last: "
                f"{lost[-1].reason}"
            )
        return self._with_texts(images, found, tuple(lost))

    def _images(
        self, found: Sequence[Found], lost: list[Dropped]
    ) -> tuple[Crops | Tensor | None, list[Found]]:
        """Return the images of a batch, None where all are broken, and whose they are."""
        if self._whole_crops:
            room = Room(sum(math.prod(self._size(sample)) for sample in found))
            placed = self._surviving(lambda sample: self._placed(sample, room), found, lost)
            views = [sample.view for sample in placed]
            return (Crops.pack(room, views) if placed else None), placed
        done = self._surviving(self._finished, found, lost)
        images = torch.stack([image for _, image in done]) if done else None
        return images, [sample for sample, _ in done]

    def _with_texts(
        self, images: Crops | Tensor, found: Sequence[Found], lost: tuple[Dropped, ...]
    ) -> Batch:
        owner = np.repeat(np.arange(len(found)), [len(sample.shown) for sample in found])
        row = _joined([sample.told.rows[sample.shown] for sample in found]).numpy()
        wrong = self._wrong(found)
        mixtures = [self._mixture(sample) for sample in found] if self._policy.mixes else []
        texts = np.concatenate(mixtures) if mixtures else self._cache.take_stored(row)
        weights = np.concatenate(
            [np.empty(0, np.float32), *(self._weights(sample) for sample in found)]
        )
        index = np.array([sample.number for sample in found], dtype=np.int64)
        source = self._source
        of = source.source_of(index) if isinstance(source, Joined) else np.zeros_like(index)
        return Batch(
            images=images,
            texts=torch.from_numpy(texts),
            owner=torch.from_numpy(owner),
            row=torch.from_numpy(row),
            weight=torch.from_numpy(weights) if (weights != 1).any() else None,
            index=torch.from_numpy(index),
            source=torch.from_numpy(of),
            prints=torch.tensor([sample.prints for sample in found]).long().reshape(-1, 2),
            own_row=_joined([sample.told.rows for sample in found]),
            negatives=None if wrong is None else torch.from_numpy(self._cache.take_stored(wrong)),
            negative_row=None if wrong is None else torch.from_numpy(wrong),
            dropped=lost,
            **self._lessons(found),
        )

    def _lessons(self, found: Sequence[Found]) -> dict[str, Tensor]:
        """Return what the teacher made of the samples, and of which of them."""
        if self._teacher is None:
            return {}
        stored, known = self._teacher.rows([sample.taught for sample in found])
        return {"teacher": torch.from_numpy(stored), "taught": torch.from_numpy(known)}

    def _wrong(self, found: Sequence[Found]) -> Int64[np.ndarray, " e"] | None:
        """Return the rows of wrong texts that the samples bring along."""
        if self._negatives is None:
            return None
        rows = []
        for sample in found:
            own = self._negatives.of(sample.number)[1]
            if len(own) > self._negatives_each:
                rng = generator(self._seed, _WRONG, sample.epoch, sample.number)
                own = rng.choice(own, self._negatives_each, replace=False)
            rows.append(own)
        return _joined(rows).numpy()

    def _surviving(
        self, do: Callable[[_InT], _OutT], items: Iterable[_InT], lost: list[Dropped]
    ) -> list[_OutT]:
        """Return what `do` makes of the items; samples that it breaks on are added to `lost`."""
        done = []
        for item in items:
            try:
                done.append(do(item))
            except BrokenSample as error:
                if self._strict:
                    raise
                number = item.number if isinstance(item, Found) else item[1]  # type: ignore[index]
                lost.append(Dropped(str(number), error.kind, str(error)))
        return done

    def _found(self, epoch: int, number: int) -> Found:
        """Return a sample with its view and captions of an epoch.

        Raises:
            BrokenSample: it has no caption to use, or its image is none.
        """
        transform, look = self._transform, 0
        new = self.prints is not None and not self.prints[number, 0]
        image: Picture | Tensor | None = self._canvases.get(number) if self._canvases else None
        told, content = self._known.get(number), b""
        if told is None or image is None or new:
            told, content = self._read(number)
            with _naming(told.key):
                picture = transform.opened(content)
                if transform.canvas is not None and (image is None or new):
                    pixels = transform.pixels_of(picture)
                    look = look_of(pixels) if new else 0
                    image = transform.canvas_from(pixels)
                    if self._canvases:
                        self._canvases.put(number, image)
            image = picture if image is None else image
        height, width = (
            image.shape[1:] if isinstance(image, Tensor) else (image.height, image.width)
        )
        view = transform.draw(height, width, generator(self._seed, _VIEW, epoch, number))
        prints = (file_hash(content), look) if new else (0, 0)
        taught = ""
        if self._teacher is not None:
            size = (height, width, transform.resolution)
            taught, seen = self._teacher.shown(content, told.key, self._seed, epoch, size)
            view = seen or view
        return Found(number, epoch, told, self._chosen(told, epoch), image, view, prints, taught)

    def _size(self, sample: Found) -> tuple[int, int]:
        """Return height and width of what will be decoded."""
        image = sample.image
        if isinstance(image, Tensor):
            return image.shape[1], image.shape[2]
        return image.size(self._transform.shrink(sample.view))

    def _pixels(
        self, sample: Found, out: UInt8[Tensor, " bytes"] | None = None
    ) -> tuple[Found, UInt8[Tensor, "3 h w"]]:
        """Decode a sample; return it with its view in the coordinates of the pixels, and those."""
        image, (height, width) = sample.image, self._size(sample)
        if isinstance(image, Tensor):
            return sample, image
        with _naming(sample.told.key):
            pixels = image.pixels(self._transform.shrink(sample.view), out)
        if sample.prints[0]:
            sample = sample._replace(prints=(sample.prints[0], look_of(pixels)))
        return sample._replace(view=scaled(sample.view, image, height, width)), pixels

    def _finished(self, sample: Found) -> tuple[Found, UInt8[Tensor, "3 r r"]]:
        """Return a sample and its view as the model will see it."""
        sample, pixels = self._pixels(sample)
        return sample, self._transform.finish(sample.view, cut(pixels, sample.view.box))

    def _placed(self, sample: Found, room: Room) -> Found:
        """Decode a sample into the room of its batch."""
        rest = room.rest()
        sample, pixels = self._pixels(sample, rest)
        _, height, width = pixels.shape
        if isinstance(sample.image, Tensor):
            rest[: pixels.numel()].view(height, width, 3).copy_(pixels.permute(1, 2, 0))
        room.keep(height, width)
        return sample

    def _read(self, number: int) -> tuple[Told, bytes]:
        try:
            sample = self._source.read(number)
        except (BrokenSample, Unreachable):
            raise
        except DataError as error:
            raise BrokenSample("unreadable", str(error)) from error
        told = self._told(number, sample)
        if self._canvases:
            self._known[number] = told
        return told, sample.image

    def _told(self, number: int, sample: Sample) -> Told:
        """Return a sample's captions that take part, those of the cache's links behind its own."""
        roles = self._roles
        own = of_roles(sample.captions, roles)
        rows = self._cache.find([caption.text for caption in own])
        if (rows < 0).any():
            missing = own[int(np.argmax(rows < 0))].text
            raise MissingRows(f"Sample {sample.key!r} has changed: {missing!r} has no row.")
        if self._linked is not None:
            more, theirs = self._linked.of(number)
            new = ~np.isin(theirs, rows)
            own += [caption for caption, is_new in zip(more, new, strict=True) if is_new]
            rows = np.concatenate([rows, theirs[new]])
        if not own:
            raise lacking(sample.captions, roles, sample.key)
        return Told(sample.key, own, rows)

    def _chosen(self, told: Told, epoch: int) -> Int64[np.ndarray, " shown"]:
        """Return the places of the captions that are shown (for a mixture the first stands)."""
        if self._policy.mixes:
            return np.zeros(1, dtype=np.int64)
        return self._policy.shown(told.captions, told.key, self._seed, epoch)

    def _weights(self, sample: Found) -> Float32[np.ndarray, " shown"]:
        """Return the weights of the captions shown: 1 where one stands for all."""
        weights = np.ones(len(sample.shown), dtype=np.float32)
        if self._policy.several:
            weights[:] = [sample.told.captions[place].weight for place in sample.shown]
        return weights

    def _mixture(self, sample: Found) -> Float32[np.ndarray, "1 d"]:
        """Return a sample's point between its captions in an epoch."""
        texts = self._cache.take(sample.told.rows)
        return self._policy.point(texts, self._seed, sample.epoch, sample.number)


def _joined(rows: Sequence[np.ndarray]) -> Int64[Tensor, " n"]:
    return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *rows]))


@contextlib.contextmanager
def _naming(key: str) -> Iterator[None]:
    """Put the sample's key in front of what is wrong with its image."""
    try:
        yield
    except BrokenSample as error:
        raise BrokenSample(error.kind, f"sample {key!r}: {error}") from error
