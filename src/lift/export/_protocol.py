"""What an exporter is, what it says of what it wrote, and how two sets of vectors are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from lift.bundle import Bundle


@dataclass(frozen=True, kw_only=True)
class Written:
    """What an exporter says of the folder it filled.

    Attributes:
        usage: Markdown for the README: how a fresh process loads it, as code that runs; `{folder}`
            stands for the folder.
        notes: sentences that the user must know (what it needs, what differs); printed and in the
            README.
        library: `library_name` of the Hugging Face hub ("sentence-transformers", "timm").
        pipeline: its `pipeline_tag` ("image-feature-extraction").
        tags: further tags of the hub.
        texts: whether the text encoder is in the folder.
    """

    usage: str
    notes: tuple[str, ...] = ()
    library: str = ""
    pipeline: str = "image-feature-extraction"
    tags: tuple[str, ...] = ()
    texts: bool = False


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far what was reloaded is from the model.

    Attributes:
        what: what was compared ("image vectors, from the same pixels").
        count: rows compared.
        largest: largest absolute difference of a number.
        tolerance: it may be at most this much; None: it is told, not judged.
        cosine: lowest cosine of a row with the model's; None where rows are no vectors.
    """

    what: str
    count: int
    largest: float
    tolerance: float | None = None
    cosine: float | None = None

    def __str__(self) -> str:
        near = "" if self.cosine is None else f", lowest cosine {self.cosine:.6f}"
        bound = "not judged" if self.tolerance is None else f"at most {self.tolerance:g} is allowed"
        return f"{self.what} ({self.count}): largest difference {self.largest:.1e}{near}; {bound}"


@runtime_checkable
class Exporter(Protocol):
    """What `build(config)` of a file in this room returns."""

    def write(self, bundle: Bundle, folder: Path) -> Written:
        """Fill an empty folder with everything but README.md, and say what lies there.

        Raises:
            ConfigError: this model can't be had in this form; the sentence says why and what can.
            MissingPackage: what writes it is not installed.
        """
        ...

    def check(
        self, bundle: Bundle, folder: Path, images: Sequence[np.ndarray]
    ) -> Sequence[Difference]:
        """Reload what `write` wrote, by the other library, and compare it with the model.

        What differs in preprocessing is told apart: one difference from the same pixels (judged),
        one with the library's own preprocessing (told, unless it should be exact).

        Args:
            bundle: the model; `bundle.device` may be any.
            folder: what `write` filled.
            images: pictures as uint8 [h w 3] of several shapes.

        Raises:
            MissingPackage: the other library is not installed. What was written is kept then, and
                said to be unchecked.
        """
        ...


def difference(
    what: str,
    ours: np.ndarray,
    theirs: np.ndarray,
    tolerance: float | None = None,
    *,
    vectors: bool = True,
) -> Difference:
    """Compare two sets of rows, ours first.

    Args:
        what: for people.
        ours, theirs: rows of any shape; anything not finite differs infinitely.
        tolerance: as in `Difference`.
        vectors: whether the last axis holds vectors, whose cosines say something.
    """
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        return Difference(what=what, count=len(ours), largest=float("inf"), tolerance=tolerance)
    gap = np.abs(ours - theirs)
    largest = float(gap.max(initial=0)) if np.isfinite(gap).all() else float("inf")
    cosine = _lowest_cosine(ours, theirs) if vectors and ours.size else None
    return Difference(
        what=what, count=len(ours), largest=largest, tolerance=tolerance, cosine=cosine
    )


def _lowest_cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    lengths = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    cosines = (ours * theirs).sum(-1) / np.maximum(lengths, 1e-12)
    return float(np.nan_to_num(cosines, nan=-1.0).min())
