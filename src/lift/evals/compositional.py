"""Choose between the right caption of an image and a foil that is wrong in one way."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from lift.errors import ConfigError, DataError
from lift.evals import _metrics as metrics
from lift.evals._encode import Images, encode_distinct
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
    about one image are one cluster in the intervals, told by the bytes of the image; those that
    ask the same two texts of several images are counted as alike there too.
    """

    version = 1
    primary = "accuracy/mean of kinds"
    protocol = "caption against foil"

    def __init__(self, config: Config) -> None:
        self.config = config

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on every foil of `source`.

        Raises:
            DataError: no sample has foils, or none can be read.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        images = Images(encoder, source)
        items, without = _answers(encoder, images)
        if not items:
            raise DataError(
                f"{source.name} holds no foils (wrong captions to compare with), so the "
                "compositional evaluation can't ask anything; take a source that has them."
            )
        credit = np.array([item.credit for item in items])
        ties = int((credit == 0.5).sum())
        asked = len({item.image for item in items})
        counts = {"images": asked, "items": len(items), "ties": ties}
        if without:
            counts["images without foils"] = without
        counts |= images.counts()
        return EvalResult(
            evaluation="compositional",
            version=self.version,
            protocol=self.protocol,
            data=source.name,
            primary=self.primary,
            metrics=_figures(items, credit),
            counts=counts,
            chance=0.5,
            notes=((f"ties, counted half: {ties}",) if ties else ())
            + images.notes()
            + seen_note(encoder, source, self.config.benchmark),
            examples=_examples(items, credit, self.config.examples),
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
        )


def _answers(encoder: Encoder, images: Images) -> tuple[list[Item], int]:
    """Return every question with its scores, and how many samples have none."""
    items: list[Item] = []
    without = 0
    for numbers, samples, z_image in images:
        content = images.content[-len(samples) :]
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
            items.append(
                Item(samples[at].key, numbers[at], content[at], foil, float(caption), float(wrong))
            )
    return items, without


def _figures(items: list[Item], credit: np.ndarray) -> dict[str, Metric]:
    kinds, kind = np.unique([item.foil.kind for item in items], return_inverse=True)
    images = np.array([item.image for item in items])
    weights = metrics.class_weights(kind)
    every = np.ones(len(items), dtype=np.bool_)
    found = {
        "accuracy/mean of kinds": metrics.share(credit, weights, images, _alike(items, every)),
        "accuracy/all items": metrics.share(credit, None, images, _alike(items, every)),
    }
    for number, name in enumerate(kinds):
        mine = kind == number
        alike = _alike(items, mine)
        found[f"accuracy/{name}"] = metrics.share(credit[mine], None, images[mine], alike)
    return found


def _alike(items: list[Item], mine: np.ndarray) -> metrics.Alike | None:
    """Return which of these items ask the same two texts; None where no two images do."""
    place: dict[tuple[str, str], int] = {}
    chosen = [items[int(at)] for at in np.flatnonzero(mine)]
    pair = [place.setdefault((i.foil.caption, i.foil.foil), len(place)) for i in chosen]
    if len(place) == len({(i.image, p) for i, p in zip(chosen, pair, strict=True)}):
        return None
    return metrics.Alike(np.arange(len(chosen)), np.array(pair, dtype=np.int64))


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
