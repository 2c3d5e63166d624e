"""Every file in evals/: an oracle scores 1, a constant encoder chance, and nothing goes unsaid."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from lift import plugins
from lift.config import part, to_dict
from lift.errors import DataError, NotFinite
from lift.terms import Caption, Encoder, Evaluation, Foil, Sample, Source

NAMES = plugins.names("evals")
QUICK = {"linear_probe": {"decays": (0.01, 0.1), "parts": 2}}
"""Options under which the others of its tests say the same in a tenth of the time."""

TEXTS = [n for n in NAMES if hasattr(plugins.load("evals", n).Config, "benchmark")]
"""Evaluations of text vectors."""

BESIDE = {"mixed": ("images in top 10", "image-text cosine", "cosine gap")}
"""Figures that are best at another number than 1."""

IMAGES, CLASSES = 300, 6  # more images than one chunk holds


class Pairs:
    """A source in memory that every evaluation can use."""

    name = "pairs"

    def __init__(self, images: int = IMAGES) -> None:
        self.groups = (images,)

    def __len__(self) -> int:
        return self.groups[0]

    def read(self, index: int) -> Sample:
        right, wrong = f"caption 0 of {index}", f"foil of {index}"
        return Sample(
            key=f"image-{index}",
            image=f"image {index}".encode(),
            captions=tuple(Caption(f"caption {k} of {index}") for k in range(2)),
            fields={"class_name": f"class {index % CLASSES}"},
            foils=(Foil("add", right, wrong), Foil("swap", right, f"other {wrong}")),
        )

    def texts(self):
        return ((self.read(i).key, self.read(i).captions) for i in range(len(self)))


class Oracle:
    """Sees the number of the image in its bytes, and knows what every text means."""

    name, saw = "oracle", ()

    def encode_images(self, images):
        numbers = [int(image.split()[1]) for image in images]
        return np.stack([self._at(n, IMAGES + n % CLASSES) for n in numbers])

    def encode_regions(self, images, tiles):
        return self.encode_images(images)

    def encode_texts(self, texts):
        return np.stack([self._meaning(text) for text in texts])

    def _meaning(self, text: str) -> np.ndarray:
        number = int(text.rstrip(".").split()[-1])
        if "foil" in text:
            return -self._at(number)
        return self._at(IMAGES + number if "class" in text else number)

    @staticmethod
    def _at(*places: int) -> np.ndarray:
        row = np.zeros(IMAGES + CLASSES, np.float32)
        row[list(places)] = 1 / np.sqrt(len(places))
        return row


class Constant:
    """One direction for everything; wide, so that float32 sums round differently."""

    name, saw = "constant", ()
    row = np.random.default_rng(3).standard_normal(1000).astype(np.float32)

    def encode_images(self, images):
        return np.repeat(self.row[None] / np.linalg.norm(self.row), len(images), axis=0)

    encode_texts = encode_images

    def encode_regions(self, images, tiles):
        return self.encode_images(images)


class Random:
    """A direction for each input that has nothing to do with it."""

    name, saw = "random", ()

    def encode_images(self, images):
        return np.stack([self._row(image) for image in images])

    def encode_regions(self, images, tiles):
        return self.encode_images(images)

    def encode_texts(self, texts):
        return self.encode_images([text.encode() for text in texts])

    salt = b""

    def _row(self, content: bytes) -> np.ndarray:
        seed = int.from_bytes(hashlib.blake2b(self.salt + content, digest_size=8).digest())
        row = np.random.default_rng(seed).standard_normal(64).astype(np.float32)
        return row / np.linalg.norm(row)


class Altered(Random):
    """A random encoder whose image rows are multiplied by something."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def encode_images(self, images):
        return super().encode_images(images) * np.float32(self.factor)

    def encode_texts(self, texts):
        return super().encode_images([text.encode() for text in texts])


def judge(name: str, encoder, source=None):
    evaluation = plugins.build(part("evals", name, **QUICK.get(name, {})))
    return evaluation.run(encoder, Pairs() if source is None else source)


def primary(result):
    return result.metrics[result.primary]


def test_the_parts_are_what_they_stand_for():
    assert isinstance(Pairs(), Source)
    assert all(isinstance(encoder, Encoder) for encoder in (Oracle(), Constant(), Random()))


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is(name):
    evaluation = plugins.build(part("evals", name))
    assert isinstance(evaluation, Evaluation)
    result = evaluation.run(Random(), Pairs(40))
    assert (result.evaluation, result.version) == (name, evaluation.version)
    assert (result.primary, result.protocol) == (evaluation.primary, evaluation.protocol)
    assert (result.data, result.encoder) == ("pairs", "random")
    assert result.protocol and result.primary in result.metrics and result.seconds > 0


@pytest.mark.parametrize("name", NAMES)
def test_an_oracle_scores_one(name):
    result = judge(name, Oracle())
    for metric, figure in result.metrics.items():
        if metric in BESIDE.get(name, ()):
            continue
        assert figure.value == 1.0, metric  # the best rank is 1 too
        assert figure.high == 1.0 and 0.9 < figure.low <= 1.0, metric
    assert all(example["right"] for example in result.examples)


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_encoder_scores_exactly_chance(name):
    result = judge(name, Constant())
    assert result.chance is not None and 0 < result.chance < 1
    assert primary(result).value == pytest.approx(result.chance, rel=1e-9)
    assert not any(example["right"] for example in result.examples)


@pytest.mark.parametrize("name", NAMES)
def test_a_random_encoder_scores_about_chance(name):
    result = judge(name, Random())
    figure = primary(result)
    assert result.chance is not None
    assert abs(figure.value - result.chance) < 2 * (figure.high - figure.low)
    assert figure.value != result.chance


@pytest.mark.parametrize("name", NAMES)
def test_repeat_runs_are_equal(name):
    first, second = (to_dict(judge(name, Random())) for _ in range(2))
    assert first.pop("seconds") and second.pop("seconds")
    assert first == second


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_items_and_an_interval(name):
    result = judge(name, Random())
    assert result.counts["images"] == IMAGES
    for metric, figure in result.metrics.items():
        assert 0 < figure.items <= 2 * IMAGES, metric
        assert figure.low <= figure.value <= figure.high, metric
        assert figure.low < figure.high, metric


@pytest.mark.parametrize("name", NAMES)
def test_intervals_shrink_with_items(name):
    small, large = primary(judge(name, Random(), Pairs(48))), primary(judge(name, Random()))
    assert large.items > small.items
    assert large.high - large.low < small.high - small.low


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_plain_json_with_right_and_wrong(name):
    encoder = Random()
    encoder.salt = b"4"  # one that ranks something right
    result = judge(name, encoder)
    assert json.loads(json.dumps(result.examples)) == list(result.examples)
    assert {example["right"] for example in result.examples} == {True, False}
    assert all(
        result_key.startswith("image-") for result_key in (e["key"] for e in result.examples)
    )
    options = {**QUICK.get(name, {}), "examples": 0}
    none = plugins.build(part("evals", name, **options)).run(Random(), Pairs(40))
    assert none.examples == ()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("factor", "error", "words"),
    [(np.nan, NotFinite, "NaN"), (2.0, DataError, "not of unit length")],
)
def test_broken_encoders_stop(name, factor, error, words):
    with pytest.raises(error, match=words):
        judge(name, Altered(factor))


@pytest.mark.parametrize("name", NAMES)
def test_zero_rows_score_chance(name):
    result = judge(name, Altered(0.0))
    if name == "mixed":  # captions still tell each other apart; images tie below half of them
        assert result.metrics["R@10 (as image)"].value == 0
        assert result.metrics["images in top 10"].value == 0
        return
    assert primary(result).value == pytest.approx(result.chance, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_source_stops(name):
    with pytest.raises(DataError, match="pairs holds no"):
        judge(name, Random(), Pairs(0))


@pytest.mark.parametrize("name", TEXTS)
def test_warns_of_captions_that_the_text_encoder_saw(name):
    encoder = Random()
    encoder.saw = ("coco", "flickr30k")
    words = "text encoder saw these captions"
    assert not any(words in note for note in judge(name, encoder, Pairs(40)).notes)
    for benchmark in ("coco", "flickr8k", "sugarcrepe", "Flickr30k"):
        evaluation = plugins.build(part("evals", name, benchmark=benchmark))
        assert any(words in note for note in evaluation.run(encoder, Pairs(40)).notes), benchmark
        assert not any(words in note for note in evaluation.run(Random(), Pairs(40)).notes)
    named = Pairs(40)
    named.name = "data/Flickr8k/val-0000"
    assert any("flickr30k, which overlaps flickr8k" in n for n in judge(name, encoder, named).notes)
    silenced = plugins.build(part("evals", name, benchmark="own pairs")).run(encoder, named)
    assert not any(words in note for note in silenced.notes)


@pytest.mark.parametrize("name", NAMES)
def test_has_defaults_for_every_option(name):
    assert plugins.configure(part("evals", name)) == plugins.load("evals", name).Config()
