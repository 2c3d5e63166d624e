"""Look at images one by one: sizes, formats, doubles, what is broken, what decoding costs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from lift.curation.findings import Costs, Images, Shown
from lift.curation.image_files import Header, header_of, jpeg, kind_of, smaller
from lift.curation.spread import Counting
from lift.data.dice import generator
from lift.data.tally import Tally
from lift.data.transform import Transform
from lift.errors import BrokenSample, DataError
from lift.terms import Sample, Source
from lift.text.keys import KEY, KeySet

PACKED_SIDE, PACKED_QUALITY = 256, 90
"""What `lift data pack` makes, unless told otherwise."""

_CHUNK = 1024
_PACKED = 24
"""Images that are packed for the estimate: a second of photographs."""

_VIEW = 12
"""Purpose of a random draw; see `lift.data.dice`."""

_SIDE = 208
"""Longest side of a picture on the page: twice what it is shown at."""

_QUALITY = 80
_MOST_SHOWN = 8
_MOST_KINDS = 64


class Look:
    """Sees images one after the other; memory does not grow with their number."""

    def __init__(
        self,
        source: Source,
        transform: Transform,
        numbers: Sequence[int],
        samples: int,
        seed: int,
        strict: bool,
    ) -> None:
        self._source, self._transform = source, transform
        self._numbers, self._samples, self._seed, self._strict = numbers, samples, seed, strict
        self.shown: list[Shown] = []
        self._looked_at = self._sound = self._turned = self._animated = self._doubles = 0
        self._double = ""
        self._bytes, self._width, self._height = Counting(), Counting(), Counting()
        self._shorter = Counting()
        self._kinds: dict[str, int] = {}
        self._broken = Tally()
        self._files = KeySet()
        self._held: list[tuple[str, bytes, int, tuple[int, int]]] = []
        self._seconds = 0.0
        self._packed = _Packed()

    def at(self, number: int) -> None:
        """Look at a sample.

        Raises:
            DataError: it is broken, and the first broken one should stop.
        """
        place, self._looked_at = self._looked_at, self._looked_at + 1
        key = ""
        try:
            sample = self._source.read(number)
            key = sample.key
            header = header_of(sample.image)
            canvas, seconds = self._decoded(sample.image)
            if self._is_due(len(self.shown), self._samples, place):
                self.shown.append(self._show(sample, canvas, number))
            if self._is_due(self._packed.count, _PACKED, place):
                self._packed.add(sample.image, seconds, self._decoded)
        except DataError as error:
            if self._strict:
                raise
            named = f"{key}: {error}" if key else str(error)
            self._broken.add(kind_of(error), named)
            return
        self._sound += 1
        if place:  # the first one also pays for loading the decoders
            self._seconds += seconds
        self._note(sample, header)

    def _note(self, sample: Sample, header: Header) -> None:
        kind = header.kind
        if kind not in self._kinds and len(self._kinds) >= _MOST_KINDS:
            kind = "others"
        self._kinds[kind] = self._kinds.get(kind, 0) + 1
        self._turned += header.orientation > 1
        self._animated += header.frames > 1
        digest = hashlib.blake2b(sample.image, digest_size=KEY.itemsize).digest()
        self._held.append((sample.key, digest, len(sample.image), header.upright_size))
        if len(self._held) == _CHUNK:
            self._flush()

    def _flush(self) -> None:
        """Count what is held, in bulk."""
        held, self._held = self._held, []
        self._bytes.add(size for _, _, size, _ in held)
        self._width.add(width for *_, (width, _) in held)
        self._height.add(height for *_, (_, height) in held)
        self._shorter.add(min(size) for *_, size in held)
        new = self._files.add(np.frombuffer(b"".join(digest for _, digest, _, _ in held), KEY))
        self._doubles += int((~new).sum())
        if not self._double and not new.all():
            self._double = held[int(np.argmin(new))][0]

    def _is_due(self, done: int, wanted: int, place: int) -> bool:
        """Return whether, of `wanted` spread over all, another one should come at this place."""
        return done < wanted and place * wanted >= done * len(self._numbers)

    def _decoded(self, image: bytes) -> tuple[UInt8[Tensor, "3 h w"], float]:
        """Return the canvas, and the seconds of one core that it took."""
        started = time.thread_time()
        canvas = self._transform.canvas_of(image)
        return canvas, time.thread_time() - started

    def _show(self, sample: Sample, canvas: UInt8[Tensor, "3 h w"], number: int) -> Shown:
        views = [
            self._transform.train(canvas, generator(self._seed, _VIEW, epoch, number))
            for epoch in range(2)
        ]
        return Shown(
            key=sample.key,
            captions=sample.captions[:_MOST_SHOWN],
            more=max(0, len(sample.captions) - _MOST_SHOWN),
            picture=_picture(canvas),
            trained=tuple(map(_picture, views)),
            judged=_picture(self._transform.evaluate(sample.image)),
        )

    def images(self) -> Images:
        """Return what was seen."""
        self._flush()
        return Images(
            looked_at=self._looked_at,
            all=len(self._numbers) == len(self._source),
            sound=self._sound,
            file_bytes=self._bytes.spread(),
            width=self._width.spread(),
            height=self._height.spread(),
            shorter=self._shorter.spread(),
            kinds=dict(sorted(self._kinds.items(), key=lambda item: (-item[1], item[0]))),
            turned=self._turned,
            animated=self._animated,
            duplicates=self._doubles,
            duplicate=self._double,
            broken=self._broken.counts,
            examples=self._broken.first,
        )

    def costs(self) -> Costs:
        """Return estimates for the whole source."""
        self._flush()
        if not self._sound:
            return Costs()
        samples = len(self._source)
        timed = max(1, self._sound - 1)
        rate = timed / self._seconds if self._seconds else 0.0
        return Costs(
            total_bytes=round(self._bytes.spread().mean * samples),
            images_per_second=rate,
            epoch_minutes=samples / rate / 60 if rate else 0.0,
            packed_bytes=round(self._packed.mean_bytes * samples),
            packed_faster=self._packed.faster,
        )


class _Packed:
    """What packing would change, measured on a few images."""

    def __init__(self) -> None:
        self.count = 0
        self._bytes = 0
        self._before: list[float] = []
        self._after: list[float] = []

    def add(self, image: bytes, seconds: float, decoded) -> None:
        self.count += 1
        try:
            content, kept = smaller(image, PACKED_SIDE, PACKED_QUALITY)
        except BrokenSample:  # too long for a JPEG
            self._bytes += len(image)
            return
        self._bytes += len(content)
        # The first decoding of each is the slower one: of the same file it would look like a gain.
        self._before.append(seconds if kept else decoded(image)[1])
        self._after.append(seconds if kept else decoded(content)[1])

    @property
    def mean_bytes(self) -> float:
        return self._bytes / self.count if self.count else 0.0

    @property
    def faster(self) -> float:
        before, after = sum(self._before), sum(self._after)
        return before / after if before and after else 0.0


def _picture(pixels: UInt8[Tensor, "3 h w"]) -> bytes:
    """Return a small JPEG of some pixels."""
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return jpeg(image, _QUALITY)
