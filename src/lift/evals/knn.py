"""Name the class of an image by the labelled images that are nearest to it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Int32, Int64

from lift.errors import ConfigError, DataError
from lift.evals import _metrics as metrics
from lift.evals._encode import blocks
from lift.evals._labelled import (
    Labelled,
    Of,
    numbered,
    parts_of,
    places_among,
    require_several,
    seen_as,
)
from lift.evals._probe import Probe
from lift.terms import Encoder, EvalResult, Source

_NONE = -2_000_000_000
"""Score of a neighbour that is not there yet, in units of `metrics.TIE`."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the nearest-neighbours evaluation.

    Attributes:
        train: where the neighbours are, as the data is named (`train=[table:path=x.parquet,...]`
            in words). None divides the images that are judged into `parts`, each of which is
            judged by the others.
        label: the field of a sample, or the role of its caption, that says its class.
        of: "tower" compares what the tower gives, scaled to unit length; "vector" the vectors in
            text space.
        k: neighbours that vote.
        vote: "weighted" gives a neighbour of cosine s the vote exp(s / temperature) (Wu et al.
            2018, equation 9, as DINO does); "majority" gives each one vote.
        temperature: of weighted votes.
        parts: see `train`.
        examples: images kept with their answers.
    """

    train: str | None = None
    label: str = "class_name"
    of: Of = "tower"
    k: int = 20
    vote: Literal["weighted", "majority"] = "weighted"
    temperature: float = 0.07
    parts: int = 5
    examples: int = 8


class NearestNeighbours(Probe):
    """Top-1, top-5 and mean per-class accuracy of the vote of the k nearest labelled images.

    Cosines that differ by less than 1e-6 are equal, and of neighbours that tie for the last
    places each votes in proportion; so no order of images matters.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        votes = f"votes weighted at {config.temperature:g}"
        words = f"k {config.k}, {votes if config.vote == 'weighted' else 'votes of one'}"
        alone = f"each of {config.parts} parts by the others"
        super().__init__(config.label, config.of, config.train, words, alone)

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on every labelled image of `source`.

        The vectors of `source` are held; those of the training images pass by in chunks.

        Raises:
            ConfigError: fewer training images than k, or training images that nobody opened.
            DataError: a missing label field, a class that nothing teaches, or no readable image.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        self.require_train()
        seen, note = seen_as(encoder, self.of)
        judged = Labelled(seen, source, self.label)
        z = judged.all()
        if self.train is None:
            taught, classes, truth, votes = None, *self._of_each_other(judged, z)
        else:
            taught = Labelled(seen, self.train, self.label)
            classes, votes = self._of_others(taught, z)
            truth = places_among(judged.labels, classes, judged.name, taught.name)
        return self.voted(
            "knn",
            judged,
            taught,
            votes,
            truth,
            classes,
            examples=self.config.examples,
            note=note,
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
        )

    def _of_each_other(
        self, judged: Labelled, z: np.ndarray
    ) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Return classes, truth and votes where each part is judged by the others."""
        classes, truth = numbered(judged.labels)
        part = parts_of(truth, judged.content, self.config.parts)
        require_several(truth, part, classes, judged.name)
        votes = np.zeros((len(z), len(classes)))
        for own in np.unique(part):
            asked, others = np.flatnonzero(part == own), np.flatnonzero(part != own)
            self._require_enough(len(others), f"the other parts of {judged.name}")
            near = Nearest(z[asked], self.config.k)
            for b in blocks(len(others), len(asked)):
                near.add(z[others[b]], truth[others[b]])
            votes[asked] = near.votes(len(classes), self._temperature)
        return classes, truth, votes

    def _of_others(self, taught: Labelled, z: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the classes taught and the votes for them."""
        near, place = Nearest(z, self.config.k), dict[str, int]()
        for vectors, labels in taught:
            found = [place.setdefault(label, len(place)) for label in labels]
            near.add(vectors, np.array(found, dtype=np.int64))
        self._require_enough(len(taught.labels), taught.name)
        classes = sorted(place)
        return classes, near.votes(len(place), self._temperature)[:, [place[c] for c in classes]]

    @property
    def _temperature(self) -> float | None:
        return self.config.temperature if self.config.vote == "weighted" else None

    def _require_enough(self, images: int, where: str) -> None:
        if images < self.config.k:
            raise DataError(
                f"k={self.config.k} neighbours can't be found among {images} labelled images of "
                f"{where}; give a smaller k or more images."
            )


class Nearest:
    """The k nearest of vectors that pass by, for each query, with all that tie for the last place.

    Scores are held as whole multiples of `metrics.TIE`, so that ties are an equivalence.
    """

    def __init__(self, z_query: Float32[np.ndarray, "q d"], k: int) -> None:
        self._z, self._k = z_query, k
        self._keys = np.full((len(z_query), k), _NONE, np.int32)
        self._labels = np.full((len(z_query), k), -1, np.int64)
        self._beyond = np.zeros((len(z_query), 0), np.int64)
        """How many of each class tie with the last of the k, and are none of them."""

    def add(self, z: Float32[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"]) -> None:
        """Take in more vectors with the numbers of their classes.

        Raises:
            DataError: they have another width than the queries.
        """
        if z.shape[1] != self._z.shape[1]:
            raise DataError(
                f"The images to learn from have vectors of {z.shape[1]} numbers, those to judge "
                f"{self._z.shape[1]}."
            )
        more = int(labels.max(initial=-1)) + 1 - self._beyond.shape[1]
        self._beyond = np.pad(self._beyond, ((0, 0), (0, max(more, 0))))
        for b in blocks(len(self._z), len(z) + self._k):
            scores = self._z[b] @ z.T
            self._merge(b, np.rint(scores * np.float32(1 / metrics.TIE)).astype(np.int32), labels)

    def _merge(self, b: slice, new: Int32[np.ndarray, "q n"], labels: np.ndarray) -> None:
        keys = np.concatenate([self._keys[b], new], axis=1)
        owner = np.broadcast_to(labels, new.shape)
        owner = np.concatenate([self._labels[b], owner], axis=1)
        before = self._keys[b].min(axis=1)
        best = np.argpartition(-keys, self._k - 1, axis=1)[:, : self._k]
        self._keys[b] = np.take_along_axis(keys, best, axis=1)
        self._labels[b] = np.take_along_axis(owner, best, axis=1)
        last = self._keys[b].min(axis=1)
        beyond = self._beyond[b]  # a view
        # Whoever was left out had at most the score `before`.
        beyond[last > before] = 0
        out = (keys == last[:, None]) & (owner >= 0)
        np.put_along_axis(out, best, False, axis=1)
        rows, columns = np.nonzero(out)
        np.add.at(beyond, (rows, owner[rows, columns]), 1)

    def votes(self, classes: int, temperature: float | None) -> Float[np.ndarray, "q classes"]:
        """Return the share of each class in the votes; None as temperature: each has one vote."""
        last = self._keys.min(axis=1, keepdims=True)
        above = self._keys > last
        tied = self._beyond.astype(np.float64)
        rows, columns = np.nonzero(~above)
        np.add.at(tied, (rows, self._labels[rows, columns]), 1.0)
        weight = np.ones(self._keys.shape)
        at_last = np.ones(len(last))
        if temperature is not None:
            scores, best = self._keys * metrics.TIE, self._keys.max(axis=1, keepdims=True)
            weight = np.exp((scores - best * metrics.TIE) / temperature)
            at_last = np.exp((last - best)[:, 0] * metrics.TIE / temperature)
        room = (self._k - above.sum(axis=1)) * at_last
        found = tied * (room / tied.sum(axis=1))[:, None]
        rows, columns = np.nonzero(above)
        np.add.at(found, (rows, self._labels[rows, columns]), weight[rows, columns])
        assert found.shape[1] == classes, "classes are numbered from 0 and all were seen"
        return found / found.sum(axis=1, keepdims=True)


def build(config: Config) -> NearestNeighbours:
    """Return the evaluation.

    Raises:
        ConfigError: a number that makes no sense.
    """
    if config.k < 1:
        raise ConfigError(f"knn.k must be at least 1, not {config.k}.")
    if config.temperature <= 0:
        raise ConfigError(f"knn.temperature must be above 0, not {config.temperature:g}.")
    if config.parts < 2:
        raise ConfigError(f"knn.parts must be at least 2, not {config.parts}.")
    if config.examples < 0:
        raise ConfigError(f"knn.examples must be 0 or more, not {config.examples}.")
    return NearestNeighbours(config)
