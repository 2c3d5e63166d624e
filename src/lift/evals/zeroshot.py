"""Name the class of an image from nothing but the names of the classes."""

from __future__ import annotations

import collections
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lift.errors import ConfigError, DataError, unknown
from lift.evals import _metrics as metrics
from lift.evals._encode import Images, blocks, encode_distinct
from lift.evals._prompts import classes_of, templates_of
from lift.evals._seen import seen_note
from lift.terms import Encoder, EvalResult, Metric, Sample, Source

KS = (1, 5)
TOP = 5
"""Answers kept of each example."""

Names = tuple[str, ...]
"""What one class is called; the first name stands for it in tables."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the zero-shot evaluation.

    Attributes:
        label: the field of a sample, or the role of its caption, that says its class.
        label_holds: "name" (the class's name) or "number" (its place in the list of classes,
            which needs `classes` or `class_set`).
        classes: names; None takes the distinct labels of the source.
        templates: sentences with {} for the name.
        template_file: JSON {"SET": {"classes": [...], "templates": [...]}}; a class may be a list
            of names.
        template_set: the set of that file whose templates are used instead of `templates`.
        class_set: the set of that file whose classes are used instead of `classes`.
        benchmark: what the images are, for the warning about captions that the text encoder saw;
            None guesses from the source's name.
        examples: images kept with their answers.
    """

    label: str = "class_name"
    label_holds: Literal["name", "number"] = "name"
    classes: tuple[str, ...] | None = None
    templates: tuple[str, ...] = ("a photo of a {}.",)
    template_file: str | None = None
    template_set: str | None = None
    class_set: str | None = None
    benchmark: str | None = None
    examples: int = 8


class ZeroShot:
    """Top-1, top-5 and mean per-class accuracy.

    The vector of a class is the mean of the unit vectors of all its sentences (names x
    templates), scaled to unit length again (Radford et al. 2021, section 3.1.4). A class counts
    in the mean per class if it has an image.
    """

    version = 1
    primary = "top-1"

    def __init__(self, config: Config, classes: Sequence[Names] | None) -> None:
        self.config = config
        self.classes = classes
        count = len(config.templates)
        what = f"template {config.templates[0]!r}" if count == 1 else f"{count} templates"
        if config.template_set and count > 1:
            what += f" of {config.template_set}"
        of = f"classes of {config.class_set}" if config.class_set else "labels of the data"
        if config.classes is not None:
            of = f"{len(config.classes)} given classes"
        self.protocol = f"{config.label}, {of}, {what} [{self._digest()}]"

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on every labelled image of `source`.

        Where the classes are given, the labels of a chunk are checked before its images are
        encoded.

        Raises:
            DataError: a missing label field, a label that is no class, or no readable image.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        labels: list[str] = []
        keys: list[str] = []
        images = Images(encoder, source, look=lambda samples: self._check(samples, source))
        parts: list[np.ndarray] = []
        at: list[int] = []  # places of the labelled images among those encoded
        for numbers, samples, z in images:
            found = [self._label(sample, source) for sample in samples]
            kept = [place for place, label in enumerate(found) if label]
            parts.append(z[kept])
            labels += [found[place] for place in kept]
            keys += [samples[place].key for place in kept]
            at += [len(images.numbers) - len(numbers) + place for place in kept]
        if not labels:
            raise DataError(f"{source.name} has an empty {self.config.label!r} for every image.")
        classes, doubles = self._classes(labels)
        truth = self._truth(labels, keys, classes, source)
        content = images.clusters()
        clusters = None if content is None else content[at]
        z_image, z_class = np.concatenate(parts), class_vectors(encoder, classes, self.config)
        spot = metrics.join(
            [
                metrics.places(z_image[b] @ z_class.T, truth[b, None] == np.arange(len(classes)))
                for b in blocks(len(z_image), len(classes))
            ]
        )
        first_right = (spot.ahead == 0) & (spot.tied == 1)
        examples = [
            _example(keys[n], images.numbers[at[n]], z_class @ z_image[n], int(truth[n]), classes)
            | {"rank": float(metrics.ranks(spot)[n]), "right": bool(first_right[n])}
            for n in metrics.both_kinds(first_right, self.config.examples)
        ]
        counts = {"images": len(labels), "classes": len(classes)}
        unlabelled = len(images.numbers) - len(labels)
        counts |= _uneven(unlabelled, len(classes) - len(np.unique(truth))) | images.counts()
        return EvalResult(
            evaluation="zeroshot",
            version=self.version,
            protocol=self.protocol,
            data=source.name,
            primary=self.primary,
            metrics=_figures(spot, truth, len(classes), clusters),
            counts=counts,
            chance=1 / len(classes),
            notes=doubles + images.notes() + seen_note(encoder, source, self.config.benchmark),
            examples=tuple(examples),
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
        )

    def _digest(self) -> str:
        """Return 8 hex digits that stand for everything the figures depend on but the images."""
        words = [self.config.label_holds, self.classes, self.config.templates]
        return hashlib.blake2b(json.dumps(words).encode(), digest_size=4).hexdigest()

    def _check(self, samples: Sequence[Sample], source: Source) -> None:
        """Refuse labels that are no class, where the classes are known beforehand."""
        labels = [self._label(sample, source) for sample in samples]
        if self.classes is None:
            return
        kept = [at for at, label in enumerate(labels) if label]
        labels, keys = [labels[at] for at in kept], [samples[at].key for at in kept]
        self._truth(labels, keys, self._classes(labels)[0], source)

    def _label(self, sample: Sample, source: Source) -> str:
        # A table of classes has no other text: its class column then is the caption column too.
        known = {caption.role: caption.text for caption in sample.captions} | dict(sample.fields)
        if self.config.label not in known:
            where = f"field of {source.name} (sample {sample.key!r}):"
            raise unknown(where, self.config.label, known, DataError)
        return known[self.config.label].strip()

    def _classes(self, labels: Sequence[str]) -> tuple[list[Names], tuple[str, ...]]:
        """Return the classes and a note about names that occur twice."""
        if self.classes is None:
            return [(label,) for label in sorted(set(labels))], ()
        classes = list(self.classes)
        counts = collections.Counter(names[0] for names in classes)
        double = [name for name, count in counts.items() if count > 1]
        if not double:
            return classes, ()
        note = f"{len(double)} class names occur more than once ({', '.join(double)})"
        if self.config.label_holds == "number":
            return classes, (f"{note}: such classes tie and share what they get right",)
        # A label that is a name can't tell them apart, so they are one class.
        return list({names[0]: names for names in classes}.values()), (f"{note}: taken as one",)

    def _truth(
        self, labels: Sequence[str], keys: Sequence[str], classes: Sequence[Names], source: Source
    ) -> np.ndarray:
        """Return the number of each image's class."""
        if self.config.label_holds == "number":
            known = {str(number): number for number in range(len(classes))}
        else:
            known = {names[0]: number for number, names in enumerate(classes)}
        for label, key in zip(labels, keys, strict=True):
            if label not in known:
                where = f"{self.config.label} of {source.name} (sample {key!r}):"
                raise unknown(where, label, list(known)[:20], DataError)
        return np.array([known[label] for label in labels], dtype=np.int64)


def class_vectors(encoder: Encoder, classes: Sequence[Names], config: Config) -> np.ndarray:
    """Return one unit vector for each class [classes d]."""
    sentences = [
        [template.replace("{}", name) for name in names for template in config.templates]
        for names in classes
    ]
    vectors, place = encode_distinct(encoder, [text for own in sentences for text in own])
    sizes = np.array([len(own) for own in sentences])
    sums = np.add.reduceat(vectors[place], np.cumsum(sizes) - sizes, axis=0, dtype=np.float64)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return (sums / np.maximum(lengths, 1e-12)).astype(np.float32)


def _figures(
    spot: metrics.Places, truth: np.ndarray, classes: int, clusters: np.ndarray | None
) -> dict[str, Metric]:
    """Return the figures; pictures with the same bytes (`clusters`) count as one in intervals."""
    found = {
        f"top-{k}": metrics.share(metrics.recall_at_k(spot, k), clusters=clusters)
        for k in KS
        if k < classes or k == 1
    }
    weights = metrics.class_weights(truth)
    found["mean per class"] = metrics.share(metrics.recall_at_k(spot, 1), weights, clusters)
    return found


def _uneven(unlabelled: int, empty: int) -> dict[str, int]:
    counts = {"images without a label": unlabelled, "classes without images": empty}
    return {name: count for name, count in counts.items() if count}


def _example(
    key: str, index: int, scores: np.ndarray, truth: int, classes: Sequence[Names]
) -> dict[str, Any]:
    """Return one image with its best classes, as plain JSON values."""
    top = [
        {
            "label": classes[c][0],
            "score": round(float(scores[c]), 4),
            "right": bool(c == truth),
        }
        for c in np.argsort(-scores, kind="stable")[:TOP]
    ]
    return {"key": key, "index": index, "label": classes[truth][0], "top": top}


def build(config: Config) -> ZeroShot:
    """Return the evaluation, having read `template_file`.

    Raises:
        ConfigError: options that contradict each other, or an unknown set.
        DataError: a template file that can't be read.
    """
    if config.examples < 0:
        raise ConfigError(f"zeroshot.examples must be 0 or more, not {config.examples}.")
    if config.classes is not None and config.class_set:
        raise ConfigError("zeroshot takes classes or class_set, not both.")
    if config.template_file is None and (config.template_set or config.class_set):
        raise ConfigError("zeroshot.template_set and class_set need template_file.")
    classes = None if config.classes is None else [(name,) for name in config.classes]
    if config.template_file is not None:
        path = Path(config.template_file)
        if config.template_set:
            config = replace(config, templates=templates_of(path, config.template_set))
        if config.class_set:
            classes = classes_of(path, config.class_set)
    _check_words(config, classes)
    return ZeroShot(config, classes)


def _check_words(config: Config, classes: Sequence[Names] | None) -> None:
    if classes is None and config.label_holds == "number":
        raise ConfigError("zeroshot.label_holds=number needs classes or class_set to count in.")
    if classes is not None and not classes:
        raise ConfigError("zeroshot.classes is empty.")
    if classes is not None and not all(name.strip() for names in classes for name in names):
        raise ConfigError("zeroshot.classes holds an empty name.")
    wrong = [template for template in config.templates if "{}" not in template]
    if wrong or not config.templates:
        raise ConfigError(f"zeroshot.templates need {{}} for the name; {wrong or 'none'} given.")
