"""Every real data set opens by the words that a user would write, with its known traps."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from lift.data.image import decode
from lift.data.source import Captions, left_out, open_source
from lift.errors import ConfigError, DataError
from lift.terms import Source

SETS = {
    "flickr8k": 2600,  # its val-0000.tar is another split, and left aside
    "flickr8k/val-0000.tar": 400,
    "flickr8k/train-*.tar": 2600,
    "flickr8k/*.tar": 3000,
    "fashion-products": 14_000,
    "fashion-products/test.parquet": 2000,
    "emoji": 1644 + 1906,
    "emoji/noto-0000.tar": 1644,
    "emoji/twemoji-0000.tar": 1906,
    "caltech101-a": 350,
    "caltech101-a/test.parquet": 350,
    "cifar10": 5000,
    "cifar10/test.parquet": 5000,
    "nlvr": 1978,
    "nlvr/dev.parquet": 1978,
    "coco-sugarcrepe-mini": 39,
    "coco-sugarcrepe-mini/images.json": 39,
    "text/coco_captions_val2017.jsonl.gz": 25_014,
    "text/iiw400.jsonl.gz": 400,
    "text/iiw_docci_test.jsonl.gz": 100,
}
"""Samples by what stands behind `--data`; the counts are those of the READMEs."""


def modes(source: Source, count: int) -> Counter[str]:
    """Decode `count` images spread over a source; return how many there are of each mode."""
    found: Counter[str] = Counter()
    for number in range(0, len(source), max(1, len(source) // count)):
        content = source.read(number).image
        with Image.open(io.BytesIO(content)) as image:
            found[image.mode] += 1
            size = image.height, image.width
        assert decode(content).shape == (3, *size)
    return found


@pytest.mark.parametrize("words", SETS)
def test_opens_by_its_path_alone(shared_data: Path, words: str) -> None:
    source = open_source(str(shared_data / words))
    keys, texts = [], 0
    for key, captions in source.texts():
        keys.append(key)
        texts += bool(captions) and all(caption.text.strip() for caption in captions)
    assert len(source) == len(keys) == texts == SETS[words] and left_out(source) == {}
    assert words.startswith("text/") or len(set(keys)) == len(keys)


def test_five_captions_an_image_and_keys_in_no_order(shared_data: Path) -> None:
    source = open_source(str(shared_data / "flickr8k"))
    told = dict(source.texts())
    assert {len(captions) for captions in told.values()} == {5}
    assert {c.role for captions in told.values() for c in captions} == {"raw"}
    assert sorted(told) != list(told)
    for number in (0, 649, 650, 2599):
        sample = source.read(number)
        assert sample.key == list(told)[number] and sample.captions == told[sample.key]
        assert sample.fields["split"] == "train" and sample.key.endswith(sample.fields["key"])
        assert list(sample.captions[0].text.split()) == sample.captions[0].text.split(" ")
    assert modes(source, 5) == {"RGB": 5}
    # Splits of one set share no key, whatever the name of the shard in front of it.
    judged = open_source(str(shared_data / "flickr8k/val-0000.tar"))
    assert not {key for key, _ in judged.texts()} & {key.split("/")[1] for key in told}
    assert sum(1 for _ in Captions([judged])) == 2000


def test_palettes_and_transparency(shared_data: Path) -> None:
    found = modes(open_source(str(shared_data / "emoji/twemoji-0000.tar")), 40)
    assert set(found) == {"P", "RGBA"} and found["P"] > 5 * found["RGBA"]
    noto = open_source(str(shared_data / "emoji/noto-0000.tar"))
    assert set(modes(noto, 10)) == {"RGBA"}
    corner = decode(noto.read(0).image)[:, 0, 0]
    assert corner.tolist() == [255, 255, 255]  # what is transparent shows the white below
    both = open_source(str(shared_data / "emoji"))
    assert both.groups == (1644, 1906)
    assert both.read(1644).captions == both.read(0).captions  # in two styles


def test_grey_images_and_classes_as_captions(shared_data: Path) -> None:
    names = json.loads((shared_data / "caltech101-a/classes.json").read_text())
    for split in ("train", "test"):
        source = open_source(str(shared_data / f"caltech101-a/{split}.parquet"))
        assert set(modes(source, 117)) == {"RGB", "L"}
        told = Counter(captions[0].text for _, captions in source.texts())
        assert len(told) == 35 and set(told.values()) == {10}
        sample = source.read(3)
        assert sample.key.startswith("101_ObjectCategories/")
        label = int(sample.fields["label"])
        known = names[label] if isinstance(names, list) else names[str(label)]
        assert sample.captions[0].text in json.dumps(known)


def test_small_images_of_ten_classes(shared_data: Path) -> None:
    source = open_source(str(shared_data / "cifar10"))
    told = Counter(captions[0].text for _, captions in source.texts())
    assert sorted(told) == sorted(json.loads((shared_data / "cifar10/classes.json").read_text()))
    assert set(told.values()) == {500} and modes(source, 20) == {"RGB": 20}
    assert source.read(0).key.startswith("train/")


def test_products_with_attributes(shared_data: Path) -> None:
    source = open_source(str(shared_data / "fashion-products"))
    assert source.groups == (1000,) * 14
    sample = source.read(7)
    wanted = {"master_category", "sub_category", "article_type", "base_colour", "usage"}
    assert wanted <= set(sample.fields) and sample.captions[0].role == "title"
    assert set(modes(source, 20)) <= {"RGB", "L"}
    judged = open_source(str(shared_data / "fashion-products/test.parquet"))
    assert not {key for key, _ in source.texts()} & {key for key, _ in judged.texts()}


def test_sentences_that_come_with_several_images(shared_data: Path) -> None:
    source = open_source(str(shared_data / "nlvr"))
    assert set(modes(source, 10)) == {"RGBA"}
    told = Counter(captions[0].text for _, captions in source.texts())
    assert len(told) < 989 and source.read(0).fields["label"] in ("true", "false")


def test_photos_with_licences_and_questions(shared_data: Path) -> None:
    photos = open_source(str(shared_data / "coco-sugarcrepe-mini"))
    assert all(len(captions) >= 5 for _, captions in photos.texts())
    assert len({photos.read(number).fields["licence"] for number in range(39)}) == 6
    assert modes(photos, 39) == {"RGB": 39}
    questions = open_source(str(shared_data / "coco-sugarcrepe-mini/sugarcrepe"))
    kinds = Counter(f.kind for n in range(len(questions)) for f in questions.read(n).foils)
    assert kinds == {
        **{"add_att": 4, "add_obj": 15, "replace_att": 9, "replace_obj": 9},
        **{"replace_rel": 10, "swap_att": 7, "swap_obj": 3},
    }


@pytest.mark.parametrize(
    "words, error, sentence",
    [
        ("", ConfigError, "does not tell its layout"),  # eight data sets in one folder
        ("coco-sugarcrepe-mini/images", ConfigError, "without captions, and their names"),
        ("text/clip_prompts.json", ConfigError, "neither images nor captions"),
        ("cifar10/classes.json", ConfigError, "neither images nor captions"),
        ("text/sugarcrepe", DataError, "No folder of photos .*set images=FOLDER"),
        ("text/coco_val_hard_negatives_aro.tsv.gz", ConfigError, "end the path in one of"),
    ],
)
def test_what_is_no_set_of_pairs_says_so(
    shared_data: Path, words: str, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        open_source(str(shared_data / words))
