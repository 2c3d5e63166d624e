"""Routes that say what is in an image: /heatmap, /explain, /labels, /describe."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from jaxtyping import Float32

from lift.bundle import Bundle
from lift.errors import ConfigError
from lift.scoring.heat import heatmap
from lift.search import words
from lift.search.terms import Query, Term
from lift.serving.pictures import checked, require_data_url
from lift.serving.refusals import Refused
from lift.serving.service import Service, answer, taken
from lift.serving.shapes import Captions, Heatmap, OfImage, Words, described


def routes(service: Service) -> APIRouter:
    """Return the routes."""
    router, workers, searchable = APIRouter(), service.workers, service.searchable

    @router.post("/heatmap", openapi_extra=described(Heatmap))
    async def heat(request: Request) -> Response:
        """Return how near each cell of an image's patch grid is to a text."""
        body = await taken(request, Heatmap)
        text = service.text(body.text)
        if not text.strip():
            raise Refused(400, "text: a heatmap needs a text that says what to look for.")
        await _known(service, body)
        z = (await workers.vector(Query((Term("text", text),)))).z
        return answer(await workers.with_image(lambda: _heat(service, body, text, z)))

    @router.post("/explain", openapi_extra=described(Words))
    async def explain(request: Request) -> Response:
        """Return the words of a vocabulary that an image is near."""
        body = await taken(request, Words)
        letters, most = sum(map(len, body.vocabulary or ())), 2 * service.config.characters
        if letters > most:
            raise Refused(
                400, f"The words have at most {most:,} characters together, not {letters:,}."
            )
        z = await _vector(service, body)
        found = await workers.with_words(
            lambda: words.explain(searchable, z, body.vocabulary, body.top)
        )
        return answer({"words": [{"text": one.text, "cosine": one.cosine} for one in found]})

    @router.post("/labels", openapi_extra=described(Captions))
    async def labels(request: Request) -> Response:
        """Return phrases of the index's own texts that fit an image."""
        body = await taken(request, Captions)
        z, own = await _vector(service, body), () if body.key is None else (body.key,)
        found = await workers.with_words(lambda: words.labels(searchable, z, body.top, without=own))
        return answer({"labels": [one._asdict() for one in found]})

    @router.post("/describe", openapi_extra=described(Captions))
    async def describe(request: Request) -> Response:
        """Return stored texts of other items that fit an image, quoted."""
        body = await taken(request, Captions)
        z, own = await _vector(service, body), () if body.key is None else (body.key,)
        found = await workers.read(lambda: words.describe(searchable, z, body.top, without=own))
        return answer({"quotes": [one._asdict() for one in found]})

    return router


async def _known(service: Service, body: OfImage) -> None:
    """Refuse what is no data URL, and keys that there are not, before a worker is asked."""
    if body.image is not None:
        require_data_url(body.image)
        return
    assert body.key is not None, "one of both is there"
    if not (await service.item(body.key)).images:
        raise Refused(404, f"The item {body.key[:200]!r} has no image.")


def _heat(
    service: Service, body: Heatmap, text: str, z: Float32[np.ndarray, " d"]
) -> dict[str, Any]:
    encoder = service.searchable.encoder
    if not isinstance(encoder, Bundle):
        raise ConfigError(f"The model {encoder.name} has no patches to tell places apart by.")
    if body.image is not None:
        content = checked(body.image, service.config.pixels)
    else:
        content = service.searchable.picture(body.key or "")
    if content is None:
        raise Refused(404, "The index keeps no picture of this item.")
    found = heatmap(encoder, content, text, z=z)
    rows, cols = found.values.shape
    return {
        **{"rows": rows, "cols": cols, "values": found.values.tolist()},
        **{"frame": list(found.frame), "mean": found.mean, "text": text},
    }


async def _vector(service: Service, body: OfImage) -> Float32[np.ndarray, " d"]:
    """Return the vector of an image, stored or new."""
    await _known(service, body)
    if body.image is not None:
        return await service.workers.image_row(body.image)
    rows = await service.workers.read(service.searchable.rows, body.key or "")
    found = next((z for kind, _, _, z in rows if kind == "image"), None)
    if found is None:
        raise Refused(404, "The item has no image any more.")
    return found
