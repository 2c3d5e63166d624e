"""Why a request is refused: a status and a sentence, in the shape that OpenAI's errors have."""

from __future__ import annotations

import json
import re
from typing import Any

from lift.errors import BrokenSample, ConfigError, LiftError, MissingPackage, shortened

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
_OF_A_UNION = re.compile(r"[\[(]|-str$|^(str|int|Part|ImageInput|ImageUrl)$")
_PLAIN = ("string_type", "model_type", "model_attributes_type", "int_type")
LATER = 1
"""Seconds after which a client that came at a busy time may come again."""


class Refused(Exception):
    """A request that gets no answer.

    Attributes:
        status: of HTTP.
        sentence: what, which value, what to do.
        headers: to go with it.
    """

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers or {}


def busy() -> Refused:
    """Return the refusal at a busy time."""
    return Refused(
        503, "The server has too much to do; ask again in a second.", {"retry-after": str(LATER)}
    )


def late(seconds: float) -> Refused:
    """Return the refusal of what takes too long."""
    return Refused(504, f"No answer within {seconds:g} seconds; ask for less at a time.")


def failed() -> Refused:
    """Return the refusal where the fault is the server's own, which is told to its log alone."""
    return Refused(500, "The server failed; its log says why.")


def body(status: int, sentence: str) -> bytes:
    """Return the JSON of a refusal."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    error: dict[str, Any] = {"message": shortened(sentence), "type": kind}
    return json.dumps({"error": {**error, "param": None, "code": None}}).encode()


def refusal_of(error: LiftError) -> Refused | None:
    """Return what a client is told of an error of ours; None where it is the server's own matter.

    Errors of the disk, of a model or of a database may name files, which is nobody's business.
    """
    if isinstance(error, MissingPackage):
        return Refused(501, str(error))
    if isinstance(error, BrokenSample):
        return Refused(400, str(error))
    return Refused(400, str(error)) if isinstance(error, ConfigError) else None


def sentence_of(errors: list[Any]) -> str:
    """Return the first complaint of pydantic's in a sentence: where, and what.

    Never the value itself: it may be megabytes.
    """
    # Of a union the nearest: whatever came was no plain string.
    first = max(errors, key=lambda e: (len(e.get("loc", ())), e.get("type") not in _PLAIN))
    if first.get("type") == "json_invalid":
        return f"The body is no JSON: {first.get('ctx', {}).get('error', 'it is broken')}."
    steps = (str(step) for step in first.get("loc", ()) if step != "body")
    place = ".".join(step[:80] for step in steps if not _OF_A_UNION.search(step))
    what = str(first.get("msg", "it is wrong")).removeprefix("Value error, ")[:400]
    return f"{place[:300]}: {what}." if place else f"{what[:1].upper()}{what[1:]}."
