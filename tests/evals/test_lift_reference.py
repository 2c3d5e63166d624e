"""The reference's evaluation: each quirk does what it is said to; its effect is a difference."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lift.errors import ConfigError, DataError
from lift.evals import lift_reference, retrieval
from lift.evals._reference import has_three_channels
from lift.terms import Caption, Foil, Sample


def picture(mode="RGB", size=(3, 2), kind="PNG") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, kind)
    return out.getvalue()


def run(source, encoder, **options):
    return lift_reference.build(lift_reference.Config(**options)).run(encoder, source)


def value(result, name):
    return result.metrics[name].value


class Restated:
    """A stated encoder, and another one behind the reference's pixel statistics."""

    name, saw = "restated", ()

    def __init__(self, own, other):
        self.own, self.other, self.asked = own, other, []
        self.encode_images, self.encode_texts = own.encode_images, own.encode_texts

    def with_pixels(self, mean, std):
        self.asked.append((mean, std))
        return self.other


def pairs(count=40, captions=3):
    return [
        Sample(
            f"k{i}", f"image {i}".encode(), tuple(Caption(f"{c} of {i}") for c in range(captions))
        )
        for i in range(count)
    ]


@pytest.fixture
def both(vectors):
    """Return an encoder that is good, and is worse behind other pixels."""
    rng = np.random.default_rng(0)
    good, bad = {}, {}
    for i in range(40):
        centre = rng.standard_normal(12)
        for c in range(3):
            good[f"{c} of {i}"] = bad[f"{c} of {i}"] = centre + 0.3 * (c + 1) * rng.standard_normal(
                12
            )
        noise = rng.standard_normal(12)
        good[f"image {i}".encode()], bad[f"image {i}".encode()] = centre, centre + noise
    return Restated(vectors(good, 12), vectors(bad, 12))


def test_retrieval_with_and_without_each_quirk(both, list_source):
    source = list_source(pairs())
    result = run(source, both)
    assert both.asked == [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    firsts = list_source([Sample(s.key, s.image, s.captions[:1]) for s in source.samples])
    for own, encoder, mark in (
        (firsts, both.other, ""),
        (source, both.own, " (no quirk)"),
        (firsts, both.own, " (without pixels)"),
        (source, both.other, " (without first_caption)"),
    ):
        plain = retrieval.build(retrieval.Config()).run(encoder, own)
        for way in ("text_to_image", "image_to_text"):
            expected = plain.metrics[f"{way}/R@1"]
            assert value(result, f"{way}/R@1{mark}") == pytest.approx(expected.value), mark
    for quirk, mark in (("pixels", " (without pixels)"), ("all quirks", " (no quirk)")):
        found = result.metrics[f"text_to_image/R@1 (effect of {quirk})"]
        change = value(result, "text_to_image/R@1") - value(result, f"text_to_image/R@1{mark}")
        assert found.value == pytest.approx(change) and found.low < change < found.high
        assert found.items == 40
    assert value(result, "text_to_image/R@1 (effect of pixels)") < 0
    assert value(result, "text_to_image/R@1 (effect of first_caption)") > 0
    assert result.counts == {"images": 40, "captions": 40} and result.chance == 1 / 40
    assert result.protocol == (
        "lift-reference, retrieval: ImageNet's pixel statistics instead of the model's; the first "
        "caption of each image only"
    )


def test_quirks_that_are_off_are_not_measured(both, list_source):
    result = run(list_source(pairs()), both, pixels=False)
    assert not both.asked and not any("pixels" in name for name in result.metrics)
    assert result.protocol.endswith("only; without pixels")
    none = run(list_source(pairs()), both, pixels=False, first_caption=False)
    assert none.protocol == "lift-reference, retrieval: no quirk"
    assert value(none, "text_to_image/R@1") == value(none, "text_to_image/R@1 (no quirk)")


def test_other_pixels_of_an_encoder_that_has_none(vectors, list_source):
    with pytest.raises(ConfigError, match="vectors can't be given other pixel statistics"):
        run(list_source(pairs()), vectors({}))
    assert run(list_source(pairs()), vectors({}), pixels=False).counts["images"] == 40


def of_classes(*told):
    return [
        Sample(f"k{n}", f"image {n}".encode(), (), {"class_name": name, "label": str(number)})
        for n, (number, name) in enumerate(told)
    ]


def test_classes_of_one_name_are_answered_by_the_first(vectors, list_source):
    told = [(0, "crane"), (1, "maillot"), (5, "crane"), (10, "dog"), (5, "crane")]
    axis = {name: np.eye(3)[n] for n, name in enumerate(("crane", "maillot", "dog"))}
    known = {f"a photo of a {name}.": row for name, row in axis.items()}
    known |= {f"image {n}".encode(): axis[name] for n, (_, name) in enumerate(told)}
    source, encoder = list_source(of_classes(*told)), vectors(known, 3)
    options = {"task": "zeroshot", "pixels": False, "templates": ("a photo of a {}.",)}
    result = run(source, encoder, **options)
    assert value(result, "top-1") == pytest.approx(3 / 5)  # both images of class 5 are wrong
    assert value(result, "top-1 (without duplicate_names)") == 1
    assert value(result, "top-1 (effect of duplicate_names)") == pytest.approx(-2 / 5)
    assert result.counts == {"images": 5, "classes": 4, "classes with the name of another": 1}
    assert result.notes[0] == "class names of several classes: crane"
    assert result.chance == pytest.approx(3 / 5 / 3)
    assert {e["key"]: e["right"] for e in result.examples} == {
        "k0": True, "k1": True, "k2": False, "k3": True, "k4": False
    }  # fmt: skip


def test_one_prompt_is_the_first(vectors, list_source):
    told = [(0, "cat"), (1, "dog")]
    known = {"a cat": [1, 0], "a dog": [0, 1], "the cat": [-1, 0.2], "the dog": [0.2, -1]}
    known |= {b"image 0": [1, 0.1], b"image 1": [0.1, 1]}
    options = {"task": "zeroshot", "pixels": False, "templates": ("a {}", "the {}")}
    result = run(list_source(of_classes(*told)), vectors(known, 2), **options)
    assert value(result, "top-1") == 1 and value(result, "top-1 (without one_prompt)") == 0.0
    assert value(result, "top-1 (effect of one_prompt)") == 1
    with pytest.raises(DataError, match="empty 'class_name' for every image"):
        run(list_source(of_classes((0, ""), (1, ""))), vectors({}, 2), **options)


def test_images_that_the_reference_fails_on_are_wrong(vectors, list_source):
    kinds = {
        "RGB": picture(),
        "L": picture("L", (4, 2)),
        "RGBA": picture("RGBA", (5, 2)),
        "P": picture("P"),
    }
    known = {"right": [1, 0], "wrong": [0, 1]} | {image: [1, 0] for image in kinds.values()}
    broken = Sample("broken", b"no image", (), foils=(Foil("add", "right", "wrong"),))
    source = list_source(
        [Sample(k, image, (), foils=(Foil("add", "right", "wrong"),)) for k, image in kinds.items()]
        + [broken]
    )

    class Strict(vectors):
        def encode_images(self, images):
            if b"no image" in images:
                raise DataError("no image")
            return super().encode_images(images)

    options = {"task": "compositional", "pixels": False}
    result = run(source, Strict(known, 2), **options)
    name = "accuracy/mean of kinds"
    assert value(result, name) == pytest.approx(1 / 5)  # only the RGB one
    assert result.counts["images that the reference fails on"] == 4
    assert value(result, f"{name} (without errors_wrong)") == 1
    assert value(result, f"{name} (effect of errors_wrong)") == pytest.approx(-4 / 5)
    fair = run(source, Strict(known, 2), errors_wrong=False, **options)
    assert value(fair, name) == 1 and fair.counts["unreadable images"] == 1
    assert fair.counts["items"] == 4 and any("unreadable" in note for note in fair.notes)
    with pytest.raises(DataError, match="holds no foils"):
        run(list_source(pairs()), vectors({}), **options)


def test_three_channels():
    assert has_three_channels(picture()) and has_three_channels(picture("RGB", kind="JPEG"))
    for mode in ("L", "LA", "RGBA", "P", "1", "I;16"):
        assert not has_three_channels(picture(mode)), mode
    assert not has_three_channels(picture("CMYK", kind="JPEG"))
    assert not has_three_channels(b"") and not has_three_channels(b"no image")


def test_options_are_checked(tmp_path):
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"examples": -1}, "examples"),
        ({"templates": ()}, "need {}"),
        ({"templates": ("a photo",)}, "need {}"),
        ({"template_set": "x"}, "together"),
    )
    for options, words in wrong:
        with pytest.raises(ConfigError, match=words):
            lift_reference.build(lift_reference.Config(task="zeroshot", **options))
    path = tmp_path / "sets.json"
    path.write_text('{"own": {"classes": ["a"], "templates": ["some {}", "one {}"]}}')
    config = lift_reference.Config(task="zeroshot", template_file=str(path), template_set="own")
    protocol = lift_reference.build(config).protocol
    assert "template 'some {}' of 2 [" in protocol
    path.write_text('{"own": {"classes": ["a"], "templates": ["some {}", "two {}"]}}')
    assert lift_reference.build(config).protocol != protocol
