"""Results as clip_benchmark's files: their names, and only what their protocol would measure."""

from __future__ import annotations

import dataclasses
import json

import pytest

from lift.clip_benchmark_form import in_their_form, write_clip_benchmark
from lift.terms import EvalResult, Metric


def result(evaluation: str, protocol: str, values: dict[str, float], **more) -> EvalResult:
    metrics = {name: Metric(value, value, value, 10) for name, value in values.items()}
    counts = more.pop("counts", {"images": 10})
    first = next(iter(values))
    return EvalResult(evaluation, 1, protocol, "few.tar", first, metrics, counts, **more)


RETRIEVAL = {
    "text_to_image/R@1": 0.25,
    "text_to_image/R@10": 0.5,
    "text_to_image/median rank": 3.0,
    "image_to_text/R@1": 0.75,
}
CLASSES = {"top-1": 0.5, "top-5": 0.75, "mean per class": 0.25}


def only(found: EvalResult, **more) -> dict:
    (told,) = in_their_form(found, model="tiny", **more)
    return told


def test_retrieval():
    told = only(result("retrieval", "all-captions", RETRIEVAL), pretrained="ours")
    assert told == {
        "dataset": "few.tar",
        "model": "tiny",
        "pretrained": "ours",
        "task": "zeroshot_retrieval",
        "metrics": {
            "image_retrieval_recall@1": 0.25,
            "image_retrieval_recall@10": 0.5,
            "text_retrieval_recall@1": 0.75,
        },
        "language": "en",
        "protocol": "all-captions",
    }


def test_where_captions_are_shared_the_own_pair_is_right():
    values = RETRIEVAL | {"text_to_image/R@1 (strict)": 0.125}
    assert only(result("retrieval", "all-captions", values))["metrics"][
        "image_retrieval_recall@1"
    ] == pytest.approx(0.125)


def test_images_without_captions_are_asked_about_there():
    counts = {"images without a caption": 1}
    told = only(result("retrieval", "all-captions", RETRIEVAL, counts=counts))
    assert set(told["metrics"]) == {"image_retrieval_recall@1", "image_retrieval_recall@10"}


def test_classification():
    protocol = "label, labels of the data, template 'a photo of a {}.' [01234567]"
    told = only(
        result("zeroshot", protocol, CLASSES, counts={"classes": 5}), names={"few.tar": "cifar10"}
    )
    assert told["dataset"] == "cifar10" and told["task"] == "zeroshot_classification"
    assert told["metrics"] == {"acc1": 0.5, "acc5": 0.75, "mean_per_class_recall": 0.25}
    few = only(result("zeroshot", protocol, CLASSES, counts={"classes": 4}))
    assert set(few["metrics"]) == {"acc1", "mean_per_class_recall"}
    german = only(result("zeroshot", "label, 298 classes in de, 4 templates [0]", CLASSES))
    assert german["language"] == "de"


def test_composition_is_a_file_a_kind():
    values = {"accuracy/mean of kinds": 0.5, "accuracy/all items": 0.5}
    values |= {"accuracy/swap_obj": 0.25, "accuracy/swap_obj (blind)": 0.5, "accuracy/add_att": 1.0}
    found = in_their_form(
        result("compositional", "caption against foil; blind: ...", values),
        model="tiny",
        names={"few.tar": "sugar_crepe"},
    )
    assert [(one["dataset"], one["metrics"]["acc"]) for one in found] == [
        ("sugar_crepe/swap_obj", 0.25),
        ("sugar_crepe/add_att", 1.0),
    ]
    assert found[0]["metrics"] == {"image_acc": 1.0, "text_acc": 0.25, "acc": 0.25}


def test_winoground():
    values = {"group score": 0.1, "text score": 0.2, "image score": 0.3, "group score (oracle)": 1}
    told = only(result("winoground", "pairs by 'pair', first captions", values))
    assert told["metrics"] == {"acc": 0.1, "text_acc": 0.2, "image_acc": 0.3}
    assert told["task"] == "image_caption_selection"


@pytest.mark.parametrize(
    "other",
    [
        result("retrieval", "first-caption", RETRIEVAL),
        result("retrieval", "all-captions, role title", RETRIEVAL),
        dataclasses.replace(result("retrieval", "all-captions", RETRIEVAL), version=2),
        result("zeroshot", "label, bank b of 3 classes, 9 rows by max [0]", CLASSES),
        result("zeroshot", "label, 9 given classes that are present, 2 templates [0]", CLASSES),
        result("zeroshot", "label, 9 given classes, 2 templates and descriptors of d [0]", CLASSES),
        result("zeroshot", "label, 9 given classes, 2 templates [0]", CLASSES,
               notes=("1 class names occur more than once (crane): taken as one",)),
        result("compositional", "caption against foil", {"accuracy/a": 1.0},
               counts={"items of several texts": 2}),
        result("linear_probe", "label", {"top-1": 1.0}),
        result("lift_reference", "all-captions", RETRIEVAL),
    ],
)  # fmt: skip
def test_other_protocols_are_left_out(other, tmp_path):
    assert in_their_form(other, model="tiny") == []
    assert write_clip_benchmark([other], tmp_path, model="tiny") == []


def test_files_are_named_safely_and_replace_none(tmp_path):
    one = dataclasses.replace(
        result("retrieval", "all-captions", RETRIEVAL), data="../../é b/c.tar"
    )
    paths = write_clip_benchmark([one, one], tmp_path / "theirs", model="m/../x", pretrained="..")
    assert len(set(paths)) == 2 and all(path.parent == tmp_path / "theirs" for path in paths)
    assert [json.loads(path.read_text())["dataset"] for path in paths] == ["../../é b/c.tar"] * 2
