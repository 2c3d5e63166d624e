"""A run's folder: what is in it, whose it is, and whether it may go on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift.config import from_dict, to_dict
from lift.errors import CheckpointError, ConfigError
from lift.files import is_ours_or_empty, write_text
from lift.text.tokenizer import FILE as TOKENIZER
from lift.training.config import RunConfig

FORMAT = 1
MARKER = "run.json"

CONDITION = "condition.safetensors"
BEFORE = (CONDITION, TOKENIZER)
"""What is made once for a run, before `run.json` says that it has begun."""

MAY_CHANGE = frozenset(
    {
        *("data", "validation", "cache", "features", "licences"),
        *("log_every", "checkpoint_every", "profile"),
        *("loader.workers", "loader.stall_s", "loader.canvas_memory_mb"),
    }
)
"""Options that a resumed run may change: where the same things lie, what they are called, and how
often to say so."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run.

    Attributes:
        path: the folder; `run.json`, `events.jsonl`, `checkpoints/`, `evals/`, `model/` and
            `report.html` lie in it.
        facts: what `run.json` says.
    """

    path: Path
    facts: dict[str, Any]

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Where the finished bundle lies."""
        return self.path / "model"

    @property
    def finished(self) -> bool:
        """Whether the run reached its last step and saved its model."""
        return self.facts["status"] == "finished"

    def write(self, **changes: Any) -> None:
        """Change facts and write `run.json` whole."""
        self.facts.update(changes)
        write_text(self.path / MARKER, json.dumps(self.facts, indent=2) + "\n")


def open_run(path: Path, config: RunConfig, *, resume: bool) -> RunFolder:
    """Return the run in `path`, new or to be continued.

    Raises:
        CheckpointError: nothing to resume, something else in the folder, or a run of other
            options (the first difference is named).
    """
    if not (path / MARKER).exists():
        if resume:
            raise CheckpointError(
                f"{path} holds no run to resume; leave out --resume to start one."
            )
        if not is_ours_or_empty(path, MARKER, besides=BEFORE):
            raise CheckpointError(f"{path} holds something else; choose another folder with --out.")
        return RunFolder(path, {"format": FORMAT, "status": "new", "config": to_dict(config)})
    facts = read_facts(path)
    _require_same_config(path, facts["config"], to_dict(config))
    facts["config"] = to_dict(config)
    return RunFolder(path, facts)


def clear_beginning(path: Path) -> None:
    """Remove what a run left that ended before it had begun: options may have changed since."""
    for name in BEFORE:
        (path / name).unlink(missing_ok=True)


def read_facts(path: Path) -> dict[str, Any]:
    """Return what `run.json` says. Raises CheckpointError where it is missing or newer."""
    try:
        facts = json.loads((path / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} holds no readable {MARKER}; is it a run's folder?"
        ) from error
    if not isinstance(facts, dict) or not isinstance(facts.get("config"), dict):
        raise CheckpointError(f"{path / MARKER} is damaged: it holds no run. Start anew elsewhere.")
    if facts.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has run format {facts.get('format')}, this version reads {FORMAT}: "
            "use the version of lift that wrote it."
        )
    return facts


def read_config(path: Path) -> RunConfig:
    """Return the config of the run in the folder `path`, or of the JSON file `path`.

    Raises:
        CheckpointError: nothing readable there, or options that this version does not know.
    """
    if path.is_file():
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} is no JSON file with a config ({error}).") from error
        values = values.get("config", values) if isinstance(values, dict) else {}
    else:
        values = read_facts(path)["config"]
    try:
        return from_dict(RunConfig, values, "config")
    except ConfigError as error:
        raise CheckpointError(f"The config in {path} does not fit this version: {error}") from error


def _require_same_config(path: Path, old: Any, new: Any) -> None:
    for where, was, now in _differences(old, new, ""):
        if where not in MAY_CHANGE:
            raise CheckpointError(
                f"{path} holds a run with {where}={was!r}, not {now!r}: give the same options to "
                "go on with it, or another --out to start anew."
            )


def _differences(old: Any, new: Any, where: str):
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            inner = f"{where}.{key}" if where else key
            yield from _differences(old.get(key), new.get(key), inner)
    elif old != new:
        yield where, old, new
