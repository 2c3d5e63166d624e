"""The language of `where` and `weight`: what it computes, and what it refuses."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lift.curation.expression import columns_in, parse
from lift.errors import ConfigError

TABLE = pa.table(
    {
        "a": [1.0, None, 3.0, -2.0],
        "b": pa.array([2, 2, None, 5], pa.int64()),
        "s": ["x", "Äb", None, "dog 12"],
        "t": [True, False, None, True],
        "field.q": ["1", "true", " 2.5e1 ", "nan"],
    }
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a < b", [True, None, None, True]),
        ("a < b < 5", [True, None, None, False]),
        ("a in (1, 3)", [True, None, True, False]),
        ("a in (1, None)", [True, True, False, False]),
        ("a not in [1]", [False, None, True, True]),
        ("s in {'x', 'Äb'}", [True, True, None, False]),
        ("s in ()", [False, False, None, False]),
        ("'og' in s", [False, False, None, True]),
        ("'og' not in s", [True, True, None, False]),
        ("len(s) * 2 + 1", [3.0, 5.0, None, 13.0]),
        ("min(a, b)", [1.0, None, None, -2.0]),
        ("max(a, b, 0)", [2.0, None, None, 5.0]),
        (r"matches(s, '\d+$')", [False, False, None, True]),
        ("is_null(s) or a > 0", [True, None, True, False]),
        ("not t", [False, True, None, False]),
        ("t == True and a > 0", [True, False, None, False]),
        ("a == None", [False, True, False, False]),
        ("s is not None", [True, True, False, True]),
        ("a / 0", [np.inf, None, np.inf, -np.inf]),
        ("(a > 0) + 1", [2.0, None, 2.0, 1.0]),
        ("q > 0", [True, None, True, None]),
        ("field.q == '1'", [True, False, False, False]),
        ('field["q"] == True', [None, True, None, None]),
        ("q", [None, True, None, None]),
        ("lower(s) == 'äb'", [False, True, None, False]),
        ("-a +\n 1", [0.0, None, -2.0, 3.0]),
        ("2", [2.0] * 4),
        ("1 < 2", [True] * 4),
        ("None", [None] * 4),
    ],
)
def test_computes(text: str, expected: list[Any]) -> None:
    found = parse(text).evaluate(TABLE)
    assert found.to_pylist() == expected
    assert found.type in (pa.float64(), pa.bool_())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("chrs > 1", "Unknown column at character 1 of 'chrs > 1': 'chrs'. .*Known: a, b, field.q"),
        ("a > 0 and ss == 'x'", "Unknown column at character 11 .*'ss'.*Did you mean 's'"),
        ("lne(s) > 1", "Unknown function at character 1.*Did you mean 'len'"),
        ("__import__('os')", "Unknown function"),
        ("s.upper()", "Unknown function"),
        ("a.b", "dot or bracket only follows"),
        ("s[0] == 'x'", "dot or bracket only follows"),
        ("'éé' < a", "Text is compared with a number at character 1"),
        ("t and 'é' == s and a < s", r"A number is compared with text at character 20 "),
        ("len(a)", "This is a number, and text is needed, at character 5"),
        ("a and b", "This is a number, and true or false is needed, at character 1"),
        ("s + 1 > 0", "This is text, and a number is needed"),
        ("t < t", "have no order"),
        ("a < None", "None has no order"),
        ("s is 'x'", "only goes with None"),
        ("a in s", "Write `x in"),
        ("s in ('x')", "Write `x in"),
        ("a in ('x', 'y')", "other types"),
        ("a in (b,)", "plain values only"),
        ("a in (1, 'x')", "other types"),
        ("matches(s, '(')", "broken regex .*at character 12"),
        ("matches(s, s)", "in quotes"),
        (r"matches(s, '(a)\\1')", "broken regex"),
        ("len(s, s)", "Write len"),
        ("len(x=s)", "Write len"),
        ("min(a)", "Write min"),
        ("a <", "can't be read"),
        ("a, b", "only stands behind `in`"),
        ("a if t else b", "IfExp is not in the language"),
        ("[x for x in s]", "ListComp"),
        ("lambda: 1", "Lambda"),
        ("f'{a}'", "JoinedStr"),
        ("(a := 1)", "NamedExpr"),
        ("a ** 2", "Pow is not"),
        ("b'x' == s", "type bytes"),
        ("1j", "type complex"),
        ("...", "type ellipsis"),
        ("9" * 400, "too large"),
        ("9" * 3900, "too large"),
        ("1" * 4001, "4,001 characters"),
        ("-" * 300 + "1", "levels deep"),
        ("+".join("a" * 150), "levels deep"),
        ("'\\ud800' == s", "not valid Unicode"),
        ("a\0", "can't be read"),
        ("(" * 3000, "can't be read"),
        ("-" * 3999, "can't be read"),
    ],
)
def test_refuses_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){sentence}") as caught:
        parse(text).evaluate(TABLE)
    assert len(str(caught.value)) < 4200


def test_a_result_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="true or false is needed"):
        parse("a + 1").truth(TABLE)
    with pytest.raises(ConfigError, match="a number is needed"):
        parse("s").number(TABLE)
    assert parse("a > 0").number(TABLE).to_pylist() == [1.0, None, 1.0, 0.0]


def test_columns_are_those_needed_in_order():
    assert columns_in("chars > 3 and len(caption) < 9 or field.x == 2 and chars < 8") == (
        "chars",
        "caption",
        "field.x",
    )
    assert columns_in("1 < 2") == ()


def test_terms_are_those_of_the_outermost_and():
    terms = parse("a > 0 and (b > 1 or t) and ('é' in s and not t)").terms()
    assert [term.text for term in terms] == ["a > 0", "b > 1 or t", "'é' in s", "not t"]
    assert [term.text for term in parse("a > 0 or t").terms()] == ["a > 0 or t"]


# --- against a naive reference ------------------------------------------------------------------

Row = dict[str, Any]
Made = tuple[str, Callable[[Row], Any]]
"""An expression's text, and what it comes to in one row; None is "unknown"."""


def known(compute: Callable[..., Any], *parts: Callable[[Row], Any]) -> Callable[[Row], Any]:
    def run(row: Row) -> Any:
        values = [part(row) for part in parts]
        if any(value is None for value in values):
            return None
        with np.errstate(all="ignore"):
            return compute(*values)

    return run


def kleene(word: str, left: Callable[[Row], Any], right: Callable[[Row], Any]):
    def run(row: Row) -> Any:
        values = {left(row), right(row)}
        ends = word == "or"
        return ends if ends in values else None if None in values else not ends

    return run


def column(name: str) -> Made:
    return name, lambda row: row[name]


def literal(value: Any) -> Made:
    return repr(value), lambda row: np.float64(value) if isinstance(value, float) else value


plain = st.floats(-8, 8, width=16).map(lambda x: x + 0.0)
words = st.text("ab é'\"\\", max_size=3)
texts = st.one_of(st.sampled_from(["s", "r"]).map(column), words.map(literal))
texts = st.one_of(texts, texts.map(lambda m: (f"lower({m[0]})", known(str.lower, m[1]))))
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": np.divide}
COMPARE = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def numbers_of(inner: st.SearchStrategy[Made]) -> st.SearchStrategy[Made]:
    def join(word: str, left: Made, right: Made) -> Made:
        return f"({left[0]} {word} {right[0]})", known(OPERATORS[word], left[1], right[1])

    def pick(name: str, left: Made, right: Made) -> Made:
        best = np.fmin if name == "min" else np.fmax
        return f"{name}({left[0]}, {right[0]})", known(best, left[1], right[1])

    return st.one_of(
        st.builds(join, st.sampled_from(list(OPERATORS)), inner, inner),
        st.builds(pick, st.sampled_from(["min", "max"]), inner, inner),
        inner.map(lambda m: (f"(-{m[0]})", known(operator.neg, m[1]))),
    )


numbers = st.recursive(
    st.one_of(
        st.sampled_from(["x", "y"]).map(column),
        plain.map(literal),
        texts.map(lambda m: (f"len({m[0]})", known(lambda t: np.float64(len(t)), m[1]))),
    ),
    numbers_of,
    max_leaves=4,
)


def compared(first: Made, word: str, second: Made, more: str | None, third: Made) -> Made:
    run = known(COMPARE[word], first[1], second[1])
    text = f"{first[0]} {word} {second[0]}"
    if more is not None:
        run = kleene("and", run, known(COMPARE[more], second[1], third[1]))
        text += f" {more} {third[0]}"
    return f"({text})", run


def among(sought: Made, values: list[Any], negated: bool) -> Made:
    word = "not in" if negated else "in"
    items = "".join(f"{value!r}, " for value in values)
    run = known(lambda value: bool((value in values) != negated), sought[1])
    return f"({sought[0]} {word} ({items}))", run


def conditions_of(inner: st.SearchStrategy[Made]) -> st.SearchStrategy[Made]:
    def join(word: str, left: Made, right: Made) -> Made:
        return f"({left[0]} {word} {right[0]})", kleene(word, left[1], right[1])

    return st.one_of(
        st.builds(join, st.sampled_from(["and", "or"]), inner, inner),
        inner.map(lambda m: (f"(not {m[0]})", known(operator.not_, m[1]))),
        inner.map(lambda m: (f"is_null({m[0]})", lambda row: m[1](row) is None)),
    )


word = st.sampled_from(list(COMPARE))
conditions = st.recursive(
    st.one_of(
        st.builds(compared, numbers, word, numbers, st.none() | word, numbers),
        st.builds(compared, texts, word, texts, st.none() | word, texts),
        st.builds(among, numbers, st.lists(plain, max_size=3), st.booleans()),
        st.builds(among, texts, st.lists(words, max_size=3), st.booleans()),
        st.builds(
            lambda part, m: (
                f"({part!r} in lower({m[0]}))",
                known(lambda t: part in t.lower(), m[1]),
            ),
            words,
            texts,
        ),
        st.just(column("t")),
    ),
    conditions_of,
    max_leaves=4,
)
rows = st.fixed_dictionaries(
    {
        "x": st.none() | plain.map(np.float64),
        "y": st.none() | st.integers(-4, 4).map(np.float64),
        "s": st.none() | words,
        "r": st.none() | words,
        "t": st.none() | st.booleans(),
    }
)
TYPES = {"x": pa.float64(), "y": pa.int32(), "s": pa.string(), "r": pa.string(), "t": pa.bool_()}


def table_of(chosen: list[Row]) -> pa.Table:
    columns = {
        name: pa.array(
            [None if row[name] is None else row[name] for row in chosen],
            pa.float64() if name == "y" else kind,
        ).cast(kind)
        for name, kind in TYPES.items()
    }
    return pa.table(columns)


@settings(max_examples=300, deadline=None)
@given(conditions, st.lists(rows, max_size=5))
def test_conditions_are_those_of_python_row_by_row(made: Made, chosen: list[Row]) -> None:
    text, reference = made
    found = parse(text).truth(table_of(chosen)).to_pylist()
    wanted = [reference(row) for row in chosen]
    assert found == [None if value is None else bool(value) for value in wanted], text


@settings(max_examples=200, deadline=None)
@given(numbers, st.lists(rows, max_size=5))
def test_numbers_are_those_of_numpy_row_by_row(made: Made, chosen: list[Row]) -> None:
    text, reference = made
    found = parse(text).number(table_of(chosen)).to_pylist()
    for own, row in zip(found, chosen, strict=True):
        wanted = reference(row)
        assert (own is None) == (wanted is None), text
        if wanted is not None:
            np.testing.assert_equal(own, float(wanted), err_msg=text)


@settings(max_examples=300, deadline=None)
@given(st.text("ab<>=!()[]{}.,'\"\\ 019+-*/@andorisntNoe\0é\n", max_size=40))
def test_whatever_is_written_is_computed_or_refused(text: str) -> None:
    try:
        parse(text).evaluate(TABLE)
    except ConfigError:
        pass
