"""Name the class of an image by a few labelled images of each class, drawn several times."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64

from lift.errors import ConfigError, DataError
from lift.evals import _logistic as logistic
from lift.evals import _metrics as metrics
from lift.evals._encode import blocks
from lift.evals._labelled import Labelled, Of, numbered, places_among, seen_as
from lift.evals._probe import Probe, judged_examples, require_same_width
from lift.terms import Encoder, EvalResult, Metric, Source


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the few-shot evaluation.

    Attributes:
        train: where shots are drawn, as the data is named (`train=[table:path=x.parquet,...]` in
            words). None draws them from the images that are judged; those drawn are not judged.
        label: the field of a sample, or the role of its caption, that says its class.
        of: "tower" takes what the tower gives, scaled to unit length; "vector" the vectors in
            text space.
        shots: images of each class to learn from.
        draws: how many times they are drawn.
        seed: of the draws. Which images are drawn depends on it and on the bytes of the images.
        method: "prototype" takes the class whose mean unit vector is nearest (Snell et al. 2017,
            with cosine); "logistic" fits a linear classifier of decay `decay`.
        decay: see `linear_probe`.
        examples: images kept with their answers, of the first draw of the fewest shots.
    """

    train: str | None = None
    label: str = "class_name"
    of: Of = "tower"
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    draws: int = 5
    seed: int = 0
    method: Literal["prototype", "logistic"] = "prototype"
    decay: float = 0.1
    examples: int = 8


class FewShot(Probe):
    """Top-1 and mean per-class accuracy after n images a class, as the mean over draws.

    The shots of a draw contain one another, and every number of shots is judged by the same
    images. Intervals hold over images and over draws; two models are compared over images, on the
    same draws. More shots than some class has images are left out with a note.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.primary = f"{min(config.shots)}-shot top-1"
        how = config.method if config.method == "prototype" else f"logistic, decay {config.decay:g}"
        words = f"{how}, {config.draws} draws, seed {config.seed}"
        super().__init__(config.label, config.of, config.train, words, "the others by those drawn")

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on every labelled image of `source`.

        All vectors are held.

        Raises:
            ConfigError: training images that nobody opened.
            DataError: a missing label field, a class with too few images or none to learn from,
                or no readable image.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        self.require_train()
        seen, note = seen_as(encoder, self.of)
        judged = Labelled(seen, source, self.label)
        z = judged.all()
        taught = None if self.train is None else Labelled(seen, self.train, self.label)
        pool, z_pool = (judged, z) if taught is None else (taught, taught.all())
        require_same_width(z_pool, z, pool.name)
        classes, own = numbered(pool.labels)
        truth = places_among(judged.labels, classes, judged.name, pool.name)
        shots, short = self._possible(own, pool, classes, taught is None)
        found: dict[str, Metric] = {}
        examples = ()
        asked = [self._draw(own, pool, draw, max(shots)) for draw in range(self.config.draws)]
        left = [_left(judged, pool, drawn if taught is None else ()) for drawn in asked]
        for n in shots:
            spots = []
            for draw, (drawn, rest) in enumerate(zip(asked, left, strict=True)):
                scores = self._scores(z_pool, own, drawn[:, :n], z[rest])
                spots.append(_spot(scores, truth[rest]))
                if n == min(shots) and draw == 0:
                    most = self.config.examples
                    examples = judged_examples(
                        judged, scores, spots[0], truth[rest], classes, most, rest
                    )
            found |= _figures(n, spots, left, truth, judged.clusters())
        return self.result(
            "few_shot",
            judged,
            taught,
            classes,
            metrics=found,
            counts={"draws": self.config.draws},
            note=note,
            more=short,
            examples=examples,
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
        )

    def _possible(
        self, own: np.ndarray, pool: Labelled, classes: Sequence[str], alone: bool
    ) -> tuple[list[int], tuple[str, ...]]:
        """Return the shots that every class has images for, and a note about the others."""
        kinds = {(label, digest) for label, digest in zip(own.tolist(), pool.content, strict=True)}
        sizes = np.bincount([label for label, _ in kinds])
        fewest = int(sizes.argmin())
        # Where the pool is judged too, a class needs an image more, to be asked about.
        most = int(sizes[fewest]) - int(alone)
        shots = sorted(set(self.config.shots))
        possible = [n for n in shots if n <= most]
        what = f"{classes[fewest]!r} of {pool.name} has {sizes[fewest]} distinct images"
        if not possible:
            more = " and one to be judged" if alone else ""
            raise DataError(
                f"The class {what}, too few for {shots[0]} shots{more}; ask for fewer shots."
            )
        out = [str(n) for n in shots if n > most]
        if not out:
            return possible, ()
        return possible, (f"{', '.join(out)} shots left out: the class {what}",)

    def _draw(
        self, own: np.ndarray, pool: Labelled, draw: int, most: int
    ) -> Int64[np.ndarray, "classes most"]:
        """Return `most` distinct images of each class, as places in the pool."""
        salt = f"{self.config.seed}/{draw}/".encode()
        lots = [hashlib.blake2b(salt + c, digest_size=16).digest() for c in pool.content]
        drawn: list[list[int]] = [[] for _ in range(int(own.max()) + 1)]
        last: dict[int, bytes] = {}
        for at in sorted(range(len(lots)), key=lambda at: (lots[at], at)):
            label = int(own[at])
            if len(drawn[label]) < most and last.get(label) != lots[at]:
                drawn[label].append(at)
                last[label] = lots[at]
        return np.array(drawn, dtype=np.int64)

    def _scores(
        self, z_pool: np.ndarray, own: np.ndarray, drawn: np.ndarray, z: np.ndarray
    ) -> Float[np.ndarray, "q classes"]:
        """Return the score of each class for each of `z`, learnt from `drawn` [classes n]."""
        if self.config.method == "prototype":
            means = z_pool[drawn].mean(axis=1, dtype=np.float64)
            lengths = np.linalg.norm(means, axis=1, keepdims=True)
            return z @ (means / np.maximum(lengths, 1e-12)).astype(np.float32).T
        at = drawn.ravel()
        scaling = logistic.Scaling.of(z_pool[at])
        weights = logistic.fit(scaling(z_pool[at]), own[at], len(drawn), self.config.decay)
        return logistic.odds(logistic.logits(weights, scaling(z)))


def _left(judged: Labelled, pool: Labelled, drawn: np.ndarray | tuple[()]) -> np.ndarray:
    """Return the images to ask about: those whose bytes were not drawn."""
    used = {pool.content[int(at)] for at in np.ravel(drawn)}
    return np.array([n for n, d in enumerate(judged.content) if d not in used], dtype=np.int64)


def _spot(scores: np.ndarray, truth: np.ndarray) -> metrics.Places:
    match = np.arange(scores.shape[1])
    return metrics.join(
        [
            metrics.places(scores[b].astype(np.float32), truth[b, None] == match)
            for b in blocks(len(scores), scores.shape[1])
        ]
    )


def _figures(
    shots: int,
    spots: Sequence[metrics.Places],
    asked: Sequence[np.ndarray],
    truth: np.ndarray,
    clusters: np.ndarray | None,
) -> dict[str, Metric]:
    """Return both accuracies; every draw counts alike, and so in the second does every class."""
    credit = [metrics.recall_at_k(spot, 1) for spot in spots]
    draw = np.repeat(np.arange(len(asked)), [len(rest) for rest in asked])
    image = np.concatenate(asked)
    of = image if clusters is None else clusters[image]
    plain = [np.full(len(rest), 1.0 / len(rest)) for rest in asked]
    even = [metrics.class_weights(truth[rest]) for rest in asked]
    even = [weights / weights.sum() for weights in even]
    values = np.concatenate(credit)
    return {
        f"{shots}-shot top-1": over_draws(values, np.concatenate(plain), of, draw),
        f"{shots}-shot mean per class": over_draws(values, np.concatenate(even), of, draw),
    }


def over_draws(
    values: Float[np.ndarray, " m"],
    weights: Float[np.ndarray, " m"],
    image: Int64[np.ndarray, " m"],
    draw: Int64[np.ndarray, " m"],
) -> Metric:
    """Return the mean of credits with an interval over images and over draws.

    The variance sums over all pairs of one image or one draw (Cameron, Gelbach and Miller 2011),
    each way with the factor of its own number of groups, n / (n - 1). Where nothing varies, the
    images are the items.
    """
    plain = metrics.share(values, weights, image)
    mean = plain.value
    part = weights / weights.sum() * (values - mean)
    images, draws = len(np.unique(image)), len(np.unique(draw))
    _, own = np.unique(image, return_inverse=True)
    variance = float(np.square(np.bincount(own, part)).sum()) * images / max(images - 1, 1)
    between = float(np.square(np.bincount(draw, part)).sum() - np.square(part).sum())
    variance += max(0.0, between) * draws / max(draws - 1, 1)
    if not 0 < mean < 1 or variance == 0:
        return replace(plain, items=images)
    low, high = metrics.wilson(mean, min(float(images), mean * (1 - mean) / variance))
    return Metric(mean, low, high, images, plain.outcomes)


def build(config: Config) -> FewShot:
    """Return the evaluation.

    Raises:
        ConfigError: a number that makes no sense.
    """
    if not config.shots or min(config.shots) < 1:
        raise ConfigError(f"few_shot.shots must be 1 or more, not {list(config.shots)}.")
    if config.draws < 1:
        raise ConfigError(f"few_shot.draws must be at least 1, not {config.draws}.")
    if config.decay <= 0:
        raise ConfigError(f"few_shot.decay must be above 0, not {config.decay:g}.")
    if config.examples < 0:
        raise ConfigError(f"few_shot.examples must be 0 or more, not {config.examples}.")
    return FewShot(config)
