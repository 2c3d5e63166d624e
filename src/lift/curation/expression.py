"""A small language over columns: parsed by Python, walked here, computed by Arrow; never run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.compute

from lift.curation.syntax import (
    FIELD,
    MOST_CHARACTERS,
    MOST_DEPTH,
    check,
    is_a,
    literal,
    misplaced,
    place,
)
from lift.errors import ConfigError, unknown

pc: Any = pyarrow.compute
"""Its functions are made when it is imported: a type checker knows none."""

Kind: TypeAlias = Literal["number", "text", "truth", "field", "nothing"]

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_WORDS: Mapping[str, str] = {
    "number": "a number",
    "text": "text",
    "truth": "true or false",
    "field": "a field",
    "nothing": "None",
}
_ARITHMETIC: Mapping[type, Callable[..., Any]] = {
    ast.Add: pc.add,
    ast.Sub: pc.subtract,
    ast.Mult: pc.multiply,
    ast.Div: pc.divide,
}
_COMPARE: Mapping[type, Callable[..., Any]] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}


@dataclass(frozen=True)
class Expression:
    """A condition or a number for every row of a table.

    A comparison with a missing value has no answer; `and`, `or` and `not` take that as "unknown"
    (SQL does the same). In arithmetic a condition counts as 1 or 0. A division by zero is
    infinite or not a number.

    Attributes:
        text: as the user wrote it, or the part of it that this is.
        tree: what Python's parser made of it.
        columns: names it needs, in order; `field.NAME` where it says so.
    """

    text: str
    tree: ast.expr
    columns: tuple[str, ...]

    def terms(self) -> tuple[Expression, ...]:
        """Return what the outermost `and` joins; the expression itself where there is none."""
        if not (isinstance(self.tree, ast.BoolOp) and isinstance(self.tree.op, ast.And)):
            return (self,)
        found: list[Expression] = []
        for value in self.tree.values:
            part = ast.get_source_segment(self.text, value) or ""
            found += parse(part).terms()
        return tuple(found)

    def truth(self, table: pa.Table) -> pa.BooleanArray:
        """Return true, false or null (unknown) for every row.

        Raises:
            ConfigError: an unknown column, types that don't go together, or a result that is
                no condition.
        """
        return self._array(_Walk(self.text, table), "truth", table.num_rows)

    def number(self, table: pa.Table) -> pa.DoubleArray:
        """Return a float64 or null for every row; raises like `truth`."""
        return self._array(_Walk(self.text, table), "number", table.num_rows)

    def evaluate(self, table: pa.Table) -> pa.Array:
        """Return what the expression is, booleans or float64; raises like `truth`."""
        walk = _Walk(self.text, table)
        kind: Kind = "number" if walk.value(self.tree).kind == "number" else "truth"
        return self._array(walk, kind, table.num_rows)

    def _array(self, walk: _Walk, kind: Kind, rows: int) -> Any:
        found = walk.of_kind(walk.value(self.tree), kind, "the whole is")
        return pa.repeat(found, rows) if isinstance(found, pa.Scalar) else found


def parse(text: str) -> Expression:
    """Return the expression that `text` is.

    Raises:
        ConfigError: empty, too long or too deep, not in the language, or a broken regex.
    """
    # One line, so that places are characters; a line's end separates like a blank.
    text = text.replace("\n", " ").replace("\r", " ").strip()
    if not text:
        raise ConfigError('The expression is empty; write a condition like "chars > 20".')
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(
            f"The expression has {len(text):,} characters; up to {MOST_CHARACTERS:,} are read."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about "\d", which a regex may well hold
            tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        where = f" at character {error.offset}" if error.offset else ""
        raise ConfigError(f"The expression {text!r} can't be read{where}: {error.msg}.") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"The expression can't be read ({error or 'too deep'}).") from error
    stack, names = [(tree, 1)], {}
    while stack:
        node, depth = stack.pop()
        if depth > MOST_DEPTH:
            raise misplaced(text, node, f"More than {MOST_DEPTH} levels deep")
        name = check(text, node)
        if name is not None:
            names[name] = None
            continue
        children = list(ast.iter_child_nodes(node))[isinstance(node, ast.Call) :]
        stack += [(child, depth + 1) for child in reversed(children)]
    return Expression(text, tree, tuple(names))


def columns_in(expression: str) -> tuple[str, ...]:
    """Return the names of columns that an expression needs; raises like `parse`."""
    return parse(expression).columns


class _Value(NamedTuple):
    """What a node comes to: an array with an item a row, or a scalar for all."""

    kind: Kind
    data: Any
    node: ast.AST


class _Walk:
    """Computes the nodes of one expression on one table."""

    def __init__(self, text: str, table: pa.Table) -> None:
        self._text, self._table = text, table

    def value(self, node: ast.AST) -> _Value:
        """Return what a node comes to."""
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name() | ast.Attribute() | ast.Subscript():
                return self._column(node)
            case ast.BoolOp():
                join = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
                return _Value("truth", reduce(join, map(self._truth, node.values)), node)
            case ast.UnaryOp(op=ast.Not()):
                return _Value("truth", pc.invert(self._truth(node.operand)), node)
            case ast.UnaryOp():
                number = self._number(node.operand)
                data = pc.negate(number) if isinstance(node.op, ast.USub) else number
                return _Value("number", data, node)
            case ast.BinOp():
                compute = _ARITHMETIC[type(node.op)]
                data = compute(self._number(node.left), self._number(node.right))
                return _Value("number", data, node)
            case ast.Compare():
                sides = [node.left, *node.comparators]
                pairs = zip(sides, node.ops, sides[1:], strict=False)
                data = reduce(pc.and_kleene, (self._compare(*pair) for pair in pairs))
                return _Value("truth", data, node)
            case ast.Call(func=ast.Name(id=name)):
                return self._call(name, node)
        raise misplaced(self._text, node, "A list only stands behind `in`; here it stands")

    def of_kind(self, value: _Value, kind: Kind, why: str) -> Any:
        """Return the data of a value as one kind; raise where it is another."""
        if value.kind == kind:
            return value.data
        if value.kind == "nothing":
            return pa.scalar(None, _TYPES[kind])
        if value.kind == "field":
            return _READ[kind](value.data)
        if kind == "number" and value.kind == "truth":
            return pc.cast(value.data, pa.float64())
        what = f"{why} {_WORDS[value.kind]}, and {_WORDS[kind]} is needed,"
        raise misplaced(self._text, value.node, f"{what[0].upper()}{what[1:]}")

    def _truth(self, node: ast.AST) -> Any:
        return self.of_kind(self.value(node), "truth", "This is")

    def _number(self, node: ast.AST) -> Any:
        return self.of_kind(self.value(node), "number", "This is")

    def _texts(self, node: ast.AST) -> Any:
        return self.of_kind(self.value(node), "text", "This is")

    def _constant(self, node: ast.Constant) -> _Value:
        value: Any = node.value
        if value is None:
            return _Value("nothing", None, node)
        if isinstance(value, bool):
            return _Value("truth", pa.scalar(value), node)
        if isinstance(value, str):
            return _Value("text", _text_scalar(self._text, value, node), node)
        return _Value("number", pa.scalar(float(value), pa.float64()), node)

    def _column(self, node: ast.AST) -> _Value:
        name = check(self._text, node) or ""
        known = self._table.column_names
        at = name if name in known else f"{FIELD}{name}"
        if at not in known:
            where = f"column at character {place(self._text, node)} of {self._text!r}:"
            raise unknown(where, name, known)
        column = self._table.column(at).combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_boolean(column.type):
            return _Value("truth", column, node)
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            return _Value("number", pc.cast(column, pa.float64(), safe=False), node)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            return _Value("field" if at.startswith(FIELD) else "text", column, node)
        raise misplaced(self._text, node, f"The column {name} is {column.type}: not computed with,")

    def _compare(self, left: ast.AST, op: ast.cmpop, right: ast.AST) -> Any:
        if isinstance(op, ast.In | ast.NotIn):
            found = self._among(left, right)
            return pc.invert(found) if isinstance(op, ast.NotIn) else found
        a, b = self.value(left), self.value(right)
        if "nothing" in (a.kind, b.kind):
            if isinstance(op, ast.Eq | ast.Is | ast.NotEq | ast.IsNot):
                same = _is_null(a if b.kind == "nothing" else b)
                return same if isinstance(op, ast.Eq | ast.Is) else pc.invert(same)
            raise misplaced(self._text, right, "None has no order; it stands")
        if type(op) not in _COMPARE:
            raise misplaced(self._text, right, "`is` only goes with None; another value stands")
        kinds: list[Kind] = [value.kind for value in (a, b) if value.kind != "field"]
        if len(set(kinds)) > 1:
            what = f"{_WORDS[a.kind]} is compared with {_WORDS[b.kind]}"
            raise misplaced(self._text, left, f"{what[0].upper()}{what[1:]}")
        kind: Kind = kinds[0] if kinds else "text"
        if kind == "truth" and not isinstance(op, ast.Eq | ast.NotEq):
            raise misplaced(self._text, left, "True and false have no order; they are compared")
        return _COMPARE[type(op)](self.of_kind(a, kind, ""), self.of_kind(b, kind, ""))

    def _among(self, left: ast.AST, right: ast.AST) -> Any:
        """Return whether the left is one of a list, or a text in quotes is part of a text."""
        if not isinstance(right, ast.Tuple | ast.List | ast.Set):
            part = literal(left)
            if isinstance(right, ast.Constant) or not is_a(part, str):
                hint = 'Write `x in ("a", "b")` or `"part" in x`; another `in` stands'
                raise misplaced(self._text, right, hint)
            return pc.match_substring(self._texts(right), part)
        sought, items = self.value(left), [self.value(item) for item in right.elts]
        if not all(isinstance(i.data, pa.Scalar) or i.kind == "nothing" for i in items):
            raise misplaced(self._text, right, "A list holds plain values only; a column stands")
        every = (sought, *items)
        kinds: list[Kind] = [v.kind for v in every if v.kind not in ("field", "nothing")]
        if len(set(kinds)) > 1:
            raise misplaced(self._text, right, "A list of other types than what is sought stands")
        kind: Kind = kinds[0] if kinds else "text"
        data = self.of_kind(sought, kind, "")
        values = [i.data.as_py() for i in items if i.kind != "nothing"]
        if kind == "number":  # is_in tells -0.0 from 0.0; a sum has no -0.0
            data, values = pc.add(data, 0.0), [value + 0.0 for value in values]
        found = pc.is_in(data, value_set=pa.array(values, _TYPES[kind]))
        has_none = len(values) < len(items)
        null = pa.scalar(True if has_none else None, pa.bool_())
        return pc.if_else(pc.is_null(data), null, found)

    def _call(self, name: str, node: ast.Call) -> _Value:
        first = node.args[0]
        if name == "is_null":
            return _Value("truth", _is_null(self.value(first)), node)
        if name == "len":
            length = pc.cast(pc.utf8_length(self._texts(first)), pa.float64())
            return _Value("number", length, node)
        if name == "lower":
            return _Value("text", pc.utf8_lower(self._texts(first)), node)
        if name == "matches":
            found = pc.match_substring_regex(self._texts(first), literal(node.args[1]))
            return _Value("truth", found, node)
        compute = pc.min_element_wise if name == "min" else pc.max_element_wise
        return _Value("number", compute(*map(self._number, node.args), skip_nulls=False), node)


_TYPES: Mapping[str, pa.DataType] = {
    "number": pa.float64(),
    "text": pa.string(),
    "truth": pa.bool_(),
}


def _is_null(value: _Value) -> Any:
    return pa.scalar(True) if value.kind == "nothing" else pc.is_null(value.data)


def _text_scalar(text: str, value: str, node: ast.AST) -> pa.Scalar:
    try:
        return pa.scalar(value, pa.string())
    except UnicodeEncodeError as error:
        raise misplaced(text, node, "Text that is not valid Unicode") from error


def _numbers(texts: Any) -> Any:
    """Return the numbers that texts spell, null for the others."""
    trimmed = pc.utf8_trim_whitespace(texts)
    spelled = pc.if_else(pc.match_substring_regex(trimmed, _NUMBER), trimmed, None)
    return pc.cast(pc.utf8_ltrim(spelled, characters="+"), pa.float64())


def _truths(texts: Any) -> Any:
    """Return what "true" and "false" say, null for the others."""
    word = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    known = pc.is_in(word, value_set=pa.array(["true", "false"]))
    return pc.if_else(known, pc.equal(word, "true"), None)


_READ: Mapping[str, Callable[[Any], Any]] = {
    "number": _numbers,
    "truth": _truths,
    "text": lambda texts: texts,
}
