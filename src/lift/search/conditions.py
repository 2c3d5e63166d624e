"""Filters in the words of SQLite."""

from __future__ import annotations

from typing import Any

from lift.search.filters import Condition, Filter


def sql(where: Filter) -> tuple[str, list[Any]]:
    """Return a condition on `items` with a mark for each value, and the values."""
    clauses, values = ["1"], []
    for condition in where.conditions:
        inner, own = _clause(condition)
        no = "NOT " if condition.operator == "!=" else ""
        clauses.append(
            f"{no}EXISTS (SELECT 1 FROM facts WHERE item = items.id AND name = ? AND ({inner}))"
        )
        values += [condition.fact, *own]
    return " AND ".join(clauses), values


def _clause(condition: Condition) -> tuple[str, list[Any]]:
    """Return what one fact's value has to meet."""
    if condition.operator in ("<", "<=", ">", ">="):
        kinds = "NOT truth AND typeof(value) IN ('integer', 'real')"
        return f"{kinds} AND value {condition.operator} ?", [condition.values[0]]
    if condition.operator == "~":
        each = ["instr(folded(value), ?) > 0"] * len(condition.values)
        wanted = [str(value).casefold() for value in condition.values]
        return f"typeof(value) = 'text' AND ({' OR '.join(each)})", wanted
    each, values = [], []
    for value in condition.values:  # SQLite keeps 1, 1.0 and '1' apart by type; true is an integer
        each.append(
            "(truth AND value = ?)" if isinstance(value, bool) else "(NOT truth AND value = ?)"
        )
        values.append(int(value) if isinstance(value, bool) else value)
    return " OR ".join(each), values
