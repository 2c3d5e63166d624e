"""What an index knows of its items, in SQLite: a commit is a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lift.errors import DataError, StorageError
from lift.search.conditions import sql
from lift.search.connections import Connections
from lift.search.damaged import as_bytes, as_rows, as_stored, damaged, require_schema
from lift.search.filters import Filter
from lift.search.terms import KINDS, Fact, FactRange, Kind, Stored

NAME = "items.db"
FORMAT = 1
_MARK = 0x4C494654
"""`application_id` of the file: "LIFT"."""

_SCHEMA = """
CREATE TABLE items (
  id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, digest BLOB NOT NULL,
  texts TEXT NOT NULL, images INTEGER NOT NULL);
CREATE TABLE facts (
  item INTEGER NOT NULL, name TEXT NOT NULL, value, truth INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (item, name)) WITHOUT ROWID;
CREATE INDEX facts_by_value ON facts (name, value);
CREATE TABLE rows (
  kind INTEGER NOT NULL, place INTEGER NOT NULL, item INTEGER NOT NULL, field INTEGER NOT NULL,
  number INTEGER NOT NULL, content BLOB NOT NULL, PRIMARY KEY (kind, place)) WITHOUT ROWID;
CREATE INDEX rows_of_items ON rows (item);
CREATE INDEX rows_by_content ON rows (kind, content);
CREATE TABLE fields (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE pictures (
  item INTEGER NOT NULL, number INTEGER NOT NULL, jpeg BLOB NOT NULL,
  PRIMARY KEY (item, number)) WITHOUT ROWID;
CREATE TABLE state (
  one INTEGER PRIMARY KEY CHECK (one = 1), commits INTEGER NOT NULL,
  images INTEGER NOT NULL, texts INTEGER NOT NULL, generation INTEGER NOT NULL);
INSERT INTO state VALUES (1, 0, 0, 0, 0);
"""
"""`state`: commits so far; rows that count in each vector file; the number in those files' names.
"""

_OF_KIND = {"image": 0, "text": 1}
_AT_ONCE = 900
"""Values bound in one statement; SQLite's own limit was 999 for long."""
_VALUES = 50
"""Values of a fact that `facts` names."""


class Tables:
    """The database of one index. Every thread has a connection of its own."""

    def __init__(self, folder: Path, *, writes: bool, new: bool = False) -> None:
        """Open it, or make it.

        Raises:
            DataError: no database of ours, or a newer format.
            StorageError: the disk refused.
        """
        self.path = folder / NAME
        self._connections = Connections(self.path, writes=writes)
        if not new and not self.path.is_file():
            raise DataError(
                f"{folder} is no index: {NAME} is missing; build one with `lift index`."
            )
        with self.reading() as base:
            if new:
                base.executescript(
                    f"PRAGMA application_id = {_MARK}; PRAGMA user_version = {FORMAT};"
                )
                base.executescript("PRAGMA journal_mode = WAL;")
                base.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            mark = base.execute("PRAGMA application_id").fetchone()[0]
            version = base.execute("PRAGMA user_version").fetchone()[0]
        if mark != _MARK or version != FORMAT:
            what = f"of format {version}" if mark == _MARK else "no database of an index"
            raise DataError(
                f"{self.path} is {what}; build the index again, or use the version of lift that "
                "wrote it."
            )
        with self.reading() as base:
            require_schema(base, self.path, _SCHEMA)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield this thread's connection. Raises DataError, StorageError in place of SQLite's."""
        try:
            yield self._connections.get()
        except sqlite3.OperationalError as error:
            if "disk" in str(error) or "full" in str(error) or "readonly" in str(error):
                raise StorageError(
                    f"Can't write {self.path}: {error}. What was committed is there; make room and "
                    "run the same command again."
                ) from error
            if "locked" in str(error) or "unable to open" in str(error):
                raise StorageError(
                    f"{self.path} can't be opened ({error}): another program holds it, or it may "
                    "not be read here. An index that was copied while it was written, or to where "
                    "nothing can be written, needs its items.db-wal and items.db-shm, too."
                ) from error
            raise damaged(self.path, error) from error
        except (sqlite3.DatabaseError, RecursionError) as error:
            if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
                raise StorageError(f"{self.path.parent} was closed; open it again.") from error
            raise damaged(self.path, error) from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection; all that is done in the block counts, or nothing of it."""
        with self.reading() as base:
            base.execute("BEGIN IMMEDIATE")
            try:
                yield base
                base.execute("UPDATE state SET commits = commits + 1")
                base.execute("COMMIT")
            except BaseException:
                if base.in_transaction:
                    base.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that this thread reads in the block is of one commit."""
        with self.reading() as base:
            base.execute("BEGIN")
            try:
                yield
            finally:
                base.execute("COMMIT")

    def close(self) -> None:
        """Close every thread's connection."""
        self._connections.close()

    # --- what is there --------------------------------------------------------------------------

    def state(self) -> tuple[int, dict[Kind, int], int]:
        """Return commits so far, rows of each kind that count, and the files' generation."""
        with self.reading() as base:
            found = base.execute("SELECT commits, images, texts, generation FROM state").fetchone()
        if found is None or not all(isinstance(n, int) and n >= 0 for n in found):
            raise damaged(self.path, "its state is missing")
        return found[0], {"image": found[1], "text": found[2]}, found[3]

    def fields(self) -> dict[int, str]:
        """Return the names of fields by number."""
        with self.reading() as base:
            return {int(number): str(name) for number, name in base.execute("SELECT * FROM fields")}

    def rows(self, kind: Kind, start: int = 0) -> Iterator[list[tuple[int, int, int, int]]]:
        """Yield (place, item, field, number) of the live rows of a kind from a place, in pieces."""
        with self.reading() as base:
            found = base.execute(
                "SELECT place, item, field, number FROM rows WHERE kind = ? AND place >= ?",
                (_OF_KIND[kind], start),
            )
            while piece := found.fetchmany(50_000):
                yield piece

    def live(self, kind: Kind) -> int:
        """Return how many rows of a kind belong to an item."""
        with self.reading() as base:
            found = base.execute("SELECT count(*) FROM rows WHERE kind = ?", (_OF_KIND[kind],))
            return int(found.fetchone()[0])

    def count(self) -> int:
        """Return how many items there are."""
        with self.reading() as base:
            return int(base.execute("SELECT count(*) FROM items").fetchone()[0])

    def stored(self, ids: Sequence[int]) -> dict[int, Stored]:
        """Return items by number; those that are gone are left out."""
        found: dict[int, Stored] = {}
        with self.reading() as base:
            for start in range(0, len(ids), _AT_ONCE):
                own = list(ids[start : start + _AT_ONCE])
                marks = ",".join("?" * len(own))
                facts: dict[int, dict[str, Fact]] = {}
                for item, name, value, truth in base.execute(
                    f"SELECT item, name, value, truth FROM facts WHERE item IN ({marks})", own
                ):
                    facts.setdefault(item, {})[name] = bool(value) if truth else value
                for item, key, texts, images in base.execute(
                    f"SELECT id, key, texts, images FROM items WHERE id IN ({marks})", own
                ):
                    own_facts = facts.get(item, {})
                    found[item] = as_stored(self.path, key, texts, own_facts, images)
        return found

    def known(self, keys: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        """Return (number, digest) of the items with these keys that are there."""
        found: dict[str, tuple[int, bytes]] = {}
        keys = [key for key in keys if isinstance(key, str) and _storable(key)]
        with self.reading() as base:
            for start in range(0, len(keys), _AT_ONCE):
                own = list(keys[start : start + _AT_ONCE])
                marks = ",".join("?" * len(own))
                for key, item, digest in base.execute(
                    f"SELECT key, id, digest FROM items WHERE key IN ({marks})", own
                ):
                    found[key] = (item, as_bytes(self.path, digest))
        return found

    def places(self, kind: Kind, contents: Sequence[bytes]) -> dict[bytes, int]:
        """Return a place for each content that has a row of this kind already."""
        found: dict[bytes, int] = {}
        with self.reading() as base:
            for start in range(0, len(contents), _AT_ONCE):
                own = list(contents[start : start + _AT_ONCE])
                marks = ",".join("?" * len(own))
                for content, place in base.execute(
                    f"SELECT content, min(place) FROM rows WHERE kind = {_OF_KIND[kind]} "
                    f"AND content IN ({marks}) GROUP BY content",
                    own,
                ):
                    found[as_bytes(self.path, content)] = place
        return found

    def rows_of(self, item: int) -> list[tuple[Kind, int, int, int]]:
        """Return (kind, place, field, number) of an item's rows."""
        with self.reading() as base:
            found = base.execute(
                "SELECT place, kind, field, number FROM rows WHERE item = ? "
                "ORDER BY kind, field, number",
                (item,),
            ).fetchall()
        if any(row[1] not in range(len(KINDS)) for row in found):
            raise damaged(self.path, "rows of strange kinds")
        rows = as_rows(self.path, found).tolist()
        return [(KINDS[kind], place, field, number) for place, kind, field, number in rows]

    def picture(self, item: int, number: int) -> bytes | None:
        """Return an item's small JPEG."""
        with self.reading() as base:
            found = base.execute(
                "SELECT jpeg FROM pictures WHERE item = ? AND number = ?", (item, number)
            ).fetchone()
        return None if found is None else as_bytes(self.path, found[0])

    def keys(self) -> Iterator[str]:
        """Yield the key of every item."""
        with self.reading() as base:
            for (key,) in base.execute("SELECT key FROM items ORDER BY id"):
                yield key

    # --- filters --------------------------------------------------------------------------------

    def meeting(self, where: Filter, start: int = 0, count: int = -1) -> list[int]:
        """Return the numbers of items that meet a filter, in order."""
        clauses, values = sql(where)
        with self.reading() as base:
            found = base.execute(
                f"SELECT id FROM items WHERE {clauses} ORDER BY id LIMIT ? OFFSET ?",
                (*values, count, start),
            )
            return [item for (item,) in found]

    def counted(self, where: Filter) -> int:
        """Return how many items meet a filter."""
        clauses, values = sql(where)
        with self.reading() as base:
            found = base.execute(f"SELECT count(*) FROM items WHERE {clauses}", values)
            return int(found.fetchone()[0])

    def facts(self) -> dict[str, FactRange]:
        """Return what filters can ask for."""
        with self.reading() as base:
            names = base.execute("SELECT name, count(*) FROM facts GROUP BY name").fetchall()
        if not all(isinstance(name, str) for name, _ in names):
            raise damaged(self.path, "facts with strange names")
        return {
            str(name): FactRange(tuple(self._values(name, _VALUES)), *self._range(name), items)
            for name, items in names
        }

    def _values(self, name: str, most: int) -> list[tuple[Fact, int]]:
        """Return the commonest values of a fact that are words or truths."""
        with self.reading() as base:
            found = base.execute(
                "SELECT value, truth, count(*) AS n FROM facts WHERE name = ? AND "
                "(truth OR typeof(value) = 'text') GROUP BY value, truth ORDER BY n DESC, value "
                "LIMIT ?",
                (name, most),
            )
            return [(bool(value) if truth else value, n) for value, truth, n in found]

    def _range(self, name: str) -> tuple[float | None, float | None]:
        """Return the smallest and the largest number of a fact."""
        with self.reading() as base:
            low, high = base.execute(
                "SELECT min(value), max(value) FROM facts WHERE name = ? AND NOT truth AND "
                "typeof(value) IN ('integer', 'real')",
                (name,),
            ).fetchone()
        return low, high


def _storable(key: str) -> bool:
    """Return whether a key is valid Unicode: no other can be of an item."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
