"""What a card holds for one text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lift.config import Part
from lift.text.edits import Sensitivity
from lift.text.geometry import Spread
from lift.text.space import TextSpace


@dataclass(frozen=True)
class Neighbours:
    """How near distinct captions lie to each other.

    Attributes:
        over_95, over_99: share of captions whose nearest other has a cosine above that.
        collisions: captions with the row of another one, but for rounding.
        median: of the cosine with the nearest other caption.
        curve: 101 quantiles of it.
        closest: the nearest pairs (cosine, caption, caption), long captions shortened.
    """

    over_95: float
    over_99: float
    collisions: int
    median: float
    curve: tuple[float, ...]
    closest: tuple[tuple[float, str, str], ...]


@dataclass(frozen=True)
class Tokens:
    """Lengths in tokens of whole texts, prompt and special tokens included.

    Attributes:
        known: whether the encoder tells; a server may not.
        mean, median, p99, longest: of the lengths.
        longest_text: the longest caption, shortened.
        truncated: captions that were cut.
        curve: 101 quantiles of the lengths.
    """

    known: bool
    mean: float
    median: float
    p99: float
    longest: int
    longest_text: str
    truncated: int
    curve: tuple[float, ...]


@dataclass(frozen=True)
class Prefix:
    """What is left of the neighbours when rows are cut to their first values.

    Attributes:
        width: values kept.
        agreement: share of the ten nearest captions that stay among the ten nearest.
    """

    width: int
    agreement: float


@dataclass(frozen=True)
class Speed:
    """One timed pass over the sample after a short warm-up; the one figure that varies by run.

    Attributes:
        seconds: wall time.
        captions_per_second, tokens_per_second: the latter after cutting; 0 where nobody tells.
        padding: share of computed tokens that were padding; None where nobody tells.
        device: where.
        threads: torch's threads, which count on the CPU.
    """

    seconds: float
    captions_per_second: float
    tokens_per_second: float
    padding: float | None
    device: str
    threads: int


@dataclass(frozen=True)
class Card:
    """Everything that text alone says about one encoder; every figure is described where it lies.

    Attributes:
        name: short, for headings.
        part: rebuilds the encoder.
        space: identity of its rows.
        saw: benchmarks whose captions its training is known to have seen.
        matryoshka: whether prefixes of rows are known to be trained for.
        licence: what the README beside the model names, "" where none is on this disk.
        read, empty, captions, whole: of the sample (see `Sample`); `captions` are in it.
        storage: bytes of one row's values by codec.
        sensitivity: None without pairs.
        pairs: where the edits come from, with what was left out of them.
        lacking: what this encoder, which only has stored rows, has no rows of: captions of the
            pairs, edits, paraphrases; the figures are without them.
    """

    name: str
    part: Part
    space: TextSpace
    saw: tuple[str, ...]
    matryoshka: bool
    licence: str
    read: int
    empty: int
    captions: int
    whole: bool
    spread: Spread
    neighbours: Neighbours
    tokens: Tokens
    prefixes: tuple[Prefix, ...]
    storage: Mapping[str, int]
    speed: Speed
    sensitivity: Sensitivity | None
    pairs: str
    pairs_left_out: Mapping[str, int]
    pairs_made_of: tuple[str, ...]
    lacking: Mapping[str, int] = field(default_factory=dict)

    def table(self) -> str:
        """Return the figures as aligned text."""
        from lift.text.lines import as_table

        return as_table([self])
