"""One value for zero-shot, few-shot and label editing: classes, each a set of rows in text space.

    bank = Bank.of_names(model, ["cat", "dog"])
    bank = bank.with_descriptors(model, {"cat": ["whiskers", "a long tail"]})
    bank = bank.learned(model.encode_images(photos), labels)
    model.classify("a.jpg", bank)

A bank never changes: every method returns a new one, whose other rows are the same to the bit.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64

from lift.bank.learning import learn
from lift.bank.rows import Rows
from lift.bank.scoring import BLOCK, Reduce, class_vectors, reduced, shares
from lift.errors import ConfigError, DataError
from lift.terms import Encoder, ImageLike, unit

TEMPLATES = ("a photo of a {}.",)
DESCRIBED = "a photo of a {}, {}."
"""A descriptor beside the name; the second place takes "which has ...", see `clause`."""


@dataclass(frozen=True)
class Fired:
    """A row of a bank and how near a vector is to it.

    Attributes:
        label: its class.
        kind: see `KINDS`.
        text: the sentence it came from, "" for none.
        cosine: of vector and row.
        share: of the row in the class's score; those of a class add up to 1.
    """

    label: str
    kind: str
    text: str
    cosine: float
    share: float


class Bank(Rows):
    """Classes as sets of rows of one text space: made, learned, asked.

    What it holds, and how classes are edited, saved and loaded, is in `lift.bank.rows`.
    """

    # --- makers ---------------------------------------------------------------------------------

    @classmethod
    def of_names(
        cls,
        encoder: Encoder,
        names: Sequence[str | Sequence[str]],
        templates: Sequence[str] = TEMPLATES,
        *,
        reduce: Reduce = "mean",
        temperature: float = 0.05,
    ) -> Bank:
        """Return a bank with a row for each class, name and template.

        Args:
            encoder: what makes the rows.
            names: of each class its name, or several; the first one stands for it.
            templates: sentences with `{}` for the name.
            reduce, temperature: as above.

        Raises:
            ConfigError: no class, an empty name, or a template without `{}`.
        """
        templates = [templates] if isinstance(templates, str) else list(templates)
        every = [(name,) if isinstance(name, str) else tuple(name) for name in names]
        if not every or not templates:
            raise ConfigError("A bank needs at least one class and one template.")
        if not all(own and all(name.strip() for name in own) for own in every):
            raise ConfigError("A class of the bank has an empty name.")
        for template in templates:
            if "{}" not in template:
                raise ConfigError(f"The template {template!r} has no {{}} for the name.")
        texts = [[t.replace("{}", name) for name in own for t in templates] for own in every]
        owner = np.repeat(np.arange(len(every)), [len(own) for own in texts]).astype(np.int64)
        flat = [text for own in texts for text in own]
        return cls(
            classes=tuple(own[0] for own in every),
            rows=_encoded(encoder, flat),
            owner=owner,
            kinds=("template",) * len(flat),
            texts=tuple(flat),
            weights=np.ones(len(flat), np.float32),
            space=getattr(encoder, "space", None),
            reduce=reduce,
            temperature=temperature,
        )

    def with_descriptors(
        self, encoder: Encoder, descriptors: Mapping[str, Sequence[str]], template: str = DESCRIBED
    ) -> Bank:
        """Return the bank with a row for each descriptor of a class (Menon & Vondrick 2022).

        Args:
            encoder: of the bank's space.
            descriptors: parts and traits by class ("long tail", "is often grey").
            template: a sentence with a first `{}` for the name and a second for the descriptor.

        Raises:
            ConfigError: an unknown class, or another count of places in the template.
            SpaceMismatch: the encoder makes other rows.
        """
        if template.count("{}") != 2:
            raise ConfigError(f"The template {template!r} needs two {{}}: name, then descriptor.")
        before, middle, after = template.split("{}")
        texts = {
            name: [f"{before}{name}{middle}{clause(one)}{after}" for one in _several(own)]
            for name, own in descriptors.items()
        }
        return self._with_texts(encoder, texts, "descriptor")

    def with_texts(self, encoder: Encoder, texts: Mapping[str, Sequence[str]]) -> Bank:
        """Return the bank with a row for each of any sentences, by class.

        Raises:
            ConfigError: an unknown class.
            SpaceMismatch: the encoder makes other rows.
        """
        return self._with_texts(encoder, texts, "text")

    def _with_texts(
        self, encoder: Encoder, texts: Mapping[str, str | Sequence[str]], kind: str
    ) -> Bank:
        self.require_space(encoder)
        flat = [text for own in texts.values() for text in _several(own)]
        labels = [name for name, own in texts.items() for _ in _several(own)]
        if not flat:
            return self
        return self.with_rows(encoder.encode_texts(flat), labels, kind, flat)

    def with_examples(
        self,
        encoder: Encoder,
        images: Sequence[ImageLike],
        labels: Sequence[str],
        *,
        weight: float = 1.0,
        keep_all: bool = False,
    ) -> Bank:
        """Return the bank with rows made of a few images (as the cache of Zhang et al. 2022).

        Args:
            encoder: of the bank's space.
            images, labels: examples, and the class of each.
            weight: of the examples of a class together, relative to all rows it has.
            keep_all: a row for each image instead of their mean, for "max" and "logsumexp".

        Raises:
            ConfigError: an unknown class.
            DataError: not as many labels as images, or an image that can't be read.
            SpaceMismatch: the encoder makes other rows.
        """
        self.require_space(encoder)
        z, owner = encoder.encode_images(images), self._numbers(labels, len(images))
        taught, sizes = np.unique(owner, return_counts=True)
        total = np.bincount(self.owner, self.weights, minlength=len(self.classes)) * weight
        if keep_all:
            each = (total[taught] / sizes)[np.searchsorted(taught, owner)]
            return self.with_rows(z, labels, "image", weights=each.astype(np.float32))
        means = np.stack([z[owner == number].mean(axis=0) for number in taught])
        return self.with_rows(
            unit(torch.from_numpy(means)).numpy(),
            [self.classes[number] for number in taught],
            "image",
            weights=total[taught].astype(np.float32),
        )

    def learned(
        self,
        z: Float32[np.ndarray, "m d"],
        labels: Sequence[str],
        *,
        scale: float = 20.0,
        decay: float = 1.0,
        weight: float = 1.0,
    ) -> Bank:
        """Return the bank with a learned row for each class that occurs in `labels`.

        A row starts from its class's text and is drawn back there, see `lift.bank.learning`. All
        other rows stay as they are, but those learned earlier for the same classes, which go.

        Args:
            z: image vectors of unit length, or those of captions (`learned_from_texts`).
            labels: the class of each.
            scale: what turns a cosine into a logit. CLIP's 100 fits a few examples to the last
                and then stops learning: on planted classes 20 was better at any decay.
            decay: how strongly a row is drawn back to its start.
            weight: of a learned row, relative to all other rows of its class.

        Raises:
            ConfigError: an unknown class.
            DataError: no vectors, not as many labels, or another width.
        """
        owner = self._numbers(labels, len(z))
        self.require_width(z.shape[1], "the vectors to learn from have")
        base = self._taken(~(np.isin(self.owner, owner) & (np.array(self.kinds) == "learned")))
        own, rows, weights = learn(
            base.rows,
            base.owner,
            base.weights,
            len(base.classes),
            base.reduce,
            base.temperature,
            z=z,
            truth=owner,
            scale=scale,
            decay=decay,
            weight=weight,
        )
        names = [self.classes[number] for number in own]
        return base.with_rows(rows, names, "learned", weights=weights)

    def learned_from_texts(
        self, encoder: Encoder, texts: Sequence[str], labels: Sequence[str], **options: Any
    ) -> Bank:
        """Return the bank with rows learned from captions in the place of images (TAI-DPT).

        Guo et al. 2022 train prompts so; here it is the rows. Options are those of `learned`.

        Raises:
            ConfigError, DataError: as `learned`.
            SpaceMismatch: the encoder makes other rows.
        """
        self.require_space(encoder)
        return self.learned(encoder.encode_texts(texts), labels, **options)

    def _numbers(self, labels: Sequence[str], count: int) -> Int64[np.ndarray, " m"]:
        if len(labels) != count or not count:
            raise DataError(f"{len(labels)} labels were given for {count} examples of a bank.")
        place = {name: self.number(name) for name in dict.fromkeys(labels)}
        return np.array([place[label] for label in labels], dtype=np.int64)

    # --- use ------------------------------------------------------------------------------------

    @functools.cached_property
    def class_vectors(self) -> Float32[np.ndarray, "classes d"]:
        """The unit vector of each class's weighted mean row, which "mean" compares with."""
        return class_vectors(self.rows, self.owner, self.weights, len(self.classes))

    def scores(self, z: Float32[np.ndarray, "b d"]) -> Float32[np.ndarray, "b classes"]:
        """Return the score of each class for vectors of unit length: cosines, or of their kind.

        Raises:
            DataError: vectors of another width.
        """
        self.require_width(z.shape[1], "the vectors have")
        if self.reduce == "mean":
            return z @ self.class_vectors.T
        found = np.empty((len(z), len(self.classes)), np.float32)
        step = max(1, BLOCK // len(self.rows))
        for start in range(0, len(z), step):
            cosines = z[start : start + step] @ self.rows.T
            found[start : start + step] = reduced(
                cosines, self.owner, self.weights, len(self.classes), self.reduce, self.temperature
            )
        return found

    def predict(self, z: Float32[np.ndarray, "b d"], top: int = 1) -> list[list[tuple[str, float]]]:
        """Return the best classes and their scores for each vector, best first."""
        scores = self.scores(z)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        return [
            [(self.classes[int(c)], float(scores[row, c])) for c in own]
            for row, own in enumerate(best)
        ]

    def explain(
        self, z: Float32[np.ndarray, "b d"], top: int = 5, label: str | None = None
    ) -> list[list[Fired]]:
        """Return the rows that are nearest to each vector, nearest first.

        Args:
            z: vectors of unit length.
            top: rows of each.
            label: only rows of this class; None takes those of all.

        Raises:
            ConfigError: an unknown class.
            DataError: vectors of another width.
        """
        self.require_width(z.shape[1], "the vectors have")
        own = None if label is None else self.owner == self.number(label)
        return [self._fired(vector, top, own) for vector in z]

    def _fired(self, z: Float32[np.ndarray, " d"], top: int, own: np.ndarray | None) -> list[Fired]:
        cosines = self.rows @ z
        ranked = cosines if own is None else np.where(own, cosines, -np.inf)
        best = np.argsort(-ranked, kind="stable")[:top]
        found = []
        for row in best[np.isfinite(ranked[best])].tolist():
            first, end = np.searchsorted(self.owner, [self.owner[row], self.owner[row] + 1])
            part = shares(
                cosines[first:end], self.weights[first:end], self.reduce, self.temperature
            )
            found.append(
                Fired(
                    label=self.classes[int(self.owner[row])],
                    kind=self.kinds[row],
                    text=self.texts[row],
                    cosine=float(cosines[row]),
                    share=float(part[row - first]),
                )
            )
        return found


def clause(descriptor: str) -> str:
    """Return a descriptor as a clause about a thing: "which has ...", "which is ..."."""
    first = descriptor.split(" ", 1)[0].lower()
    if first in ("which", "that", "with"):
        return descriptor
    if first in ("is", "are", "has", "have", "can", "may", "often", "typically", "usually"):
        return f"which {descriptor}"
    if first in ("a", "an", "used"):
        return f"which is {descriptor}"
    return f"which has {descriptor}"


def _several(texts: str | Sequence[str]) -> Sequence[str]:
    return [texts] if isinstance(texts, str) else texts


def _encoded(encoder: Encoder, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
    """Return a row a text; equal texts go through the encoder once."""
    place: dict[str, int] = {}
    index = [place.setdefault(text, len(place)) for text in texts]
    return encoder.encode_texts(list(place))[index]
