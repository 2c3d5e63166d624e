"""A PostgreSQL table of texts and their vectors: what it looks like, read and searched."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32
from psycopg import sql

from lift.errors import ConfigError
from lift.search.filters import Filter
from lift.search.stores import _postgres as pg
from lift.search.stores import _postgres_asked as sqls
from lift.search.stores._postgres import Connections, Piece, name
from lift.search.stores._store import SHOWN, Layout, NearText, TextRow, chosen_text, plain

_TEXTS = ("text", "character varying", "character", "citext", "name")
_FACTS = (*_TEXTS, "boolean", "smallint", "integer", "bigint", "real", "double precision")
_FACTS += ("numeric", "date", "timestamp", "uuid")
_ORDER = {"inner product": sql.SQL("<#>"), "l2": sql.SQL("<->")}
_ORDER |= {"cosine": sql.SQL("<=>"), "": sql.SQL("<=>")}
_QUERY = {"vector": sql.SQL("%s::vector"), "halfvec": sql.SQL("%s::halfvec")}
_VECTORS = re.compile(r"(vector|halfvec)(\(\d+\))?")
_SMALL = 200_000
"""Rows that may be numbered to take some spread over all of them."""


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Options of the table of texts.

    Attributes:
        url: of the database (`postgresql://user@host/db`, or `host=... dbname=...`); what it
            leaves out comes from the usual environment (PGPASSWORD, a password file).
        table: of texts and their vectors; `schema.table` where need be.
        id: its column of unique ids; the primary key if not given.
        vector: its column of vectors; the only one if not given.
        text: its column of texts; the only one if not given.
        facts: columns that filters may ask for, a `jsonb` among them standing for its fields; all
            of simple types if not given.
        exact: whether to go past approximate indexes.
        unit: whether the stored vectors have unit length, so that any index of theirs gives the
            order of cosines; attaching finds it out.
    """

    url: str
    table: str
    id: str = ""
    vector: str = ""
    text: str = ""
    facts: tuple[str, ...] = ()
    exact: bool = False
    unit: bool = False


class TextRows:
    """The table that another program writes; nothing here does."""

    words: str
    dimensions: int | None
    unit: bool

    def __init__(self, db: Connections, config: TextConfig) -> None:
        self._db, self._config = db, config
        self._table = pg.look_up(self._db, config.table)
        self.words = f"{config.table} in {self._db.words}"
        self._id = self._column("id", config.id or self._table.primary)
        self._vector, self._type, self.dimensions = self._vectors(config.vector)
        self._sized = self.dimensions is not None
        self._text, self._candidates = self._texts(config.text)
        self._columns, self._objects = self._facts(config.facts)
        self.unit = config.unit
        self._from = name(self._table.schema, self._table.table)
        self._lower = pg.capitals(db)
        self._metric = pg.metric_of(self._db, self._table, self._vector)

    def _column(self, what: str, told: str) -> str:
        columns = self._table.columns
        if not told:
            raise ConfigError(
                f"The table {self._config.table} has no primary key of one column; name its column "
                f"of unique ids with {what}=: {', '.join(columns)}."
            )
        if told not in columns:
            raise ConfigError(
                f"The table {self._config.table} has no column {told!r}: {', '.join(columns)}."
            )
        return told

    def _vectors(self, told: str) -> tuple[str, str, int | None]:
        columns = self._table.columns
        bare = {column: kind.rpartition(".")[2] for column, kind in columns.items()}
        fits = [column for column, kind in bare.items() if _VECTORS.fullmatch(kind)]
        if not told and len(fits) != 1:
            raise ConfigError(
                f"The table {self._config.table} has {len(fits)} columns of vectors "
                f"({', '.join(fits) or 'none of type vector or halfvec'}); name one with vector=."
            )
        column = self._column("vector", told or fits[0])
        if column not in fits:
            raise ConfigError(
                f"The column {column} of {self._config.table} is of type {columns[column]}, not "
                "vector or halfvec."
            )
        kind, _, size = bare[column].rstrip(")").partition("(")
        return column, kind, int(size) if size else None

    def _texts(self, told: str) -> tuple[str, tuple[str, ...]]:
        fits = [c for c, kind in self._table.columns.items() if _of(kind, _TEXTS)]
        if told:
            return self._column("text", told), ()
        others = [column for column in fits if column != self._id]
        return chosen_text(others)

    def _facts(self, told: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the columns that are facts, and those whose fields are."""
        columns = self._table.columns
        asked = [self._column("facts", one) for one in told] or [
            c for c in columns if c not in (self._id, self._vector, self._text)
        ]
        objects = [column for column in asked if columns[column] in ("json", "jsonb")]
        simple = [c for c in asked if c not in objects and (told or _of(columns[c], _FACTS))]
        return simple, objects

    def layout(self) -> Layout:
        """Return what the rows are."""
        rows = distinct = self.count_texts()
        if self._id != self._table.primary:
            made = sql.SQL("select count(distinct {}) from {}").format(name(self._id), self._from)
            distinct = self._db.rows(made)[0][0]
        if rows != distinct:
            raise ConfigError(
                f"The column {self._id} of {self.words} is no id: {rows:,} rows have {distinct:,} "
                "values in it; name another with id=."
            )
        width = self.dimensions
        if width is None:
            found = self._db.rows(
                sql.SQL(
                    "select vector_dims({v}), count(*) from {t} where {v} is not null "
                    "group by 1 order by 2 desc limit 2"
                ).format(v=name(self._vector), t=self._from)
            )
            if len(found) > 1:
                raise ConfigError(
                    f"The column {self._vector} of {self.words} holds vectors of {found[0][0]} and "
                    f"of {found[1][0]} numbers; name a column or view with those of one space."
                )
            width = self.dimensions = found[0][0] if found else None
        return Layout(
            dimensions=width,
            rows=rows,
            metric=self._metric,
            text=self._text,
            columns=self._candidates,
        )

    def _object(self) -> sql.Composable:
        """Return an expression for all facts of a text row, as an object."""
        whole = sql.SQL("'{{}}'::jsonb").format()
        for column in self._objects:
            whole = sql.SQL(
                "{} || case when jsonb_typeof({o}) = 'object' then {o} else '{{}}'::jsonb end"
            ).format(whole, o=self._opened(column))
        for column in self._columns:
            one = sql.SQL("jsonb_build_object({}::text, to_jsonb({}))")
            key = sql.Literal(column.replace("%", "%%"))
            whole = sql.SQL("{} || {}").format(whole, one.format(key, name(column)))
        return sql.SQL(
            "(select coalesce(jsonb_object_agg(e.key, e.value), '{{}}') from jsonb_each({}) e "
            "where jsonb_typeof(e.value) in ('string', 'number', 'boolean') "
            "and length(e.value::text) < 20000)"
        ).format(whole)

    def _opened(self, column: str) -> sql.Composable:
        if self._table.columns[column] == "jsonb":
            return name(column)
        # json keeps what jsonb refuses: the character NUL, spelled out
        return sql.SQL(
            "(case when {c}::text like '%%\\u0000%%' then null else {c}::jsonb end)"
        ).format(c=name(column))

    def _where(self, where: Filter | None) -> Piece:
        pieces: list[sql.Composable] = [sql.SQL("true")]
        values: list[Any] = []
        for asked in (where or Filter()).conditions:
            found: list[sql.Composable] = []
            told: list[Any] = []
            if asked.fact in self._columns:
                found.append(sql.SQL("to_jsonb({})").format(name(asked.fact)))
            for column in reversed(self._objects):  # as `_object` lays them over one another
                found.append(sql.SQL("({} -> %s::text)").format(self._opened(column)))
                told.append(asked.fact)
            whole = sql.SQL("coalesce(null::jsonb, {})").format(
                sql.SQL(", ").join(found or [sql.SQL("null")])
            )
            piece, more = sqls.condition(whole, told, asked, self._lower)
            pieces.append(piece)
            values += more
        if where:
            sqls.require_without_nul(where)
        return sql.SQL(" and ").join(pieces), values

    def _read(self, rest: sql.Composable, values: Sequence[Any], rows: bool) -> list[TextRow]:
        vector = sql.SQL("{}::vector::real[]").format(name(self._vector))
        found = self._db.rows(
            sql.SQL("select {id}::text as found, {text}, {facts}, {vector} from {t} {rest}").format(
                id=name(self._id),
                text=_start(name(self._text)) if self._text else sql.SQL("''"),
                facts=self._object(),
                vector=vector if rows else sql.SQL("null"),
                t=self._from,
                rest=rest,
            ),
            values,
        )
        return [
            TextRow(key, text, plain(facts), None if row is None else np.array(row, np.float32))
            for key, text, facts, row in found
        ]

    def sample(self, count: int) -> list[TextRow]:
        """Return rows spread over the table, with vectors."""
        counted = sql.SQL("select count({}) from {}").format(name(self._vector), self._from)
        total = self._db.rows(counted)[0][0]
        if total > _SMALL:  # by a hash of the id: numbering them all would sort them
            step = max(total // (count * 4), 1)
            rest = sql.SQL(
                "where {v} is not null and hashtextextended({id}::text, 0) %% {step} = 0 "
                "order by hashtextextended({id}::text, 1) limit {n}"
            )
        else:
            step = max(total // count, 1)
            rest = sql.SQL(
                "where {id} in (select {id} from (select {id}, row_number() over (order by {id}) "
                "as n from {t} where {v} is not null) x where (n - 1) %% {step} = 0) limit {n}"
            )
        made = rest.format(
            id=name(self._id), v=name(self._vector), t=self._from, step=step, n=count
        )
        return self._read(made, (), True)

    def _with_ids(self, keys: Sequence[str]) -> Piece:
        """Return the condition that a row's id is one of some texts, by its index if it can."""
        kind = self._table.columns[self._id]
        if kind in ("smallint", "integer", "bigint"):
            most = 2 ** {"smallint": 15, "integer": 31, "bigint": 63}[kind]
            numbers = [int(key) for key in keys if _whole(key) and -most <= int(key) < most]
            return sql.SQL("{} = any(%s::bigint[])").format(name(self._id)), [numbers]
        if kind == "uuid":
            return sql.SQL("{} = any(%s::uuid[])").format(name(self._id)), [
                [key for key in keys if _canonical(key)]
            ]
        texts = [key for key in keys if sqls.storable(key)]
        of = "{} = any(%s::text[])" if kind == "text" else "{}::text = any(%s::text[])"
        return sql.SQL(of).format(name(self._id)), [texts]

    def texts(self, keys: Sequence[str], *, rows: bool = False) -> dict[str, TextRow]:
        """Return the text rows of these ids."""
        if not keys:
            return {}
        which, values = self._with_ids(keys)
        found = self._read(sql.SQL("where {}").format(which), values, rows)
        return {one.key: one for one in found}

    def near_texts(
        self, z: Float32[np.ndarray, " d"], top: int, where: Filter | None = None
    ) -> list[NearText]:
        """Return the nearest rows; by their own index, if it has the order of cosines."""
        order = _ORDER[self._metric if self.unit else ""]
        conditions, told = self._where(where)
        same = sql.SQL("") if self._sized else sql.SQL("and vector_dims({v}) = {n}")
        # Long texts are only read of the rows that are found, and cosines are those of float32.
        made = sql.SQL(
            "select found, 1 - (v::vector <=> %s::vector), {shown} from ("
            "select {id}::text as found, {v} as v, {text} as shown from {t} where {v} is not null "
            "{same} and {conditions} order by {v} {order} {q} limit {top}) x"
        ).format(
            id=name(self._id),
            v=name(self._vector),
            q=_QUERY[self._type],
            order=order,
            text=name(self._text) if self._text else sql.SQL("''"),
            shown=_start(sql.SQL("shown")),
            t=self._from,
            same=same.format(v=name(self._vector), n=len(z)),
            conditions=conditions,
            top=top,
        )
        vector = sqls.vector(z)
        found = sqls.nearest(
            *(self._db, made, [vector, *told, vector], top, self._config.exact),
            again=bool(where and (self._metric or self._id != self._table.primary)),  # or a view
        )
        near = [NearText(*row) for row in found if row[1] == row[1]]  # NaN: a row of zeros
        return sorted(near, key=lambda one: -one.cosine)

    def browse_texts(self, start: int, count: int, where: Filter | None = None) -> list[TextRow]:
        """Return rows in the order of their ids."""
        conditions, told = self._where(where)
        rest = sql.SQL("where {} order by {} offset {} limit {}").format(
            conditions, name(self._id), max(start, 0), max(count, 0)
        )
        return self._read(rest, told, False)

    def count_texts(self, where: Filter | None = None) -> int:
        """Return how many rows meet a filter."""
        conditions, told = self._where(where)
        made = sql.SQL("select count(*) from {} where {}").format(self._from, conditions)
        return self._db.rows(made, told)[0][0]


def _start(text: sql.Composable) -> sql.Composed:
    return sql.SQL("left(coalesce({}::text, ''), {})").format(text, SHOWN)


def _of(kind: str, kinds: Sequence[str]) -> bool:
    """Return whether a type as PostgreSQL writes it ("timestamp(3) with time zone") is of some."""
    bare = kind.partition("(")[0].strip()
    return bare.endswith("[]") is False and any(
        bare == one or bare.startswith(f"{one} with") for one in kinds
    )


def _whole(key: str) -> bool:
    bare = key.removeprefix("-")
    return key.isascii() and len(key) < 20 and bare.isdigit() and str(int(key)) == key


def _canonical(key: str) -> bool:
    try:
        return str(uuid.UUID(key)) == key
    except ValueError:
        return False
