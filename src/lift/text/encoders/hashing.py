"""A weightless encoder FOR TESTS ONLY: hashed words in a random projection, without meaning.

Texts that share words or word pairs get similar rows; nothing else is known to it. It needs no
download and gives the same bits on every machine, which is all that a test asks of it.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from lift.config import Part, to_dict
from lift.errors import ConfigError
from lift.text.encoder import EncodedTexts, clean
from lift.text.probes import PROBES
from lift.text.space import TextSpace
from lift.world import Precision

_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        dimensions: length of a row.
        ngrams: longest run of words that is one feature.
        max_tokens: words and punctuation marks after which a text is cut.
        seed: another seed is another space.
        prompt: text put before every caption.
    """

    dimensions: int = 64
    ngrams: int = 2
    max_tokens: int = 64
    seed: int = 0
    prompt: str = ""

    def __post_init__(self) -> None:
        if min(self.dimensions, self.ngrams, self.max_tokens) < 1:
            raise ConfigError(
                f"text/encoders/hashing needs positive dimensions, ngrams and max_tokens, not "
                f"{self.dimensions}, {self.ngrams} and {self.max_tokens}."
            )


def space(config: Config) -> TextSpace:
    """Return the space of these options."""
    return TextSpace(
        encoder="hashing",
        model=f"words-1-to-{config.ngrams}",
        revision=f"1:seed={config.seed}",
        prompt=config.prompt,
        pooling="sum",
        max_tokens=config.max_tokens,
        normalised=True,
        dimensions=config.dimensions,
    )


def build(config: Config, device: str = "auto") -> HashingEncoder:
    """Return the encoder; it computes on the CPU whatever the device."""
    return HashingEncoder(config)


class HashingEncoder:
    """See the module: sums of random signs, one vector of signs for each hashed feature."""

    def __init__(self, config: Config) -> None:
        self.space = space(config)
        self.part = Part("text/encoders", "hashing", to_dict(config))
        self.saw: tuple[str, ...] = ()
        self.device = "cpu"
        self.matryoshka, self.probes = False, PROBES
        self._config = config
        self._signs = functools.lru_cache(maxsize=50_000)(self._hash_signs)

    def encode(
        self,
        texts: Sequence[str],
        *,
        precision: Precision = "float32",
        token_budget: int | None = None,
    ) -> EncodedTexts:
        """Return one row of unit length a text; precision and budget change nothing."""
        cap = self._config.max_tokens
        rows = np.zeros((len(texts), self.space.dimensions), np.float32)
        tokens = np.zeros(len(texts), np.int32)
        for i, text in enumerate(texts):
            words = _WORD.findall((self._config.prompt + clean(text)).lower())
            tokens[i] = len(words)
            for feature in self._features(words[:cap]):
                rows[i] += self._signs(feature)
        # Whole numbers so far, exact in any order: one division keeps the bits portable.
        lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
        return EncodedTexts(rows / np.maximum(lengths, 1.0), tokens, tokens > cap)

    def cut(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Return which texts are longer than the cap; nothing but their tokens is computed."""
        asked = (self._config.prompt + clean(text) for text in texts)
        return np.array([len(_WORD.findall(t.lower())) for t in asked]) > self._config.max_tokens

    def _features(self, words: list[str]) -> list[str]:
        """Return the n-grams, and one feature that every text has, so that no row is zero."""
        found = ["\x00"]
        for n in range(1, self._config.ngrams + 1):
            found += [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
        return found

    def _hash_signs(self, feature: str) -> np.ndarray:
        """Return one +1 or -1 for each dimension, from the feature's SHAKE-256."""
        d = self.space.dimensions
        text = f"{self._config.seed}\x00{feature}"
        digest = hashlib.shake_256(text.encode("utf-8")).digest((d + 7) // 8)
        bits = np.unpackbits(np.frombuffer(digest, np.uint8))[:d]
        return bits.astype(np.float32) * 2 - 1
