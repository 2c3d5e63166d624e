"""Batches as a function of the step: the same for any number of workers, from any position."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64, Shaped
from torch import Tensor
from torch.utils.data import Sampler

from lift.cache.features import FeatureCache
from lift.cache.reader import EmbeddingCache
from lift.data.asked import Request
from lift.data.crops import Crops, finished
from lift.data.joined import sources_of
from lift.data.linked import NEVER, LinkedCaptions
from lift.data.making import BatchMaker
from lift.data.making_rows import StoredBatchMaker
from lift.data.order import batches
from lift.data.ordering import Kind, order_of
from lift.data.policy import Policy
from lift.data.rows import Pairs, Rows, require_rows
from lift.data.stored_pairs import StoredPairs
from lift.data.teacher import Teacher
from lift.data.transform import Transform
from lift.data.workers import answers
from lift.errors import ConfigError, DataError, LiftError, unknown
from lift.terms import Batch, Source
from lift.world import Worker


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How samples become batches.

    Attributes:
        batch_size: images of a batch, over all ranks. A batch may end one epoch and begin the
            next: every sample is shown once an epoch, and no batch is smaller than others.
        workers: processes that read, decode and augment; 0 does it in the training process.
        captions: which captions an image shows. "one" an epoch, in turn from a random start;
            "all" of them, each image then has several positives; "mix" a point between them (unit
            vectors weighted by a flat Dirichlet draw), so that a small set never shows the same
            target twice; or so many of each role, on average: "raw:0.5 rewrite:0.5",
            "raw:0.3 rewrite:0.3 sub-caption:4", "any:2".
        roles: which captions take part; empty for all.
        linked: also show captions that only the cache knows: texts that were embedded with the
            keys of these images, and what was derived from their captions.
        negatives: texts of the role "negative" that an image brings along, if the cache ties so
            many to it: they compete with its captions for every image of the step.
        alike: what the samples of a batch share: "any" for nothing, their "source", or the
            "cluster" that `lift data select --clusters` gave them.
        resize: where crops are resized and recoloured: by each "worker", or for a whole batch on
            the "device", which pays on a GPU only.
        canvas_memory_mb: decoded canvases are kept where all of them fit into this.
        on_unreadable: whether a sample that can't be used is left out and counted, or ends the
            run.
        stall_s: seconds without a batch from any worker after which the run ends.
    """

    batch_size: int
    workers: int = 0
    captions: str = "one"
    roles: tuple[str, ...] = ()
    linked: bool = False
    negatives: int = 0
    alike: Kind = "any"
    resize: Literal["worker", "device"] = "worker"
    canvas_memory_mb: int = 1024
    on_unreadable: Literal["skip", "stop"] = "skip"
    stall_s: float = 900.0

    def __post_init__(self) -> None:
        least = {"batch_size": 1, "workers": 0, "canvas_memory_mb": 0, "negatives": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ConfigError(
                    f"loader.{name} must be at least {value}, not {getattr(self, name)}."
                )
        if not self.stall_s > 0:
            raise ConfigError(f"loader.stall_s must be above 0, not {self.stall_s}.")
        Policy.parse(self.captions)

    @property
    def policy(self) -> Policy:
        """What `captions` says."""
        return Policy.parse(self.captions)

    @property
    def taking_part(self) -> tuple[str, ...]:
        """The roles whose captions may be shown; empty for all."""
        return self.roles or self.policy.roles


class Loader:
    """Batches of a source, addressed by their step.

    Attributes:
        source: the pairs.
        sources: those that are joined in it, or itself; `Batch.source` counts in these.
        samples_per_epoch: how many samples an epoch shows.
        linked: captions that only the cache knows, where they are asked for.
        pairs: what a reading of all captions found; its digest stands for the data.

    Raises:
        ConfigError: a kind of batch that the source can't make, or fewer images than ranks.
        DataError: fewer samples than one batch, or none with a caption of the roles.
        MissingRows: captions without a stored row; how many, and the first of them.
    """

    def __init__(
        self,
        source: Source,
        cache: Rows,
        transform: Transform,
        config: LoaderConfig,
        seed: int,
        worker: Worker | None = None,
        *,
        images: FeatureCache | None = None,
        teacher: FeatureCache | None = None,
    ) -> None:
        """Check the data against the cache.

        Args:
            source: the pairs.
            cache: a row for each of their captions.
            transform: from images to what the model sees.
            config: how samples become batches.
            seed: of order, views and captions.
            worker: the rank whose share of each batch is made; alone by default.
            images: stored features that are shown instead of pixels.
            teacher: stored vectors of random views, which images then show; see
                `lift.data.stored_views`.
        """
        self.worker = worker or Worker()
        if config.batch_size < self.worker.size:
            raise ConfigError(
                f"loader.batch_size={config.batch_size} leaves some of {self.worker.size} "
                "processes without an image; raise it."
            )
        self.source, self.sources = source, sources_of(source)
        self._waited = [0.0]  # shared with copies at another resolution
        self._config, self._seed = config, seed
        self._cache, self._transform = cache, transform
        roles = config.taking_part
        self._features = images
        self._teacher = None if teacher is None else Teacher(teacher)
        if images is not None:
            maker = self._of_rows(images)
        else:
            self.pairs = require_rows(source, cache, () if config.linked else roles)
            self.linked = LinkedCaptions(source, cache, roles) if config.linked else None
            maker = None
        self._require_roles(roles)
        self._order = order_of(source, seed, config.batch_size, config.alike)
        self.samples_per_epoch = self._order.length
        if self.pairs.usable < config.batch_size:
            raise DataError(
                f"{source.name} holds {self.pairs.usable} samples with captions to use, fewer than "
                f"one batch of {config.batch_size}; lower loader.batch_size."
            )
        self._batches = maker or self._of_pixels()

    def _of_pixels(self) -> BatchMaker:
        config, source, cache = self._config, self.source, self._cache
        return BatchMaker(
            source,
            cache,
            self._transform,
            self._seed,
            policy=config.policy,
            roles=config.taking_part,
            canvas_bytes=config.canvas_memory_mb << 20,
            strict=config.on_unreadable == "stop",
            whole_crops=config.resize == "device",
            linked=self.linked,
            negatives=LinkedCaptions(source, cache, (NEVER,)) if config.negatives else None,
            negatives_each=config.negatives,
            shared=self.worker.size > 1,
            teacher=self._teacher,
        )

    def _of_rows(self, images: FeatureCache) -> StoredBatchMaker:
        assert isinstance(self._cache, EmbeddingCache), "the run's config says so"
        found = StoredPairs(self.source, self._cache, images, self._config.taking_part)
        self.pairs = Pairs(found.digest, found.usable, found.missing, found.met)
        self.linked = None
        return StoredBatchMaker(
            self.source,
            found,
            self._seed,
            self._config.policy,
            shared=self.worker.size > 1,
        )

    @property
    def image_space(self) -> str:
        """Fingerprint of the stored features that are shown; "" where pixels are."""
        return "" if self._features is None else self._features.space.fingerprint

    @property
    def wait_s(self) -> float:
        """Seconds that the consumer has waited for batches so far."""
        return self._waited[0]

    def at_resolution(self, resolution: int) -> Loader:
        """Return a loader of the same samples, captions and crops in another size.

        Raises:
            ConfigError: a size that the transform can't make.
        """
        other = copy.copy(self)
        other._transform = dataclasses.replace(self._transform, resolution=resolution)
        other._batches = self._batches.at(other._transform)
        return other

    def _require_roles(self, roles: Sequence[str]) -> None:
        """Raise ConfigError for a role that no caption has: a typing error would go unnoticed."""
        known = {*self.pairs.roles, *(self.linked.counts if self.linked else ())}
        for role in roles:
            if role not in known:
                raise unknown(f"role of captions in {self.source.name}:", role, known)

    def hash_into(self, prints: Int64[np.ndarray, "samples 2"]) -> None:
        """Have images hashed that are not known in `prints`, which the caller fills.

        Args:
            prints: hashes of each sample's file and look, 0 and 0 for a sample never shown, in
                memory that workers share. The hashes come with the batches (`Batch.prints`).
        """
        self._batches.prints = prints

    def batches(
        self, start_step: int, stop_step: int, *, pin: bool = False
    ) -> Generator[Batch, None, None]:
        """Yield this rank's share of the batches of steps `start_step` to `stop_step` - 1.

        Args:
            start_step, stop_step: from 0.
            pin: put tensors where a GPU can read them by itself.

        Raises:
            DataError: a sample can't be used and the config says stop; no sample of a batch can
                be used; a worker died; or none came up with a batch for `stall_s`.
        """
        wanted = _Requests(self, start_step, stop_step)
        config = self._config
        stream = answers(self._batches, wanted, config.workers, stall_s=config.stall_s, pin=pin)
        # Closed even where an error keeps this frame alive, for the workers to end at once.
        with contextlib.closing(stream):
            while True:
                asked = time.perf_counter()
                try:
                    batch = next(stream, None)
                finally:
                    self._waited[0] += time.perf_counter() - asked
                if batch is None:
                    return
                if isinstance(batch, LiftError):
                    raise batch
                yield batch

    def decode(self, texts: Tensor) -> Shaped[Tensor, "c d"]:
        """Return the rows of a batch's texts, computed on the device where those are."""
        return texts if self._config.policy.mixes else self._cache.decode(texts)

    def decode_teacher(self, stored: Tensor) -> Shaped[Tensor, "b w"]:
        """Return a teacher's rows of a batch, computed on the device where those are."""
        assert self._teacher is not None, "the batch has some"
        return self._teacher.decode(stored)

    def images(self, batch: Batch) -> Tensor:
        """Return the images of a batch, where they are: uint8 [b 3 r r], resized if workers did
        not; or float32 [b width], stored features."""
        images = batch.images
        if isinstance(images, Crops):
            look = self._transform
            return finished(images, look.resolution, look.interpolation, look.fill)
        assert isinstance(images, Tensor), "a batch has tensors or crops"
        return images if self._features is None else self._features.decode(images)

    def requests(
        self, start_step: int, stop_step: int, worker: Worker | None = None
    ) -> Iterator[Request]:
        """Yield the epochs and sample numbers of the steps; made from the seed alone.

        Args:
            start_step, stop_step: from 0.
            worker: the rank whose share it is; the own one if not given.
        """
        worker = worker or self.worker
        size, rank = self._config.batch_size, worker.rank
        stretches = batches(self._order, size, start_step * size)
        for _ in range(start_step, stop_step):
            epochs, numbers = next(stretches)
            own = np.array_split(np.arange(size), worker.size)[rank]
            yield Request(epochs[own], numbers[own])

    def equal_caption_share(self, samples: int = 2048) -> float:
        """Return the share of captions that have a twin in their batch, over the first batches."""
        steps = max(1, min(self.samples_per_epoch, samples) // self._config.batch_size)
        twins = total = 0
        for request in self.requests(0, steps, Worker()):
            rows = self._batches.rows(request)
            _, counts = np.unique(rows, return_counts=True)
            twins += int(counts[counts > 1].sum())
            total += len(rows)
        return twins / total if total else 0.0


class _Requests(Sampler):
    """What DataLoader hands to its workers, made in the training process."""

    def __init__(self, loader: Loader, start: int, stop: int) -> None:
        self._loader, self._start, self._stop = loader, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[Request]:
        return self._loader.requests(self._start, self._stop)
