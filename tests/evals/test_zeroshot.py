"""Zero-shot: class vectors, templates, labels and their faults."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from lift.bank import Bank
from lift.errors import CheckpointError, ConfigError, DataError, SpaceMismatch
from lift.evals import zeroshot
from lift.terms import Caption, Sample
from lift.text.space import TextSpace


def images(labels, field="class_name"):
    return [
        Sample(f"k{i}", f"image {i}".encode(), (Caption("x"),), {field: label, "id": str(i)})
        for i, label in enumerate(labels)
    ]


def run(source, encoder, **options):
    return zeroshot.build(zeroshot.Config(**options)).run(encoder, source)


@pytest.mark.parametrize("templates", [("a photo of a {}.",), ("a {}.", "the {}", "{} {}")])
def test_equals_loops(templates, list_source, vectors):
    rng = np.random.default_rng(0)
    names = [f"class {c}" for c in range(8)]
    labels = [names[c] for c in rng.integers(0, 8, 120)]
    encoder, source = vectors({}), list_source(images(labels))
    result = run(source, encoder, templates=templates)

    heads = {}
    for name in names:
        rows = [encoder._row(t.replace("{}", name)).astype(np.float64) for t in templates]
        mean = sum(rows) / len(rows)
        heads[name] = mean / np.linalg.norm(mean)
    hits = {1: [], 5: []}
    for sample, label in zip(source.samples, labels, strict=True):
        image = encoder._row(sample.image).astype(np.float64)
        order = sorted(names, key=lambda n: -float(image @ heads[n]))
        for k in hits:
            hits[k].append(label in order[:k])
    assert result.metrics["top-1"].value == pytest.approx(np.mean(hits[1]))
    assert result.metrics["top-5"].value == pytest.approx(np.mean(hits[5]))
    per_class = [
        np.mean([h for h, own in zip(hits[1], labels, strict=True) if own == n]) for n in names
    ]
    assert result.metrics["mean per class"].value == pytest.approx(np.mean(per_class))
    assert result.chance == 1 / 8 and result.metrics["top-1"].items == 120


def test_templates_are_averaged_as_unit_vectors(vectors):
    planted = {"a cat": [1, 0], "the cat": [0, 1]}
    z = Bank.of_names(vectors(planted, 2), [("cat",)], ("a {}", "the {}")).class_vectors
    np.testing.assert_allclose(z, [[0.5**0.5, 0.5**0.5]], rtol=1e-6)
    assert z.dtype == np.float32


def test_given_classes_and_those_without_images(list_source, vectors):
    source = list_source(images(["cat", "dog", "dog"]))
    result = run(source, vectors({}), classes=("dog", "cat", "cow", "hen", "pig", "fox"))
    assert result.counts == {"images": 3, "classes": 6, "classes without images": 4}
    assert result.chance == 1 / 6 and "6 given classes" in result.protocol
    few = run(source, vectors({}))
    assert list(few.metrics) == ["top-1", "mean per class"]  # top-5 of two classes says nothing


def test_label_numbers_and_equal_names(list_source, vectors):
    """Two classes of one name have one vector: what they get right they share, and it is said."""
    planted = {b"image 0": [1, 0], b"image 1": [1, 0], "crane": [1, 0], "cow": [0, 1]}
    source = list_source(images(["0", "2"]))
    options = {"classes": ("crane", "cow", "crane"), "templates": ("{}",)}
    result = run(source, vectors(planted, 2), label_holds="number", **options)
    assert result.metrics["top-1"].value == 0.5 and result.counts["classes"] == 3
    assert any("1 class names occur more than once (crane)" in note for note in result.notes)
    named = run(list_source(images(["crane", "cow"])), vectors(planted, 2), **options)
    assert named.counts["classes"] == 2
    assert any(note.endswith("taken as one") for note in named.notes)


def test_template_file(tmp_path, list_source, vectors):
    path = tmp_path / "prompts.json"
    sets = {"pets": {"classes": ["cat", ["dog", "hound"]], "templates": ["a {}", "my {}"]}}
    path.write_text(json.dumps(sets))
    planted = {"a dog": [1, 0], "my dog": [1, 0], "a hound": [0, 1], "my hound": [0, 1]}
    planted |= {b"image 0": [1, 1], "a cat": [-1, 0], "my cat": [-1, 0]}
    result = run(
        list_source(images(["dog"])),
        vectors(planted, 2),
        template_file=str(path),
        template_set="pets",
        class_set="pets",
    )
    words, _, digest = result.protocol.rpartition(" ")
    assert words == "class_name, classes of pets, 2 templates of pets"
    assert len(digest) == len("[01234567]")
    assert result.examples[0]["top"][0] == {"label": "dog", "score": 1.0, "right": True}
    with pytest.raises(ConfigError, match="Did you mean 'pets'"):
        zeroshot.build(zeroshot.Config(template_file=str(path), template_set="pet"))
    path.write_text("[1]")
    with pytest.raises(DataError, match="is not"):
        zeroshot.build(zeroshot.Config(template_file=str(path), template_set="pets"))
    with pytest.raises(DataError, match="can't be read"):
        zeroshot.build(zeroshot.Config(template_file=str(tmp_path / "none"), template_set="pets"))


def test_reads_the_published_prompt_file(shared_data):
    path = str(shared_data / "text" / "clip_prompts.json")
    evaluation = zeroshot.build(
        zeroshot.Config(
            template_file=path, template_set="ImageNet", class_set="ImageNet", label_holds="number"
        )
    )
    assert evaluation.classes.names is not None
    assert (len(evaluation.classes.names), len(evaluation.config.templates)) == (1000, 80)


def test_faults_of_labels(list_source, vectors):
    with pytest.raises(DataError, match=r"Unknown field of list.*'clas_name'.*'class_name'\?"):
        run(list_source(images(["cat"])), vectors({}), label="clas_name")
    with pytest.raises(DataError, match=r"sample 'k1'.*'cot'.*Did you mean 'cat'"):
        run(list_source(images(["cat", "cot"])), vectors({}), classes=("cat", "dog"))
    with pytest.raises(DataError, match="empty 'class_name' for every image"):
        run(list_source(images(["", " "])), vectors({}))
    result = run(list_source(images(["cat", "", "dog"])), vectors({}))
    assert result.counts == {"images": 2, "classes": 2, "images without a label": 1}
    assert {example["index"] for example in result.examples} == {0, 2}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"templates": ("a photo",)}, "need {}"),
        ({"templates": ()}, "need {}"),
        ({"classes": ()}, "classes is empty"),
        ({"label_holds": "number"}, "needs classes or class_set"),
        ({"template_set": "CIFAR10"}, "need template_file"),
        ({"classes": ("a",), "class_set": "CIFAR10"}, "not both"),
        ({"examples": -1}, "examples"),
    ],
)
def test_options_that_contradict_stop(options, words):
    with pytest.raises(ConfigError, match=words):
        zeroshot.build(zeroshot.Config(**options))


def protocol(**options):
    return zeroshot.build(zeroshot.Config(**options)).protocol


def test_the_protocol_says_what_was_measured(tmp_path):
    path = tmp_path / "p.json"
    sets = {"S": {"classes": ["a", "b"], "templates": ["x {}", "y {}"]}}
    path.write_text(json.dumps(sets))
    file = {"template_file": str(path), "template_set": "S", "class_set": "S"}
    before = protocol(**file)
    sets["S"]["classes"] = ["a", "bee"]
    path.write_text(json.dumps(sets))
    every = [
        protocol(),
        protocol(templates=("{}",)),
        protocol(templates=("a {}", "the {}")),
        protocol(templates=("a {}", "one {}")),
        protocol(classes=("a", "b")),
        protocol(classes=("a", "c")),
        protocol(classes=("a", "c"), label_holds="number"),
        before,
        protocol(**file),
    ]
    assert len(set(every)) == len(every)
    assert protocol(classes=("a", "b")) == every[4]
    assert every[0].startswith("class_name, labels of the data, template 'a photo of a {}.' [")


@pytest.mark.parametrize(
    ("classes", "templates", "words"),
    [
        ([[]], ["a {}"], r"\[\] stands where"),
        ([1, 2], ["a {}"], "1 stands where"),
        (["a", None], ["a {}"], "null stands where"),
        (["a", [" "]], ["a {}"], "stands where"),
        ([], ["a {}"], "the classes of 'S' must be a list"),
        ({"a": 1}, ["a {}"], "the classes of 'S' must be a list"),
        (["a"], [3], r"\[3\] stands where"),
        (["a"], "a {}", "the templates of 'S' must be a list"),
    ],
)
def test_malformed_template_files(tmp_path, classes, templates, words):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"S": {"classes": classes, "templates": templates}}))
    with pytest.raises(DataError, match=words):
        protocol(template_file=str(path), template_set="S", class_set="S")


def test_an_empty_class_name_stops():
    with pytest.raises(ConfigError, match="empty name"):
        protocol(classes=("a", " "))


def test_unknown_labels_are_found_before_images_are_encoded(list_source, vectors):
    encoder = vectors({})
    with pytest.raises(DataError, match=r"sample 'k1'.*'cot'"):
        run(list_source(images(["cat", "cot"])), encoder, classes=("cat", "dog"))
    with pytest.raises(DataError, match="Unknown field"):
        run(list_source(images(["cat"])), encoder, label="clas")
    assert encoder.calls == []


def test_the_class_may_be_the_caption(list_source, vectors):
    labels = ["cat", "dog", "cat"]
    captioned = [
        Sample(f"k{i}", f"image {i}".encode(), (Caption(label, "class_name"),), {"id": str(i)})
        for i, label in enumerate(labels)
    ]
    as_caption = run(list_source(captioned), vectors({}))
    as_field = run(list_source(images(labels)), vectors({}))
    assert as_caption.metrics == as_field.metrics and as_caption.protocol == as_field.protocol


# --- banks ---------------------------------------------------------------------------------------


def test_a_saved_bank_in_place_of_classes(tmp_path, list_source, vectors):
    names = [f"class {c}" for c in range(6)]
    labels = [names[c] for c in np.random.default_rng(0).integers(0, 6, 90)]
    encoder, source = vectors({}), list_source(images(labels))
    bank = Bank.of_names(encoder, names)
    bank.save(tmp_path / "pets")
    plain = run(source, encoder, classes=tuple(names))
    saved = run(source, encoder, bank=str(tmp_path / "pets"))
    assert saved.metrics == plain.metrics and saved.examples == plain.examples
    assert saved.protocol.startswith("class_name, bank pets of 6 classes, 6 rows by mean [")
    learned = bank.learned(encoder.encode_images([s.image for s in source.samples]), labels)
    learned.save(tmp_path / "pets")
    better = run(source, encoder, bank=str(tmp_path / "pets"))
    assert better.metrics["top-1"].value > plain.metrics["top-1"].value + 0.2
    assert len({plain.protocol, saved.protocol, better.protocol}) == 3
    by_number = list_source(images([str(names.index(label)) for label in labels]))
    numbered = run(by_number, encoder, bank=str(tmp_path / "pets"), label_holds="number")
    assert numbered.metrics == better.metrics
    with pytest.raises(DataError, match=r"sample 'k0'.*'class 9'"):
        run(list_source(images(["class 9"])), encoder, bank=str(tmp_path / "pets"))


def test_banks_that_do_not_fit(tmp_path, list_source, vectors):
    encoder, source = vectors({}), list_source(images(["cat", "dog"]))
    space = TextSpace(
        encoder="hashing",
        model="words",
        revision="1",
        prompt="",
        pooling="sum",
        max_tokens=64,
        normalised=True,
        dimensions=16,
    )
    encoder.space = dataclasses.replace(space, prompt="x")
    bank = Bank.of_names(encoder, ["cat", "dog"])
    bank.save(tmp_path / "bank")
    encoder.space = space
    with pytest.raises(SpaceMismatch, match=r"the bank has .*vectors has .*prompt: 'x' against ''"):
        run(source, encoder, bank=str(tmp_path / "bank"))
    with pytest.raises(DataError, match="rows of 16 numbers, the vectors have 8"):
        run(source, vectors({}, 8), bank=str(tmp_path / "bank"))
    with pytest.raises(CheckpointError, match="is no bank"):
        run(source, encoder, bank=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="takes bank or templates, not both"):
        run(source, encoder, bank=str(tmp_path / "bank"), templates=("{}",))
    Bank.of_names(encoder, ["cat", "cat"]).save(tmp_path / "bank")
    with pytest.raises(ConfigError, match=r"Several classes of the bank .* are called 'cat'"):
        run(source, encoder, bank=str(tmp_path / "bank"))
