"""Composition, pairs and truth against clip_benchmark's and scikit-learn's own functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lift.evals import _choice as choice
from lift.evals import compositional, truth, winoground
from lift.terms import Caption, Foil, Sample, unit

pytestmark = pytest.mark.parity

ITEMS, FOILS, WIDTH = 150, 4, 24


class Planted:
    """Rows of numbered images and texts: an Encoder for us, a model and tokenizer for them."""

    name, saw = "planted", ()

    def __init__(self, images: int, texts: int) -> None:
        rng = np.random.default_rng(11)
        self.images = torch.from_numpy(rng.standard_normal((images, WIDTH)).astype(np.float32))
        self.texts = torch.from_numpy(rng.standard_normal((texts, WIDTH)).astype(np.float32))

    def lean(self, text: int, image: int) -> None:
        """Let a text lean towards an image."""
        self.texts[text] += 0.5 * self.images[image]

    def encode_images(self, images):
        return unit(self.images[[int(image) for image in images]]).numpy()

    def encode_texts(self, texts):
        return unit(self.texts[[int(text) for text in texts]]).numpy()

    # what open_clip's models and tokenizers look like
    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return self.images[images[:, 0, 0, 0]]

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.texts[tokens]

    def tokenize(self, texts) -> torch.Tensor:
        return torch.tensor([int(text) for text in texts])


class Listed:
    """Samples in a list."""

    name = "listed"

    def __init__(self, samples: list[Sample]) -> None:
        self.samples, self.groups = samples, (len(samples),)

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int) -> Sample:
        return self.samples[index]

    def texts(self):
        return ((sample.key, sample.captions) for sample in self.samples)


def selected(encoder: Planted, images: torch.Tensor, texts: list[list[str]]) -> dict[str, float]:
    """Return what clip_benchmark finds, in batches of 40."""
    theirs = pytest.importorskip("clip_benchmark.metrics.image_caption_selection")
    batches = [
        (images[start : start + 40], texts[start : start + 40])
        for start in range(0, len(texts), 40)
    ]
    return theirs.evaluate(encoder, batches, encoder.tokenize, "cpu", amp=False)


@pytest.mark.parametrize("foils", [1, FOILS])
def test_composition_equals_clip_benchmark(foils):
    encoder = Planted(ITEMS, ITEMS * (1 + foils))
    texts = [[str(n * (1 + foils) + k) for k in range(1 + foils)] for n in range(ITEMS)]
    samples = []
    for number, (right, *wrong) in enumerate(texts):
        encoder.lean(int(right), number)
        asked = tuple(Foil("kind", right, text, "all") for text in wrong)
        samples.append(Sample(f"{number}", b"%d" % number, (Caption(right),), foils=asked))
    images = torch.arange(ITEMS).view(ITEMS, 1, 1, 1)
    expected = selected(encoder, images, texts)["text_acc"]
    result = compositional.build(compositional.Config()).run(encoder, Listed(samples))
    assert 0.2 < expected < 1
    assert result.metrics["accuracy/all items"].value == pytest.approx(expected, abs=1e-6)


def test_winoground_equals_clip_benchmark():
    encoder = Planted(2 * ITEMS, 2 * ITEMS)
    samples = []
    for number in range(2 * ITEMS):
        encoder.lean(number, number)
        encoder.lean(number, number ^ 1)
        encoder.lean(number, number)
        fields = {"pair": f"{number // 2}"}
        samples.append(Sample(f"{number}", b"%d" % number, (Caption(f"{number}"),), fields))
    images = torch.arange(2 * ITEMS).view(ITEMS, 2, 1, 1, 1)
    texts = [[f"{2 * n}", f"{2 * n + 1}"] for n in range(ITEMS)]
    expected = selected(encoder, images, texts)
    result = winoground.build(winoground.Config()).run(encoder, Listed(samples))
    for ours, theirs in (("text", "text_acc"), ("image", "image_acc"), ("group", "acc")):
        assert 0.2 < expected[theirs] < 1
        found = result.metrics[f"{ours} score"].value
        assert found == pytest.approx(expected[theirs], abs=1e-6)


def test_the_area_equals_scikit_learn():
    judge = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(12)
    for levels in (5, 1000):
        score = rng.integers(0, levels, 300) / levels
        true = rng.random(300) < 0.2 + 0.6 * score
        found = truth.influence(score, true).mean()
        assert found == pytest.approx(judge.roc_auc_score(true, score), abs=1e-12)


def test_the_fit_of_a_guess_equals_scikit_learn():
    theirs = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(13)
    for shape in ((30, 8), (8, 30)):
        x, y = rng.standard_normal(shape), rng.standard_normal(shape[0])
        penalty = choice.RIDGE * np.square(x).sum() / min(shape)
        fit = theirs.Ridge(alpha=penalty, fit_intercept=False).fit(x, y)
        np.testing.assert_allclose(choice.ridge(x, y), fit.coef_, rtol=1e-8, atol=1e-12)
