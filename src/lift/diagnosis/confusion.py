"""Which classes the text space can't tell apart, and whether that is where images go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64

from lift.diagnosis._finding import Finding, level_of, skipped
from lift.diagnosis._measured import Measured, mean_cosine
from lift.evals._metrics import wilson
from lift.terms import unit
from lift.text.encoder import clean

NAME = "class confusion"
ADVICE = (
    "Give the named classes prompts that say how they differ (`descriptors`, several names), or "
    "merge them: no image tower in this text space can tell equal rows apart."
)
TEMPLATES = ("a photo of a {}.",)
MOST_CLASSES = 2_000
SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Config:
    """Above which nearness of two classes they are looked at, and are a fault; and the prompts.

    Nearness is the cosine less what any two captions share: (cos - m) / (1 - m) with their mean
    cosine m, so that spaces that crowd are judged alike. Of the 27 sets of classes that CLIP was
    judged on, MiniLM puts 20 below 0.95 (CIFAR-10 0.74, Food-101 0.79, Caltech-101 0.94) and four
    between (kinds of owls, cars and aircraft, temples of east and south Asia). Above 0.99 are
    arrows to the left and to the right (GTSRB), football "in game" and "not in game"
    (Kinetics-700), and ImageNet's two "sunglasses".
    """

    look: float = 0.95
    fault: float = 0.99
    templates: tuple[str, ...] = TEMPLATES


class Confusion:
    """Cosines of class prompts, and the nearest rival of each class, before any image is seen.

    Where images have labels: of the images that are classed wrong, how many went to the class that
    lies nearest to the right one in text space. Guessing among the others would send 1 / (k - 1).
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def ask(self, measured: Measured) -> Finding:
        """Return the largest cosine of two classes."""
        if measured.labels is None:
            return skipped(NAME, "No classes were given.", "Name the field of the class: --label.")
        names = sorted({clean(label) for label in measured.labels if clean(label)})
        if not 2 <= len(names) <= MOST_CLASSES:
            why = f"{len(names)} classes; this asks for 2 to {MOST_CLASSES:,}."
            return skipped(NAME, why, "Name the field of the class: --label.")
        if measured.flat_texts:
            return skipped(NAME, measured.unfit(), ADVICE)
        templates = self.config.templates
        rows = measured.rows_of([t.replace("{}", n) for n in names for t in templates])
        if isinstance(rows, str):
            return skipped(NAME, rows, "Open the model with its text encoder.")
        z_class = _means(rows, len(names))
        cosine = (z_class @ z_class.T).astype(np.float64)
        np.fill_diagonal(cosine, -1.0)
        largest = float(cosine.max())
        shared = mean_cosine(measured.z_text) if len(measured.texts) > 1 else 0.0
        near = (cosine - shared) / max(1.0 - shared, 1e-9)
        level = level_of(float(near.max()), self.config.look, self.config.fault)
        rates, errors = _measured_errors(measured, names, z_class, cosine)
        closest = _closest(cosine, names, rates)
        a, b = closest[0]["classes"]
        beside = f"; {errors['share']:.0%} of errors go to the nearest class" if errors else ""
        means = f"The nearest classes in text, {a!r} and {b!r}, can be told apart{beside}."
        if level != "fine":
            means = f"The text space hardly tells {a!r} from {b!r}{beside}."
        same = int((near >= self.config.fault).any(axis=1).sum())
        return Finding(
            name=NAME,
            level=level,
            means=means,
            advice=ADVICE,
            value=largest,
            items=len(names),
            unit="largest cosine of two classes",
            details={
                "nearness": float(near.max()),
                "closest": closest,
                "classes_not_told_apart": same,
                "errors_to_nearest_class": errors,
                "templates": list(templates),
            },
        )


def _means(rows: np.ndarray, classes: int) -> Float[np.ndarray, "k d"]:
    """Return the mean row of each class, unit length again."""
    each = rows.reshape(classes, -1, rows.shape[1]).mean(axis=1)
    return unit(torch.from_numpy(each)).numpy()


def _measured_errors(
    measured: Measured, names: Sequence[str], z_class: np.ndarray, cosine: np.ndarray
) -> tuple[np.ndarray, dict[str, Any] | None]:
    """Return how often an image of class i is taken for j [k k], and where the errors went."""
    number = {name: at for at, name in enumerate(names)}
    labels = [clean(label) for label in measured.labels or ()]
    kept = np.array([at for at, label in enumerate(labels) if label], np.int64)
    truth = np.array([number[labels[at]] for at in kept], np.int64)
    taken = (measured.z_image[kept] @ z_class.T).argmax(axis=1)
    counts = np.zeros(cosine.shape)
    np.add.at(counts, (truth, taken), 1.0)
    of = np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    wrong = taken != truth
    count = int(wrong.sum())
    if count == 0:
        return counts / of, None
    rival: Int64[np.ndarray, " k"] = cosine.argmax(axis=1)
    share = float((taken[wrong] == rival[truth[wrong]]).mean())
    low, high = wilson(share, count)
    found = {"share": share, "low": low, "high": high, "errors": count}
    return counts / of, found | {"images": len(kept), "chance": 1 / max(len(names) - 1, 1)}


def _closest(cosine: np.ndarray, names: Sequence[str], rates: np.ndarray) -> list[dict[str, Any]]:
    """Return the pairs of classes with the largest cosines, and how often one is the other."""
    first, second = np.triu_indices(len(names), 1)
    order = np.argsort(-cosine[first, second], kind="stable")[:SHOWN]
    return [
        {
            "classes": [names[i], names[j]],
            "cosine": float(cosine[i, j]),
            "taken_for_the_other": [float(rates[i, j]), float(rates[j, i])],
        }
        for i, j in ((int(first[n]), int(second[n])) for n in order)
    ]


def build(config: Config) -> Confusion:
    """Return the question."""
    return Confusion(config)
