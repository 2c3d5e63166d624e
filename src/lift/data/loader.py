"""Batches as a function of the step: the same for any number of workers, from any position."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from lift.data.canvas import CanvasStore
from lift.data.dice import generator, key_number, turn
from lift.data.order import WINDOW_SAMPLES, order
from lift.data.transform import Transform
from lift.data.workers import answers
from lift.errors import ConfigError, DataError, LiftError, MissingRows
from lift.terms import Batch, Caption, Source

_VIEW = 3
_MIX = 4
"""Purposes of the dice: a sample's random view in an epoch, and the mixture of its captions."""

_LOOKED_UP_TOGETHER = 4096


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How samples become batches.

    Attributes:
        batch_size: images of a batch. The samples left at the end of an epoch are passed over;
            another epoch has others there.
        workers: processes that read, decode and augment; 0 does it in the training process.
        captions: "one" picks one caption an image and epoch, in turn from a random start; "all"
            takes every caption, each image then has several positives; "mix" draws a point
            between an image's captions (unit vectors weighted by a flat Dirichlet draw), so that
            a small set never shows the same target twice.
        roles: which captions take part; empty for all.
        canvas_memory_mb: decoded canvases are kept where all of them fit into this.
        on_unreadable: whether an image that can't be read is left out and counted, or ends the
            run.
    """

    batch_size: int
    workers: int = 0
    captions: Literal["one", "all", "mix"] = "one"
    roles: tuple[str, ...] = ()
    canvas_memory_mb: int = 1024
    on_unreadable: Literal["skip", "stop"] = "skip"

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.workers < 0 or self.canvas_memory_mb < 0:
            raise ConfigError(
                "loader needs batch_size >= 1, workers >= 0 and canvas_memory_mb >= 0, not "
                f"{self.batch_size}, {self.workers} and {self.canvas_memory_mb}."
            )


@runtime_checkable
class Rows(Protocol):
    """Stored text vectors, as `lift.cache.reader.EmbeddingCache` has them."""

    def find(self, texts: list[str]) -> np.ndarray:
        """Return the int64 row number of every text, -1 where it has none."""
        ...

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows of these numbers as float32 [n d]."""
        ...

    def take_stored(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows of these numbers as they are stored [n w]."""
        ...

    def decode(self, stored: Tensor) -> Float32[Tensor, "n d"]:
        """Return the rows of stored ones, computed where those are."""
        ...


class Loader:
    """Batches of a source, addressed by their step.

    Attributes:
        source: the pairs.
        steps_per_epoch: whole batches of an epoch.
        wait_s: seconds that the consumer has waited for batches so far.
        digest: of every key and caption in order; another data set, another digest.

    Raises:
        DataError: fewer samples than one batch, or a sample without a caption of the roles.
        MissingRows: captions without a stored row; how many, and the first of them.
    """

    def __init__(
        self, source: Source, cache: Rows, transform: Transform, config: LoaderConfig, seed: int
    ) -> None:
        if len(source) < config.batch_size:
            raise DataError(
                f"{source.name} holds {len(source)} samples, fewer than one batch of "
                f"{config.batch_size}; lower loader.batch_size."
            )
        self.source = source
        self.steps_per_epoch = len(source) // config.batch_size
        self.wait_s = 0.0
        # A source that holds less than a window at a time would load each group again and again.
        self._window = min(WINDOW_SAMPLES, getattr(source, "window_samples", WINDOW_SAMPLES))
        self._config = config
        self._seed = seed
        self._cache = cache
        self.digest = require_rows(source, cache, config.roles)
        self._batches = _BatchMaker(source, cache, transform, config, seed)

    def batches(self, start_step: int, stop_step: int) -> Iterator[Batch]:
        """Yield the batches of steps `start_step` to `stop_step` - 1.

        Raises:
            DataError: an image can't be read and the config says stop; no image of a batch can be
                read; or a worker died.
        """
        wanted = _Requests(self, start_step, stop_step)
        # Closed even where an error keeps this frame alive, for the workers to end at once.
        with contextlib.closing(answers(self._batches, wanted, self._config.workers)) as stream:
            while True:
                asked = time.perf_counter()
                try:
                    batch = next(stream, None)
                finally:
                    self.wait_s += time.perf_counter() - asked
                if batch is None:
                    return
                if isinstance(batch, LiftError):
                    raise batch
                yield batch

    def decode(self, texts: Tensor) -> Float32[Tensor, "c d"]:
        """Return the rows of a batch's texts, computed on the device where those are."""
        return texts if self._config.captions == "mix" else self._cache.decode(texts)

    def requests(self, start_step: int, stop_step: int) -> Iterator[_Request]:
        """Yield (epoch, sample numbers) of the steps; made from seed and epoch alone."""
        step, size = start_step, self._config.batch_size
        while step < stop_step:
            epoch, place = divmod(step, self.steps_per_epoch)
            held = np.empty(0, np.int64)
            start = place * size
            for numbers in order(self.source.groups, self._seed, epoch, start, self._window):
                held = np.concatenate([held, numbers])
                while len(held) >= size and step < stop_step:
                    yield _Request(epoch, held[:size])
                    held, step = held[size:], step + 1
                if step >= stop_step:
                    return

    def equal_caption_share(self, samples: int = 2048) -> float:
        """Return the share of captions that have a twin in their batch, over the first batches."""
        steps = max(1, min(self.steps_per_epoch, samples // self._config.batch_size))
        twins = total = 0
        for request in self.requests(0, steps):
            rows = self._batches.rows(request)
            _, counts = np.unique(rows, return_counts=True)
            twins += int(counts[counts > 1].sum())
            total += len(rows)
        return twins / total if total else 0.0


def require_rows(source: Source, cache: Rows, roles: tuple[str, ...] = ()) -> str:
    """Check that every caption of the roles has a stored row; one pass, bounded memory.

    Returns:
        A digest (32 hex digits) of all keys and captions in order.

    Raises:
        DataError: a sample without a caption of these roles.
        MissingRows: with how many captions have no row, and the first of them.
    """
    missing, total, first = 0, 0, ""
    held: list[str] = []
    digest = hashlib.blake2b(digest_size=16)

    def look_up() -> None:
        nonlocal missing, total, first
        for text, row in zip(held, cache.find(held), strict=True):
            if row < 0:
                first = first or text
                missing += 1
        total += len(held)
        held.clear()

    for key, captions in source.texts():
        words = "\0".join([key, *(caption.text for caption in captions)])
        digest.update(words.encode("utf-8", "surrogatepass") + b"\n")
        held += [caption.text for caption in _of_roles(captions, roles, key)]
        if len(held) >= _LOOKED_UP_TOGETHER:
            look_up()
    look_up()
    if missing:
        raise MissingRows(
            f"{missing} of {total} captions of {source.name} have no row in the cache; the first "
            f"is {first!r}. Run `lift embed` on this data with the cache's folder: it adds what "
            "is missing."
        )
    return digest.hexdigest()


def _of_roles(captions: tuple[Caption, ...], roles: tuple[str, ...], key: str) -> list[Caption]:
    chosen = [caption for caption in captions if not roles or caption.role in roles]
    if not chosen:
        found = sorted({caption.role for caption in captions})
        raise DataError(
            f"Sample {key!r} has no caption of the roles {', '.join(roles)}; its roles are "
            f"{', '.join(found) or 'none'}. Change loader.roles."
        )
    return chosen


class _Request(NamedTuple):
    """The samples of one batch."""

    epoch: int
    numbers: np.ndarray


class _Requests(Sampler):
    """What DataLoader hands to its workers, made in the training process."""

    def __init__(self, loader: Loader, start: int, stop: int) -> None:
        self._loader, self._start, self._stop = loader, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[_Request]:
        return self._loader.requests(self._start, self._stop)


class _BatchMaker(Dataset):
    """From the numbers of a batch to its tensors; runs in workers or in the training process."""

    def __init__(
        self, source: Source, cache: Rows, transform: Transform, config: LoaderConfig, seed: int
    ) -> None:
        self._source, self._cache, self._transform = source, cache, transform
        self._config, self._seed = config, seed
        self._canvases = CanvasStore.fitting(
            len(source), transform.canvas, config.canvas_memory_mb << 20
        )
        # Where canvases are kept, keys and rows are too: then a sample is read once.
        self._known: dict[int, tuple[str, np.ndarray]] = {}

    def __getitem__(self, request: _Request) -> Any:
        try:
            return self._batch(request)
        except LiftError as error:
            return error  # raised by the consumer: DataLoader would bury the sentence

    def rows(self, request: _Request) -> np.ndarray:
        """Return the cache rows that a batch shows; samples that can't be read show none."""
        shown = [np.empty(0, np.int64)]
        for number in request.numbers.tolist():
            try:
                key, rows = self._known.get(number) or self._read(number)[:2]
            except _Unreadable:  # counted and named when its batch is made
                continue
            shown.append(self._shown(key, rows, request.epoch))
        return np.concatenate(shown)

    def _batch(self, request: _Request) -> Batch:
        views, mixtures, rows, owner, index, dropped = [], [], [], [], [], []
        for number in request.numbers.tolist():
            try:
                key, own_rows, canvas = self._sample(number)
            except _Unreadable as failure:
                if self._config.on_unreadable == "stop":
                    raise DataError(failure.reason) from failure
                dropped.append((failure.key, failure.reason))
                continue
            rng = generator(self._seed, _VIEW, request.epoch, number)
            views.append(self._transform.train(canvas, rng))
            shown = self._shown(key, own_rows, request.epoch)
            if self._config.captions == "mix":
                mixtures.append(self._mixture(number, own_rows, request.epoch))
            rows.append(shown)
            owner += [len(views) - 1] * len(shown)
            index.append(number)
        if not views:
            raise DataError(
                f"No image of a batch of {len(request.numbers)} can be read; the last: "
                f"{dropped[-1][1]}"
            )
        row = np.concatenate(rows)
        texts = np.concatenate(mixtures) if mixtures else self._cache.take_stored(row)
        return Batch(
            images=torch.stack(views),
            texts=torch.from_numpy(texts),
            owner=torch.tensor(owner),
            row=torch.from_numpy(row),
            index=torch.tensor(index),
            dropped=tuple(dropped),
        )

    def _sample(self, number: int) -> tuple[str, np.ndarray, torch.Tensor]:
        """Return key, cache rows and canvas of a sample, from memory where they are kept."""
        canvas = self._canvases.get(number) if self._canvases else None
        if canvas is not None and number in self._known:
            return *self._known[number], canvas
        key, rows, image = self._read(number)
        if canvas is None:
            try:
                canvas = self._transform.canvas_of(image)
            except DataError as error:
                raise _Unreadable(key, f"sample {key!r}: {error}") from error
            if self._canvases:
                self._canvases.put(number, canvas)
        return key, rows, canvas

    def _read(self, number: int) -> tuple[str, np.ndarray, bytes]:
        try:
            sample = self._source.read(number)
        except DataError as error:
            raise _Unreadable(str(number), str(error)) from error
        texts = [c.text for c in _of_roles(sample.captions, self._config.roles, sample.key)]
        rows = self._cache.find(texts)
        if (rows < 0).any():
            missing = texts[int(np.argmax(rows < 0))]
            raise MissingRows(f"Sample {sample.key!r} has changed: {missing!r} has no row.")
        if self._canvases:
            self._known[number] = sample.key, rows
        return sample.key, rows, sample.image

    def _mixture(self, number: int, rows: np.ndarray, epoch: int) -> np.ndarray:
        """Return a sample's point [1 d] between its captions in an epoch."""
        texts = self._cache.take(rows)
        texts /= np.maximum(np.linalg.norm(texts, axis=1, keepdims=True), 1e-12)
        weights = generator(self._seed, _MIX, epoch, number).dirichlet(np.ones(len(rows)))
        return weights.astype(np.float32)[None] @ texts

    def _shown(self, key: str, rows: np.ndarray, epoch: int) -> np.ndarray:
        """Return all rows, or the one whose turn it is (for a mixture the first stands)."""
        if self._config.captions == "all":
            return rows
        if self._config.captions == "mix":
            return rows[:1]
        chosen = turn(self._seed, key_number(key), epoch, len(rows))
        return rows[chosen : chosen + 1]


class _Unreadable(Exception):
    """A sample without pixels; stays inside this module."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key, self.reason = key, reason
