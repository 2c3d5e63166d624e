"""Probe sentences with their rows, stored with every cache: they notice an encoder that drifted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from lift.cache.maker import RowMaker
from lift.cache.manifest import PROBES, Plan, Space
from lift.cache.place import Place
from lift.errors import CacheError, MissingRows, NotFinite, SpaceMismatch

_TAG = b"lift.cache.probes/1"

LEAST_COSINE: dict[str, float] = {"float32": 0.9999, "bfloat16": 0.999}
"""Between a stored row and the same text's row today. In float32 another machine or batch moves it
by about 1e-7, in bfloat16 0.99997 was measured; another revision of a model is far below."""

LEAST_COSINE_DECODED = 0.999
"""Of rows that went through float16, the coarsest codec of caches without probes."""

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
        min_cosine: smallest cosine between the two rows of a text; in a space without unit length
            times the shorter length over the longer.
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


def write(place: Place, plan: Plan, encoder: RowMaker) -> Float32[np.ndarray, "n d"]:
    """Store the encoder's probes, unless another part was first; return its own rows."""
    texts = list(encoder.probes)
    rows = _encode(encoder, texts, plan)
    if not (finite := np.isfinite(rows).all(axis=1)).all():
        raise NotFinite(
            f"The encoder {encoder.part.name} returned NaN or infinity for "
            f"{texts[int(np.argmin(finite))]!r}; check its weights or use precision float32."
        )
    made = Probes(tuple(texts), rows)
    place.write(PROBES, lambda path: dump(path, made, plan.space), new=True)
    return rows


def dump(path: Path, stored: Probes, space: Space) -> None:
    """Write probes into a file."""
    width = stored.rows.shape[1]
    shape = pa.schema(
        [
            pa.field("text", pa.string(), nullable=False),
            pa.field("row", pa.list_(pa.float32(), width), nullable=False),
        ],
        metadata={_TAG: space.fingerprint.encode("ascii")},
    )
    values = pa.FixedSizeListArray.from_arrays(pa.array(stored.rows.reshape(-1)), width)
    batch = pa.RecordBatch.from_arrays([pa.array(stored.texts, pa.string()), values], schema=shape)
    with path.open("wb") as file, pa.ipc.new_file(file, shape) as writer:
        writer.write_batch(batch)


def read(place: Place, space: Space) -> Probes | None:
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
        rows = flat.reshape(len(table), space.dimensions).astype(np.float32)
        if not len(rows):
            raise ValueError("it holds none")
        return Probes(tuple(table["text"].to_pylist()), rows)
    except (pa.ArrowException, ValueError, KeyError, IndexError, AttributeError) as error:
        raise CacheError(
            f"{place}/{PROBES} is damaged ({' '.join(str(error).split())[:200]}); copy the cache "
            "again, or remove the file and run `lift embed` again, which makes it anew."
        ) from error


def drift(stored: Probes, encoder: RowMaker, plan: Plan, allowed: float | None = None) -> Drift:
    """Embed the stored probes again and say how far they moved."""
    try:
        rows = _encode(encoder, list(stored.texts), plan)
    except MissingRows:  # stored vectors of other texts: nothing to compare
        return Drift(probes=0, min_cosine=1.0, max_difference=0.0, worst="", allowed=1.0)
    return between(stored, rows, allowed or _allowed(encoder, plan), plan.space.normalised)


def _allowed(encoder: RowMaker, plan: Plan) -> float:
    local = encoder.device.partition(":")[0] in ("cpu", "cuda", "mps")
    return LEAST_COSINE[plan.precision] if local else LEAST_COSINE_AFAR


def between(
    stored: Probes, rows: Float32[np.ndarray, "n d"], allowed: float, normalised: bool
) -> Drift:
    """Return the drift from stored probes to other rows of the same texts."""
    a, b = stored.rows.astype(np.float64), rows.astype(np.float64)
    own, other = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    # Where rows have no unit length, the length is part of what they say.
    scale = own * other if normalised else np.maximum(own, other) ** 2
    cosine = (a * b).sum(axis=1) / np.where(scale > 0, scale, 1.0)
    cosine = np.where((a == b).all(axis=1), 1.0, cosine)  # two rows of zeros, too
    worst = int(np.argmin(cosine))  # of NaN, too
    return Drift(
        probes=len(a),
        min_cosine=float(cosine[worst]),
        max_difference=float(np.abs(a - b).max()),
        worst=stored.texts[worst],
        allowed=allowed,
    )


def require_near(stored: Probes, encoder: RowMaker, owner: str) -> None:
    """Hold an encoder to probes that came with a model, in whatever precision they were made.

    Raises:
        SpaceMismatch: its rows are others, with the numbers.
    """
    try:
        rows = encoder.encode(list(stored.texts)).rows
    except MissingRows:  # stored vectors of other texts
        return
    found = between(stored, rows, LEAST_COSINE_DECODED, encoder.space.normalised)
    _hold(owner, encoder, found)


def require_alike(
    ours: Probes | None, theirs: Probes | None, space: Space, *, cache: str, model: str
) -> None:
    """Hold a cache to a model of the same fingerprint: by probes that both have.

    Raises:
        SpaceMismatch: their rows differ, with the numbers.
    """
    if ours is None or theirs is None or ours.texts != theirs.texts:
        return
    found = between(ours, theirs.rows, LEAST_COSINE_DECODED, space.normalised)
    if not found.ok:
        raise SpaceMismatch(
            f"The cache {cache} has the fingerprint of the text space of {model}, but other rows "
            f"({found}); use the cache that the model was trained from."
        )


def require(
    place: Place, plan: Plan, encoder: RowMaker, known: Callable[[], Probes | None]
) -> Drift | None:
    """Store the probes of a new cache; hold the encoder to those that it has.

    A cache of an older lift has rows but no probes: these are made only by an encoder that makes
    some of those rows again.

    Args:
        place: of the cache.
        plan: its plan.
        encoder: to be held.
        known: gives texts that have rows already.

    Returns:
        None where the encoder has no probes, and none are stored.

    Raises:
        SpaceMismatch: the encoder drifted, with the numbers.
    """
    stored = read(place, plan.space)
    if stored is None:
        if not encoder.probes:
            return None
        if (rows := known()) is not None:
            _hold(place, encoder, drift(rows, encoder, plan, LEAST_COSINE_DECODED))
        own = write(place, plan, encoder)
        stored = read(place, plan.space)  # of several parts that start at once, one was first
        if stored is None or stored.texts != encoder.probes:
            raise CacheError(f"{place}/{PROBES} went while it was read; run the command again.")
        found = between(stored, own, _allowed(encoder, plan), plan.space.normalised)
    else:
        found = drift(stored, encoder, plan)
    _hold(place, encoder, found)
    return found


def _hold(owner: object, encoder: RowMaker, found: Drift) -> None:
    if not found.ok:
        raise SpaceMismatch(
            f"The encoder {encoder.part.name} does not make the rows any more that {owner} holds, "
            f"though the fingerprint is the same ({found}); find out what changed (weights, "
            "packages, the server), or embed into another folder."
        )


def _encode(encoder: RowMaker, texts: Sequence[str], plan: Plan) -> Float32[np.ndarray, "n d"]:
    return encoder.encode(texts, precision=plan.precision, token_budget=plan.token_budget).rows
