"""Filters in words and as JSON: what they mean, and what is refused in a sentence."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lift.errors import ConfigError
from lift.search.filters import MOST_CONDITIONS, MOST_VALUES, Condition, Filter
from lift.search.tables import Tables


@pytest.mark.parametrize(
    ("words", "conditions"),
    [
        ("", []),
        ("   ", []),
        ("colour=red", [("colour", "=", ("red",))]),
        ("colour=red|blue", [("colour", "=", ("red", "blue"))]),
        ("colour!=red", [("colour", "!=", ("red",))]),
        ("price<20 price>=3.5", [("price", "<", (20.0,)), ("price", ">=", (3.5,))]),
        ("price<=-1000", [("price", "<=", (-1000.0,))]),
        ("in_stock=true sold=false", [("in_stock", "=", (True,)), ("sold", "=", (False,))]),
        ('title~"night sky"', [("title", "~", ("night sky",))]),
        ("title~'a|b c'", [("title", "~", ("a", "b c"))]),
        ("size='\"20\"'", [("size", "=", ("20",))]),
        ("size=20", [("size", "=", (20.0,))]),
        ("a.b-c_d=x", [("a.b-c_d", "=", ("x",))]),
        ("größe=ärmel", [("größe", "=", ("ärmel",))]),
        ("a=b=c", [("a", "=", ("b=c",))]),
        ("a=", [("a", "=", ("",))]),
        ("a=x|", [("a", "=", ("x", ""))]),
        ("a=nan", [("a", "=", ("nan",))]),
        ("a=inf", [("a", "=", ("inf",))]),
        ("a=1_000", [("a", "=", ("1_000",))]),
        ("a=٣", [("a", "=", ("٣",))]),
        ("a=007|1e5", [("a", "=", ("007", "1e5"))]),
        ("a=1٣", [("a", "=", ("1٣",))]),
        ("a=0x10", [("a", "=", ("0x10",))]),
        ("title~20", [("title", "~", ("20",))]),
        ("title~true", [("title", "~", ("true",))]),
        ("title~007", [("title", "~", ("007",))]),
        ("version~1.10", [("version", "~", ("1.10",))]),
    ],
)
def test_words(words, conditions):
    found = Filter.parse(words)
    assert found == Filter(tuple(Condition(*one) for one in conditions))
    kinds = [[type(value) for value in one.values] for one in found.conditions]
    assert kinds == [[type(value) for value in one[2]] for one in conditions]
    assert bool(found) == bool(conditions)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("colour", "is no condition"),
        ("=red", "no name of a fact"),
        ("1a=red", "no name of a fact"),
        ("a b=red", "is no condition"),
        ("a'", "can't be read"),
        ("price<cheap", "needs one number"),
        ("price<1|2", "needs one number"),
        ("price<true", "needs one number"),
        ("price<", "needs one number"),
        ("x" * 5_000, "at most 4,096 characters"),
        ("a=1 " * (MOST_CONDITIONS + 1), "at most 32 conditions"),
        ("a=" + "|" * MOST_VALUES, "from 1 to 256 values"),
        ("a;drop=1", "no name of a fact"),
        ("a\x00b=1", "no name of a fact"),
        ("n" * 65 + "=1", "no name of a fact"),
        ("a=\udcff", "not valid Unicode"),
    ],
)
def test_words_that_are_none(words, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Filter.parse(words)


def test_json():
    assert Filter.of({"colour": ["red", "blue"], "price": {"lt": 20, "ge": 3}}) == Filter(
        (
            Condition("colour", "=", ("red", "blue")),
            Condition("price", "<", (20,)),
            Condition("price", ">=", (3,)),
        )
    )
    assert Filter.of({"a": True, "b": 1, "c": {"ne": "x"}, "d": {"contains": 5}}) == Filter(
        (
            Condition("a", "=", (True,)),
            Condition("b", "=", (1,)),
            Condition("c", "!=", ("x",)),
            Condition("d", "~", ("5",)),
        )
    )
    assert Filter.of({"a": {"contains": True}}).conditions[0].values == ("true",)
    assert Filter.of({"a": {"lt": 2**70}}).conditions[0].values == (2.0**70,)
    assert Filter.of({"a": {"in": [1, 2]}}).conditions[0].values == (1, 2)
    assert Filter.of("a=1") == Filter.parse("a=1") and not Filter.of({})


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (None, "words or an object of facts, not NoneType"),
        ([["a", 1]], "words or an object of facts, not list"),
        ({"a": None}, "texts, numbers, true or false"),
        ({"a": []}, "from 1 to 256 values"),
        ({"a": [[1]]}, "texts, numbers, true or false"),
        ({"a": {}}, "says nothing"),
        ({"a": {"like": 1}}, "operator of a filter"),
        ({"a": {"lt": {"lt": 1}}}, "texts, numbers, true or false"),
        ({"a": {"lt": "1"}}, "needs one number"),
        ({"a": {"lt": [1, 2]}}, "needs one number"),
        ({"a": math.inf}, "not finite"),
        ({"a": math.nan}, "not finite"),
        ({"a": {"lt": -math.inf}}, "not finite"),
        ({"a": 10**400}, "too large"),
        ({"a": {"lt": -(10**310)}}, "too large"),
        ({"a": "x" * 100_000}, "at most 4,096 characters"),
        ({"a": "\ud800"}, "not valid Unicode"),
        ({"": 1}, "no name of a fact"),
        ({5: 1}, "no name of a fact"),
        ({"a'; DROP TABLE items": 1}, "no name of a fact"),
        ({f"a{n}": 1 for n in range(40)}, "at most 32 conditions"),
    ],
)
def test_json_that_is_none(told, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Filter.of(told)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60) | st.from_regex(r"[a-c]{1,2}[=!<>~]{1,2}[^\0]{0,8}( [a-c]=.)?"))
def test_any_words_are_a_filter_or_a_sentence(words):
    try:
        found = Filter.parse(words)
    except ConfigError as error:
        assert str(error).endswith((".", "none.")) or "Did you mean" in str(error)
    else:
        require_sane(found)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "lt", "in", "contains", "ne", "", "b"]), inner)
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(JSON | st.dictionaries(st.sampled_from(["a", "b.c", "größe"]), JSON))
def test_any_json_is_a_filter_or_a_sentence(told):
    try:
        found = Filter.of(told)
    except ConfigError:
        return
    require_sane(found)


def require_sane(found: Filter) -> None:
    """All that a database is asked with can be bound."""
    for condition in found.conditions:
        assert 1 <= len(condition.values) <= MOST_VALUES
        for value in condition.values:
            assert isinstance(value, str | int | float)
            if isinstance(value, str):
                value.encode()
            elif isinstance(value, float):
                assert math.isfinite(value)
            else:
                assert -(2**63) <= value < 2**63
    assert hash(found) == hash(Filter(tuple(found.conditions)))


FACTS = [
    {"colour": "red", "price": 5, "title": "Night SKY over Köln", "ok": True},
    {"colour": "blue", "price": 20.5, "title": "noon", "ok": False},
    {"colour": 1, "price": "5", "ok": 1},
    {"price": -3, "title": "100% _x_", "ok": 0},
    {},
]


def kept(facts: dict, condition: Condition) -> bool:
    """The same by the words of `Condition`, without a database."""
    value, wanted = facts.get(condition.fact), condition.values

    def same(one) -> bool:
        if isinstance(one, bool) or isinstance(value, bool):
            return isinstance(one, bool) and isinstance(value, bool) and one == value
        return isinstance(one, str) == isinstance(value, str) and one == value

    match condition.operator:
        case "=":
            return value is not None and any(map(same, wanted))
        case "!=":
            return value is None or not any(map(same, wanted))
        case "~":
            return isinstance(value, str) and any(
                str(one).casefold() in value.casefold() for one in wanted
            )
    limit = wanted[0]
    order = {"<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}[condition.operator]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return getattr(float(value), order)(float(limit))


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    found = Tables(tmp_path_factory.mktemp("tables"), writes=True, new=True)
    with found.transaction() as base:
        for number, facts in enumerate(FACTS, start=1):
            base.execute(
                "INSERT INTO items VALUES (?, ?, x'00', '{}', 0)", (number, f"item {number}")
            )
            for name, value in facts.items():
                truth = isinstance(value, bool)
                base.execute(
                    "INSERT INTO facts VALUES (?, ?, ?, ?)",
                    (number, name, int(value) if truth else value, truth),
                )
    yield found
    found.close()


VALUES = st.sampled_from(
    ["red", "blue", "", "5", "SKY", "köln", "%", "_x", "'", '"', "true", True, False]
) | st.sampled_from([0, 1, 5, 5.0, 20.5, -3, -1e9, 2**62])
CONDITIONS = st.one_of(
    st.builds(
        lambda fact, operator, values: Condition(fact, operator, tuple(values)),
        st.sampled_from(["colour", "price", "title", "ok", "none"]),
        st.sampled_from(["=", "!="]),
        st.lists(VALUES, min_size=1, max_size=3),
    ),
    st.builds(
        lambda fact, operator, value: Condition(fact, operator, (value,)),
        st.sampled_from(["colour", "price", "ok"]),
        st.sampled_from(["<", "<=", ">", ">="]),
        st.sampled_from([0, 1, 5, 5.0, 20.5, -3.5]),
    ),
    st.builds(
        lambda fact, values: Condition(fact, "~", tuple(values)),
        st.sampled_from(["colour", "price", "title"]),
        st.lists(st.sampled_from(["sky", "KÖLN", "%", "_", "1", "", "oo"]), min_size=1, max_size=2),
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(CONDITIONS, max_size=3))
def test_an_index_keeps_what_the_words_say(tables, conditions):
    wanted = [
        number
        for number, facts in enumerate(FACTS, start=1)
        if all(kept(facts, condition) for condition in conditions)
    ]
    found = Filter(tuple(conditions))
    assert tables.meeting(found) == wanted and tables.counted(found) == len(wanted)


NAMES = {"eq": "=", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "contains": "~"}


@settings(max_examples=100, deadline=None)
@given(CONDITIONS)
def test_json_says_the_same(condition):
    name = next(name for name, operator in NAMES.items() if operator == condition.operator)
    told = json.loads(json.dumps({condition.fact: {name: list(condition.values)}}))
    assert Filter.of(told).conditions == (condition,)
