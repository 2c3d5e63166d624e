"""Flickr30k's caption files in every form, with their known traps."""

from __future__ import annotations

import csv
import json

import pytest

from lift.config import Part
from lift.data.source import open_source
from lift.errors import BrokenSample, DataError

NAMES = ("1000092795.jpg", "10002456.jpg", "1000268201.jpg")
TOLD = {name: [f'{name[:4]} {n}, and a "dog" .' for n in range(5)] for name in NAMES}
SPLITS = dict(zip(NAMES, ("train", "val", "train"), strict=True))


def flickr(path, **options):
    return open_source(Part("data/formats", "flickr30k", {"path": str(path), **options}))


def texts(source):
    return {key: [c.text for c in captions] for key, captions in source.texts()}


def photos(folder, picture):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NAMES):
        (folder / name).write_bytes(picture(number, kind="JPEG"))


def annotations(path):
    with open(path / "flickr_annotations_30k.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["raw", "sentids", "split", "filename", "img_id"])
        for number, name in enumerate(NAMES):
            ids = list(range(5))
            table.writerow([json.dumps(TOLD[name]), ids, SPLITS[name], name, number])


def results(path):
    lines = ["image_name| comment_number| comment"]
    lines += [f"{n}| {k}| {text}" for n in NAMES for k, text in enumerate(TOLD[n])]
    (path / "results.csv").write_text("\n".join(lines))


def token(path, name="results_20130124.token"):
    lines = [f"{n}#{k}\t{text}" for n in NAMES for k, text in enumerate(TOLD[n])]
    (path / name).write_text("\n".join(lines) + "\n")


def captions_txt(path):
    lines = ["image,caption", *(f"{n},{text}" for n in NAMES for text in TOLD[n])]
    (path / "captions.txt").write_text("\n".join(lines))


def karpathy(path):
    entries = [
        {"filename": n, "split": SPLITS[n], "imgid": k, "sentences": [{"raw": t} for t in TOLD[n]]}
        for k, n in enumerate(NAMES)
    ]
    (path / "dataset_flickr30k.json").write_text(json.dumps({"images": entries}))


@pytest.mark.parametrize(
    "make, folder",
    [
        (annotations, "flickr30k-images"),
        (results, "flickr30k_images/flickr30k_images"),
        (token, "images"),
        (lambda path: token(path, "Flickr8k.token.txt"), "Flicker8k_Dataset"),
        (captions_txt, "Images"),
        (karpathy, "flickr30k-images"),
        (results, "."),
    ],
)
def test_every_form_with_its_folder(tmp_path, picture, make, folder):
    photos(tmp_path / folder, picture)
    make(tmp_path)
    source = flickr(tmp_path)
    assert {key.rpartition("/")[2]: told for key, told in texts(source).items()} == TOLD
    sample = source.read(1)
    assert sample.image == (tmp_path / folder / "10002456.jpg").read_bytes()
    assert len(sample.captions) == 5 and sample.captions[0].role == "raw"
    assert source.counters == {} and source.name.startswith("flickr")
    given = flickr(
        next(p for p in tmp_path.iterdir() if p.is_file()), images=str(tmp_path / folder)
    )
    assert list(texts(given)) == sorted(NAMES)


@pytest.mark.parametrize("make", [annotations, karpathy])
def test_splits(tmp_path, picture, make):
    photos(tmp_path / "images", picture)
    make(tmp_path)
    source = flickr(tmp_path, split="train")
    assert list(texts(source)) == ["1000092795.jpg", "1000268201.jpg"]
    assert source.read(0).fields["split"] == "train"
    assert source.counters == {
        "of another split": 1,
        "of another split or without caption": 1,
    }
    assert len(flickr(tmp_path, split=["train", "val"], strict=True)) == 3


def test_files_without_splits_say_so(tmp_path, picture):
    photos(tmp_path / "images", picture)
    results(tmp_path)
    with pytest.raises(DataError, match=r"results\.csv says nothing of splits"):
        flickr(tmp_path, split="train")


def test_the_row_without_its_second_separator(tmp_path, picture):
    photos(tmp_path / "images", picture)
    results(tmp_path)
    path = tmp_path / "results.csv"
    path.write_text(path.read_text().replace("1000268201.jpg| 4|", "1000268201.jpg| 4  "))
    source = flickr(tmp_path)
    assert [len(told) for told in texts(source).values()] == [5, 5, 4]
    assert source.counters == {"row of another form": 1}
    assert source.examples["row of another form"] == "results.csv, row 16"
    with pytest.raises(BrokenSample, match=r"results\.csv, row 16: row of another form"):
        flickr(tmp_path, strict=True)


def test_missing_and_spare_photos(tmp_path, picture):
    photos(tmp_path / "images", picture)
    token(tmp_path)
    (tmp_path / "images" / NAMES[0]).rename(tmp_path / "images" / "spare.jpg")
    with open(tmp_path / "results_20130124.token", "a") as file:
        file.write("2258277193_586949ec62.jpg.1#0\tpeople waiting\n10002456.jpg#9\t \n")
    source = flickr(tmp_path)
    assert list(texts(source)) == ["10002456.jpg", "1000268201.jpg"]
    assert source.counters == {
        "caption without image": 6,
        "empty caption": 1,
        "image without caption": 1,
    }
    assert "row 1 ('1000092795.jpg')" in source.examples["caption without image"]


def test_nothing_there(tmp_path, picture):
    with pytest.raises(DataError, match="No path was given"):
        open_source(Part("data/formats", "flickr30k"))
    with pytest.raises(DataError, match=r"No flickr_annotations_\*\.csv or"):
        flickr(tmp_path)
    token(tmp_path)
    with pytest.raises(DataError, match="No folder of photos at"):
        flickr(tmp_path)
    (tmp_path / "dataset_flickr8k.json").write_text('{"images": [{"filename": "x"}, 3]}')
    photos(tmp_path / "images", picture)
    with pytest.raises(DataError, match=r"holds no samples; left out: .*2 row of another form"):
        flickr(tmp_path)
