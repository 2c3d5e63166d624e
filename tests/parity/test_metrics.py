"""Losses and metrics against open_clip's, clip_benchmark's and scikit-learn's own functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from lift import plugins
from lift.candidates import Candidates
from lift.config import part
from lift.terms import Caption, Sample, unit

pytestmark = pytest.mark.parity

IMAGES, CAPTIONS, WIDTH = 120, 5, 32
CLASSES = [f"kind {c}" for c in range(12)]
TEMPLATES = ["a photo of a {}.", "the {}", "many {} here"]


class Planted:
    """Rows that lean towards their image: an Encoder for us, a model and tokenizer for them."""

    name, saw = "planted", ()

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.images = rng.standard_normal((IMAGES, WIDTH)).astype(np.float32)
        lean = np.repeat(self.images, CAPTIONS, axis=0)
        noise = rng.standard_normal(lean.shape).astype(np.float32)
        rows = [*(0.4 * lean + noise), *rng.standard_normal((300, WIDTH)).astype(np.float32)]
        texts = [f"caption {k} of {i}" for i in range(IMAGES) for k in range(CAPTIONS)]
        texts += [t.replace("{}", c) for c in CLASSES for t in TEMPLATES]
        self.place = {text: at for at, text in enumerate(texts)}
        self.texts = np.stack(rows)
        self.labels = rng.integers(0, len(CLASSES), IMAGES)

    def encode_images(self, images: Sequence[bytes]) -> np.ndarray:
        rows = self.images[[int(image) for image in images]]
        return unit(torch.from_numpy(rows)).numpy()

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return unit(torch.from_numpy(self.texts[[self.place[text] for text in texts]])).numpy()

    # what open_clip's models and tokenizers look like
    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.images)[images]

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.texts)[tokens]

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([self.place[text] for text in texts])


class Photos:
    """The same images and captions as a Source."""

    name, groups = "photos", (IMAGES,)

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return IMAGES

    def read(self, index: int) -> Sample:
        captions = tuple(Caption(f"caption {k} of {index}") for k in range(CAPTIONS))
        fields = {"class_name": CLASSES[self.labels[index]]}
        return Sample(f"{index}", str(index).encode(), captions, fields)

    def texts(self):
        return ((self.read(i).key, self.read(i).captions) for i in range(IMAGES))


def ours(name: str, encoder: Planted, **options) -> dict[str, float]:
    evaluation = plugins.build(part("evals", name, **options))
    result = evaluation.run(encoder, Photos(encoder.labels))
    return {name: metric.value for name, metric in result.metrics.items()}


@pytest.mark.parametrize("protocol", ["all-captions", "first-caption"])
def test_retrieval_equals_clip_benchmark(protocol):
    theirs = pytest.importorskip("clip_benchmark.metrics.zeroshot_retrieval")
    encoder = Planted()
    taken = CAPTIONS if protocol == "all-captions" else 1
    batches = [
        (torch.arange(start, start + 40), [
            [f"caption {k} of {i}" for k in range(taken)] for i in range(start, start + 40)
        ])
        for start in range(0, IMAGES, 40)
    ]  # fmt: skip
    expected = theirs.evaluate(
        encoder, batches, encoder.tokenize, "cpu", amp=False, recall_k_list=[1, 5, 10]
    )
    found = ours("retrieval", encoder, protocol=protocol)
    for k in (1, 5, 10):
        assert 0 < expected[f"image_retrieval_recall@{k}"] < 1
        to_image, to_text = found[f"text_to_image/R@{k}"], found[f"image_to_text/R@{k}"]
        assert to_image == pytest.approx(expected[f"image_retrieval_recall@{k}"], abs=1e-6)
        assert to_text == pytest.approx(expected[f"text_retrieval_recall@{k}"], abs=1e-6)


@pytest.mark.parametrize("templates", [TEMPLATES[:1], TEMPLATES])
def test_zeroshot_equals_clip_benchmark_and_scikit_learn(templates):
    theirs = pytest.importorskip("clip_benchmark.metrics.zeroshot_classification")
    judge = pytest.importorskip("sklearn.metrics")
    encoder = Planted()
    heads = theirs.zero_shot_classifier(
        encoder,
        encoder.tokenize,
        CLASSES,
        [template.replace("{}", "{c}") for template in templates],
        "cpu",
        amp=False,
    )
    loader = [(torch.arange(IMAGES), torch.from_numpy(encoder.labels))]
    logits, truth = theirs.run_classification(encoder, heads, loader, "cpu", amp=False)
    found = ours("zeroshot", encoder, templates=tuple(templates), classes=tuple(CLASSES))
    # Their own `accuracy` turns an array of one element into a float, which NumPy 2.4 refuses.
    ranks = judge.top_k_accuracy_score
    labels = range(len(CLASSES))
    assert found["top-1"] == pytest.approx(ranks(truth, logits, k=1, labels=labels))
    assert found["top-5"] == pytest.approx(ranks(truth, logits, k=5, labels=labels))
    balanced = judge.balanced_accuracy_score(truth, logits.argmax(dim=1))
    assert found["mean per class"] == pytest.approx(balanced)


def vectors(seed: int, count: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return raw image rows (which take gradient), their unit rows, and unit text rows."""
    rng = torch.Generator().manual_seed(seed)
    h_image = torch.randn(count, WIDTH, generator=rng).requires_grad_()
    return h_image, unit(h_image), unit(torch.randn(count, WIDTH, generator=rng))


def same_value_and_gradient(
    ours: torch.Tensor, theirs: torch.Tensor, h_image: torch.Tensor
) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    (own,) = torch.autograd.grad(ours, h_image, retain_graph=True)
    (other,) = torch.autograd.grad(theirs, h_image)
    assert own.abs().max() > 1e-3
    torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_softmax_equals_open_clip(seed):
    theirs = pytest.importorskip("open_clip.loss")
    h_image, z_image, z_text = vectors(seed)
    objective = plugins.build(part("objectives", "softmax", share_equal=False))
    loss = objective(z_image, Candidates.alone(z_text))
    expected = theirs.ClipLoss()(z_image, z_text, objective.log_scale.exp())
    same_value_and_gradient(loss, expected, h_image)


@pytest.mark.parametrize("seed", range(3))
def test_sigmoid_equals_open_clip(seed):
    theirs = pytest.importorskip("open_clip.loss")
    h_image, z_image, z_text = vectors(seed)
    objective = plugins.build(part("objectives", "sigmoid", share_equal=False))
    loss = objective(z_image, Candidates.alone(z_text))
    expected = theirs.SigLipLoss()(z_image, z_text, objective.log_scale.exp(), objective.bias)
    same_value_and_gradient(loss, expected, h_image)


@pytest.mark.parametrize("seed", range(3))
def test_cosine_equals_torch(seed):
    h_image, z_image, z_text = vectors(seed)
    loss = plugins.build(part("objectives", "cosine"))(z_image, Candidates.alone(z_text))
    theirs = torch.nn.CosineEmbeddingLoss()(z_image, z_text, torch.ones(len(z_image)))
    same_value_and_gradient(loss, theirs, h_image)
