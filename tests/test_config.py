"""Config: strict both ways, and the words of the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest

from lift.config import (
    Part,
    from_dict,
    from_options,
    override,
    part,
    part_field,
    to_dict,
    to_json,
)
from lift.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1
    kind: Literal["mean", "token"] = "mean"


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    count: int = 3
    flag: bool = False
    limit: float | None = None
    sizes: tuple[int, ...] = (1, 2)
    inner: Inner = field(default_factory=Inner)
    tower: Part = part_field("towers", "vit", width=8)
    teacher: Part | None = part_field("towers", None)


def test_a_config_survives_json() -> None:
    config = Outer(name="a", limit=0.5, sizes=(4, 5), inner=Inner(kind="token"))
    assert from_dict(Outer, json.loads(to_json(config))) == config


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": "a", "cuont": 2}, r"'cuont'. Did you mean 'count'\?"),
        ({"name": "a", "count": 2.5}, r"count must be int, not 2.5"),
        ({"name": "a", "count": True}, r"count must be int, not True"),
        ({"name": "a", "flag": 1}, r"flag must be bool, not 1"),
        ({"name": "a", "limit": float("nan")}, r"limit must be a finite number"),
        ({"name": "a", "sizes": "12"}, r"sizes must be a list, as \[64,128\], not '12'"),
        ({"name": "a", "sizes": 12}, r"sizes must be a list, as \[64,128\], not 12"),
        ({"name": "a", "inner": {"kind": "maen"}}, r"'maen'. Did you mean 'mean'\?"),
        ({"count": 2}, r"lacks the option\(s\) name"),
    ],
)
def test_wrong_values_are_refused(values: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        from_dict(Outer, values)


def test_words_change_a_copy() -> None:
    config = Outer(name="a")
    changed = override(
        config,
        ["count=7", "inner.rate=1e-3", "limit=null", "sizes=[8,9]", "name=12", "flag=true"],
    )
    assert changed == Outer(
        name="12", count=7, flag=True, sizes=(8, 9), inner=Inner(rate=1e-3), tower=config.tower
    )
    assert config.count == 3


def test_words_reach_into_parts_and_swap_them() -> None:
    changed = override(Outer(name="a"), ["tower.depth=2"])
    assert changed.tower == part("towers", "vit", width=8, depth=2)
    assert override(changed, ["tower=other"]).tower == part("towers", "other")
    taught = override(changed, ["teacher=vit", "teacher.depth=3"])
    assert taught.teacher == part("towers", "vit", depth=3)
    assert override(taught, ["teacher=none"]).teacher is None


@dataclass(frozen=True)
class Pair:
    low: int = 1
    high: int = 10
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ConfigError("low is above high.")


def test_the_order_of_words_does_not_matter() -> None:
    for words in (["low=20", "high=30"], ["high=30", "low=20"]):
        assert override(Pair(), words) == Pair(low=20, high=30)
    with pytest.raises(ConfigError, match="low is above high"):
        override(Pair(), ["low=20"])


def test_a_bare_word_is_a_list_of_one() -> None:
    assert override(Pair(), ["names=one"]).names == ("one",)
    assert override(Pair(), ['names=["one","two"]']).names == ("one", "two")
    assert override(Pair(), ["names=[]"]).names == ()
    assert override(Pair(names=("one",)), ["names="]).names == ()


@dataclass(frozen=True)
class Lists:
    sizes: tuple[int, ...] = ()
    rates: tuple[float, ...] | None = None
    names: tuple[str, ...] = ()
    either: str | tuple[str, ...] = ""
    plain: str = ""
    of: Part = part_field("objectives", "softmax", soft=0.1)
    teacher: Part | None = part_field("objectives", None)


LISTS = [
    ("sizes=64,512", {"sizes": (64, 512)}),
    ("sizes=64", {"sizes": (64,)}),
    ("sizes=[64,512]", {"sizes": (64, 512)}),
    ("rates=0.9,1", {"rates": (0.9, 1.0)}),
    ("rates=1e-3", {"rates": (1e-3,)}),
    ("rates=none", {"rates": None}),
    ("names=image.tower,image.head", {"names": ("image.tower", "image.head")}),
    ("names=[image.tower, image.head]", {"names": ("image.tower", "image.head")}),
    ("names=[a photo of a {}.,{}]", {"names": ("a photo of a {}.", "{}")}),
    ("names=CC BY 4.0, see the page", {"names": ("CC BY 4.0, see the page",)}),
    ("names=retrieval:role=a,examples=3", {"names": ("retrieval:role=a,examples=3",)}),
    ("plain=a,b", {"plain": "a,b"}),
    ("plain=[a,b]", {"plain": "[a,b]"}),
    ("plain=a::b,c", {"plain": "a::b,c"}),
    ("either=a,b", {"either": "a,b"}),
    ("either=[ab].tar,c.tar", {"either": "[ab].tar,c.tar"}),
    ("either=[a,b]", {"either": "[a,b]"}),
]


@pytest.mark.parametrize(("word", "expected"), LISTS)
def test_lists_are_written_with_commas_and_strings_keep_theirs(word: str, expected: dict) -> None:
    assert override(Lists(), [word]) == Lists(**expected)


@pytest.mark.parametrize(("word", "expected"), LISTS)
def test_so_they_are_as_options_of_a_part(word: str, expected: dict) -> None:
    """They are converted later, and may have been JSON before."""
    outer = override(Outer(name="a"), ["tower=lists", f"tower.{word}"])
    again = from_dict(Outer, json.loads(to_json(outer)))
    assert from_options(Lists, again.tower.options, "towers/lists") == Lists(**expected)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("sizes=many", r"sizes must be a list, as \[64,128\], not 'many'"),
        ("sizes=[64", r"sizes must be a list, as \[64,128\], not '\[64'"),
        ("sizes=1,x", r"sizes\[1\] must be int, not 'x'"),
        ("sizes=1.5", r"sizes(\[0\])? must be"),
        ("rates=x", r"rates must be a list, as \[0.9,0.98\], not 'x'"),
    ],
)
def test_what_is_no_list_is_told_how_to_write_one(word: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        override(Lists(), [word])
    outer = override(Outer(name="a"), ["tower=lists", f"tower.{word}"])
    with pytest.raises(ConfigError, match=f"towers/lists.{sentence}"):
        from_options(Lists, outer.tower.options, "towers/lists")


@pytest.mark.parametrize("name", ["names", "either"])
def test_a_number_is_no_list_of_words(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"x.{name} must be a list, as \[one,two\], not 5"):
        from_options(Lists, {name: 5}, "x")


def test_a_limit_is_not_none_because_a_word_is_wrong() -> None:
    with pytest.raises(ConfigError, match="limit must be float, not 'many'"):
        override(Outer(name="a"), ["limit=many"])


BARE = Part("towers", "lists")


def _inner(words: list[str], before: Part = BARE, key: str = "of") -> Part:
    """Return the part inside a part, by way of JSON."""
    outer = override(Outer(name="a", tower=before), [f"tower.{word}" for word in words])
    again = from_dict(Outer, json.loads(to_json(outer)))
    assert again == from_dict(Outer, to_dict(outer))
    return getattr(from_options(Lists, again.tower.options, "towers/lists"), key)


def test_words_reach_into_a_part_inside_a_part() -> None:
    assert _inner(["of.soft=0.2"]) == part("objectives", "softmax", soft=0.2)
    assert _inner(["of.share=true"]) == part("objectives", "softmax", soft=0.1, share=True)
    assert _inner(["of=sigmoid", "of.bias=-5"]) == part("objectives", "sigmoid", bias=-5)
    assert _inner(["of=sigmoid", "of.bias=-5", "of.x=a"]).options == {"bias": -5, "x": "a"}
    assert _inner(["of.bias=-5", "of=sigmoid"]) == part("objectives", "sigmoid")
    taught = _inner(["teacher=cosine", "teacher.x=1"], key="teacher")
    assert taught == part("objectives", "cosine", x=1)
    with pytest.raises(ConfigError, match=r"lists.teacher is none: give teacher=NAME before"):
        _inner(["teacher.x=1"], key="teacher")


@pytest.mark.parametrize(
    "there",
    [part("objectives", "sigmoid", bias=3), to_dict(part("objectives", "sigmoid", bias=3))],
)
def test_a_part_that_is_there_already_is_changed(there: object) -> None:
    before = part("towers", "lists", of=there)
    assert _inner(["of.x=1"], before) == part("objectives", "sigmoid", bias=3, x=1)
    assert _inner(["of.bias=4"], before) == part("objectives", "sigmoid", bias=4)
    assert _inner(["of=cosine", "of.x=1"], before) == part("objectives", "cosine", x=1)
    assert before.options == {"of": there}
    named = part("towers", "lists", of="sigmoid")
    assert _inner(["of.bias=4"], named) == part("objectives", "sigmoid", bias=4)


def test_words_go_any_number_of_parts_deep() -> None:
    middle = _inner(["of=sigmoid", "of.of.soft=0.3", "of.of.x=1", "of.sizes=1,2"])
    deep = from_options(Lists, middle.options, "objectives/lists")
    assert deep.of == part("objectives", "softmax", soft=0.3, x=1) and deep.sizes == (1, 2)


def test_only_parts_have_options() -> None:
    with pytest.raises(ConfigError, match=r"lists.plain is no part.*plain.x goes deeper than"):
        _inner(["plain.x=1"])
    with pytest.raises(ConfigError, match=r"tower.width.x goes deeper than the options do"):
        override(Outer(name="a"), ["tower.width.x=1"])


def test_a_part_that_has_to_be_there_can_not_be_none() -> None:
    assert override(Outer(name="a"), ["tower=none"]).tower == Part("towers", "none")


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("inner.raet=1", r"'inner.raet'. Did you mean 'inner.rate'\?"),
        ("count", r"'count' is not an option; write it as key=value"),
        ("count=many", r"count must be int, not 'many'"),
        ("count.deep=1", r"deeper than the options do"),
    ],
)
def test_wrong_words_are_refused(word: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        override(Outer(name="a"), [word])


def test_parts_are_plain_json() -> None:
    assert to_dict(part("towers", "vit", width=8)) == {
        "room": "towers",
        "name": "vit",
        "options": {"width": 8},
    }
