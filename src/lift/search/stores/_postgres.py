"""PostgreSQL: connections that can only read, names in statements, what a table looks like.

Values travel as bound parameters, names as quoted identifiers; nothing else gets into a statement.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lift.errors import ConfigError, ServerError

_SAVED = ("host", "hostaddr", "port", "dbname", "user", "sslmode", "sslrootcert", "service")
"""What may be written into a file that others read."""

_MOST_CONNECTIONS = 8
_WAIT = 10
_NAME_BYTES = 63
"""PostgreSQL cuts longer names silently."""

Statement: TypeAlias = "sql.SQL | sql.Composed"

Piece = tuple[sql.Composable, list[Any]]
"""A part of a statement with the values of its placeholders."""


def read_url(url: str) -> dict[str, str]:
    """Return the parts of a connection's URL or words.

    Raises:
        ConfigError: it can't be read; the message does not repeat it, for it may hold a password.
    """
    with contextlib.suppress(psycopg.Error, UnicodeError, ValueError):
        parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        ports = parts.get("port", "").split(",")
        int(parts.get("connect_timeout") or 0)
        if not _torn(url) and all(port.isdigit() or not port for port in ports):
            return parts
    raise ConfigError(
        "The database's address can't be read; write postgresql://USER@HOST:PORT/DATABASE "
        "(signs other than letters and digits in a password as %20)."
    )


def _torn(url: str) -> bool:
    """Return whether the rest of a password would be taken for a host or a database, and shown.

    libpq ends a password at the first `@`, and a user at the first `/`.
    """
    before, _, after = url.partition("://")[2].partition("?")[0].partition("@")
    return "@" in after or bool(after and "/" in before)


def saved_url(url: str) -> str:
    """Return an address that holds no password, and nothing that names a file of keys."""
    return make_conninfo(**{name: v for name, v in read_url(url).items() if name in _SAVED})


def words_of(url: str) -> str:
    """Return which database an address means, for people."""
    parts = read_url(url)
    if "service" in parts and "host" not in parts:
        return f"the service {parts['service']}"
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    return f"{parts.get('dbname') or 'the database'} at {host}"


class Connections:
    """A few connections to one database, lent to whoever asks; they can only read.

    The one that writes is made by `writer`.
    """

    def __init__(self, url: str) -> None:
        self._url, self._parts = url, read_url(url)
        self.words = words_of(url)
        self._idle: list[psycopg.Connection[Any]] = []
        self._lock = threading.Lock()
        self._places = threading.Semaphore(_MOST_CONNECTIONS)

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Turn what PostgreSQL says into a ServerError without the password."""
        try:
            yield
        except psycopg.Error as error:
            raise ServerError(f"PostgreSQL ({self.words}) says: {self._plain(error)}.") from None

    def _plain(self, error: BaseException) -> str:
        text = (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".")[:500]
        for secret in (self._parts.get("password"), self._parts.get("sslpassword")):
            if secret:
                text = text.replace(secret, "***")
        return text

    def _open(self) -> psycopg.Connection[Any]:
        wait = int(self._parts.get("connect_timeout") or _WAIT)
        made = psycopg.connect(self._url, autocommit=True, connect_timeout=wait)
        made.prepare_threshold = None  # poolers between us and the server forget them
        return made

    @contextlib.contextmanager
    def reader(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend a connection in a transaction in which the server refuses every write.

        Nothing is set for longer: a pooler may give the session to another program afterwards.
        """
        with self._places, self.told():
            found = self._begun()
            try:
                yield found
                found.execute("commit")
            except BaseException:
                found.close()
                raise
            with self._lock:
                self._idle.append(found)

    def _begun(self) -> psycopg.Connection[Any]:
        """Return a connection with such a transaction; those that the server ended go."""
        while True:
            with self._lock:
                idle = self._idle.pop() if self._idle else None
            found = idle or self._open()
            try:
                found.execute("begin read only")
                return found
            except psycopg.Error:
                found.close()
                if idle is None:
                    raise

    @functools.cached_property
    def pgvector(self) -> tuple[int, ...]:
        """The version of pgvector; () for none."""
        query = "select extversion from pg_extension where extname = 'vector'"
        found = self.rows(sql.SQL(query))
        return tuple(int(n) for n in str(found[0][0]).split(".") if n.isdigit()) if found else ()

    def rows(self, query: Statement, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of one statement that reads."""
        with self.reader() as connection:
            return connection.execute(query, list(values)).fetchall()

    @contextlib.contextmanager
    def writer(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend a new connection that may write; it is closed afterwards."""
        with self.told(), contextlib.closing(self._open()) as connection:
            yield connection

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            for connection in self._idle:
                connection.close()
            self._idle.clear()


def name(*parts: str) -> sql.Composable:
    """Return a quoted name; a per cent sign in it is no placeholder."""
    return sql.Identifier(*(part.replace("%", "%%") for part in parts))


def beside(table: str, ending: str) -> str:
    """Return the name of a table beside another, as far as PostgreSQL takes long names."""
    whole = f"{table}_lift_{ending}"
    if len(whole.encode()) <= _NAME_BYTES:
        return whole
    tag = hashlib.blake2b(table.encode(), digest_size=4).hexdigest()
    room = _NAME_BYTES - len(f"_{tag}_lift_{ending}")
    return f"{table.encode()[:room].decode(errors='ignore')}_{tag}_lift_{ending}"


@dataclass(frozen=True)
class Table:
    """A table as the catalogue describes it.

    Attributes:
        schema, table: its name.
        columns: of each column its type ("text", "vector(384)").
        primary: the column of its primary key, "" where that is none or several.
    """

    schema: str
    table: str
    columns: dict[str, str]
    primary: str


_CLASS = """
select n.nspname, c.relname, c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relname = %s
and case when %s = '' then pg_table_is_visible(c.oid) else n.nspname = %s end"""

_COLUMNS = """
select a.attname, case when t.typtype = 'd' then format_type(t.typbasetype, t.typtypmod)
else format_type(a.atttypid, a.atttypmod) end
from pg_attribute a join pg_type t on t.oid = a.atttypid
where a.attrelid = %s and a.attnum > 0 and not a.attisdropped order by a.attnum"""

_PRIMARY = """
select a.attname from pg_index i join pg_attribute a on a.attrelid = i.indrelid
and a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1])
where i.indrelid = %s and i.indisprimary"""


def look_up(connections: Connections, words: str) -> Table:
    """Return the table of a name, which may have its schema before it.

    Raises:
        ConfigError: there is none.
    """
    if "\0" in words:
        raise ConfigError("The name of a table holds the character NUL.")
    schema, _, rest = words.partition(".")
    with connections.reader() as connection:
        found = connection.execute(_CLASS, (words, "", "")).fetchone()
        if found is None and rest:
            found = connection.execute(_CLASS, (rest, schema, schema)).fetchone()
        if found is None:
            raise ConfigError(
                f"There is no table {words!r} in {connections.words}; write it as SCHEMA.TABLE "
                "where it is not on the search path."
            )
        columns = dict(connection.execute(_COLUMNS, (found[2],)).fetchall())
        primary = [row[0] for row in connection.execute(_PRIMARY, (found[2],)).fetchall()]
    return Table(found[0], found[1], columns, primary[0] if len(primary) == 1 else "")


def metric_of(connections: Connections, table: Table, column: str) -> str:
    """Return what a vector column's index goes by: "cosine", "inner product", "l2", or ""."""
    found = connections.rows(
        sql.SQL(
            "select o.opcname from pg_index i join pg_class c on c.oid = i.indrelid "
            "join pg_namespace n on n.oid = c.relnamespace "
            "join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0] "
            "join pg_opclass o on o.oid = i.indclass[0] "
            "where n.nspname = %s and c.relname = %s and a.attname = %s and i.indisvalid"
        ),
        (table.schema, table.table, column),
    )
    known = {"cosine": "cosine", "ip": "inner product", "l2": "l2"}
    for (operators,) in found:
        for ending, metric in known.items():
            if operators.endswith(f"_{ending}_ops"):
                return metric
    return ""


def require_pgvector(connections: Connections) -> None:
    """Raise ConfigError where the database has no vectors."""
    if not connections.pgvector:
        raise ConfigError(f"{connections.words} has no pgvector: CREATE EXTENSION vector.")


def capitals(connections: Connections) -> str:
    """Return a collation that knows the capitals of all alphabets; "" where there is none."""
    known = connections.rows(
        sql.SQL(
            "select collname from pg_collation where collname in ('pg_c_utf8', 'und-x-icu') "
            "and collencoding in (-1, (select encoding from pg_database "
            "where datname = current_database())) order by collname"
        )
    )
    return known[0][0] if known else ""
