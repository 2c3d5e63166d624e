"""Drawn scenes captioned in five ways: the same scenes and pictures, other sentences about them.

Everything of a captioning is said here, and was before any run. All are judged alike, on other
scenes with the generator's own short and long captions and with questions of composition.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from frame.built_alike import scene_sentences, syntax
from frame.rates import best
from frame.runs import Arm, encoder_of, ran
from frame.sets import Set, scenes, write_table
from frame.study import RESULTS, Job, Place, Record, path_of, taken
from lift.config import part
from lift.data.formats._scene_words import Phrase
from lift.data.source import open_source
from lift.diagnosis.inverse import sentences

CAPTIONINGS: Mapping[str, str] = {
    "short": "the generator's short captions",
    "long_one": "long, every one in one template",
    "long_varied": "the generator's long captions, which vary in build",
    "first": "the first sentence of the long one that varies",
    "random": "any one of its sentences",
}
"""Columns of the table, in words."""

MIXED = ("short", "long_varied")
"""Columns of which a picture shows one, in turn."""

RATES = (0.125, 0.25, 0.5, 1.0)
"""Tried for each method: times the recipe's rate. CLIP wants low ones here."""

CHOOSING = "choosing: text_to_image/R@10"
TRIED_IN = "losses_and_captions"
SAMPLES = 8_000
"""Pictures seen, each once: a long caption costs CLIP twice as much as a short one."""

CONTEXT = 128
"""Tokens that CLIP's text tower may read: at 77 it would cut long captions that a tower of short
ones has few words for."""

TEMPLATE = "The image shows {things}. {relations}The background is {background} {ground}."
"""Of `long_one`: things in the order of the scene's facts, each with all its attributes; between
each and the next where they stand, by colour and shape; the background at the end."""


@dataclasses.dataclass(frozen=True)
class Captioned(Set):
    """Scenes that show some of the columns of captions.

    Attributes:
        table: with all columns, which are embedded together: studies share the rows.
        shown: the columns that are trained on.
    """

    table: Path = Path()
    shown: tuple[str, ...] = ()

    def texts(self, *, judged: bool) -> list[str]:
        """Return the captions of every captioning, or all texts that judging asks for."""
        if judged:
            asked = [*super().texts(judged=True), *sentences(), *scene_sentences()]
            return list(dict.fromkeys(asked))
        columns = pq.read_table(self.table, columns=[*CAPTIONINGS]).to_pydict().values()
        return list(dict.fromkeys(text for column in columns for text in column))

    def facts(self) -> dict[str, float]:
        """Return how many captions are shown, words of one on average, and the distinct share."""
        columns = pq.read_table(self.table, columns=[*self.shown]).to_pydict().values()
        texts = [text for column in columns for text in column]
        words = sum(len(text.split()) for text in texts) / len(texts)
        return {
            "captions": len(texts),
            "words": round(words, 2),
            "distinct": round(len(set(texts)) / len(texts), 4),
        }


def captioned(shown: Sequence[str], out: Path) -> Captioned:
    """Return the scenes with some of their captions; the table is written in `out`, once.

    Args:
        shown: of `CAPTIONINGS`; of several an image shows one, in turn.
        out: scratch.
    """
    table = out / "data" / "captioned" / f"scenes-{SAMPLES}.parquet"
    with taken(out / "locks" / "captioned.lock", wait=True):
        found = scenes(Path(), out / "data" / "scenes", trained=SAMPLES, captions="short=1,long=1")
        if not table.exists():
            write_table(table, _told(found.train))
    told: dict[str, Any] = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
    told |= {
        "name": f"captioned-{SAMPLES}",
        "train": f"table:path={table},image=image,caption={'+'.join(shown)},key=id,fields=[]",
        "evaluations": {
            "short": f"retrieval:role=short,data=[{found.test}]",
            "long": f"retrieval:role=long,data=[{found.test}]",
            "composition": found.evaluations["composition"],
        },
        "base": dataclasses.replace(
            found.base, encoder=part("text/encoders", "minilm", max_tokens=CONTEXT)
        ),
    }
    return Captioned(**told, table=table, shown=tuple(shown))


def run_of(
    arm: Arm, shown: Sequence[str], place: Place, folder: Path, *, seed: int, rate: float
) -> Record:
    """Train on a captioning, judge, and measure the text space; return the record.

    Args:
        arm: of LIFT or of CLIP.
        shown: columns of captions.
        place: of the study.
        folder: for the model.
        seed: of weights, order and views.
        rate: what the recipe's learning rate is multiplied by.
    """
    of = captioned(shown, place.out)
    record = ran(arm, of, place.out, folder, samples=SAMPLES, seed=seed, rate=rate)
    measured = syntax(encoder_of(folder / "model", arm, of, place.out))
    figures = {**record["figures"], **measured}
    return {**record, "figures": figures, "captions": of.facts()}


def trials(method: str) -> list[Job]:
    """Return the runs among which a method's rate is chosen, which are study 3's."""
    return [Job("scenes", method, 100, f"rate{rate}") for rate in RATES]


def trial_of(arm: Arm, job: Job, place: Place, folder: Path) -> Record:
    """Make a trial: half the pictures, mixed captions, judged by those of scenes for choosing."""
    of = captioned(MIXED, place.out)
    return ran(
        arm,
        of,
        place.out,
        folder,
        samples=SAMPLES // 2,
        seed=job.seed,
        rate=float(job.trial.removeprefix("rate")),
        evaluations={"choosing": f"retrieval:data=[{of.choose}]"},
    )


def rate_of(method: str, results: Path) -> float:
    """Return the rate that was best in the trials, times the recipe's.

    Args:
        method: as study 3 calls it.
        results: of a study; those of study 3 lie beside, or where they are committed.

    Raises:
        FileNotFoundError: the trials were not made.
    """
    for folder in (results.parent / TRIED_IN, RESULTS / TRIED_IN):
        paths = [path_of(job, folder) for job in trials(method)]
        if all(path.exists() for path in paths):
            return best(trials(method), (CHOOSING,), folder)
    raise FileNotFoundError(
        f"No trials of {method} in {results.parent / TRIED_IN}: make them first with "
        f"python runs/{TRIED_IN}.py --seeds 100"
    )


# --- the table ----------------------------------------------------------------------------------


def _told(spec: str) -> Iterator[dict[str, object]]:
    """Yield rows of the table: a picture and a column for each captioning."""
    source = open_source(spec)
    for number in range(len(source)):
        sample = source.read(number)
        said = {caption.role: caption.text for caption in sample.captions}
        parts = split(said["long"])
        lot = _lot("sentence", sample.key)
        yield {
            "id": sample.key,
            "image": sample.image,
            "short": said["short"],
            "long_one": in_one_template(
                json.loads(sample.fields["scene"]), _lot("relation", sample.key)
            ),
            "long_varied": said["long"],
            "first": parts[0],
            "random": parts[lot % len(parts)],
        }


def split(text: str) -> list[str]:
    """Return the sentences of a long caption, each with its full stop."""
    return [f"{sentence}." for sentence in text.removesuffix(".").split(". ")]


def in_one_template(scene: Mapping[str, Any], lot: int) -> str:
    """Return a scene's facts in the build of `TEMPLATE`.

    Args:
        scene: what its field "scene" holds.
        lot: decides between side and height, pair by pair, where things differ in both.
    """
    things = scene["things"]
    whole = [_phrase(thing, ("size", "texture", "colour")) for thing in things]
    shown = ", ".join(whole[:-1]) + " and " + whole[-1] if len(whole) > 1 else whole[0]
    pairs = itertools.pairwise(things)
    relations = [_related(*pair, bool(lot >> at & 1)) for at, pair in enumerate(pairs)]
    return TEMPLATE.format(
        things=shown,
        relations="".join(f"{sentence} " for sentence in relations),
        background=scene["background"],
        ground=scene["ground"],
    )


def _related(first: Mapping[str, Any], second: Mapping[str, Any], by_height: bool) -> str:
    """Say where the first stands, by height or by side where both are true."""
    beside, level = first["column"] == second["column"], first["row"] == second["row"]
    if beside or (by_height and not level):
        relation = "above" if first["row"] < second["row"] else "below"
    else:
        relation = "left of" if first["column"] < second["column"] else "right of"
    verb = "are" if first["number"] > 1 else "is"
    one, other = (_phrase(thing, ("colour",)) for thing in (first, second))
    return f"{one[0].upper()}{one[1:]} {verb} {relation} {other}."


def _phrase(thing: Mapping[str, Any], attributes: Sequence[str]) -> str:
    """Return "a large striped red circle" or "two red circles"; plain things are not called so."""
    told = {name: thing[name] for name in attributes if thing[name] != "plain"}
    return Phrase(thing["shape"], thing["number"], **told).words()


def _lot(purpose: str, key: str) -> int:
    """Return a number that is drawn once for good."""
    return int.from_bytes(hashlib.sha256(f"{purpose}{key}".encode()).digest()[:4], "big")
