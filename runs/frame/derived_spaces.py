"""Text spaces made of MiniLM's rows, and the texts that a card asks for: nothing is embedded twice.

`minilm96` and `minilm24` are the first values of a row; `whitened` its 64 largest directions on the
captions to train on, each brought to the same spread; `offset` MiniLM with one and the same vector
added to every row, so that all captions lie close together and say as much as before; `tfidf32` the
32 largest directions of TF-IDF.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from frame.sets import Set, rows
from frame.spaces import encoder
from frame.study import taken
from lift.cache import writer
from lift.config import Part, part
from lift.data.source import open_source
from lift.files import whole_folder
from lift.text.card import choose_captions
from lift.text.edits import choose_texts
from lift.text.encoder import build_encoder, clean
from lift.text.pairs import PairSet, made_pairs

Rows = Float32[np.ndarray, "n d"]
BASE = {"minilm96": "minilm", "minilm24": "minilm", "whitened": "minilm", "offset": "minilm",
        "tfidf32": "tfidf"}  # fmt: skip
_KEPT = {"minilm96": 96, "minilm24": 24, "tfidf32": 32}
_WHITE = 64
_OFFSET = 2.0
"""Length of what is added to rows of length 1: their mean cosine becomes about 0.85."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a card is asked about.

    Attributes:
        captions: to train on, some of them.
        pairs: edits of them, made by rule, and paraphrases where scenes tell some.
        texts: all that is embedded for it.
    """

    captions: tuple[str, ...]
    pairs: PairSet
    texts: tuple[str, ...]


def asked(of: Set, limit: int) -> Asked:
    """Return what the cards of a set's spaces are asked, alike for all of them."""
    captions = choose_captions(of.texts(judged=False), limit).texts  # type: ignore[arg-type]
    groups: dict[str, Sequence[str]] = {}
    if of.train.startswith("scenes:"):
        told = open_source(of.train.replace("short=1", "short=3")).texts()
        groups = {key: [caption.text for caption in own] for key, own in told}
        groups = dict(list(groups.items())[: limit // 4])
    pairs = made_pairs(captions, groups)
    texts = dict.fromkeys((*captions, *choose_texts(pairs, limit).texts))
    return Asked(captions, pairs, tuple(texts))


def card_part(name: str, of: Set, out: Path, told: Asked) -> Part:
    """Return a text encoder for a card: live where the space has one, else stored rows."""
    if name not in BASE and name != "tfidf":
        return encoder(name, of, out)
    base = BASE.get(name, name)
    card = dataclasses.replace(of, name=f"{of.name}-card", train=of.train)
    folder = out / "rows" / f"{card.name}-{base}-judged"
    with taken(out / "locks" / "rows" / f"{folder.name}.lock", wait=True):
        if not (folder / "manifest.json").exists():
            built = build_encoder(encoder(base, _Told(card, told), out), "cpu")
            writer.embed(told.texts, built, folder, codec="float32", progress=False)
    found = rows(card, base, out, judged=True)
    made = _change(name, of, out)(found.take(found.require(list(told.texts))))
    return _stored(card.name, f"{name}-{of.name}", list(told.texts), made, out)


def prepare(name: str, of: Set, out: Path) -> None:
    """Make the rows of a space that is made of another's, where they are not there yet."""
    if name not in BASE:
        return
    change = None
    for judged in (False, True):
        folder = out / "rows" / f"{of.name}-{name}-{'judged' if judged else 'train'}"
        found = rows(of, BASE[name], out, judged=judged)
        with taken(out / "locks" / "rows" / f"{folder.name}.lock", wait=True):
            if (folder / "manifest.json").exists():
                continue
            change = change or _change(name, of, out)
            texts = list(dict.fromkeys(map(clean, of.texts(judged=judged))))
            made = change(found.take(found.require(texts)))
            stored = _stored(folder.name, f"{name}-{of.name}", texts, made, out)
            writer.embed(texts, build_encoder(stored, "cpu"), folder, codec="float32",
                         progress=False)  # fmt: skip


def _change(name: str, of: Set, out: Path) -> Callable[[Rows], Rows]:
    """Return what makes a space's rows of those of its base; what it fits, it fits on training."""
    if name in _KEPT:
        return lambda z: z[:, : _KEPT[name]]
    if name == "offset":
        added = np.random.default_rng(0).standard_normal(384).astype(np.float32)
        added *= _OFFSET / np.linalg.norm(added)
        return lambda z: z / np.linalg.norm(z, axis=1, keepdims=True) + added
    if name == "whitened":
        found = rows(of, BASE[name], out, judged=False)
        z = found.take(np.arange(len(found)))
        mean = z.mean(axis=0)
        _, spread, directions = np.linalg.svd(z - mean, full_matrices=False)
        turned = (directions[:_WHITE].T / spread[:_WHITE]).astype(np.float32)
        return lambda z: (z - mean) @ turned
    return lambda z: z


def _stored(place: str, name: str, texts: list[str], made: Rows, out: Path) -> Part:
    """Return stored vectors of a space, written with their texts."""
    folder = out / "encoders" / f"{name}-{place}"
    if not folder.exists():
        length = np.linalg.norm(made, axis=1, keepdims=True)
        made = np.where(length > 1e-6, made, 1.0)  # no text of nothing but unknown words is left
        made = made / np.linalg.norm(made, axis=1, keepdims=True)
        with whole_folder(folder) as aside:
            (aside / "rows.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
            np.save(aside / "rows.npy", made.astype(np.float32))
    return part("text/encoders", "vectors", path=f"{folder}/rows.npy", model=name)


class _Told:
    """A set whose judged texts are those of its card."""

    def __init__(self, of: Set, told: Asked) -> None:
        self.name, self._of, self._told = of.name, of, told

    def texts(self, *, judged: bool) -> Sequence[str]:
        return list(self._told.texts) if judged else list(self._of.texts(judged=False))
