"""The LIFT paper's own evaluation, with each of its quirks switchable and its effect measured."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from lift.errors import ConfigError, DataError
from lift.evals import _metrics as metrics
from lift.evals._encode import Images
from lift.evals._paired import difference
from lift.evals._prompts import templates_of
from lift.evals._reference import (
    QUIRKS,
    Compositional,
    Encoded,
    Judged,
    Retrieval,
    Task,
    ZeroShot,
)
from lift.evals._seen import seen_note
from lift.terms import Encoder, EvalResult, Metric, Sample, Source

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of torchvision's models, in place of those that the towers were trained with."""

_TASKS = {"retrieval": Retrieval, "zeroshot": ZeroShot, "compositional": Compositional}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the reference's evaluation; the five quirks are true by default.

    Attributes:
        task: what is asked: "retrieval" (COCO, Flickr), "zeroshot" (ImageNet), "compositional"
            (SugarCrepe).
        pixels: ImageNet's pixel statistics, in place of those the model was trained with.
        first_caption: retrieval: only the first caption of each image.
        one_prompt: zeroshot: only the first of the templates.
        duplicate_names: zeroshot: classes of one name stay apart; all images that are named so
            are taken for the first of them. Else they are one class.
        errors_wrong: compositional: what an image that is not RGB, or can't be read, is asked
            counts as wrong. Else grey images are converted and unreadable ones left out.
        label: zeroshot: the field of a sample, or the role of its caption, that names its class.
        number: zeroshot: the field that tells apart classes of one name, where there is one.
        templates: zeroshot: sentences with {} for the name; the first is the one prompt.
        template_file, template_set: zeroshot: a file and one of its sets, in place of these.
        benchmark: what the images are, for the warning about captions that the text encoder saw;
            None guesses from the source's name.
        examples: items kept for the report.
    """

    task: Literal["retrieval", "zeroshot", "compositional"] = "retrieval"
    pixels: bool = True
    first_caption: bool = True
    one_prompt: bool = True
    duplicate_names: bool = True
    errors_wrong: bool = True
    label: str = "class_name"
    number: str = "label"
    templates: tuple[str, ...] = (
        "a photo of a {}.",
        "itap of a {}.",
        "a bad photo of the {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
        "art of the {}.",
        "a photo of the small {}.",
    )
    template_file: str | None = None
    template_set: str | None = None
    benchmark: str | None = None
    examples: int = 8


@runtime_checkable
class RestatedEncoder(Encoder, Protocol):
    """An `Encoder` whose pixels can be normalised otherwise than in its training."""

    def with_pixels(
        self, mean: tuple[float, float, float], std: tuple[float, float, float]
    ) -> Encoder:
        """Return the same encoder behind other statistics of the channels of [0, 1] pixels."""
        ...


class LiftReference:
    """Figures as the reference's scripts make them, and what each of its quirks does to them.

    The figures without a mark are under the quirks that are on. "(no quirk)" are without any,
    "(without X)" with all of these but X, and "(effect of X)" is the paired difference of the two:
    what X adds. Only what the task has to do with is varied. Ties are in expectation, but for
    classes of one name. SugarCrepe's texts are of unit length here, which they are not there for
    encoders that don't scale their vectors; its other figures are not affected.
    """

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config
        kind = _TASKS[config.task]
        self.primary: str = kind.primary
        self.quirks: tuple[str, ...] = kind.quirks
        on = [QUIRKS[quirk] for quirk in self.quirks if getattr(config, quirk)]
        off = [quirk for quirk in self.quirks if not getattr(config, quirk)]
        self.protocol = f"lift-reference, {config.task}: {'; '.join(on) or 'no quirk'}"
        if off and on:
            self.protocol += f"; without {', '.join(off)}"
        if config.task == "zeroshot":
            shown = config.templates[0]
            words = json.dumps([config.templates, config.number]).encode()
            stamp = hashlib.blake2b(words, digest_size=4).hexdigest()
            self.protocol += f"; {config.label}, template {shown!r}"
            self.protocol += f" of {len(config.templates)} [{stamp}]"

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on all of `source`; images are encoded twice.

        Raises:
            ConfigError: other pixel statistics are asked of an encoder that has no `with_pixels`.
            DataError: nothing to ask about, or no image that can be read.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        config = self.config
        task = self._task(source)
        own = {quirk: bool(getattr(config, quirk)) for quirk in self.quirks}
        settings = _settings(own)
        rows: dict[bool, dict[int, np.ndarray]] = {}
        digest, images = "", None
        for shifted in {setting["pixels"]: None for setting in settings.values()}:
            images = Images(_restated(encoder) if shifted else encoder, source, look=task.look)
            rows[shifted] = _rows(images, None if rows else task)
            digest = digest or images.digest
        assert images is not None, "there is a setting"
        if not config.errors_wrong or config.task != "compositional":
            unseen: tuple[str, ...] = images.notes()
        else:
            unseen = ()
            _see_the_rest(task, source, images)
        same = dict(zip(images.numbers, images.content, strict=True))
        judged = {
            name: task.judge(encoder, Encoded(rows[setting["pixels"]], same), setting)
            for name, setting in settings.items()
        }
        main = judged[""]
        examples = [
            {"item": item, **main.examples(item), "right": bool(main.sure[item])}
            for item in metrics.chosen(main.sure, config.examples)
        ]
        return EvalResult(
            evaluation="lift_reference",
            version=self.version,
            protocol=self.protocol,
            data=source.name,
            primary=self.primary,
            metrics=_figures(judged),
            counts=main.counts | images.counts(),
            chance=main.chance,
            notes=main.notes + unseen + seen_note(encoder, source, config.benchmark),
            examples=tuple(examples),
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
            digest=digest,
        )

    def _task(self, source: Source) -> Task:
        config = self.config
        if config.task == "zeroshot":
            return ZeroShot(source, config.label, config.number, config.templates)
        return Retrieval(source) if config.task == "retrieval" else Compositional(source)


def _settings(own: Mapping[str, bool]) -> dict[str, dict[str, bool]]:
    """Return the settings to judge, by the mark of their figures: the user's first."""
    found = {"": dict(own), " (no quirk)": dict.fromkeys(own, False)}
    on = [quirk for quirk, is_on in own.items() if is_on]
    found |= {f" (without {quirk})": {**own, quirk: False} for quirk in on}
    return found


def _restated(encoder: Encoder) -> Encoder:
    if isinstance(encoder, RestatedEncoder):
        return encoder.with_pixels(IMAGENET_MEAN, IMAGENET_STD)
    raise ConfigError(
        f"{encoder.name} can't be given other pixel statistics (it has no `with_pixels`), as the "
        "reference's evaluation does: set pixels=false."
    )


def _rows(images: Images, task: Task | None) -> dict[int, np.ndarray]:
    """Return the vectors of all images that can be read; a task sees their samples."""
    found: dict[int, np.ndarray] = {}
    for numbers, samples, z in images:
        for number, sample, row in zip(numbers, samples, z, strict=True):
            if task is not None:
                task.see(number, sample)
            found[number] = row
    return found


def _see_the_rest(task: Task, source: Source, images: Images) -> None:
    """Let a task see the samples whose images can't be encoded, which it may count as wrong."""
    there = set(images.numbers)
    for number in range(len(source)):
        if number not in there:
            try:
                sample: Sample = source.read(number)
            except DataError:
                continue  # nobody knows what would be asked; it is counted
            task.see(number, sample)


def _figures(judged: Mapping[str, Judged]) -> dict[str, Metric]:
    """Return all figures of the user's setting, and of each other one the main ones."""
    main = judged[""]
    found = dict(main.metrics)
    shown = _main(list(main.metrics))
    for mark, other in judged.items():
        if not mark:
            continue
        for name in shown:
            found[name + mark] = other.metrics[name]
        quirk = "all quirks" if mark == " (no quirk)" else mark[len(" (without ") : -1]
        for name in shown:
            effect = difference(main.metrics[name], other.metrics[name])
            found[f"{name} (effect of {quirk})"] = effect
    return found


def _main(names: Sequence[str]) -> list[str]:
    """Return the figures that the paper's tables hold: R@1 both ways, top-1, mean of kinds."""
    best = [name for name in names if name.endswith("R@1")]
    return best or [names[0]]


def build(config: Config) -> LiftReference:
    """Return the evaluation, having read `template_file`.

    Raises:
        ConfigError: a negative number of examples, templates without {}, or an unknown set.
        DataError: a template file that can't be read.
    """
    if config.examples < 0:
        raise ConfigError(f"lift_reference.examples must be 0 or more, not {config.examples}.")
    if (config.template_file is None) != (config.template_set is None):
        raise ConfigError("lift_reference takes template_file and template_set together.")
    if config.template_file is not None and config.template_set is not None:
        templates = templates_of(Path(config.template_file), config.template_set)
        config = replace(config, templates=templates)
    if not config.templates or not all("{}" in template for template in config.templates):
        raise ConfigError("lift_reference.templates need {} for the name.")
    return LiftReference(config)
