"""What a ladder is asked for, which pairs do what in it, whether a folder holds the same one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lift.config import to_json
from lift.data.formats.selected import Digest
from lift.data.formats.share import is_inside
from lift.data.source import open_source
from lift.errors import CheckpointError, ConfigError, DataError
from lift.files import is_ours_or_empty, write_text

MARKER = "asked.json"
HELD = 0.1
"""Share of the data that judges where there are no other pairs for it."""
STOPPING = 0.1
MOST_STOPPING = 1_000
"""Samples that say when a trained head stops: a share, and at most so many, which is enough."""
SEED = 20_261
"""Of the shares: theirs alone, so that data that is a share itself is divided like any other."""
_FEWEST = 10


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the caller wants.

    Attributes:
        data, validation: words; no `validation` holds out a share of the data.
        space, tower: words for a text encoder and an image tower.
        out: the ladder's folder.
        options: words that change the recipe of the trained head.
        device: auto, cpu, cuda, ...
    """

    data: str
    validation: str
    space: str
    tower: str
    out: Path
    options: tuple[str, ...] = ()
    device: str = "auto"

    @property
    def captions(self) -> Path:
        """Where stored captions lie."""
        return self.out / "captions"

    @property
    def features(self) -> Path:
        """Where stored features of images lie."""
        return self.out / "features"

    def rung(self, name: str) -> Path:
        """Where a rung lies."""
        return self.out / "rungs" / name


@dataclass(frozen=True, kw_only=True)
class Split:
    """Words of the pairs that rungs are made from, that stop a head, and that judge.

    Attributes:
        train: the first two together.
        counts: samples of `fit`, `stop` and `held`.
        digest: of every key and caption.
        sentence: how it was divided.
    """

    fit: str
    stop: str
    held: str
    train: str
    counts: tuple[int, int, int]
    digest: str
    sentence: str


def divide(asked: Asked) -> Split:
    """Return which pairs do what; reads all captions, no image.

    Raises:
        ConfigError: no data.
        DataError: too few pairs to hold any out.
    """
    if not asked.data:
        raise ConfigError("There are no pairs: say which with `lift ladder DATA`.")
    digest, found = Digest(), open_source(asked.data)
    samples = len(found)
    end = 1.0 if asked.validation else 1 - HELD
    cut = round(end * (1 - min(STOPPING, MOST_STOPPING / samples)), 6)
    counts = [0, 0, 0]
    for key, captions in found.texts():
        digest.add(key, captions)
        stop, held = (not is_inside(key, 0.0, bound, SEED) for bound in (cut, end))
        counts[stop + held] += 1
    if asked.validation:
        judges = open_source(asked.validation)
        counts[2] = len(judges)
        for key, captions in judges.texts():
            digest.add(key, captions)
    if min(counts) < _FEWEST:
        raise DataError(
            f"{asked.data} has {samples:,} samples, which leaves {counts[0]:,} to learn from, "
            f"{counts[1]:,} to stop by and {counts[2]:,} to judge by: a ladder needs at least "
            f"{_FEWEST} of each."
        )
    judging = (
        f"the {counts[2]:,} of {asked.validation} judge"
        if asked.validation
        else f"{counts[2]:,} ({HELD:.0%}, drawn by their keys) are held out and judge"
    )
    return Split(
        fit=_share(asked.data, 0.0, cut),
        stop=_share(asked.data, cut, end),
        held=asked.validation or _share(asked.data, end, 1.0),
        train=asked.data if asked.validation else _share(asked.data, 0.0, end),
        counts=(counts[0], counts[1], counts[2]),
        digest=digest.hexdigest(),
        sentence=f"Every rung is made from the same {counts[0]:,} samples; {counts[1]:,} others "
        f"only say when the trained head stops, and {judging} every rung.",
    )


def _share(data: str, start: float, stop: float) -> str:
    return f"share:data=[{data}],start={start:g},stop={stop:g},seed={SEED}"


def require_same(asked: Asked, digest: str) -> None:
    """Write down what is asked for; refuse a folder that holds something else.

    Raises:
        CheckpointError: not a ladder's folder, or that of another ladder.
    """
    if not is_ours_or_empty(asked.out, MARKER):
        raise CheckpointError(f"{asked.out} holds something else; choose another --out.")
    now = {
        "data": asked.data,
        "validation": asked.validation,
        "space": asked.space,
        "tower": asked.tower,
        "digest": digest,
    }
    path = asked.out / MARKER
    if not path.exists():
        write_text(path, to_json(now))
        return
    try:
        before = json.loads(path.read_text("utf-8"))
        changed = [name for name in now if before[name] != now[name]]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); choose another --out.") from error
    if changed == ["digest"]:
        raise CheckpointError(
            f"The keys or captions of {asked.data} are not those that the ladder in {asked.out} "
            "was begun with: choose another --out."
        )
    if changed:
        name = changed[0]
        raise CheckpointError(
            f"{asked.out} holds a ladder with {name} {before[name]!r}, not {now[name]!r}: choose "
            "another --out."
        )
