"""The pointing game: whether the patch nearest to what a thing is called lies on the thing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from lift.errors import ConfigError, DataError
from lift.evals import _metrics as metrics
from lift.evals._dense import DenseImages, centres, dense_images
from lift.evals._encode import encode_distinct
from lift.evals._seen import seen_note
from lift.terms import Encoder, EvalResult, Region, Source


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the pointing evaluation.

    Attributes:
        template: a sentence with {} for what a region is called.
        benchmark: what the images are, for the warning about captions that the text encoder saw;
            None guesses from the source's name.
        examples: regions kept for the report.
    """

    template: str = "{}"
    benchmark: str | None = None
    examples: int = 8


@dataclass(frozen=True)
class Answer:
    """Where an encoder pointed for one region.

    Attributes:
        image: a number for the image, equal where the bytes are.
        credit: share of the best cells that lie on the thing.
        chance: share of all cells that do.
        sure: whether all of the best cells do.
        point: across and down, of the first best cell's centre, as shares of the image.
    """

    key: str
    index: int
    image: int
    region: Region
    credit: float
    chance: float
    sure: bool
    point: tuple[float, float]

    @property
    def middle(self) -> bool:
        """Whether the middle of the image lies in the box."""
        left, top, right, bottom = self.region.box
        return left <= 0.5 <= right and top <= 0.5 <= bottom


class Pointing:
    """Share of regions whose best patch lies in their box (Zhang et al. 2018, section 5.1).

    The point is the centre of the patch whose vector is nearest to the region's text. A box that
    holds no centre is hit by the patch that its own middle lies in, so that any box can be hit
    that the encoder sees; one out of its sight is a miss, and counted. Their tolerance of 15
    pixels around a box is not given. Equal patches share the point.
    """

    version = 1
    primary = "accuracy"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.protocol = "centre of the best patch in the region's box"
        if config.template != "{}":
            self.protocol += f", template {config.template!r}"

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on every region of `source`.

        Raises:
            ConfigError: the encoder has no `encode_patches`.
            DataError: no sample has regions, or no image can be read.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        images = dense_images(encoder, source, "pointing")
        answers, without = self._answers(encoder, images)
        if not answers:
            raise DataError(
                f"{source.name} holds no regions (boxes with a name), so the pointing evaluation "
                "can't ask anything; take a source that has them."
            )
        credit = np.array([answer.credit for answer in answers])
        clusters = np.array([answer.image for answer in answers])
        unseen = sum(answer.chance == 0 for answer in answers)
        counts = {"images": len(images.numbers) - without, "regions": len(answers)}
        if without:
            counts["images without regions"] = without
        if unseen:
            counts["regions out of sight"] = unseen
        sure = np.array([answer.sure for answer in answers])
        middle = float(np.mean([answer.middle for answer in answers]))
        return EvalResult(
            evaluation="pointing",
            version=self.version,
            protocol=self.protocol,
            data=source.name,
            primary=self.primary,
            metrics={"accuracy": metrics.share(credit, None, clusters)},
            counts=counts | images.counts(),
            chance=float(np.mean([answer.chance for answer in answers])),
            notes=(
                f"pointing at the middle of each image would be right for {middle:.1%}",
                *images.notes(),
                *seen_note(encoder, source, self.config.benchmark),
            ),
            examples=tuple(
                _example(at, answers[at]) for at in metrics.chosen(sure, self.config.examples)
            ),
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
            digest=images.digest,
        )

    def _answers(self, encoder: Encoder, images: DenseImages) -> tuple[list[Answer], int]:
        """Return what is answered for every region, and how many images have none."""
        found, without = [], 0
        known: dict[str, np.ndarray] = {}
        for number, sample, z, frame in images.cells():
            without += not sample.regions
            texts = [self.config.template.replace("{}", r.text) for r in sample.regions]
            new = [text for text in dict.fromkeys(texts) if text not in known]
            if new:
                if len(known) > _REMEMBERED:
                    known.clear()
                    new = list(dict.fromkeys(texts))
                vectors, place = encode_distinct(encoder, new)
                known.update((text, vectors[at]) for text, at in zip(new, place, strict=True))
            for region, text in zip(sample.regions, texts, strict=True):
                right = cells_of(region.box, z.shape[0], z.shape[1], frame)
                scores = z @ known[text]
                best = scores >= scores.max() - metrics.TIE
                down, across = centres(z.shape[0], z.shape[1], frame)
                row, col = np.unravel_index(int(best.argmax()), best.shape)
                found.append(
                    Answer(
                        key=sample.key,
                        index=number,
                        image=images.content[-1],
                        region=region,
                        credit=float((best & right).sum() / best.sum()),
                        chance=float(right.mean()),
                        sure=bool(right[best].all()),
                        point=(float(across[col]), float(down[row])),
                    )
                )
        return found, without


_REMEMBERED = 20_000
"""Texts whose vectors are kept: things are called alike in many images."""


def cells_of(
    box: tuple[float, float, float, float],
    rows: int,
    cols: int,
    frame: Float[np.ndarray, " 4"],
) -> Bool[np.ndarray, "rows cols"]:
    """Return which cells hit a box: those with their centre in it, or the one at its middle.

    Args:
        box: left, top, right, bottom, as shares of the image.
        rows, cols: of the grid.
        frame: the part of the image that the grid covers, likewise.
    """
    down, across = centres(rows, cols, frame)
    left, top, right, bottom = box
    hit = ((down >= top) & (down <= bottom))[:, None] & ((across >= left) & (across <= right))
    if hit.any():
        return hit
    x, y = (left + right) / 2, (top + bottom) / 2
    if frame[0] <= x <= frame[2] and frame[1] <= y <= frame[3]:
        hit[int(np.abs(down - y).argmin()), int(np.abs(across - x).argmin())] = True
    return hit


def _example(item: int, answer: Answer) -> dict[str, Any]:
    return {
        "item": item,
        "key": answer.key,
        "index": answer.index,
        "query": answer.region.text,
        "box": [round(float(end), 4) for end in answer.region.box],
        "point": [round(share, 4) for share in answer.point],
        "right": answer.sure,
    }


def build(config: Config) -> Pointing:
    """Return the evaluation.

    Raises:
        ConfigError: a negative number of examples, or a template without {}.
    """
    if config.examples < 0:
        raise ConfigError(f"pointing.examples must be 0 or more, not {config.examples}.")
    if "{}" not in config.template:
        raise ConfigError(f"pointing.template needs {{}} for the name: {config.template!r}.")
    return Pointing(config)
