"""A small model whose vectors are known, with its pairs: healthy, or with one fault planted.

Texts are bags of words and of neighbouring words; an image is 8 x 8 pixels that hold the vector of
its caption, with noise; the tower reads it from the pixels again.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from lift.data.image import decode
from lift.terms import Caption, Sample
from listed_samples import Listed

WIDTH = 64
PLAIN = {"a", "the", "near", "of", "some"}
SYNTAX = {"is", "are", "by", "there", "what", "it", "that", ","}

_basis = np.linalg.qr(np.random.default_rng(1).normal(size=(192, WIDTH)))[0]


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)).astype(
        np.float32
    )


def _row(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())
    return np.random.default_rng(seed).normal(size=WIDTH)


class Texts:
    """Rows of texts: weighted words, and pairs of neighbours where order counts."""

    def __init__(self, order: float = 0.6, syntax: float = 0.2) -> None:
        self.order, self.syntax = order, syntax
        self._known: dict[str, np.ndarray] = {}

    def rows(self, texts: Sequence[str]) -> np.ndarray:
        return unit(np.stack([self._of(text) for text in texts]))

    def _of(self, text: str) -> np.ndarray:
        words = text.lower().replace(",", " ,").strip(" .").split()
        found = sum(self._weight(word) * self._word(word) for word in words)
        for a, b in itertools.pairwise(words):
            if self.order:
                found = found + self.order * self._word(f"{a} {b}")
        return found + np.zeros(WIDTH)

    def _weight(self, word: str) -> float:
        return self.syntax if word in SYNTAX else 0.2 if word in PLAIN else 1.0

    def _word(self, word: str) -> np.ndarray:
        if word not in self._known:
            self._known[word] = _row(word)
        return self._known[word]


class Model:
    """An encoder of the pixels above; `image` and `text` change its rows, `see` its pixels."""

    saw = ()

    def __init__(
        self,
        texts: Texts,
        *,
        image: Callable[[np.ndarray], np.ndarray] = lambda z: z,
        text: Callable[[np.ndarray], np.ndarray] = lambda z: z,
        see: Callable[[np.ndarray], np.ndarray] = lambda pixels: pixels,
        mean: float = 0.5,
        scale: float | None = 20.0,
    ) -> None:
        self.name = "planted"
        self.scale = scale
        self.texts, self.image, self.text, self.see, self.mean = texts, image, text, see, mean

    def encode_images(self, images) -> np.ndarray:
        pixels = np.stack([decode(image).numpy().transpose(1, 2, 0) for image in images])
        values = np.tanh((self.see(pixels) / 255.0 - self.mean) / 0.5)
        return unit(self.image(unit(values.reshape(len(pixels), -1) @ _basis)))

    def encode_texts(self, texts) -> np.ndarray:
        return unit(self.text(self.texts.rows(texts)))

    def with_pixels(self, mean, std) -> Model:
        """Return the same model behind another mean (its deviation stays)."""
        del std
        model = Model(self.texts, image=self.image, text=self.text, see=self.see, scale=self.scale)
        model.mean = float(np.mean(mean))
        return model


COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown", "pink")
NOUNS = ("dog", "cat", "boy", "girl", "horse", "man", "woman", "bird", "cow", "sheep", "elephant")
VERBS = ("runs", "sits", "jumps", "sleeps", "stands", "walks")
PLACES = ("chair", "table", "fence", "car", "boat", "tree", "bench", "truck", "bus", "house")


def captions(count: int, seed: int = 0) -> list[str]:
    """Return distinct captions."""
    dice = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        a, b = dice.choice(COLOURS, 2, replace=False)
        noun, verb, place = (str(dice.choice(words)) for words in (NOUNS, VERBS, PLACES))
        found[f"a {a} {noun} {verb} near a {b} {place}"] = None
    return list(found)


def pairs(
    said: Sequence[str],
    texts: Texts,
    *,
    noise: float = 3.0,
    show: Callable[[np.ndarray], np.ndarray] = lambda z: z,
    told: Sequence[str] | None = None,
    label: Callable[[str], str] = lambda text: text.split()[2],
) -> Listed:
    """Return an image for each caption `said`, with the captions `told` (None: the same).

    Args:
        said: what is in the pixels.
        texts: rows of captions.
        noise: length of what is in the pixels besides.
        show: changes the rows before they become pixels.
        told: what the captions say.
        label: the class of a caption.
    """
    dice = np.random.default_rng(2)
    z = show(texts.rows(said)) + noise * unit(dice.normal(size=(len(said), WIDTH)))
    values = np.clip(np.rint(127.5 + 500 * unit(z) @ _basis.T), 0, 255).astype(np.uint8)
    samples = []
    for number, (text, own) in enumerate(zip(said, told or said, strict=True)):
        file = io.BytesIO()
        Image.fromarray(values[number].reshape(8, 8, 3)).save(file, "PNG")
        samples.append(
            Sample(f"{number:04}", file.getvalue(), (Caption(own),), {"kind": label(text)})
        )
    return Listed(samples, "planted pairs")
