"""The PostgreSQL table of images beside a table of texts: all of a key is written, or nothing."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import psycopg
from jaxtyping import Float32
from psycopg import sql
from psycopg.types.json import Jsonb

from lift.errors import ConfigError, StorageError
from lift.search.filters import Filter
from lift.search.stores import _postgres as pg
from lift.search.stores import _postgres_asked as sqls
from lift.search.stores._postgres import Connections, Piece, name
from lift.search.stores._store import Entry, Known, NearImage, Place, plain

_LONGEST_INDEXED = 2_000
"""Dimensions that pgvector's index of type vector takes."""

_CREATE = (
    """create table if not exists {images} (
  id bigint generated always as identity primary key,
  key text not null,
  number int not null,
  item text not null,
  link text,
  content text not null,
  embedding vector({n}) not null,
  facts jsonb not null,
  asked jsonb not null,
  thumbnail bytea,
  unique (key, number))""",
    "create index if not exists {by_item} on {images} (item)",
    """create table if not exists {about} (
  one boolean primary key default true check (one), about jsonb not null)""",
)
"""`item` is the key of the text row where there is one, else its own; `asked` are the facts that
filters see, `facts` those that came with the images."""


class ImageRows:
    """The table that attaching makes and writes."""

    def __init__(self, db: Connections, schema: str, table: str, exact: bool) -> None:
        self._db, self._exact = db, exact
        self._schema, self._names = schema, {of: pg.beside(table, of) for of in _BESIDE}
        self._images = name(schema, self._names["images"])
        self._about = name(schema, self._names["about"])
        self._writer: psycopg.Connection[Any] | None = None
        self._one_writes = threading.RLock()

    # --- searching ---

    def _asking(self, where: Filter | None) -> Piece:
        pieces: list[sql.Composable] = [sql.SQL("true")]
        values: list[Any] = []
        if where:
            sqls.require_without_nul(where)
        for asked in (where or Filter()).conditions:
            value = sql.SQL("(asked -> %s::text)")
            piece, more = sqls.condition(value, [asked.fact], asked, self._capitals)
            pieces.append(piece)
            values += more
        return sql.SQL(" and ").join(pieces), values

    @property
    def _capitals(self) -> str:
        return self._lower  # type: ignore[attr-defined]  # both tables are of one database

    def near_images(
        self, z: Float32[np.ndarray, " d"], top: int, where: Filter | None = None
    ) -> list[NearImage]:
        """Return the nearest images."""
        conditions, told = self._asking(where)
        made = sql.SQL(
            "select item, 1 - (embedding <=> %s::vector), key, number from {} where {} "
            "order by embedding <=> %s::vector limit {}"
        ).format(self._images, conditions, top)
        vector = sqls.vector(z)
        table = pg.Table(self._schema, self._names["images"], {}, "")
        found = sqls.nearest(
            *(self._db, made, [vector, *told, vector], top, self._exact),
            again=bool(where and pg.metric_of(self._db, table, "embedding")),
        )
        return [NearImage(*row) for row in found if row[1] == row[1]]

    # --- looking up ---

    def count_alone(self, where: Filter | None = None) -> int:
        """Return how many items of images belong to no text row and meet a filter."""
        conditions, told = self._asking(where)
        made = sql.SQL("select count(*) from {} where link is null and number = 0 and {}")
        return self._db.rows(made.format(self._images, conditions), told)[0][0]

    def own_facts(self, most: int) -> sql.Composable:
        """Return a statement that gives the facts of each key."""
        made = sql.SQL("(select facts from {} where number = 0 limit {})")
        return made.format(self._images, most)

    def browse_images(self, start: int, count: int, where: Filter | None = None) -> list[str]:
        """Return items of images that belong to no text row."""
        conditions, told = self._asking(where)
        made = sql.SQL(
            "select item from {} where link is null and number = 0 and {} order by id "
            "offset {} limit {}"
        ).format(self._images, conditions, max(start, 0), max(count, 0))
        return [row[0] for row in self._db.rows(made, told)]

    def images_of(self, items: Sequence[str]) -> dict[str, list[Place]]:
        """Return where the images of items lie, in order."""
        made = sql.SQL(
            'select item, key, number, facts from {} where item = any(%s) order by key collate "C",'
            " number"
        ).format(self._images)
        found: dict[str, list[Place]] = {}
        for item, key, number, facts in self._db.rows(made, [_texts(items)]):
            found.setdefault(item, []).append(Place(key, number, plain(facts)))
        return found

    def image_rows(self, item: str) -> Float32[np.ndarray, "n d"]:
        """Return the vectors of an item's images."""
        return self._rows("item", item)

    def rows_of(self, key: str) -> Float32[np.ndarray, "n d"]:
        """Return the vectors that are stored under a key."""
        return self._rows("key", key)

    def _rows(self, column: str, value: str) -> Float32[np.ndarray, "n d"]:
        made = sql.SQL(
            'select embedding::real[] from {} where {} = any(%s) order by key collate "C", number'
        ).format(self._images, name(column))
        found = [row[0] for row in self._db.rows(made, [_texts([value])])]
        return np.array(found, np.float32).reshape(len(found), -1 if found else 0)

    def thumbnail(self, item: str, number: int) -> bytes | None:
        """Return a small JPEG of an item's image."""
        if not 0 <= number < 2**31:
            return None
        made = sql.SQL(
            'select thumbnail from {} where item = any(%s) order by key collate "C", number '
            "offset {} limit 1"
        ).format(self._images, number)
        found = self._db.rows(made, [_texts([item])])
        return bytes(found[0][0]) if found and found[0][0] is not None else None

    def about(self) -> dict[str, Any] | None:
        """Return what was said of the images' model; None where nothing was attached yet."""
        there = self._db.rows(
            sql.SQL("select from pg_tables where schemaname = %s and tablename = %s"),
            (self._schema, self._names["about"]),
        )
        found = self._db.rows(sql.SQL("select about from {}").format(self._about)) if there else []
        return found[0][0] if found else None

    def known(self, keys: Sequence[str]) -> dict[str, Known]:
        """Return what is stored under these keys."""
        made = sql.SQL(
            "select key, array_agg(content order by number), min(link), "
            "(array_agg(facts))[1], (array_agg(asked))[1] from {} where key = any(%s) group by key"
        ).format(self._images)
        return {
            key: Known(tuple(contents), link, plain(facts), plain(asked))
            for key, contents, link, facts, asked in self._db.rows(made, [_texts(keys)])
        }

    # --- writing ---

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to write, which goes with the connection, however it ends."""
        with self._one_writes:  # threads wait, other processes are told
            if self._writer is not None:
                yield
                return
            with self._locked():
                yield

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        words = "/".join((self._schema, self._names["images"])).encode()
        lock = int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), signed=True)
        with self._db.writer() as connection:
            held = connection.execute("select pg_try_advisory_lock(%s::bigint)", (lock,)).fetchone()
            if not (held and held[0]):
                raise StorageError(
                    f"Another process is attaching images to {self._words}; wait for it."
                )
            self._writer = connection
            try:
                yield
            finally:
                self._writer = None
                with contextlib.suppress(psycopg.Error):  # else it goes some time after closing
                    connection.execute("select pg_advisory_unlock(%s::bigint)", (lock,))

    @property
    def _words(self) -> str:
        return self.words  # type: ignore[attr-defined]  # of the table of texts

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection[Any]]:
        with self.writing():
            assert self._writer is not None
            with self._db.told(), self._writer.transaction():
                yield self._writer

    def prepare(self, about: Mapping[str, Any], dimensions: int) -> None:
        """Make the tables of images, whole or not at all."""
        named = {"images": self._images, "about": self._about, "n": dimensions}
        named["by_item"] = name(self._names["by_item"])
        with self._transaction() as connection:
            connection.execute("set local client_min_messages = warning")
            for statement in _CREATE:
                connection.execute(sql.SQL(statement).format(**named), ())
            connection.execute(
                sql.SQL("insert into {} (about) values (%s) on conflict do nothing").format(
                    self._about
                ),
                (Jsonb(dict(about)),),
            )

    def put(self, entries: Sequence[Entry]) -> None:
        """Store entries in one transaction; what had their keys goes in the same."""
        if not entries:
            return
        rows = [
            (
                *(entry.key, number, entry.item, entry.link, entry.digests[number]),
                sqls.vector(entry.rows[number]),
                Jsonb(dict(entry.facts)),
                Jsonb(entry.asked),
                entry.thumbnails[number] if entry.thumbnails else None,
            )
            for entry in entries
            for number in range(len(entry.rows))
        ]
        insert = sql.SQL(
            "insert into {} (key, number, item, link, content, embedding, facts, asked, thumbnail) "
            "values (%s, %s, %s, %s, %s, %s::vector, %s, %s, %s)"
        ).format(self._images)
        with self._transaction() as connection:
            self._remove(connection, [entry.key for entry in entries])
            connection.cursor().executemany(insert, rows)

    def _remove(self, connection: psycopg.Connection[Any], keys: Sequence[str]) -> int:
        made = sql.SQL(
            "with gone as (delete from {} where key = any(%s) returning key) "
            "select count(distinct key) from gone"
        ).format(self._images)
        found = connection.execute(made, (_texts(keys),)).fetchone()
        return int(found[0]) if found else 0

    def delete(self, keys: Sequence[str]) -> int:
        """Remove the images of these keys; return how many keys there were."""
        with self._transaction() as connection:
            return self._remove(connection, keys)

    def index(self) -> None:
        """Make an HNSW index over the images; from then on the nearest are found approximately."""
        about = self.about() or {}
        if int(about.get("dimensions", 0)) > _LONGEST_INDEXED:
            raise ConfigError(
                f"pgvector's index takes vectors of up to {_LONGEST_INDEXED:,} numbers, these have "
                f"{about['dimensions']:,}; leave the index out, images are then searched exactly."
            )
        made = sql.SQL(
            "create index if not exists {} on {} using hnsw (embedding vector_cosine_ops)"
        ).format(name(self._names["by_vector"]), self._images)
        with self._transaction() as connection:
            connection.execute("set local client_min_messages = warning")
            connection.execute(made, ())


_BESIDE = ("images", "about", "by_item", "by_vector")


def _texts(words: Sequence[str]) -> list[str]:
    """Return those that PostgreSQL can hold; it has nothing under the others."""
    return [word for word in words if sqls.storable(word)]
