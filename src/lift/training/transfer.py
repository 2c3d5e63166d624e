"""Batches on the device before they are asked for: copied on a stream of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lift.terms import Batch


def moved(
    batches: Iterator[Batch], device: torch.device, images: Callable[[Batch], Tensor]
) -> Iterator[Batch]:
    """Yield batches whose images are finished and which lie on `device`.

    On CUDA a batch is copied, and its crops are resized, while the step before it computes; its
    tensors should be pinned. Elsewhere this only finishes the images.

    Args:
        batches: as the loader makes them.
        device: of the model.
        images: `Loader.images`.
    """
    if device.type != "cuda":
        for batch in batches:
            yield _finished(batch.to(device), images)
        return
    beside = torch.cuda.Stream(device)

    def next_one() -> Batch | None:
        batch = next(batches, None)
        if batch is None:
            return None
        with torch.cuda.stream(beside):
            return _finished(batch.to(device, non_blocking=True), images)

    ahead = next_one()
    while ahead is not None:
        here = torch.cuda.current_stream(device)
        here.wait_stream(beside)
        batch = ahead
        for tensor in _tensors(batch):
            tensor.record_stream(here)  # else its memory could be reused while the step reads it
        ahead = next_one()
        yield batch


def _finished(batch: Batch, images: Callable[[Batch], Tensor]) -> Batch:
    return dataclasses.replace(batch, images=images(batch))


def _tensors(batch: Batch) -> Iterator[Tensor]:
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor) and value.is_cuda:
            yield value
