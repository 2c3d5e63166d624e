"""One arm against another: paired within a protocol, refused across."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from lift.against import compared, pooled_results, table
from lift.errors import ConfigError, DataError
from lift.evals import _metrics as metrics
from lift.results import read_results, write_results
from lift.terms import EvalResult, Metric


def result(values, *, protocol="all-captions", data="photos", version=1, digest="d1", name="a"):
    figure = metrics.share(np.asarray(values, np.float64))
    rank = Metric(3.0, 2.0, 4.0, len(values))
    found = {"text_to_image/R@10": figure, "text_to_image/median rank": rank}
    return EvalResult(
        "retrieval", version, protocol, data, "text_to_image/R@10", found,
        {"images": len(values)}, digest=digest, encoder=name,
    )  # fmt: skip


GOOD, BAD = np.r_[np.ones(80), np.zeros(20)], np.r_[np.ones(50), np.zeros(50)]


def test_a_difference_is_paired_and_judged():
    differences, alone = compared([[result(GOOD)]], [[result(BAD)]])
    first, rank = differences
    assert first.mean == pytest.approx(0.3) and 0 < first.low < 0.3 < first.high
    assert first.verdict == "better" and first.primary and first.items == 100
    assert rank.low is None and rank.verdict == "no interval" and not alone
    (worse, _), _ = compared([[result(BAD)]], [[result(GOOD)]])
    assert worse.verdict == "worse"
    (same, _), _ = compared([[result(BAD)]], [[result(BAD)]])
    assert same.verdict == "no difference shown"
    words = table(differences)
    assert "+30.0 points" in words and "better" in words and "median rank" not in words
    assert words.splitlines()[1] == f"  protocol, version {first.version}: {first.protocol}"
    assert "median rank" in table(differences, all_figures=True)


@pytest.mark.parametrize(
    "other", [{"protocol": "first-caption"}, {"version": 2}], ids=["protocol", "version"]
)
def test_protocols_are_not_compared(other):
    with pytest.raises(ConfigError, match="two protocols are not compared"):
        compared([[result(GOOD)]], [[result(GOOD, **other)]])


def test_other_data_do_not_compare():
    with pytest.raises(ConfigError, match="no evaluation on the same data"):
        compared([[result(GOOD)]], [[result(GOOD, data="drawings")]])
    with pytest.raises(DataError, match="other samples"):
        compared([[result(GOOD)]], [[result(GOOD, digest="d2")]])


def test_one_evaluation_of_other_samples_does_not_cost_the_rest():
    ours = [result(GOOD), result(GOOD, data="drawings")]
    theirs = [result(BAD), result(BAD, data="drawings", digest="d2")]
    differences, alone = compared([ours], [theirs])
    assert {one.data for one in differences} == {"photos"}
    assert len(alone) == 1 and "retrieval on drawings was asked of other samples" in alone[0]


def test_one_file_that_is_data_twice_is_compared_twice(tmp_path):
    """Titles and descriptions of one table have one name and one protocol."""
    arms, written = [], []
    for name, values in (("a", (GOOD, BAD)), ("b", (BAD, BAD))):
        for digest, own in zip(("d1", "d2"), values, strict=True):
            found = [result(own, digest=digest)]
            written += write_results(found, tmp_path / name, outcomes=True, besides=written)
        arms.append(read_results(tmp_path / name))
    assert len(set(written)) == len(written) == 4 and [len(arm) for arm in arms] == [2, 2]
    differences, alone = compared([arms[0]], [arms[1]])
    assert sorted(one.mean for one in differences if one.primary) == pytest.approx([0, 0.3])
    assert not alone and len(pooled_results(arms)[0]) == 2


def test_what_only_one_was_asked_is_told():
    more = [result(GOOD), result(GOOD, data="drawings")]
    differences, alone = compared([more], [[result(BAD)]])
    assert {one.data for one in differences} == {"photos"}
    assert alone == [
        "retrieval on drawings (all-captions) was not asked of all models, and is left out"
    ]


def test_items_that_answers_choose_are_not_paired():
    def kept(which):
        figure = metrics.share(GOOD, which.astype(np.float64))
        return dataclasses.replace(result(GOOD), metrics={"right kept": figure})

    (one,), _ = compared([[kept(GOOD + 0.1)]], [[kept(BAD + 0.1)]])
    assert one.low is None and one.verdict == "no interval"


def test_less_is_better_of_false_positives():
    figure = metrics.share(GOOD), metrics.share(BAD)
    ours, theirs = (
        dataclasses.replace(result(GOOD), metrics={"false positives": one}) for one in figure
    )
    (found,), _ = compared([[ours]], [[theirs]])
    assert found.mean > 0 and found.verdict == "worse"


def test_what_the_intervals_of_seeds_know_is_not_lost():
    """Of few shots each image is one item, and the shots that were drawn are not among them."""
    own = metrics.share(GOOD)
    wide = dataclasses.replace(own, low=own.low - 0.1, high=own.high + 0.1)
    arm = [[dataclasses.replace(result(GOOD), metrics={"1-shot top-1": wide})] for _ in range(2)]
    (found,), refused = pooled_results(arm)
    assert not refused
    assert found.metrics["1-shot top-1"] == wide


@pytest.mark.parametrize(
    ("metric", "verdict"),
    [
        ("1:1 reciprocal rank/R@10", "better"),  # a way of searching
        ("accuracy/Singapore", "better"),  # a kind
        ("IoU/frankfurter", "better"),  # a class
        ("1:1 reciprocal rank/false positives", "worse"),
    ],
)
def test_words_in_names_of_figures_turn_no_verdict_around(metric, verdict):
    ours, theirs = (
        dataclasses.replace(result(GOOD), metrics={metric: metrics.share(values)})
        for values in (GOOD, BAD)
    )
    (found,), _ = compared([[ours]], [[theirs]])
    assert found.verdict == verdict and "points" in table([found], all_figures=True)


def test_seeds_are_pooled_in_pairs():
    ours = [[result(np.roll(GOOD, k))] for k in range(3)]
    theirs = [[result(np.roll(BAD, k))] for k in range(3)]
    (first, _), _ = compared(ours, theirs)
    assert first.seeds == 3 and first.mean == pytest.approx(0.3) and first.verdict == "better"
    assert "x 3 seeds" in table([first])
    with pytest.raises(ConfigError, match="3 models against 2"):
        compared(ours, theirs[:2])


def test_an_arm_has_one_figure_over_its_seeds():
    arm = [[result(GOOD)], [result(BAD)]]
    (found,), refused = pooled_results(arm)
    assert not refused
    figure = found.metrics["text_to_image/R@10"]
    assert figure.value == pytest.approx(0.65) and figure.items == 100
    alone = arm[0][0].metrics["text_to_image/R@10"]
    assert figure.high - figure.low > alone.high - alone.low  # seeds differ by 30 points
    assert found.metrics["text_to_image/median rank"].value == 3
    assert found.notes[0] == "the mean of 2 seeds"
    for other, why in (
        ([result(GOOD, digest="d2")], "other samples"),
        ([], "was not asked of all"),
    ):
        results, refused = pooled_results([[result(GOOD)], other])
        assert not results and len(refused) == 1 and why in refused[0]


def test_outcomes_come_back_from_disk(tmp_path):
    write_results([result(GOOD)], tmp_path / "a", outcomes=True)
    write_results([result(BAD)], tmp_path / "b", outcomes=True)
    a, b = read_results(tmp_path / "a"), read_results(tmp_path / "b")
    stored, _ = compared([a], [b])
    fresh, _ = compared([[result(GOOD)]], [[result(BAD)]])
    assert stored == fresh
    # Those of an earlier result are not taken for this one's.
    write_results([dataclasses.replace(result(BAD), digest="d9")], tmp_path / "b")
    (again,) = read_results(tmp_path / "b")
    assert all(metric.outcomes is None for metric in again.metrics.values())


def test_damaged_outcomes_are_told(tmp_path):
    write_results([result(GOOD)], tmp_path, outcomes=True)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match=r"outcomes .* are damaged"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("weights", np.ones(3, np.float32)),
        ("weights", -np.ones(100, np.float32)),
        ("weights", np.zeros(100, np.float32)),
        ("values", np.full(100, np.nan, np.float32)),
        ("values", np.ones((100, 2), np.float32)),
        ("values", np.ones(0, np.float32)),
        ("clusters", np.zeros(99, np.int64)),
    ],
)
def test_outcomes_that_are_none_are_told(tmp_path, part, values):
    write_results([result(GOOD)], tmp_path, outcomes=True)
    (file,) = tmp_path.glob("*.safetensors")
    with safe_open(file, "np") as opened:
        held = {name: opened.get_tensor(name) for name in opened.keys()}
        about = opened.metadata()
    held[f"{part} text_to_image/R@10"] = values
    save_file(held, file, about)
    with pytest.raises(DataError, match=r"outcomes .* are damaged"):
        read_results(tmp_path)


def test_outcomes_of_another_model_are_not_taken(tmp_path):
    """Outcomes are written before the result: whoever stops in between leaves those of two."""
    write_results([result(GOOD)], tmp_path, outcomes=True)
    (file,) = tmp_path.glob("*.safetensors")
    kept = file.read_bytes()
    write_results([result(BAD)], tmp_path, outcomes=True)
    file.write_bytes(kept)
    (found,) = read_results(tmp_path)
    assert all(metric.outcomes is None for metric in found.metrics.values())
