"""Compositional: kinds, groups, ties, one cluster an image; what texts alone and captions tell."""

from __future__ import annotations

import math
from itertools import permutations, product

import numpy as np
import pytest

from lift.errors import ConfigError, DataError
from lift.evals import _choice as choice
from lift.evals import _encode, compositional
from lift.terms import Caption, Foil, Sample

PLANTED = {"right": [1, 0], "wrong": [0, 1], "same": [1, 0], b"image": [1, 0], b"other": [1, 0]}


def sample(key, image, *foils):
    return Sample(key, image, (Caption("right"),), foils=tuple(Foil(*foil) for foil in foils))


def run(source, encoder):
    return compositional.build(compositional.Config()).run(encoder, source)


@pytest.mark.parametrize("chunk", [1, 2, 256])
def test_kinds_means_and_ties(chunk, list_source, vectors, monkeypatch):
    monkeypatch.setattr(_encode, "CHUNK", chunk)
    samples = [
        sample("a", b"image", ("add", "right", "wrong"), ("swap", "wrong", "right")),
        sample("b", b"other", ("add", "right", "wrong"), ("add", "right", "same")),
        sample("c", b"image", ("add", "right", "wrong")),
        sample("d", b"image"),
    ]
    result = run(list_source(samples), vectors(PLANTED, 2))
    values = {name: metric.value for name, metric in result.metrics.items()}
    assert {n: v for n, v in values.items() if not n.endswith(")")} == {
        "accuracy/mean of kinds": pytest.approx((3.5 / 4 + 0) / 2),
        "accuracy/all items": pytest.approx(3.5 / 5),
        "accuracy/add": pytest.approx(3.5 / 4),
        "accuracy/swap": 0,
    }
    # "a" and "c" are one photograph under two keys: one cluster.
    assert result.counts == {
        "images": 2,
        "items": 5,
        "ties": 1,
        "images without foils": 1,
        "items without other captions": 5,
    }
    assert result.metrics["accuracy/add"].items == 2
    assert "ties, counted by expectation: 1" in result.notes and result.chance == 0.5
    first = next(example for example in result.examples if example["kind"] == "swap")
    assert first == {
        "key": "a",
        "index": 0,
        "item": 1,
        "kind": "swap",
        "caption": "wrong",
        "foil": "right",
        "caption_score": 0.0,
        "foil_score": 1.0,
        "right": False,
    }


def test_no_foils_stop(list_source, vectors):
    with pytest.raises(DataError, match="list holds no foils"):
        run(list_source([sample("a", b"image")]), vectors(PLANTED, 2))


def test_negative_examples_stop():
    with pytest.raises(ConfigError, match=r"compositional\.examples"):
        compositional.build(compositional.Config(examples=-1))


def test_one_question_of_many_images_is_counted_as_such(list_source, vectors):
    asked = [("add", f"right {n}", f"wrong {n}") for n in range(10)]
    shared = [sample(f"k{i}", f"image {i}".encode(), asked[i % 10]) for i in range(60)]
    alone = [
        sample(f"k{i}", f"image {i}".encode(), ("add", f"right {i}", f"wrong {i}"))
        for i in range(60)
    ]
    result = run(list_source(shared), vectors({}))
    assert all(figure.items == 10 for figure in result.metrics.values())
    assert all(f.items == 60 for f in run(list_source(alone), vectors({})).metrics.values())


def grouped(questions):
    """Return questions with these right and wrong texts, each about an image of its own."""
    return [
        choice.Question(f"k{n}", n, n, n, "kind", right, wrong, ())
        for n, (right, wrong) in enumerate(questions)
    ]


@pytest.mark.parametrize(("right", "wrong"), [(1, 1), (1, 3), (2, 1), (2, 2)])
def test_ties_are_the_expectation_over_all_orders(right, wrong):
    """Every pattern of equal scores, against every order in which nobody breaks the ties."""
    patterns = np.array(list(product(range(3), repeat=right + wrong)), dtype=np.float64)
    orders = list(permutations(range(right + wrong)))
    expected = [
        np.mean([min(list(zip(p, o, strict=True))[:right])
                 > max(list(zip(p, o, strict=True))[right:]) for o in orders])
        for p in patterns.tolist()
    ]  # fmt: skip
    count = len(patterns)
    texts = choice.Texts(
        np.empty((0, 0), np.float32),
        np.zeros(patterns.size, np.int64),
        np.repeat(np.arange(count), right + wrong),
        np.tile(np.arange(right + wrong) >= right, count),
        np.empty(0, np.int64),
        np.empty(0, np.int64),
    )
    # What float32 rounds is a tie, too.
    noise = np.random.default_rng(0).uniform(-2e-7, 2e-7, patterns.shape)
    found, drawn = choice.credits((patterns + noise).reshape(-1), texts, count)
    np.testing.assert_allclose(found, expected)
    assert ((found == 0) | (found == 1) | drawn).all()
    low, high = choice.edges(patterns.reshape(-1), texts, count)
    np.testing.assert_array_equal(patterns.reshape(-1)[low], patterns[:, :right].min(axis=1))
    np.testing.assert_array_equal(patterns.reshape(-1)[high], patterns[:, right:].max(axis=1))


def test_foils_of_a_group_are_one_question(list_source, vectors):
    known = {"low right": [0.6, 0.8], "half": [0.8, 0.6], **PLANTED}
    two_captions = [("pp", "right", "half", "g"), ("pp", "low right", "half", "g")]
    orders = [("aro", "half", "wrong", "h"), ("aro", "half", "low right", "h")]
    samples = [
        sample("a", b"image", *two_captions, *orders, ("one", "right", "same")),
        sample("b", b"other", *two_captions[:1], *orders),
    ]
    result = run(list_source(samples), vectors(known, 2))
    values = {name: metric.value for name, metric in result.metrics.items()}
    assert values["accuracy/pp"] == 0.5  # the lower of two captions loses; alone, the other wins
    assert values["accuracy/aro"] == 1 and values["accuracy/one"] == 0.5
    assert result.counts["items"] == 5 and result.counts["items of several texts"] == 3
    chance = {"pp": (1 / 3 + 1 / 2) / 2, "aro": 1 / 3, "one": 1 / 2}
    assert result.chance == pytest.approx(np.mean(list(chance.values())))
    flat = run(list_source(samples), vectors({key: [1, 0] for key in known}, 2))
    assert flat.metrics[flat.primary].value == pytest.approx(result.chance)
    for kind, by_chance in chance.items():
        assert flat.metrics[f"accuracy/{kind}"].value == pytest.approx(by_chance)
        assert flat.metrics[f"accuracy/{kind} (blind)"].value == pytest.approx(by_chance)


def test_a_text_that_is_right_and_wrong_is_counted(list_source, vectors):
    source = list_source([sample("a", b"image", ("add", "right", " right"))])
    result = run(source, vectors({**PLANTED, " right": [1, 0]}, 2))
    assert result.counts["items whose foil is their caption"] == 1
    assert result.metrics["accuracy/add"].value == 0.5


def questions(count: int, lean: float, rng, **known):
    """Return samples whose foils lean to one side by this much, and the vectors of their texts."""
    samples = []
    for n in range(count):
        base, side = rng.standard_normal(8), lean * np.eye(8)[0]
        known[f"right {n}"] = base + side
        known[f"wrong {n}"] = base - side + 0.1 * rng.standard_normal(8)
        samples.append(sample(f"k{n}", f"{n}".encode(), ("add", f"right {n}", f"wrong {n}")))
    return samples, known


@pytest.mark.parametrize("lean", [0.0, 0.5])
def test_foils_that_lean_are_guessable_without_the_image(lean, list_source, vectors):
    samples, known = questions(120, lean, np.random.default_rng(1))
    result = run(list_source(samples), vectors(known, 8))
    blind = result.metrics["accuracy/add (blind)"]
    said = [note for note in result.notes if "guessable without the image" in note]
    if lean:
        assert blind.value > 0.95 and blind.low > 0.9
        assert said[0].startswith("foils of add are guessable") and "chance is 50.0%" in said[0]
    else:
        assert blind.low < 0.5 < blind.high and not said


def test_a_guess_never_saw_what_it_is_judged_on(list_source, vectors):
    """Texts that have nothing in common can't be guessed from others, only from themselves."""
    rows = np.eye(64)
    known = {f"{side} {n}": rows[2 * n + at] for n in range(32)
             for at, side in enumerate(("right", "wrong"))}  # fmt: skip
    alone = [sample(f"k{n}", b"%d" % n, ("add", f"right {n}", f"wrong {n}")) for n in range(32)]
    again = [
        sample(f"l{n}", b"again %d" % n, ("add", f"right {n}", f"wrong {n}")) for n in range(32)
    ]
    turned = [
        sample(f"m{n}", b"turned %d" % n, ("add", f"wrong {n}", f"right {n}")) for n in range(32)
    ]
    # One caption against several foils: what one question of an image teaches, answers the next.
    foils = [[("add", f"right {n}", f"wrong {m}") for m in range(4 * n, 4 * n + 4)] for n in (0, 5)]
    of_one_image = [sample(f"n{n}", b"one %d" % n, *asked) for n, asked in enumerate(foils)]
    for samples in (alone, [*alone, *again], [*alone, *turned], of_one_image):
        result = run(list_source(samples), vectors(known, 64))
        assert result.metrics["accuracy/add (blind)"].value == 0.5


def test_the_oracle_sees_the_other_captions_only(list_source, vectors):
    known = {**PLANTED, "other": [1, 0], "odd": [0, 1], b"blank": [0.5, 0.5]}

    def told(key, *captions, foil="wrong"):
        foils = (Foil("add", "right", foil),)
        return Sample(key, b"blank", tuple(Caption(c) for c in captions), foils=foils)

    result = run(
        list_source(
            [
                told("a", "right", "other"),
                told("b", "right", "odd"),
                told("c", "right", "Right.", " right "),  # the one that is asked, three times
                told("d", "right", "odd", "other", "other"),
            ]
        ),
        vectors(known, 2),
    )
    assert result.metrics["accuracy/add (oracle)"].value == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert result.metrics["accuracy/add"].value == 0.5
    assert result.counts["items without other captions"] == 1
    assert any("1 of 4 items have no other caption" in note for note in result.notes)
    without = compositional.build(compositional.Config(oracle=False, blind=False))
    found = without.run(vectors(known, 2), list_source([told("a", "right", "other")]))
    assert list(found.metrics) == [
        *("accuracy/mean of kinds", "accuracy/all items", "accuracy/add"),
    ]
    assert found.protocol == "caption against foil" != result.protocol


def test_ridge_is_the_minimum_in_both_forms():
    rng = np.random.default_rng(2)
    for shape in ((7, 20), (40, 5)):
        x, y = rng.standard_normal(shape), rng.standard_normal(shape[0])
        w = choice.ridge(x, y)
        penalty = choice.RIDGE * np.square(x).sum() / min(shape)
        np.testing.assert_allclose(x.T @ (x @ w - y) + penalty * w, 0, atol=1e-9)
    assert not choice.ridge(np.zeros((3, 4)), np.ones(3)).any()
    assert not choice.ridge(np.zeros((0, 4)), np.ones(0)).any()


def test_chance_counts_orders():
    asked = grouped([(("a",), ("b",)), (("a", "b"), ("c",)), (("a",), ("b", "c", "d", "e"))])
    assert [q.chance for q in asked] == [1 / 2, 1 / 3, 1 / 5]
    assert asked[0].chance == 1 / math.comb(2, 1)
