"""A planted fault is found by its line and by no other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lift.diagnosis import Diagnosis, diagnose
from listed_samples import Listed
from planted_faults import Model, Texts, captions, pairs

COUNT = 200
Case = Callable[[], tuple[Model, Listed]]


def wider(z: np.ndarray, along: float) -> np.ndarray:
    """Return rows shifted in a direction that none of them has."""
    return np.concatenate([z, np.full((len(z), 1), along, z.dtype)], axis=1)


def healthy(**changes) -> tuple[Model, Listed]:
    texts = Texts()
    return Model(texts, **changes), pairs(captions(COUNT), texts)


def collapse() -> tuple[Model, Listed]:
    two = np.linalg.qr(np.random.default_rng(3).normal(size=(64, 2)))[0]
    return healthy(image=lambda z: z @ two @ two.T)


def gap() -> tuple[Model, Listed]:
    return healthy(image=lambda z: wider(z, 4.0), text=lambda z: wider(z, 0.0), scale=82.0)


def gap_among_captions() -> tuple[Model, Listed]:
    along = np.random.default_rng(5).normal(size=64)
    return healthy(image=lambda z: z + 4.0 * along / np.linalg.norm(along), scale=82.0)


def cone() -> tuple[Model, Listed]:
    return healthy(image=lambda z: wider(z, 4.0), text=lambda z: wider(z, 4.0), scale=340.0)


def hub() -> tuple[Model, Listed]:
    texts, said = Texts(), captions(COUNT)

    def with_hub(z: np.ndarray) -> np.ndarray:
        z = z.copy()
        z[7] = 60 * z.mean(axis=0)  # so far out that its noise is none
        return z

    return Model(texts), pairs(said, texts, show=with_hub)


def too_sure() -> tuple[Model, Listed]:
    return healthy(scale=200.0)


def not_sure_enough() -> tuple[Model, Listed]:
    return healthy(scale=3.0)


def duplicates() -> tuple[Model, Listed]:
    texts = Texts()
    return Model(texts), pairs([text for text in captions(COUNT // 4) for _ in range(4)], texts)


def two_names() -> tuple[Model, Listed]:
    texts = Texts()

    def label(text: str) -> str:
        noun = text.split()[2]
        return noun.upper() if noun == "dog" and "near a red" in text else noun

    return Model(texts), pairs(captions(COUNT), texts, label=label)


def no_order() -> tuple[Model, Listed]:
    texts = Texts(order=0.0)
    return Model(texts), pairs(captions(COUNT), texts)


def syntax_first() -> tuple[Model, Listed]:
    texts = Texts(syntax=12.0)
    return Model(texts), pairs(captions(COUNT), texts)


def mispaired() -> tuple[Model, Listed]:
    texts, said = Texts(), captions(400)  # fewer can't say that it is chance and no more
    told = [said[n] for n in np.random.default_rng(4).permutation(400)]
    return Model(texts), pairs(said, texts, told=told)


def off_by_one() -> tuple[Model, Listed]:
    texts, said = Texts(), captions(400)
    return Model(texts), pairs(said, texts, told=[*said[1:], said[0]])


def constant() -> tuple[Model, Listed]:
    return healthy(image=lambda z: 0 * z + np.ones(64))


def constant_texts() -> tuple[Model, Listed]:
    return healthy(text=lambda z: 0 * z + np.ones(64))


def swapped_channels() -> tuple[Model, Listed]:
    return healthy(see=lambda pixels: pixels[..., ::-1])


def wrong_statistics() -> tuple[Model, Listed]:
    return healthy(mean=-3.0)


def turned_round() -> tuple[Model, Listed]:
    return healthy(image=lambda z: -z)


def asked(case: Case) -> Diagnosis:
    model, source = case()
    return diagnose(model, source, label="kind")


@pytest.mark.parametrize(
    ("case", "line"),
    [
        (healthy, None),
        (collapse, "effective rank"),
        (gap, "modality gap"),
        (gap_among_captions, "modality gap"),
        (cone, "uniformity"),
        (hub, "hubness"),
        (too_sure, "temperature"),
        (not_sure_enough, "temperature"),
        (duplicates, "duplicate captions"),
        (two_names, "class confusion"),
        (no_order, "told apart"),
        (syntax_first, "content over syntax"),
        (mispaired, "pairing"),
        (off_by_one, "pairing"),
        (constant, "images alike"),
        (constant_texts, "uniformity"),
        (swapped_channels, "pixels"),
        (wrong_statistics, "pixels"),
        (turned_round, "alignment"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_fault_is_found_by_its_line_alone(case: Case, line: str | None) -> None:
    found = asked(case)
    faults = [finding.name for finding in found.findings if finding.level == "fault"]
    assert faults == ([] if line is None else [line])
    assert all(finding.means and finding.advice for finding in found.findings)
