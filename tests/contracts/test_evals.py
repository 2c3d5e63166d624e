"""Every file in evals/: an oracle scores 1, a constant encoder chance, and nothing goes unsaid."""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from lift import plugins
from lift.config import part, to_dict
from lift.errors import DataError, NotFinite
from lift.evals._dense import Patches
from lift.terms import Caption, Encoder, Evaluation, Foil, Region, Sample, Source

NAMES = plugins.names("evals")
QUICK = {
    "linear_probe": {"decays": (0.01, 0.1), "parts": 2},
    "robustness": {"changes": ("greyscale", "flip")},
}
"""Options under which the others of its tests say the same in a tenth of the time."""

TEXTS = [n for n in NAMES if hasattr(plugins.load("evals", n).Config, "benchmark")]
"""Evaluations of text vectors."""

BESIDE = {
    "mixed": ("images in top 10", "cosine", "cosine gap", "false positives", "- one list/R@10"),
    "robustness": ("unchanged)",),
    "lift_reference": ("(effect of pixels)", "(effect of first_caption)", "(effect of all quirks)"),
}
"""Ends of the names of figures that are best at another number than 1, or differences."""

NOT_ITS_OWN = ("(blind)", "(majority)")
"""Figures that end so stand beside those of an encoder: nothing of its images is in them."""

IMAGES, CLASSES = 300, 6  # more images than one chunk holds


@functools.cache
def striped(number: int) -> bytes:
    """Return a PNG whose upper stripes are the bits of a number, which stands behind it, too."""
    rows = np.repeat([255 * (number >> bit & 1) for bit in range(9)] + [128] * 3, 2)
    return png(np.tile(rows[:, None, None], (1, 8, 3))) + f" image {number}".encode()


@functools.cache
def mask(number: int) -> bytes:
    """Return a mask that is of one class everywhere."""
    return png(np.full((4, 4), number))


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def number_of(image: bytes) -> int:
    """Return the number of a striped image, whatever was done to it that leaves its stripes."""
    if told := re.search(rb" image (\d+)$", image):
        return int(told[1])
    with Image.open(io.BytesIO(image)) as opened:
        pixels = np.asarray(opened.convert("L"))
    return sum(int(pixels[2 * bit, 3] > 128) << bit for bit in range(9))


class Pairs:
    """A source in memory that every evaluation can use."""

    name = "pairs"
    names = json.dumps([f"class {number}" for number in range(CLASSES)])

    def __init__(self, images: int = IMAGES) -> None:
        self.groups = (images,)

    def __len__(self) -> int:
        return self.groups[0]

    def read(self, index: int) -> Sample:
        right, wrong = f"caption 0 of {index}", f"foil of {index}"
        return Sample(
            key=f"image-{index}",
            image=striped(index),
            captions=tuple(
                Caption(f"caption {k} of {index}", language=("en", "de")[k]) for k in range(2)
            ),
            fields={
                "class_name": f"class {index % CLASSES}",
                "pair": f"{index // 2}",
                "sentence": f"caption 0 of {index - index % 2}",
                "label": "no" if index % 2 else "yes",
                "mask_classes": self.names,
            },
            regions=(Region(right, (0.0, 0.0, 0.5, 0.5)),),
            mask=mask(index % CLASSES),
            foils=(Foil("add", right, wrong), Foil("swap", right, f"other {wrong}")),
        )

    def texts(self):
        return ((self.read(i).key, self.read(i).captions) for i in range(len(self)))


def patches(z: np.ndarray) -> Patches:
    """Return 2 x 2 cells an image that cover it."""
    frame = np.tile(np.array([0, 0, 1, 1], np.float32), (len(z), 1))
    return Patches(z.reshape(len(z), 2, 2, -1), frame)


class Oracle:
    """Sees the number of the image in its bytes, and knows what every text means."""

    name, saw = "oracle", ()

    def encode_images(self, images):
        numbers = [number_of(image) for image in images]
        return np.stack([self._at(n, IMAGES + n % CLASSES) for n in numbers])

    def encode_regions(self, images, tiles):
        return self.encode_images(images)

    def encode_patches(self, images):
        """Say the class everywhere, and the image's own caption in the first of 2 x 2 cells."""
        whole = self.encode_images(images)
        other = np.stack([self._at(IMAGES + number_of(image) % CLASSES) for image in images])
        return patches(np.stack([whole, other, other, other], 1))

    def with_pixels(self, mean, std):
        return self

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

    def encode_patches(self, images):
        return patches(np.repeat(self.encode_images(images)[:, None], 4, 1))

    def with_pixels(self, mean, std):
        return self


class Random:
    """A direction for each input that has nothing to do with it."""

    name, saw = "random", ()

    def encode_images(self, images):
        return np.stack([self._row(image) for image in images])

    def encode_regions(self, images, tiles):
        return self.encode_images(images)

    def encode_texts(self, texts):
        return self.encode_images([text.encode() for text in texts])

    def encode_patches(self, images):
        cells = [self.encode_images([bytes([at]) + image for image in images]) for at in range(4)]
        return patches(np.stack(cells, 1))

    def with_pixels(self, mean, std):
        other = copy.copy(self)
        other.salt = self.salt + b"px"
        return other

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
        if metric.endswith(BESIDE.get(name, ())):
            continue
        if metric.endswith(NOT_ITS_OWN):
            continue
        assert figure.value == 1.0, metric  # the best rank is 1 too
        assert figure.high == 1.0 and 0.9 < figure.low + 4 / figure.items <= 1.1, metric
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
        assert result.metrics["1:1 one list/R@10 (as image)"].value == 0
        assert result.metrics["1:1 one list/images in top 10"].value == 0
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
        evaluation = plugins.build(part("evals", name, **QUICK.get(name, {}), benchmark=benchmark))
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
