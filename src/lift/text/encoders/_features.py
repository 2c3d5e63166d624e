"""What a sentence-transformers network reads: texts tokenised once, then padded batch by batch."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32, Int64

from lift.errors import ConfigError
from lift.text.encoders._probing import require_distinct
from lift.text.probes import PROBES

_AT_ONCE = 1_024
"""Texts for one call of the tokenizer, whose results are larger than the ids that are kept."""

_COUNTED_AT_ONCE = 256

_WHOLE = {"text": {"truncation": False, "max_length": None, "padding": True}}
"""What to tell the library for texts that are not cut."""

Ids = Int32[np.ndarray, "..."]

_PADDED_WITH = {"input_ids": "pad_token_id", "token_type_ids": "pad_token_type_id"}
"""What a network may read of every token, and the tokenizer's attribute that fills up a batch."""


class Reader:
    """Turns cleaned texts into token counts and features.

    The library tokenises, pads and cuts a batch in one call, so that whoever wants to know the
    lengths first tokenises twice. A plain tokenizer is called once here and its ids are kept. Which
    tokenizers are plain is not guessed from their class: on some texts both ways have to give the
    same features, or the library's way is used for all.
    """

    def __init__(self, model: Any, prompt: str, max_tokens: int) -> None:
        """Compare both ways on a few texts.

        Args:
            model: a `SentenceTransformer`.
            prompt: text put before every text.
            max_tokens: longer texts are cut, special tokens included.

        Raises:
            ConfigError: the tokenizer can't pad or tells no texts apart, or the prompt fills the
                cap.
        """
        self._model, self._prompt, self.max_tokens = model, prompt, max_tokens
        self._constant: dict[str, Any] = {}
        self.plain = self._is_plain()
        taken = int(self.read([""]).tokens[0])
        if taken >= max_tokens:
            raise ConfigError(
                f"max_tokens={max_tokens} leaves no room for text beside {taken} tokens of the "
                f"prompt and special ones; give at least {taken + 1}."
            )
        require_distinct(self._probe_ids(), "the model's tokenizer")

    def read(self, texts: Sequence[str]) -> Texts:
        """Return the texts with their token counts; cuts and padding come batch by batch."""
        if self.plain:
            with _quiet_tokenizer():
                ids = self._ids(texts)
            counts = [len(one) for one in ids["input_ids"]]
            return Texts(self, texts, np.array(counts, np.int32), ids)
        return Texts(self, texts, self._count(texts), {})

    def ask(self, texts: Sequence[str], **options: Any) -> dict[str, Any]:
        """Return the features of one batch the library's way, cut and padded."""
        return dict(self._model.preprocess(list(texts), prompt=self._prompt or None, **options))

    def pad(self, ids: dict[str, list[Ids]]) -> dict[str, Any]:
        """Return the features of one batch whose texts need no cut."""
        tokenizer = self._model.tokenizer
        lengths = np.array([len(one) for one in ids["input_ids"]])
        from_left = np.arange(lengths.max())[None, :]
        if tokenizer.padding_side == "left":
            real = from_left >= lengths.max() - lengths[:, None]
        else:
            real = from_left < lengths[:, None]
        features: dict[str, Any] = dict(self._constant)
        for name, arrays in ids.items():
            values = np.full(real.shape, getattr(tokenizer, _PADDED_WITH[name]), np.int64)
            values[real] = np.concatenate(arrays)
            features[name] = torch.from_numpy(values)
        features["attention_mask"] = torch.from_numpy(real.astype(np.int64))
        return features

    def _ids(self, texts: Sequence[str]) -> dict[str, list[Ids]]:
        found: dict[str, list[Ids]] = {}
        for start in range(0, len(texts), _AT_ONCE):
            some = [self._prompt + text for text in texts[start : start + _AT_ONCE]]
            told = self._model.tokenizer(
                some, padding=False, truncation=False, return_attention_mask=False
            )
            for name, lists in told.items():
                found.setdefault(name, []).extend(np.array(one, np.int32) for one in lists)
        return found or {"input_ids": []}

    def _is_plain(self) -> bool:
        tokenizer = getattr(self._model, "tokenizer", None)
        if not callable(tokenizer):
            return False
        if getattr(tokenizer, "pad_token_id", 0) is None:
            raise ConfigError(
                "The model's tokenizer has no padding token, so that its texts can't share a "
                'batch; name one in its tokenizer_config.json ("pad_token").'
            )
        texts = ["", *PROBES]
        try:
            with _quiet_tokenizer():
                ids = self._ids(texts)
        except (TypeError, ValueError):  # another kind of tokenizer, with other arguments
            return False
        if not ids.keys() <= _PADDED_WITH.keys() or "input_ids" not in ids:
            return False
        lengths = [len(one) for one in ids["input_ids"]]
        short = [i for i in range(len(texts)) if lengths[i] <= self.max_tokens]
        # The shortest alone shows a padding to some fixed length.
        alone = [min(short, key=lambda i: lengths[i])] if short else []
        return bool(short) and all(self._agree(texts, ids, some) for some in (short, alone))

    def _agree(self, texts: list[str], ids: dict[str, list[Ids]], some: list[int]) -> bool:
        """Return whether both ways give the same features for some of the texts."""
        theirs = self.ask([texts[i] for i in some])
        self._constant = {
            name: value for name, value in theirs.items() if not isinstance(value, torch.Tensor)
        }
        ours = self.pad({name: [arrays[i] for i in some] for name, arrays in ids.items()})
        return ours.keys() == theirs.keys() and all(
            not isinstance(value, torch.Tensor) or torch.equal(value, ours[name])
            for name, value in theirs.items()
        )

    def _probe_ids(self) -> list[tuple[int, ...]]:
        """Return the ids of every whole probe, [] of a network that reads no ids."""
        if self.plain:
            return [tuple(one.tolist()) for one in self._ids(PROBES)["input_ids"]]
        with _quiet_tokenizer():
            found = self.ask(PROBES, processing_kwargs=_WHOLE)
        if not isinstance(found.get("input_ids"), torch.Tensor):
            return []
        rows = zip(found["input_ids"], found["attention_mask"].bool(), strict=True)
        return [tuple(row[real].tolist()) for row, real in rows]

    def _count(self, texts: Sequence[str]) -> Int32[np.ndarray, " n"]:
        """Return the tokens of every whole text, prompt and special tokens included."""
        tokens = np.zeros(len(texts), np.int32)
        # Similar lengths together: the library's way pads to the longest.
        order = np.argsort([len(text) for text in texts], kind="stable")
        with _quiet_tokenizer():
            for start in range(0, len(order), _COUNTED_AT_ONCE):
                some = order[start : start + _COUNTED_AT_ONCE]
                features = self.ask([texts[i] for i in map(int, some)], processing_kwargs=_WHOLE)
                tokens[some] = features["attention_mask"].sum(dim=1).numpy()
        return tokens


@dataclass(frozen=True)
class Texts:
    """Texts that were read.

    Attributes:
        reader: what read them.
        texts: as they were given.
        tokens: tokens of every whole text, prompt and special tokens included.
        ids: for each name in the features, one array a text; empty where the tokenizer is not
            plain.
    """

    reader: Reader
    texts: Sequence[str]
    tokens: Int32[np.ndarray, " n"]
    ids: dict[str, list[Ids]]

    def features(self, batch: Int64[np.ndarray, " b"]) -> dict[str, Any]:
        """Return the features of the texts at some positions, cut and padded to the longest."""
        # A cut keeps the special tokens at the end: the library's own way knows where they are.
        chosen = [int(i) for i in batch]
        if not self.ids or self.tokens[batch].max() > self.reader.max_tokens:
            return self.reader.ask([self.texts[i] for i in chosen])
        return self.reader.pad({name: [all_[i] for i in chosen] for name, all_ in self.ids.items()})


@contextlib.contextmanager
def _quiet_tokenizer() -> Iterator[None]:
    """Silence "sequence is longer than the maximum": counting beyond it is the purpose here."""
    logger = logging.getLogger("transformers.tokenization_utils_base")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
