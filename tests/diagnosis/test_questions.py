"""What the figures are, on vectors small enough to count by hand; and who can't be asked."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from lift import plugins
from lift.config import Part, to_dict
from lift.diagnosis import ROOM, answer, diagnose, table
from lift.diagnosis._finding import LEVELS, Finding, Question, level_of
from lift.diagnosis._measured import Measured, measure
from lift.diagnosis.hubness import occurrences, skewness
from lift.diagnosis.inverse import CONTENTS, FRAMES, sentences
from lift.diagnosis.temperature import calibration_error
from lift.errors import ConfigError, DataError, MissingRows
from lift.terms import Caption
from lift.text.geometry import spread
from listed_samples import Listed
from planted_faults import Model, Texts, captions, pairs, unit

QUESTIONS = plugins.names(ROOM)


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts()


@pytest.fixture(scope="module")
def model(texts: Texts) -> Model:
    return Model(texts)


@pytest.fixture(scope="module")
def measured(model: Model, texts: Texts) -> Measured:
    return measure(model, pairs(captions(60), texts), label="kind")


def ask(name: str, measured: Measured) -> Finding:
    question = plugins.build(Part(ROOM, name))
    assert isinstance(question, Question)
    return question.ask(measured)


def test_alignment_and_uniformity_are_the_papers(measured: Measured) -> None:
    z, t = measured.z_image.astype(float), measured.z_text.astype(float)
    assert ask("alignment", measured).value == pytest.approx(((z - t) ** 2).sum(1).mean(), abs=1e-6)
    naive = [
        math.exp(-2 * float(((a - b) ** 2).sum()))
        for i, a in enumerate(t)
        for j, b in enumerate(t)
        if i != j
    ]
    found = ask("uniformity", measured)
    assert found.value == pytest.approx(math.log(sum(naive) / len(naive)), abs=1e-6)
    assert found.low is not None and found.high is not None and found.value is not None
    assert found.low < found.value < found.high


def test_the_gap_and_what_a_shift_explains(measured: Measured) -> None:
    apart = measured.z_image.astype(float) - measured.z_text
    found = ask("gap", measured)
    assert found.value == pytest.approx(np.linalg.norm(apart.mean(0)), abs=1e-6)
    left = ((apart - apart.mean(0)) ** 2).sum(1).mean() / (apart**2).sum(1).mean()
    assert found.details["explained_by_a_shift"] == pytest.approx(1 - left, abs=1e-6)
    wins = [
        z @ own > other @ own
        for n, (z, own) in enumerate(zip(measured.z_image, measured.z_text, strict=True))
        for m, other in enumerate(measured.z_text)
        if m != n
    ]
    assert found.details["image_beats_other_caption"] == pytest.approx(np.mean(wins))


def test_effective_rank_is_that_of_the_card(measured: Measured) -> None:
    found = ask("rank", measured)
    assert found.value == pytest.approx(spread(measured.z_image.astype(float)).centred_rank)
    assert found.details["captions"] == pytest.approx(
        spread(measured.z_text.astype(float)).centred_rank
    )


def test_hubs_are_counted_and_ties_shared() -> None:
    rows = unit(np.random.default_rng(0).normal(size=(40, 8)))
    naive = np.zeros(40)
    for query in rows[::-1]:
        naive[np.argsort(-(rows @ query))[:5]] += 1
    assert occurrences(rows[::-1].copy(), rows, 5).sum(0) == pytest.approx(naive)
    same = np.ones((40, 8), np.float32) / math.sqrt(8)
    assert occurrences(rows, same, 5).sum(0) == pytest.approx(np.full(40, 5.0))
    assert skewness(np.full(40, 5.0)) == 0
    assert skewness(np.array([0.0, 0.0, 0.0, 4.0])) == pytest.approx(2 / math.sqrt(3))


def test_calibration_error_of_known_chances() -> None:
    sure = np.repeat([0.25, 0.75], 300)
    right = np.tile([1.0, 0.0, 0.0, 0.0], 150)  # a quarter of both halves
    assert calibration_error(sure, right) == pytest.approx(0.25, abs=0.01)
    assert calibration_error(np.ones(30), np.ones(30)) == 0


def test_the_best_scale_is_found(texts: Texts) -> None:
    """Vectors whose chances are known: a caption is drawn by a softmax with scale 12."""
    dice = np.random.default_rng(0)
    image, text = (unit(dice.normal(size=(400, 24))) for _ in range(2))
    chances = np.exp(12 * image @ text.T)
    drawn = [int(dice.choice(400, p=row / row.sum())) for row in chances.astype(float)]
    source = pairs(captions(400), texts)
    measured = dataclasses.replace(
        measure(Model(texts), source), z_image=image, z_text=text, owner=np.arange(400), scale=60.0
    )
    # Each image with the caption drawn for it, as often as others drew it.
    measured.__dict__["pairs"] = dataclasses.replace(
        measured.pairs, text=np.array(drawn), z_image=image, z_text=text[drawn]
    )
    found = ask("temperature", measured)
    assert 6 < found.details["calibrating_scale"] < 20
    assert found.level == "fault" and "too sure" in found.means
    assert ask("temperature", dataclasses.replace(measured, scale=None)).level == "skipped"


def test_a_part_of_wrong_pairs_is_bounded(texts: Texts, model: Model) -> None:
    said = captions(200)
    told = [*said[1:80], said[0], *said[80:]]  # the first 80 are one off
    found = ask("pairing", measure(model, pairs(said, texts, told=told)))
    assert found.level == "fine" and 0.3 < found.details["mispaired_at_most"] < 0.7
    assert ask("pairing", measure(model, pairs(said, texts))).details["mispaired_at_most"] < 0.2


def test_duplicates_cost_what_cannot_be_told_apart(texts: Texts, model: Model) -> None:
    said = [*captions(8)[:4], *[captions(8)[4]] * 4]
    source = pairs(said, texts)
    found = ask("duplicates", measure(model, source))
    assert found.value == 0.5 and found.items == 5
    assert found.details["recall_lost_at_most"] == pytest.approx(0.5 * 0.75)
    copies = [dataclasses.replace(source.samples[4], key=f"copy {n}") for n in range(4)]
    found = ask("duplicates", measure(model, Listed([*source.samples[:4], *copies], "copies")))
    assert found.value == 0  # one image file under four keys


def test_classes_are_judged_in_text_and_beside_images(measured: Measured) -> None:
    found = ask("confusion", measured)
    names = sorted(set(measured.labels or ()))
    rows = measured.encoder.encode_texts([f"a photo of a {name}." for name in names])
    cosine = rows @ rows.T - 2 * np.eye(len(rows))
    assert found.value == pytest.approx(cosine.max(), abs=1e-6) and found.items == len(names)
    first = found.details["closest"][0]["classes"]
    assert cosine[names.index(first[0]), names.index(first[1])] == pytest.approx(cosine.max())
    taken = [names[int(n)] for n in (measured.z_image @ rows.T).argmax(1)]
    rival = {name: names[int(cosine[n].argmax())] for n, name in enumerate(names)}
    wrong = [(a, b) for a, b in zip(measured.labels or (), taken, strict=True) if a != b]
    errors = found.details["errors_to_nearest_class"]
    assert errors["errors"] == len(wrong) and errors["images"] == 60
    assert errors["share"] == pytest.approx(np.mean([rival[a] == b for a, b in wrong]))


def test_classes_are_judged_alike_in_a_space_that_crowds(texts: Texts) -> None:
    def crowd(z: np.ndarray) -> np.ndarray:
        return np.concatenate([z, np.full((len(z), 1), 8.0, z.dtype)], axis=1)

    found = ask(
        "confusion",
        measure(Model(texts, image=crowd, text=crowd), pairs(captions(60), texts), label="kind"),
    )
    assert found.value is not None and found.value > 0.99 and found.level == "fine"


def test_pairs_have_distinct_captions_and_files(texts: Texts, model: Model) -> None:
    said = captions(6)
    source = pairs([*said, said[0], said[1]], texts)
    twin = dataclasses.replace(source.samples[2], key="twin", captions=(Caption("a red bus"),))
    found = measure(model, Listed([*source.samples, twin], "some")).pairs
    assert found.image.tolist() == [0, 1, 2, 3, 4, 5]
    assert len(set(found.text.tolist())) == 6


def test_the_generated_sentences_say_what_they_should() -> None:
    said = sentences()
    assert len(set(said)) == len(said) == len(CONTENTS) * len(FRAMES)
    assert said[:3] == [
        "A brown dog chases a red ball on the beach.",
        "A red ball is chased by a brown dog on the beach.",
        "On the beach, a brown dog chases a red ball.",
    ]
    assert "There are two children flying the yellow kites above a hill." in said
    words = [{*" ".join(content).split()} - {"a", "an", "the"} for content in CONTENTS]
    assert all(not words[a] & words[b] for a in range(12) for b in range(a))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_few_images_are_enough_for_no_answer_and_no_crash(
    model: Model, texts: Texts, count: int
) -> None:
    found = diagnose(model, pairs(captions(count), texts), label="kind")
    assert {f.level for f in found.findings} <= {"skipped", "fine"}
    skipped = {f.name: f.means for f in found.findings if f.level == "skipped"}
    assert "too few" in skipped["pairing"]
    json.dumps(to_dict(found), allow_nan=False)


def test_a_sample_is_drawn_by_key_and_told(model: Model, texts: Texts) -> None:
    source = pairs(captions(80), texts)
    found = measure(model, source, limit=50)
    turned = measure(model, Listed(source.samples[::-1], "turned"), limit=50)
    assert len(found.keys) == 50 and set(found.keys) == set(turned.keys)
    assert found.keys == sorted(found.keys)  # in the order of the source
    told = answer(found, [])
    assert told.notes == ("50 of 80 images were looked at, drawn by the hash of their keys.",)
    assert told.notes[0] in table(told)
    many = dataclasses.replace(
        source.samples[0], captions=tuple(Caption(text) for text in captions(7))
    )
    found = measure(model, Listed([many, *source.samples[7:]], "many"))
    assert int((found.owner == 0).sum()) == 5 and "first 5 captions" in found.notes[-1]
    with pytest.raises(ConfigError, match="2 or more"):
        measure(model, source, limit=1)
    with pytest.raises(DataError, match="no captions"):
        measure(model, Listed([dataclasses.replace(many, captions=())], "none"))


class Stored(Model):
    """Vectors of known texts and image files, and of nothing else."""

    def encode_texts(self, texts) -> np.ndarray:
        if any(not text.startswith("a ") or "photo" in text for text in texts):
            raise MissingRows("no vector")
        return super().encode_texts(texts)

    def encode_images(self, images) -> np.ndarray:
        if not all(isinstance(image, bytes) for image in images):
            raise DataError("not a file")
        return super().encode_images(images)


def test_stored_vectors_answer_what_they_can(texts: Texts) -> None:
    found = diagnose(Stored(texts), pairs(captions(60), texts), label="kind")
    levels = {f.name: f.level for f in found.findings}
    skipped = {name for name, level in levels.items() if level == "skipped"}
    assert skipped == {"class confusion", "content over syntax", "told apart", "pixels"}
    assert all("no vector" in f.means for f in found.findings[-4:] if f.name != "pixels")


def test_levels_go_from_bad_to_good_and_a_cause_takes_the_blame(texts: Texts) -> None:
    assert level_of(3, 1, 2) == "fault" and level_of(1, 1, 2) == "look"
    assert level_of(0.1, 0.5, 0.2) == "fault" and level_of(0.6, 0.5, 0.2) == "fine"
    wrong = Model(texts, mean=-3.0)
    found = diagnose(wrong, pairs(captions(60), texts))
    ranks = [LEVELS.index(f.level) for f in found.findings]
    assert ranks == sorted(ranks)
    alike = next(f for f in found.findings if f.name == "images alike")
    assert alike.level == "look" and "may follow from the pixels" in alike.means
    lines = table(found).splitlines()
    assert max(map(len, lines)) <= 120 and lines[1].startswith("fault    ")
    first = found.findings[0]
    assert first.unit in lines[1] and f"[{first.low:.1%}, {first.high:.1%}]" in lines[1]
    assert "try: Give the encoder pixels" in "\n".join(lines[2:5])


def test_every_question_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "diagnosis.md").read_text()
    names = {plugins.load(ROOM, name).NAME for name in QUESTIONS}
    assert len(names) == len(QUESTIONS)
    assert {name for name in names if f"| {name} |" not in text} == set()
