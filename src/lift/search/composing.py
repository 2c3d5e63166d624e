"""From queries to vectors: texts and pictures, several of both, with weights, some unwanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float32

from lift.errors import ConfigError, DataError
from lift.search.terms import Kind, Query, Term
from lift.terms import Encoder

RowsOf: TypeAlias = "Callable[[str], Sequence[tuple[Kind, str, int, np.ndarray]]]"
Edit: TypeAlias = "Callable[[np.ndarray, np.ndarray], np.ndarray]"
"""From pictures and what is to change in them, both [n d], to vectors of unit length [n d]."""

_LEAST = 1e-6
"""A sum shorter than this points nowhere."""


def compose(
    queries: Sequence[Query],
    encoder: Encoder,
    rows: RowsOf,
    edit: Callable[[], Edit],
) -> tuple[Float32[np.ndarray, "q d"], list[Kind | None]]:
    """Return the unit vector of each query, and what its terms are (None: of both kinds).

    All texts go through the encoder together, and so do all pictures.

    Args:
        queries: what is looked for.
        encoder: of the index's space.
        rows: gives the vectors of an item by its key.
        edit: gives the trained combiner; raises ConfigError where there is none.

    Raises:
        ConfigError: an item that there is not, terms that cancel out, a vector of another width,
            or a query to "edit" that is not one picture and one text.
        DataError: a picture can't be read.
    """
    known = _encoded(queries, encoder)
    found, kinds = [], []
    for query in queries:
        parts = [_vector(term, known, rows, encoder) for term in query.terms]
        if query.combine == "edit":
            found.append(_edited(query, parts, edit))
            kinds.append(None)
            continue
        most = max(abs(term.weight) for term in query.terms)  # what float32 can't hold is told
        wanted = sum(
            np.float32(term.weight / most) * z
            for term, (_, z) in zip(query.terms, parts, strict=True)
        )
        length = float(np.linalg.norm(wanted))
        if length < _LEAST:
            raise ConfigError("The terms of the query cancel out; change a weight.")
        found.append(wanted / np.float32(length))
        own = {kind for term, (kind, _) in zip(query.terms, parts, strict=True) if term.weight > 0}
        kinds.append(own.pop() if len(own) == 1 else None)
    return np.stack(found).astype(np.float32), kinds


def _encoded(queries: Sequence[Query], encoder: Encoder) -> dict[int, np.ndarray]:
    """Return a vector for each text and picture, by the identity of its term."""
    known: dict[int, np.ndarray] = {}
    for kind, encode in (("text", encoder.encode_texts), ("image", encoder.encode_images)):
        terms = [term for query in queries for term in query.terms if term.kind == kind]
        if terms:
            if kind == "text" and not all(isinstance(term.value, str) for term in terms):
                raise ConfigError("A text of a query is not a string.")
            rows = encode([term.value for term in terms])
            known |= {id(term): row for term, row in zip(terms, rows, strict=True)}
    return known


def _vector(
    term: Term, known: dict[int, np.ndarray], rows: RowsOf, encoder: Encoder
) -> tuple[Kind, np.ndarray]:
    """Return a term's unit vector, and as which kind it counts."""
    if term.kind in ("text", "image"):
        return term.kind, known[id(term)]  # type: ignore[return-value]
    if term.kind == "item":
        own = rows(str(term.value))
        if not own:
            raise ConfigError(f"There is no item {str(term.value)!r} in the index.")
        kind, _, _, z = next((row for row in own if row[0] == "image"), own[0])
        return kind, np.asarray(z, np.float32)
    return "text", unit_vector(term.value, encoder)


def unit_vector(value: Any, encoder: Encoder) -> Float32[np.ndarray, " d"]:
    """Return a vector that somebody gave, at unit length.

    Raises:
        ConfigError: not finite, of no length, or of another width than the space's.
    """
    try:
        z = np.asarray(value, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError("A vector of a query is not a list of numbers.") from error
    width = getattr(getattr(encoder, "space", None), "dimensions", z.size)
    if z.ndim != 1 or z.size != width:
        raise ConfigError(f"A vector of a query has the shape {z.shape}, not ({width},).")
    length = float(np.linalg.norm(z.astype(np.float64)))
    if not np.isfinite(length) or length < _LEAST:
        raise ConfigError("A vector of a query is not finite, or has no length.")
    return (z / length).astype(np.float32)


def _edited(
    query: Query, parts: Sequence[tuple[Kind, np.ndarray]], edit: Callable[[], Edit]
) -> np.ndarray:
    kinds = sorted(kind for kind, _ in parts)
    if kinds != ["image", "text"] or min(term.weight for term in query.terms) <= 0:
        raise ConfigError(
            "A query to edit is one picture and one text that says what is to change in it; it "
            f"has {kinds.count('image')} pictures and {kinds.count('text')} texts."
        )
    z = dict(parts)
    try:
        return edit()(z["image"][None], z["text"][None])[0]
    except ValueError as error:
        raise DataError(f"The combiner of the index refused the query ({error}).") from error
