"""PostgreSQL with pgvector: a table of text vectors that is read, and a table of images beside it.

The table of texts is only ever read, over connections on which the server refuses writes. Images
lie in `TABLE_lift_images`; whose vectors they are is told in `TABLE_lift_about`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from psycopg import sql

from lift.search.stores import _postgres as pg
from lift.search.stores import _postgres_asked as sqls
from lift.search.stores._postgres_images import ImageRows
from lift.search.stores._postgres_texts import TextConfig, TextRows
from lift.search.stores._store import BROWSED
from lift.search.terms import FactRange

NEEDS = {"psycopg": "pgvector"}


@dataclass(frozen=True, kw_only=True)
class Config(TextConfig):
    """Options; those of the table of texts."""


def build(config: Config) -> PgVector:
    """Return the store. Raises ConfigError for a table that isn't one, ServerError."""
    return PgVector(config)


class PgVector(TextRows, ImageRows):
    """See the module; a `Store`."""

    def __init__(self, config: Config) -> None:
        db = pg.Connections(config.url)
        try:
            pg.require_pgvector(db)
            TextRows.__init__(self, db, config)
        except BaseException:
            db.close()
            raise
        ImageRows.__init__(self, db, self._table.schema, self._table.table, config.exact)

    def options(self) -> dict[str, Any]:
        """Return what opens it again; the password is not in it."""
        told = asdict(self._config)
        told |= {"unit": self.unit, "url": pg.saved_url(self._config.url)}
        return told | {"facts": list(self._config.facts)}

    def facts(self) -> dict[str, FactRange]:
        """Return what filters can ask for, of texts and images."""
        texts = sql.SQL("(select {} from {} limit {})").format(self._object(), self._from, BROWSED)
        return sqls.ranges(self._db, [texts, self.own_facts(BROWSED)])

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()
