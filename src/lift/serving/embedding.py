"""OpenAI's /v1/embeddings and /v1/models, for texts and for images."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Request, Response
from jaxtyping import Float32

from lift.bundle import Bundle
from lift.serving.pictures import require_data_url
from lift.serving.refusals import Refused
from lift.serving.service import Service, answer, taken
from lift.serving.shapes import Embeddings, ImageInput, ImageUrl, described
from lift.terms import Encoder

TOKENS = "Token numbers can't be embedded here, they are another model's; send texts."


class _Rows(NamedTuple):
    rows: Float32[np.ndarray, "n d"]
    tokens: int


def routes(service: Service) -> APIRouter:
    """Return the routes."""
    router, encoder = APIRouter(prefix="/v1"), service.searchable.encoder
    began = int(time.time())

    @router.post("/embeddings", openapi_extra=described(Embeddings))
    async def embeddings(request: Request) -> Response:
        """Return the vector of each text and image, of unit length, in the shape of OpenAI's."""
        body = await taken(request, Embeddings)
        texts, images = _inputs(service, body)
        width = _width(service, body.dimensions)
        rows, tokens = await _encoded(service, texts, images)
        told = await asyncio.to_thread(_told, rows, width, body.encoding_format == "base64")
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return answer({"object": "list", "data": told, "model": encoder.name, "usage": usage})

    @router.get("/models")
    async def models() -> Response:
        """Return the one model there is."""
        return answer({"object": "list", "data": [_model(encoder.name, began)]})

    @router.get("/models/{name:path}")
    async def model(name: str) -> Response:
        """Return the model of this name."""
        if name != encoder.name:
            raise Refused(404, f"There is no model {name[:200]!r} here, only {encoder.name!r}.")
        return answer(_model(name, began))

    return router


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "lift"}


def _inputs(service: Service, body: Embeddings) -> tuple[dict[int, str], dict[int, str]]:
    """Return texts and data URLs by their places."""
    given = body.input if isinstance(body.input, list) else [body.input]
    if not given:
        raise Refused(400, "The input is empty.")
    texts: dict[int, str] = {}
    images: dict[int, str] = {}
    for place, one in enumerate(given):
        if isinstance(one, int | list):
            raise Refused(400, TOKENS)
        url = _url(one)
        if url is not None:
            images[place] = require_data_url(url)
        else:
            text = one.text if isinstance(one, ImageInput) else one
            if not text:
                raise Refused(400, f"Input {place} is empty.")
            texts[place] = service.text(text)
    most, letters = service.config, sum(map(len, texts.values()))
    if len(texts) > most.texts or len(images) > most.images:
        raise Refused(
            400,
            f"One request has at most {most.texts} texts and {most.images} images, not "
            f"{len(texts)} and {len(images)}.",
        )
    if letters > 8 * most.characters:
        raise Refused(
            400,
            f"The texts of one request have at most {8 * most.characters:,} characters, not "
            f"{letters:,}.",
        )
    return texts, images


def _url(one: str | ImageInput) -> str | None:
    """Return the data URL of an input, None of a text."""
    if isinstance(one, str):
        return one if one[:11].lower() == "data:image/" else None
    if isinstance(one.image_url, ImageUrl):
        return one.image_url.url
    return one.image_url if one.image_url is not None else one.image


def _width(service: Service, asked: int | None) -> int:
    """Return how many numbers of a row are wanted. Raises Refused: its front is no row."""
    width = service.space.dimensions
    if asked is None or asked == width:
        return width
    usable = getattr(service.searchable.encoder, "text_encoder", None)
    if asked > width or not getattr(usable, "matryoshka", False):
        raise Refused(400, f"Vectors of this model have {width} numbers, not {asked}.")
    return asked


async def _encoded(
    service: Service, texts: dict[int, str], images: dict[int, str]
) -> tuple[list[np.ndarray], int]:
    """Return the rows in order and how many tokens the texts had."""
    encoder, workers = service.searchable.encoder, service.workers
    jobs: list[asyncio.Future[Any]] = []
    if texts:
        call = workers.text_rows(lambda told: _text_rows(encoder, told), list(texts.values()))
        jobs.append(asyncio.ensure_future(call))
    jobs += [asyncio.ensure_future(workers.image_row(url)) for url in images.values()]
    try:
        done = await asyncio.gather(*jobs)
    finally:
        for job in jobs:
            job.cancel()
    found: dict[int, np.ndarray] = {}
    tokens = 0
    if texts:
        made: _Rows = done.pop(0)
        found.update(zip(texts, made.rows, strict=True))
        tokens = made.tokens
    found.update(zip(images, done, strict=True))
    return [found[place] for place in range(len(found))], tokens


def _text_rows(encoder: Encoder, texts: list[str]) -> _Rows:
    """Return rows as `encode_texts` makes them, bit for bit, and the tokens of the texts.

    A model of ours counts tokens while it encodes; for any other words are counted.
    """
    if not isinstance(encoder, Bundle):
        return _Rows(encoder.encode_texts(texts), sum(len(text.split()) for text in texts))
    own = encoder.record.encoder is None
    made = encoder.text_encoder.encode(texts, precision=encoder.precision if own else "float32")
    length = np.maximum(np.linalg.norm(made.rows, axis=1, keepdims=True), 1e-12)
    return _Rows(made.rows / length, int(made.tokens.sum()))


def _told(rows: list[np.ndarray], width: int, packed: bool) -> list[dict[str, Any]]:
    """Return the rows as JSON has them: float32 loses nothing either way."""
    found = []
    for index, row in enumerate(rows):
        if len(row) != width:
            row = row[:width] / max(float(np.linalg.norm(row[:width])), 1e-12)
        row = np.ascontiguousarray(row, "<f4")
        told: Any = base64.b64encode(row.tobytes()).decode() if packed else row.tolist()
        found.append({"object": "embedding", "index": index, "embedding": told})
    return found
