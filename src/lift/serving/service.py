"""What all routes share: what is searched, the workers, and how answers are written."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from lift.search.filters import Filter
from lift.search.terms import Searchable, Stored
from lift.serving.config import ServerConfig
from lift.serving.guard import BODY
from lift.serving.metrics import Metrics
from lift.serving.page_files import etag_of
from lift.serving.refusals import Refused, sentence_of
from lift.serving.shapes import LONGEST_KEY
from lift.serving.workers import Workers

S = TypeVar("S", bound=BaseModel)
_LARGE = 1 << 18
"""Bytes of a body that is parsed beside the event loop: a megabyte takes 2 ms."""


@dataclass(frozen=True)
class Service:
    """What all routes share."""

    searchable: Searchable
    config: ServerConfig
    metrics: Metrics
    workers: Workers

    @property
    def space(self) -> Any:
        """The space of the vectors."""
        return self.searchable.space

    def top(self, asked: int, name: str = "top") -> int:
        """Return how many are asked for. Raises Refused: more than one answer may hold."""
        if asked > self.config.top:
            raise Refused(400, f"{name} is at most {self.config.top:,}, not {asked:,}.")
        return asked

    def text(self, text: str) -> str:
        """Return a text that is not too long. Raises Refused."""
        if len(text) > self.config.characters:
            raise Refused(
                400,
                f"A text has at most {self.config.characters:,} characters, not {len(text):,}.",
            )
        return text

    async def item(self, key: str) -> Stored:
        """Return an item. Raises Refused: there is none."""
        found = None
        if 0 < len(key) <= LONGEST_KEY:
            found = await self.workers.read(self.searchable.item, key)
        if found is None:
            raise Refused(404, f"There is no item {key[:200]!r}.")
        return found


async def taken(request: Request, shape: type[S]) -> S:
    """Return the body of a request in a shape.

    Parsed by pydantic's own parser: 384 numbers in 16 microseconds instead of 100, and its depth is
    bounded (200).

    Raises:
        Refused: no JSON, or another shape.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Refused(415, "Send JSON, with the header Content-Type: application/json.")
    content: bytes = request.scope[BODY]
    try:
        if len(content) > _LARGE:
            return await asyncio.to_thread(_parsed, content, shape)
        return _parsed(content, shape)
    except ValidationError as error:
        raise Refused(400, sentence_of(error.errors(include_input=False))) from None
    except ValueError as error:
        raise Refused(400, f"The body can't be read as JSON: {str(error)[:200]}.") from None


def _parsed(content: bytes, shape: type[S]) -> S:
    return shape.model_validate(from_json(content, allow_inf_nan=False, cache_strings="none"))


def filter_of(where: Any) -> Filter | None:
    """Return the filter that a request asks for. Raises ConfigError, as `Filter.of`."""
    return None if where is None else Filter.of(where) or None


def told(item: Stored) -> dict[str, Any]:
    """Return an item as answers tell of it."""
    return {
        "key": item.key,
        "title": item.title,
        "texts": {name: list(texts) for name, texts in item.texts.items()},
        "facts": dict(item.facts),
        "images": item.images,
    }


def answer(content: Any, status: int = 200) -> Response:
    """Return JSON that nothing keeps."""
    written = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(
        written.encode("utf-8", "replace"),
        status,
        {"cache-control": "no-store"},
        "application/json",
    )


def kept(
    request: Request, content: bytes, media_type: str, etag: str = "", cache: str = "no-cache"
) -> Response:
    """Return a file that a browser may keep as long as its tag stays."""
    etag = etag or etag_of(content)
    headers = {"etag": etag, "cache-control": cache}
    known = [word.strip().removeprefix("W/") for word in _known(request).split(",")]
    if etag in known or "*" in known:
        return Response(b"", 304, headers)
    return Response(content, 200, headers, media_type)


def _known(request: Request) -> str:
    return request.headers.get("if-none-match", "")[:4_096]
