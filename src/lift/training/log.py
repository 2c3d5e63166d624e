"""What a run says: `events.jsonl`, TensorBoard where installed, one progress line."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lift.config import to_dict
from lift.files import told_plainly, whole_file
from lift.terms import EvalResult
from lift.training.step import StepReport


class Log:
    """Appends events to a file, mirrors numbers to TensorBoard, and draws the progress bar.

    Attributes:
        path: `events.jsonl`; one JSON object a line, flushed line by line.
    """

    def __init__(
        self, folder: Path, *, steps: int, start: int, progress: bool, speaks: bool = True
    ) -> None:
        """Open the log of a run that goes on from step `start`; one that does not speak is mute."""
        self.path = folder / "events.jsonl"
        self.at = start
        if speaks and self.path.exists():
            _forget_after(self.path, start)
        self._file = open(self.path if speaks else os.devnull, "a", encoding="utf-8")
        self._board = _tensorboard(folder / "tensorboard", start) if speaks else None
        self._speaks = speaks
        self._bar = tqdm(
            total=steps, initial=start, unit="step", disable=not progress, dynamic_ncols=True
        )

    def event(self, event: str, **facts: Any) -> None:
        """Append one event."""
        facts = {"event": event, "step": self.at, **facts}
        with told_plainly(self.path):
            self._file.write(json.dumps(facts, allow_nan=False) + "\n")
            self._file.flush()

    def step(self, facts: Mapping[str, Any]) -> None:
        """Append the facts of a step and show them."""
        self.event("step", **facts)
        if self._board is not None:
            for name in ("loss", "lr", "grad_norm", "img_per_s", "wait", "scale"):
                if name in facts:
                    self._board.add_scalar(f"train/{name}", facts[name], facts["step"])
        self._bar.set_postfix_str(
            f"loss {facts['loss']:.3f}, {facts['img_per_s']:.0f} img/s, "
            f"waiting for data {facts['wait']:.0%}",
            refresh=False,
        )

    def advance(self) -> None:
        """Move the progress bar (and its time to the end) by one step."""
        self._bar.update()
        self.at += 1

    def evaluation(self, step: int, results: Sequence[EvalResult]) -> None:
        """Append the results of an in-training evaluation."""
        self.event("eval", step=step, results=[to_dict(result) for result in results])
        for result in results:
            if self._board is not None:
                for name, metric in result.metrics.items():
                    self._board.add_scalar(f"{result.evaluation}/{name}", metric.value, step)
            best = result.metrics[result.primary]
            self._say(
                f"step {step}: {result.evaluation} {result.primary} {best.value:.1%} "
                f"[{best.low:.1%}, {best.high:.1%}] ({result.protocol}, {best.items} items)"
            )

    def note(self, text: str) -> None:
        """Append something worth knowing and show it above the bar."""
        self.event("note", text=text)
        self._say(text)

    def warning(self, text: str) -> None:
        """Append a warning and show it above the bar."""
        self.event("warning", text=text)
        self._say(f"warning: {text}")

    def _say(self, text: str) -> None:
        if self._speaks:
            self._bar.write(text)

    def close(self) -> None:
        """Close the files and the bar."""
        self._bar.close()
        with contextlib.suppress(OSError):  # a full disk was told by the write itself
            self._file.close()
        if self._board is not None:
            self._board.close()


class Meter:
    """Means since the last report: loss, speed, share of time spent waiting for data.

    The loss of each source is that of the last step that found it.
    """

    def __init__(self, waited: float) -> None:
        self._waited = waited
        self._reset()

    def _reset(self) -> None:
        self._by_source: Mapping[int, float] = {}
        self._losses: list[float] = []
        self._norm = 0.0
        self._images = 0
        self._seconds = 0.0

    def add(self, report: StepReport, seconds: float) -> None:
        """Take in one step."""
        self._by_source = report.by_source or self._by_source
        self._losses.append(report.loss)
        self._norm = max(self._norm, report.grad_norm)
        self._images += report.images
        self._seconds += seconds

    def facts(self, waited: float) -> dict[str, Any]:
        """Return the means and start anew."""
        seconds = max(self._seconds, 1e-9)
        facts = {
            "loss": finite(sum(self._losses) / len(self._losses)),
            "grad_norm": finite(self._norm),
            "img_per_s": round(self._images / seconds, 2),
            "wait": round((waited - self._waited) / seconds, 4),
            "by_source": self._by_source,
        }
        self._waited = waited
        self._reset()
        return facts


def finite(value: float) -> float | None:
    """Return `value`, or None where JSON has no word for it."""
    return value if math.isfinite(value) else None


def _forget_after(path: Path, step: int) -> None:
    """Drop events after `step` (a killed run wrote them past its checkpoint) and a torn line.

    A run that starts anew at step 0 says everything anew.
    """
    with whole_file(path) as aside, open(aside, "w", encoding="utf-8") as kept:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue
            if 0 < step >= event.get("step", 0):
                kept.write(line + "\n")


def _tensorboard(folder: Path, start: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=start)
