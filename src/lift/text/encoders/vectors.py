"""Rows that somebody computed elsewhere: vectors on disk, and the user's word for their space.

Four layouts are read. `npy`: files [n d] and, beside each, its texts (`rows.npy`, `rows.txt`).
`parquet`: a column of texts (or keys) and one of lists. `clip_retrieval`: `text_emb/text_emb_0.npy`
with `metadata/metadata_0.parquet`. `reference`, of the paper's own code: one folder a shard with
`0.parquet`, `1.parquet`, ... whose columns are `key` (an image file's name) and `embedding`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64

from lift.config import Part, part_field, to_dict
from lift.errors import ConfigError, DataError, MissingRows
from lift.text.encoder import ROOM, EncodedTexts, TextEncoder, build_encoder, clean, space_of
from lift.text.encoders._vector_checks import lengths_of, require_same_rows
from lift.text.encoders._vector_index import KeyJoin, TextIndex
from lift.text.encoders._vector_layouts import Found, find, find_rows
from lift.text.encoders._vector_rows import Rows, first_width, open_rows
from lift.text.keys import keys_of
from lift.text.space import TextSpace
from lift.world import Precision

_PLACES = ("path", "layout", "texts", "text_column", "vector_column", "id_column", "join")
SAME_VECTORS = frozenset(
    {*_PLACES, "folders", "of", "normalise", "saw", "matryoshka", "trust_remote_code", "scratch"}
)
"""Options that say where rows lie, not what they mean: what `of` and the files decide of the
space (its fields, the width) is in the fingerprint by itself."""

_NAME = "text/encoders/vectors"
_DECLARED = ("model", "revision", "prompt", "pooling", "max_tokens", "normalised")
_LABELS = ("saw", "matryoshka")

_STRETCHES = 8
_LOOKED_AT = 256


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        path: a file, a glob or a folder of a layout.
        layout: auto tells it from the files.
        texts: a file, glob or folder with the texts (or keys) of `.npy` rows, in their order.
        text_column: of parquet, csv and jsonl; None takes `caption`, `text`, ...
        vector_column: of parquet; None takes `embedding`, ... or the only column of lists.
        id_column: the column with keys of images; with it, join is by key.
        join: whether rows are found by their text, or by the key of the image that the data
            pairs with a text; auto is by text where there are texts.
        folders: whether the folder in front of a key belongs to it (a/1.jpg is not b/1.jpg).
        of: the text encoder that made the rows, if it can run here: a few texts are embedded
            with it and compared, and the cache says that it is of that encoder.
        model, revision, prompt, pooling, max_tokens, normalised: without `of`, what made the
            rows (see `TextSpace`); only `model` has to be given, and 0 tokens are "not known".
        normalise: scale rows to unit length, where the space says they have it.
        saw: benchmarks whose captions the model was trained on.
        matryoshka: whether it was trained so that the first values of a row are a usable row.
        trust_remote_code: whether code that comes with the model of `of` may run.
        scratch: folder for temporary indexes, 50 bytes a row; None takes the system's own.
    """

    path: str
    layout: Literal["auto", "npy", "parquet", "clip_retrieval", "reference"] = "auto"
    texts: str | None = None
    text_column: str | None = None
    vector_column: str | None = None
    id_column: str | None = None
    join: Literal["auto", "text", "key"] = "auto"
    folders: bool = True
    of: Part | None = part_field(ROOM, None)
    model: str | None = None
    revision: str = "unknown"
    prompt: str = ""
    pooling: str = "unknown"
    max_tokens: int = 0
    normalised: bool = True
    normalise: bool = False
    saw: tuple[str, ...] = ()
    matryoshka: bool = False
    trust_remote_code: bool = False
    scratch: str | None = None

    def __post_init__(self) -> None:
        known = {f.name: f.default for f in dataclasses.fields(self)}
        given = [n for n in (*_DECLARED, *_LABELS) if getattr(self, n) != known[n]]
        if self.of is None and not self.model:
            raise ConfigError(
                f"{_NAME} has to know what made the rows: give of=ENCODER if that encoder runs "
                "here, else model=NAME (and revision, prompt, pooling, max_tokens as you know it)."
            )
        if self.of is not None and given:
            raise ConfigError(
                f"{_NAME}: of={self.of.name} says all about the rows; leave out {', '.join(given)}."
            )
        if self.of is not None and (self.of.room != ROOM or self.of.name == "vectors"):
            raise ConfigError(f"{_NAME}: of={self.of.name} is not a live text encoder.")
        if self.max_tokens < 0:
            raise ConfigError(f"{_NAME}: max_tokens can't be negative, not {self.max_tokens}.")
        if self.normalise and not self.normalised:
            raise ConfigError(
                f"{_NAME}: normalise=true makes rows of unit length; leave out normalised=false."
            )


def space(config: Config, *, trusted: bool = False) -> TextSpace:
    """Return the space of `of`, or the declared one with the width of the first row on disk.

    Args:
        config: the options.
        trusted: whether they are the user's own words, those of `of` included.

    Raises:
        ConfigError, DataError: see `build`.
    """
    if config.of is not None:
        return space_of(config.of, trusted=trusted)
    layout, files = find_rows(config.path, config.layout)
    return _declared(config, first_width(layout, files, config.vector_column))


def _declared(config: Config, dimensions: int) -> TextSpace:
    fields = {name: getattr(config, name) for name in _DECLARED}
    return TextSpace(encoder="vectors", dimensions=dimensions, **fields)


def _find(config: Config) -> Found:
    return find(
        config.path,
        config.layout,
        config.texts,
        config.text_column,
        config.id_column,
        config.join,
    )


def build(config: Config, device: str = "auto", *, trusted: bool = False) -> VectorsEncoder:
    """Open the files, index their texts on disk and compare a few with the encoder of `of`.

    Args:
        config: where the rows are and what made them.
        device: of the encoder of `of`; rows are looked up on the CPU.
        trusted: whether the options are the user's own words, those of `of` included.

    Raises:
        ConfigError: files that fit no layout, no such column, rows of another width than the
            space, or not of unit length as declared.
        DataError: a file that can't be read, or not as many texts as rows.
        SpaceMismatch: the rows are not those that the encoder of `of` makes.
        StorageError: no room for the index.
    """
    live = None if config.of is None else _live(config, config.of, device, trusted)
    found = _find(config)
    rows = open_rows(found.layout, found.rows, config.vector_column)
    if live is not None and live.space.dimensions != rows.dimensions:
        raise ConfigError(
            f"{config.path} has rows of {rows.dimensions} values, but {live.part.name} makes rows "
            f"of {live.space.dimensions}; of= has to be the encoder that made them."
        )
    return VectorsEncoder(config, found, rows, live)


def _live(config: Config, of: Part, device: str, trusted: bool) -> TextEncoder:
    if of.options.get("trust_remote_code") and not config.trust_remote_code:
        raise ConfigError(
            f"{_NAME}: to let the code of the model of={of.name} run, give trust_remote_code=true "
            "as an option of vectors itself, not inside of=."
        )
    if config.trust_remote_code:
        of = Part(of.room, of.name, {**of.options, "trust_remote_code": True})
    live = build_encoder(of, device, trusted=trusted)
    if config.normalise and not live.space.normalised:
        raise ConfigError(
            f"{_NAME}: the rows of {of.name} have no unit length; leave out normalise=true."
        )
    return live


class VectorsEncoder:
    """A `TextEncoder` that knows stored texts only; see the attributes there.

    Attributes:
        part: with `of`, the part of that encoder, so that other texts can be embedded later.
        probes: 32 of its own texts, those with the smallest keys; none before `join`.
        joins_keys: whether `join` has to be called with the data before anything is encoded.
        counters: rows without a text, texts given again, captions without a vector, ...
    """

    def __init__(self, config: Config, found: Found, rows: Rows, live: TextEncoder | None) -> None:
        self.device = "cpu"
        self._config, self._found, self._rows, self._live = config, found, rows, live
        if live is not None:
            self.space, self.part = live.space, live.part
            self.saw, self.matryoshka = live.saw, live.matryoshka
        else:
            self.space, self.part = _declared(config, rows.dimensions), _stored(config)
            self.saw, self.matryoshka = config.saw, config.matryoshka
        self._tolerance = 2e-3 if rows.dtype.itemsize == 2 else 1e-5
        self._scratch = Path(config.scratch).expanduser() if config.scratch else None
        self.probes: tuple[str, ...] = ()
        self.counters: dict[str, int] = {}
        self.joins_keys = found.by_key
        self._index: TextIndex | KeyJoin | None = None
        self._look_at_lengths()
        if not self.joins_keys:
            self._use(TextIndex(self._chunks(), rows, self._scratch))

    @property
    def files(self) -> list[Path]:
        """The files that rows and texts are read from, each once, in order."""
        return list(dict.fromkeys([*self._found.rows, *self._found.texts]))

    def texts(self) -> Iterator[str]:
        """Yield the texts of the rows, in the order of the files; keys of images are no texts."""
        if not self.joins_keys:
            for chunk in self._chunks():
                yield from (text for text in chunk if text)

    def join(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Learn which caption each row stands for, through the keys of images.

        Keys are compared without the ending of an image file, and with the folder in front
        where both sides have one and `folders` is true.

        Args:
            pairs: (key of the sample, caption), all that will be encoded; read once.

        Raises:
            DataError: no key in common, a row that would stand for two captions, or names that
                need their folder where the data has none.
            SpaceMismatch: the rows are not those that the encoder of `of` makes.
            StorageError: no room for the index.
        """
        if not self.joins_keys:
            raise ConfigError(f"{self._config.path} has texts of its own; nothing is to be joined.")
        folders = self._config.folders
        self._use(KeyJoin(pairs, self._chunks(), self._rows, folders, self._scratch))

    def encode(
        self,
        texts: Sequence[str],
        *,
        precision: Precision = "float32",
        token_budget: int | None = None,
    ) -> EncodedTexts:
        """Return the stored rows of `clean(text)`; precision and budget change nothing.

        Nobody knows how many tokens stored texts had: `tokens` are 0, `truncated` false.

        Raises:
            MissingRows: texts without a stored vector: how many, and the first.
            ConfigError: rows not of unit length in a space that says so, or nothing joined yet.
            DataError: a file that changed or is damaged, or a row of zeros to be normalised.
        """
        if self._index is None:
            raise ConfigError(
                f"The vectors in {self._config.path} are known by keys of images: call join with "
                "the data's pairs of key and caption first."
            )
        cleaned = [clean(text) for text in texts]
        numbers = self._index.find(keys_of(cleaned))
        if (numbers < 0).any():
            lacking = np.flatnonzero(numbers < 0)
            raise MissingRows(
                f"{len(lacking):,} of {len(texts):,} texts have no vector in {self._config.path}, "
                f"first {cleaned[lacking[0]]!r}: leave them out of the data, or embed the data "
                "with a live encoder of the same space."
            )
        rows = self._rows.read(numbers)
        if self.space.normalised:
            rows = self._unit(rows, cleaned)
        return EncodedTexts(rows, np.zeros(len(rows), np.int32), np.zeros(len(rows), bool))

    def knows(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Return which texts have a stored vector, after `join` where that is needed."""
        if self._index is None:
            return np.zeros(len(texts), bool)
        return self._index.find(keys_of([clean(text) for text in texts])) >= 0

    def _chunks(self):
        return self._found.chunks(self._rows.file_rows())

    def _use(self, index: TextIndex | KeyJoin) -> None:
        self._index, self.probes, self.counters = index, index.probes, index.counters
        if self._live is not None:
            require_same_rows(self, self._live)
            self._live = None  # its weights are not needed any more

    def _unit(self, rows: Float32[np.ndarray, "n d"], texts: list[str]) -> np.ndarray:
        """Return rows as they are if all have unit length, else scaled where that is asked for."""
        length = lengths_of(rows)
        if self._config.normalise:
            if (length == 0).any():
                zero = texts[int(np.argmin(length))]
                raise DataError(f"The stored vector of {zero!r} is all zeros: it has no direction.")
            with np.errstate(invalid="ignore"):  # infinite rows are the caller's to refuse
                return (rows / length[:, None]).astype(np.float32)
        self._require_unit(length)
        return rows

    def _look_at_lengths(self) -> None:
        """Refuse rows of other lengths before hours of work; every row is looked at later."""
        if self.space.normalised and not self._config.normalise:
            starts = np.linspace(0, max(0, len(self._rows) - _LOOKED_AT), _STRETCHES).astype(int)
            some = np.unique(starts[:, None] + np.arange(_LOOKED_AT))
            some = some[some < len(self._rows)]
            self._require_unit(lengths_of(self._rows.read(some)))

    def _require_unit(self, length: Float64[np.ndarray, " n"]) -> None:
        length = length[np.isfinite(length)]
        off = np.abs(length - 1) > self._tolerance
        if off.any():
            raise ConfigError(
                f"{int(off.sum()):,} of {len(off):,} rows looked at in {self._config.path} have "
                f"lengths from {length[off].min():.4g} to {length[off].max():.4g}, though the "
                "space has rows of length 1: give normalise=true to scale them, or "
                "normalised=false if that is how the model makes them."
            )


def _stored(config: Config) -> Part:
    """Return the part that finds the same files from another folder."""
    options = to_dict(config)
    for name in ("of", "trust_remote_code", "scratch"):
        del options[name]
    for name in ("path", "texts"):
        if options[name] is not None:
            options[name] = os.path.abspath(os.path.expanduser(options[name]))
    return Part(ROOM, "vectors", options)
