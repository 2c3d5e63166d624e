"""Arrange the examples of an evaluation for the page: queries, answers, right or wrong."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lift.pages.record import number
from lift.terms import EvalResult

MOST_EXAMPLES = 8
"""Examples of one evaluation on the page; the rest is counted there."""

MOST_ANSWERS = 5
"""Answers shown for each example."""


@dataclass(frozen=True)
class Answer:
    """One answer to a query: an image or a text, its cosine, and whether it is right."""

    key: str | None
    text: str
    picture: str | None
    score: str
    right: bool
    chosen: bool = False


@dataclass(frozen=True)
class Example:
    """One query with its answers.

    Attributes:
        kind: "images" (a text and the images found), "texts" (an image and the texts found), or
            "pair" (an image, its caption, and a foil).
        query: the text asked for, or what the image shows.
        key, picture: the image asked about.
        answers: best first.
        note: one line below.
        right: whether the first answer is right.
    """

    kind: Literal["images", "texts", "pair"]
    query: str
    key: str | None
    picture: str | None
    answers: tuple[Answer, ...]
    note: str
    right: bool


@dataclass(frozen=True)
class Gallery:
    """The examples of one result.

    Attributes:
        title: what the evaluation and data are called.
        examples: those shown.
        left_out: how many examples the result holds beyond them.
    """

    title: str
    kind: str
    examples: tuple[Example, ...]
    left_out: int


def galleries_of(
    results: Sequence[EvalResult], picture_of: Callable[[str, str], str | None]
) -> list[Gallery]:
    """Return one gallery for each result that has examples and each kind of them.

    Args:
        results: what to show.
        picture_of: from the name of the data and a key in it to a picture's data URI.
    """
    galleries = []
    for result in results:
        picture = functools.partial(picture_of, result.data)
        readable = [e for e in result.examples if kind_of(e) is not None]
        for kind in ("images", "texts", "pair"):
            mine = [e for e in readable if kind_of(e) == kind]
            if not mine:
                continue
            examples = tuple(_example(e, kind, picture) for e in mine[:MOST_EXAMPLES])
            title = result.evaluation.replace("_", " ")
            if result.data:
                title += f" on {result.data}"
            galleries.append(Gallery(title, kind, examples, len(mine) - len(examples)))
    return galleries


def kind_of(example: Mapping[str, Any]) -> Literal["images", "texts", "pair"] | None:
    """Return which kind an example is, or None where it is none of them."""
    if "foil" in example:
        return "pair"
    top = _tops(example)
    if not top:
        return None
    return "texts" if any("text" in t or "label" in t for t in top) else "images"


def _tops(example: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    top = example.get("top")
    return [t for t in top if isinstance(t, Mapping)] if isinstance(top, list | tuple) else []


def _example(
    example: Mapping[str, Any],
    kind: Literal["images", "texts", "pair"],
    picture: Callable[[str], str | None],
) -> Example:
    key = None if kind == "images" else text_of(example, "key", "image")
    answers = answers_of(example, kind, picture)
    right = answers[0].right if "right" not in example else bool(example["right"])
    return Example(
        kind=kind,
        query=text_of(example, "query", "label", "kind") or "",
        key=key,
        picture=picture(key) if key else None,
        answers=answers,
        note=note_of(example),
        right=right,
    )


def answers_of(
    example: Mapping[str, Any], kind: str | None, picture: Callable[[str], str | None]
) -> tuple[Answer, ...]:
    """Return the answers of an example of a kind, best first; none of one that has no kind.

    Args:
        example: of a result.
        kind: as `kind_of` says.
        picture: from a key to a picture's data URI.
    """
    if kind is None:
        return ()
    return _pair(example) if kind == "pair" else _answers(example, picture)


def _answers(
    example: Mapping[str, Any], picture: Callable[[str], str | None]
) -> tuple[Answer, ...]:
    answers = []
    for top in _tops(example)[:MOST_ANSWERS]:
        text = text_of(top, "text", "label")
        key = text_of(top, "key")
        answers.append(
            Answer(
                key=key,
                text=text or key or "",
                picture=picture(key) if key and text is None else None,
                score=_score(top.get("score")),
                right=bool(top.get("right")),
            )
        )
    return tuple(answers)


def _pair(example: Mapping[str, Any]) -> tuple[Answer, ...]:
    """Return caption and foil, the one with the higher score first."""
    caption, foil = number(example.get("caption_score")), number(example.get("foil_score"))
    right = bool(example.get("right"))
    answers = [
        Answer(None, str(example.get("caption", "")), None, _score(caption), True, right),
        Answer(None, str(example["foil"]), None, _score(foil), False, not right),
    ]
    return tuple(answers)


def note_of(example: Mapping[str, Any]) -> str:
    """Return at which rank the right answer came, where it was not the first."""
    rank = number(example.get("rank"))
    return f"The right one came at rank {rank:,.0f}." if rank is not None and rank > 1 else ""


def text_of(values: Mapping[str, Any], *names: str) -> str | None:
    """Return the first of these values that is there, as text."""
    for name in names:
        if values.get(name) is not None:
            return str(values[name])
    return None


def _score(value: Any) -> str:
    score = number(value)
    return "" if score is None else f"{score:.2f}"
