"""What is asked of data sets: splits that are held out, lists of classes, pairs nobody names."""

from __future__ import annotations

import importlib.util
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lift import plugins
from lift.catalog import any_pairs, class_tables, imagenet, imagenet_shifts, search
from lift.catalog._plans import by_split, prompts, words_of
from lift.config import Part
from lift.data.source import parse_part
from lift.errors import ConfigError
from lift.evaluation import parse_plan

MINIATURES = Path(__file__).parents[1] / "miniatures"


def picture(number=0):
    out = io.BytesIO()
    Image.new("RGB", (6, 5), (20 * number, 10, 200)).save(out, "PNG")
    return out.getvalue()


def miniature(name, folder):
    found = importlib.util.spec_from_file_location(name, MINIATURES / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    folder.mkdir(parents=True)
    module.write(folder)
    return folder


def tar(path, first, captions=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for number in range(first, first + 3):
            text = "\n".join(f"thing {number} {copy}" for copy in range(captions)).encode()
            for ending, content in (("png", picture(number)), ("txt", text)):
                entry = tarfile.TarInfo(f"{number}.{ending}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def names(found):
    return [word.partition(":")[0] for one in found for word in one.on]


# --- splits and words ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "held", "taught"),
    [
        (["train-0.tar", "val-0.tar", "test-0.tar", "test-1.tar"], ["test-0.tar", "test-1.tar"], 1),
        (["train.parquet", "validation.parquet"], ["validation.parquet"], 1),
        (["a.tar", "b.tar"], ["a.tar", "b.tar"], 0),
        (["train-0.tar"], ["train-0.tar"], 0),
        (["testing.tar", "training-0.tar"], ["testing.tar"], 1),
    ],
)
def test_what_is_held_out(files, held, taught):
    ours, theirs = by_split([Path(name) for name in files])
    assert [file.name for file in ours] == held and len(theirs) == taught


def test_a_part_in_words_is_that_part_again():
    options = {"path": "/a b/x,y=1.tar", "caption_field": [".txt:raw", "tags:tag"]}
    part = Part("data/formats", "webdataset", options)
    assert parse_part("data/formats", words_of(part)) == part
    plain = Part("data/formats", "coco", {"path": "/data/annotations/c.json", "split": "test"})
    assert words_of(plain) == "coco:path=/data/annotations/c.json,split=test"
    number = Part("data/formats", "coco", {"path": "123", "strict": True})
    assert parse_part("data/formats", words_of(number)) == number


# --- any pairs -----------------------------------------------------------------------------------


def test_the_split_that_is_not_trained_on_is_judged(tmp_path):
    tar(tmp_path / "train-0.tar", 0)
    tar(tmp_path / "val-0.tar", 3)
    found = any_pairs.look(tmp_path)
    assert names(found) == ["retrieval", "robustness"]
    assert all("val-0.tar" in word and "train-0" not in word for one in found for word in one.on)
    assert all(plan.data for one in found for plan in one.plans())


def test_several_captions_make_a_mixed_index(tmp_path):
    tar(tmp_path / "x.tar", 0, captions=2)
    found = any_pairs.look(tmp_path)
    assert names(found) == ["retrieval", "retrieval", "mixed", "robustness"]


def test_splits_in_folders(tmp_path):
    for split in ("train", "test"):
        for kind in ("cat", "dog"):
            for number in range(2):
                (tmp_path / split / kind).mkdir(parents=True, exist_ok=True)
                (tmp_path / split / kind / f"{number}.png").write_bytes(picture(number))
    found = any_pairs.look(tmp_path)
    assert names(found) == ["zeroshot", "knn", "linear_probe", "few_shot"]
    assert all(f"path={tmp_path}/test" in word.partition(",")[0] for word in found[0].on)
    assert "train=[classes:path=" in found[0].on[1]
    assert any_pairs.look(tmp_path / "train") == []
    assert names(any_pairs.look(tmp_path / "test")) == ["zeroshot"]
    assert [one.folder for one in search(tmp_path).found] == [str(tmp_path)]


def test_texts_alone_are_nothing_to_judge(tmp_path, shared_data):
    (tmp_path / "captions.txt").write_text("a\nb\n")
    assert any_pairs.look(tmp_path) == []
    assert search(tmp_path).unknown == (str(tmp_path),)
    assert any_pairs.look(shared_data / "text") == []


def test_data_sets_side_by_side_stay_apart(tmp_path):
    tar(tmp_path / "a" / "0.tar", 0)
    tar(tmp_path / "b" / "0.tar", 3)
    miniature("urban1k", tmp_path / "c")
    found = search(tmp_path).found
    assert [(Path(one.folder).name, one.name) for one in found] == [
        ("a", "any_pairs"),
        ("b", "any_pairs"),
        ("c", "urban1k"),
    ]


# --- classes -------------------------------------------------------------------------------------


def table(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)


def test_classes_that_nobody_taught_are_asked_coarser(tmp_path):
    rows = [("shoe", "wear"), ("hat", "wear"), ("cup", "home")]
    made = [{"image": picture(), "article_type": a, "master_category": b} for a, b in rows]
    table(tmp_path / "test.parquet", made)
    table(tmp_path / "train.parquet", made[1:] * 2)
    words = class_tables.look(tmp_path)[0].on
    assert "label=article_type" in words[0]
    assert all("label=master_category" in word for word in words[1:])
    table(tmp_path / "train.parquet", made[1:2])
    assert names(class_tables.look(tmp_path)) == ["zeroshot"]


def test_a_list_of_classes_that_is_missing_is_named(tmp_path):
    folder = miniature("imagenet", tmp_path / "set")
    (folder / "LOC_synset_mapping.txt").unlink()
    found = imagenet.look(folder)
    with pytest.raises(ConfigError, match=r"codes=FILE.*LOC_synset_mapping.txt"):
        plugins.build(parse_plan(found[0].on[0]).evaluation)


def test_shifts_have_their_own_classes(tmp_path):
    folder = miniature("imagenet_shifts", tmp_path / "set")
    (in_words,) = imagenet_shifts.look(folder / "imagenet-r")[0].on
    assert "label_holds=code" in in_words and "among=present" in in_words
    (of_numbers,) = imagenet_shifts.look(folder / "imagenetv2-matched-frequency")[0].on
    assert "label_holds=number" in of_numbers and "among" not in of_numbers
    assert imagenet.look(folder / "imagenet-r") == []
    (folder / "imagenet-r").rename(folder / "renditions")
    assert "among=present" in imagenet.look(folder / "renditions")[0].on[0]


def test_templates_that_lie_near_are_asked_too(tmp_path):
    (tmp_path / "text").mkdir()
    told = {"CIFAR10": {"classes": ["x"], "templates": ["a {}"]}}
    (tmp_path / "text" / "clip_prompts.json").write_text(json.dumps(told))
    file = tmp_path / "text" / "clip_prompts.json"
    words = f",template_file={file},template_set=CIFAR10"
    assert prompts(tmp_path / "cifar10", "cifar-10") == words
    assert prompts(tmp_path / "cifar10", "cifar10", classes=True) == f"{words},class_set=CIFAR10"
    assert prompts(tmp_path / "x", "imagenet") == ""
    file.write_text("[" * 100_000)
    assert prompts(tmp_path / "cifar10", "cifar10") == ""


def test_what_is_asked_of_the_real_data(shared_data):
    found = {Path(one.folder).name: one for one in search(shared_data).found}
    assert not {"text"} & set(found)
    assert "val-0000.tar" in found["flickr8k"].on[0]
    assert not any("train" in word for word in found["flickr8k"].on)
    assert any("template_set=CIFAR10" in word for word in found["cifar10"].on)
    for one in found.values():
        assert len(one.plans()) == len(one.on)


def test_very_many_folders_are_not_all_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("lift.catalog._FOLDERS", 4)
    monkeypatch.setattr("lift.catalog._MOST", 9)
    for number in range(6):
        (tmp_path / f"d{number}" / "in").mkdir(parents=True)
    found = search(tmp_path)
    assert found.unseen == (str(tmp_path),) and not found.found
    monkeypatch.setattr("lift.catalog._MOST", 4)
    assert len(search(tmp_path).unseen) == 4


def test_each_folder_is_looked_at_once(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(imagenet, "look", lambda folder: seen.append(folder) or [])
    (tmp_path / "a" / "b").mkdir(parents=True)
    search(tmp_path)
    assert sorted(seen) == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]


def test_what_the_disk_refuses_is_no_data_set(tmp_path, monkeypatch):
    def refused(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    for name in ("imagenet", "any_pairs"):
        monkeypatch.setattr(plugins.load("catalog", name), "look", refused)
    (tmp_path / "itself").symlink_to("itself")
    found = search(tmp_path)
    assert not found.found and found.unknown == found.unseen == (str(tmp_path),)
