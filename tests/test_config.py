"""Config: strict both ways, and the words of the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest

from lift.config import Part, from_dict, override, part, part_field, to_dict, to_json
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
        ({"name": "a", "sizes": "12"}, r"sizes must be"),
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
