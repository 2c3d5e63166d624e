"""Choose between the right captions of an image and foils that are wrong in one way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lift.errors import ConfigError
from lift.evals import _choice as choice
from lift.evals import _metrics as metrics
from lift.evals._encode import Images
from lift.evals._seen import seen_note
from lift.terms import Encoder, EvalResult, Metric, Source


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the compositional evaluation.

    Attributes:
        benchmark: what the pairs are ("sugarcrepe", ...), for the warning about captions that the
            text encoder saw; None guesses from the source's name.
        blind: whether to say how far the texts alone get.
        oracle: whether to say how far the image's other captions get in its place; they are
            encoded for it.
        examples: items kept for the report.
    """

    benchmark: str | None = None
    blind: bool = True
    oracle: bool = True
    examples: int = 8


class Compositional:
    """Share of questions whose right captions all score higher than all foils, by kind.

    A question is a foil and its caption, or all foils and captions of one `Foil.group` (several
    orders of one caption, as in ARO; two captions against one foil, as in SugarCrepe++). The mean
    over kinds counts every kind alike, as SugarCrepe's authors do (Hsieh et al. 2023); the share
    of all items follows the sizes of the kinds. Ties count by expectation (see `_choice.credits`):
    equal scores of one caption and one foil count half.

    Beside the model's figures stand two that are not its own:

    - (blind) is a linear guess from the text vectors alone, without the image, fitted on other
      images: foils that a language model finds odd are guessable, so only what lies above is seen.
    - (oracle) puts the mean of the image's other captions in the image's place: no image vector
      that says what people say of the image can do much better in this text space.

    Questions about one image are one cluster in the intervals, told by the bytes of the image;
    those that ask the same texts of several images are counted as alike there too.
    """

    version = 1
    primary = "accuracy/mean of kinds"

    def __init__(self, config: Config) -> None:
        self.config = config
        words = ["caption against foil"]
        words += [choice.BLIND_WORDS] * config.blind + [choice.ORACLE_WORDS] * config.oracle
        self.protocol = "; ".join(words)

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on every foil of `source`; all text vectors are held.

        Raises:
            DataError: no sample has foils, or none can be read.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        images = Images(encoder, source)
        asked = choice.collect(images)
        choice.require_questions(asked, source.name, "compositional")
        questions, count = asked.questions, len(asked.questions)
        texts = choice.encode(encoder, questions, self.config.oracle)
        own = np.array([question.place for question in questions], dtype=np.int64)
        found = choice.scores(asked.z_image, own, texts)
        credit, tied = choice.credits(found, texts, count)
        answers = _Answers(asked, credit)
        chance = np.array([question.chance for question in questions])
        answers.figures("", credit, np.ones(count, dtype=np.bool_))
        counts = _counts(asked, int(tied.sum()))
        notes = [f"ties, counted by expectation: {tied.sum()}"] if tied.any() else []
        if self.config.blind:
            guess, _ = choice.credits(choice.blind(texts, questions, asked.images), texts, count)
            answers.figures(" (blind)", guess, np.ones(count, dtype=np.bool_))
            notes += answers.guessable(chance)
        if self.config.oracle:
            z, has = choice.oracle(texts, count)
            bound, _ = choice.credits(choice.scores(z, np.arange(count), texts), texts, count)
            answers.figures(" (oracle)", bound, has)
            if not has.all():
                counts["items without other captions"] = int((~has).sum())
                notes.append(
                    f"{(~has).sum()} of {count} items have no other caption of their image, so "
                    "the oracle leaves them out"
                )
        return EvalResult(
            evaluation="compositional",
            version=self.version,
            protocol=self.protocol,
            data=source.name,
            primary=self.primary,
            metrics=answers.ordered(),
            counts=counts | images.counts(),
            chance=float(np.average(chance, weights=answers.weights)),
            notes=tuple(notes) + images.notes() + seen_note(encoder, source, self.config.benchmark),
            examples=_examples(asked, found, texts, credit, self.config.examples),
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
            digest=images.digest,
        )


class _Answers:
    """Figures by kind, of the model and of what stands beside it."""

    def __init__(self, asked: choice.Asked, credit: np.ndarray) -> None:
        self._questions, self._images = asked.questions, asked.images
        kinds = [question.kind for question in asked.questions]
        self._kinds, self._kind = np.unique(kinds, return_inverse=True)
        self.weights = metrics.class_weights(self._kind)
        self._found: dict[str, Metric] = {
            "accuracy/all items": self._share(credit, np.ones(len(credit), dtype=np.bool_))
        }

    def figures(self, suffix: str, credit: np.ndarray, mine: np.ndarray) -> None:
        """Take the credit of some items (`mine`) under names that end so."""
        if not mine.any():
            return
        weights = metrics.class_weights(self._kind[mine])
        self._found[f"accuracy/mean of kinds{suffix}"] = self._share(credit, mine, weights)
        for number, name in enumerate(self._kinds):
            here = mine & (self._kind == number)
            if here.any():
                self._found[f"accuracy/{name}{suffix}"] = self._share(credit, here)

    def _share(
        self, credit: np.ndarray, mine: np.ndarray, weights: np.ndarray | None = None
    ) -> Metric:
        alike = choice.alike([self._questions[int(at)] for at in np.flatnonzero(mine)])
        return metrics.share(credit[mine], weights, self._images[mine], alike)

    def guessable(self, chance: np.ndarray) -> list[str]:
        """Return a sentence for each kind whose foils the texts alone give away."""
        told = []
        for number, name in enumerate(self._kinds):
            guess = self._found[f"accuracy/{name} (blind)"]
            by_chance = float(chance[self._kind == number].mean())
            if guess.low > by_chance:
                told.append(
                    f"foils of {name} are guessable without the image: {guess.value:.1%} from "
                    f"the texts alone, where chance is {by_chance:.1%}"
                )
        return told

    def ordered(self) -> dict[str, Metric]:
        """Return the figures: the mean of kinds first, what stands beside a figure behind it."""
        names = ["mean of kinds", "all items", *self._kinds]
        told = [f"accuracy/{n}{end}" for n in names for end in ("", " (blind)", " (oracle)")]
        return {name: self._found[name] for name in told if name in self._found}


def _counts(asked: choice.Asked, ties: int) -> dict[str, int]:
    questions = asked.questions
    broken = sum(question.is_broken for question in questions)
    grouped = sum(len(q.captions) + len(q.foils) > 2 for q in questions)
    return {
        "images": len({question.image for question in questions}),
        "items": len(questions),
        "ties": ties,
        **({"items of several texts": grouped} if grouped else {}),
        **({"items whose foil is their caption": broken} if broken else {}),
        **({"images without foils": asked.without} if asked.without else {}),
    }


def _examples(
    asked: choice.Asked, found: np.ndarray, texts: choice.Texts, credit: np.ndarray, count: int
) -> tuple[Mapping[str, Any], ...]:
    """Return a few items as plain JSON values, each with its lowest caption and highest foil."""
    lowest, highest = choice.edges(found, texts, len(credit))
    told = [text for q in asked.questions for text in (*q.captions, *q.foils)]
    return tuple(
        {
            "key": asked.questions[at].key,
            "index": asked.questions[at].index,
            "item": at,
            "kind": asked.questions[at].kind,
            "caption": told[lowest[at]],
            "foil": told[highest[at]],
            "caption_score": round(float(found[lowest[at]]), 4),
            "foil_score": round(float(found[highest[at]]), 4),
            "right": bool(credit[at] == 1.0),
        }
        for at in metrics.chosen(credit == 1.0, count)
    )


def build(config: Config) -> Compositional:
    """Return the evaluation.

    Raises:
        ConfigError: a negative number of examples.
    """
    if config.examples < 0:
        raise ConfigError(f"compositional.examples must be 0 or more, not {config.examples}.")
    return Compositional(config)
