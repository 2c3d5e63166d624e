"""Which of an image's captions a batch shows: `one`, `all`, `mix`, or shares of roles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Int64

from lift.data.dice import generator, key_number, turn
from lift.errors import ConfigError
from lift.terms import Caption

ANY = "any"
"""Stands for all roles."""

_MIX, _COUNT, _PICK = 4, 7, 8
"""Purposes of the dice: the mixture of an image's captions; how many captions of each role, and
which where they have weights."""

_WORD = re.compile(r"(.+):(\d+(?:\.\d+)?|\.\d+)")


@dataclass(frozen=True)
class Policy:
    """What `loader.captions` says.

    Attributes:
        words: as they were given.
        shares: for each role how many captions an image shows at a time, on average.
    """

    words: str
    shares: dict[str, float] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, words: str) -> Policy:
        """Return what `words` say.

        "one" is one caption an image and epoch, in turn from a random start (drawn in proportion
        where captions have weights); "all" is every caption; "mix" a point between them.
        `raw:0.3 rewrite:0.3 sub-caption:4` gives each role's number of captions an image shows, on
        average: of 4.6 each image shows 4 or 5, in three of five views a raw or a rewrite, and
        always four sub-captions. `any:2` is two of any role.

        Raises:
            ConfigError: none of that.
        """
        if words in ("one", "all", "mix"):
            return cls(words)
        shares: dict[str, float] = {}
        for word in words.replace(",", " ").split():
            match = _WORD.fullmatch(word)
            if match is None or match[1] in shares:
                raise ConfigError(
                    f"loader.captions={words!r} is no policy ({word!r}); write one, all, mix, or "
                    "a number for each role: 'raw:0.5 rewrite:0.5'."
                )
            shares[match[1]] = float(match[2])
        if not 1 <= sum(shares.values()) <= 1_000:
            raise ConfigError(
                f"loader.captions={words!r} shows {sum(shares.values()):g} captions an image on "
                "average; at least 1 is needed (and at most 1000)."
            )
        if ANY in shares and len(shares) > 1:
            raise ConfigError(f"loader.captions={words!r}: {ANY} stands for all roles, alone.")
        return cls(words, shares)

    @property
    def mixes(self) -> bool:
        """Whether an image's captions are mixed into one point."""
        return self.words == "mix"

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that take part; empty for all."""
        return tuple(role for role in self.shares if role != ANY)

    @property
    def several(self) -> bool:
        """Whether an image shows several captions, whose weights then are soft targets."""
        return self.words == "all" or bool(self.shares)

    def shown(
        self, captions: Sequence[Caption], key: str, seed: int, epoch: int
    ) -> Int64[np.ndarray, " shown"]:
        """Return the places of the captions that an image shows in an epoch, ascending.

        It depends on (seed, epoch, key) alone. A role that an image lacks leaves its share to the
        others; a role with fewer captions than wanted shows all it has.

        Args:
            captions: of the roles that take part, at least one.
            key: of the sample.
            seed: of the run.
            epoch: from 0.
        """
        return self.shown_by_number(captions, key_number(key), seed, epoch)

    def shown_by_number(
        self, captions: Sequence[Caption], number: int, seed: int, epoch: int
    ) -> Int64[np.ndarray, " shown"]:
        """Return what `shown` does, of the sample whose key has this `key_number`."""
        if self.words in ("all", "mix") or len(captions) == 1:
            return np.arange(len(captions))
        if not self.shares:
            return _drawn(captions, np.arange(len(captions)), 1, number, seed, epoch)
        found = []
        counts = self._counts(captions, number, seed, epoch)
        for role, wanted in counts.items():
            own = [n for n, c in enumerate(captions) if role in (ANY, c.role)]
            found.append(_drawn(captions, np.array(own), wanted, number, seed, epoch))
        return np.sort(np.concatenate(found))

    def point(
        self, texts: Float32[np.ndarray, "n d"], seed: int, epoch: int, sample: int
    ) -> Float32[np.ndarray, "1 d"]:
        """Return the point between an image's captions that it shows in an epoch.

        Unit vectors weighted by a flat Dirichlet draw.

        Args:
            texts: rows of its captions, of any length.
            seed: of the run.
            epoch: from 0.
            sample: its number in the source.
        """
        z = texts / np.maximum(np.linalg.norm(texts, axis=1, keepdims=True), 1e-12)
        rng = generator(seed, _MIX, epoch, sample)
        return rng.dirichlet(np.ones(len(z))).astype(np.float32)[None] @ z

    def _counts(
        self, captions: Sequence[Caption], number: int, seed: int, epoch: int
    ) -> dict[str, int]:
        """Return how many captions of each role to show: systematic sampling of the shares."""
        held = {caption.role for caption in captions}
        present = {r: s for r, s in self.shares.items() if s > 0 and (r == ANY or r in held)}
        total = sum(self.shares.values())
        if not present:  # of this image's roles all have share 0
            return dict.fromkeys(held, len(captions))
        grown = total / sum(present.values())
        ends = np.cumsum([share * grown for share in present.values()])
        ends[-1] = total
        offset = float(generator(seed, _COUNT, epoch, number).random())
        steps = np.floor(np.concatenate([[0.0], ends]) + offset).astype(np.int64)
        return {role: int(n) for role, n in zip(present, np.diff(steps), strict=True) if n > 0}


def _drawn(
    captions: Sequence[Caption], own: np.ndarray, wanted: int, number: int, seed: int, epoch: int
) -> Int64[np.ndarray, " shown"]:
    """Return `wanted` of the places `own`: in turn, or in proportion to weights that differ."""
    if wanted >= len(own):
        return own
    weights = np.array([captions[place].weight for place in own], dtype=np.float64)
    if (weights == weights[0]).all():
        first = turn(seed, number, epoch, len(own))
        return own[(first + np.arange(wanted)) % len(own)]
    # The largest of u ** (1 / w): sampling without replacement (Efraimidis and Spirakis 2006).
    draws = generator(seed, _PICK, epoch, number).random(len(own))
    with np.errstate(divide="ignore"):
        keys = np.where(weights > 0, np.log(draws) / np.maximum(weights, 1e-300), -np.inf)
    return own[np.argsort(-keys, kind="stable")[:wanted]]
