"""Answers of a dataset to a row of requests, in order, made by forked workers or right here."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data._utils import signal_handling

from lift.errors import ConfigError, DataError

_LONGEST_TMPDIR = 107 - len("/pymp-xxxxxxxx/listener-xxxxxxxx")
"""A socket's path has at most 107 bytes on Linux, and this is what multiprocessing appends."""

_ASKED_EVERY_S = 5.0
"""Seconds after which the workers are looked at: a dead one is found no sooner."""


def answers(
    dataset: Dataset, requests: Sampler, workers: int, *, stall_s: float = 0.0, pin: bool = False
) -> Generator[Any, None, None]:
    """Yield `dataset[request]` of every request, in order, whatever the number of workers.

    Args:
        dataset: asked by request.
        requests: in order.
        workers: processes; 0 answers right here.
        stall_s: seconds without an answer from any worker that end it all; 0 waits for ever.
        pin: put tensors where a GPU can read them by itself.

    Raises:
        ConfigError: the temporary folder has too long a name for workers to hand anything over.
        DataError: a worker died, or all stand still.
    """
    if workers:
        _require_short(tempfile.gettempdir())
    made = DataLoader(
        dataset,
        sampler=requests,
        batch_size=None,
        num_workers=workers,
        timeout=min(_ASKED_EVERY_S, stall_s) if workers and stall_s else 0,
        pin_memory=pin,
        worker_init_fn=_go_on,
        generator=torch.Generator(),  # else it draws from the run's own, at every resume
        # Forked workers share the canvases; elsewhere than on Linux fork is not safe.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )
    stream = _started(made)
    try:
        yield from _asked(stream, workers, stall_s)
    finally:  # now, and not when whoever holds an error lets go of the stream
        getattr(stream, "_shutdown_workers", lambda: None)()


def _go_on(worker: int) -> None:
    """Leave stopping to the training process: a signal to the whole group reaches workers first."""
    del worker
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _require_short(folder: str) -> None:
    """Refuse a folder in which no socket can be made: workers would lose every batch in silence."""
    if sys.platform != "win32" and len(os.fsencode(folder)) > _LONGEST_TMPDIR:
        raise ConfigError(
            f"The temporary folder {folder} has a name of {len(os.fsencode(folder))} bytes, and "
            f"data workers need one of at most {_LONGEST_TMPDIR}: set TMPDIR to a shorter one, or "
            "loader.workers=0."
        )


def _asked(stream: Any, workers: int, stall_s: float) -> Iterator[Any]:
    """Yield the answers of a stream; tell whether nobody makes them any more."""
    asked = time.monotonic()
    while True:
        try:
            answer = next(stream)
        except StopIteration:
            return
        except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
            if str(error).startswith("DataLoader timed out"):  # and no worker is dead
                pinning = getattr(stream, "_pin_memory_thread", None)
                if pinning is not None and not pinning.is_alive():
                    raise DataError(
                        "The thread that hands batches to the GPU ended; its reason is above. "
                        "Run the same command again, with fewer loader.workers."
                    ) from error
                if time.monotonic() - asked < stall_s:
                    continue
                _end(stream)
                raise DataError(
                    f"No data worker came up with a batch for {stall_s:g} s: a disk or a server "
                    "stands still. Look at where the data lies, raise loader.stall_s, or run the "
                    "same command again."
                ) from error
            if not _is_a_death(error, workers):
                raise
            _end(stream)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"A data worker died ({reason}); often memory ran out. "
                "Lower loader.workers and run the same command again."
            ) from error
        yield answer
        asked = time.monotonic()


def _end(stream: Any) -> None:
    """End workers of whom some are dead or stuck: PyTorch would wait 5 s for each of them."""
    for worker in getattr(stream, "_workers", ()):
        worker.kill()  # they don't hear SIGTERM


def _is_a_death(error: Exception, workers: int) -> bool:
    """Return whether a worker died: PyTorch says so, or the line to it broke in mid-handover.

    An error of the dataset, passed on by a living worker, begins with "Caught".
    """
    if isinstance(error, RuntimeError):
        return str(error).startswith("DataLoader worker (pid")
    return workers > 0 and not str(error).startswith("Caught")


def _started(made: DataLoader) -> Iterator[Any]:
    """Start the workers, so that the death of one is told where an answer is asked for.

    PyTorch's signal handler would raise wherever the training process happens to be, in the middle
    of an optimiser step too. Taken off its list, a dead worker is found by asking, in 5 s at most.
    """
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside other threads; the workers use none of theirs.
        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
        stream = iter(made)
    if getattr(stream, "_worker_pids_set", False):
        signal_handling._remove_worker_pids(id(stream))  # type: ignore[attr-defined]
        stream._worker_pids_set = False  # type: ignore[attr-defined]
    return stream
