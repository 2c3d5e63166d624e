"""Answers of a dataset to a row of requests, in order, made by forked workers or right here."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data._utils import signal_handling

from lift.errors import DataError


def answers(dataset: Dataset, requests: Sampler, workers: int) -> Generator[Any, None, None]:
    """Yield `dataset[request]` of every request, in order, whatever the number of workers.

    Raises:
        DataError: a worker died.
    """
    made = DataLoader(
        dataset,
        sampler=requests,
        batch_size=None,
        num_workers=workers,
        generator=torch.Generator(),  # else it draws from the run's own, at every resume
        # Forked workers share the canvases; elsewhere than on Linux fork is not safe.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )
    stream = _started(made)
    while True:
        try:
            answer = next(stream)
        except StopIteration:
            return
        except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
            if not _is_a_death(error, workers):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"A data worker died ({reason}); often memory ran out. "
                "Lower loader.workers and run the same command again."
            ) from error
        yield answer


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
