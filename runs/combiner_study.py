"""Does a combiner trained on edited captions alone search better than the sum of both vectors?

    python runs/combiner_study.py --work FOLDER --model RUN --captions coco_captions.jsonl.gz
    python runs/combiner_study.py --table                            # from the JSON file alone

Two parts, each with edits that were held out.

`scenes`: drawn scenes, and the same scenes painted again with one fact changed (a colour, a shape,
a texture, the ground, a thing less). A query is the picture before the change and a sentence that
says the change; found has to be the picture after it, among all changed pictures and all others
unchanged; the query's own picture is left out. RUN is a model trained on scenes of seed 1 with
numbers below 20,000; the combiner is trained on short captions of scenes 0 to 1,999, no picture;
queries are made of scenes 21,000 to 21,299, and what is chosen is chosen on 22,000 to 22,099.

`captions`: COCO captions (val2017), one a photo; 4,000 to train on, 1,000 others to edit by
the same rules; found has to be the changed caption among all changed ones and all others
unchanged.

Compared: the picture alone, the text alone, the sum of both unit vectors (1 to 1, and with the
text's weight that is best on what is held out for choosing), the sum with each vector less the mean
of its kind (as the combiner has it), and the combiner: eight seeds, each query's credit averaged
over them.
Intervals are of 95% over pictures (Wilson's, edits of one picture as a cluster).

What has been computed is not computed again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

import lift
from lift.data.dice import generator
from lift.data.formats import scenes
from lift.data.formats._scene_facts import (
    BACKGROUNDS,
    COLOURS,
    GROUNDS,
    SHAPES,
    TEXTURES,
    Dice,
    Scene,
)
from lift.data.formats._scene_pixels import paint
from lift.evals._metrics import share
from lift.search.combiner import Combiner, fitted
from lift.search.edited import Triplet, triplets
from lift.search.terms import Kind

Train: TypeAlias = Callable[[int, float, bool], Combiner]
"""From a seed, the noise, and whether pictures have a middle of their own."""

RESULTS = Path(__file__).parent / "results" / "combiner_study.json"
SEEDS = 8
NOISES = (0.0, 0.3, 1.0)
WEIGHTS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
TRIED = 1
"""Seeds of what is tried on the way."""


class Asked(NamedTuple):
    """Queries and what they search.

    `z`: before the change, `z_edit`: what is to change, `gallery`: vectors searched, `target`: the
    number of the right one, `own`: the number of the query's own, `photo`: its cluster, `kind`.
    """

    z: np.ndarray
    z_edit: np.ndarray
    gallery: np.ndarray
    target: np.ndarray
    own: np.ndarray
    photo: np.ndarray
    kind: list[str]


def ranks(asked: Asked, found: np.ndarray) -> np.ndarray:
    """Return the rank of each query's target, from 0; the query's own is left out."""
    cosines = found @ asked.gallery.T
    rows = np.arange(len(cosines))
    cosines[rows, asked.own] = -np.inf
    return (cosines > cosines[rows, asked.target][:, None]).sum(axis=1)


# --- scenes -------------------------------------------------------------------------------------


def edits_of(scene: Scene, dice: Dice) -> list[tuple[str, str, Scene]]:
    """Return (kind, words, changed scene), one of every kind that fits."""
    at = dice.below(len(scene.things))
    thing = scene.things[at]
    noun = thing.shape + ("" if thing.number == 1 else "es" if thing.shape[-1] == "s" else "s")

    def with_thing(**facts: Any) -> Scene:
        things = list(scene.things)
        things[at] = thing._replace(**facts)
        return scene._replace(things=tuple(things))

    colour = dice.choose([c for c in COLOURS if all(t.colour != c for t in scene.things)])
    shape = dice.choose([s for s in SHAPES if all(t.shape != s for t in scene.things)])
    texture = dice.choose([t for t in TEXTURES if t not in (thing.texture, "plain")])
    ground = dice.choose([g for g in GROUNDS if g != scene.ground])
    found = [
        ("colour", f"make the {noun} {colour}", with_thing(colour=colour)),
        (
            "shape",
            f"{shape}s instead of the {noun}"
            if thing.number > 1
            else f"a {shape} instead of the {noun}",
            with_thing(shape=shape),
        ),
        (
            "texture",
            f"but with a {texture} {noun}" if thing.number == 1 else f"but with {texture} {noun}",
            with_thing(texture=texture),
        ),
        (
            "ground",
            f"on a plain {ground} background",
            scene._replace(ground=ground, background=BACKGROUNDS[0]),
        ),
    ]
    if len(scene.things) > 1:
        rest = tuple(t for i, t in enumerate(scene.things) if i != at)
        found.append(("without", f"without the {noun}", scene._replace(things=rest)))
    return found


def asked_scenes(model: lift.Bundle, start: int, count: int) -> Asked:
    """Return queries from scenes `start` and on."""
    source = scenes.build(scenes.Config(count=count, start=start, seed=1, resolution=48))
    images: list[bytes] = []
    target, photo, kinds, words = [], [], [], []
    changed: list[bytes] = []
    for index in range(count):
        images.append(source.read(index).image)
        scene = source._told(index)[0]
        dice = Dice(generator(1, 900, item=start + index))
        for kind, text, after in edits_of(scene, dice):
            rng = generator(1, 102, item=start + index)  # the same places and shades
            changed.append(paint(after, Dice(rng), rng, 48)[0])
            target.append(count + len(changed) - 1)
            photo.append(index)
            kinds.append(kind)
            words.append(text)
    gallery = model.encode_images([*images, *changed])
    own = np.array(photo)
    return Asked(
        gallery[own], model.encode_texts(words), gallery, np.array(target), own, own, kinds
    )


# --- captions -----------------------------------------------------------------------------------


def coco(path: Path) -> list[str]:
    """Return the first caption of each photo."""
    first: dict[int, str] = {}
    with gzip.open(path, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            first.setdefault(row["image_id"], row["caption"])
    return [caption for _, caption in sorted(first.items())]


def asked_captions(made: Sequence[Triplet], place: dict[str, int], rows: np.ndarray) -> Asked:
    """Return queries from triplets."""
    texts = list(dict.fromkeys([*(t.changed for t in made), *(t.caption for t in made)]))
    number = {text: at for at, text in enumerate(texts)}
    gallery = rows[[place[text] for text in texts]]
    return Asked(
        rows[[place[t.caption] for t in made]],
        rows[[place[t.edit] for t in made]],
        gallery,
        np.array([number[t.changed] for t in made]),
        np.array([number[t.caption] for t in made]),
        np.array([number[t.caption] for t in made]),
        [t.kind for t in made],
    )


def embedded(model: lift.Bundle, made: Sequence[Triplet], file: Path) -> tuple[dict, np.ndarray]:
    """Return the place of every text, and their vectors, kept in a file."""
    texts = list(dict.fromkeys(text for triplet in made for text in triplet[:3]))
    place = {text: at for at, text in enumerate(texts)}
    if file.exists() and len(rows := np.load(file)) == len(texts):
        return place, rows
    started = time.process_time()
    rows = model.encode_texts(texts)
    print(f"  {len(texts):,} texts in {time.process_time() - started:.0f} s of CPU", flush=True)
    np.save(file, rows)
    return place, rows


# --- what is compared ---------------------------------------------------------------------------


def summed(asked: Asked, weight: float, middles: tuple[Any, Any, Any] = (0, 0, 0)) -> np.ndarray:
    """Return unit sums; `middles` are those of texts, edits, and what `z` was made of."""
    total = middles[0] + (asked.z - middles[2]) + weight * (asked.z_edit - middles[1])
    return total / np.linalg.norm(total, axis=1, keepdims=True)


def figures(asked: Asked, all_ranks: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return R@1 and R@10 with intervals, and R@1 by kind of edit."""
    ranked = np.array(all_ranks)
    out: dict[str, Any] = {"queries": ranked.shape[1], "seeds": len(ranked)}
    for k in (1, 10):
        got = (ranked < k).mean(axis=0).astype(np.float32)
        metric = share(got, clusters=asked.photo.astype(np.int64))
        out[f"R@{k}"] = [round(v, 4) for v in (metric.value, metric.low, metric.high)]
        if len(ranked) > 1:
            out[f"R@{k} of seeds"] = [round(float((r < k).mean()), 4) for r in ranked]
    kinds = np.array(asked.kind)
    out["R@1 by kind"] = {
        kind: round(float((ranked[:, kinds == kind] < 1).mean()), 4) for kind in sorted(set(kinds))
    }
    return out


class Part:
    """One part of the study, whose figures are kept as they come."""

    def __init__(
        self, name: str, kind: Kind, choose: Asked, judge: Asked, train: Train, done: dict[str, Any]
    ) -> None:
        """Take queries to choose on and to judge on, and what trains a combiner."""
        self.name, self.kind, self.choose, self.judge = name, kind, choose, judge
        self.train, self.done = train, done
        self.own: dict[str, Any] = done.setdefault(name, {})

    def compute(self) -> None:
        """Compute what is missing."""
        if "tried" not in self.own:
            self.keep("tried", self.tried())
        for key, found in self.simple().items():
            if key not in self.own:
                self.keep(key, figures(self.judge, [ranks(self.judge, found())]))
        _, _, noise, middles = self.best("combiner").split()
        self.combined("combiner", float(noise), middles)

    def keep(self, key: str, value: dict[str, Any]) -> None:
        """Save a figure at once."""
        self.own[key] = value
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(self.done, indent=1) + "\n")
        shown = {k: v for k, v in value.items() if key == "tried" or k.startswith("R@1")}
        print(f"{self.name} {key}: {shown}", flush=True)

    def best(self, start: str) -> str:
        """Return what was best among what was tried."""
        tried = self.own["tried"]
        return max((key for key in tried if key.startswith(start)), key=lambda key: tried[key])

    def middles(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the middles of texts, of edits and of what queries change."""
        if not hasattr(self, "_middles"):
            self._middles = self.train(0, 0.0, True)._network.middles.numpy()
        texts, edits, images = self._middles
        return texts, edits, images if self.kind == "image" else texts

    def tried(self) -> dict[str, float]:
        """Return R@1 of every choice on what is held out for choosing."""

        def at_1(found: np.ndarray) -> float:
            return round(float((ranks(self.choose, found) < 1).mean()), 4)

        tried: dict[str, float] = {}
        for weight in WEIGHTS:
            tried[f"sum {weight}"] = at_1(summed(self.choose, weight))
            tried[f"middles {weight}"] = at_1(summed(self.choose, weight, self.middles()))
        for middles in ("centred", "plain") if self.kind == "image" else ("centred",):
            for noise in NOISES:
                made = self.train(0, noise, middles == "centred")
                found = made(self.choose.z, self.choose.z_edit, kind=self.kind)
                tried[f"combiner noise {noise} {middles}"] = at_1(found)
        return tried

    def simple(self) -> dict[str, Callable[[], np.ndarray]]:
        """Return what nothing is trained for."""
        weight, centred = (float(self.best(start).split()[1]) for start in ("sum", "middles"))
        judge = self.judge
        return {
            "picture alone": lambda: judge.z,
            "text alone": lambda: judge.z_edit,
            "sum 1:1": lambda: summed(judge, 1.0),
            f"sum 1:{weight:g}": lambda: summed(judge, weight),
            f"centred sum 1:{centred:g}": lambda: summed(judge, centred, self.middles()),
        }

    def combined(self, label: str, noise: float, middles: str) -> None:
        """Judge combiners of eight seeds."""
        if label in self.own:
            return
        found, seconds = [], []
        for seed in range(SEEDS):
            started = time.process_time()
            made = self.train(seed, noise, middles == "centred")
            seconds.append(time.process_time() - started)
            z = made(self.judge.z, self.judge.z_edit, kind=self.kind)
            found.append(ranks(self.judge, z))
        figure = figures(self.judge, found)
        figure["CPU seconds to train"] = round(float(np.median(seconds)), 1)
        self.keep(label, {**figure, "noise": noise, "middles": middles})


def main() -> None:
    """Compute what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--captions", type=Path)
    parser.add_argument("--table", action="store_true")
    told = parser.parse_args()
    done = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not told.table:
        print("budget: 2 x 1 CPU-minute for texts, once; 27 trainings of 3 to 7 s each")
        told.work.mkdir(parents=True, exist_ok=True)
        model = lift.load(told.model)
        compute(model, told.work, told.captions, done)
    for name, own in done.items():
        print(f"\n{name}")
        for key, value in own.items():
            if key != "tried":
                one, ten = value["R@1"], value["R@10"]
                print(
                    f"  {key:26} R@1 {one[0]:.3f} ({one[1]:.3f}-{one[2]:.3f})  "
                    f"R@10 {ten[0]:.3f} ({ten[1]:.3f}-{ten[2]:.3f})  {value['R@1 by kind']}"
                )


def compute(model: lift.Bundle, work: Path, captions: Path, done: dict[str, Any]) -> None:
    """Compute both parts."""
    source = scenes.build(scenes.Config(count=2000, seed=1, resolution=48, short=2, long=1))
    told = [c.text for _, own in source.texts() for c in own if c.role == "short"]
    made = triplets(list(dict.fromkeys(told)), each=2)
    place, rows = embedded(model, made, work / "scenes.npy")
    images = np.stack([model.encode_images([source.read(i).image])[0] for i in range(256)])

    def train(seed: int, noise: float, centre: bool) -> Combiner:
        pictures = images if centre else None
        return fitted(model.space, made, place, rows, images=pictures, noise=noise, seed=seed)

    Part(
        "scenes",
        "image",
        asked_scenes(model, 22_000, 100),
        asked_scenes(model, 21_000, 300),
        train,
        done,
    ).compute()

    every = coco(captions)
    learned, held = triplets(every[:4000], each=1), triplets(every[4000:], each=2, seed=7)
    place2, rows2 = embedded(model, [*learned, *held], work / "captions.npy")
    cut = len(held) // 5
    choose, judge = (asked_captions(own, place2, rows2) for own in (held[:cut], held[cut:]))

    def train_captions(seed: int, noise: float, centre: bool) -> Combiner:
        return fitted(model.space, learned, place2, rows2, noise=noise, seed=seed)

    Part("captions", "text", choose, judge, train_captions, done).compute()


if __name__ == "__main__":
    main()
