"""Zero-shot segmentation: name the class of every pixel from the patches' vectors and the names."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from lift.bank import Bank
from lift.errors import BrokenSample, ConfigError, DataError
from lift.evals import _metrics as metrics
from lift.evals._dense import DenseImages, dense_images
from lift.evals._masks import (
    MOST_SIDE,
    NOBODY,
    chance_iou,
    classes_named,
    mask_of,
    mean_iou,
    overlaps,
)
from lift.evals._seen import seen_note
from lift.terms import Encoder, EvalResult, Metric, Sample, Source

NAMES = "mask_classes"
"""Field of a sample with the names of the classes of its mask, by number, as a JSON list."""

_LISTED = 32
"""Up to so many classes have figures of their own."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the segmentation evaluation.

    Attributes:
        classes: names in the order of their numbers in the masks; None takes those that the
            samples tell.
        ignore: names of classes that are not judged: their pixels count for nothing, and nothing
            is called so.
        template: a sentence with {} for the name.
        benchmark: what the images are, for the warning about captions that the text encoder saw;
            None guesses from the source's name.
        examples: images kept for the report.
    """

    classes: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ("background",)
    template: str = "a photo of a {}."
    benchmark: str | None = None
    examples: int = 8


@dataclass
class Found:
    """What the images gave.

    Attributes:
        names: of the classes that are judged.
        overlap: for each image, what `_masks.overlaps` returns.
        at, keys: number in the source and key of each.
        content: a number for each, equal where bytes are.
        without, blank, broken: images without a mask, without a judged pixel, and of which masks
            could not be read.
    """

    names: tuple[str, ...]
    overlap: list[np.ndarray]
    at: list[int]
    keys: list[str]
    content: list[int]
    without: int
    blank: int
    broken: list[str]


class Segmentation:
    """Mean intersection over union, over classes that occur, of all images together.

    A pixel gets the class whose text is nearest to the patches around it: scores of patches are
    interpolated linearly. Nothing is refined, and no window slides: parts of an image that the
    encoder does not see have the scores of the nearest patches. "pixel accuracy" is the share of
    judged pixels. Classes that tie share a pixel.
    """

    version = 1
    primary = "mIoU"

    def __init__(self, config: Config) -> None:
        self.config = config
        names = f"{len(config.classes)} given classes" if config.classes else "classes of the data"
        ignored = f" without {', '.join(config.ignore)}" if config.ignore else ""
        self.protocol = (
            f"{names}{ignored}, template {config.template!r}, patches interpolated linearly, masks "
            f"of at most {MOST_SIDE} pixels a side"
        )
        if config.classes:
            stamp = hashlib.blake2b(json.dumps(config.classes).encode(), digest_size=4)
            self.protocol += f" [{stamp.hexdigest()}]"

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on every mask of `source`.

        Raises:
            ConfigError: the encoder has no `encode_patches`.
            DataError: no sample has a mask, names that are missing, or no image can be read.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        images = dense_images(encoder, source, "segmentation")
        found = self._compared(encoder, images, source)
        if not found.overlap:
            raise DataError(
                f"{source.name} holds no masks with a class that is judged, so the segmentation "
                "evaluation can't ask anything; take a source that has them (voc)."
            )
        overlap = np.stack(found.overlap)
        clusters = None
        if len(set(found.content)) < len(found.content):
            clusters = np.array(found.content)
        pixels = overlap[:, 2].sum(axis=1)
        accuracy = overlap[:, 0].sum(axis=1) / pixels
        right = accuracy >= 0.5
        examples = [
            _example(at, found, overlap[at], bool(right[at]))
            for at in metrics.chosen(right, self.config.examples)
        ]
        figures = _figures(found.names, overlap, clusters)
        figures["pixel accuracy"] = metrics.share(accuracy, pixels, clusters)
        return EvalResult(
            evaluation="segmentation",
            version=self.version,
            protocol=self.protocol,
            data=source.name,
            primary=self.primary,
            metrics=figures,
            counts=_counts(found, overlap) | images.counts(),
            chance=chance_iou(overlap[:, 2].sum(axis=0)),
            notes=_notes(found)
            + images.notes()
            + seen_note(encoder, source, self.config.benchmark),
            examples=tuple(examples),
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
            digest=images.digest,
        )

    def _compared(self, encoder: Encoder, images: DenseImages, source: Source) -> Found:
        """Return every image's overlaps; only these stay in memory."""
        names, place, bank = (), np.empty(0), None
        found = Found((), [], [], [], [], 0, 0, [])
        for number, sample, z, frame in images.cells():
            if not sample.mask:
                found.without += 1
                continue
            if bank is None:
                names = self._names(sample, source)
                ignored = self.config.ignore
                judged = list(dict.fromkeys(name for name in names if name not in ignored))
                if not judged:
                    raise ConfigError(f"segmentation.ignore leaves no class of {source.name}.")
                bank = Bank.of_names(encoder, judged, [self.config.template])
                found.names = tuple(judged)
                place = _places(names, judged)
            try:
                mask = mask_of(sample.mask, sample.key)
            except BrokenSample as error:
                found.broken.append(str(error))
                continue
            beyond = mask[(mask >= len(names)) & (mask != NOBODY)]
            if beyond.size:
                raise DataError(
                    f"The mask of sample {sample.key!r} of {source.name} holds the class "
                    f"{int(beyond[0])}, and {len(names)} classes have names."
                )
            truth = place[mask]
            if not (truth >= 0).any():
                found.blank += 1
                continue
            scores = bank.scores(z.reshape(-1, z.shape[2])).reshape(*z.shape[:2], -1)
            found.overlap.append(overlaps(scores, truth, frame))
            found.at.append(number)
            found.keys.append(sample.key)
            found.content.append(images.content[-1])
        return found

    def _names(self, sample: Sample, source: Source) -> tuple[str, ...]:
        """Return the names of all classes, by number."""
        if self.config.classes is not None:
            return self.config.classes
        where = f"{NAMES} of sample {sample.key!r} of {source.name}"
        if NAMES not in sample.fields:
            raise DataError(
                f"{source.name} does not tell the names of its masks' classes; give classes=."
            )
        try:
            told = json.loads(sample.fields[NAMES])
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where} is not JSON ({error}).") from error
        return classes_named(told, where)


def _places(names: tuple[str, ...], judged: list[str]) -> np.ndarray:
    """Return for each number in a mask the place of its class among the judged, or -1."""
    place = np.full(NOBODY + 1, -1, dtype=np.int64)
    for number, name in enumerate(names):
        if name in judged:
            place[number] = judged.index(name)
    return place


def _figures(
    names: tuple[str, ...], overlap: np.ndarray, clusters: np.ndarray | None
) -> dict[str, Metric]:
    present = overlap[:, 2].sum(axis=0) > 0
    found = {"mIoU": mean_iou(overlap, present, clusters)}
    if present.sum() <= _LISTED:
        for at in np.flatnonzero(present):
            alone = np.arange(len(names)) == at
            found[f"IoU/{names[int(at)]}"] = mean_iou(overlap, alone, clusters)
    return found


def _counts(found: Found, overlap: np.ndarray) -> dict[str, int]:
    present = overlap[:, 2].sum(axis=0) > 0
    counts = {"images": len(overlap), "classes": len(found.names)}
    more = {
        "classes without a pixel": int((~present).sum()),
        "images without a mask": found.without,
        "images without a judged pixel": found.blank,
        "unreadable masks": len(found.broken),
    }
    return counts | {name: count for name, count in more.items() if count}


def _notes(found: Found) -> tuple[str, ...]:
    if not found.broken:
        return ()
    return (f"{len(found.broken)} unreadable masks left out: {found.broken[0]}",)


def _example(item: int, found: Found, overlap: np.ndarray, right: bool) -> dict[str, Any]:
    """Return one image with its classes by size, as plain JSON values; right from half on."""
    pixels = overlap[2].sum()
    order = [int(at) for at in np.argsort(-overlap[2], kind="stable")[:5] if overlap[2][at]]
    return {
        "item": item,
        "key": found.keys[item],
        "index": found.at[item],
        "accuracy": round(float(overlap[0].sum() / pixels), 4),
        "classes": [
            {
                "label": found.names[at],
                "share": round(float(overlap[2][at] / pixels), 4),
                "named": round(float(overlap[1][at] / pixels), 4),
                "right": round(float(overlap[0][at] / overlap[2][at]), 4),
            }
            for at in order
        ],
        "right": right,
    }


def build(config: Config) -> Segmentation:
    """Return the evaluation.

    Raises:
        ConfigError: a negative number of examples, a template without {}, or too many classes or
            empty names.
    """
    if config.examples < 0:
        raise ConfigError(f"segmentation.examples must be 0 or more, not {config.examples}.")
    if "{}" not in config.template:
        raise ConfigError(f"segmentation.template needs {{}} for the name: {config.template!r}.")
    if config.classes is not None:
        try:
            classes_named(list(config.classes), "segmentation.classes")
        except DataError as error:
            raise ConfigError(str(error)) from error
    return Segmentation(config)
