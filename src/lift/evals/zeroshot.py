"""Name the class of an image from nothing but the names of the classes."""

from __future__ import annotations

import collections
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from lift.bank import Bank
from lift.errors import ConfigError, DataError, unknown
from lift.evals import _metrics as metrics
from lift.evals._encode import Images, blocks
from lift.evals._labelled import example, figures, label_of, surely_first
from lift.evals._prompts import classes_of, templates_of
from lift.evals._seen import seen_note
from lift.terms import Encoder, EvalResult, Sample, Source

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
        bank: folder of a saved `lift.bank.Bank`, in place of classes and templates.
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
    bank: str | None = None
    benchmark: str | None = None
    examples: int = 8


class ZeroShot:
    """Top-1, top-5 and mean per-class accuracy.

    The vector of a class is the mean of the unit vectors of all its sentences (names x
    templates), scaled to unit length again (Radford et al. 2021, section 3.1.4). A class counts
    in the mean per class if it has an image. Of a saved bank the scores are its own.
    """

    version = 1
    primary = "top-1"

    def __init__(
        self, config: Config, classes: Sequence[Names] | None, bank: Bank | None = None
    ) -> None:
        self.config = config
        self.classes = classes
        self.bank = bank
        if bank is not None:
            self.classes = [(name,) for name in bank.classes]
            rows = f"{len(bank.classes)} classes, {len(bank.rows)} rows by {bank.reduce}"
            name = Path(str(config.bank)).name
            self.protocol = f"{config.label}, bank {name} of {rows} [{self._digest()}]"
            return
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
            SpaceMismatch: the encoder is of another text space than the bank.
        """
        start = time.perf_counter()
        if self.bank is not None:
            self.bank.require_space(encoder, encoder.name)
        labels: list[str] = []
        keys: list[str] = []
        images = Images(encoder, source, look=lambda samples: self._check(samples, source))
        parts: list[np.ndarray] = []
        at: list[int] = []  # places of the labelled images among those encoded
        for numbers, samples, z in images:
            found = [label_of(sample, source, self.config.label) for sample in samples]
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
        z_image = np.concatenate(parts)
        bank = self.bank or Bank.of_names(encoder, classes, self.config.templates)
        spot = metrics.join(
            [
                metrics.places(bank.scores(z_image[b]), truth[b, None] == np.arange(len(classes)))
                for b in blocks(len(z_image), len(classes))
            ]
        )
        first_right, names = surely_first(spot), [own[0] for own in classes]
        examples = [
            example(
                keys[n],
                images.numbers[at[n]],
                bank.scores(z_image[n : n + 1])[0],
                int(truth[n]),
                names,
            )
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
            metrics=figures(spot, truth, len(classes), clusters),
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
        if self.bank is not None:
            words = [self.config.label_holds, self.bank.digest]
        return hashlib.blake2b(json.dumps(words).encode(), digest_size=4).hexdigest()

    def _check(self, samples: Sequence[Sample], source: Source) -> None:
        """Refuse labels that are no class, where the classes are known beforehand."""
        labels = [label_of(sample, source, self.config.label) for sample in samples]
        if self.classes is None:
            return
        kept = [at for at, label in enumerate(labels) if label]
        labels, keys = [labels[at] for at in kept], [samples[at].key for at in kept]
        self._truth(labels, keys, self._classes(labels)[0], source)

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


def _uneven(unlabelled: int, empty: int) -> dict[str, int]:
    counts = {"images without a label": unlabelled, "classes without images": empty}
    return {name: count for name, count in counts.items() if count}


def build(config: Config) -> ZeroShot:
    """Return the evaluation, having read `template_file`.

    Raises:
        ConfigError: options that contradict each other, or an unknown set.
        DataError: a template file that can't be read.
        CheckpointError: a bank that can't be read.
    """
    if config.examples < 0:
        raise ConfigError(f"zeroshot.examples must be 0 or more, not {config.examples}.")
    if config.bank is not None:
        others = ("classes", "class_set", "templates", "template_file", "template_set")
        if given := [name for name in others if getattr(config, name) != getattr(Config, name)]:
            raise ConfigError(f"zeroshot takes bank or {given[0]}, not both.")
        return ZeroShot(config, None, _saved(config))
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


def _saved(config: Config) -> Bank:
    """Return the bank that the options name."""
    bank = Bank.load(str(config.bank))
    double = [name for name, count in collections.Counter(bank.classes).items() if count > 1]
    if double and config.label_holds == "name":
        raise ConfigError(
            f"Several classes of the bank {config.bank} are called {double[0]!r}: rename them, or "
            "take zeroshot.label_holds=number."
        )
    return bank


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
