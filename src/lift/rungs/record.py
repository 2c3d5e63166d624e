"""What a ladder found, as plain values: its pairs, its steps, its rungs, what comes next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lift.config import from_dict, to_json
from lift.errors import CheckpointError, ConfigError
from lift.files import write_text
from lift.terms import EvalResult, Metric

FORMAT = 1
FILE = "ladder.json"

RECALL = "text_to_image/R@10"
"""The figure that rungs are told apart by."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What something took on this machine.

    Attributes:
        wall_seconds, cpu_seconds: over all attempts at it.
        items: captions, images or samples that went through, where they were counted.
        complete: false where an attempt was killed, whose time is lost: it took more than this.
    """

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    items: int = 0
    complete: bool = True

    def plus(self, other: Cost) -> Cost:
        """Return what both took; items are this one's."""
        return Cost(
            wall_seconds=self.wall_seconds + other.wall_seconds,
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            items=self.items,
            complete=self.complete and other.complete,
        )


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something done once for all rungs."""

    name: str
    what: str
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class Against:
    """A rung against another one on the same queries, in shares of them.

    Attributes:
        other: the name of the other rung.
        queries, images: how many captions searched, and of how many images.
        better: mean difference of R@10 from text to image.
        low, high: its 95% interval, over images.
    """

    other: str
    queries: int
    images: int
    better: float
    low: float
    high: float

    @property
    def is_noise(self) -> bool:
        """Whether the interval holds no difference at all."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One way to a model.

    Attributes:
        name: of its folder.
        level: 0 for closed forms, 1 for a trained head.
        title: what it is, in a few words.
        status: whether it came out.
        why: of one that failed, the sentence.
        folder: of the model, in the ladder's folder.
        result: what it does on the held-out pairs.
        cost: of this rung alone, what it starts from not included.
        start: the rung that it starts from; "" for none.
        chosen: of the closed forms, the one that the training pairs alone chose.
        facts: of how it was made, for people.
        options: words that changed its recipe.
        against: the rung below, on the same queries; None where there is none.
    """

    name: str
    level: int
    title: str
    status: Literal["done", "failed"] = "done"
    why: str = ""
    folder: str = ""
    result: EvalResult | None = None
    cost: Cost = field(default_factory=Cost)
    start: str = ""
    chosen: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    against: Against | None = None

    @property
    def recall(self) -> Metric | None:
        """R@10 from text to image; None of a rung that failed."""
        return None if self.result is None else self.result.metrics[RECALL]


@dataclass(frozen=True, kw_only=True)
class Next:
    """A rung that was not climbed, and what it would cost on this machine.

    Attributes:
        level, title: which one.
        command: that climbs it.
        samples: images that it would be shown, repeats included.
        cost: estimated; None where nothing was measured that would tell.
        assumption: what the estimate rests on, in words.
    """

    level: int
    title: str
    command: str
    samples: int
    cost: Cost | None
    assumption: str


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """How alike images and texts were before any rung; see `lift.fitting.predict.Agreement`."""

    cka: float
    cka_debiased: float
    knn: float
    chance: float
    neighbours: int
    pairs: int


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Everything that the page says.

    Attributes:
        data, validation: words; of `validation`, "" where a share of the data was held out.
        held_out: words of the pairs that every rung is judged on.
        split: how the pairs were divided, in a sentence.
        fitted, stopping, judged: samples that rungs are made from, that only say when a trained
            head stops, and that judge.
        space, dimensions, fingerprint: of the text space.
        tower, width: of the image tower.
        predicted: None for a handful of pairs.
        steps: what was done once.
        rungs: in the order of the ladder; the chosen closed form before the others.
        next: what is above.
        advice: which rung to take, by which rule.
        take: the name of that rung; "" where none came out.
        commands: that use what there is, with what each is for.
        notes: what a reader has to know.
        left_out: samples in no pair, by reason.
        date, versions: of the last run of the command.
    """

    data: str
    validation: str
    held_out: str
    split: str
    fitted: int
    stopping: int
    judged: int
    space: str
    dimensions: int
    fingerprint: str
    tower: str
    width: int
    predicted: Predicted | None
    steps: tuple[Step, ...]
    rungs: tuple[Rung, ...]
    next: tuple[Next, ...]
    advice: str
    take: str
    commands: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    date: str
    versions: Mapping[str, str]
    format: int = FORMAT

    @property
    def done(self) -> list[Rung]:
        """The rungs that came out."""
        return [rung for rung in self.rungs if rung.result is not None]

    @property
    def failed(self) -> list[Rung]:
        """The others."""
        return [rung for rung in self.rungs if rung.result is None]

    @property
    def candidates(self) -> list[Rung]:
        """What the advice chooses among: one rung of each level, chosen without the judges."""
        chosen = [rung for rung in self.done if rung.chosen or rung.level]
        return chosen or self.done

    def named(self, name: str) -> Rung:
        """Return a rung."""
        return next(rung for rung in self.rungs if rung.name == name)

    def climbed(self, rung: Rung) -> Cost:
        """Return what it takes to get to a rung once everything is stored: with what is below."""
        return rung.cost.plus(self.climbed(self.named(rung.start))) if rung.start else rung.cost

    def table(self) -> str:
        """Return it as aligned text."""
        from lift.rungs.words import table  # which is about this

        return table(self)


def write(found: Ladder, folder: Path) -> Path:
    """Write every figure as JSON, and return the file."""
    write_text(folder / FILE, to_json(found))
    return folder / FILE


def read(folder: Path) -> Ladder:
    """Return what a finished ladder's folder says.

    Raises:
        CheckpointError: there is none, or it is damaged or of a newer lift.
    """
    return read_as(Ladder, folder / FILE)


def read_as(kind: type[Any], path: Path) -> Any:
    """Return the dataclass that a file holds.

    Raises:
        CheckpointError: it is missing, damaged or of a newer lift.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
        for rung in [values, *values.get("rungs", ())]:
            if rung.get("result"):
                metrics = rung["result"]["metrics"]
                rung["result"]["metrics"] = {n: from_dict(Metric, m, n) for n, m in metrics.items()}
        return from_dict(kind, values, path.name)
    except (OSError, ValueError, ConfigError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path} can't be read ({error}): remove it, and run `lift ladder` again."
        ) from error
