"""Pascal VOC's folders: lists, masks, names, and what strangers may have put there."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from lift.config import Part
from lift.data.formats.voc import NAMES
from lift.data.guess import guess
from lift.data.source import left_out, open_source
from lift.errors import BrokenSample, ConfigError, DataError


def voc(path, **options):
    return open_source(Part("data/formats", "voc", {"path": str(path), **options}))


def mask_of(*values) -> bytes:
    image = Image.fromarray(np.array([values], np.uint8))
    image.putpalette([value % 256 for value in range(768)])
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def kit(tmp_path, picture):
    """Return a folder of three photos: a cat and a dog, a dog, and nothing."""
    root = tmp_path / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    masks = {"2007_000032": (0, 8, 8, 12, 255), "2008_1": (12, 12, 12, 0, 0), "2009_2": (0, 0, 255)}
    for number, (name, mask) in enumerate(masks.items()):
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(picture(number))
        (root / "SegmentationClass" / f"{name}.png").write_bytes(mask_of(*mask))
    lists = root / "ImageSets" / "Segmentation"
    (lists / "val.txt").write_text("2009_2\n2007_000032\n\n")
    (lists / "train.txt").write_text("2008_1\r\n")
    return root


def told(source):
    return {key: [caption.text for caption in captions] for key, captions in source.texts()}


def test_lists_masks_and_names(kit):
    source = voc(kit)
    assert told(source) == {
        "2007_000032": ["a photo of a cat.", "a photo of a dog."],
        "2009_2": ["a photo of a background."],
    }
    sample = source.read(0)
    assert sample.image == (kit / "JPEGImages" / "2007_000032.jpg").read_bytes()
    assert sample.mask == mask_of(0, 8, 8, 12, 255)
    assert json.loads(sample.fields["mask_classes"]) == list(NAMES)
    assert len(NAMES) == 21 and NAMES[0] == "background" and NAMES[20] == "tv monitor"
    assert list(told(voc(kit, split="train"))) == ["2008_1"]
    assert len(voc(kit, split="")) == 3
    given = voc(
        kit, names=["nothing"] + [f"kind {n}" for n in range(1, 10)], templates=["{}", "a {}"]
    )
    assert told(given)["2007_000032"] == ["kind 8", "a kind 8", "nothing", "a nothing"]


def test_the_layout_is_guessed(kit):
    for path in (kit, kit.parent):
        found = guess(str(path))
        assert found.part == Part("data/formats", "voc", {"path": str(kit), "split": "val"})
        assert [other.options["split"] for other in found.others] == ["train"]
    (kit / "ImageSets" / "Segmentation" / "val.txt").unlink()
    assert guess(str(kit)).part.options["split"] == "train"
    (kit / "ImageSets" / "Segmentation" / "train.txt").unlink()
    assert guess(str(kit)).part.options["split"] == ""


def test_what_is_missing_is_counted_or_told(kit):
    lists = kit / "ImageSets" / "Segmentation"
    (lists / "val.txt").write_text(
        "2009_2\n2009_2\nabsent\n../../etc/passwd\n.hidden\n" + "x" * 300
    )
    source = voc(kit)
    assert list(told(source)) == ["2009_2"]
    assert left_out(source) == {
        "image missing": 1, "image path that is none": 3, "duplicate key": 1
    }  # fmt: skip
    with pytest.raises(BrokenSample, match="strict=true"):
        voc(kit, strict=True)
    with pytest.raises(ConfigError, match=r"no list test in .* \(there: train, val\)"):
        voc(kit, split="test")
    with pytest.raises(ConfigError, match="split is the name of a list"):
        voc(kit, split="../../../secrets")
    with pytest.raises(ConfigError, match=r"has no \{\}"):
        voc(kit, templates=["a photo"])
    with pytest.raises(ConfigError, match="1 to 255 names"):
        voc(kit, names=["a", " "])
    with pytest.raises(DataError, match="No folder is at"):
        voc(kit / "absent")
    (lists / "val.txt").write_text("absent\n")
    with pytest.raises(DataError, match="holds no samples"):
        voc(kit)
    (lists / "val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        voc(kit)


def test_masks_that_can_t_be_read_are_told(kit, tmp_path):
    masks = kit / "SegmentationClass"
    (masks / "2009_2.png").unlink()
    with pytest.raises(BrokenSample, match=r"Sample 2009_2: .*2009_2.png can't be read"):
        voc(kit).read(1)
    for content in (b"", b"no image", mask_of(1)[:-30]):
        (masks / "2009_2.png").write_bytes(content)
        with pytest.raises(BrokenSample, match="Sample 2009_2: its mask can't be read"):
            voc(kit).read(1)
    source = voc(kit)
    assert told(source)["2009_2"] == [] and left_out(source) == {"unreadable mask": 1}
    coloured = io.BytesIO()
    Image.new("RGB", (4, 4)).save(coloured, "PNG")
    (masks / "2009_2.png").write_bytes(coloured.getvalue())
    with pytest.raises(BrokenSample, match="4 x 4 of mode RGB"):
        voc(kit).read(1)
    (masks / "2009_2.png").write_bytes(mask_of(255, 255))
    assert voc(kit).read(1).captions == ()
    (tmp_path / "outside.png").write_bytes(mask_of(12))
    (masks / "2009_2.png").unlink()
    os.symlink(tmp_path / "outside.png", masks / "2009_2.png")
    with pytest.raises(BrokenSample, match="lies outside"):
        voc(kit).read(1)
    assert voc(kit, allow_outside=True).read(1).captions[0].text == "a photo of a dog."
