"""A source of samples in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lift.terms import Caption, Sample


class Listed:
    """Samples in memory."""

    def __init__(self, samples: Sequence[Sample], name: str = "listed") -> None:
        self.name, self.groups, self.samples = name, (len(samples),), list(samples)

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int) -> Sample:
        return self.samples[index]

    def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        for sample in self.samples:
            yield sample.key, sample.captions
