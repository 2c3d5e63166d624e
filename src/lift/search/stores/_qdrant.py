"""Qdrant: a client that several threads share, and filters in its words."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from qdrant_client import QdrantClient
from qdrant_client import models as q
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException

from lift.errors import ConfigError, LiftError, ServerError
from lift.search.filters import Condition, Filter

KEY_VARIABLE = "QDRANT_API_KEY"
MEMORY = ":memory:"
_WAIT = 60
_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "lift:search/stores/qdrant")


class Client:
    """A server, or a folder of the client's local mode.

    Attributes:
        words: which one, for people.
        saved: its address without user, password and key.
        local: whether it is the local mode.
    """

    def __init__(self, url: str) -> None:
        self.local = "://" not in url
        self._lock = threading.RLock() if self.local else contextlib.nullcontext()
        if self.local:
            self.words = self.saved = url
            if url != MEMORY and not Path(url, "meta.json").is_file():  # the client would make one
                raise ConfigError(
                    f"The folder {url} holds no local Qdrant; a server is written http://HOST:6333 "
                    "or postgresql://USER@HOST/DATABASE."
                )
            with self._told():
                self._client = (
                    QdrantClient(MEMORY)
                    if url == MEMORY
                    else QdrantClient(path=url, force_disable_check_same_thread=True)
                )
            return
        try:
            parts = urlsplit(url)
            bare = parts.netloc.rpartition("@")[2]
            self.words = self.saved = urlunsplit((parts.scheme, bare, parts.path, "", ""))
            parts.port  # noqa: B018  # raises
        except ValueError:
            raise ConfigError(
                "The address of Qdrant can't be read; write http://HOST:6333."
            ) from None
        if parts.scheme not in ("http", "https"):
            raise ConfigError(f"Qdrant is asked by http or https, not by {parts.scheme}.")
        if parts.username or parts.password or parts.query:
            raise ConfigError(
                f"The address of Qdrant holds a key or password; set {KEY_VARIABLE} instead."
            )
        with self._told():
            key = os.environ.get(KEY_VARIABLE) or None
            self._client = QdrantClient(
                url=url, api_key=key, timeout=_WAIT, check_compatibility=False
            )

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except LiftError:
            raise
        except (QdrantException, ApiException, ResponseHandlingException) as error:
            raise ServerError(f"Qdrant ({self.words}) says: {_plain(error)}.") from None
        except (ValueError, RuntimeError, OSError, RecursionError) as error:
            raise ServerError(f"Qdrant ({self.words}) says: {_plain(error)}.") from None

    @contextlib.contextmanager
    def asked(self) -> Iterator[QdrantClient]:
        """Lend the client; in local mode to one thread at a time."""
        with self._lock, self._told():
            yield self._client

    def close(self) -> None:
        """Close it."""
        with self._told():
            self._client.close()


def _plain(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return " ".join(text.split())[:500].rstrip(".")


def own_id(*words: object) -> str:
    """Return the id of a point of ours: the same for the same words."""
    return str(uuid.uuid5(_SPACE, "\x1f".join(map(repr, words))))


def point_id(key: str) -> int | str | None:
    """Return the id of a point as Qdrant knows it, None where none can be written so."""
    if key.isascii() and key.isdigit() and len(key) <= 20 and str(int(key)) == key:
        return int(key) if int(key) < 2**64 else None
    try:
        return str(uuid.UUID(key)) if str(uuid.UUID(key)) == key else None
    except ValueError:
        return None


def path(*names: str) -> str:
    """Return the path of a field in a payload; names may hold dots."""
    return ".".join(f'"{name}"' for name in names)


def compiled(
    where: Filter | None, places: Callable[[str], Sequence[tuple[str, ...]]]
) -> q.Filter | None:
    """Return a filter that all points pass that meet `where`; some others may.

    Qdrant has no search within words that ignores capitals, and no equality of fractions: whoever
    asks looks at what comes.

    Args:
        where: the filter.
        places: where a fact may lie: names of objects before its own.
    """
    must: list[Any] = []
    for asked in (where or Filter()).conditions:
        keys = [path(*before, asked.fact) for before in places(asked.fact)]
        one = _condition(asked, keys)
        if one is not None:
            must.append(one)
    return q.Filter(must=must) if must else None


def _condition(asked: Condition, keys: Sequence[str]) -> q.Filter | None:
    if asked.operator == "!=":
        return None  # a second place may hide the first
    if asked.operator == "~":
        return q.Filter(
            must_not=[
                q.Filter(
                    must=[q.IsEmptyCondition(is_empty=q.PayloadField(key=key)) for key in keys]
                )
            ]
        )
    should: list[Any] = []
    for key in keys:
        if asked.operator != "=":
            name = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}[asked.operator]
            limits: dict[str, Any] = {name: asked.values[0]}
            should.append(q.FieldCondition(key=key, range=q.Range(**limits)))
            continue
        for value in asked.values:
            if isinstance(value, bool | str):
                should.append(q.FieldCondition(key=key, match=q.MatchValue(value=value)))
            else:
                should.append(q.FieldCondition(key=key, range=q.Range(gte=value, lte=value)))
    return q.Filter(should=should)


def thorough(exact: bool) -> q.SearchParams | None:
    """Return how an approximate index is to be searched."""
    return q.SearchParams(exact=True) if exact else None


Row = TypeVar("Row")


def sliced(rows: Iterable[Row], start: int, count: int) -> list[Row]:
    """Return `count` rows from `start` on."""
    start = max(start, 0)
    return list(itertools.islice(rows, start, start + max(count, 0)))
