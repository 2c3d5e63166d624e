"""Items of an index from what people have: pairs of images and captions, tables of texts."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lift.data.formats._images import IMAGES
from lift.data.source import open_source
from lift.data.tally import Tally
from lift.errors import BrokenSample, ConfigError, DataError, Unreachable
from lift.search.filters import NAME, value_of
from lift.search.prepared import LONGEST_FACT, MOST_FACTS
from lift.search.terms import IMAGE_FIELD, Fact, Item
from lift.terms import Sample, Source
from lift.text.columns import matching, natural
from lift.text.reading import texts_of

FIELDS = {"raw": "caption"}
"""What a role of captions is called as a field, where not the same."""


@dataclass
class Pairs:
    """The items of pairs: a sample each, or neighbouring samples of one item.

    Fields are the roles of captions; facts are what else a source knows of a sample.

    Attributes:
        source: of the pairs.
        group: a fact by which neighbouring samples are one item (a product with several photos);
            "" takes each sample for itself.
        left_out: samples that can't be read.
    """

    source: Source
    group: str = ""
    left_out: Tally = field(default_factory=Tally)

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items. Raises Unreachable where a file is gone."""
        parts: list[Sample] = []
        for number in range(len(self.source)):
            try:
                sample = self.source.read(number)
            except Unreachable:
                raise
            except DataError as error:
                kind = error.kind if isinstance(error, BrokenSample) else "unreadable sample"
                self.left_out.add(kind, str(error))
                continue
            if parts and not (self.group and self._name(sample) == self._name(parts[0])):
                yield self._item(parts)
                parts = []
            parts.append(sample)
        if parts:
            yield self._item(parts)

    def _name(self, sample: Sample) -> str:
        if self.group not in sample.fields:
            known = ", ".join(sample.fields) or "none"
            raise ConfigError(
                f"{self.source.name}: sample {sample.key!r} has no {self.group!r} to tell items "
                f"by (it has {known})."
            )
        return sample.fields[self.group]

    def _item(self, parts: Sequence[Sample]) -> Item:
        texts: dict[str, list[str]] = {}
        for sample in parts:
            for caption in sample.captions:
                role = FIELDS.get(caption.role, caption.role)
                name = role if NAME.fullmatch(role) and role != IMAGE_FIELD else "caption"
                own = texts.setdefault(name, [])
                if caption.text not in own:
                    own.append(caption.text)
        first = parts[0]
        return Item(
            key=self._name(first) if self.group else first.key,
            texts={name: tuple(own) for name, own in texts.items()},
            images=tuple(sample.image for sample in parts if sample.image),
            facts=_facts(first, {t for own in texts.values() for t in own}),
        )


def _facts(sample: Sample, said: set[str]) -> dict[str, Fact]:
    """Return what a source knows of a sample, but for what its captions and its key say anyway."""
    told = {*said, sample.key, sample.key.rpartition("/")[2]}
    found = {
        name: value_of(value)
        for name, value in sample.fields.items()
        if NAME.fullmatch(name) and value and len(value) <= LONGEST_FACT
    }
    kept = {
        name: value
        for name, value in found.items()
        if not (
            isinstance(value, str) and ({value, value.rpartition(".")[0]} & told or _is_json(value))
        )
    }
    return dict(itertools.islice(kept.items(), MOST_FACTS))


def _is_json(value: str) -> bool:
    """Return whether a value is an object or a list, which nobody filters by."""
    return (value[0], value[-1]) in (("{", "}"), ("[", "]"))


@dataclass
class Documents:
    """The items of tables of texts, without images: a row each.

    Attributes:
        path: of csv, tsv, jsonl or parquet files, or text files with a text a line.
        texts: columns that are embedded, each a field.
        key: the column of keys; "" numbers the rows.
        facts: columns that filters can ask for.
    """

    path: str
    texts: tuple[str, ...] = ()
    key: str = ""
    facts: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Item]:
        """Yield the items.

        Raises:
            ConfigError: a column that there is not.
            DataError: a file can't be read.
        """
        paths = matching(self.path)
        names = Counter(path.name for path in paths)
        for path in paths:
            own = path.name if names[path.name] == 1 else str(path)
            columns = [texts_of(path, name, False) for name in self.texts or (None,)]
            others = [texts_of(path, name, True) for name in (self.key, *self.facts) if name]
            number = 0
            for chunks in zip(*columns, *others, strict=True):
                for row in zip(*chunks, strict=True):
                    yield self._item(f"{own}:{number}", row)
                    number += 1

    def _item(self, name: str, row: Sequence[str | None]) -> Item:
        texts, others = row[: len(self.texts) or 1], list(row[len(self.texts) or 1 :])
        key = others.pop(0) if self.key else name
        if not key:
            raise DataError(f"{self.path}: row {name} has no {self.key!r} to be known by.")
        return Item(
            key=key,
            texts={
                field: (text,)
                for field, text in zip(self.texts or ("text",), texts, strict=True)
                if text
            },
            facts={
                fact: value_of(value)
                for fact, value in zip(self.facts, others, strict=True)
                if value
            },
        )


@dataclass
class Pictures:
    """The items of pictures without captions, below a folder: a file each, known by its path.

    Attributes:
        folder: of JPEGs, PNGs and the like, with folders in it; links to folders are not followed.
    """

    folder: str

    def __iter__(self) -> Iterator[Item]:
        """Yield the items. Raises DataError where the folder can't be read, or has no pictures."""
        root, count = Path(self.folder), 0

        def told(error: OSError) -> None:
            raise DataError(f"{error.filename} can't be read ({error.strerror}).") from error

        for place, folders, names in os.walk(root, onerror=told):
            folders.sort(key=natural)
            for name in sorted(names, key=natural):
                path = Path(place, name)
                if path.suffix[1:].lower() in IMAGES and not name.startswith("."):
                    count += 1
                    yield Item(key=path.relative_to(root).as_posix(), images=(path,))
        if not count:
            raise DataError(f"There are no pictures in {root}; give a folder of JPEGs or PNGs.")


def pairs(words: Sequence[str], group: str = "") -> Pairs:
    """Return the items of pairs in words (`lift.data.source`).

    Raises:
        ConfigError, DataError: what the words name can't be read.
    """
    return Pairs(open_source("::".join(words)), group)
