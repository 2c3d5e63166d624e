"""Changed images: what each change does to pixels, and what the figures on them are."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lift.errors import BrokenSample, ConfigError, DataError
from lift.evals import _changes as changes
from lift.evals import robustness
from lift.evals._asked import Captions, Labels
from lift.evals._changes import CHANGES, changed
from lift.terms import Caption, Encoder, Sample


def file_of(pixels, kind="PNG", **options) -> bytes:
    out = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.uint8(pixels))
    image.save(out, kind, **options)
    return out.getvalue()


def pixels_of(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image).astype(int)


@pytest.fixture
def photo() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    return np.asarray(coarse.resize((80, 60), Image.Resampling.BICUBIC))


# --- changes ------------------------------------------------------------------------------------


def test_each_change_does_what_it_says(photo):
    after = {name: pixels_of(changed(file_of(photo), name, "a wrong text")) for name in CHANGES}
    grey = after["greyscale"]
    assert (grey[..., 0] == grey[..., 1]).all() and (grey[..., 0] == grey[..., 2]).all()
    assert grey[..., 0] == pytest.approx(photo @ [0.299, 0.587, 0.114], abs=1)
    assert np.array_equal(after["flip"], photo[:, ::-1])
    assert after["half"].shape == (30, 40, 3) and after["quarter"].shape == (15, 20, 3)
    means = photo.reshape(30, 2, 40, 2, 3).mean((1, 3))
    assert np.abs(after["half"] - means).mean() < 3
    losses = [np.abs(after[name] - photo).mean() for name in ("jpeg30", "jpeg10")]
    assert 0.2 < losses[0] < losses[1] < 15
    text = after["text"]
    assert np.array_equal(text[:44], photo[:44])
    band = text[46:]
    assert (band == 255).mean() > 0.5 and (band < 100).mean() > 0.01


def test_changes_are_pure_and_bounded(photo):
    content = file_of(photo)
    for name in CHANGES:
        assert changed(content, name, "text") == changed(content, name, "text")
    large = changed(file_of(np.zeros((40, 2000, 3))), "flip")
    assert pixels_of(large).shape == (10, changes.MOST_SIDE, 3)
    tiny = changed(file_of(np.zeros((1, 1, 3))), "quarter")
    assert pixels_of(tiny).shape == (1, 1, 3)
    for name in CHANGES:
        assert changed(file_of(np.zeros((1, 3, 3))), name, "x")
    assert changed(content, "text", "one wrong text") != changed(content, "text", "another")
    long = changed(content, "text", "long " * 5000)
    assert long == changed(content, "text", ("long " * 16).strip())
    for odd in ("", " \n", "日本語 🐕", "a\0b"):
        assert pixels_of(changed(content, "text", odd)).shape == photo.shape


def test_kinds_of_files_are_read_like_the_models_do(photo):
    turned = Image.fromarray(photo)
    exif = turned.getexif()
    exif[0x0112] = 6
    assert pixels_of(changed(file_of(turned, "JPEG", exif=exif), "flip")).shape == (80, 60, 3)
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert (pixels_of(changed(file_of(clear), "flip")) == 255).all()
    grey = Image.fromarray(np.full((4, 4), 40_000, np.uint16))
    assert pixels_of(changed(file_of(grey), "flip")) == pytest.approx(40_000 / 257, abs=1)
    palette = Image.fromarray(photo).quantize(8)
    assert pixels_of(changed(file_of(palette, "GIF"), "flip")).shape == (60, 80, 3)


@pytest.mark.parametrize(
    "content", [b"", b"no image", b"\x89PNG\r\n\x1a\n broken", b"%!PS-Adobe-3.0"]
)
def test_what_is_no_image_is_told(content):
    with pytest.raises(BrokenSample, match="can't be changed"):
        changed(content, "flip")


def test_too_many_pixels_are_not_decoded(monkeypatch, photo):
    monkeypatch.setattr(changes, "MOST_PIXELS", 1000)
    with pytest.raises(BrokenSample, match="80 x 60 pixels"):
        changed(file_of(photo), "flip")


# --- figures ------------------------------------------------------------------------------------


class Colours:
    """Knows plain images by their mean colour, and texts that begin with its numbers."""

    name, saw = "colours", ()

    def encode_images(self, images):
        means = [np.asarray(self._opened(image)).reshape(-1, 3).mean(0) for image in images]
        return self._unit(np.stack(means))

    def encode_texts(self, texts):
        known = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
        words = [text.removeprefix("a photo of a ").split()[0].strip(".") for text in texts]
        return self._unit(np.array([known[word] for word in words], float))

    @staticmethod
    def _opened(image):
        try:
            return Image.open(io.BytesIO(image)).convert("RGB")
        except OSError as error:
            raise DataError("no image") from error

    @staticmethod
    def _unit(rows):
        rows = np.concatenate([rows, np.full((len(rows), 1), 1.0)], 1)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


HUES = {"red": (250, 5, 5), "green": (5, 250, 5), "blue": (5, 5, 250)}


def coloured(count=3, words="{} thing {}"):
    names = list(HUES)
    return [
        Sample(
            f"k{at}",
            file_of(np.full((8, 12 + at, 3), HUES[names[at % 3]])),
            (Caption(words.format(names[at % 3], at)),),
            {"class": names[at % 3]},
        )
        for at in range(count)
    ]


def run(source, encoder, **options):
    return robustness.build(robustness.Config(**options)).run(encoder, source)


def test_colours_are_lost_in_grey_and_nothing_else(list_source):
    assert isinstance(Colours(), Encoder)
    result = run(list_source(coloured(30)), Colours(), label="class")
    value = {name: metric.value for name, metric in result.metrics.items()}
    assert value["top-1"] == 1 and value["top-1 (flip)"] == 1 and value["top-1 (jpeg10)"] == 1
    assert value["top-1 (greyscale)"] == pytest.approx(1 / 3)
    assert value["top-1 (greyscale - unchanged)"] == pytest.approx(-2 / 3)
    assert result.metrics["top-1 (greyscale - unchanged)"].high < -0.4
    mean = np.mean([value[f"top-1 ({name})"] for name in CHANGES])
    assert value["top-1 (mean of changes)"] == pytest.approx(mean)
    assert result.primary == "top-1 (mean of changes)" and result.chance == pytest.approx(1 / 3)
    assert result.counts == {"images": 30, "classes": 3}
    assert result.examples[0]["right"] and result.examples[0]["ranks"]["greyscale"] > 1


def test_retrieval_on_changed_images(list_source):
    source = list_source(coloured(30, "{} thing {} on the left"))
    result = run(source, Colours(), changes=("greyscale", "flip"))
    value = {name: metric.value for name, metric in result.metrics.items()}
    # Ten images of each colour tie, so all ten right ones of the ten first are as good as one.
    assert value["text_to_image/R@10"] == pytest.approx(1.0)
    assert value["text_to_image/R@10 (flip)"] == pytest.approx(1.0)
    assert value["text_to_image/R@10 (greyscale)"] < 0.5
    assert value["image_to_text/R@10 (greyscale)"] < value["image_to_text/R@10"]
    assert result.counts["captions with left or right"] == 30
    assert any("speak of left or right" in note for note in result.notes)
    calm = run(list_source(coloured(30)), Colours(), changes=("greyscale",))
    assert "captions with left or right" not in calm.counts
    assert calm.protocol.endswith("changed: greyscale")
    assert calm.protocol != result.protocol


def test_what_can_t_be_changed_is_left_out_of_all_figures(list_source):
    class Lenient(Colours):
        @staticmethod
        def _opened(image):
            return Colours._opened(image[5:] if image.startswith(b"ODD!!") else image)

    samples = coloured(30)
    odd = samples[4].__class__(samples[4].key, b"ODD!!" + samples[4].image, samples[4].captions)
    source = list_source([*samples[:4], odd, Sample("x", b"broken", ()), *samples[5:]])
    result = run(source, Lenient(), changes=("flip",))
    assert result.counts["images"] == 29 and result.counts["captions"] == 29
    assert result.counts["images that can't be changed"] == 1
    assert result.counts["unreadable images"] == 1
    assert result.metrics["text_to_image/R@10"].items == 29
    assert all(example["key"] != "k4" for example in result.examples)


def test_wrong_texts_are_wrong(list_source):
    pairs = [("a", "x"), ("a", "y"), ("b", "x"), ("c", "z")]
    source = list_source(
        [Sample(str(n), b"", tuple(map(Caption, own))) for n, own in enumerate(pairs)]
    )
    task = Captions(source, None)
    for number, sample in enumerate(source.samples):
        task.see(number, sample)
    for number, own in enumerate(pairs):
        wrong = task.wrong_text(number)
        assert wrong and wrong not in own
    alike = Captions(list_source([Sample(str(n), b"", (Caption("a"),)) for n in range(3)]), None)
    alike.see(1, source.samples[1])
    assert alike.wrong_text(1) == ""
    labels = Labels(source, "class", "{}")
    for number, name in enumerate(["cat", "dog", "", "cat"]):
        labels.see(number, Sample(str(number), b"", (), {"class": name}))
    assert [labels.wrong_text(n) for n in range(4)] == ["dog", "cat", "", "dog"]


def test_options_are_checked(list_source):
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"examples": -1}, "examples"),
        ({"changes": ("gray",)}, "robustness.changes"),
        ({"changes": ()}, "each once"),
        ({"changes": ("flip", "flip")}, "each once"),
        ({"template": "a photo"}, "needs {}"),
    )
    for options, words in wrong:
        with pytest.raises(ConfigError, match=words):
            robustness.build(robustness.Config(**options))
    unlabelled = [Sample("a", file_of(np.zeros((4, 4, 3))), (), {"class": ""})]
    with pytest.raises(DataError, match="empty 'class' for every image"):
        run(list_source(unlabelled), Colours(), label="class", changes=("flip",))
    with pytest.raises(DataError, match="Unknown field of list"):
        run(list_source(coloured(3)), Colours(), label="kind")
