"""What the language of expressions allows, and where in an expression something else stands."""

from __future__ import annotations

import ast
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute

from lift.errors import ConfigError, unknown

pc: Any = pyarrow.compute

MOST_CHARACTERS = 4_000
MOST_DEPTH = 100
FIELD = "field."
"""Before the name of a sample's own field: text, read as a number where it meets one."""

FUNCTIONS = MappingProxyType(
    {
        "len": "len(text): characters",
        "lower": "lower(text): in small letters",
        "min": "min(a, b, ...): the smallest number",
        "max": "max(a, b, ...): the largest number",
        "matches": 'matches(text, "regex"): whether the regex (RE2) is found in it',
        "is_null": "is_null(x): whether there is no value",
    }
)
"""Every function, and what it says."""


_LANGUAGE = (
    ast.Constant,
    ast.Compare,
    ast.BoolOp,
    ast.BinOp,
    ast.UnaryOp,
    ast.Tuple,
    ast.List,
    ast.Set,
    ast.expr_context,
    ast.cmpop,
    ast.boolop,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.Not,
    ast.USub,
    ast.UAdd,
)


def check(text: str, node: ast.AST) -> str | None:
    """Refuse what is not in the language; return the name of a column."""
    if isinstance(node, ast.Call):
        _check_call(text, node)
    elif isinstance(node, ast.Name):
        return node.id
    elif isinstance(node, ast.Attribute | ast.Subscript):
        name = node.attr if isinstance(node, ast.Attribute) else literal(node.slice)
        if not (isinstance(node.value, ast.Name) and node.value.id == "field" and is_a(name, str)):
            raise misplaced(text, node, "A dot or bracket only follows `field`: field.NAME")
        return f"{FIELD}{name}"
    elif isinstance(node, ast.Constant):
        if not isinstance(node.value, bool | int | float | str | None):
            raise misplaced(text, node, f"A value of the type {type(node.value).__name__} stands")
        if isinstance(node.value, int) and abs(node.value) > 10**300:
            raise misplaced(text, node, "A number too large to compute with stands")
    elif not isinstance(node, _LANGUAGE):
        raise misplaced(text, node, f"{type(node).__name__} is not in the language; it stands")
    return None


def _check_call(text: str, node: ast.Call) -> None:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name not in FUNCTIONS:
        where = f"function at character {place(text, node)} of {text!r}:"
        raise unknown(where, name or ast.unparse(node.func), FUNCTIONS)
    wanted = {"min": (2, 99), "max": (2, 99), "matches": (2, 2)}.get(name, (1, 1))
    if node.keywords or not wanted[0] <= len(node.args) <= wanted[1]:
        raise misplaced(
            text, node, f"Write {FUNCTIONS[name].partition(':')[0]}; another call stands"
        )
    if name == "matches":
        pattern = literal(node.args[1])
        if not is_a(pattern, str):
            raise misplaced(text, node, "The regex has to be text in quotes")
        try:
            pc.match_substring_regex(pa.scalar(""), pattern)
        except pa.ArrowInvalid as error:
            raise misplaced(text, node.args[1], f"A broken regex ({error})") from error


def literal(node: ast.AST) -> Any:
    """Return the value of a plain literal, None for every other node."""
    return node.value if isinstance(node, ast.Constant) else None


def is_a(value: Any, kind: type) -> bool:
    """Return whether a value is of a type; True is no whole number here."""
    return isinstance(value, kind) and not isinstance(value, bool)


def place(text: str, node: ast.AST) -> int:
    """Return the character, from 1, at which a node begins; Python counts in bytes."""
    return len(text.encode()[: getattr(node, "col_offset", 0)].decode("utf-8", "ignore")) + 1


def misplaced(text: str, node: ast.AST, what: str) -> ConfigError:
    """Return an error that names the place of a node: WHAT at character 7 of ..."""
    shown = text if len(text) <= 300 else f"{text[:300]} ..."
    where = f"at character {place(text, node)} of the expression {shown!r}"
    part = ast.get_source_segment(text, node) if hasattr(node, "col_offset") else None
    return ConfigError(
        f"{what} {where}{f' ({part})' if part and part != text and len(part) <= 100 else ''}."
    )
