"""Stored text vectors as the loader needs them, and the proof that every caption has one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from lift.data import kinds
from lift.data.tally import Tally
from lift.errors import BrokenSample, DataError, MissingRows
from lift.terms import Caption, Source

_LOOKED_UP_TOGETHER = 4096


@runtime_checkable
class Rows(Protocol):
    """Stored text vectors, as `lift.cache.reader.EmbeddingCache` has them."""

    def find(self, texts: list[str]) -> np.ndarray:
        """Return the int64 row number of every text, -1 where it has none."""
        ...

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows of these numbers as float32 [n d]."""
        ...

    def take_stored(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows of these numbers as they are stored [n w]."""
        ...

    def decode(self, stored: Tensor) -> Shaped[Tensor, "n d"]:
        """Return the rows of stored ones, computed where those are."""
        ...


class Pairs(NamedTuple):
    """What a reading of all captions found.

    Attributes:
        digest: of all keys and captions in order (32 hex digits): other data, another digest.
        usable: samples with at least one caption of the roles.
        unusable: the others, by reason.
        roles: how many captions of each role there are.
    """

    digest: str
    usable: int
    unusable: Tally
    roles: Mapping[str, int]


def require_rows(source: Source, cache: Rows, roles: Sequence[str] = ()) -> Pairs:
    """Check that every caption of the roles has a stored row; one pass, bounded memory.

    Raises:
        DataError: no sample has a caption of these roles.
        MissingRows: with how many captions have no row, and the first of them.
    """
    missing, total, first = 0, 0, ""
    held: list[str] = []
    digest = hashlib.blake2b(digest_size=16)
    usable, unusable = 0, Tally()
    met: Counter[str] = Counter()

    def look_up() -> None:
        nonlocal missing, total, first
        for text, row in zip(held, cache.find(held), strict=True):
            if row < 0:
                first = first or text
                missing += 1
        total += len(held)
        held.clear()

    for key, captions in source.texts():
        words = "\0".join([key, *(caption.text for caption in captions)])
        digest.update(words.encode("utf-8", "surrogatepass") + b"\n")
        if not captions:
            continue  # the source itself counted why
        met.update(caption.role for caption in captions)
        taken = [caption.text for caption in of_roles(captions, roles)]
        if not taken:
            error = lacking(captions, roles, key)
            unusable.add(error.kind, str(error))
            continue
        held += taken
        usable += 1
        if len(held) >= _LOOKED_UP_TOGETHER:
            look_up()
    look_up()
    if missing:
        raise MissingRows(
            f"{missing} of {total} captions of {source.name} have no row in the cache; the first "
            f"is {first!r}. Run `lift embed` on this data with the cache's folder: it adds what "
            "is missing."
        )
    if not usable:
        why = next(iter({**getattr(source, "examples", {}), **unusable.first}.values()), "")
        raise DataError(f"No sample of {source.name} has a caption to use. The first: {why}")
    return Pairs(digest.hexdigest(), usable, unusable, met)


def of_roles(captions: Sequence[Caption], roles: Sequence[str]) -> list[Caption]:
    """Return the captions of these roles, all for none."""
    return [caption for caption in captions if not roles or caption.role in roles]


def lacking(captions: Sequence[Caption], roles: Sequence[str], key: str) -> BrokenSample:
    """Return what to raise for a sample without a caption of these roles."""
    found = ", ".join(sorted({caption.role for caption in captions})) or "none"
    return BrokenSample(
        kinds.CAPTION_ROLES,
        f"Sample {key!r} has no caption of the roles {', '.join(roles)}; its roles are {found}. "
        "Change loader.roles or loader.captions.",
    )
