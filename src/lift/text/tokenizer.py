"""Texts to tokens for a text side that is trained: a byte-level BPE of its own, or anyone's.

The BPE is that of Sennrich et al. 2016 (arXiv 1508.07909) over bytes (Radford et al. 2019), so
that no text of any language is unknown. It depends on the captions, not on their order.
"""

from __future__ import annotations

import hashlib
import json
import os
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32

from lift import plugins
from lift.errors import ConfigError, DataError
from lift.text.encoder import clean
from lift.text.loading import fault_of

START, END = "<|startoftext|>", "<|endoftext|>"
FILE = "tokenizer.json"

_NAME = "the tokenizer of a text tower"
_BYTES = 256
_SEEN_TWICE = 2
"""How often a pair of tokens must occur to become one: what occurs once teaches nothing."""

_PARALLEL = "TOKENIZERS_PARALLELISM"
_BATCH = 4_096


@dataclass(frozen=True)
class TokenisedTexts:
    """The tokens of some texts, in order.

    Attributes:
        ids: of each text, special tokens included, cut to the context.
        lengths: how many tokens each has before any cut.
        truncated: which were cut.
    """

    ids: list[list[int]]
    lengths: Int32[np.ndarray, " n"]
    truncated: Bool[np.ndarray, " n"]


class Tokenizer:
    """Texts to tokens; every text is cleaned first, as all captions are (`lift.text.encoder`).

    Attributes:
        size: how many tokens there are; ids are below it.
        special: tokens that it adds to every text.
    """

    def __init__(self, inner: Any) -> None:
        """Take a tokenizer of the library `tokenizers`; use the makers below instead."""
        inner.no_padding()
        inner.no_truncation()
        self._inner = inner
        self._cut_to: int | None = None
        self._json: str = inner.to_str()
        ids = inner.get_vocab(with_added_tokens=True).values()
        self.size: int = max(ids, default=-1) + 1
        self.special: int = inner.num_special_tokens_to_add(False)

    @classmethod
    def trained(cls, captions: Iterable[str], vocabulary: int, *, lower: bool = True) -> Tokenizer:
        """Return a byte-level BPE trained on captions, read once as a stream.

        Memory holds the distinct words of the captions. Equal captions in any order give the
        same tokenizer.

        Args:
            captions: any number.
            vocabulary: tokens at most, bytes, start and end included; few captions give fewer.
            lower: read all letters as small ones.

        Raises:
            MissingPackage: the package tokenizers is not installed.
            ConfigError: a vocabulary that can't hold the bytes.
            DataError: no captions.
        """
        if vocabulary < _BYTES + 2:
            raise ConfigError(
                f"A byte-level vocabulary of {vocabulary} tokens can't hold the {_BYTES} bytes, "
                f"start and end; set text_tower.vocabulary to {_BYTES + 2} or more."
            )
        library = _library()
        stream = (clean(text) for text in captions)
        first = next(stream, None)
        if first is None:
            raise DataError("There are no captions to train a tokenizer on; give data with some.")
        inner = library.Tokenizer(library.models.BPE())
        steps = [library.normalizers.NFC()]
        steps += [library.normalizers.Lowercase()] if lower else []
        steps += [library.normalizers.Replace(library.Regex(r"\s+"), " ")]
        inner.normalizer = library.normalizers.Sequence(steps)
        # The space in front makes a word at the start the same tokens as anywhere else.
        inner.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
        inner.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=_SEEN_TWICE,
            show_progress=False,
            special_tokens=[START, END],
            initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        )
        inner.train_from_iterator(chain([first], stream), trainer)
        _put_ends(inner)
        return cls(inner)

    @classmethod
    def found(cls, name: str | Path, *, ends: bool = False) -> Tokenizer:
        """Return a Hugging Face tokenizer.

        Args:
            name: its `tokenizer.json`, a folder with one, or an id of the hub.
            ends: give texts a start and an end where the tokenizer adds nothing to them.

        Raises:
            MissingPackage: a package is not installed.
            ConfigError: there is none, or it can't be read.
        """
        file = _file(str(name))
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The tokenizer {file} can't be read ({error}).") from error
        inner = _parsed(text, str(file))
        if ends and not inner.num_special_tokens_to_add(False):
            inner.add_special_tokens([START, END])
            _put_ends(inner)
        return cls(inner)

    @classmethod
    def from_json(cls, text: str, where: str) -> Tokenizer:
        """Return the tokenizer that `to_json` wrote; `where` names it in messages.

        Raises:
            MissingPackage: the package tokenizers is not installed.
            ConfigError: the text is none.
        """
        return cls(_parsed(text, where))

    def to_json(self) -> str:
        """Return everything that it is, as plain JSON."""
        return self._json

    @property
    def fingerprint(self) -> str:
        """The hash of everything that it is: "sha256:..."."""
        return f"sha256:{hashlib.sha256(self._json.encode('utf-8')).hexdigest()}"

    def require_room(self, context: int) -> None:
        """Raise ConfigError unless a context has room for a token beside those always added."""
        if context <= self.special:
            raise ConfigError(
                f"A context of {context} tokens has no room beside the {self.special} that the "
                "tokenizer adds to every text; raise text_tower.context."
            )

    def encode(self, texts: Sequence[str], context: int) -> TokenisedTexts:
        """Return the tokens of texts.

        A text of more than `context` tokens loses them at its end; what the tokenizer puts at
        every end stays. A text of no token is one of number 0.

        Raises:
            ConfigError: no room beside the special tokens.
            DataError: a text that is not valid Unicode.
        """
        if self._cut_to != context:
            self.require_room(context)
            self._inner.enable_truncation(context)
            self._cut_to = context
        ids: list[list[int]] = []
        lengths = np.empty(len(texts), np.int32)
        for start in range(0, len(texts), _BATCH):
            cleaned = [clean(text) for text in texts[start : start + _BATCH]]
            for at, found in enumerate(self._inner.encode_batch_fast(cleaned), start):
                kept = found.ids
                # What was cut off comes in pieces that have special tokens of their own.
                beyond = sum(len(piece.ids) - self.special for piece in found.overflowing)
                ids.append(kept or [0])
                lengths[at] = len(ids[-1]) + beyond
        return TokenisedTexts(ids, lengths, lengths > context)

    def __getstate__(self) -> str:
        return self._json

    def __setstate__(self, state: str) -> None:
        self.__init__(_parsed(state, "a tokenizer"))


def _put_ends(inner: Any) -> None:
    """Have a tokenizer put its start and end around every text."""
    library = _library()
    inner.post_processor = library.processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(token, inner.token_to_id(token)) for token in (START, END)],
    )


def _parsed(text: str, where: str) -> Any:
    library = _library()
    try:
        values = json.loads(text)
        # Random merges would give a text other tokens every time.
        if isinstance(values["model"], dict) and values["model"].get("dropout"):
            values["model"]["dropout"] = None
            text = json.dumps(values, ensure_ascii=False)
        inner = library.Tokenizer.from_str(text)
        if not inner.get_vocab_size(with_added_tokens=True):
            raise ValueError("it has no tokens")
        return inner
    except MemoryError:
        raise
    except Exception as error:  # tokenizers raises the bare class
        why = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise ConfigError(
            f"{where} is no tokenizer that the package tokenizers can read ({why}); give another "
            "file or folder."
        ) from error


def _file(name: str) -> Path:
    """Return the tokenizer.json that is meant by a file, a folder or a hub id."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        if (path / FILE).is_file():
            return path / FILE
        raise ConfigError(
            f"The folder {name!r} has no {FILE}; `AutoTokenizer.from_pretrained(...)"
            ".save_pretrained(...)` of transformers writes one."
        )
    if path.suffix == ".json" or name.startswith((".", "~", "/")):  # no model of the hub
        raise ConfigError(f"There is no tokenizer file {name!r}; check the path.")
    plugins.require("huggingface_hub", "text", _NAME)
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, FILE))
    except Exception as error:
        raise ConfigError(
            f"{name!r} is neither bpe, nor a file or folder, nor a hub model whose {FILE} can be "
            f"had ({fault_of(error)}); check text_tower.tokenizer."
        ) from error


@cache
def _library() -> Any:
    """Return the package tokenizers, made to be silent when a process forks.

    It works in parallel, and prints a warning into every data worker that is forked afterwards,
    because threads don't survive a fork. It is told what it would assume: no threads there.
    """
    plugins.require("tokenizers", "text", _NAME)
    import tokenizers

    if hasattr(os, "register_at_fork"):
        mine: list[bool] = []

        def before() -> None:
            mine.append(_PARALLEL not in os.environ)
            os.environ.setdefault(_PARALLEL, "false")

        def after_in_parent() -> None:
            if mine.pop():
                del os.environ[_PARALLEL]

        os.register_at_fork(before=before, after_in_parent=after_in_parent)
    return tokenizers
