"""Probe sentences with their rows, stored with every cache: they notice an encoder that drifted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from lift.cache.manifest import PROBES, Plan
from lift.cache.place import Place
from lift.errors import CacheError, MissingRows, NotFinite, SpaceMismatch
from lift.text.encoder import TextEncoder
from lift.text.space import TextSpace

_TAG = b"lift.cache.probes/1"

LEAST_COSINE: dict[str, float] = {"float32": 0.9999, "bfloat16": 0.999}
"""Between a stored row and the same text's row today. In float32 another machine or batch moves it
by about 1e-7, in bfloat16 0.99997 was measured; another revision of a model is far below."""

LEAST_COSINE_AFAR = 0.999
"""Of a server, whose precision and batching nobody here decides."""


@dataclass(frozen=True)
class Probes:
    """Texts and the rows that the encoder gave them when the cache was created, in float32."""

    texts: tuple[str, ...]
    rows: Float32[np.ndarray, "n d"]


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far rows of the same texts are from one another.

    Attributes:
        probes: texts compared; 0 where the encoder could not embed them.
        min_cosine: smallest cosine between the two rows of a text.
        max_difference: largest |a - b| over all values.
        worst: the text with the smallest cosine.
        allowed: the smallest cosine that passes.
    """

    probes: int
    min_cosine: float
    max_difference: float
    worst: str
    allowed: float

    @property
    def ok(self) -> bool:
        """Return whether both are rows of one space (NaN is not)."""
        return self.probes == 0 or self.min_cosine >= self.allowed

    def __str__(self) -> str:
        return (
            f"{self.probes} probes: smallest cosine {self.min_cosine:.6f} (at {self.worst!r}), "
            f"largest difference {self.max_difference:.2e}, {self.allowed} needed"
        )


def write(place: Place, plan: Plan, encoder: TextEncoder) -> None:
    """Store the encoder's probes, unless another part was first."""
    texts = list(encoder.probes)
    rows = _encode(encoder, texts, plan)
    if not (finite := np.isfinite(rows).all(axis=1)).all():
        raise NotFinite(
            f"The encoder {encoder.part.name} returned NaN or infinity for "
            f"{texts[int(np.argmin(finite))]!r}; check its weights or use precision float32."
        )
    shape = pa.schema(
        [
            pa.field("text", pa.string(), nullable=False),
            pa.field("row", pa.list_(pa.float32(), rows.shape[1]), nullable=False),
        ],
        metadata={_TAG: plan.fingerprint.encode("ascii")},
    )
    values = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    batch = pa.RecordBatch.from_arrays([pa.array(texts, pa.string()), values], schema=shape)

    def fill(path: Path) -> None:
        with path.open("wb") as file, pa.ipc.new_file(file, shape) as writer:
            writer.write_batch(batch)

    place.write(PROBES, fill, new=True)


def read(place: Place, space: TextSpace) -> Probes | None:
    """Return the stored probes, None where a cache has none.

    Raises:
        CacheError: the file is damaged, or belongs to another space.
    """
    content = place.read(PROBES)
    if content is None:
        return None
    try:
        table = pa.ipc.open_file(pa.BufferReader(content)).read_all().combine_chunks()
        table.validate(full=True)
        if table.schema.metadata.get(_TAG) != space.fingerprint.encode("ascii"):
            raise ValueError("it was made in another space")
        flat = table["row"].chunk(0).flatten().to_numpy()
        rows = flat.reshape(-1, space.dimensions).astype(np.float32)
        return Probes(tuple(table["text"].to_pylist()), rows)
    except (pa.ArrowException, ValueError, KeyError, IndexError, AttributeError) as error:
        raise CacheError(
            f"{place}/{PROBES} is damaged ({' '.join(str(error).split())[:200]}); copy the cache "
            "again, or remove the file and run `lift embed` again, which makes it anew."
        ) from error


def drift(stored: Probes, encoder: TextEncoder, plan: Plan) -> Drift:
    """Embed the stored probes again and say how far they moved."""
    local = encoder.device.partition(":")[0] in ("cpu", "cuda", "mps")
    allowed = LEAST_COSINE[plan.precision] if local else LEAST_COSINE_AFAR
    try:
        rows = _encode(encoder, list(stored.texts), plan)
    except MissingRows:  # stored vectors of other texts: nothing to compare
        return Drift(probes=0, min_cosine=1.0, max_difference=0.0, worst="", allowed=allowed)
    return between(stored, rows, allowed)


def between(stored: Probes, rows: Float32[np.ndarray, "n d"], allowed: float) -> Drift:
    """Return the drift from stored probes to other rows of the same texts."""
    a, b = stored.rows.astype(np.float64), rows.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = (a * b).sum(axis=1) / np.maximum(lengths, 1e-30)
    worst = int(np.argmin(cosine))  # of NaN, too
    return Drift(
        probes=len(a),
        min_cosine=float(cosine[worst]),
        max_difference=float(np.abs(a - b).max()),
        worst=stored.texts[worst],
        allowed=allowed,
    )


def require(place: Place, plan: Plan, encoder: TextEncoder) -> Drift | None:
    """Store the probes of a new cache; hold the encoder of an older one to those it has.

    Returns:
        None where the probes were made now.

    Raises:
        SpaceMismatch: the encoder drifted, with the numbers.
    """
    stored = read(place, plan.space)
    if stored is None:
        write(place, plan, encoder)
        return None
    found = drift(stored, encoder, plan)
    if not found.ok:
        raise SpaceMismatch(
            f"The encoder {encoder.part.name} does not make the rows any more that {place} holds, "
            f"though the fingerprint is the same ({found}); find out what changed (weights, "
            "packages, the server), or embed into another folder."
        )
    return found


def _encode(encoder: TextEncoder, texts: Sequence[str], plan: Plan) -> Float32[np.ndarray, "n d"]:
    return encoder.encode(texts, precision=plan.precision, token_budget=plan.token_budget).rows
