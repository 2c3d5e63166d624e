"""Texts made from a caption by rule, linked to it: sentences, noun phrases, negatives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from lift.errors import ConfigError, unknown
from lift.text.encoder import clean
from lift.text.negatives import Negative as Negative
from lift.text.negatives import negatives as negatives
from lift.text.phrases import phrases as phrases
from lift.text.roles import Linked
from lift.text.sentences import sub_captions as sub_captions

KINDS = ("sub-caption", "phrase", "negative")

WHOLE = frozenset({"tag", "class", "phrase", "negative"})
"""Roles from which nothing is derived: they are no sentences, and a negative of a negative may be
true again."""

NEAREST = 0.999
"""Largest cosine of a negative to its caption that the filter keeps, by default.

Measured with MiniLM: of 1,400 pairs of SugarCrepe, which people checked, 0.1% lie above, and 0.1%
of the 956 negatives that the rules made of 300 COCO captions. Both have the median 0.92, and their
99th percentiles are 0.997 and 0.996; swapped attributes lie highest (median 0.98 and 0.99). Two
captions of one photo have the median 0.63 (95th percentile 0.86): a paraphrase is farther from its
caption than most negatives, so no cosine separates the two: the rules have to avoid paraphrases.
"""

FARTHEST = 0.5
"""Smallest cosine kept, by default: captions of different photos are below 0.53 in 99% of cases,
SugarCrepe's pairs above 0.53 in 99%, and those made by the rules above 0.64."""


def derive(
    items: Iterable[Linked],
    kinds: Sequence[str],
    seed: int,
    counts: Counter[str] | None = None,
) -> Iterator[Linked]:
    """Yield every item and, right behind it, what is derived from it.

    A derived text has the item's key, source, weight and language, its own role, and the item's
    text as `parent`. Within one item no text is made twice, and none equals the item's. Nothing is
    derived from tags, classes, phrases and negatives; phrases and negatives are made of English
    ("en", "en-GB", or no language given) only.

    Args:
        items: texts with what belongs to them.
        kinds: what to make ("sub-caption", "phrase", "negative"), in this order.
        seed: of the negatives; the same texts and seed give the same ones.
        counts: if given, gets the number of each role made ("phrase"), of items of which nothing
            could be made ("nothing made"), and of items passed over, by reason.

    Raises:
        ConfigError: an unknown kind.
        DataError: a text that is not valid Unicode.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind of derived text", kind, KINDS)
    return _derived(items, kinds, seed, Counter() if counts is None else counts)


def _derived(
    items: Iterable[Linked], kinds: Sequence[str], seed: int, counts: Counter[str]
) -> Iterator[Linked]:
    for item in items:
        yield item
        if item.role in WHOLE:
            counts[f"passed over: role {item.role}"] += 1
            continue
        english = item.language.lower().split("-")[0] in ("", "en", "eng")
        seen = {clean(item.text)}
        for kind in kinds:
            if kind != "sub-caption" and not english:
                counts[f"passed over: {kind} of another language than English"] += 1
                continue
            for text in _made(kind, item.text, seed):
                if clean(text) not in seen:
                    seen.add(clean(text))
                    counts[kind] += 1
                    yield item._replace(text=text, role=kind, parent=item.text)
        counts["nothing made"] += len(seen) == 1


def _made(kind: str, text: str, seed: int) -> list[str]:
    if kind == "sub-caption":
        return sub_captions(text)
    if kind == "phrase":
        return phrases(text)
    return [negative.text for negative in negatives(text, seed)]


@dataclass(frozen=True)
class Kept:
    """Which negatives the filter keeps.

    Attributes:
        keep: one for each pair.
        cosine: of each pair; NaN where a row has no direction.
        counts: pairs by outcome: "kept", "too near", "too far", "no direction".
    """

    keep: Bool[np.ndarray, " n"]
    cosine: Float32[np.ndarray, " n"]
    counts: dict[str, int]


def keep_negative(
    parents: Float[np.ndarray, "n d"],
    negatives: Float[np.ndarray, "n d"],
    *,
    nearest: float = NEAREST,
    farthest: float = FARTHEST,
) -> Kept:
    """Filter negatives by their cosine to the caption they were made from.

    Above `nearest` the space can't tell the two apart (or they say the same), and training would
    push an image away from its own caption; below `farthest` a negative is as easy as another
    image's caption. A cosine does not tell a paraphrase from a negative in between, see `NEAREST`.

    Args:
        parents: rows of the captions, of any length above 0.
        negatives: rows of the negatives, in the same order.
        nearest: largest cosine kept.
        farthest: smallest cosine kept.

    Raises:
        ConfigError: bounds that keep nothing.
    """
    if not -1 <= farthest < nearest <= 1:
        raise ConfigError(
            f"The filter of negatives keeps cosines from farthest={farthest} to nearest={nearest}, "
            "which is nothing; give -1 <= farthest < nearest <= 1."
        )
    a, b = parents.astype(np.float64), negatives.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    usable = np.isfinite(lengths) & (lengths > 0)
    dots = np.sum(a * b, axis=1)
    cosine = np.full(len(a), np.nan)
    cosine[usable] = dots[usable] / lengths[usable]
    near, far = usable & (cosine > nearest), usable & (cosine < farthest)
    keep = usable & ~near & ~far
    counts = {"kept": keep, "too near": near, "too far": far, "no direction": ~usable}
    return Kept(
        keep=keep,
        cosine=cosine.astype(np.float32),
        counts={name: int(mask.sum()) for name, mask in counts.items()},
    )
