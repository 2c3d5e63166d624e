"""What probes share: who teaches, who is judged, and the result of their answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from lift.errors import ConfigError, DataError
from lift.evals import _metrics as metrics
from lift.evals._encode import blocks
from lift.evals._labelled import OF_WORDS, Labelled, Of, example, figures, surely_first
from lift.terms import EvalResult, Source


class Probe:
    """The base of evaluations that learn classes from labelled images and name those of others.

    Attributes:
        label, of: which labels, and which vectors.
        train_name: where to learn, as words for `lift.data.source.open_source`; "" for the images
            that are judged themselves.
        train: the same, opened.
        protocol: what the figures depend on.
    """

    version = 1
    primary = "top-1"
    protocol: str

    def __init__(self, label: str, of: Of, train: str | None, words: str, alone: str) -> None:
        """Start.

        Args:
            label, of, train: options.
            words: what else the figures depend on.
            alone: how the images that are judged teach each other, where nothing else teaches.
        """
        self.label, self.words = label, words
        self.of: Of = of
        self.train: Source | None = None
        train = train or ""
        bracketed = train.startswith("[") and train.endswith("]")
        self.train_name = train[1:-1] if bracketed else train
        self._say(f"train {self.train_name}" if train else alone)

    def learn_from(self, source: Source) -> None:
        """Take the images to learn from; the protocol names them."""
        self.train = source
        self._say(f"train {source.name} ({len(source)} images)")

    def require_train(self) -> None:
        """Raise ConfigError if the images to learn from are named, and nobody opened them."""
        if self.train_name and self.train is None:
            raise ConfigError(f"train={self.train_name} is not open: give it to learn_from first.")

    def _say(self, taught_by: str) -> None:
        self.protocol = ", ".join([self.label, self.words, OF_WORDS[self.of], taught_by])

    def voted(
        self,
        name: str,
        judged: Labelled,
        taught: Labelled | None,
        votes: Float[np.ndarray, "q classes"],
        truth: Int64[np.ndarray, " q"],
        classes: Sequence[str],
        *,
        examples: int,
        note: tuple[str, ...],
        **found: Any,
    ) -> EvalResult:
        """Return the result of an answer for every image: how much speaks for each class.

        Args:
            name: of the evaluation.
            judged, taught: the images; None where those that are judged teach each other.
            votes: larger is better.
            truth: the right class of each image.
            classes: their names.
            examples: images kept with their answers.
            note: of `seen_as`.
            found: other fields of the result.
        """
        match = np.arange(len(classes))
        spot = metrics.join(
            [
                metrics.places(votes[b].astype(np.float32), truth[b, None] == match)
                for b in blocks(len(truth), len(classes))
            ]
        )
        return self.result(
            name,
            judged,
            taught,
            classes,
            metrics=figures(spot, truth, len(classes), judged.clusters()),
            note=note,
            examples=judged_examples(judged, votes, spot, truth, classes, examples),
            **found,
        )

    def result(
        self,
        name: str,
        judged: Labelled,
        taught: Labelled | None,
        classes: Sequence[str],
        *,
        note: tuple[str, ...],
        more: tuple[str, ...] = (),
        counts: Mapping[str, int] = MappingProxyType({}),
        **found: Any,
    ) -> EvalResult:
        """Return the result of this protocol, with what is to be said of the images of any probe.

        Args:
            name, judged, taught, classes, note, found: as for `voted`.
            more: notes of its own.
            counts: besides those of images and classes.
        """
        training = {} if taught is None else {"training images": len(taught.labels)}
        return EvalResult(
            evaluation=name,
            version=self.version,
            protocol=self.protocol,
            data=judged.name,
            primary=self.primary,
            counts={
                "images": len(judged.labels),
                "classes": len(classes),
                **counts,
                **training,
                **judged.counts(),
            },
            chance=1 / len(classes),
            notes=note + judged.notes() + taught_notes(judged, taught) + more,
            digest=judged.digest if taught is None else _both(judged.digest, taught.digest),
            **found,
        )


def _both(judged: str, taught: str) -> str:
    """Return a digest of two: answers depend on the images that taught as well."""
    return hashlib.blake2b(f"{judged} {taught}".encode(), digest_size=16).hexdigest()


def taught_notes(judged: Labelled, taught: Labelled | None) -> tuple[str, ...]:
    """Return what to know of the images that taught: unreadable ones, and those that are judged."""
    if taught is None:
        return ()
    there = set(taught.content)
    same = sum(digest in there for digest in judged.content)
    told = tuple(f"{taught.name}: {note}" for note in taught.notes())
    told += tuple(
        f"{count} {what} of {taught.name} left out"
        for what, count in taught.counts().items()
        if what != "unreadable images"
    )
    if same:
        told += (f"{same} of {len(judged.content)} images are in {taught.name} to the byte",)
    return told


def judged_examples(
    judged: Labelled,
    scores: Float[np.ndarray, "q classes"],
    spot: metrics.Places,
    truth: Int64[np.ndarray, " q"],
    classes: Sequence[str],
    count: int,
    at: Int64[np.ndarray, " q"] | None = None,
) -> tuple[dict[str, Any], ...]:
    """Return a few images with their best classes, right and wrong ones in turn.

    Where only some images were asked about, `at` says which.
    """
    right, rank = surely_first(spot), metrics.ranks(spot)
    own = np.arange(len(truth)) if at is None else at
    return tuple(
        example(judged.keys[own[n]], judged.numbers[own[n]], scores[n], int(truth[n]), classes)
        | {"rank": float(rank[n]), "right": bool(right[n])}
        for n in metrics.chosen(right, count)
    )


def require_same_width(z_train: np.ndarray, z: np.ndarray, name: str) -> None:
    """Raise DataError where the images of `name` teach by vectors of another length."""
    if z_train.shape[1] != z.shape[1]:
        raise DataError(
            f"The images of {name} have vectors of {z_train.shape[1]} numbers, those to judge "
            f"{z.shape[1]}."
        )
