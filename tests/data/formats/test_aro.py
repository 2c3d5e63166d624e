"""ARO's files: boxes are cut out, orders are one question, photos are found by several names."""

from __future__ import annotations

import gzip
import io
import json

import numpy as np
import pytest
from PIL import Image

from lift.config import Part
from lift.data.image import decode
from lift.data.source import left_out, open_source
from lift.errors import BrokenSample, DataError


def asked(path, **options):
    return open_source(Part("data/formats", "aro", {"path": str(path), **options}))


def boxed(image="a.png", box=(2, 1, 4, 3), **values):
    names = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
    texts = {"true_caption": "a on b", "false_caption": "b on a"}
    return {"image_path": image, **dict(zip(names, box, strict=True)), **texts, **values}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
    return tmp_path


def write(folder, *entries, name="visual_genome_relation.json"):
    (folder / name).write_text(json.dumps(list(entries)))


def test_a_box_is_cut_out_without_loss(folder):
    write(
        folder,
        boxed(),
        boxed(true_caption="c"),
        boxed(box=(-2, 5, 100, 100)),
        boxed(box=(9, 9, 1, 1)),
    )
    source = asked(folder)
    whole = decode((folder / "images" / "a.png").read_bytes()).numpy()
    first, second = source.read(0), source.read(1)
    assert first.key == "a.png#2,1,4,3" and second.key == "a.png#-2,5,100,100"
    np.testing.assert_array_equal(decode(first.image).numpy(), whole[:, 1:4, 2:6])
    np.testing.assert_array_equal(decode(second.image).numpy(), whole[:, 5:, :])
    assert Image.open(io.BytesIO(first.image)).format == "PNG"
    assert [tuple(foil) for foil in first.foils] == [
        ("relation", "a on b", "b on a", ""),
        ("relation", "c", "b on a", ""),
    ]
    with pytest.raises(BrokenSample, match=r"a part of 10 x 8 pixels that lies outside"):
        source.read(2)


def test_orders_are_one_question(folder):
    options = ["a cat sits", "cat a sits", "sits cat a"]
    write(folder, {"image": "a.png", "caption_options": options}, name="coco_order.json")
    lines = json.dumps({"image": "b/a.png", "caption_options": options[:2]})
    (folder / "flickr.jsonl").write_text(lines + "\n\n")
    source = asked(folder)
    assert [source.read(n).key for n in range(len(source))] == ["a.png", "b/a.png"]
    assert [tuple(foil) for foil in source.read(0).foils] == [
        ("coco_order", "a cat sits", "cat a sits", "coco_order/0"),
        ("coco_order", "a cat sits", "sits cat a", "coco_order/0"),
    ]
    assert source.read(1).foils[0].group == "flickr/1"
    assert len(asked(folder / "coco_order.json")) == 1


def test_a_table_of_negclip(folder):
    (folder / "images" / "000000000007.png").write_bytes((folder / "images/a.png").read_bytes())
    rows = [
        "\ttitle\tfilepath\tneg_caption\tneg_image",
        "0\tA dog's bed.\tcoco/val2014/COCO_val2014_000000000007.png\t['bed', \"dog's A.\"]\t[1]",
        "1\tA dog.\tcoco/val2014/a.png\t[]\t[1]",
        "2\tA cat.\tcoco/val2014/missing.png\t['cat A.']\t[1]",
    ]
    with gzip.open(folder / "valid.tsv.gz", "wt") as file:
        file.write("\n".join(rows))
    source = asked(folder / "valid.tsv.gz")
    assert [key for key, _ in source.texts()] == ["coco/val2014/COCO_val2014_000000000007.png"]
    assert [foil.foil for foil in source.read(0).foils] == ["bed", "dog's A."]
    assert {foil.kind for foil in source.read(0).foils} == {"order"}
    assert left_out(source) == {"image missing": 1, "row of another form": 1}


def test_the_real_table(shared_data):
    source = asked(
        shared_data / "text" / "coco_val_hard_negatives_aro.tsv.gz",
        images=str(shared_data / "coco-sugarcrepe-mini" / "images"),
    )
    assert len(source) == 4
    foils = [foil for n in range(4) for foil in source.read(n).foils]
    assert len(foils) == 7 and all(foil.group.startswith("coco_val_hard") for foil in foils)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (boxed(image=3), "question '0' names no image"),
        (boxed(box=(0, 0, 0, 3)), "has a box that is none"),
        (boxed(box=(0, 0, float("nan"), 3)), "has a box that is none"),
        (boxed(box=(0, 0, 1 << 40, 3)), "has a box that is none"),
        (boxed(box=(0, 0, "4", 3)), "has a box that is none"),
        (boxed(false_caption=""), "has an empty caption"),
        (boxed(true_caption=4), "lacks one of true_caption"),
        ({"image": "a.png", "caption_options": ["a"]}, "no list of caption_options"),
        ({"image": "a.png", "caption_options": ["a"] * 200}, "has 199 foils; up to 100"),
        (boxed(image="../images/a.png"), "holds no samples; left out: .*image missing"),
        (boxed(image="/etc/passwd"), "holds no samples"),
    ],
)
def test_other_forms_are_refused(folder, entry, sentence):
    write(folder, entry)
    with pytest.raises(DataError, match=sentence):
        asked(folder)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("t\ta.png", "row 0 has too few columns"),
        ("t\ta.png\t__import__('os')", "is not a list of texts"),
        ("t\ta.png\t[1]", "is not a list of texts"),
    ],
)
def test_tables_of_another_form_are_refused(folder, row, sentence):
    (folder / "x.tsv").write_text(f"title\tfilepath\tneg_caption\n{row}\n")
    with pytest.raises(DataError, match=sentence):
        asked(folder / "x.tsv")
    (folder / "x.tsv").write_text("caption\tfilepath\n")
    with pytest.raises(DataError, match="is not in ARO's form"):
        asked(folder / "x.tsv")


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="No file of ARO is in"):
        asked(tmp_path)
    with pytest.raises(DataError, match="No path was given"):
        open_source(Part("data/formats", "aro"))
