"""One pass over a source: what its columns need, taken from each sample and kept on disk."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from lift.curation.column_list import COLUMNS, resolve, schema_of
from lift.curation.copies import Copies
from lift.curation.image_files import header_of
from lift.curation.means import Alignment, Languages, Means, Texts
from lift.curation.syntax import FIELD
from lift.curation.visual import visualness
from lift.data.formats.selected import Digest, writable
from lift.data.spilled import Spilled, SpilledTable
from lift.data.tally import Tally
from lift.errors import BrokenSample, DataError, unknown
from lift.terms import Caption, Sample, Source
from lift.text.encoder import KEY_BYTES, clean
from lift.text.keys import KEY, keys_of

_IMAGE = {"bytes", "width", "height", "aspect", "image_copy", "alignment"}
_ROWS = {"cluster", "visualness", "similarity"}
_AFTERWARDS = {"caption_copy", "image_copy", "cluster"}
"""Columns that are known once all samples were seen."""

_TOLD, _READ = 2048, 64
"""Samples in memory at a time: texts alone, and with their images."""

_SPILLED = 4096
_FIRST = 1024
"""Samples among which a plain NAME has to be a field of one."""

_MOST_FIELDS = 1000
"""Names of fields that are remembered, for the message."""


class _Told(NamedTuple):
    """A usable sample of a chunk, with its bytes where a column needs them."""

    number: int
    key: str
    captions: tuple[Caption, ...]
    caption: str | None
    sample: Sample | None


class Reading:
    """One pass over a source.

    Attributes:
        table: what is known of a sample at once.
        captions, images: their copies.
        rows: of the captions in the cache, -1 without a caption.
        digest, left_out, samples: see `Computed`.
    """

    def __init__(self, source: Source, names: Sequence[str], means: Means) -> None:
        self._source, self._means = source, means
        self.names = tuple(dict.fromkeys(("number", "key", *resolve(names))))
        for name in self.names:
            means.require(name)
        wanted = self._wanted = frozenset(self.names)
        self._fields = tuple(n for n in self.names if n.startswith(FIELD))
        self._plain = tuple(f"{FIELD}{n}" for n in names if f"{FIELD}{n}" in wanted)
        self._reads = bool(self._fields or wanted & _IMAGE) or (
            "language" in wanted and means.cache is None
        )
        self.table = SpilledTable(schema_of([n for n in self.names if n not in _AFTERWARDS]))
        self.captions, self.images, self.rows = Copies(), Copies(), Spilled(np.int64)
        self.digest, self.left_out, self.samples = Digest(), Tally(), 0
        self._met: dict[str, None] = {}
        self._texts, self._prototypes, self._task = None, None, None
        if means.cache is not None and wanted & _ROWS:
            self._texts = Texts(means.cache, means.encoder)
            if "visualness" in wanted:
                self._prototypes = self._texts.prototypes()
            if "similarity" in wanted:
                self._task = self._texts.any(means.task)
        self._alignment, self._languages = None, None
        if means.judge is not None and "alignment" in wanted:
            self._alignment = Alignment(means.judge, means.cache)
        if means.cache is not None and "language" in wanted:
            self._languages = Languages(means.cache)

    def run(self, progress: bool) -> None:
        """Read all samples; the attributes are complete afterwards."""
        size = _READ if self._reads else _TOLD
        pending: list[pa.Table] = []
        total, name = len(self._source), self._source.name
        with tqdm(total=total, desc=name, unit="sample", disable=not progress) as bar:
            stream = self._samples()
            while chunk := list(itertools.islice(stream, size)):
                pending.append(self._table(chunk))
                bar.update(len(chunk))
                if sum(map(len, pending)) >= _SPILLED:
                    self.table.append(pa.concat_tables(pending))
                    pending = []
        self.table.append(pa.concat_tables([self.table.schema.empty_table(), *pending]))
        self._require(self._fields)

    def _samples(self) -> Iterator[_Told]:
        for number, (key, captions) in enumerate(self._source.texts()):
            self.digest.add(key, captions)
            self.samples += 1
            if number == _FIRST:
                self._require(self._plain)
            if not captions:
                self.left_out.add("without a usable caption", key)
                continue
            sample = None
            if self._reads:
                try:
                    sample = self._source.read(number)
                except DataError as error:
                    kind = error.kind if isinstance(error, BrokenSample) else "that can't be read"
                    self.left_out.add(kind, str(error))
                    continue
                self._compare(number, key, sample)
            role = self._means.role
            caption = next((c.text for c in captions if not role or c.role == role), None)
            yield _Told(number, key, captions, caption, sample)

    def _compare(self, number: int, key: str, sample: Sample) -> None:
        """Hold a sample to what `texts` told of it, and note its fields."""
        if sample.key != key:
            raise DataError(
                f"{self._source.name} changed while it was read: sample {number} was {key!r} and "
                f"is {sample.key!r}; start again."
            )
        if len(self._met) < _MOST_FIELDS:
            self._met.update(dict.fromkeys(sample.fields))
        for name in self._fields:
            if name.removeprefix(FIELD) in sample.fields:
                self._met[name.removeprefix(FIELD)] = None

    def _require(self, fields: Sequence[str]) -> None:
        """Raise ConfigError for a field that no sample had so far."""
        for name in fields:
            bare = name.removeprefix(FIELD)
            if bare not in self._met:
                hint = f"column ({FIELD}{bare} waits for a field that comes late)"
                raise unknown(hint, bare, [*COLUMNS, *self._met])

    def _table(self, chunk: list[_Told]) -> pa.Table:
        values: dict[str, Any] = {
            name: [of(told) for told in chunk] for name, of in _TOLD_OF.items() if self._has(name)
        }
        values["source"] = [writable(self._source.name)] * len(chunk)
        for name in self._fields:
            bare = name.removeprefix(FIELD)
            found = [told.sample.fields.get(bare) for told in chunk if told.sample]
            values[name] = [None if value is None else writable(value) for value in found]
        captions = [told.caption for told in chunk]
        cleaned = [None if caption is None else clean(caption) for caption in captions]
        if self._has("caption_copy"):
            self.captions.append(_keys(cleaned))
        if self._has("language"):
            values["language"] = self._language(chunk, cleaned)
        values |= self._of_images([told.sample.image for told in chunk if told.sample])
        if self._alignment is not None:
            images = [told.sample.image for told in chunk if told.sample]
            values["alignment"] = self._alignment.of(images, captions)
        values |= self._of_rows(captions)
        return pa.table({n: values[n] for n in self.table.schema.names}, self.table.schema)

    def _has(self, *names: str) -> bool:
        return bool(self._wanted.intersection(names))

    def _language(self, chunk: list[_Told], cleaned: list[str | None]) -> list[str | None]:
        found = [_language_field(told.sample) for told in chunk]
        if self._languages is not None:
            linked = self._languages.of([text or "" for text in cleaned])
            found = [own or link for own, link in zip(found, linked, strict=True)]
        return found

    def _of_images(self, images: list[bytes]) -> dict[str, Any]:
        if self._has("image_copy"):
            digests = [hashlib.blake2b(i, digest_size=KEY_BYTES).digest() for i in images]
            self.images.append(np.array(digests, KEY))
        values: dict[str, Any] = {"bytes": [len(image) for image in images]}
        if self._has("width", "height", "aspect"):
            sizes = [_size(image) for image in images]
            values["width"] = [width for width, _ in sizes]
            values["height"] = [height for _, height in sizes]
            values["aspect"] = [w / h if w and h else None for w, h in sizes]
        return values

    def _of_rows(self, captions: list[str | None]) -> dict[str, Any]:
        """Return what the stored rows of captions say; None where there is no caption."""
        if self._texts is None or self._means.cache is None:
            return {}
        has = np.array([caption is not None for caption in captions], bool)
        rows = np.full(len(captions), -1, np.int64)
        rows[has] = self._means.cache.require([c for c in captions if c is not None])
        values: dict[str, Any] = {}
        if self._has("cluster"):
            self.rows.append(rows)
        if self._prototypes is None and self._task is None:
            return values
        z = self._texts.of_rows(rows[has])
        figures = {}
        if self._prototypes is not None:
            figures["visualness"] = visualness(z, *self._prototypes)
        if self._task is not None:
            figures["similarity"] = (z @ self._task.T).max(axis=1)
        for name, figure in figures.items():
            full = np.zeros(len(captions), np.float32)
            full[has] = figure
            values[name] = pa.array(full, mask=~has)
        return values


_TOLD_OF: Mapping[str, Callable[[_Told], Any]] = {
    "number": lambda told: told.number,
    "key": lambda told: writable(told.key),
    "captions": lambda told: len(told.captions),
    "roles": lambda told: writable(" ".join(sorted({c.role for c in told.captions}))),
    "caption": lambda told: told.caption,
    "chars": lambda told: None if told.caption is None else len(told.caption),
    "words": lambda told: None if told.caption is None else len(told.caption.split()),
}


def _language_field(sample: Sample | None) -> str | None:
    fields = sample.fields if sample else {}
    return fields.get("language") or fields.get("lang") or None


def _size(image: bytes) -> tuple[int | None, int | None]:
    try:
        return header_of(image).upright_size
    except BrokenSample:
        return None, None


def _keys(cleaned: list[str | None]) -> np.ndarray:
    """Return the keys of texts, zeros where there is none."""
    keys = np.zeros(len(cleaned), KEY)
    has = np.array([text is not None for text in cleaned], bool)
    keys[has] = keys_of([text for text in cleaned if text is not None])
    return keys
