"""The browser of single items: what each model answered, right, wrong, or not alike."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lift.pages.bars import Column
from lift.pages.gallery import MOST_ANSWERS, Answer, answers_of, kind_of, note_of, text_of
from lift.pages.heat import Heat, Heatmaps, heat_of
from lift.pages.judged import Group
from lift.pages.pictures import Pictures
from lift.pages.words import metric_words, value_words

MOST_ITEMS = 24
"""Items of one evaluation on the page; the rest is counted there."""

_ANSWERED = frozenset(
    {"top", "right", "rank", "scores", "score", "caption_score", "foil_score"}
    | {"answer", "answers", "chosen", "found", "predicted"}
)
"""Keys of an example that hold what a model answered: the others say what it was asked."""

_SHOWN = frozenset({"key", "index", "item", "query", "label", "caption", "foil", "direction"})
"""Keys that the page has a place for; what is left is listed."""

_LONG = 1000
"""Characters of one value on the page."""

_DEEP = 8
"""Lists within lists up to here are read."""


@dataclass(frozen=True)
class Given:
    """What one model answered to an item.

    Attributes:
        column: the model.
        asked: whether its result has this item among its examples.
        right: whether its first answer is right; None where it does not say.
        kind: see `lift.pages.gallery.kind_of`.
        answers: best first.
        note: one line below.
        more: other values of the example, by name.
        heat: how near patches of the image are to the item's text.
    """

    column: Column
    asked: bool
    right: bool | None = None
    kind: str = ""
    answers: tuple[Answer, ...] = ()
    note: str = ""
    more: tuple[tuple[str, str], ...] = ()
    heat: Heat | None = None


@dataclass(frozen=True)
class Item:
    """One question with what every model answered.

    Attributes:
        text: what was asked, or the name of what the image shows.
        what: what kind of question it is ("text to image"), "" where there is one kind.
        key, picture: the image that it is about.
        shows: "right", "wrong", "differ": the filters that show it.
        given: one for each model.
    """

    text: str
    what: str
    key: str
    picture: str | None
    shows: tuple[str, ...]
    given: tuple[Given, ...]


@dataclass(frozen=True)
class Browser:
    """The items of a measurement; `left_out` more are in the results' JSON."""

    items: tuple[Item, ...]
    left_out: int

    def count(self, shown: str) -> int:
        """Return how many items a filter shows."""
        return sum(shown in item.shows for item in self.items)


@dataclass(frozen=True)
class Showing:
    """How items are shown.

    Attributes:
        picture, small: pictures of items, and of answers.
        heatmaps: how near parts of an image are to a text.
        names: those of the models, for `heatmaps`.
        pictured: whether there are pictures at all.
        most: items of one evaluation.
    """

    picture: Pictures
    small: Pictures
    heatmaps: Heatmaps | None
    names: tuple[str, ...]
    pictured: bool
    most: int = MOST_ITEMS


def browser_of(group: Group, columns: Sequence[Column], showing: Showing) -> Browser:
    """Return the items of a measurement, those first that every model answered.

    Examples of several models are one item where all that was asked is equal: place, key, texts.
    """
    found: dict[tuple[str, int], list[Mapping[str, Any] | None]] = {}
    for place, result in enumerate(group.results):
        seen: dict[str, int] = {}
        for example in () if result is None else result.examples:
            if not _is_shallow(example):
                continue  # what no evaluation of ours writes
            name = _asked(example)
            seen[name] = seen.get(name, 0) + 1
            row = found.setdefault((name, seen[name]), [None] * len(columns))
            row[place] = example
    present = sum(result is not None for result in group.results)
    rows = sorted(found.values(), key=lambda row: _answers_of_row(row) < present)  # stable
    items = tuple(_item(row, group, columns, showing) for row in rows[: showing.most])
    return Browser(items, len(rows) - len(items))


def _answers_of_row(row: Sequence[Mapping[str, Any] | None]) -> int:
    return sum(example is not None for example in row)


def _is_shallow(value: Any, depth: int = _DEEP) -> bool:
    if not isinstance(value, Mapping | list | tuple):
        return True
    inside = value.values() if isinstance(value, Mapping) else value
    return depth > 0 and all(_is_shallow(one, depth - 1) for one in inside)


def _asked(example: Mapping[str, Any]) -> str:
    """Return what an item is, without what was answered: numbers with a point are answers, too."""
    asked = {
        name: value
        for name, value in example.items()
        if name not in _ANSWERED and not isinstance(value, float)
    }
    return json.dumps(asked, sort_keys=True, default=str)


def _item(
    row: Sequence[Mapping[str, Any] | None],
    group: Group,
    columns: Sequence[Column],
    showing: Showing,
) -> Item:
    first = next(example for example in row if example is not None)
    key = text_of(first, "key", "image") or ""
    text = text_of(first, "query", "caption", "label", "kind") or key
    given = tuple(
        _given(example, column, name, group, showing)
        for example, column, name in zip(row, columns, showing.names, strict=True)
    )
    known = {one.right for one in given if one.right is not None}
    shows = {frozenset({True}): ("right",), frozenset({False}): ("wrong",)}.get(frozenset(known))
    return Item(
        text=_cut(text),
        what=metric_words(text_of(first, "direction", "kind") or ""),
        key=key,
        picture=showing.picture(group.data, key) if key else None,
        shows=shows if shows is not None else ("wrong", "differ") if known else (),
        given=given,
    )


def _given(
    example: Mapping[str, Any] | None,
    column: Column,
    name: str,
    group: Group,
    showing: Showing,
) -> Given:
    if example is None:
        return Given(column, asked=False)
    kind = kind_of(example)
    answers = answers_of(example, kind, functools.partial(showing.small, group.data))
    right = example.get("right", answers[0].right if answers else None)
    heat, index = None, example.get("index")
    if isinstance(index, int) and (text := _text_of_heat(example, answers)):
        heat = heat_of(showing.heatmaps, name, group.data, index, text)
    return Given(
        column=column,
        asked=True,
        right=None if right is None else bool(right),
        kind=kind or "",
        answers=tuple(replace(a, text=_cut(a.text)) for a in answers[:MOST_ANSWERS]),
        note=note_of(example),
        more=_more(example),
        heat=heat,
    )


def _text_of_heat(example: Mapping[str, Any], answers: Sequence[Answer]) -> str | None:
    """Return the text that patches are compared with: what is asked, or what is true."""
    true = next((one.text for one in answers if one.right and one.text != one.key), None)
    return text_of(example, "query", "caption") or true or text_of(example, "label")


def _more(example: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    shown = _SHOWN | _ANSWERED
    if kind_of(example) is None:
        shown -= {"caption", "foil", "label", "scores", "score"}
    return tuple(
        (name.replace("_", " "), _cut(value_words(value)))
        for name, value in example.items()
        if name not in shown and value not in (None, "", [], {})
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]} …"
