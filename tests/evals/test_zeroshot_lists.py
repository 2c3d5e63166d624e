"""Zero-shot: codes of classes, classes that are present, descriptors, other languages."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lift.errors import ConfigError, DataError
from lift.evals import zeroshot
from lift.terms import Sample

CODES = {"n1": "tench, Tinca", "n2": "crane", "n3": "shark", "n4": "crane", "n5": "maillot"}


def images(labels):
    return [Sample(f"k{n}", f"image {n}".encode(), (), {"folder": s}) for n, s in enumerate(labels)]


def run(source, encoder, **options):
    return zeroshot.build(zeroshot.Config(label="folder", **options)).run(encoder, source)


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "LOC_synset_mapping.txt"
    path.write_text("".join(f"{code} {names}\n" for code, names in CODES.items()))
    return str(path)


@pytest.fixture
def index(tmp_path):
    path = tmp_path / "imagenet_class_index.json"
    told = {str(n): [c, names.split(",")[0]] for n, (c, names) in enumerate(CODES.items())}
    path.write_text(json.dumps(told))
    return str(path)


# --- codes ---------------------------------------------------------------------------------------


def test_labels_that_are_codes(lines, index, list_source, vectors):
    source = list_source(images(["n3", "n1", "n5"]))
    planted = {b"image 0": [1, 0], "shark": [1, 0], "crane": [0, 1], "maillot": [0.6, 0.8]}
    options = {"label_holds": "code", "templates": ("{}",)}
    result = run(source, vectors(planted, 2), codes=lines, **options)
    assert result.counts == {"images": 3, "classes": 5, "classes without images": 2}
    assert result.chance == 1 / 5 and result.examples[0]["label"] == "shark"
    assert any("1 class names occur more than once (crane)" in note for note in result.notes)
    assert "classes of LOC_synset_mapping.txt" in result.protocol
    other = run(source, vectors(planted, 2), codes=index, **options)
    assert other.metrics == result.metrics
    with pytest.raises(DataError, match=r"sample 'k0'.*'n9'"):
        run(list_source(images(["n9"])), vectors({}, 2), codes=lines, **options)


def test_equal_names_of_two_codes_share_what_they_get_right(lines, list_source, vectors):
    planted = {b"image 0": [1, 0], b"image 1": [1, 0], "crane": [1, 0]}
    planted |= {"tench": [0, 1], "shark": [0, 1], "maillot": [0, 1]}
    options = {"label_holds": "code", "codes": lines, "templates": ("{}",)}
    result = run(list_source(images(["n2", "n4"])), vectors(planted, 2), **options)
    assert result.metrics["top-1"].value == 0.5


def test_classes_that_are_present(lines, list_source, vectors):
    source = list_source(images(["n3", "n1", "n1"]))
    planted = {b"image 0": [0, 1], "maillot": [0, 1], "shark": [0.6, 0.8], "tench": [1, 0]}
    options = {"label_holds": "code", "codes": lines, "templates": ("{}",)}
    among_all = run(source, vectors(planted, 2), **options)
    present = run(source, vectors(planted, 2), among="present", **options)
    assert present.chance == 1 / 2 and present.counts == {"images": 3, "classes": 2}
    assert present.examples[0]["top"][0]["label"] == "shark"
    assert among_all.examples[0]["top"][0]["label"] == "maillot"
    assert present.protocol != among_all.protocol and "that are present" in present.protocol


def test_names_of_a_set_with_codes(lines, tmp_path, list_source, vectors):
    path = tmp_path / "prompts.json"
    names = ["a fish", "a bird", "another fish", "a machine", "a suit"]
    path.write_text(json.dumps({"S": {"classes": names, "templates": ["{}", "the {}"]}}))
    file = {"template_file": str(path), "template_set": "S", "class_set": "S"}
    source, encoder = list_source(images(["n2", "n5"])), vectors({})
    result = run(source, encoder, label_holds="code", codes=lines, **file)
    assert {example["label"] for example in result.examples} == {"a bird", "a suit"}
    assert not any("more than once" in note for note in result.notes)
    path.write_text(json.dumps({"S": {"classes": names[:4], "templates": ["{}"]}}))
    with pytest.raises(ConfigError, match="has 5 classes, but 4 are named"):
        run(source, encoder, label_holds="code", codes=lines, **file)


def test_numbers_count_in_the_list_of_codes(lines, list_source, vectors):
    result = run(list_source(images(["2", "0"])), vectors({}), label_holds="number", codes=lines)
    assert {example["label"] for example in result.examples} == {"shark", "tench"}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "", "holds neither"),
        ("a.txt", "n1\nn2 x\n", "holds neither"),
        ("a.txt", "n1 x\nn1 y\n", "a code twice"),
        ("a.json", "[1]", "holds neither"),
        ("a.json", '{"1": ["a", "b"]}', "stands where"),
        ("a.json", '{"0": [1, 2]}', "stands where"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("a.txt", None, "can't be read"),
    ],
)
def test_malformed_lists_of_codes(name, text, words, tmp_path):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=words):
        zeroshot.build(zeroshot.Config(label_holds="code", codes=str(path)))


# --- descriptors ---------------------------------------------------------------------------------


def test_descriptors_stand_beside_templates(tmp_path, list_source, vectors):
    path = tmp_path / "d.json"
    path.write_text(json.dumps({"hen": ["red comb"], "cow": ["long tail", "four legs"]}))
    encoder, source = vectors({}), list_source(images(["hen", "cow", "fox"]))
    plain = run(source, encoder)
    told = run(source, encoder, descriptors=str(path))
    assert plain.protocol != told.protocol and "descriptors of d.json" in told.protocol
    assert any("1 of 3 classes have no descriptors" in note for note in told.notes)
    texts = ["a photo of a hen.", "a photo of a hen, which has red comb."]
    rows = encoder.encode_texts(texts)
    mean = rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0))
    example = next(e for e in told.examples if e["label"] == "hen")
    score = next(top["score"] for top in example["top"] if top["label"] == "hen")
    image = encoder.encode_images([source.samples[0].image])[0]
    assert score == pytest.approx(float(mean @ image), abs=1e-4)
    path.write_text(json.dumps({"dragon": ["wings"], "hen": ["red comb"]}))
    notes = run(source, encoder, descriptors=str(path)).notes
    assert any("descriptors of 1 other classes are not used" in note for note in notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"dragon": ["wings"]}', "No class of .* the first is 'dragon'"),
        ("{}", "is not"),
        ("[]", "is not"),
        ('{"hen": []}', "stands where"),
        ('{"hen": "comb"}', "stands where"),
        ("{", "is not JSON"),
    ],
)
def test_descriptors_that_do_not_fit(text, words, tmp_path, list_source, vectors):
    path = tmp_path / "d.json"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        run(list_source(images(["hen", "cow"])), vectors({}), descriptors=str(path))


# --- languages -----------------------------------------------------------------------------------


@pytest.fixture
def babel(tmp_path):
    path = tmp_path / "babel_imagenet.json"
    path.write_text(json.dumps({"DE": [[4, 0], ["Badeanzug", "Schleie"]], "XX": [[9], ["x"]]}))
    return str(path)


def test_only_classes_that_a_language_names(babel, lines, list_source, vectors):
    source = list_source(images(["n1", "n2", "n5", "n5"]))
    planted = {b"image 0": [1, 0], "Schleie": [1, 0], "Badeanzug": [0, 1], b"image 2": [0, 1]}
    options = {"label_holds": "code", "codes": lines, "language": "DE", "language_file": babel}
    result = run(source, vectors(planted, 2), templates=("{}",), **options)
    assert result.counts == {"images": 3, "classes": 2, "images of other classes": 1}
    assert result.chance == 1 / 2 and "2 classes in DE" in result.protocol
    assert [e["label"] for e in sorted(result.examples, key=lambda e: e["index"])] == [
        "Schleie",
        "Badeanzug",
        "Badeanzug",
    ]
    assert result.examples[0]["key"] in ("k0", "k2", "k3")
    numbers = list_source(images(["0", "1", "4", "4"]))
    without_list = {"label_holds": "number", "language": "DE", "language_file": babel}
    other = run(numbers, vectors(planted, 2), templates=("{}",), **without_list)
    assert other.metrics == result.metrics and other.counts == result.counts
    with pytest.raises(DataError, match=r"'n9'"):
        run(list_source(images(["n9"])), vectors({}, 2), **options)
    with pytest.raises(DataError, match="is of a class that is judged"):
        run(list_source(images(["n2"])), vectors({}, 2), **options)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"DE": [[0]]}, "a list of numbers and a list of names"),
        ({"DE": [[0], ["a", "b"]]}, "one name for each number"),
        ({"DE": [[0, 0], ["a", "b"]]}, "every number once"),
        ({"DE": [[-1], ["a"]]}, "one name for each number"),
        ({"DE": [[True], ["a"]]}, "one name for each number"),
        ({"DE": [[0], [3]]}, "stands where"),
        ([], "is not"),
    ],
)
def test_malformed_languages(told, words, tmp_path):
    path = tmp_path / "b.json"
    path.write_text(json.dumps(told))
    config = zeroshot.Config(label_holds="number", language="DE", language_file=str(path))
    with pytest.raises(DataError, match=words):
        zeroshot.build(config)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label_holds": "code"}, "needs codes=FILE.*LOC_synset_mapping.txt"),
        ({"language": "DE"}, "need each other"),
        ({"language_file": "x"}, "need each other"),
        ({"bank": "x", "among": "present"}, "bank or among, not both"),
        ({"bank": "x", "descriptors": "x"}, "bank or descriptors, not both"),
    ],
)
def test_options_that_contradict_stop(options, words):
    with pytest.raises(ConfigError, match=words):
        zeroshot.build(zeroshot.Config(**options))


def test_languages_need_numbers_that_fit(babel, lines):
    with pytest.raises(ConfigError, match="needs to know the number"):
        zeroshot.build(zeroshot.Config(language="DE", language_file=babel))
    with pytest.raises(ConfigError, match="Did you mean 'DE'"):
        zeroshot.build(zeroshot.Config(label_holds="number", language="D", language_file=babel))
    options = {"label_holds": "code", "codes": lines}
    with pytest.raises(ConfigError, match="has a class 9, but there are 5"):
        zeroshot.build(zeroshot.Config(language="XX", language_file=babel, **options))
