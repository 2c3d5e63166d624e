"""Images that can't be read: left out, counted and named, never the end of an evaluation."""

from __future__ import annotations

import functools
import io

import numpy as np
import pytest
from PIL import Image

from lift import plugins
from lift.config import part
from lift.errors import DataError
from lift.evals import _encode
from lift.evals._dense import Patches
from lift.evals._encode import Images
from lift.terms import Caption, Foil, Region, Sample

NAMES = plugins.names("evals")
PROBES = ("few_shot", "knn", "linear_probe")
FEW = {"knn": {"k": 2}, "multilingual": {"fewest": 1}}


def build(name):
    """Return an evaluation that is content with the few images below."""
    return plugins.build(part("evals", name, **FEW.get(name, {})))


FIELDS = {"mask_classes": '["class 0", "class 1"]', "sentence": "this is so"}


@functools.cache
def png(number, mode="RGB"):
    out = io.BytesIO()
    Image.new(mode, (2, 2), number).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def vectors(vectors):
    """Return encoders that can do what some evaluations ask for besides."""

    class Able(vectors):
        def encode_patches(self, images):
            frame = np.tile(np.array([[0, 0, 1, 1]], np.float32), (len(images), 1))
            return Patches(self.encode_images(images)[:, None, None], frame)

        def with_pixels(self, mean, std):
            return self

    return Able


def samples(count=6, bad=(), same=()):
    return [
        Sample(
            f"k{i}",
            b"broken" if i in bad else png(0 if i in same else i),
            (Caption(f"text {i}", language="en"), Caption(f"words {i}", language="de")),
            FIELDS
            | {"class_name": f"class {i % 2}", "label": str(i % 2), "pair": f"{i % (count // 2)}"},
            (Foil("add", f"text {i}", f"no text {i}"),),
            (Region(f"text {i}", (0.0, 0.0, 1.0, 1.0)),),
            png(i % 2, "L"),
        )
        for i in range(count)
    ]


@pytest.fixture
def picky(vectors):
    """Return an encoder that can't decode some bytes, as a bundle says it."""

    class Picky(vectors):
        def encode_images(self, images):
            if b"broken" in images:
                raise DataError("Image of 6 bytes can't be read.")
            return super().encode_images(images)

    return Picky({})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunk", [1, 2, 4, 256])
def test_unreadable_images_are_left_out_and_named(name, chunk, picky, list_source, monkeypatch):
    monkeypatch.setattr(_encode, "CHUNK", chunk)
    evaluation = build(name)
    result = evaluation.run(picky, list_source(samples(bad=(0, 3))))
    assert result.counts["images"] == 4 and result.counts["unreadable images"] == 2
    (note,) = [n for n in result.notes if "unreadable" in n]
    assert "'k0'" in note and "'k3'" in note and "Image of 6 bytes" in note
    # The figures are those of the images that can be read, alone.
    kept = [sample for sample in samples() if sample.key not in ("k0", "k3")]
    alone = evaluation.run(picky, list_source(kept))
    assert result.metrics == alone.metrics and result.chance == alone.chance
    assert "unreadable images" not in alone.counts
    for example, other in zip(result.examples, alone.examples, strict=True):
        assert example["key"] == other["key"] == f"k{example['index']}"
        for top in example.get("top", ()):
            assert top.get("key", f"k{top.get('index')}") == f"k{top.get('index')}"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_readable_is_an_error_that_names_a_sample(name, picky, list_source):
    source = list_source(samples(4, bad=range(4)))
    with pytest.raises(DataError, match=r"None of the 4 images of list.*'k0'"):
        build(name).run(picky, source)


@pytest.mark.parametrize("name", NAMES)
def test_samples_that_the_source_cannot_read(name, vectors, list_source):
    class Holed(list_source):
        def read(self, index):
            if index == 2:
                raise DataError("Sample k2: photo.jpg can't be read.")
            return super().read(index)

    result = build(name).run(vectors({}), Holed(samples()))
    assert result.counts["unreadable images"] == 1
    assert any("Sample k2: photo.jpg" in note for note in result.notes)


def test_many_are_counted_and_the_first_named(picky, list_source):
    images = Images(picky, list_source(samples(30, bad=range(1, 30))))
    assert [numbers for numbers, _, _ in images] == [[0]]
    (note,) = images.notes()
    assert note.startswith("29 unreadable") and note.endswith("(and 26 more)")
    assert images.counts() == {"unreadable images": 29}


def test_equal_bytes_are_one_cluster(vectors, list_source):
    images = Images(vectors({}), list_source(samples(5, same=(2, 4))))
    assert sum(len(numbers) for numbers, _, _ in images) == 5
    np.testing.assert_array_equal(images.clusters(), [0, 1, 0, 2, 0])
    plain = Images(vectors({}), list_source(samples(5)))
    assert list(plain) and plain.clusters() is None


@pytest.mark.parametrize("name", NAMES)
def test_one_photograph_under_many_keys_is_one_item(name, vectors, list_source):
    source = list_source(samples(40, same=range(40)))
    if name == "mosaic":  # one photograph makes no mosaic with itself
        with pytest.raises(DataError, match="list has no 4 images whose captions"):
            build(name).run(vectors({}), source)
        return
    if name in PROBES:  # nor does it teach anything about itself
        with pytest.raises(DataError, match=r"'class 0'.* (train=SOURCE|fewer shots)"):
            build(name).run(vectors({}), source)
        return
    result = build(name).run(vectors({}), source)
    for metric, figure in result.metrics.items():
        assert figure.items == 1, metric
