"""From data, a text encoder and a tower to the rungs of a ladder, each judged alike."""

from __future__ import annotations

import dataclasses
import datetime
import shlex
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lift.config import Part, to_dict, to_json
from lift.data.formats.share import OUTSIDE
from lift.data.stored_pairs import StoredPairs
from lift.embedding import embed
from lift.errors import ConfigError
from lift.features import embed_images
from lift.files import sole_writer, write_text
from lift.rungs import trained
from lift.rungs.above import above
from lift.rungs.closed import CHOICE, PASS, Closed
from lift.rungs.judged import Judge
from lift.rungs.meter import Meters
from lift.rungs.places import Asked, Split, divide, require_same
from lift.rungs.record import Ladder, Predicted, Rung, Step, read_as, write
from lift.rungs.words import advise, agreement, compared
from lift.training.config import RunConfig
from lift.world import versions, worker

CAPTIONS, FEATURES = "captions", "features"
_BEFORE = "predicted.json"
_WHAT = {
    CAPTIONS: "captions embedded",
    FEATURES: "features of images made",
    PASS: "pass over the stored pairs",
    CHOICE: "closed forms tried on a fold, the best of them solved",
}


@dataclass(frozen=True)
class Recipes:
    """The runs that rungs are made of: a head, a tuned tower, a tower from scratch."""

    head: RunConfig
    tune: RunConfig
    scratch: RunConfig


@dataclass(frozen=True, kw_only=True)
class Before:
    """What is known before any rung, kept for a ladder that goes on."""

    predicted: Predicted | None
    left_out: dict[str, int]
    twins: int


def climb(
    asked: Asked,
    encoder: Part,
    tower: Part,
    recipes: Recipes,
    *,
    progress: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Ladder:
    """Climb the rungs that need no pixels twice, and return what each gave and cost.

    The same call goes on where it was stopped; rungs that came out are not made again.

    Args:
        asked: what for.
        encoder, tower: what `asked` names.
        recipes: what trained rungs are.
        progress: draw progress bars.
        say: is told what is known as it comes.

    Raises:
        LiftError: bad input; a rung that fails is in the ladder as failed, and raises nothing.
        Stopped: SIGTERM or Ctrl-C; the state is saved.
    """
    if worker().size > 1:
        raise ConfigError("A ladder is climbed by one process: leave out torchrun.")
    split = divide(asked)
    trained.config_of(recipes.head, asked, split, "")  # wrong options are told before the work
    with sole_writer(asked.out):
        require_same(asked, split.digest)
        meters = Meters(asked.out)
        _embed(asked, encoder, tower, meters, progress)
        judge = Judge(asked, split, progress=progress)
        closed = Closed(asked, split, judge, meters, progress=progress)
        before = _before(asked, judge, closed)
        say(split.sentence)
        say(f"before: {agreement(before.predicted)}")
        rungs = closed.climb()
        below = next((rung for rung in rungs if rung.chosen and rung.result is not None), None)
        below = below or next((rung for rung in rungs if rung.result is not None), None)
        head = trained.climb(
            recipes.head, asked, split, judge, meters, below=below, progress=progress
        )
        found = _found(asked, split, judge, meters, recipes, before, [*rungs, head])
        write(found, asked.out)
    return found


def _embed(asked: Asked, encoder: Part, tower: Part, meters: Meters, progress: bool) -> None:
    """Store a row of every caption and every image; what was stored before stays."""
    data = [words for words in (asked.data, asked.validation) if words]
    if not meters.done(CAPTIONS):
        with meters.measured(CAPTIONS) as counted:
            report = embed(data, encoder, asked.captions, device=asked.device, progress=progress)
            counted.items = report.embedded
    if not meters.done(FEATURES):
        with meters.measured(FEATURES) as counted:
            report = embed_images(
                data, tower, asked.features, device=asked.device, progress=progress
            )
            counted.items = report.embedded


def _before(asked: Asked, judge: Judge, closed: Closed) -> Before:
    path = asked.out / _BEFORE
    if path.exists():
        return read_as(Before, path)
    alike, left_out = closed.predicted()
    held = StoredPairs(judge.held, judge.captions, judge.images)
    seen = closed.gathered()[1].image_row
    found = Before(
        predicted=None if alike is None else Predicted(**to_dict(alike)),
        left_out=left_out,
        twins=int((np.isin(held.image_row, seen) & (held.image_row >= 0)).sum()),
    )
    write_text(path, to_json(found))
    return found


def _found(
    asked: Asked,
    split: Split,
    judge: Judge,
    meters: Meters,
    recipes: Recipes,
    before: Before,
    rungs: list[Rung],
) -> Ladder:
    hits = {rung.name: found for rung in rungs if (found := judge.hits(rung.name)) is not None}
    owner = judge.pairs.owner
    rungs = compared(rungs, hits, owner)
    found = Ladder(
        data=asked.data,
        validation=asked.validation,
        held_out=split.held,
        split=split.sentence,
        fitted=split.counts[0],
        stopping=split.counts[1],
        judged=split.counts[2],
        space=judge.captions.space.model,
        dimensions=judge.captions.dimensions,
        fingerprint=judge.captions.space.fingerprint,
        tower=judge.images.space.name,
        width=judge.images.space.dimensions,
        predicted=before.predicted,
        steps=tuple(
            Step(name=name, what=what, cost=meters.cost(name)) for name, what in _WHAT.items()
        ),
        rungs=tuple(rungs),
        next=(),
        advice="",
        take="",
        commands=(),
        notes=_notes(before, rungs),
        left_out=before.left_out,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=versions(),
    )
    take, advice = advise(found, hits, owner)
    start = str(asked.rung(take)) if take else ""
    return dataclasses.replace(
        found,
        take=take,
        advice=advice,
        next=above(
            asked,
            split,
            tune=recipes.tune,
            scratch=recipes.scratch,
            images=meters.cost(FEATURES),
            start=start,
        ),
        commands=_commands(asked, split, start),
    )


def _commands(asked: Asked, split: Split, start: str) -> tuple[tuple[str, str], ...]:
    if not start:
        return ()
    judging = ["lift", "eval", start, "--on", f"retrieval:data=[{split.held}]"]
    return (
        ("judge it again", shlex.join([*judging, "--cache", str(asked.captions)])),
        ("use it in Python", f"model = lift.load({start!r}); model.encode_images([...])"),
    )


def _notes(before: Before, rungs: list[Rung]) -> tuple[str, ...]:
    results = [rung.result for rung in rungs if rung.result is not None]
    notes = [note for result in results for note in result.notes if not note.endswith(OUTSIDE)]
    if before.twins:
        notes.insert(
            0,
            f"{before.twins:,} held-out samples have an image that is in the training data, too, "
            "byte for byte: all figures flatter.",
        )
    return tuple(dict.fromkeys(notes))
