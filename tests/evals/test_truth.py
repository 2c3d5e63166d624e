"""Truth: the area against all pairs and DeLong, thresholds from elsewhere, and blind guesses."""

from __future__ import annotations

import numpy as np
import pytest

from lift.errors import ConfigError, DataError
from lift.evals import _metrics as metrics
from lift.evals import truth
from lift.terms import Caption, Sample


def told(number, sentence, label, image=None):
    content = image or f"image {number}".encode()
    return Sample(f"k{number}", content, (Caption(sentence, "sentence"),), {"label": label})


def run(samples, list_source, encoder, **options):
    return truth.build(truth.Config(**options)).run(encoder, list_source(samples))


def drawn(rng, count=60):
    score = rng.integers(0, 8, count).astype(np.float64) / 8
    return score, rng.random(count) < 0.3 + 0.4 * score


def test_the_area_is_the_share_of_pairs_in_order():
    score, true = drawn(np.random.default_rng(0))
    lead = score[true][:, None] - score[~true][None, :]
    expected = ((lead > 0) + (lead == 0) / 2).mean()
    noisy = score + np.random.default_rng(1).uniform(-2e-7, 2e-7, len(score))
    for values in (score, noisy):
        assert truth.influence(values, true).mean() == pytest.approx(expected, abs=1e-12)
        place = truth.placements(values, true)
        assert place[true].mean() == pytest.approx(expected)
        assert place[~true].mean() == pytest.approx(expected)


def test_its_variance_is_delongs():
    score, true = drawn(np.random.default_rng(3), 200)
    place = truth.placements(score, true)
    # DeLong, DeLong and Clarke-Pearson (1988), equation 5, with n for n - 1 in both variances.
    delong = place[true].var() / true.sum() + place[~true].var() / (~true).sum()
    values = truth.influence(score, true)
    assert values.var() / len(values) == pytest.approx(delong)
    figure = metrics.share(values, clusters=np.arange(len(values)))
    half = metrics.Z95 * np.sqrt(delong)
    assert figure.high - figure.low == pytest.approx(2 * half, rel=0.1)


def test_a_threshold_is_the_best_there_is():
    rng = np.random.default_rng(4)
    for _ in range(20):
        score, true = drawn(rng, 25)
        cut = truth.threshold(score, true)
        best = max(((score > c) == true).mean() for c in (-1, *(np.unique(score) + 0.01)))
        assert ((score > cut) == true).mean() == pytest.approx(best)
        assert np.abs(score - cut).min() > metrics.TIE
    same = np.full(5, 0.25) + rng.uniform(-2e-7, 2e-7, 5)
    assert truth.threshold(same, np.array([True, True, True, False, False])) == -np.inf
    assert truth.threshold(same, np.array([True, True, False, False, False])) == np.inf


def angle(cosine):
    return [cosine, np.sqrt(1 - cosine**2)]


def test_figures_by_hand(list_source, vectors):
    """Sentence s is [1, 0]; images are told by their cosine with it."""
    cosines = {0: 0.9, 1: 0.2, 2: 0.8, 3: 0.3, 4: 0.5, 5: 0.5}
    known = {f"image {n}".encode(): angle(c) for n, c in cosines.items()}
    known |= {"s": [1, 0], "t": [1, 0], "u": [1, 0]}
    samples = [
        *(told(0, "s", "true"), told(1, "s ", "false"), told(2, "t", "False"), told(3, "t", "1")),
        *(told(4, "u", "yes"), told(5, "u", "no"), told(9, "u", " ")),
    ]
    result = run(samples, list_source, vectors(known, 2))
    values = {name: figure.value for name, figure in result.metrics.items()}
    # true .9 .3 .5, false .2 .8 .5: of nine pairs 3 + 1 + 1.5 are in order.
    assert values["AUC"] == pytest.approx(5.5 / 9)
    assert values["which image fits"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert values["accuracy (majority)"] == 0.5 and values["AUC (blind)"] == 0.5
    # Others' thresholds: s is judged by t and u, and so on; the first best cut from below.
    by_others = []
    for out in ("s", "t", "u"):
        rest = [n for n in range(6) if samples[n].captions[0].text.strip() != out]
        true = np.array([truth._is_true(samples[n].fields["label"].lower(), "", "") for n in rest])
        cut = truth.threshold(np.array([cosines[n] for n in rest]), true)
        mine = [n for n in range(6) if n not in rest]
        by_others += [
            (cosines[n] > cut) == (samples[n].fields["label"].lower() in ("true", "1", "yes"))
            for n in mine
        ]
    assert values["accuracy"] == pytest.approx(np.mean(by_others))
    assert result.counts == {
        "images": 6,
        "items": 6,
        "true": 3,
        "sentences": 3,
        "images without a label": 1,
    }
    outcomes = result.metrics["AUC"].outcomes
    assert outcomes is not None and outcomes.values.mean() == pytest.approx(5.5 / 9)


def test_intervals_know_images_and_sentences(list_source, vectors):
    rng = np.random.default_rng(5)
    known = {f"image {n}".encode(): angle(rng.uniform(-1, 1)) for n in range(40)}
    known |= {f"s{n}": [1, 0] for n in range(40)}
    labels = ["true" if rng.random() < 0.5 else "false" for _ in range(40)]
    apart = [told(n, f"s{n}", labels[n]) for n in range(40)]
    again = [told(n, f"s{n % 40}", labels[n % 40], f"image {n % 40}".encode()) for n in range(120)]
    first, thrice = (run(s, list_source, vectors(known, 2)) for s in (apart, again))
    one, three = first.metrics["AUC"], thrice.metrics["AUC"]
    assert three.value == pytest.approx(one.value) and three.items == one.items == 40
    # Items that share both count twice: wider than need be, never narrower.
    assert 0.99 < (three.high - three.low) / (one.high - one.low) < 1.6
    assert "which image fits" not in first.metrics
    assert any("which fits is not asked" in note for note in first.notes)


def test_one_sentence_has_no_threshold_from_others(list_source, vectors):
    known = {b"a": angle(0.9), b"b": angle(0.2), "s": [1, 0]}
    samples = [told(0, "s", "true", b"a"), told(1, "s", "false", b"b")]
    result = run(samples, list_source, vectors(known, 2))
    assert result.metrics["AUC"].value == 1 and "accuracy" not in result.metrics
    assert any("one sentence only" in note for note in result.notes)


def test_sentences_that_give_themselves_away(list_source, vectors):
    rng = np.random.default_rng(6)
    samples, known = [], {}
    for n in range(150):
        label = bool(rng.random() < 0.6)
        known[f"s{n}"] = rng.standard_normal(6) + 2 * label * np.eye(6)[0]
        samples.append(told(n, f"s{n}", str(label)))
    result = run(samples, list_source, vectors(known, 6))
    assert result.metrics["AUC (blind)"].low > 0.6
    assert any("truth is guessable without the image" in note for note in result.notes)
    rng = np.random.default_rng(8)
    fair = [told(n, f"s{n}", str(bool(rng.random() < 0.6))) for n in range(150)]
    blind = run(fair, list_source, vectors(known, 6)).metrics["AUC (blind)"]
    assert blind.low < 0.5 < blind.high


def test_a_sentence_lies_in_a_field_or_a_role(list_source, vectors):
    fields = [{"says": "s", "is": "true"}, {"says": "s", "is": "false"}]
    samples = [Sample(f"{n}", b"%d" % n, (), f) for n, f in enumerate(fields)]
    assert run(samples, list_source, vectors({}), sentence="says", label="is").counts["items"] == 2
    with pytest.raises(DataError, match=r"field of list .*'sentence'"):
        run(samples, list_source, vectors({}), label="is")


def test_what_is_wrong_is_said(list_source, vectors):
    with pytest.raises(DataError, match="label 'maybe', which is neither true nor false"):
        run([told(0, "s", "maybe")], list_source, vectors({}))
    with pytest.raises(DataError, match="holds no false sentence by its 'label'"):
        run([told(0, "s", "true"), told(1, "s", "1")], list_source, vectors({}))
    with pytest.raises(DataError, match="holds no true sentence"):
        run([told(0, "s", "no"), told(1, "s", "")], list_source, vectors({}))
    with pytest.raises(ConfigError, match=r"truth\.examples"):
        truth.build(truth.Config(examples=-1))
