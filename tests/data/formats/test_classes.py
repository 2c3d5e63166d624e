"""Class folders: names from everywhere, templates, and what is no class."""

from __future__ import annotations

import json

import pytest

from lift.config import Part
from lift.data.source import open_source
from lift.errors import BrokenSample, ConfigError, DataError


def classes(path, **options):
    return open_source(Part("data/formats", "classes", {"path": str(path), **options}))


def make(path, picture, *folders):
    for number, folder in enumerate(folders):
        (path / folder).mkdir(parents=True)
        for place in range(2):
            (path / folder / f"{place}.png").write_bytes(picture(10 * number + place))
    return path


@pytest.fixture
def pets(tmp_path, picture):
    return make(tmp_path / "pets", picture, "great_white-shark", "cat")


@pytest.fixture
def imagenet(tmp_path, picture):
    return make(tmp_path / "imagenet", picture, "n01443537", "n01440764")


def test_folders_name_their_class(pets):
    source = classes(pets)
    told = [(key, [c.text for c in captions]) for key, captions in source.texts()]
    assert told == [
        ("cat/0.png", ["a photo of a cat."]),
        ("cat/1.png", ["a photo of a cat."]),
        ("great_white-shark/0.png", ["a photo of a great white shark."]),
        ("great_white-shark/1.png", ["a photo of a great white shark."]),
    ]
    sample = source.read(3)
    assert sample.image == (pets / "great_white-shark" / "1.png").read_bytes()
    assert dict(sample.fields) == {
        "label": "1",
        "class": "great white shark",
        "folder": "great_white-shark",
    }
    assert sample.captions[0].role == "class" and source.counters == {}


def test_templates_and_deep_folders(pets, picture, tmp_path):
    (pets / "cat" / "tabby").mkdir()
    (pets / "cat" / "tabby" / "2.png").write_bytes(picture())
    given = classes(pets, templates=["a {}", "{} and {0} {}"])
    assert [c.text for c in given.read(2).captions] == ["a cat", "cat and {0} cat"]
    assert given.read(2).key == "cat/tabby/2.png"
    (tmp_path / "t.txt").write_text("a drawing of a {}\n\n  the {}.  \r\n")
    of_file = classes(pets, templates=str(tmp_path / "t.txt"))
    assert [c.text for c in of_file.read(0).captions] == ["a drawing of a cat", "the cat."]
    with pytest.raises(ConfigError, match=r"The template 'a dog' has no \{\}"):
        classes(pets, templates="a dog")
    with pytest.raises(ConfigError, match="templates holds none"):
        classes(pets, templates=[])


@pytest.mark.parametrize(
    "name, content",
    [
        ("names.json", json.dumps({"n01440764": "tench", "n01443537": "gold fish", "n9": "x"})),
        ("names.json", json.dumps(["tench", "gold fish"])),
        ("names.json", json.dumps({"0": ["n01440764", "tench"], "1": ["n01443537", "gold_fish"]})),
        ("names.tsv", "n01440764\ttench\nn01443537\tgold fish\n"),
        ("names.txt", "n01440764 tench, Tinca tinca\n\nn01443537 gold fish, Carassius auratus\n"),
    ],
)
def test_names_from_a_file(imagenet, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    source = classes(imagenet, names=str(tmp_path / name), templates="{}")
    assert [c[0].text for _, c in source.texts()] == ["tench", "tench", "gold fish", "gold fish"]
    assert source.read(3).fields["folder"] == "n01443537" and source.read(3).fields["label"] == "1"


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("n.json", '["one"]', "has 1 names for the 2 folders"),
        ("n.json", '{"n01440764": "tench"}', r"no name for 1 folders .*the first: n01443537"),
        ("n.json", '{"n01440764": 3}', "holds neither"),
        ("n.json", "{", "is not JSON"),
        ("n.json", '["a", " "]', "n01443537 of .* has an empty name"),
        ("n.txt", b"\xff\xff", "is not UTF-8"),
        ("n.txt", None, "can't be read"),
    ],
)
def test_names_that_do_not_fit(imagenet, tmp_path, name, content, sentence):
    if content is not None:
        raw = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=sentence):
        classes(imagenet, names=str(tmp_path / name))


def test_wordnet_numbers_are_no_names(imagenet):
    with pytest.raises(ConfigError, match=r"2 folders .* WordNet numbers .*give names=FILE"):
        classes(imagenet)


def test_what_is_no_class_is_counted(pets, picture, tmp_path):
    (pets / "top.png").write_bytes(picture())
    (pets / "empty class").mkdir()
    (pets / "cat" / "notes.json").write_text("{}")
    (pets / "cat" / "zero.png").write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    (pets / "link").symlink_to(tmp_path / "elsewhere")
    source = classes(pets)
    assert len(source) == 4
    assert source.counters == {
        "other file": 1,
        "empty image": 1,
        "link out of the folder": 1,
        "image without caption": 1,
        "class without images": 2,
    }
    assert source.read(3).fields["label"] == "2"  # numbers follow the folders, empty ones too
    with pytest.raises(BrokenSample):
        classes(pets, strict=True)


def test_nothing_there(tmp_path, picture):
    with pytest.raises(DataError, match="No folder is at"):
        classes(tmp_path / "nowhere")
    (tmp_path / "a.png").write_bytes(picture())
    with pytest.raises(DataError, match="holds no folders; classes are folders of images"):
        classes(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="holds no samples; left out: 1 image without caption"):
        classes(tmp_path)


def test_splits_are_no_classes(tmp_path, picture):
    for name in ("train/cat", "val/cat"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.png").write_bytes(picture())
    with pytest.raises(ConfigError, match=r"are splits \(train, val\), not classes; set path to"):
        open_source(Part("data/formats", "classes", {"path": str(tmp_path)}))


def test_a_link_to_itself_is_no_class(pets):
    (pets / "circle").symlink_to("circle")
    (pets / "cat" / "circle.png").symlink_to("circle.png")
    source = classes(pets)
    assert len(source) == 4 and source.counters["image missing"] == 1
