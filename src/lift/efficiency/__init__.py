"""What a model costs: parameters, FLOPs, items a second, memory, bytes a vector; measured here.

Speed and memory are of this machine, in this minute; parameters, FLOPs and bytes are of the model.
A multiplication and the addition behind it count as two operations, in matrix products,
convolutions and attention; what is left (norms, activations, resizing) is not counted.
"""

from __future__ import annotations

import contextlib
import functools
import io
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from lift import plugins
from lift.config import Part, from_dict, to_dict
from lift.efficiency.counting import count, peak_memory
from lift.efficiency.counting import networks_of as networks_of
from lift.errors import LiftError
from lift.world import Precision, versions

BATCHES, WARM_UP = 5, 1
"""Batches that are timed, and batches before them."""

BATCH = 16
"""Images, or texts, that are handed over together."""

SENTENCE = "A woman is throwing a frisbee while a boy behind her is catching one."
"""The text that is measured, with a number behind it, so that nobody remembers it."""

PICTURE = (640, 480)
"""Width and height of the JPEG that is measured, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one side takes.

    Attributes:
        parameters: numbers in the weights that one item meets; None where they lie elsewhere (a
            server).
        flops: of one item; None where nothing was counted here.
        tokens: of the text that was measured; 0 for images, and where nobody can tell.
        per_second: items a second, the median over the batches.
        slowest, fastest: of the batches.
        batch, batches: items in one, and how many were timed.
        memory: bytes that the process (on a GPU: all of torch) took at most while they ran, beyond
            what it had; on a GPU weights are in it. None where the system does not tell.
    """

    parameters: int | None = None
    flops: int | None = None
    tokens: int = 0
    per_second: float
    slowest: float
    fastest: float
    batch: int
    batches: int
    memory: int | None = None


@dataclass(frozen=True, kw_only=True)
class Efficiency:
    """What a model costs, beside what it can.

    Attributes:
        images: from a JPEG of 640 x 480 pixels to its vector, decoding included.
        texts: from a sentence to its vector; None where texts are not computed here.
        dimensions: of a vector.
        stored: bytes of a vector, by the codec of a cache.
        device, threads, precision: where and in what it computed.
        versions: of the packages that a speed depends on.
        notes: sentences that belong beside the numbers.
    """

    images: Work | None
    texts: Work | None
    dimensions: int
    stored: Mapping[str, int]
    device: str
    threads: int
    precision: str
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Efficiency:
        """Return what `to_dict` gave. Raises ConfigError where the values are no such record."""
        return from_dict(cls, values, "efficiency")

    def rows(self) -> list[tuple[str, ...]]:
        """Return a table: a head, then a row for each side; every cell is text."""
        head = ("", "parameters", "FLOPs an item", "items a second", "batch", "peak memory")
        found: list[tuple[str, ...]] = [head]
        sides = {"images": self.images, "texts": self.texts}
        for name, work in ((name, work) for name, work in sides.items() if work is not None):
            span = f"{_short(work.per_second)} ({_short(work.slowest)}-{_short(work.fastest)})"
            found.append(
                (
                    f"{name} of {work.tokens} tokens" if work.tokens else name,
                    _short(work.parameters),
                    _short(work.flops),
                    span,
                    f"{work.batch}",
                    "-" if work.memory is None else f"{_short(work.memory)}B",
                )
            )
        return found

    def table(self) -> str:
        """Return the rows as lines, with what they were measured on and the bytes of a vector."""
        rows = self.rows()
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        lines = [
            "  ".join(c.ljust(w) if at == 0 else c.rjust(w) for at, (c, w) in enumerate(cells))
            for cells in ([*zip(row, widths, strict=True)] for row in rows)
        ]
        sizes = ", ".join(f"{size:,} as {name}" for name, size in self.stored.items())
        return "\n".join(
            [
                f"measured on this machine: {self.where()}",
                *(lines if len(rows) > 1 else ()),
                f"bytes of a vector of {self.dimensions} numbers: {sizes}",
                *self.notes,
            ]
        )

    def where(self) -> str:
        """Return what it was measured on, in a few words."""
        of = self.versions.get("cuda" if self.device.startswith("cuda") else "cpu", "")
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        torch_ = f"torch {self.versions['torch']}" if "torch" in self.versions else ""
        return ", ".join(x for x in (self.device, of, threads, self.precision, torch_) if x)


def measured(
    *,
    dimensions: int,
    device: torch.device,
    precision: Precision,
    encode_images: Callable[[Sequence[bytes]], Any] | None = None,
    image_weights: Sequence[nn.Module] | None = None,
    encode_texts: Callable[[Sequence[str]], Any] | None = None,
    text_weights: Callable[[], Sequence[nn.Module] | None] | None = None,
    count_tokens: Callable[[str], int] | None = None,
    batch: int = BATCH,
    batches: int = BATCHES,
    notes: Sequence[str] = (),
) -> Efficiency:
    """Measure a model that is in hand.

    Args:
        dimensions: of its vectors.
        device, precision: where and in what it computes.
        encode_images: from image files to vectors; None measures no images.
        image_weights: the networks that they go through; None where they are not here.
        encode_texts: from texts to vectors; None measures none. What it raises of lift's own errors
            (a text encoder that is not installed) becomes a note.
        text_weights: gives their networks, once the encoder is there; None where they are not here.
        count_tokens: of a text.
        batch, batches: items at a time, and how many times.
        notes: sentences that belong beside the numbers.
    """
    images = texts = None
    said = list(notes)
    if encode_images is not None:
        images = measured_work(
            encode_images, pictures(batch), device, weights=image_weights, batches=batches
        )
    if encode_texts is not None:
        sentences = [f"{SENTENCE} {number}" for number in range(batch)]
        try:
            encode_texts(sentences[:1])  # builds what is built on first use
            texts = measured_work(
                encode_texts,
                sentences,
                device,
                weights=None if text_weights is None else text_weights(),
                batches=batches,
                tokens=0 if count_tokens is None else count_tokens(sentences[0]),
            )
        except LiftError as error:
            said.append(f"Texts were not measured: {error}")
    return Efficiency(
        images=images,
        texts=texts,
        dimensions=dimensions,
        stored=stored_sizes(dimensions),
        device=str(device),
        threads=torch.get_num_threads(),
        precision=precision,
        versions=versions(),
        notes=tuple(said),
    )


def measured_work(
    encode: Callable[[Sequence[Any]], Any],
    items: Sequence[Any],
    device: torch.device,
    *,
    weights: Sequence[nn.Module] | None = None,
    batches: int = BATCHES,
    tokens: int = 0,
) -> Work:
    """Time an encoder on a batch, again and again, and count what it computes for one item."""
    for _ in range(WARM_UP):
        encode(items)
    counted = None if weights is None else count(lambda: encode(items[:1]), weights)
    speeds: list[float] = []

    def run() -> None:
        for _ in range(batches):
            start = time.perf_counter()
            encode(items)
            _wait(device)
            speeds.append(len(items) / (time.perf_counter() - start))

    memory = peak_memory(run, device)
    return Work(
        parameters=counted.parameters if counted else None,
        flops=(counted.flops or None) if counted else None,
        tokens=tokens,
        per_second=statistics.median(speeds),
        slowest=min(speeds),
        fastest=max(speeds),
        batch=len(items),
        batches=batches,
        memory=memory,
    )


def stored_sizes(dimensions: int) -> dict[str, int]:
    """Return the bytes of a vector, by codec; those that this width does not fit are left out."""
    sizes = {}
    for name in ("float32", "float16", "int8", "int4", "binary"):
        with contextlib.suppress(LiftError):
            sizes[name] = plugins.build(Part("cache/codecs", name), dimensions).bytes_per_row
    return sizes


@functools.cache
def pictures(count: int) -> tuple[bytes, ...]:
    """Return JPEGs of 640 x 480 pixels, made from whole numbers: equal anywhere, each another."""
    width, height = PICTURE
    y, x = np.mgrid[:height, :width]
    found = []
    for number in range(count):
        slants = (x * (number % 5 + 1) + y * 2, x + y * (number % 7 + 1), x * y // 64 + number * 31)
        waves = np.abs(np.stack(slants, axis=2) % 512 - 256).clip(max=255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(waves).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return tuple(found)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _short(value: float | None) -> str:
    """Return three digits and a letter (12.3 M); "-" for nothing."""
    if value is None:
        return "-"
    for unit, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g} {letter}"
    return f"{value:.3g}"
