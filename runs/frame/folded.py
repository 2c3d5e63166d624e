"""What folding a conditioned text space back loses, on text alone; a model before its fold.

An image is played by the mean of four of its captions, brought into the conditioned space; the
fifth asks for it. Counted are the pairs of answers that change their order when the transform is
folded back, the same without the mean direction projected out, and SugarCrepe's decisions (200
questions a kind, the image played by its other captions) that turn.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frame.page import table
from frame.study import RESULTS, ROOT, read
from lift.cache import writer
from lift.cache.conditioned import fit_on
from lift.cache.reader import EmbeddingCache
from lift.config import part
from lift.data.source import Captions, open_source
from lift.files import write_text
from lift.terms import Encoder, unit
from lift.text.conditioning import Condition, ConditionConfig
from lift.text.encoder import build_encoder
from lift.world import threads, versions

KINDS = ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
QUESTIONS = 200
"""Of each kind."""
PAIRS = 400
"""Pairs of answers drawn a query."""


class Unfolded:
    """A folded model in the conditioned space that it was trained in: v = unit(F g) still says g.

    F has full column rank, so g is unit(F+ v) with the pseudo-inverse F+.
    """

    def __init__(self, model: Encoder, condition: Condition) -> None:
        self.name, self.saw = model.name, model.saw
        self._model, self._condition = model, condition
        self._back = torch.linalg.pinv(condition.fold())

    def encode_images(self, images: Any) -> np.ndarray:
        """Return the images' conditioned vectors [n k]."""
        v = torch.from_numpy(self._model.encode_images(images)).double()
        return unit(v @ self._back.T).float().numpy()

    def encode_texts(self, texts: Any) -> np.ndarray:
        """Return the texts' conditioned rows [n k]."""
        t = torch.from_numpy(self._model.encode_texts(texts)).double()
        return unit(self._condition.apply(t)).float().numpy()


def flips(one: Tensor, other: Tensor) -> float:
    """Return which percentage of pairs of a query's answers change their order; a row a query."""
    dice = torch.Generator().manual_seed(0)
    first, second = (
        torch.randint(one.shape[1], (len(one), PAIRS), generator=dice) for _ in range(2)
    )
    a = one.gather(1, first) - one.gather(1, second)
    b = other.gather(1, first) - other.gather(1, second)
    told = first != second
    return 100 * float(((a * b < 0) & told).sum() / told.sum())


def recall(scores: Tensor) -> float:
    """Return R@1 in percent where answer i belongs to query i."""
    return 100 * float((scores.argmax(1) == torch.arange(len(scores))).double().mean())


def on_text(data: Path, out: Path) -> dict[str, dict[str, Any]]:
    """Return what the fold keeps, an entry a transform; "raw" is the untouched space.

    Args:
        data: the folder with `flickr8k` and `text`.
        out: scratch.
    """
    test = open_source(str(data / "flickr8k" / "val-0000.tar"))
    fitted_on = _stored(out, "flickr8k-train", data / "flickr8k" / "train-*.tar")
    judged = _stored(out, "flickr8k-test", data / "flickr8k" / "val-0000.tar")
    captions = [[caption.text for caption in found] for _, found in test.texts()]
    asked = _questions(data / "text")
    texts = {text for _, caption, foil, rest in asked for text in (caption, foil, *rest)}
    crepe = _cache(out / "rows" / "sugarcrepe", sorted(texts))
    t, image = _rows(judged, [c[0] for c in captions]), _played([c[1:] for c in captions], judged)
    right, wrong = _rows(crepe, [q[1] for q in asked]), _rows(crepe, [q[2] for q in asked])
    shown = _played([q[3] for q in asked], crepe)
    lead = ((right - wrong) * shown).sum(1)
    found: dict[str, dict[str, Any]] = {
        "raw": {
            "text_to_image": {"R@1": recall(t @ image.T)},
            "image_to_text": {"R@1": recall(image @ t.T)},
            "sugarcrepe": {"accuracy": 100 * float((lead > 0).double().mean())},
        }
    }
    for kind, dimensions, mean in itertools.product(
        ("centre", "pca", "whiten"), (0, 128), ("project", "subtract")
    ):
        if kind == "centre" and dimensions:
            continue
        config = ConditionConfig(kind=kind, dimensions=dimensions, mean=mean)
        condition = fit_on(fitted_on, config)
        found[f"{kind}{dimensions or ''}-{mean}"] = {
            "width": condition.width,
            "gain": condition.gain,
            **_both_directions(condition, t, image),
            "sugarcrepe": _decisions(condition, right, wrong, shown),
        }
    return found


def _both_directions(condition: Condition, t: Tensor, image: Tensor) -> dict[str, Any]:
    """Return what a fold does to the order of images for a text [n d], and of texts for an image
    [n d]."""
    back, g = condition.fold(), unit(condition.apply(image))
    trained = unit(condition.apply(t)) @ g.T
    dot, cosine = t @ back @ g.T, t @ unit(g @ back.T).T
    bare = t @ condition.matrix.T @ g.T
    return {
        "text_to_image": {
            "flips by dot product, %": flips(trained, dot),
            "flips by cosine, %": flips(trained, cosine),
            "flips by cosine without projection, %": flips(
                trained, t @ unit(g @ condition.matrix).T
            ),
            "R@1 conditioned": recall(trained),
            "R@1 by dot product": recall(dot),
            "R@1 by cosine": recall(cosine),
        },
        "image_to_text": {
            "flips, %": flips(trained.T, dot.T),
            "flips without projection, %": flips(trained.T, bare.T),
            "R@1 conditioned": recall(trained.T),
            "R@1 raw": recall(dot.T),
        },
    }


def _decisions(condition: Condition, right: Tensor, wrong: Tensor, shown: Tensor) -> dict[str, Any]:
    """Return how many of SugarCrepe's decisions a fold turns; rows [n d] a question."""
    see = unit(condition.apply(shown))
    before = ((unit(condition.apply(right)) - unit(condition.apply(wrong))) * see).sum(1)
    after = ((right - wrong) * (see @ condition.fold().T)).sum(1)
    return {
        "questions": len(right),
        "decisions turned, %": 100 * float((before * after < 0).double().mean()),
        "accuracy conditioned": 100 * float((before > 0).double().mean()),
        "accuracy raw": 100 * float((after > 0).double().mean()),
    }


def _questions(folder: Path) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Return SugarCrepe's (kind, caption, foil, other captions of the image)."""
    others: dict[int, list[str]] = {}
    with gzip.open(folder / "coco_captions_val2017.jsonl.gz", "rt") as lines:
        for record in map(json.loads, lines):
            others.setdefault(record["image_id"], []).append(record["caption"])
    found = []
    for kind in KINDS:
        asked = json.loads((folder / "sugarcrepe" / f"{kind}.json").read_text())
        for record in list(asked.values())[:QUESTIONS]:
            caption, foil = record["caption"], record["negative_caption"]
            captions = others.get(int(record["filename"].split(".")[0]), [])
            rest = tuple(c for c in captions if c.strip() not in (caption.strip(), foil.strip()))
            found.append((kind, caption, foil, rest))
    return [question for question in found if question[3]]


def _stored(out: Path, name: str, pairs: Path) -> EmbeddingCache:
    return _cache(out / "rows" / name, Captions([open_source(str(pairs))]))


def _cache(folder: Path, texts: Any) -> EmbeddingCache:
    """Return MiniLM's rows of texts, embedded where they are not there yet."""
    if not (folder / "manifest.json").exists():
        encoder = build_encoder(part("text/encoders", "minilm"), "cpu")
        writer.embed(texts, encoder, folder, codec="float32", progress=False)
    return EmbeddingCache.open(folder)


def _rows(stored: EmbeddingCache, texts: Sequence[str]) -> Tensor:
    """Return unit rows [n d] in float64."""
    return unit(torch.from_numpy(stored.take(stored.require(texts))).double())


def _played(groups: Sequence[Sequence[str]], stored: EmbeddingCache) -> Tensor:
    """Return for each group of captions the unit mean of their rows [n d]."""
    return unit(torch.stack([_rows(stored, group).mean(0) for group in groups]))


# --- its JSON and its section of the page ---------------------------------------------------------


def text_path(results: Path) -> Path:
    """Return where the JSON of what was measured on text alone lies."""
    return results / "text" / "text.json"


def measure_text(words: list[str]) -> None:
    """Write what folding back loses on text alone."""
    parser = argparse.ArgumentParser(description="What folding back loses, on text alone.")
    parser.add_argument("--data", type=Path, default=ROOT.parent.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=ROOT.parent / "out" / "studies", help="scratch")
    parser.add_argument("--results", type=Path, default=RESULTS / "conditioning")
    args = parser.parse_args(words)
    with threads(1):
        found = on_text(args.data, args.out)
    path = text_path(args.results)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"records": found, "versions": versions()}, indent=1) + "\n")
    print(_text_table(found))


def text_section(results: Path) -> str:
    """Return the section of what was measured on text alone."""
    path = text_path(results)
    if not path.exists():
        return "## On text alone\n\nNot measured yet: `python runs/conditioning.py text`."
    records = read(path)["records"]
    raw = records["raw"]
    return "\n\n".join(
        (
            "## On text alone",
            "**The text encoder saw these captions**: Flickr8k's and COCO's are of the kinds that "
            "MiniLM was trained on, so this is about geometry, not about images. An image is "
            "played by the mean of four of its captions, the fifth asks for it; counted are pairs "
            "of answers whose order the fold turns, and how many of SugarCrepe's "
            f"{records['centre-project']['sugarcrepe']['questions']:,} decisions. In the untouched "
            f"space R@1 is {raw['text_to_image']['R@1']:.1f}% (text to image), "
            f"{raw['image_to_text']['R@1']:.1f}% (image to text), and "
            f"{raw['sugarcrepe']['accuracy']:.1f}% of the decisions are right.",
            _text_table(records),
            "*Project* drops the mean's direction from every row, *subtract* takes the mean off. "
            "Trained here was *project*.",
        )
    )


def _text_table(records: dict[str, dict[str, Any]]) -> str:
    header = [
        *("transform", "images turned, by cosine", "by dot product", "texts turned"),
        *("R@1 before the fold", "after it", "image to text before", "after"),
        *("decisions turned", "right before", "right after"),
    ]
    rows = []
    for name, of in records.items():
        if name == "raw":
            continue
        forth, back, decided = (
            of[part] for part in ("text_to_image", "image_to_text", "sugarcrepe")
        )
        values = (
            *(forth["flips by cosine, %"], forth["flips by dot product, %"], back["flips, %"]),
            *(forth["R@1 conditioned"], forth["R@1 by cosine"]),
            *(back["R@1 conditioned"], back["R@1 raw"]),
            *(decided["decisions turned, %"], decided["accuracy conditioned"]),
            decided["accuracy raw"],
        )
        kind, _, mean = name.partition("-")
        rows.append([f"{kind}, {mean}", *(f"{value:.1f}%" for value in values)])
    return table(header, rows)
