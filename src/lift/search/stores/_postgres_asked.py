"""PostgreSQL: filters as SQL, the nearest by an index told how thorough to be, values of facts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32
from psycopg import sql
from psycopg.types.json import Jsonb

from lift.errors import ConfigError
from lift.search.filters import Condition, Filter
from lift.search.stores._postgres import Connections, Piece, Statement, name
from lift.search.stores._store import MOST_FACTS, MOST_VALUES
from lift.search.terms import FactRange

_COMPARED = {"<": sql.SQL("<"), "<=": sql.SQL("<="), ">": sql.SQL(">"), ">=": sql.SQL(">=")}


def condition(value: sql.Composable, values: list[Any], asked: Condition, lower: str) -> Piece:
    """Return a condition on a fact as SQL.

    Args:
        value: an expression of type jsonb, null where the fact is missing, and
        values: those of its placeholders.
        asked: the condition.
        lower: the collation that knows capitals of all alphabets, "" for the database's own.
    """
    if asked.operator in ("=", "!="):
        truth = "is true" if asked.operator == "=" else "is not true"
        made = sql.SQL("(({} = any(%s::jsonb[])) " + truth + ")").format(value)
        return made, [*values, [Jsonb(one) for one in asked.values]]
    if asked.operator == "~":
        of = sql.SQL(" collate {}").format(name(lower)) if lower else sql.SQL("")
        made = sql.SQL(
            "coalesce((select jsonb_typeof(v) = 'string' and exists (select from "
            "unnest(%s::text[]) w where position(lower(w{of}) in lower((v #>> '{{}}'){of})) > 0) "
            "from (select {} as v) x), false)"
        ).format(value, of=of)
        return made, [[str(one) for one in asked.values], *values]
    made = sql.SQL(
        "coalesce((select case when jsonb_typeof(v) = 'number' then (v #>> '{{}}')::numeric {} "
        "%s::numeric else false end from (select {} as v) x), false)"
    ).format(_COMPARED[asked.operator], value)
    return made, [repr(asked.values[0]), *values]


def require_without_nul(where: Filter) -> None:
    """Raise ConfigError for a filter with a value that no database holds."""
    for asked in where.conditions:
        for value in asked.values:
            if isinstance(value, str) and not storable(value):
                raise ConfigError(f"A value of {asked.fact} in a filter is no text of a database.")


def storable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def vector(z: Float32[np.ndarray, " d"]) -> str:
    """Return a vector as pgvector reads it, to the last bit."""
    return f"[{','.join(map(repr, z.tolist()))}]"


_STEPS = (0, 8)
"""pgvector from here on goes on searching an index where a filter leaves too few rows."""


def nearest(
    connections: Connections,
    query: Statement,
    values: Sequence[Any],
    top: int,
    exact: bool,
    again: bool = False,
) -> list[tuple[Any, ...]]:
    """Return the rows of a statement that orders by nearness, told how thorough to be.

    Args:
        connections: to the database.
        query, values: the statement.
        top: rows that it asks for.
        exact: go past approximate indexes.
        again: ask exactly if fewer than `top` come. pgvector gives up on an index after some
            20,000 rows, so that a filter that few rows meet would seem to be met by none.
    """
    settings = {"jit": "off", "hnsw.ef_search": str(min(max(top, 40), 1000))}
    if connections.pgvector >= _STEPS:
        settings |= {"hnsw.iterative_scan": "strict_order"}
        settings |= {"ivfflat.iterative_scan": "relaxed_order"}
    if exact:
        settings["enable_indexscan"] = "off"
    set_all = sql.SQL(", ").join([sql.SQL("set_config(%s, %s, true)")] * len(settings))
    told = [word for pair in settings.items() for word in pair]
    with connections.reader() as connection:
        connection.execute(sql.SQL("select {}").format(set_all), told)
        found = connection.execute(query, list(values)).fetchall()
        if again and not exact and len(found) < top:
            connection.execute("set local enable_indexscan = off")
            found = connection.execute(query, list(values)).fetchall()
    return found


_RANGES = """
with e as (select e.key as k, e.value as v, jsonb_typeof(e.value) as t
  from ({objects}) x(o), jsonb_each(x.o) e
  where jsonb_typeof(e.value) in ('string', 'number', 'boolean')),
numbers as (select k, min((v #>> '{{}}')::numeric)::text as low,
  max((v #>> '{{}}')::numeric)::text as high from e where t = 'number' group by k),
totals as (select k, count(*) as items from e group by k),
common as (select k, jsonb_agg(jsonb_build_array(v, n) order by r) as pairs from
  (select k, v, count(*) as n,
   row_number() over (partition by k order by count(*) desc, v) as r
   from e where t <> 'number' and length(v::text) <= 200 group by k, v) c
  where r <= %s group by k)
select totals.k, items, low, high, pairs
from totals left join numbers using (k) left join common using (k) order by totals.k limit %s"""


def ranges(connections: Connections, objects: Sequence[sql.Composable]) -> dict[str, FactRange]:
    """Return what values facts have, in statements that give an object of them a row."""
    made = sql.SQL(_RANGES).format(objects=sql.SQL(" union all ").join(objects))
    found = connections.rows(made, (MOST_VALUES, MOST_FACTS))
    return {
        fact: FactRange(
            values=tuple((value, count) for value, count in pairs or ()),
            low=None if low is None else max(float(low), -sys.float_info.max),
            high=None if high is None else min(float(high), sys.float_info.max),
            items=items,
        )
        for fact, items, low, high, pairs in found
    }
