"""The console: parse, call the command, leave with the right exit code."""

from __future__ import annotations

import io
import os
import sys
import traceback

import tyro

from lift.console import (
    data,
    diagnosis,
    evaluation,
    export,
    fitting,
    index,
    ladder,
    models,
    serve,
    start,
    text,
    training,
)
from lift.errors import BAD_INPUT_EXIT, STOPPED_EXIT, Echo, LiftError, Stopped

COMMANDS = {
    "start": start.start,
    "quickstart": training.quickstart,
    "embed": text.embed,
    "data": data.help_,
    "fit": fitting.fit,
    "ladder": ladder.ladder,
    "train": training.train,
    "compare": training.compare,
    "eval": evaluation.eval_,
    "diagnose": diagnosis.diagnose,
    "report": models.report,
    "index": index.help_,
    "search": index.search,
    "serve": serve.serve,
    "export": export.export,
    "audit": text.audit,
    "card": text.card,
    "budget": training.budget,
    "import": models.import_,
    "migrate": fitting.migrate,
    "recipes": training.recipes,
}

GROUPS = {
    "data": (
        data.COMMANDS,
        "Work on pairs of images and captions, before anything is trained on them.",
    ),
    "index": (index.COMMANDS, "Build an index of images and texts, or change it."),
}
"""Commands that have commands of their own."""

PIPE_EXIT = 141
"""As shells tell of a program that SIGPIPE ended."""


def main(words: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for bad input, 75 when told to stop."""
    words = sys.argv[1:] if words is None else list(words)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if words == ["--version"]:
        from lift import __version__

        print(f"lift {__version__}")
        return 0
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may be no Unicode
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _run(words)
        sys.stdout.flush()
    except BrokenPipeError as error:
        return _unread(error)
    except Stopped as stop:
        if str(stop):
            print(stop, file=sys.stderr)
        return STOPPED_EXIT
    except LiftError as error:
        if debug:
            traceback.print_exc()
        if not isinstance(error, Echo):
            print(f"lift: {error}", file=sys.stderr)
        return BAD_INPUT_EXIT
    except KeyboardInterrupt:
        return 130
    return 0


def _unread(error: BrokenPipeError) -> int:
    """Return the exit code where whoever read what is printed has left (`lift ... | head`)."""
    try:
        print(flush=True)  # fails again, if it is that pipe
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_EXIT
    raise error  # of another pipe than ours


def _run(words: list[str]) -> None:
    """Call the command that the words name; some have commands of their own."""
    commands, prog = COMMANDS, "lift"
    about = "Put images into a text-embedding space that never moves."
    if words and words[0] in GROUPS:
        (commands, about), prog = GROUPS[words[0]], f"lift {words[0]}"
        words = words[1:]
    tyro.extras.subcommand_cli_from_dict(
        commands,
        prog=prog,
        description=about,
        args=words or ["--help"],
        config=(tyro.conf.FlagCreatePairsOff,),
    )


if __name__ == "__main__":
    sys.exit(main())
