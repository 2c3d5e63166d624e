"""Does the part of a prompt that is wrong for an image get the least margin?

    python runs/faithfulness_study.py --model RUN --scenes 150          # a model of drawn scenes
    python runs/faithfulness_study.py --model RUN --photos val-0000.tar # a model of photos

A wrong word is planted in a true caption: the foils `replace_attribute` and `replace_object` of
drawn scenes 21,000 and on; in captions of photos a word replaced by rule (`lift.text.negatives`,
seed 99). The rules that plant are those that make the edits, so the right word is often among them:
that is what `faithfulness` is for, but it is easier than a prompt that is wrong in another way.

Asked of prompts with two parts or more that have edits, where the wrong word lies in one of them:
whether that part has the least margin. Chance is one in the number of parts. Beside it the same
part of the true caption: how often it would have been accused without being wrong. Intervals are of
95% over pictures (Wilson's, cluster-robust).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

import lift
from lift.data.formats import scenes
from lift.data.source import open_source
from lift.evals._metrics import share
from lift.scoring.faithful import faithfulness
from lift.text.negatives import negatives
from lift.text.phrases import tokenise

RESULTS = Path(__file__).parent / "results" / "faithfulness_study.json"


class Planted(NamedTuple):
    """A true caption, the same with a wrong word, and what kind of word that is."""

    photo: int
    kind: str
    right: str
    wrong: str
    image: bytes


def of_scenes(count: int) -> Iterator[Planted]:
    """Yield foils of drawn scenes."""
    source = scenes.build(scenes.Config(count=count, start=21_000, seed=1, resolution=48))
    for index in range(count):
        sample = source.read(index)
        for foil in sample.foils:
            if foil.kind in ("replace_attribute", "replace_object"):
                yield Planted(index, foil.kind, foil.caption, foil.foil, sample.image)


def of_photos(words: str, most: int) -> Iterator[Planted]:
    """Yield captions of photos with a word replaced."""
    source = open_source(words)
    for index in range(min(most, len(source))):
        sample = source.read(index)
        for negative in negatives(sample.captions[0].text, 99):
            if negative.kind == "replace":
                kind = negative.change.partition(":")[0]
                right, wrong = sample.captions[0].text, negative.text
                yield Planted(index, kind, right, wrong, sample.image)


def place(wrong: str, right: str) -> tuple[int, int]:
    """Return the characters of the wrong text that the right one has otherwise."""
    one, two = tokenise(wrong), tokenise(right)
    same = next(i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a.lower != b.lower)
    if one[same].lower in ("a", "an"):
        same += 1
    return one[same].start, one[same].end


def judged(model: lift.Bundle, planted: list[Planted]) -> dict[str, dict[str, object]]:
    """Return the figures of each kind."""
    z = {p.photo: None for p in planted}
    for p in planted:
        if z[p.photo] is None:
            z[p.photo] = model.encode_images([p.image])[0]
    found: dict[str, list[tuple[int, float, float, float, float]]] = {}
    for p in planted:
        start, end = place(p.wrong, p.right)
        asked = faithfulness(model, p.image, p.wrong, z=z[p.photo])
        parts = [part for part in asked.parts if part.edits and part.kind != "sentence"]
        own = [part.start < end and start < part.end for part in parts]
        if len(parts) < 2 or sum(own) != 1:
            continue
        at = own.index(True)
        margins = [part.margin for part in parts]
        truth = faithfulness(model, p.image, p.right, z=z[p.photo])
        others = [part for part in truth.parts if part.edits and part.kind != "sentence"]
        accused = 0.0
        if len(others) == len(parts):
            accused = float(np.argmin([part.margin for part in others]) == at)
        row = (p.photo, float(np.argmin(margins) == at), 1 / len(parts), accused)
        found.setdefault(p.kind, []).append((*row, float(asked.cosine < truth.cosine)))
        found.setdefault("all", []).append((*row, float(asked.cosine < truth.cosine)))
    out: dict[str, dict[str, object]] = {}
    for kind, rows in sorted(found.items()):
        table = np.array(rows)
        photos = table[:, 0].astype(np.int64)
        figures: dict[str, object] = {"prompts": len(rows), "chance": round(table[:, 2].mean(), 3)}
        for name, column in (("least", 1), ("least of the true caption", 3), ("true nearer", 4)):
            metric = share(table[:, column].astype(np.float32), clusters=photos)
            figures[name] = [round(v, 3) for v in (metric.value, metric.low, metric.high)]
        out[kind] = figures
    return out


def main() -> None:
    """Judge one model and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=0)
    parser.add_argument("--photos", default="")
    parser.add_argument("--most", type=int, default=400)
    told = parser.parse_args()
    print("budget: 60 texts a prompt through the text encoder: 1 to 3 CPU-minutes", flush=True)
    planted = list(of_photos(told.photos, told.most) if told.photos else of_scenes(told.scenes))
    done = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    done["photos" if told.photos else "scenes"] = judged(lift.load(told.model), planted)
    RESULTS.write_text(json.dumps(done, indent=1) + "\n")
    print(json.dumps(done, indent=1))


if __name__ == "__main__":
    main()
