"""Conditions on the facts of items, in words or as JSON: `colour=red|blue price<20 title~night`."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from lift.errors import ConfigError, unknown

Operator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">=", "~"]
Value: TypeAlias = str | float | int | bool

MOST_CONDITIONS, MOST_VALUES, LONGEST = 32, 256, 4_096
NAME = re.compile(r"[^\W\d][\w.-]{0,63}")
"""Of facts, and of fields of texts."""
_CONDITION = re.compile(
    r"(?P<fact>[^=!<>~]*)(?P<operator>!=|<=|>=|=|<|>|~)(?P<value>.*)", re.DOTALL
)
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?", re.ASCII)
_LARGEST = 1e300
_NAMES: Mapping[str, Operator] = {
    **{"eq": "=", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "in": "="},
    "contains": "~",
}


class Condition(NamedTuple):
    """One fact compared.

    Attributes:
        fact: its name.
        operator: "=": equal to one of the values; "!=": to none of them; "<", "<=", ">", ">=": to
            the one number; "~": text that contains one of the values, whatever their capitals.
        values: at least one. A number is never equal to a text, 1 never to true.
    """

    fact: str
    operator: Operator
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Filter:
    """All conditions have to be met. An item without the fact meets none but "!="."""

    conditions: tuple[Condition, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.conditions)

    @classmethod
    def parse(cls, words: str) -> Filter:
        """Return what words say: `colour=red|blue price<20 in_stock=true title~"night sky"`.

        What reads as a number is one, `true` and `false` are truths; `"20"` in quotes inside the
        word (`size='"20"'`) is text.

        Raises:
            ConfigError: a word that is no condition.
        """
        if len(words) > LONGEST:
            raise ConfigError(f"A filter has at most {LONGEST:,} characters, not {len(words):,}.")
        try:
            parts = shlex.split(words)
        except ValueError as error:
            raise ConfigError(f"The filter {words!r} can't be read: {error}.") from error
        return cls(_checked([_parsed(part) for part in parts]))

    @classmethod
    def of(cls, facts: Any) -> Filter:
        """Return what JSON says: `{"colour": ["red", "blue"], "price": {"lt": 20}}`.

        Raises:
            ConfigError: another shape, an unknown operator, or a value of a wrong type.
        """
        if isinstance(facts, str):
            return cls.parse(facts)
        if not isinstance(facts, Mapping):
            raise ConfigError(
                f"A filter is words or an object of facts, not {type(facts).__name__}."
            )
        found: list[Condition] = []
        for fact, asked in facts.items():
            if not isinstance(asked, Mapping):
                found.append(_condition(str(fact), "=", asked))
                continue
            if not asked:
                raise ConfigError(f"The condition on {str(fact)[:80]!r} in a filter says nothing.")
            for name, value in asked.items():
                if name not in _NAMES:
                    raise unknown("operator of a filter", str(name)[:80], _NAMES)
                found.append(_condition(str(fact), _NAMES[name], value))
        return cls(_checked(found))


def _parsed(word: str) -> Condition:
    match = _CONDITION.fullmatch(word)
    if match is None:
        raise ConfigError(
            f"{word!r} is no condition: write FACT=VALUE, or another of "
            f"{', '.join(get_args(Operator))} in place of =."
        )
    words = match["value"].split("|")
    quoted = [len(w) > 1 and w[0] == w[-1] == '"' for w in words]
    read = str if match["operator"] == "~" else value_of  # what is looked for inside is text
    values = [w[1:-1] if q else read(w) for w, q in zip(words, quoted, strict=True)]
    return _condition(match["fact"].strip(), match["operator"], values)  # type: ignore[arg-type]


def value_of(word: str) -> Value:
    """Return what a word of a filter, or of a table's column, stands for.

    `12` and `-0.5` are numbers, `true` and `false` truths, all else is text: `007` and `1e5`, too,
    which are names more often than numbers.
    """
    if word in ("true", "false"):
        return word == "true"
    return float(word) if _NUMBER.fullmatch(word) else word


def _condition(fact: str, operator: Operator, asked: Any) -> Condition:
    if not NAME.fullmatch(fact):
        raise ConfigError(f"{fact[:80]!r} is no name of a fact: letters, digits, _, - and dots.")
    values = tuple(asked) if isinstance(asked, list | tuple) else (asked,)
    if not 1 <= len(values) <= MOST_VALUES:
        raise ConfigError(f"A condition on {fact} needs from 1 to {MOST_VALUES} values.")
    values = tuple(_plain(fact, value) for value in values)
    if operator in ("<", "<=", ">", ">="):
        number = values[0]
        if len(values) > 1 or isinstance(number, str | bool):
            raise ConfigError(f"{fact} {operator} needs one number, not {asked!r}.")
    if operator == "~" and not all(isinstance(value, str) for value in values):
        values = tuple(v if isinstance(v, str) else json.dumps(v) for v in values)
    return Condition(fact, operator, values)


def _plain(fact: str, value: Any) -> Value:
    """Return a value that a database can be asked with. Raises ConfigError where there is none."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        if not -_LARGEST < value < _LARGEST:
            raise ConfigError(f"A value of {fact} in a filter is not finite, or too large.")
        return value if abs(value) < 1 << 63 else float(value)  # as facts are stored
    if not isinstance(value, str):
        raise ConfigError(f"The values of {fact} in a filter are texts, numbers, true or false.")
    if len(value) > LONGEST:
        raise ConfigError(f"A value of {fact} in a filter has at most {LONGEST:,} characters.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"A value of {fact} in a filter is not valid Unicode.") from error
    return value


def _checked(conditions: list[Condition]) -> tuple[Condition, ...]:
    if len(conditions) > MOST_CONDITIONS:
        raise ConfigError(f"A filter has at most {MOST_CONDITIONS} conditions.")
    return tuple(conditions)
