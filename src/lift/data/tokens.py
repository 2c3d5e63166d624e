"""Captions as tokens, for a text side that is trained: the rows of a loader without a cache."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from lift.data.loader import LoaderConfig
from lift.data.rows import of_roles
from lift.data.spilled import Mapped, Spilled
from lift.errors import ConfigError, DataError
from lift.terms import Source
from lift.text.encoder import KEY_BYTES, clean
from lift.text.keys import KEY, KeyIndex, KeySet, keys_of
from lift.text.tokenizer import TokenisedTexts, Tokenizer

PadTo = Literal["longest", "context"]

_CHUNK = 4_096
_SMALL = 1 << 16
"""Vocabularies up to here are stored in two bytes a token."""

_PADDING = -1


class TokenRows:
    """The tokens of every distinct caption of a source, numbered; the `Rows` of a loader.

    They are made once, in one pass, and lie in unnamed temporary files: two bytes a token (four
    beyond 65,536 of them) and 40 a caption. Memory does not grow with the captions. Captions that
    have the same tokens are one row: the text side can't tell them apart, so neither may the
    objective. Forked processes share the files; a pickled copy has its own, and an index in memory.

    Attributes:
        context: tokens of a caption at most.
        counters: distinct "captions", and how many of them were "truncated captions".
        mean_tokens: of a distinct caption, as cut.
        longest: tokens of the longest of them, as cut.
    """

    def __init__(
        self,
        source: Source,
        tokenizer: Tokenizer,
        context: int,
        *,
        config: LoaderConfig | None = None,
        pad_to: PadTo = "longest",
    ) -> None:
        """Read and tokenise all captions.

        Args:
            source: of the captions.
            tokenizer: of the text side.
            context: tokens that a caption is cut to.
            config: how the loader will use them: which roles take part.
            pad_to: pad a batch to its longest caption, or always to the context.

        Raises:
            ConfigError: the loader wants what only stored vectors have.
            DataError: the source has no captions of these roles.
            StorageError: the disk of the temporary files is full.
        """
        if config is not None:
            _require_no_vectors(config)
        self.context, self._pad_to = context, pad_to
        small = tokenizer.size <= _SMALL
        ids, starts = Spilled(np.uint16 if small else np.int32), Spilled(np.int64)
        keys, token_keys, seen = Spilled(KEY), Spilled(KEY), KeySet()
        end, self.longest, truncated = 0, 0, 0
        captions = captions_of(source, config.taking_part if config is not None else ())
        while chunk := [clean(text) for text in islice(captions, _CHUNK)]:
            new = np.flatnonzero(seen.add(keys_of(chunk)))
            fresh = [chunk[at] for at in new]
            found = tokenizer.encode(fresh, context)
            lengths = np.array([len(own) for own in found.ids], np.int64)
            flat = np.array([token for own in found.ids for token in own], np.int64)
            ids.append(flat)
            starts.append(end + np.cumsum(lengths) - lengths)
            keys.append(keys_of(fresh))
            token_keys.append(_token_keys(found))
            end += len(flat)
            self.longest = max(self.longest, int(lengths.max(initial=0)))
            truncated += int(found.truncated.sum())
        starts.append(np.array([end]))
        count = len(keys)
        if not count:
            raise DataError(f"{source.name} has no captions to make tokens of.")
        self._ids, self._starts = Mapped.of(ids.mapped()), Mapped.of(starts.mapped())
        self._index = KeyIndex.on_disk(_chunks(keys.mapped()))
        self._row = _first_of_equals(token_keys.mapped())
        self.counters: dict[str, int] = {"captions": count, "truncated captions": truncated}
        self.mean_tokens: float = end / count

    def __len__(self) -> int:
        return len(self._starts.values) - 1

    def find(self, texts: Sequence[str]) -> Int64[np.ndarray, " n"]:
        """Return the row number of every text, -1 where it has none."""
        numbers = self._index.find(keys_of([clean(text) for text in texts]))
        if self._row is None or not len(numbers):
            return numbers
        return np.where(numbers < 0, numbers, self._row.values[numbers])

    def take(self, rows: Any) -> np.ndarray:
        """Refuse: tokens are no vectors. Raises ConfigError."""
        raise ConfigError(_MIX)

    def take_stored(self, rows: Sequence[int] | np.ndarray) -> Int32[np.ndarray, "n t"]:
        """Return the tokens of these rows, in their order, padded with -1 to one length.

        Raises:
            DataError: a number outside.
        """
        rows = np.asarray(rows, np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            bad = rows[(rows < 0) | (rows >= len(self))][0]
            raise DataError(f"There are tokens of captions 0 to {len(self) - 1}, not of {bad}.")
        starts = self._starts.values[rows]
        lengths = self._starts.values[rows + 1] - starts
        longest = int(lengths.max(initial=1))
        width = self.context if self._pad_to == "context" else longest
        places = np.arange(width)
        real = places < lengths[:, None]
        taken = np.full((len(rows), width), _PADDING, np.int32)
        taken[real] = self._ids.values[(starts[:, None] + places)[real]]
        return taken

    def decode(self, stored: Int32[Tensor, "n t"]) -> Int64[Tensor, "n t"]:
        """Return what a text tower takes of what `take_stored` gave, on its device."""
        return stored.to(torch.int64)


def captions_of(source: Source, roles: Sequence[str] = ()) -> Iterator[str]:
    """Yield every caption of these roles (all for none), as often as it occurs."""
    for _, captions in source.texts():
        for caption in of_roles(captions, roles):
            yield caption.text


_MIX = (
    "loader.captions=mix draws a point between stored vectors, and a text side that is trained has "
    "none; set loader.captions to one or all."
)


def _require_no_vectors(config: LoaderConfig) -> None:
    if config.policy.mixes:
        raise ConfigError(_MIX)
    for name in ("linked", "negatives"):
        if getattr(config, name):
            raise ConfigError(
                f"loader.{name} takes captions from a cache, and a text side that is trained reads "
                f"none; leave loader.{name} out."
            )


def _token_keys(found: TokenisedTexts) -> np.ndarray:
    """Return 16 bytes for each text, equal where its tokens are."""
    blake = hashlib.blake2b
    digests = [
        blake(np.array(own, np.int32).tobytes(), digest_size=KEY_BYTES).digest()
        for own in found.ids
    ]
    return np.frombuffer(b"".join(digests), KEY)


def _first_of_equals(keys: np.ndarray) -> Mapped | None:
    """Return for each key the number of the first that equals it; None where all differ."""
    index = KeyIndex.on_disk(_chunks(keys))
    if not index.repeated():
        return None
    rows = Spilled(np.int64)
    for chunk in _chunks(keys):
        rows.append(index.find(chunk))
    return Mapped.of(rows.mapped())


def _chunks(values: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
