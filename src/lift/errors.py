"""Every error that lift raises on purpose: one sentence that says what, which value, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

BAD_INPUT_EXIT = 2
"""Exit code of a command whose input or environment was wrong (a user can mend it)."""

STOPPED_EXIT = 75
"""Exit code after SIGTERM: the state is saved, the same command goes on (EX_TEMPFAIL)."""


_LONGEST = 4_000


class LiftError(Exception):
    """Base of the errors below; the command line prints its message and leaves with 2.

    A name of a million characters in somebody's data is shown by its two ends.

    Attributes:
        of_all_ranks: whether every process of a run raises it, or an echo of it, at the same point.
    """

    of_all_ranks = False

    def __str__(self) -> str:
        return shortened(super().__str__())


class ConfigError(LiftError):
    """An option, recipe or part that does not exist, or a value of the wrong type."""


class DataError(LiftError):
    """Pairs that can't be read as asked: missing column, empty set, broken archive."""


class BrokenSample(DataError):
    """One sample that can't be used.

    Attributes:
        kind: the reason in a few words that many samples share ("empty caption", "truncated
            image"), for counters.
    """

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(kind, sentence)  # both, so that it travels between processes
        self.kind = kind

    def __str__(self) -> str:
        return shortened(str(self.args[1]))


class Unreachable(DataError):
    """A file of samples that is gone, changed or does not come: no matter of one sample.

    It ends the reading even where single samples are left out and counted.
    """


class CacheError(LiftError):
    """A cache that is missing, incomplete, damaged or not writable."""


class SpaceMismatch(LiftError):
    """Two text spaces that should be one are not; both fingerprints are in the message."""


class MissingRows(LiftError):
    """Captions without a stored vector."""


class MissingPackage(LiftError):
    """An optional package is needed; the message names the command that installs it."""


class StorageError(LiftError):
    """The disk refused a write (full, read-only, too large); nothing half-written stays."""


class CheckpointError(LiftError):
    """A checkpoint or bundle that can't be used as asked."""


class ServerError(LiftError):
    """An embedding server that can't be reached, gave up, or answers what can't be read."""


class NotFinite(LiftError):
    """A loss or gradient that is NaN or infinite; raised before the optimiser moves."""


class Regressed(LiftError):
    """A run that lost more of what its start could do than it was allowed to."""


class RankLost(LiftError):
    """Another process of a run ended or does not answer."""


class NotEnoughMemory(LiftError):
    """A step that does not fit into the device's memory; the message says what would."""


class Echo(LiftError):
    """What another process of a run complained about; that one says it."""

    of_all_ranks = True


class DataEcho(Echo, DataError):
    """The same, of pairs."""


class Stopped(Exception):
    """The run was told to stop (SIGTERM, Ctrl-C) and saved its state first."""


def shortened(sentence: str) -> str:
    """Return a sentence without its middle where it is longer than anybody reads."""
    if len(sentence) <= _LONGEST:
        return sentence
    return f"{sentence[: _LONGEST * 3 // 4]} ... {sentence[-_LONGEST // 5 :]}"


def unknown(kind: str, name: str, known: Iterable[str], error: type[LiftError] = ConfigError):
    """Return `error` for a name that is not among the known ones, with the nearest match.

    Args:
        kind: what the name should have named, for the sentence ("recipe", "option of ...").
        name: what was given.
        known: every valid name.
        error: the class to build.
    """
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return error(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(choices) or 'none'}.")
