"""Where an export goes, what it replaces and what it refuses before it has written anything."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from export_models import CLIP, SMALL, code_of, shaped
from lift.errors import CheckpointError, ConfigError, DataError, LiftError, StorageError
from lift.export import export_model
from lift.export._pictures import in_words, made, of_source
from lift.files import sole_writer
from lift.heads import HeadConfig


@pytest.fixture(scope="module")
def bundle():
    return shaped(SMALL, HeadConfig(layers=1))


def export(bundle, out, **options):
    return export_model(bundle, "transformers", out, **{"images": made()[:2], **options})


def test_a_link_is_followed_and_a_folder_underfoot_is_refused(bundle, tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    assert export(bundle, tmp_path / "link").folder == tmp_path / "link"
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "README.md").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "link"}
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(CheckpointError, match="the folder that you are in"):
        export(bundle, ".")
    assert not os.listdir(".")


def test_only_what_an_export_wrote_is_replaced(bundle, tmp_path):
    """A user's file anywhere below is kept; what Python makes of the card's module is not his."""
    out = tmp_path / "out"
    export(bundle, out)
    (out / "__pycache__").mkdir()
    (out / "__pycache__" / "lift_image.cpython-311.pyc").write_bytes(b"")
    export(bundle, out)
    assert not (out / "__pycache__").exists()
    (out / "notes").mkdir()
    (out / "notes" / "mine.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match="something else than an export"):
        export(bundle, out)
    (out / "notes" / "mine.txt").unlink()
    with pytest.raises(CheckpointError, match="something else than an export"):
        export(bundle, out, images=Dropping(made()[:2], out / "late.txt"))
    assert (out / "late.txt").read_text() == "dropped"


class Dropping(list):
    """Pictures that put a file somewhere when they are looked at."""

    def __init__(self, pictures, path):
        super().__init__(pictures)
        self.path = path

    def __iter__(self):
        self.path.write_text("dropped")
        return super().__iter__()


def test_one_process_at_a_time_exports_to_a_folder(bundle, tmp_path):
    with sole_writer(tmp_path / "out"), pytest.raises(StorageError, match="Another process"):
        export(bundle, tmp_path / "out")


def test_no_pictures_and_no_end_are_refused(bundle, tmp_path):
    with pytest.raises(DataError, match="no picture to compare on"):
        export(bundle, tmp_path / "out", images=[])
    for tolerance in (float("inf"), float("nan"), -1.0):
        with pytest.raises(ConfigError, match="tolerance must be above 0"):
            export(bundle, tmp_path / "out", tolerance=tolerance)
    assert not list(tmp_path.iterdir())
    square = np.zeros((7, 9, 3), np.uint8)
    assert in_words([square, square]) == "2 pictures of 7 x 9 pixels"


def test_photographs_need_no_captions_to_be_compared_on(tmp_path):
    """A folder of them, or a pattern, as the help says; what can't be read is passed over."""
    photos = tmp_path / "photos"
    (photos / "b").mkdir(parents=True)
    Image.new("RGB", (5, 4)).save(photos / "a.JPG", format="PNG")
    Image.new("RGB", (7, 4)).save(photos / "b" / "b.png")
    (photos / "c.jpg").write_text("no picture")
    (photos / "c.txt").write_text("a caption")
    assert [one.shape[1] for one in of_source(str(photos))] == [5, 7]
    assert [one.shape[1] for one in of_source(str(photos / "*.JPG"))] == [5]
    assert len(of_source(str(photos), most=1)) == 1
    with pytest.raises(DataError, match="no picture that can be read"):
        of_source(str(photos / "*.jpg"))
    with pytest.raises(LiftError, match="nothing is there"):
        of_source(str(photos / "*.webp"))


def test_the_card_names_any_folder(bundle, tmp_path):
    out = tmp_path / 'a "b" \\n c'
    export(bundle, out)
    compile(code_of(out / "README.md"), "card", "exec")


@pytest.mark.parametrize("to", ["transformers", "timm", "open_clip"])
def test_positions_go_out_for_the_images_that_the_model_takes(to, tmp_path):
    """It was trained at 32 pixels and is used at 48: other libraries have no say in that."""
    bundle = shaped(CLIP, HeadConfig(layers=1, bias=False))
    transform = dataclasses.replace(bundle.transform, resolution=48)
    bundle.record = dataclasses.replace(bundle.record, transform=transform)
    done = export_model(bundle, to, tmp_path / "out", images=made()[:2])
    assert done.differences or done.unchecked
    shapes = {
        tuple(value.shape)
        for path in (tmp_path / "out").glob("*model.safetensors")
        for name, value in load_file(path).items()
        if ("position" in name or "pos_embed" in name) and value.shape[-1] == CLIP["width"]
    }
    assert shapes and all(torch.Size(shape).numel() == 37 * CLIP["width"] for shape in shapes)
    told = (tmp_path / "out" / "README.md").read_text()
    assert "17 patch" not in told and "16 patch" not in told
