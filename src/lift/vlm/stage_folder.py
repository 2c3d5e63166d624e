"""A stage's folder: what it is of, its one checkpoint, and the wish to stop."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lift.errors import CheckpointError, ConfigError
from lift.files import remove_partial, whole_folder, write_text
from lift.model import save_tensors

RECORD = "stage.json"
_BLOCK = 1 << 22


def save(
    folder: Path,
    trained: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    facts: Mapping[str, Any],
) -> None:
    """Write `folder/step-XXXXXXXX`; then drop the checkpoint before.

    Args:
        folder: of checkpoints.
        trained: what moves, by name.
        optimizer: its moments.
        facts: the rest as JSON values; "step" is among them.

    Raises:
        StorageError: the disk refused; the checkpoint before stays.
    """
    path = folder / f"step-{facts['step']:08d}"
    folder.mkdir(exist_ok=True)
    moments = {}
    for number, values in optimizer.state_dict()["state"].items():
        moments |= {f"{number}.{n}": torch.as_tensor(v) for n, v in values.items()}
    with whole_folder(path) as aside:
        save_tensors(trained, aside / "trained.safetensors")
        save_tensors(moments, aside / "moments.safetensors")
        (aside / "state.json").write_text(json.dumps(facts))
    for other in folder.glob("step-*"):
        if other != path:
            shutil.rmtree(other)


def restore(
    folder: Path, trained: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Load the newest checkpoint into what moves; return its facts, None where there is none.

    Raises:
        CheckpointError: it is damaged or of something else.
    """
    if not folder.is_dir():
        return None
    remove_partial(folder)
    found = sorted(folder.glob("step-*"))
    if not found:
        return None
    path = found[-1]
    try:
        facts = json.loads((path / "state.json").read_text())
        values = load_file(path / "trained.safetensors")
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(values[name])
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in load_file(path / "moments.safetensors").items():
            number, name = key.split(".", 1)
            state.setdefault(int(number), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"Checkpoint {path} can't be used ({str(error).splitlines()[0]}); remove it."
        ) from error
    return facts


def stands_for(folder: Path) -> str:
    """Return a hash of a model: its config and all of its weights.

    Of two that were trained from one start most of each file is the same, its beginning too.
    """
    told = hashlib.sha256()
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        if not path.is_file():
            raise CheckpointError(f"{folder} is no folder of a model (it has no config.json).")
        told.update(f"{path.name} {path.stat().st_size}".encode())
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                told.update(block)
    return told.hexdigest()[:16]


def agree(out: Path, record: Mapping[str, Any]) -> None:
    """Write what a stage is of, or compare it with what the folder is of.

    Raises:
        ConfigError: the folder is of another stage, with what differs.
        CheckpointError: what it says can't be read.
    """
    record = json.loads(json.dumps(record))  # tuples become lists, as they are there
    path = out / RECORD
    if not path.is_file():
        write_text(path, json.dumps(record, indent=2) + "\n")
        return
    try:
        before = json.loads(path.read_text())
        ours, theirs = ({**r, **r["stage"]} for r in (record, before))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} can't be read; choose another folder.") from error
    differing = sorted(k for k in ours if k != "stage" and ours[k] != theirs.get(k))
    if differing:
        raise ConfigError(
            f"{out} is of a stage with another {', '.join(differing)}; choose another folder."
        )


@contextlib.contextmanager
def wish_to_stop() -> Iterator[list[str]]:
    """Yield a list that SIGTERM and Ctrl-C put their name into, once; a second leaves at once."""
    wish: list[str] = []

    def note(number: int, frame: object) -> None:
        if wish:
            raise KeyboardInterrupt
        wish.append(signal.Signals(number).name)

    wanted = (signal.SIGTERM, signal.SIGINT)
    if threading.current_thread() is not threading.main_thread():
        wanted = ()
    before = {number: signal.signal(number, note) for number in wanted}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
