"""The command for the first hour: start."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lift.starting.plan import Plan


def start(
    folder: str | Path,
    *,
    out: str | Path,
    minutes: float = 8.0,
    space: str = "",
    model: str = "",
    tower: str = "",
    say: Callable[[str], None] | None = None,
) -> Plan:
    """Make the pictures of a folder searchable: embed, train, judge, index; serving is left.

    Each step is a command in a process of its own. The same call goes on where it was stopped,
    with the plan that was made first.

    Args:
        folder: of pictures and captions.
        out: where everything goes.
        minutes: that it may take, about.
        space: a text encoder in words; "" takes MiniLM.
        model: a run or model that is there already; nothing is trained then.
        tower: an image tower in words; "" looks whether one lies on this machine.
        say: is told what was found, and each command before it runs.

    Raises:
        ConfigError: a wrong option, or a folder that can't be learned from.
        DataError: it can't be read.
        MissingPackage: there is no text encoder here.
        Stopped: a command was told to stop; its state is saved.
        LiftError: a command failed; what it said stands above.
    """
    from lift import plugins
    from lift.errors import STOPPED_EXIT, Echo, Stopped
    from lift.starting.plan import FILE, planned

    again = (Path(out) / FILE).exists()
    for package in ("jinja2", "matplotlib"):  # told now, not after the work
        plugins.require(package, "plots", "The page of a run")
    tell = say or (lambda _: None)
    plan = planned(Path(folder), Path(out), minutes=minutes, space=space, model=model, tower=tower)
    for line in plan.said:
        tell(line)
    if again:
        tell(f"Goes on with the plan in {out}; for other options choose another --out.")
    for number, step in enumerate(plan.steps, 1):
        tell(f"\n[{number}/{len(plan.steps)}] {step.what}:\n  {step}")
        code, told = _run(step.words)
        if told or code in (STOPPED_EXIT, 130, -signal.SIGINT, -signal.SIGTERM):
            raise Stopped("Stopped; the same command goes on where it was.")
        if code:
            tell(f"That command failed with exit code {code}; mend what it says, and start again.")
            raise Echo(f"`{step}` failed with exit code {code}.")
    return plan


def _run(words: Sequence[str]) -> tuple[int, bool]:
    """Run a command to its end; return its exit code, and whether we were told to stop.

    Ctrl-C reaches the command, too: it saves its state, and has the time it takes. SIGTERM is
    handed on; so is Ctrl-C the second time, for who interrupts this process alone.
    """
    asked = 0
    with (
        subprocess.Popen([sys.executable, "-m", "lift", *words]) as child,
        _handed_on(child) as terminated,
    ):
        while True:
            try:
                return child.wait(), bool(asked or terminated)
            except KeyboardInterrupt:
                asked += 1
                if asked > 1:
                    child.terminate()


@contextlib.contextmanager
def _handed_on(child: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Hand SIGTERM on to a command; yield what came, filled as it comes."""
    came: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        came.append(number)
        child.terminate()

    if threading.current_thread() is not threading.main_thread():
        yield came  # Python allows handlers in the main thread only
        return
    before = signal.signal(signal.SIGTERM, hand_on)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)
