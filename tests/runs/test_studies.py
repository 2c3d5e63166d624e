"""Studies share their runs between processes, go on where they were, and keep what items scored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import inverse_effect
import numpy as np
import pytest
from frame.composition import ADDED, ALL_KINDS, COMPOSED, with_composed
from frame.edges import ahead, grows, near
from frame.found import Found
from frame.page import Answer, Hypothesis, all_of, made_of, more, opening, percent, points, within
from frame.runs import packed, unpacked
from frame.study import Job, Place, Study, budget, make, path_of, taken

from lift.bootstrap import paired
from lift.terms import Outcomes

FIGURE = "retrieval: text_to_image/R@10"
DICE = np.random.default_rng(0)


def record(credit: np.ndarray, seconds: float = 1.0) -> dict:
    """Return a record of one figure."""
    figure = {"value": float(credit.mean()), "outcomes": packed(Outcomes(credit))}
    return {"cpu_seconds": {"training": seconds}, "figures": {FIGURE: figure}, "versions": {}}


def study(work, **changes) -> Study:
    """Return a study of two arms and three seeds."""
    jobs = [Job("made", arm, seed) for seed in range(3) for arm in ("frozen", "scratch")]
    told = {
        "name": "made",
        "number": 0,
        "title": "Made",
        "jobs": jobs,
        "guess": lambda job: 60.0,
        "work": work,
        "smallest": jobs[0],
        "primary": FIGURE,
        "hypotheses": (),
        "page": lambda results, folder: "",
    }
    return Study(**(told | changes))


def credits(arm: str, seed: int) -> np.ndarray:
    """Return what 200 items score: `frozen` finds three fifths, `scratch` a fifth."""
    own = np.random.default_rng([seed, len(arm)])
    return (own.random(200) < (0.6 if arm == "frozen" else 0.2)).astype(np.float32)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, tmp_path / "out", tmp_path / "results")


def test_runs_are_made_once_and_waited_for(place: Place) -> None:
    made: list[str] = []

    def work(job, there):
        made.append(job.name)
        assert there is place
        return record(credits(job.arm, job.seed))

    def ready(job, there):
        return (
            job.arm != "scratch" or path_of(Job("made", "frozen", job.seed), there.results).exists()
        )

    one = study(work, ready=ready)
    assert "6 runs, 0 there, 6 to make in about 6 CPU-minutes" in budget(
        one, one.jobs, place.results
    )
    assert make(one, one.jobs[:2], place) == 2 and make(one, one.jobs, place) == 4
    assert make(one, one.jobs, place) == 0 and len(made) == len({*made}) == 6
    told = json.loads(path_of(one.jobs[3], place.results).read_text())
    assert (told["study"], told["set"], told["arm"], told["seed"]) == ("made", "made", "scratch", 1)
    assert "0 to make in about 0 CPU-minutes" in budget(one, one.jobs, place.results)


PROCESS = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
import test_studies as t
from frame.study import Place, make
out = Path(sys.argv[3])
def work(job, place):
    with (out / "begun").open("a") as file:
        file.write(job.name + "\\n")
    time.sleep(0.3)
    return t.record(t.credits(job.arm, job.seed))
one = t.study(work)
make(one, one.jobs, Place(out, out / "out", out / "results"))
"""


def test_processes_share_the_runs_and_a_killed_one_leaves_its_own_to_others(tmp_path: Path) -> None:
    here = Path(__file__).parent
    command = [
        sys.executable,
        "-c",
        PROCESS,
        str(here),
        str(here.parents[1] / "runs"),
        str(tmp_path),
    ]
    quick = {**os.environ, "JAXTYPING_DISABLE": "1"}
    first, second = (subprocess.Popen(command, env=quick) for _ in range(2))
    begun = tmp_path / "begun"
    until = time.monotonic() + 60
    while not begun.exists() and time.monotonic() < until:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL and second.wait(timeout=120) == 0
    names = [path.stem for path in sorted((tmp_path / "results").glob("*.json"))]
    assert len(names) == 6
    assert {*begun.read_text().split()} == {*names}
    assert len(begun.read_text().split()) <= 7  # one at most was begun twice: the killed one's


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "one"
    with taken(path) as mine:
        with taken(path) as other:
            assert mine and not other
    with taken(path, wait=True) as again:
        assert again


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("values", [[0, 1, 0.5, 1], [0.25, 1 / 3, 1, 0]])
def test_outcomes_come_back(values: list[float], weighted: bool) -> None:
    told = Outcomes(
        np.asarray(values, np.float32),
        np.asarray([1, 2, 3, 4], np.float32) if weighted else None,
        np.asarray([7, 7, 9, 3]) if weighted else np.asarray([4, 3, 2, 1]),
    )
    back = unpacked(json.loads(json.dumps(packed(told))))
    np.testing.assert_array_equal(back.values, told.values)
    if weighted:
        assert back.weights is not None and back.clusters is not None and told.clusters is not None
        np.testing.assert_array_equal(back.weights, [1, 2, 3, 4])
        same = told.clusters[:, None] == told.clusters
        np.testing.assert_array_equal(back.clusters[:, None] == back.clusters, same)
    else:
        assert back.weights is None and back.clusters is None  # no two items belong together


@pytest.fixture
def found(place: Place) -> Found:
    one = study(lambda job, _: record(credits(job.arm, job.seed), seconds=30.0))
    make(one, one.jobs, place)
    return Found(place.results)


def test_differences_are_those_of_the_bootstrap(found: Found) -> None:
    assert found.sets == ["made"] and found.arms("made") == ["frozen", "scratch"]
    assert found.seeds("made", "frozen", "scratch") == [0, 1, 2] and found.cpu_minutes() == 3.0
    ours, theirs = ([Outcomes(credits(arm, s)) for s in range(3)] for arm in ("frozen", "scratch"))
    there = found.difference("made", "frozen", "scratch", FIGURE)
    assert there == paired(ours, theirs, resamples=4_000)
    mean = found.spread("made", "frozen", FIGURE)
    assert mean is not None
    assert mean.mean == pytest.approx(np.mean(found.values("made", "frozen", FIGURE)))
    assert percent(mean).startswith(f"{100 * mean.mean:.1f}% [")
    assert found.difference("made", "frozen", "nobody", FIGURE) is None
    assert found.spread("made", "frozen", "nothing") is None and percent(None) == "-"
    needed = found.seeds_needed("made", "frozen", "scratch", FIGURE)
    assert needed is not None and found.seeds_needed("made", "frozen", "scratch", FIGURE, 0.5) <= 3


def test_what_did_not_hold_comes_first(found: Found) -> None:
    hypotheses = [
        Hypothesis("More.", lambda f: more(f, "made", "frozen", "scratch", FIGURE)),
        Hypothesis("Less.", lambda f: more(f, "made", "scratch", "frozen", FIGURE), paper=True),
        Hypothesis("Who knows.", lambda f: more(f, "made", "nobody", "scratch", FIGURE)),
    ]
    told = opening(hypotheses, found)
    places = [told.index(words) for words in ("Did not hold", "(the paper) Less.", "Held", "More.")]
    assert "**Did not hold**" in told and places[1] < places[3]
    assert told.index("Less.") < told.index("More.") < told.index("Who knows.")
    assert points(found.difference("made", "frozen", "scratch", FIGURE)) in told
    first = opening(hypotheses[:1], found)
    assert first.startswith("Nothing that was expected was contradicted.")


def test_one_seed_decides_nothing(place: Place) -> None:
    one = study(lambda job, _: record(credits(job.arm, job.seed)))
    make(one, one.jobs[:2], place)
    claim = Hypothesis("More.", lambda f: more(f, "made", "frozen", "scratch", FIGURE))
    told = opening([claim], Found(place.results))
    assert "**Not decided**" in told and "(one seed: made: +" in told and "Nothing" not in told


def test_other_arms_seeds_decide_nothing(place: Place) -> None:
    one = study(lambda job, _: record(credits(job.arm, job.seed)))
    make(one, [job for job in one.jobs if job.arm == "frozen" or not job.seed], place)
    found = Found(place.results)
    assert found.most_seeds == 3 and found.seeds("made", "frozen", "scratch") == [0]
    answers = [
        more(found, "made", "frozen", "scratch", FIGURE),
        within(found, "made", "frozen", "scratch", FIGURE, 0.03),
        ahead(found, "made", "frozen", "scratch", FIGURE),
        near(found, "made", "frozen", "scratch", FIGURE),
    ]
    assert all(one.held is None and one.told.endswith("one seed") for one in answers)


def test_runs_of_an_arm_that_were_made_otherwise_are_named(place: Place) -> None:
    def work(job, _):
        rate = 2e-3 if job.arm == "scratch" and job.seed else 1e-3
        return record(credits(job.arm, job.seed)) | {"samples": 64, "rate": rate}

    one = study(work)
    make(one, [job for job in one.jobs if not job.seed], place)
    assert Found(place.results).mixed() == []
    make(one, one.jobs, place)
    found = Found(place.results)
    assert found.mixed() == ["scratch on made"]
    assert "not made alike: scratch on made" in made_of(found)


def test_a_run_that_is_checked_is_no_copy_of_another_study() -> None:
    checked = inverse_effect.STUDY.smallest
    assert checked in inverse_effect.STUDY.jobs
    assert checked.arm.partition("-")[2] not in inverse_effect.TWINS


def test_several_answers_hold_together() -> None:
    yes, no, unknown = Answer(True, "a"), Answer(False, "b"), Answer(None, "c")
    assert all_of([yes, yes]).held and all_of([yes, unknown]).held is None
    assert all_of([yes, unknown, no]) == Answer(False, "a; c; b") and all_of([]).held is None


def test_kinds_that_a_blind_guess_answers_are_a_mean_of_their_own() -> None:
    images = {"add_object": 6, "swap_object": 4, "replace_object": 6}  # two show one thing
    credit = {kind: DICE.integers(0, 2, n).astype(np.float32) for kind, n in images.items()}
    of = {kind: np.arange(6) if n == 6 else np.array([0, 2, 3, 5]) for kind, n in images.items()}
    order = np.argsort(np.concatenate([*of.values()]), kind="stable")
    weights = np.concatenate([np.full(n, 1 / n) for n in images.values()])[order]
    every = Outcomes(
        np.concatenate([*credit.values()])[order],
        weights.astype(np.float32),
        np.concatenate([*of.values()])[order],
    )
    about = {"protocol": "p", "data": "d", "digest": "x"}
    figures = {ALL_KINDS: {"outcomes": packed(every), **about}}
    for kind, own in credit.items():
        figures[f"composition: accuracy/{kind}"] = {"outcomes": packed(Outcomes(own)), **about}
    told = with_composed(figures)
    found = unpacked(told[COMPOSED]["outcomes"])
    mean = (credit["swap_object"].mean() + credit["replace_object"].mean()) / 2
    assert told[COMPOSED]["value"] == pytest.approx(mean)
    assert np.average(found.values, weights=found.weights) == pytest.approx(mean)
    assert found.clusters is not None and found.clusters.tolist() == [0, 2, 3, 5, *range(6)]
    assert told[ADDED]["value"] == pytest.approx(credit["add_object"].mean())
    without = {name: figure for name, figure in figures.items() if "add_" not in name}
    assert with_composed(without)[COMPOSED] is figures[ALL_KINDS]
    assert COMPOSED not in with_composed({FIGURE: {}})


def test_an_edge_grows_where_points_and_odds_agree(place: Place) -> None:
    shares = {"a": 0.60, "b": 0.30, "c": 0.20, "d": 0.05}  # 30 points, 15 points; odds 3.5, 4.75

    def work(job: Job, _: Place) -> dict:
        own = np.random.default_rng(job.seed).permutation(1000) < 1000 * shares[job.arm]
        return record(own.astype(np.float32))

    jobs = [Job("made", arm, seed) for seed in range(3) for arm in shares]
    make(study(work, jobs=jobs), jobs, place)
    found = Found(place.results)
    told = grows(found, "made", ("a", "b"), ("c", "d"), FIGURE)
    assert told.held is None and "+15.0" in told.told and "in odds times 0.74" in told.told
    assert grows(found, "made", ("a", "d"), ("c", "d"), FIGURE).held is True
    assert grows(found, "made", ("c", "d"), ("a", "d"), FIGURE).held is False
