"""Name the class of an image from nothing but the names of the classes."""

from __future__ import annotations

import collections
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lift.bank import Bank
from lift.errors import ConfigError, DataError
from lift.evals import _metrics as metrics
from lift.evals._class_list import ClassList, Holds, Names
from lift.evals._encode import Images, blocks
from lift.evals._labelled import example, figures, label_of, surely_first
from lift.evals._prompts import classes_of, coded, descriptors_of, templates_of, translated
from lift.evals._seen import seen_note
from lift.terms import Encoder, EvalResult, Sample, Source


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the zero-shot evaluation.

    Attributes:
        label: the field of a sample, or the role of its caption, that says its class.
        label_holds: "name" (the class's name), "number" (its place in the list of classes, which
            needs `classes`, `class_set` or `codes`) or "code" (see `codes`).
        classes: names; None takes the distinct labels of the source.
        templates: sentences with {} for the name; a single prompt, as LIFT is judged with, is one
            of them (see `lift_reference`).
        template_file: JSON {"SET": {"classes": [...], "templates": [...]}}; a class may be a list
            of names.
        template_set: the set of that file whose templates are used instead of `templates`.
        class_set: the set of that file whose classes are used instead of `classes`.
        codes: a file with the code and name of all classes in the order of their numbers
            (`LOC_synset_mapping.txt`, `imagenet_class_index.json`), for labels that are codes.
        among: "all" classes may be chosen, or those that are "present" in the data (ImageNet-A
            and -R have 200 of the 1000).
        descriptors: JSON {"CLASS": ["long tail", ...]}; each becomes a sentence of its class
            beside the templates (Menon and Vondrick 2022).
        language: names of `language_file` in the place of all others. Classes that have none in
            that language are not judged, nor are their images.
        language_file: JSON {"de": [[numbers of classes], [names]]}, as Babel-ImageNet has it.
        bank: folder of a saved `lift.bank.Bank`, in place of classes and templates.
        benchmark: what the images are, for the warning about captions that the text encoder saw;
            None guesses from the source's name.
        examples: images kept with their answers.
    """

    label: str = "class_name"
    label_holds: Holds = "name"
    classes: tuple[str, ...] | None = None
    templates: tuple[str, ...] = ("a photo of a {}.",)
    template_file: str | None = None
    template_set: str | None = None
    class_set: str | None = None
    codes: str | None = None
    among: Literal["all", "present"] = "all"
    descriptors: str | None = None
    language: str | None = None
    language_file: str | None = None
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
        self,
        config: Config,
        classes: ClassList,
        bank: Bank | None = None,
        descriptors: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.config = config
        self.classes = classes
        self.bank = bank
        self.descriptors = descriptors or {}
        self.protocol = f"{config.label}, {self._words()} [{self._digest()}]"

    def _words(self) -> str:
        config = self.config
        if self.bank is not None:
            rows = f"{len(self.bank.classes)} classes, {len(self.bank.rows)} rows"
            return f"bank {Path(str(config.bank)).name} of {rows} by {self.bank.reduce}"
        count = len(config.templates)
        what = f"template {config.templates[0]!r}" if count == 1 else f"{count} templates"
        if config.template_set and count > 1:
            what += f" of {config.template_set}"
        of = f"classes of {config.class_set}" if config.class_set else "labels of the data"
        if config.classes is not None:
            of = f"{len(config.classes)} given classes"
        elif config.codes is not None and config.class_set is None:
            of = f"classes of {Path(config.codes).name}"
        if config.language is not None:
            of = f"{len(self.classes.called or ())} classes in {config.language}"
        of += " that are present" if config.among == "present" else ""
        if self.descriptors:
            what += f" and descriptors of {Path(str(config.descriptors)).name}"
        return f"{of}, {what}"

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
        images = Images(encoder, source, look=lambda samples: self._check(samples, source))
        labels, keys, at, z_all = self._labelled(images, source)
        unlabelled = len(images.numbers) - len(labels)
        told = self.classes.sort(labels, keys, self.config.label, source)
        classes, truth, judged = told.classes, told.place, np.flatnonzero(told.place >= 0)
        if not len(judged):
            raise DataError(f"No image of {source.name} is of a class that is judged.")
        z_image, others = z_all[judged], len(labels) - len(judged)
        truth, keys, at = truth[judged], [keys[n] for n in judged], [at[n] for n in judged]
        content = images.clusters()
        clusters = None if content is None else content[at]
        bank, described = self._bank(encoder, classes)
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
            for n in metrics.chosen(first_right, self.config.examples)
        ]
        counts = {"images": len(truth), "classes": len(classes)}
        empty = len(classes) - len(np.unique(truth))
        counts |= _uneven(unlabelled, others, empty) | images.counts()
        return EvalResult(
            evaluation="zeroshot",
            version=self.version,
            protocol=self.protocol,
            data=source.name,
            primary=self.primary,
            metrics=figures(spot, truth, len(classes), clusters),
            counts=counts,
            chance=1 / len(classes),
            notes=told.notes
            + described
            + images.notes()
            + seen_note(encoder, source, self.config.benchmark),
            examples=tuple(examples),
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
            digest=images.digest,
        )

    def _labelled(
        self, images: Images, source: Source
    ) -> tuple[list[str], list[str], list[int], np.ndarray]:
        """Return label and key of each labelled image, its place among all, and the vectors."""
        labels: list[str] = []
        keys: list[str] = []
        parts: list[np.ndarray] = []
        at: list[int] = []
        for numbers, samples, z in images:
            found = [label_of(sample, source, self.config.label) for sample in samples]
            kept = [place for place, label in enumerate(found) if label]
            parts.append(z[kept])
            labels += [found[place] for place in kept]
            keys += [samples[place].key for place in kept]
            at += [len(images.numbers) - len(numbers) + place for place in kept]
        if not labels:
            raise DataError(f"{source.name} has an empty {self.config.label!r} for every image.")
        return labels, keys, at, np.concatenate(parts)

    def _bank(self, encoder: Encoder, classes: Sequence[Names]) -> tuple[Bank, tuple[str, ...]]:
        """Return the rows of the classes, and what must be said of their descriptors."""
        if self.bank is not None:
            return self.bank, ()
        bank = Bank.of_names(encoder, classes, self.config.templates)
        if not self.descriptors:
            return bank, ()
        names = {own[0] for own in classes}
        own = {name: told for name, told in self.descriptors.items() if name in names}
        if not own:
            first = next(iter(self.descriptors))
            raise DataError(
                f"No class of {self.config.descriptors} is one that is judged; the first is "
                f"{first!r}."
            )
        bare = len(names) - len(own)
        notes = (f"{bare} of {len(names)} classes have no descriptors",) if bare else ()
        if beyond := len(self.descriptors) - len(own):
            notes += (f"descriptors of {beyond} other classes are not used",)
        return bank.with_descriptors(encoder, own), notes

    def _digest(self) -> str:
        """Return 8 hex digits that stand for everything the figures depend on but the images."""
        listed = self.classes
        words: list[Any] = [listed.holds, listed.names, self.config.templates]
        if self.bank is not None:
            words = [listed.holds, self.bank.digest]
        more = [listed.codes, listed.only, listed.called, listed.present, self.descriptors]
        words += [more] if any(more) else []
        return hashlib.blake2b(json.dumps(words).encode(), digest_size=4).hexdigest()

    def _check(self, samples: Sequence[Sample], source: Source) -> None:
        """Refuse labels that are no class, where the classes are known beforehand."""
        labels = [label_of(sample, source, self.config.label) for sample in samples]
        if not self.classes.is_known:
            return
        kept = [at for at, label in enumerate(labels) if label]
        labels, keys = [labels[at] for at in kept], [samples[at].key for at in kept]
        self.classes.sort(labels, keys, self.config.label, source)


def _uneven(unlabelled: int, others: int, empty: int) -> dict[str, int]:
    counts = {
        "images without a label": unlabelled,
        "images of other classes": others,
        "classes without images": empty,
    }
    return {name: count for name, count in counts.items() if count}


def build(config: Config) -> ZeroShot:
    """Return the evaluation, having read the files that the options name.

    Raises:
        ConfigError: options that contradict each other, or an unknown set or language.
        DataError: a file that can't be read.
        CheckpointError: a bank that can't be read.
    """
    if config.examples < 0:
        raise ConfigError(f"zeroshot.examples must be 0 or more, not {config.examples}.")
    if config.bank is not None:
        others = ("classes", "class_set", "templates", "template_file", "template_set")
        others += ("codes", "among", "descriptors", "language", "language_file")
        if given := [name for name in others if getattr(config, name) != getattr(Config, name)]:
            raise ConfigError(f"zeroshot takes bank or {given[0]}, not both.")
        bank = _saved(config)
        return ZeroShot(config, ClassList([(n,) for n in bank.classes], config.label_holds), bank)
    _require_sense(config)
    path = Path(config.template_file or "")
    if config.template_set:
        config = replace(config, templates=templates_of(path, config.template_set))
    codes = None if config.codes is None else coded(Path(config.codes))
    names = None if config.classes is None else [(name,) for name in config.classes]
    if config.class_set:
        names = classes_of(path, config.class_set)
    elif names is None and codes is not None:
        names = [(name,) for _, name in codes]
    if names is not None and codes is not None and len(names) != len(codes):
        raise ConfigError(
            f"{config.codes} has {len(codes)} classes, but {len(names)} are named: both have to be "
            "of one list."
        )
    _check_words(config, names)
    only, called = None, None
    if config.language is not None:
        only, called = translated(Path(str(config.language_file)), config.language)
        if names is not None and max(only, default=0) >= len(names):
            raise ConfigError(
                f"{config.language_file} has a class {max(only)}, but there are {len(names)}."
            )
    listed = ClassList(
        names,
        config.label_holds,
        None if codes is None else [code for code, _ in codes],
        only,
        called,
        config.among == "present",
    )
    described = None if config.descriptors is None else descriptors_of(Path(config.descriptors))
    return ZeroShot(config, listed, None, described)


def _require_sense(config: Config) -> None:
    """Raise ConfigError for options that need or exclude each other."""
    if config.classes is not None and config.class_set:
        raise ConfigError("zeroshot takes classes or class_set, not both.")
    if config.template_file is None and (config.template_set or config.class_set):
        raise ConfigError("zeroshot.template_set and class_set need template_file.")
    if (config.language is None) != (config.language_file is None):
        raise ConfigError("zeroshot.language and language_file need each other.")
    if config.label_holds == "code" and config.codes is None:
        raise ConfigError(
            "zeroshot.label_holds=code needs codes=FILE, the list of all classes: "
            "LOC_synset_mapping.txt (of ImageNet at Kaggle) or imagenet_class_index.json (Keras')."
        )


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
    if classes is None and config.label_holds == "number" and config.language is None:
        raise ConfigError(
            "zeroshot.label_holds=number needs classes or class_set (or codes) to count in."
        )
    if classes is None and config.language is not None and config.label_holds != "number":
        raise ConfigError(
            "zeroshot.language needs to know the number of an image's class: give "
            "label_holds=number, or class_set or codes."
        )
    if classes is not None and not classes:
        raise ConfigError("zeroshot.classes is empty.")
    if classes is not None and not all(name.strip() for names in classes for name in names):
        raise ConfigError("zeroshot.classes holds an empty name.")
    wrong = [template for template in config.templates if "{}" not in template]
    if wrong or not config.templates:
        raise ConfigError(f"zeroshot.templates need {{}} for the name; {wrong or 'none'} given.")
