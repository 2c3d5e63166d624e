"""The regression report: what the start of a run could do, against what is left of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from lift.errors import ConfigError, Regressed
from lift.evaluation import Plan, evaluate, parse_plan
from lift.files import write_text
from lift.results import is_share, read_result, write_results
from lift.terms import Encoder, EvalResult, Metric

FOLDER = "guard"
BEFORE, AFTER = "before", "after"


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """What a run must not lose. Tuning an aligned tower on captions alone is known to cost it most
    of what it knew of classes (LLM2CLIP: ImageNet 74.5 -> 52.8, Cars 76.5 -> 18.8).

    Attributes:
        on: evaluations with their data, as `lift eval --on` takes them
            (`knn:data=test.parquet,train=train.parquet,label=class_name`). They are run on the
            start before the first step, with each evaluation of the run, and at its end.
        drop: how far the first figure of each may fall before it is a breach, as a share (0.02 is
            two points of accuracy).
        on_breach: whether a breach is only reported, or ends the run.
    """

    on: tuple[str, ...] = ()
    drop: float = 0.02
    on_breach: Literal["report", "stop"] = "report"

    def __post_init__(self) -> None:
        if not 0 <= self.drop < 1:
            raise ConfigError(f"guard.drop must lie in [0, 1), not {self.drop}.")
        if self.on_breach == "stop" and not self.on:
            raise ConfigError("guard.on_breach=stop needs something to watch: give guard.on.")

    def plans(self) -> list[Plan]:
        """Return the evaluations, having read their words."""
        return [parse_plan(words) for words in self.on]


class Change(NamedTuple):
    """One figure before and after.

    Attributes:
        what: evaluation, data and metric, in words.
        before, after: with their intervals.
        fell: how far it fell; below 0 where it rose.
        breach: whether that is further than it may.
    """

    what: str
    before: Metric
    after: Metric
    fell: float
    breach: bool


def changes(before: Sequence[EvalResult], after: Sequence[EvalResult], drop: float) -> list[Change]:
    """Return what became of the first figure of each evaluation.

    Raises:
        ConfigError: results that are not of the same evaluations.
    """
    found = []
    for was, now in zip(before, after, strict=True):
        if (was.evaluation, was.data, was.protocol) != (now.evaluation, now.data, now.protocol):
            raise ConfigError(
                f"{was.evaluation} on {was.data} ({was.protocol}) can't be compared with "
                f"{now.evaluation} on {now.data} ({now.protocol})."
            )
        old, new = was.metrics[was.primary], now.metrics[now.primary]
        # A rank is better where it is smaller; its fall is told as a share of what it was.
        fell = (
            old.value - new.value
            if is_share(was.primary)
            else (new.value - old.value) / max(old.value, 1.0)
        )
        what = f"{was.evaluation} on {was.data}, {was.primary}"
        found.append(Change(what, old, new, fell, fell > drop))
    return found


def table(found: Sequence[Change]) -> str:
    """Return the changes as lines of text."""
    wide = max(len(change.what) for change in found)
    lines = [f"{'what it could do':<{wide}}  before   after  change"]
    for change in found:
        mark = "  BREACH" if change.breach else ""
        old, new = (_told(change, metric) for metric in (change.before, change.after))
        apart = f"{change.after.value - change.before.value:+.3g}"
        if is_share(change.what.rpartition(", ")[2]):
            apart = f"{100 * (change.after.value - change.before.value):+.1f}"
        lines.append(f"{change.what:<{wide}}  {old:>6}  {new:>6}  {apart:>6}{mark}")
    return "\n".join(lines)


def _told(change: Change, metric: Metric) -> str:
    """Return a figure in words: a share in percent, a rank as it is."""
    is_one = is_share(change.what.rpartition(", ")[2])
    return f"{100 * metric.value:.1f}%" if is_one else f"{metric.value:.4g}"


class Guard:
    """Measures the start once, and everything after it against that.

    Attributes:
        plans: what is watched; empty for nothing.
        before: the start's figures, once they are known.
    """

    def __init__(self, config: GuardConfig, folder: Path) -> None:
        self.config, self.folder = config, folder / FOLDER
        self.plans = config.plans()
        self.before: list[EvalResult] = []

    def read(self) -> bool:
        """Take up what an earlier part of the run measured; return whether there is anything."""
        self.before = _kept(self.folder, BEFORE)
        return bool(self.before) or not self.plans

    def measure(self, encoder: Encoder) -> list[EvalResult]:
        """Return what the evaluations find; every rank calls this."""
        return evaluate(encoder, self.plans, progress=False)

    def keep(self, results: Sequence[EvalResult], when: str) -> None:
        """Write results down."""
        paths = write_results(results, self.folder / when)
        write_text(self.folder / f"{when}.txt", "\n".join(path.name for path in paths) + "\n")

    def compared(self, after: Sequence[EvalResult]) -> list[Change]:
        """Return what became of the start's figures."""
        return changes(self.before, after, self.config.drop)

    def broken(self) -> list[Change]:
        """Return what ended an earlier part of the run, if anything did."""
        after = _kept(self.folder, AFTER) if self.config.on_breach == "stop" else []
        found = self.compared(after) if after else []
        return found if any(change.breach for change in found) else []

    def regressed(self, found: Sequence[Change], step: int) -> Regressed:
        """Return what ends the run, from changes of which one is a breach at least."""
        worst = max(found, key=lambda change: (change.breach, change.fell))
        before, after = (_told(worst, metric) for metric in (worst.before, worst.after))
        return Regressed(
            f"After step {step} the model has lost what it was to keep: {worst.what} fell from "
            f"{before} to {after}, and guard.drop allows {100 * self.config.drop:g} points. "
            "The state is saved; start anew elsewhere with a lower optim.lr, a larger "
            "anchor.instance or fewer last_blocks, or with guard.on_breach=report."
        )


def report(folder: Path, drop: float) -> list[Change]:
    """Return what a finished run's folder says of its start; empty where nothing was watched."""
    before, after = (_kept(folder / FOLDER, when) for when in (BEFORE, AFTER))
    return changes(before, after, drop) if before and after else []


def _kept(folder: Path, when: str) -> list[EvalResult]:
    """Return the results that were written down, in the order of the plans."""
    order = folder / f"{when}.txt"
    if not order.exists():
        return []
    return [read_result(folder / when / name) for name in order.read_text("utf-8").split()]
