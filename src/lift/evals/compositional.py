"""Choose between the right caption of an image and a foil that is wrong in one way."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from lift.errors import ConfigError, DataError
from lift.evals import _metrics as metrics
from lift.evals._encode import encode_distinct, encoded
from lift.evals._seen import seen_note
from lift.terms import Encoder, EvalResult, Foil, Metric, Source


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the compositional evaluation.

    Attributes:
        benchmark: what the pairs are ("sugarcrepe", ...), for the warning about captions that the
            text encoder saw; None guesses from the source's name.
        examples: items kept for the report.
    """

    benchmark: str | None = None
    examples: int = 8


@dataclass(frozen=True)
class Item:
    """One question and how the encoder answered it."""

    key: str
    index: int
    image: int
    foil: Foil
    caption_score: float
    foil_score: float

    @property
    def credit(self) -> float:
        """1 where the caption wins, 0 where the foil does, 0.5 where neither."""
        lead = self.caption_score - self.foil_score
        return 0.5 if abs(lead) <= metrics.TIE else float(lead > 0)


class Compositional:
    """Share of foils that score lower than their caption, for each kind and over kinds.

    The mean over kinds counts every kind alike, as SugarCrepe's authors do (Hsieh et al. 2023);
    the share of all items follows the sizes of the kinds. Equal scores count half. Questions
    about one image are one cluster in the intervals, told by the bytes of the image.
    """

    version = 1
    primary = "accuracy/mean of kinds"
    protocol = "caption against foil"

    def __init__(self, config: Config) -> None:
        self.config = config

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on every foil of `source`.

        Raises:
            DataError: no sample has foils, or one can't be read.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        items, without, images = _answers(encoder, source)
        if not items:
            raise DataError(
                f"{source.name} holds no foils (wrong captions to compare with), so the "
                "compositional evaluation can't ask anything; take a source that has them."
            )
        credit = np.array([item.credit for item in items])
        ties = int((credit == 0.5).sum())
        counts = {"images": images, "items": len(items), "ties": ties}
        if without:
            counts["images without foils"] = without
        return EvalResult(
            evaluation="compositional",
            version=self.version,
            protocol=self.protocol,
            data=source.name,
            primary=self.primary,
            metrics=_figures(items, credit),
            counts=counts,
            chance=0.5,
            notes=((f"{ties} ties count half",) if ties else ())
            + seen_note(encoder, source, self.config.benchmark),
            examples=_examples(items, credit, self.config.examples),
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
        )


def _answers(encoder: Encoder, source: Source) -> tuple[list[Item], int, int]:
    """Return every question with its scores, samples without one, and distinct images asked."""
    items: list[Item] = []
    without = 0
    numbers: dict[bytes, int] = {}
    for start, samples, z_image in encoded(encoder, source):
        without += sum(not sample.foils for sample in samples)
        asked = [(at, foil) for at, sample in enumerate(samples) for foil in sample.foils]
        if not asked:
            continue
        texts = [text for _, foil in asked for text in (foil.caption, foil.foil)]
        vectors, place = encode_distinct(encoder, texts)
        z_text = vectors[place].reshape(len(asked), 2, -1)
        z = z_image[[at for at, _ in asked]]
        scores = np.einsum("qd,qtd->qt", z, z_text)
        for (at, foil), (caption, wrong) in zip(asked, scores, strict=True):
            image = hashlib.blake2b(samples[at].image, digest_size=16).digest()
            number = numbers.setdefault(image, len(numbers))
            items.append(
                Item(samples[at].key, start + at, number, foil, float(caption), float(wrong))
            )
    return items, without, len(numbers)


def _figures(items: list[Item], credit: np.ndarray) -> dict[str, Metric]:
    kinds, kind = np.unique([item.foil.kind for item in items], return_inverse=True)
    images = np.array([item.image for item in items])
    weights = metrics.class_weights(kind)
    found = {
        "accuracy/mean of kinds": metrics.share(credit, weights, images),
        "accuracy/all items": metrics.share(credit, clusters=images),
    }
    for number, name in enumerate(kinds):
        mine = kind == number
        found[f"accuracy/{name}"] = metrics.share(credit[mine], clusters=images[mine])
    return found


def _examples(items: list[Item], credit: np.ndarray, count: int) -> tuple[dict[str, Any], ...]:
    """Return a few items, right and wrong in turn, as plain JSON values."""
    return tuple(
        {
            "key": items[at].key,
            "index": items[at].index,
            "kind": items[at].foil.kind,
            "caption": items[at].foil.caption,
            "foil": items[at].foil.foil,
            "caption_score": round(items[at].caption_score, 4),
            "foil_score": round(items[at].foil_score, 4),
            "right": items[at].credit == 1.0,
        }
        for at in metrics.both_kinds(credit == 1.0, count)
    )


def build(config: Config) -> Compositional:
    """Return the evaluation.

    Raises:
        ConfigError: a negative number of examples.
    """
    if config.examples < 0:
        raise ConfigError(f"compositional.examples must be 0 or more, not {config.examples}.")
    return Compositional(config)
