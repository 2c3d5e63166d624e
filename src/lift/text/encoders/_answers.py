"""Read what a server of the OpenAI embeddings protocol answers: rows in order, or why not."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import numpy as np
from jaxtyping import Float32

BYTES_A_VALUE = 40
"""Longest number that JSON writers make of a float64, with what stands between two of them."""

BYTES_AROUND = 1 << 20
"""Room for everything in an answer that is no vector."""

_MESSAGE = 300

_TOO_LARGE = re.compile(
    r"too (many|large|long|big)|context (length|size|window)|batch.?size|tokens per request"
    r"|maximum (length|input)|length limit|(one|submitted) batch",
    re.IGNORECASE,
)
_ABOVE_A_LIMIT = re.compile(
    r"(less|fewer|more) than( or equal to)? \d+|at most \d+|maximum (allowed|number)"
    r"|exceed(s|ed)? .{0,40}(token|length|limit|maximum)",
    re.IGNORECASE,
)
_OF_TEXTS = re.compile(
    r"token|batch|input|text|sequence|prompt|string|document|array|list|item|element|length"
    r"|word|character",
    re.IGNORECASE,
)
_OF_OPTIONS = re.compile(r"dimension|encoding_format", re.IGNORECASE)
_OF_TEXTS_SURELY = re.compile(r"token|batch|context", re.IGNORECASE)
_TOO_LARGE_THOUGH = {
    # OpenAI: a request above the limit a minute by itself, which no waiting mends.
    429: re.compile(r"request too large", re.IGNORECASE),
    # llama.cpp: a text above its physical batch; elsewhere 500 means: ask again.
    500: re.compile(r"too large to process|context (length|size)", re.IGNORECASE),
}


class Broken(Exception):
    """An answer that is not what the protocol promises; asking again may mend it."""


def rows_of(body: bytes, count: int) -> list[Float32[np.ndarray, " d"]]:
    """Return the vectors of an answer in the order of the texts, whatever order it has.

    Vectors are lists of numbers, or base64 of little-endian float32; null becomes NaN. Their
    width and values are the caller's to check.

    Args:
        body: of the answer.
        count: texts that were asked for.

    Raises:
        Broken: no JSON, no vectors, or not exactly one for every text.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Broken("an answer that is not JSON") from error
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list):
        raise Broken("JSON without a list 'data'")
    found: dict[int, Float32[np.ndarray, " d"]] = {}
    for item in data:
        index = item.get("index") if isinstance(item, dict) else None
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count:
            raise Broken(f"a row with the index {str(index)[:20]} for {count} text(s)")
        if index in found:
            raise Broken(f"two rows with the index {index}")
        found[index] = _vector(item.get("embedding"))
    if len(found) != count:
        raise Broken(f"{len(found)} row(s) for {count} text(s)")
    return [found[i] for i in range(count)]


def _vector(value: Any) -> Float32[np.ndarray, " d"]:
    try:
        if isinstance(value, str):
            return np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32)
        wide = np.asarray(value, np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise Broken("a row that is no list of numbers") from error
    if wide.ndim != 1 or not wide.size:
        raise Broken("a row that is no list of numbers")
    with np.errstate(over="ignore"):  # infinity is found with the other bad values
        return wide.astype(np.float32)


def message_of(body: bytes, secret: str) -> str:
    """Return the server's own words about an error: one short line, without the key."""
    text = body.decode("utf-8", "replace")
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        found = answer.get("error") or answer.get("message") or answer.get("detail") or answer
        if isinstance(found, dict):
            found = found.get("message") or found
        text = found if isinstance(found, str) else json.dumps(found)
    if secret:
        text = text.replace(secret, "[key]")
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return shown[:_MESSAGE] + ("..." if len(shown) > _MESSAGE else "") or "no message"


def is_too_large(status: int, message: str) -> bool:
    """Return whether an error says that fewer or shorter texts would have been taken."""
    if status in _TOO_LARGE_THOUGH:
        return _TOO_LARGE_THOUGH[status].search(message) is not None
    if status not in (400, 422):
        return status == 413
    if _OF_OPTIONS.search(message) and not _OF_TEXTS_SURELY.search(message):
        return False
    if _TOO_LARGE.search(message):
        return True
    return bool(_ABOVE_A_LIMIT.search(message) and _OF_TEXTS.search(message))


def advice(status: int, key_variable: str) -> str:
    """Return what a user can do about a status that is not worth another try."""
    if status in (401, 403) and key_variable:
        return f"check the key in the environment variable {key_variable} and what it may use"
    if status in (401, 403):
        return "name the environment variable that holds the key with key_variable="
    if status in (404, 405):
        return "check the url (most end in /v1) and the model's name at this server"
    return "check the model and the options"
