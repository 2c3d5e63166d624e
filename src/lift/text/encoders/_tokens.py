"""Token ids of texts from a plain tokenizer: counted whole, then cut, then padded by the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int32, Int64

from lift.errors import ConfigError
from lift.text.encoders._probing import require_distinct
from lift.text.loading import loading
from lift.text.probes import PROBES

Side = Literal["left", "right"]

_AT_ONCE = 1_024
"""Texts for one call of the tokenizer, whose results are larger than the ids that are kept."""


@dataclass(frozen=True)
class Tokenised:
    """Texts as token ids, one entry each, in order.

    Attributes:
        ids: what the network reads: prompt and special tokens included, cut, never empty.
        tokens: tokens of the whole text, prompt and special tokens included, before any cut.
        truncated: whether the text was cut.
    """

    ids: list[list[int]]
    tokens: Int32[np.ndarray, " n"]
    truncated: Bool[np.ndarray, " n"]

    @property
    def lengths(self) -> Int32[np.ndarray, " n"]:
        """Return the tokens that the network reads of every text."""
        return np.array([len(ids) for ids in self.ids], np.int32)


class Tokens:
    """Turns cleaned texts into ids: special tokens first, prompt, text, special tokens last.

    A cut takes tokens off the end of the text; the special tokens after it stay. A text without
    any token (empty, and a tokenizer that adds nothing) becomes the one token that begins or ends
    texts, so that it has a row.

    Attributes:
        pad_id: fills up a batch: the tokenizer's padding, else its EOS, else 0. It is masked.
        first: special tokens in front of every text.
        last: special tokens behind every text, an appended EOS included.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        prompt: str,
        max_tokens: int,
        append_eos: bool,
        wanted_by: str,
    ) -> None:
        """Read from the tokenizer what it puts around a text.

        Args:
            tokenizer: of transformers.
            prompt: text in front of every caption.
            max_tokens: the cap, special tokens and prompt included.
            append_eos: whether the last token has to be EOS; a tokenizer that already appends it
                is left as it is.
            wanted_by: the encoder and its model, for the messages.

        Raises:
            ConfigError: EOS is wanted and the tokenizer has none, the cap leaves no room, or the
                tokenizer tells no texts apart or does not treat all of them alike.
        """
        eos = _one_id(tokenizer, "eos_token_id")
        if append_eos and eos is None:
            raise ConfigError(
                f"{wanted_by}: an EOS token has to end every text, but the tokenizer "
                f"({type(tokenizer).__name__}) has no eos_token; give append_eos=false, or name "
                "its eos_token in tokenizer_config.json."
            )
        first, last = _around(tokenizer, wanted_by)
        if append_eos and eos is not None and last[-1:] != [eos]:
            last = [*last, eos]
        taken = len(first) + len(last)
        if prompt:
            taken += len(_plain_ids(tokenizer, [prompt])[0])
        if max_tokens <= taken:
            raise ConfigError(
                f"{wanted_by}: max_tokens={max_tokens} leaves no room for text beside {taken} "
                f"tokens of the prompt and special ones; give at least {taken + 1}."
            )
        self.first, self.last = first, last
        pad = _one_id(tokenizer, "pad_token_id")
        self.pad_id = next(i for i in (pad, eos, 0) if i is not None)
        bos = _one_id(tokenizer, "bos_token_id")
        self._empty = next(i for i in (bos, eos, pad, 0) if i is not None)
        self._tokenizer, self._prompt, self._max_tokens = tokenizer, prompt, max_tokens

    def __call__(self, texts: Sequence[str]) -> Tokenised:
        """Return the ids of `texts`, every text tokenised once and without padding."""
        room = self._max_tokens - len(self.first) - len(self.last)
        ids: list[list[int]] = []
        tokens = np.empty(len(texts), np.int32)
        for start in range(0, len(texts), _AT_ONCE):
            some = [self._prompt + text for text in texts[start : start + _AT_ONCE]]
            for body in _plain_ids(self._tokenizer, some):
                whole = len(self.first) + len(body) + len(self.last)
                tokens[len(ids)] = max(1, whole)
                ids.append([*self.first, *body[:room], *self.last] or [self._empty])
        return Tokenised(ids, tokens, tokens > self._max_tokens)


def pad(
    ids: Sequence[Sequence[int]], pad_id: int, side: Side
) -> tuple[Int64[torch.Tensor, "b t"], Int64[torch.Tensor, "b t"]]:
    """Return (input ids, attention mask: 1 at text, 0 at padding) of one batch, on the CPU.

    Args:
        ids: of every text, none empty.
        pad_id: fills the shorter texts up.
        side: where the padding goes.
    """
    longest = max(len(row) for row in ids)
    input_ids = torch.full((len(ids), longest), pad_id, dtype=torch.int64)
    mask = torch.zeros((len(ids), longest), dtype=torch.int64)
    for i, row in enumerate(ids):
        where = slice(longest - len(row), longest) if side == "left" else slice(0, len(row))
        input_ids[i, where] = torch.tensor(row, dtype=torch.int64)
        mask[i, where] = 1
    return input_ids, mask


def load_tokenizer(
    source: str | Path,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    as_filed: bool = False,
) -> Any:
    """Return the tokenizer of a folder or hub id.

    Args:
        source: the folder, or the id.
        revision: commit on the hub.
        trust_remote_code: whether code that comes with the model may run.
        as_filed: whether to read tokenizer.json as it is. transformers 5 builds parts of a Llama
            tokenizer anew and then has other ids for texts that spell special tokens ("</s>").

    Raises:
        ConfigError: the files are not a tokenizer that transformers can load.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    maker: Any = PreTrainedTokenizerFast if as_filed else AutoTokenizer
    options = {} if as_filed else {"trust_remote_code": trust_remote_code}
    with loading(source):
        return maker.from_pretrained(
            str(source),
            revision=revision,
            # The tokenizer as its files have it, now and when the library's default changes.
            fix_mistral_regex=False,
            **options,
        )


def _around(tokenizer: Any, wanted_by: str) -> tuple[list[int], list[int]]:
    """Return the special tokens that the tokenizer puts in front of and behind every text."""
    texts = list(PROBES)
    bodies = _plain_ids(tokenizer, texts)
    require_distinct([tuple(body) for body in bodies], f"the tokenizer of {wanted_by}")
    wholes = [list(tokenizer(text, verbose=False)["input_ids"]) for text in texts]
    longest = max(range(len(texts)), key=lambda i: len(bodies[i]))
    body, whole = bodies[longest], wholes[longest]
    for start in range(len(whole) - len(body) + 1):
        first, last = whole[:start], whole[start + len(body) :]
        if all([*first, *b, *last] == w for b, w in zip(bodies, wholes, strict=True)):
            return first, last
    raise ConfigError(
        f"{wanted_by}: the tokenizer ({type(tokenizer).__name__}) does not put the same special "
        "tokens around every text, which is not understood here; use the encoder "
        "sentence_transformer for this model."
    )


def _plain_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    # verbose=False: a text longer than the network's positions is no news, it is cut here.
    return tokenizer(
        texts,
        add_special_tokens=False,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]


def _one_id(tokenizer: Any, name: str) -> int | None:
    found = getattr(tokenizer, name, None)
    return found if isinstance(found, int) else None
