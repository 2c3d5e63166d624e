"""The same images in grey, mirrored, small, compressed or written over: what that costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lift.errors import ConfigError, DataError, unknown
from lift.evals import _metrics as metrics
from lift.evals._asked import Captions, Labels, Scored, Task
from lift.evals._changes import CHANGES, MOST_SIDE, changed
from lift.evals._encode import Images
from lift.evals._paired import difference
from lift.evals._recalls import TO_IMAGE
from lift.evals._seen import seen_note
from lift.terms import Caption, Encoder, EvalResult, Metric, Sample, Source


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the robustness evaluation.

    Attributes:
        changes: names of `lift.evals._changes.CHANGES`, each judged by itself.
        label: a field (or role of a caption) that says the class of an image: then its class is
            named zero-shot; "" finds images and captions by each other.
        template: with `label`: a sentence with {} for the name.
        role: without: only captions that play this part ("short", "title"); None takes all.
        benchmark: what the images are, for the warning about captions that the text encoder saw;
            None guesses from the source's name.
        examples: items kept for the report.
    """

    changes: tuple[str, ...] = tuple(CHANGES)
    label: str = ""
    template: str = "a photo of a {}."
    role: str | None = None
    benchmark: str | None = None
    examples: int = 8


class Robustness:
    """Figures on changed images beside those on the images as they are, and paired differences.

    The primary figure is the mean over changes. Images that can't be changed are left out of all
    figures alike. A mirrored image is no longer left what its captions call left: how many do so
    is counted.
    """

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config
        name = "top-1" if config.label else f"{TO_IMAGE}/R@10"
        self.primary = f"{name} (mean of changes)"
        words = "; ".join(CHANGES[change].words for change in config.changes)
        what = f"class by {config.label}, template {config.template!r}"
        if not config.label:
            what = "all captions" + (f", role {config.role}" if config.role else "")
        self.protocol = f"{what}; images of at most {MOST_SIDE} pixels a side changed: {words}"

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on `source` and on its images after each change.

        Every image is read and encoded once for each change and once as it is.

        Raises:
            DataError: no captions (or labels), or no image that can be read and changed.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        config = self.config
        if config.label:
            task: Task = Labels(source, config.label, config.template)
        else:
            task = Captions(source, config.role)
        images = Images(encoder, source, look=task.look)
        rows = {"": _rows(images, task.see)}
        for change in config.changes:
            rows[change] = _rows(Images(encoder, _Changed(source, change, task)))
        kept = [n for n in images.numbers if all(n in own for own in rows.values())]
        if not kept:
            raise DataError(f"No image of {source.name} can be changed, though they can be read.")
        task.keep(kept)
        scored = {
            name: task.score(encoder, np.stack([own[number] for number in kept]))
            for name, own in rows.items()
        }
        content = images.clusters()
        if content is not None:
            place = {number: at for at, number in enumerate(images.numbers)}
            content = content[[place[number] for number in kept]]
        counts = {"images": len(kept)} | task.counts() | images.counts()
        if len(kept) < len(images.numbers):
            counts["images that can't be changed"] = len(images.numbers) - len(kept)
        return EvalResult(
            evaluation="robustness",
            version=self.version,
            protocol=self.protocol,
            data=source.name,
            primary=self.primary,
            metrics=_figures(task, scored, content),
            counts=counts,
            chance=task.chance(),
            notes=self._notes(counts)
            + images.notes()
            + seen_note(encoder, source, config.benchmark),
            examples=_examples(task, scored, config.examples),
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
            digest=images.digest,
        )

    def _notes(self, counts: dict[str, int]) -> tuple[str, ...]:
        sides = counts.get("captions with left or right", 0)
        if not sides or "flip" not in self.config.changes:
            return ()
        return (f"{sides} captions speak of left or right, which a mirrored image turns around",)


class _Changed:
    """A source whose images are changed."""

    def __init__(self, source: Source, change: str, task: Task) -> None:
        self.name, self.groups = source.name, source.groups
        self._source, self._change, self._task = source, change, task

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: int) -> Sample:
        sample = self._source.read(index)
        writes = CHANGES[self._change].writes
        wrong = self._task.wrong_text(index) if writes else ""
        return Sample(sample.key, changed(sample.image, self._change, wrong), ())

    def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        return self._source.texts()


def _rows(
    images: Images, see: Callable[[int, Sample], None] = lambda number, sample: None
) -> dict[int, np.ndarray]:
    """Return the vector of each image that can be read, by its number, and let them be seen."""
    found: dict[int, np.ndarray] = {}
    for numbers, samples, z in images:
        for number, sample, row in zip(numbers, samples, z, strict=True):
            see(number, sample)
            found[number] = row
    return found


def _figures(
    task: Task, scored: dict[str, Scored], content: np.ndarray | None
) -> dict[str, Metric]:
    """Return for each figure: as it is, the mean over changes, and each change with its cost."""
    found: dict[str, Metric] = {}
    changes = [change for change in scored if change]
    for name in task.names:
        clusters = task.clusters(name, content)
        plain = metrics.share(scored[""].credit[name], None, clusters)
        mean = np.mean([scored[change].credit[name] for change in changes], axis=0)
        found[name] = plain
        found[f"{name} (mean of changes)"] = metrics.share(mean, None, clusters)
        for change in changes:
            own = metrics.share(scored[change].credit[name], None, clusters)
            found[f"{name} ({change})"] = own
            found[f"{name} ({change} - unchanged)"] = difference(own, plain)
    return found


def _examples(task: Task, scored: dict[str, Scored], count: int) -> tuple[dict[str, Any], ...]:
    """Return a few items with the rank of the right answer for each change; right as they are."""
    sure = scored[""].sure
    ranks = {name or "unchanged": metrics.ranks(own.spot) for name, own in scored.items()}
    return tuple(
        {
            "item": item,
            **task.example(item),
            "right": bool(sure[item]),
            "ranks": {name: float(own[item]) for name, own in ranks.items()},
        }
        for item in metrics.chosen(sure, count)
    )


def build(config: Config) -> Robustness:
    """Return the evaluation.

    Raises:
        ConfigError: a negative number of examples, an unknown change or none, or a template
            without {}.
    """
    if config.examples < 0:
        raise ConfigError(f"robustness.examples must be 0 or more, not {config.examples}.")
    for change in config.changes:
        if change not in CHANGES:
            raise unknown("robustness.changes:", change, CHANGES)
    if not config.changes or len(set(config.changes)) < len(config.changes):
        raise ConfigError("robustness.changes must name changes, each once.")
    if "{}" not in config.template:
        raise ConfigError(f"robustness.template needs {{}} for the name: {config.template!r}.")
    return Robustness(config)
