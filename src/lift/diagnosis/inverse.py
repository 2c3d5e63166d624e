"""Whether texts lie together by what they say or by how they are built: the inverse effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float64

from lift.diagnosis._figures import mean
from lift.diagnosis._finding import Finding, finding, level_of, skipped
from lift.diagnosis._measured import Measured

NAME = "content over syntax"
_Each: TypeAlias = Float64[np.ndarray, " c"]
ADVICE = (
    "Take a text encoder that was tuned for embeddings, and mix captions of several writers: long "
    "captions of one model are built alike."
)


class Content(NamedTuple):
    """What a sentence says: who does what to what, and where."""

    subject: str
    verb: str
    past: str
    doing: str
    thing: str
    place: str


CONTENTS = (
    Content("a brown dog", "chases", "chased", "chasing", "a red ball", "on the beach"),
    Content("an old woman", "paints", "painted", "painting", "a wooden fence", "in a garden"),
    Content("two children", "fly", "flown", "flying", "the yellow kites", "above a hill"),
    Content("the chef", "slices", "sliced", "slicing", "some onions", "at the counter"),
    Content("a young man", "repairs", "repaired", "repairing", "a bicycle", "outside his shop"),
    Content("the grey cat", "watches", "watched", "watching", "a bird", "through the window"),
    Content("three soldiers", "carry", "carried", "carrying", "a stretcher", "across the river"),
    Content("a waiter", "pours", "poured", "pouring", "white wine", "under a parasol"),
    Content("the farmer", "feeds", "fed", "feeding", "six sheep", "behind the barn"),
    Content("a girl", "reads", "read", "reading", "a comic book", "beside the train tracks"),
    Content("the surfer", "rides", "ridden", "riding", "an enormous wave", "near the rocks"),
    Content("a mechanic", "lifts", "lifted", "lifting", "a truck engine", "inside the garage"),
)
"""No two share a word but articles."""

FRAMES = (
    "{S} {verb} {thing} {place}.",
    "{T} {is} {past} by {subject} {place}.",
    "{P}, {subject} {verb} {thing}.",
    "There {be} {subject} {doing} {thing} {place}.",
    "What {subject} {verb} {place} is {thing}.",
    "It is {thing} that {subject} {verb} {place}.",
)
"""Active, passive, place first, existential, and two clefts: one meaning in six builds."""

_PLURAL = ("two ", "three ", "six ", "some ", "the yellow kites")


@dataclass(frozen=True, kw_only=True)
class Config:
    """In which share of cases the same content has to be nearer.

    MiniLM: 1.00 (cosines 0.94 and 0.07). Where it is in less than half of them, syntax counts more
    than content: the inverse effect.
    """

    look: float = 0.9
    fault: float = 0.5


class Inverse:
    """Which is nearer: the same content built otherwise, or other content built alike.

    LIFT's paper (arXiv 2506.04209) blames the syntax that long captions share for what contrastive
    text towers lose on them. Measured here on 12 contents in 6 builds (`CONTENTS`, `FRAMES`): the
    value is the difference of the two mean cosines, with an interval over contents; how often the
    same content is the nearer one decides the level. It needs no image.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def ask(self, measured: Measured) -> Finding:
        """Return how often content wins."""
        if measured.flat_texts:
            return skipped(NAME, measured.unfit(texts_only=True), ADVICE)
        rows = measured.rows_of(sentences())
        if isinstance(rows, str):
            return skipped(NAME, rows, "Open the model with its text encoder.")
        wins, content, syntax = effect(rows)
        share = float(wins.mean())
        level = level_of(share, self.config.look, self.config.fault)
        more = "how it is built counts more" if level == "fault" else "content counts more"
        means = (
            f"Two sentences of one content have a cosine of {content.mean():.2f}, two of one build "
            f"{syntax.mean():.2f}: {more} (the same content is nearer in {share:.0%} of cases)."
        )
        return finding(
            NAME,
            level,
            mean(content - syntax),
            "cosine of one content built otherwise, less that of other content built alike",
            means,
            ADVICE,
            details={
                "cosine_of_same_content": float(content.mean()),
                "cosine_of_same_build": float(syntax.mean()),
                "same_content_nearer": share,
                "sentences": len(CONTENTS) * len(FRAMES),
            },
        )


def sentences() -> list[str]:
    """Return every content in every build, content by content."""
    return [_said(content, frame) for content in CONTENTS for frame in FRAMES]


def effect(rows: np.ndarray) -> tuple[_Each, _Each, _Each]:
    """Return for each content how often it wins (ties half), and two mean cosines.

    Args:
        rows: unit rows of `sentences()` [72 d].

    Returns:
        The share of (sentence, same content, same build) in which the same content is nearer; the
        mean cosine with sentences of the same content, and with those of the same build.
    """
    contents, frames = len(CONTENTS), len(FRAMES)
    z = rows.astype(np.float64).reshape(contents, frames, -1)
    wins = np.zeros((contents, frames))
    same_content = np.einsum("cfd,cgd->cfg", z, z)
    same_build = np.einsum("cfd,efd->cfe", z, z)
    own_frame, own_content = np.eye(frames, dtype=bool), np.eye(contents, dtype=bool)
    for c in range(contents):
        for f in range(frames):
            near = same_content[c, f][~own_frame[f]][:, None]
            rival = same_build[c, f][~own_content[c]][None]
            wins[c, f] = ((near > rival) + 0.5 * (near == rival)).mean()
    content = same_content[:, ~own_frame].mean(axis=1)
    syntax = np.array([same_build[c][:, ~own_content[c]].mean() for c in range(contents)])
    return wins.mean(axis=1), content, syntax


def _said(content: Content, frame: str) -> str:
    """Return one content in one build."""
    words = content._asdict()
    words |= {"S": _capital(content.subject), "T": _capital(content.thing)}
    words |= {"P": _capital(content.place)}
    words["is"] = "are" if content.thing.startswith(_PLURAL) else "is"
    words["be"] = "are" if content.subject.startswith(_PLURAL) else "is"
    return frame.format(**words)


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def build(config: Config) -> Inverse:
    """Return the question."""
    return Inverse(config)
