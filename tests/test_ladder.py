"""The ladder: the same judges for every rung, nothing made twice, honest failures, true figures."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

import lift
from lift import cli, recipes
from lift.bundle_record import read_record
from lift.data.source import open_source
from lift.errors import CheckpointError, ConfigError, DataError
from lift.rungs import trained
from lift.rungs.meter import Meters
from lift.rungs.paired import compare, pairs_of
from lift.rungs.places import Asked, divide
from lift.rungs.record import RECALL, Cost, Ladder, read
from lift.rungs.words import compared
from test_bundle import make

COUNT = 220
SPACE = "hashing:dimensions=32"
QUICK = ("samples=640", "loader.batch_size=32", "head.hidden=32", "evaluate_every=10")


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tower") / "m"
    make().save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return words for drawn scenes, kept in a table: they are read many times."""
    folder = tmp_path_factory.mktemp("data")
    source = open_source(f"scenes:count={COUNT},seed=1,resolution=32,short=1,long=1")
    samples = [source.read(number) for number in range(COUNT)]
    for name, part in (("all", samples), ("first", samples[:180]), ("last", samples[160:])):
        rows = [
            {"key": f"{name}-{s.key}", "image": s.image, "caption": [c.text for c in s.captions]}
            for s in part
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return f"table:path={folder}/all.parquet,key=key,image=image,caption=caption"


def climb(data: str, tower: str, out: Path, **changes) -> Ladder:
    given = {"space": SPACE, "options": QUICK, "device": "cpu", "progress": False}
    return lift.ladder(data, tower=tower, out=out, **{**given, **changes})


@pytest.fixture(scope="module")
def climbed(data: str, tower: str, tmp_path_factory) -> tuple[Ladder, Path]:
    out = tmp_path_factory.mktemp("climbed") / "ladder"
    return climb(data, tower, out), out


def keys(words: str) -> set[str]:
    return {key for key, _ in open_source(words).texts()}


def stamps(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_rungs_stand_in_order_with_figures_and_costs(climbed):
    found, _ = climbed
    assert [rung.level for rung in found.rungs] == [0, 0, 0, 1]
    assert {rung.name for rung in found.rungs} == {"ridge", "procrustes", "cca", "head"}
    assert not found.failed and found.rungs[0].chosen
    assert sum(rung.chosen for rung in found.rungs) == 1
    assert found.rungs[-1].start == found.rungs[0].name
    assert found.named("head").options == QUICK
    for rung in found.rungs:
        assert rung.result is not None and rung.recall is not None
        assert rung.result.protocol == "all-captions"
        assert rung.result.counts["images"] == found.judged
        assert rung.cost.wall_seconds > 0 and rung.cost.complete
    assert found.climbed(found.rungs[-1]).wall_seconds == pytest.approx(
        found.rungs[-1].cost.wall_seconds + found.rungs[0].cost.wall_seconds
    )
    steps = {step.name: step.cost for step in found.steps}
    assert steps["features"].items == COUNT and steps["captions"].items > 250
    assert steps["pass"].items == found.fitted
    assert found.predicted is not None and found.predicted.pairs > 10


def test_pairs_that_judge_made_nothing_and_stopped_nothing(climbed, data, tower):
    found, out = climbed
    asked = Asked(data=data, validation="", space=SPACE, tower=tower, out=out)
    split = divide(asked)
    parts = [
        {key for key, _ in open_source(w).texts()} for w in (split.fit, split.stop, split.held)
    ]
    assert [len(part) for part in parts] == [found.fitted, found.stopping, found.judged]
    assert sum(map(len, parts)) == COUNT == len(set.union(*parts))
    config = json.loads((out / "rungs" / "head" / "run.json").read_text())["config"]
    assert (config["data"], config["validation"]) == (split.fit, split.stop)
    for rung in found.rungs[:3]:
        origin = read_record(out / "rungs" / rung.name / "model" / "bundle.json").origin
        assert origin["samples"] == found.fitted and "share 0 to 0.81" in origin["data"]
    given = divide(
        Asked(data=data, validation="scenes:count=60,seed=2", space="", tower="", out=out)
    )
    assert given.held == "scenes:count=60,seed=2" and given.train == data
    parts = [{key for key, _ in open_source(words).texts()} for words in (given.fit, given.stop)]
    assert sum(map(len, parts)) == COUNT == len(set.union(*parts))


def test_page_and_json_and_lift_eval_say_the_same(climbed):
    found, out = climbed
    page = (out / "ladder.html").read_text()
    assert read(out) == found
    told = json.loads((out / "ladder.json").read_text())
    for rung, written in zip(found.rungs, told["rungs"], strict=True):
        folder = out / "rungs" / rung.name
        again = lift.evaluate(
            folder,
            on=[f"retrieval:data=[{found.held_out}]"],
            cache=out / "captions",
            out=out.parent / "again",
            device="cpu",
            progress=False,
        )[0]
        assert rung.result is not None
        for name, metric in rung.result.metrics.items():
            assert written["result"]["metrics"][name]["value"] == metric.value
            # Features were stored in float16: a near tie may fall the other way.
            assert abs(again.metrics[name].value - metric.value) < (2.1 if "rank" in name else 0.02)
            if "R@" in name:
                assert f"{100 * metric.value:.1f}%" in page
        assert (again.protocol, again.data, again.counts) == (
            *(rung.result.protocol, rung.result.data),
            rung.result.counts,
        )
    assert found.advice and found.advice.replace("'", "&#39;") in page
    assert found.table().count("within noise") + found.table().count("better") >= 3


def test_the_same_command_makes_nothing_again(climbed, data, tower):
    found, out = climbed
    before = stamps(out)
    told: list[str] = []
    again = climb(data, tower, out, say=told.append)
    changed = {name for name, stamp in stamps(out).items() if before.get(name) != stamp}
    assert changed <= {"ladder.json", "ladder.html", ".lock"}
    assert again.rungs == found.rungs and again.steps == found.steps and again.take == found.take
    assert any(words.startswith("before: CKA") for words in told)


def test_a_ladder_that_was_stopped_goes_on_where_it_was(climbed, data, tower):
    _, out = climbed
    record = out / "rungs" / "head" / "rung.json"
    before = stamps(out)
    was = read(out).named("head")
    record.unlink()
    found = climb(data, tower, out)
    changed = {name for name, stamp in stamps(out).items() if before.get(name) != stamp}
    assert not any(
        name.startswith(("captions", "features", "rungs/r", "rungs/p")) for name in changed
    )
    assert "rungs/head/model/model.safetensors" not in changed
    assert found.named("head").result is not None and was.result is not None
    assert found.named("head").result.metrics == was.result.metrics


def test_other_wishes_in_the_same_folder_are_refused(climbed, data, tower, tmp_path):
    _, out = climbed
    with pytest.raises(CheckpointError, match=r"remove .*rungs/head"):
        climb(data, tower, out, options=(*QUICK, "optim.lr=0.5"))
    with pytest.raises(CheckpointError, match="holds a ladder with space 'hashing:dimensions=32'"):
        climb(data, tower, out, space="hashing:dimensions=16")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="holds something else"):
        climb(data, tower, tmp_path)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"options": ("optim.lrr=1",)}, ConfigError, "lrr"),
        ({"space": "hashin"}, ConfigError, "hashing"),
        ({"tower": "vitt"}, ConfigError, "vit"),
        ({"data": "scenes:count=40,short=1,long=0"}, DataError, "at least 10 of each"),
        ({"data": ""}, ConfigError, "no pairs"),
        ({"validation": "scenes:count=3"}, DataError, "3 to judge by"),
        ({"data": "scenes:cuont=300"}, ConfigError, "cuont"),
    ],
)
def test_bad_input_is_one_sentence_before_any_work(data, tower, tmp_path, changes, error, sentence):
    given = {"data": data, "tower": tower, **changes}
    with pytest.raises(error, match=sentence):
        climb(given.pop("data"), given.pop("tower"), tmp_path / "new", **given)
    assert not (tmp_path / "new" / "captions").exists()


def test_a_rung_that_fails_is_told_the_others_go_on_and_twins_are_found(
    data, tower, tmp_path, capsys
):
    out, learn, judge = (
        tmp_path / "l",
        data.replace("all.", "first."),
        data.replace("all.", "last."),
    )
    words = ["ladder", learn, "--validation", judge, "--space", SPACE, "--tower", tower]
    words += ["--out", str(out), "--quiet", "--device", "cpu", "--set", *QUICK, "optim.lr=1e30"]
    assert cli.main(words) == 0
    found, told = read(out), capsys.readouterr().out
    assert [rung.name for rung in found.failed] == ["head"]
    why = found.failed[0].why
    assert why.startswith("Loss nan") and len(found.done) == 3
    assert found.take == found.rungs[0].name and f"head failed: {why}" in told
    assert told.count("before: CKA") == 2 and f"after:  R@10 {found.take}" in told
    assert "head failed:" in (out / "ladder.html").read_text()
    assert found.judged == 60 and found.fitted + found.stopping == 180
    twins = int(re.match(r"(\d+) held-out samples have an image", found.notes[0])[1])
    assert 10 <= twins <= 20
    tune = found.next[0]
    assert f"--data {learn}" in tune.command and f"samples={tune.samples}" in tune.command
    features = next(step.cost for step in found.steps if step.name == "features")
    assert tune.cost is not None
    assert tune.cost.cpu_seconds == pytest.approx(
        tune.samples * 3 * features.cpu_seconds / features.items
    )


def test_hits_are_those_of_the_figure_and_differences_those_of_images(climbed):
    found, out = climbed

    hits = {
        r.name: load_file(out / "rungs" / r.name / "hits.safetensors")["hits"] for r in found.rungs
    }
    owner = pairs_of(open_source(found.held_out)).owner
    for rung in found.rungs:
        assert rung.result is not None
        assert hits[rung.name].mean() == pytest.approx(rung.result.metrics[RECALL].value, abs=1e-12)
    rng = np.random.default_rng(0)
    one, other = hits["head"], hits[found.rungs[0].name]
    against = compare(one, other, owner, "x")
    assert against.better == pytest.approx(one.mean() - other.mean())
    assert (against.queries, against.images) == (len(owner), found.judged)
    groups = [np.flatnonzero(owner == image) for image in range(found.judged)]
    drawn = []
    for _ in range(4000):  # a bootstrap over images gives the same interval
        chosen = np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))])
        drawn.append(one[chosen].mean() - other[chosen].mean())
    low, high = np.quantile(drawn, (0.025, 0.975))
    assert against.low == pytest.approx(low, abs=0.04) and against.high == pytest.approx(
        high, abs=0.04
    )
    assert compare(one, one, owner, "x").is_noise
    assert not compare(np.ones(60), np.zeros(60), np.arange(60), "x").is_noise
    told = compared(found.rungs, hits, owner)[-1].against
    assert told is not None and told.other == found.rungs[0].name


def test_the_head_is_cut_to_the_size_of_the_data(data, tower, tmp_path):

    asked = Asked(
        data=data, validation="", space=SPACE, tower=tower, out=tmp_path, options=("seed=3",)
    )
    split = divide(asked)
    small = trained.config_of(recipes.head(), asked, split, "m")
    assert small.samples == 20 * split.counts[0] and small.loader.batch_size == 32
    assert small.seed == 3 and small.start == "m" and small.evaluate_every == small.steps // 10
    large = dataclasses.replace(split, counts=(5_000_000, 1000, 1000))
    big = trained.config_of(recipes.head(), asked, large, "")
    assert big.samples == 1_000_000 and big.loader.batch_size == 1024


def test_time_of_killed_attempts_is_known_to_be_lost(tmp_path):
    meters = Meters(tmp_path)
    with pytest.raises(ValueError), meters.measured("step"):
        sum(number * number for number in range(200_000))
        raise ValueError
    assert not meters.done("step") and meters.cost("step").complete
    with meters.measured("step") as counted:
        counted.items = 5
    cost = Meters(tmp_path).cost("step")
    assert cost.items == 5 and cost.complete and cost.cpu_seconds > 0 and meters.done("step")
    child = os.fork()
    if not child:
        with Meters(tmp_path).measured("killed"):
            os._exit(9)
    os.waitpid(child, 0)
    with Meters(tmp_path).measured("killed"):
        pass
    assert not Meters(tmp_path).cost("killed").complete
    assert not cost.plus(Meters(tmp_path).cost("killed")).complete
    assert Cost().plus(Cost(wall_seconds=2.0)).wall_seconds == 2.0
