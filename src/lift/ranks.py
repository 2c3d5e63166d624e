"""What the processes of one training run tell each other; alone, every word is the speaker's own.

`torchrun` starts the processes (ranks). Only tensors and JSON travel, never pickled objects.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import itertools
import json
import math
import re
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from lift.errors import ConfigError, DataEcho, DataError, Echo, LiftError, RankLost, Stopped
from lift.world import Worker, worker

SILENCE_S = 7200.0
"""Seconds without an answer after which a rank counts as lost: the first one reads all captions,
and writes what was trained on, while the others wait. That a rank died is noticed at once by gloo;
beside NCCL `torchrun` ends the others."""

_GROUPS = itertools.count()
"""Numbers of the groups that this process joined."""

_LOST = re.compile(
    r"gloo|nccl|connection (?:closed|reset|refused)|closed by peer|timed out|process group",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, seen from one of them.

    Attributes:
        worker: which one this is.
        device: where tensors have to lie to travel.
    """

    worker: Worker = Worker()
    device: torch.device = torch.device("cpu")

    @property
    def size(self) -> int:
        """How many there are."""
        return self.worker.size

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.worker.rank == 0

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum over all ranks of tensors of one shape; no gradient."""
        return self._reduced(x, dist.ReduceOp.SUM)

    def max(self, x: Tensor) -> Tensor:
        """Return the largest of all ranks, entry by entry; no gradient."""
        return self._reduced(x, dist.ReduceOp.MAX)

    def sizes(self, x: Tensor) -> list[int]:
        """Return the length of `x` on every rank."""
        if self.size == 1:
            return [len(x)]
        own = torch.tensor([len(x)], device=self.device)
        found = [torch.empty_like(own) for _ in range(self.size)]
        with self.telling():
            dist.all_gather(found, own)
        return [int(n) for n in torch.cat(found).tolist()]

    def gather(self, x: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        """Return the rows of all ranks in the order of ranks, on the device of `x`; no gradient.

        Args:
            x: rows [n ...] of any type; n may differ between ranks, the rest may not.
            sizes: n of every rank, where that is known.
        """
        if self.size == 1:
            return x.detach()
        sizes = self.sizes(x) if sizes is None else sizes
        rest = x.shape[1:]
        # As bytes: backends differ in the types they know. Rows are padded to the longest rank.
        wide = math.prod(rest) * x.element_size()
        # Of no rows, numpy's strides may be 0, which view() refuses: then a fresh tensor.
        flat = x.detach().contiguous().reshape(-1) if x.numel() else x.new_empty(0)
        own = flat.view(torch.uint8).reshape(len(x), wide)
        own = own.to(self.device)
        padded = own.new_zeros(max(sizes), own.shape[1])
        padded[: len(own)] = own
        found = [torch.empty_like(padded) for _ in sizes]
        with self.telling():
            dist.all_gather(found, padded)
        rows = torch.cat([part[:n] for part, n in zip(found, sizes, strict=True)])
        return rows.reshape(-1).view(x.dtype).reshape(sum(sizes), *rest).to(x.device)

    def gather_with_gradient(self, x: Tensor) -> Tensor:
        """Return the rows of all ranks; each rank's own get the sum of all ranks' gradients."""
        if self.size == 1:
            return x
        gathered = _Gather.apply(x, self)
        assert isinstance(gathered, Tensor)
        return gathered

    def agree(self, value: Any) -> Any:
        """Return the first rank's value (plain JSON), whatever the others have."""
        return value if self.size == 1 else self.hear(value)[0]

    def hear(self, value: Any) -> list[Any]:
        """Return every rank's value (plain JSON), in the order of ranks."""
        if self.size == 1:
            return [value]
        own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = self.sizes(own)
        words = self.gather(own, sizes)
        return [json.loads(bytes(part.tolist())) for part in words.split(sizes)]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Do a block on every rank, in which nobody asks another; an error of one is that of all.

        The lowest rank with an error raises its own, the others an `Echo` of it.
        """
        mine: LiftError | None = None
        try:
            yield
        except LiftError as error:
            if self.size == 1:
                raise
            mine = error
        told = self.hear(None if mine is None else [isinstance(mine, DataError), str(mine)])
        speaker = next((rank for rank, words in enumerate(told) if words is not None), None)
        if speaker is None:
            return
        if speaker == self.worker.rank and mine is not None:
            mine.of_all_ranks = True
            raise mine
        about_data, sentence = told[speaker]
        raise (DataEcho if about_data else Echo)(sentence)

    def agreed(self, error: LiftError) -> LiftError:
        """Return what to raise where all ranks have come to the same error: one of them says it."""
        error.of_all_ranks = True
        return error if self.first else Echo(str(error))

    def telling(self) -> contextlib.AbstractContextManager[None]:
        """Return the context in which other ranks are asked; see `telling`."""
        return telling() if self.size > 1 else contextlib.nullcontext()

    def any(self, wish: bool) -> bool:
        """Return whether it is so on any rank."""
        return wish if self.size == 1 else bool(self.max(torch.tensor([int(wish)]))[0])

    def wait(self) -> None:
        """Go on when all ranks are here."""
        if self.size > 1:
            self.sum(torch.zeros(1))

    def _reduced(self, x: Tensor, how: Any) -> Tensor:
        if self.size == 1:
            return x.detach()
        sent = x.detach().to(self.device, copy=True).contiguous()
        with self.telling():
            dist.all_reduce(sent, how)
        return sent.to(x.device)


ALONE = Ranks()
"""One process: nothing travels."""


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        sizes = ranks.sizes(x)
        ctx.ranks = ranks
        ctx.start, ctx.length = sum(sizes[: ranks.worker.rank]), len(x)
        return ranks.gather(x, sizes)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        whole = ctx.ranks.sum(gradients[0])
        return whole[ctx.start : ctx.start + ctx.length], None


@contextlib.contextmanager
def joined(device: torch.device, silence_s: float = SILENCE_S) -> Iterator[Ranks]:
    """Join the processes that `torchrun` started; a lone process joins nobody.

    The group is left in order (all together, then it is dissolved) where the block ends well: a
    process that leaves early makes gloo abort the others.

    Args:
        device: what this process computes on; GPUs talk by NCCL, the rest by gloo.
        silence_s: seconds after which a rank that does not answer counts as lost.

    Raises:
        ConfigError: what `torchrun` sets is not whole.
        RankLost: not all processes came.
    """
    own = worker()
    if own.size == 1:
        yield ALONE
        return
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(device)
    with telling():
        patience = datetime.timedelta(seconds=silence_s)
        try:
            store, rank, size = next(rendezvous("env://", timeout=patience))
        except ValueError as error:  # a variable is missing
            raise ConfigError(
                f"WORLD_SIZE={own.size} says that there are several processes, but {error}; start "
                "with torchrun, or unset WORLD_SIZE."
            ) from error
        # A second group of the same processes must not read the first one's addresses.
        store = PrefixStore(f"lift-{next(_GROUPS)}", store)
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=patience,
            device_id=device if cuda else None,
        )
    ranks = Ranks(own, device if cuda else torch.device("cpu"))
    try:
        yield ranks
        ranks.wait()
    except BaseException as error:
        # Frames of the error hold the model that listens to the group, and would keep it alive.
        traceback.clear_frames(error.__traceback__)
        if isinstance(error, Stopped) or getattr(error, "of_all_ranks", False):
            ranks.wait()
        raise
    finally:
        gc.collect()
        dist.destroy_process_group()


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """Turn what a backend says of a lost process into one sentence.

    NCCL itself says nothing: there `torchrun` ends the others.

    Raises:
        RankLost: another process of the run ended, or did not answer in time.
    """
    try:
        yield
    except RuntimeError as error:
        words = str(error)
        short = isinstance(error, torch.OutOfMemoryError) or "out of memory" in words.lower()
        if short or not (isinstance(error, dist.DistError) or _LOST.search(words)):
            raise
        raise RankLost(
            "Another process of this run ended or does not answer "
            f"({words.splitlines()[0][:160]}). What it said stands above. The last checkpoint is "
            "whole: run the same command again to go on from it."
        ) from error
