"""What a fit says of itself, as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lift.bundle import Bundle
from lift.fitting.judging import Judged
from lift.fitting.solving import Solved
from lift.terms import Metric

_SHOWN = ("penalty", "alpha", "cv_r2", "shrinkage_image", "shrinkage_text", "scale", "shape")
"""Facts of a solver that a reader sees; the record has them all."""


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """What was fitted, and how good it is.

    Attributes:
        folder: of the model; "" where nobody asked for one.
        model: in hand.
        solved: the map and its figures.
        title: what was done, in a few words.
        left_out: samples or captions in no pair, by reason.
        seconds: of the pass over all pairs, and of all together.
    """

    folder: str
    model: Bundle
    solved: Solved
    title: str
    left_out: Mapping[str, int] = field(default_factory=dict)
    seconds: tuple[float, float] = (0.0, 0.0)

    def table(self) -> str:
        """Return it as aligned text."""
        told = lines_of(self.solved, self.title, self.left_out, self.seconds)
        return "\n".join([*told, *([f"model: {self.folder}"] if self.folder else [])])


def lines_of(
    solved: Solved, title: str, left_out: Mapping[str, int], seconds: tuple[float, float]
) -> list[str]:
    """Return what was fitted, how it was chosen, and what it does."""
    rows = [
        ("pairs", f"{solved.pairs:,}" + _left_out(left_out)),
        ("method", _method(solved)),
        ("variance explained", f"{solved.explained:.3f} of the fitted pairs' mean captions"),
    ]
    if solved.agreement is not None:
        rows.append(("sides agree", str(solved.agreement)))
    if solved.judged is not None:
        rows += judged_rows(solved.judged)
    rows.append(("seconds", f"{seconds[1]:.1f}, of them {seconds[0]:.1f} for the pass"))
    return [title, *aligned(rows), *(f"note: {note}" for note in solved.notes)]


def judged_rows(judged: Judged) -> list[tuple[str, str]]:
    """Return the figures on held-out pairs."""
    found = [("held out", judged.protocol), ("mean cosine", f"{judged.mean_cosine:.4f}")]
    if judged.items == "captions":  # no image has been seen
        names = {"R@1": "image_to_text/R@1", "R@10": "image_to_text/R@10"}
        return found + [(name, share(judged.metrics[key])) for name, key in names.items()]
    for name, metric in judged.metrics.items():
        is_share = "R@" in name
        words = name.replace("_", " ").replace("/", ", ")
        found.append((words, share(metric) if is_share else f"{metric.value:g}"))
    return found


def share(metric: Metric) -> str:
    """Return a share with its interval: "93.1% (90.0 to 95.0)"."""
    return f"{metric.value:.1%} ({100 * metric.low:.1f} to {100 * metric.high:.1f})"


def aligned(rows: list[tuple[str, str]]) -> list[str]:
    """Return rows of a name and a value as lines, the values below each other."""
    wide = max(len(name) for name, _ in rows)
    return [f"  {name:<{wide}}  {value}" for name, value in rows]


def _method(solved: Solved) -> str:
    facts = solved.linear.facts
    told = [f"{name} {_plain(facts[name])}" for name in _SHOWN if name in facts]
    if solved.scores:
        ranked = ", ".join(f"{name} {value:.3f}" for name, value in solved.scores.items())
        told.append(f"best mean reciprocal rank on a fold: {ranked}")
    return "; ".join([solved.solver.name, *told])


def _plain(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _left_out(left_out: Mapping[str, int]) -> str:
    told = ", ".join(f"{count:,} {why}" for why, count in left_out.items() if count)
    return f" ({told})" if told else ""
