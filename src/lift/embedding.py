"""From data to a cache: which texts, which encoder, which parts of the work are this process's."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from lift.cache import manifest as records
from lift.cache import writer
from lift.cache.place import place_of
from lift.cache.writer import EmbedReport
from lift.config import Part
from lift.data.source import left_out, open_source
from lift.errors import ConfigError, DataError
from lift.terms import Source
from lift.text.derive import derive
from lift.text.encoder import build_encoder
from lift.text.encoders.vectors import VectorsEncoder
from lift.text.roles import Linked
from lift.world import Precision, Worker, worker

SEED = 0
"""Of the negatives: the same captions have the same ones in every cache."""


class Texts:
    """Every text of some sources with its image and role, and what is derived from it.

    It can be read again and again, as the writer of a cache does.

    Attributes:
        counts: what the last complete reading derived, and passed over.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        roles: Sequence[str] = (),
        kinds: Sequence[str] = (),
        language: str = "",
    ) -> None:
        """Keep what to read; nothing is read yet.

        Args:
            sources: where the captions are.
            roles: keep captions of these roles only; () keeps all.
            kinds: what to derive from each caption; see `lift.text.derive`.
            language: of the captions (BCP 47), "" where nobody said.
        """
        self._sources, self._roles = sources, frozenset(roles)
        self._kinds, self._language = tuple(kinds), language
        self.counts: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Linked]:
        self.counts.clear()
        if not self._kinds:
            return self._captions()
        return derive(self._captions(), self._kinds, SEED, self.counts)

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield (key of the image, caption), as they came with the data."""
        return ((item.key, item.text) for item in self._captions())

    def total(self) -> int | None:
        """Return how many texts a reading gives, None where that is only known after it."""
        if self._kinds or self._roles or not self._sources:
            return None
        return sum(len(captions) for source in self._sources for _, captions in source.texts())

    def _captions(self) -> Iterator[Linked]:
        met: set[str] = set()
        found = False
        for source in self._sources:
            for key, captions in source.texts():
                for text, role, weight, language in captions:
                    met.add(role)
                    if not self._roles or role in self._roles:
                        found = True
                        language = language or self._language
                        yield Linked(text, key, role, source.name, weight, language)
        if self._roles and met and not found:
            raise DataError(
                f"No caption has a role of {', '.join(sorted(self._roles))}; the data has "
                f"{', '.join(sorted(met))}."
            )


def embed(
    data: Sequence[str],
    encoder: Part,
    out: str | Path,
    *,
    part: str = "",
    codec: Part | None = None,
    precision: Precision | Literal["auto"] = "float32",
    roles: Sequence[str] = (),
    derived: Sequence[str] = (),
    language: str = "",
    rows_per_shard: int | None = None,
    device: str = "auto",
    strict: bool = False,
    progress: bool = True,
) -> EmbedReport:
    """Embed the captions of some data; see `lift.commands.text.embed`.

    Raises:
        LiftError: bad input, another space or something else in the folder, a full disk.
    """
    process = worker()
    numbers, parts = assigned(part, process, out)
    built = build_encoder(encoder, device, trusted=True)
    sources = [open_source(spec, strict=strict) for spec in data]
    texts = Texts(sources, roles=roles, kinds=derived, language=language)
    stored = built if isinstance(built, VectorsEncoder) else None
    if stored is not None and stored.joins_keys:
        stored.join(texts.pairs())
    if stored is None and not sources:
        raise DataError("There are no captions: say with --data where they are.")
    # Counting reads all of the data, so once for all parts, and only where somebody looks.
    total = texts.total() if progress and sys.stderr.isatty() else None
    reports = [
        writer.embed(
            stored.texts() if stored is not None and not sources else texts,
            built,
            out,
            part=(number, parts) if parts > 1 else None,
            codec=codec,
            precision=precision,
            rows_per_shard=rows_per_shard,
            total=total,
            progress=progress and process.rank == 0,
        )
        for number in numbers
    ]
    counts = {f"{s.name}, {why}": n for s in sources for why, n in left_out(s).items()}
    if stored is not None:
        counts |= {f"stored vectors, {why}": n for why, n in stored.counters.items() if n}
    report = writer.together(reports)
    derived_counts = {what: n for what, n in texts.counts.items() if n}
    return dataclasses.replace(
        report, derived=derived_counts, left_out={**report.left_out, **counts}
    )


def assigned(part: str, process: Worker, out: str | Path) -> tuple[list[int], int]:
    """Return which parts this process works on, and of how many.

    Args:
        part: "2/3" in the user's words, counted from 1; "" takes all that a cache has.
        process: one of several that share each part, or the whole.
        out: the cache; its plan says how many parts it has.

    Raises:
        ConfigError: no such part.
    """
    if part:
        number, slash, count = part.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal()):
            raise ConfigError(f"{part!r} is no part; write 2/3 for the second of three.")
        if not 1 <= int(number) <= int(count):
            raise ConfigError(f"There is no part {part}: parts count from 1/{count}.")
        first, parts = (int(number) - 1) * process.size, int(count) * process.size
        return [first + process.rank], parts
    plan = records.read_plan(place_of(out))
    parts = plan.parts if plan else process.size
    if parts < process.size:
        raise ConfigError(
            f"{out} was created in {parts} part(s), and there are {process.size} processes; start "
            f"at most {parts}."
        )
    return list(range(process.rank, parts, process.size)), parts
