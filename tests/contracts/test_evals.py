"""Every file in evals/: an oracle scores 1, a constant encoder chance, and nothing goes unsaid."""

from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np
import pytest

from judged_pairs import IMAGES, Altered, Constant, Oracle, Pairs, Random
from lift import plugins
from lift.config import part, to_dict
from lift.errors import DataError, NotFinite
from lift.terms import Encoder, Evaluation, Source

NAMES = plugins.names("evals")
QUICK = {
    "linear_probe": {"decays": (0.01, 0.1), "parts": 2},
    "robustness": {"changes": ("greyscale", "flip")},
}
"""Options under which the others of its tests say the same in a tenth of the time."""

TEXTS = [n for n in NAMES if hasattr(plugins.load("evals", n).Config, "benchmark")]
"""Evaluations of text vectors."""

OTHER_OPTIONS = [
    ("few_shot", {"method": "logistic", "shots": (1, 4)}),
    ("knn", {"vote": "majority"}),
    ("lift_reference", {"task": "zeroshot"}),
    ("lift_reference", {"task": "compositional"}),
    ("lift_reference", {"pixels": False, "first_caption": False}),
    ("mosaic", {"tiles": 3}),
    ("retrieval", {"protocol": "first-caption"}),
    ("robustness", {"label": "class_name"}),
    ("winoground", {"kind": "class_name"}),
    ("zeroshot", {"templates": ("a {}.", "the {}."), "among": "present"}),
]
"""Options under which something else is asked."""

ASKED = [(name, {}) for name in NAMES] + OTHER_OPTIONS

BESIDE = {
    "mixed": ("images in top 10", "image-text cosine", "cosine gap", "false positives"),
}
"""Ends of the names of figures that are best at another number than 1."""

DIFFERENCES = ("- unchanged)", "- one list/R@10", "less whole)")
"""Ends of the names of differences; those of the reference's quirks have "effect of" within."""

NO_MEANS = ("median rank", "median rank (strict)", "cosine", "cosine gap")
"""Ends of the names of figures that are no mean of items in [0, 1], and so have no outcomes."""

NOT_ITS_OWN = ("(blind)", "(majority)")
"""Figures that end so stand beside those of an encoder: nothing of its images is in them."""


def judge(name: str, encoder, source=None, **options):
    evaluation = plugins.build(part("evals", name, **QUICK.get(name, {}), **options))
    return evaluation.run(encoder, Pairs() if source is None else source)


@functools.cache
def found(name: str, kind: type, /, **options):
    """Return what an encoder of this kind scores on all pairs; nobody changes it."""
    return judge(name, kind(), **options)


def primary(result):
    return result.metrics[result.primary]


def test_the_parts_are_what_they_stand_for():
    assert isinstance(Pairs(), Source)
    assert all(isinstance(encoder, Encoder) for encoder in (Oracle(), Constant(), Random()))


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is(name):
    evaluation = plugins.build(part("evals", name))
    assert isinstance(evaluation, Evaluation)
    result = evaluation.run(Random(), Pairs(40))
    assert (result.evaluation, result.version) == (name, evaluation.version)
    assert (result.primary, result.protocol) == (evaluation.primary, evaluation.protocol)
    assert (result.data, result.encoder) == ("pairs", "random")
    assert result.protocol and result.primary in result.metrics and result.seconds > 0


def is_difference(metric: str) -> bool:
    return metric.endswith(DIFFERENCES) or "(effect of " in metric


@pytest.mark.parametrize(("name", "options"), ASKED)
def test_an_oracle_scores_one(name, options):
    result = found(name, Oracle, **options)
    for metric, figure in result.metrics.items():
        if metric.endswith(BESIDE.get(name, ())) or metric.endswith(NOT_ITS_OWN):
            continue
        if is_difference(metric):
            assert figure.value == 0.0, metric
            continue
        assert figure.value == 1.0, metric  # the best rank is 1 too
        assert figure.high == 1.0 and 0.9 < figure.low + 4 / figure.items <= 1.1, metric
    assert all(example["right"] for example in result.examples)


@pytest.mark.parametrize(("name", "options"), ASKED)
def test_a_constant_encoder_scores_exactly_chance(name, options):
    result = found(name, Constant, **options)
    assert result.chance is not None and 0 < result.chance < 1
    assert primary(result).value == pytest.approx(result.chance, rel=1e-9)
    assert not any(example["right"] for example in result.examples)
    for metric, figure in result.metrics.items():
        if is_difference(metric):
            assert figure.value == pytest.approx(0, abs=1e-12), metric
        elif metric.startswith((f"{result.primary} (", result.primary.partition(" (")[0] + " (")):
            assert figure.value == pytest.approx(result.chance, rel=1e-9), metric


@pytest.mark.parametrize("kind", [Oracle, Random, Constant])
@pytest.mark.parametrize(("name", "options"), ASKED)
def test_a_figure_is_the_mean_of_its_outcomes(name, options, kind):
    """Models are compared by outcomes, so these have to be what the figure says."""
    for metric, figure in found(name, kind, **options).metrics.items():
        own = figure.outcomes
        if is_difference(metric) or metric.endswith(NO_MEANS):
            assert own is None, metric
            continue
        assert own is not None, metric
        mean = np.average(own.values.astype(np.float64), weights=own.weights)
        assert mean == pytest.approx(figure.value, abs=1e-6), metric
        clusters = len(own.values) if own.clusters is None else len(np.unique(own.clusters))
        assert figure.items <= clusters <= len(own.values), metric


class Edited(Pairs):
    """The same pairs, of which one sample is another."""

    def __init__(self, **changes) -> None:
        super().__init__(40)
        self.changes = changes

    def read(self, index):
        sample = super().read(index)
        if index != 7:
            return sample
        return dataclasses.replace(sample, **{n: f(sample) for n, f in self.changes.items()})


EDITS = {
    "key": lambda sample: "image-70",
    "image": lambda sample: sample.image.replace(b" image 7", b" image  7"),
    "captions": lambda sample: (sample.captions[0]._replace(language="fr"), *sample.captions[1:]),
    "foils": lambda sample: (sample.foils[0]._replace(foil="foil no 7"), *sample.foils[1:]),
    "regions": lambda sample: (sample.regions[0]._replace(box=(0.0, 0.0, 0.5, 0.4)),),
    "mask": lambda sample: sample.mask + b"8",
    "fields": lambda sample: {**sample.fields, "label": "yes"},
}


@pytest.mark.parametrize("name", NAMES)
def test_the_digest_is_of_all_that_is_asked(name):
    """Only results of one digest are compared item by item."""
    options = {"fewest": 5} if name == "multilingual" else {}
    first, again = (judge(name, Random(), Edited(), **options).digest for _ in range(2))
    assert first and first == again
    others = [
        judge(name, Random(), Edited(**{what: change}), **options).digest
        for what, change in EDITS.items()
        if not (name == "segmentation" and what == "mask")  # not a PNG any more
    ]
    assert len({first, *others}) == len(others) + 1


@pytest.mark.parametrize("name", NAMES)
def test_a_random_encoder_scores_about_chance(name):
    result = found(name, Random)
    figure = primary(result)
    assert result.chance is not None
    assert abs(figure.value - result.chance) < 2 * (figure.high - figure.low)
    assert not (figure.outcomes.values == np.float32(result.chance)).all()


@pytest.mark.parametrize("name", NAMES)
def test_repeat_runs_are_equal(name):
    first, second = (to_dict(of) for of in (found(name, Random), judge(name, Random())))
    assert first.pop("seconds") and second.pop("seconds")
    assert first == second


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_items_and_an_interval(name):
    result = found(name, Random)
    assert result.counts["images"] == IMAGES
    for metric, figure in result.metrics.items():
        assert 0 < figure.items <= 2 * IMAGES, metric
        assert figure.low <= figure.value <= figure.high, metric
        assert figure.low < figure.high, metric


@pytest.mark.parametrize("name", NAMES)
def test_intervals_shrink_with_items(name):
    small, large = primary(judge(name, Random(), Pairs(48))), primary(found(name, Random))
    assert large.items > small.items
    assert large.high - large.low < small.high - small.low


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_plain_json_with_right_and_wrong(name):
    encoder = Random()
    encoder.salt = b"4"  # one that ranks something right
    result = judge(name, encoder)
    assert json.loads(json.dumps(result.examples)) == list(result.examples)
    assert {example["right"] for example in result.examples} == {True, False}
    assert all(
        result_key.startswith("image-") for result_key in (e["key"] for e in result.examples)
    )
    options = {**QUICK.get(name, {}), "examples": 0}
    none = plugins.build(part("evals", name, **options)).run(Random(), Pairs(40))
    assert none.examples == ()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("factor", "error", "words"),
    [(np.nan, NotFinite, "NaN"), (2.0, DataError, "not of unit length")],
)
def test_broken_encoders_stop(name, factor, error, words):
    with pytest.raises(error, match=words):
        judge(name, Altered(factor))


@pytest.mark.parametrize("name", NAMES)
def test_zero_rows_score_chance(name):
    result = judge(name, Altered(0.0))
    if name == "mixed":  # captions still tell each other apart; images tie below half of them
        assert result.metrics["1:1 one list/R@10 (as image)"].value == 0
        assert result.metrics["1:1 one list/images in top 10"].value == 0
        return
    assert primary(result).value == pytest.approx(result.chance, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_source_stops(name):
    with pytest.raises(DataError, match="pairs holds no"):
        judge(name, Random(), Pairs(0))


@pytest.mark.parametrize("name", TEXTS)
def test_warns_of_captions_that_the_text_encoder_saw(name):
    encoder = Random()
    encoder.saw = ("coco", "flickr30k")
    words = "text encoder saw these captions"
    assert not any(words in note for note in judge(name, encoder, Pairs(40)).notes)
    for benchmark in ("coco", "flickr8k", "sugarcrepe", "Flickr30k"):
        evaluation = plugins.build(part("evals", name, **QUICK.get(name, {}), benchmark=benchmark))
        assert any(words in note for note in evaluation.run(encoder, Pairs(40)).notes), benchmark
        assert not any(words in note for note in evaluation.run(Random(), Pairs(40)).notes)
    named = Pairs(40)
    named.name = "data/Flickr8k/val-0000"
    assert any("flickr30k, which overlaps flickr8k" in n for n in judge(name, encoder, named).notes)
    silenced = plugins.build(part("evals", name, benchmark="own pairs")).run(encoder, named)
    assert not any(words in note for note in silenced.notes)


@pytest.mark.parametrize("name", NAMES)
def test_has_defaults_for_every_option(name):
    assert plugins.configure(part("evals", name)) == plugins.load("evals", name).Config()
