"""Count the tokens of texts for a model that is elsewhere, and cut those that are too long."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lift import plugins
from lift.errors import ConfigError
from lift.text.encoders._layout import file_hash

_PIECE = re.compile(r"[A-Za-z0-9]{1,6}|[^\W\u2e80-\U0010ffff]{1,3}|\S")
_TOKENIZER = "tokenizer.json"


@runtime_checkable
class Cut(Protocol):
    """Counts tokens and cuts.

    Attributes:
        rule: names the way of counting in a text space.
    """

    rule: str

    def __call__(self, text: str, cap: int) -> tuple[str, int]:
        """Return (the longest beginning of `text` of at most `cap` tokens, tokens of it all)."""
        ...


class Estimate:
    """Counts without a tokenizer: a defined guess, near the truth for short English texts.

    One token is up to six ASCII letters or digits in a row, up to three letters of another
    alphabet, or one character of anything else that is no white space. Over the probe sentences
    that is 1.0 times the tokens of MiniLM's tokenizer (from 0.4 for scripts which that tokenizer
    spells letter by letter to 2 for one rare English word).
    """

    rule = "estimate/1"

    def __call__(self, text: str, cap: int) -> tuple[str, int]:
        """See `Cut`."""
        count = sum(1 for _ in _PIECE.finditer(text))
        if count <= cap:
            return text, count
        last = next(itertools.islice(_PIECE.finditer(text), cap - 1, None))
        return text[: last.end()], count


class Counted:
    """Counts with a `tokenizer.json`, special tokens included."""

    def __init__(self, file: Path) -> None:
        """Load the tokenizer.

        Raises:
            MissingPackage: the package tokenizers is not installed.
            ConfigError: the file is no tokenizer.
        """
        plugins.require("tokenizers", "text", "text/encoders/api with a tokenizer")
        from tokenizers import Tokenizer

        self.rule = rule_of(file)
        try:
            self._tokenizer: Any = Tokenizer.from_str(file.read_text("utf-8"))
        except Exception as error:  # tokenizers raises the bare class
            raise ConfigError(
                f"{file} is no tokenizer that the package tokenizers can read "
                f"({' '.join(str(error).split())[:200]}); give another file or folder."
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def __call__(self, text: str, cap: int) -> tuple[str, int]:
        """See `Cut`."""
        found = self._tokenizer.encode(text)
        count = len(found.ids)
        if count <= cap:
            return text, count
        ends = [
            end
            for (_, end), special in zip(found.offsets, found.special_tokens_mask, strict=True)
            if not special
        ]
        keep = cap - (count - len(ends))
        # The last piece of a cut text may fall apart into more tokens than it was part of.
        while keep > 0:
            short = text[: ends[keep - 1]]
            over = len(self._tokenizer.encode(short).ids) - cap
            if over <= 0:
                return short, count
            keep -= over
        return "", count


def tokenizer_file(tokenizer: str) -> Path:
    """Return the tokenizer.json that is meant by a file, a folder or a hub id.

    Raises:
        ConfigError: there is none.
        MissingPackage: it is a hub id and huggingface_hub is not installed.
    """
    path = Path(tokenizer).expanduser()
    if path.is_file():
        return path
    if path.is_dir() and (path / _TOKENIZER).is_file():
        return path / _TOKENIZER
    why = "the folder has none"
    if not path.is_dir():
        plugins.require("huggingface_hub", "text", "text/encoders/api with a tokenizer")
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(tokenizer, _TOKENIZER))
        except (OSError, ValueError) as error:
            why = " ".join(str(error).split())[:200]
    raise ConfigError(
        f"text/encoders/api found no {_TOKENIZER} for the tokenizer {tokenizer!r} ({why}); give a "
        "folder or file that has one, or leave the option out to count by estimate."
    )


def rule_of(file: Path) -> str:
    """Return the rule of `Counted` without loading anything: the hash of the file."""
    return f"tokenizer sha256:{file_hash(file)[:32]}"
