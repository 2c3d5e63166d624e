"""Questions about scenes: right by the facts, and nobody guesses them."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from lift.data.dice import generator
from lift.data.formats._scene_facts import Dice, draw_scene
from lift.errors import DataError
from lift.terms import Sample
from lift.vlm.answering import accuracy
from lift.vlm.questions import ANSWERS, CHANCE, KINDS, Question, questions

Asked = list[tuple[Sample, list[Question]]]


@pytest.fixture(scope="module")
def many() -> Asked:
    """Facts of scenes alone: nothing is painted."""
    rng = generator(5, 1)
    told = (draw_scene(Dice(rng)).as_json() for _ in range(1000))
    return list(questions(Sample(f"{i}", b"", (), {"scene": one}) for i, one in enumerate(told)))


def facts(sample: Sample) -> list[dict[str, object]]:
    return json.loads(sample.fields["scene"])["things"]


def singular(word: str) -> str:
    return {"crosses": "cross"}.get(word, word.removesuffix("s") if word != "cross" else word)


def true_answer(text: str, things: list[dict[str, object]]) -> str:
    """Answer from the facts, in another way than the questions were made."""
    words = [singular(w) if w not in ("is", "colour") else w for w in text.rstrip("?").split()]
    by_shape = {str(t["shape"]): t for t in things}
    if words[0] == "what":
        return str(by_shape[words[-1]]["colour"])
    if words[0] == "how":
        return ("zero", "one", "two", "three", "four")[int(str(by_shape[words[2]]["number"]))]
    if words[1] == "there":
        thing = by_shape.get(words[-1])
        return "yes" if thing is not None and words[-2] in (thing["colour"], "a") else "no"
    first, second = by_shape[words[3]], by_shape[words[-1]]
    assert (first["colour"], second["colour"]) == (words[2], words[-2])
    x = int(str(first["column"])) - int(str(second["column"]))
    y = int(str(first["row"])) - int(str(second["row"]))
    return (
        "yes" if {"left": x < 0, "right": x > 0, "above": y < 0, "below": y > 0}[words[4]] else "no"
    )


def test_answers_are_right_by_the_facts(many: Asked) -> None:
    for sample, own in many:
        for one in own:
            assert one.key == sample.key
            assert one.answer in ANSWERS[one.kind]
            assert true_answer(one.text, facts(sample)) == one.answer, (one, facts(sample))


def test_every_answer_is_as_frequent_as_any_other(many: Asked) -> None:
    for kind in KINDS:
        counts = Counter(q.answer for _, own in many for q in own if q.kind == kind)
        assert set(counts) == set(ANSWERS[kind])
        assert max(counts.values()) - min(counts.values()) <= 3, (kind, counts)


def guessed(learned: list[Question], text: str, answers: tuple[str, ...]) -> str:
    """Return the likeliest answer by the words of a question (naive Bayes)."""
    votes = dict.fromkeys(answers, 0.0)
    for word in text.split():
        seen = Counter(one.answer for one in learned if word in one.text.split())
        total = sum(seen.values()) + len(answers)
        for answer in answers:
            votes[answer] += float(np.log((seen[answer] + 1) / total))
    return max(votes, key=lambda answer: votes[answer])


@pytest.mark.parametrize("kind", KINDS)
def test_who_reads_the_question_alone_has_chance(kind: str, many: Asked) -> None:
    """The best answer to the words of the questions, learned on half, judged on the other half."""
    own = [one for _, found in many for one in found if one.kind == kind]
    learned, judged = own[: len(own) // 2], own[len(own) // 2 :][:200]
    share = np.mean([guessed(learned, q.text, ANSWERS[kind]) == q.answer for q in judged])
    error = (CHANCE[kind] * (1 - CHANCE[kind]) / len(judged)) ** 0.5
    assert abs(share - CHANCE[kind]) < 3.5 * error, (kind, share)


def test_equal_seeds_ask_equally_and_others_do_not(many: Asked) -> None:
    samples = [sample for sample, _ in many[:50]]
    first, again, other = (list(questions(samples, seed)) for seed in (0, 0, 1))
    assert first == again == many[:50]
    assert first != other


def test_no_kind_is_first_oftener(many: Asked) -> None:
    """In training, only the first question's answer can't be helped by what was said before."""
    first = Counter(own[0].kind for _, own in many)
    assert min(first[kind] for kind in ("existence", "attribute", "relation")) > 180


@pytest.mark.parametrize("scene", [None, "", "[]", '{"things": [{"shape": "cow"}]}', "[" * 100_000])
def test_what_is_no_scene_is_refused(scene: str | None) -> None:
    sample = Sample("photo", b"", (), {} if scene is None else {"scene": scene})
    with pytest.raises(DataError, match=r"'photo' is no drawn scene .* scenes:count=... alone\.$"):
        list(questions([sample]))


def test_accuracy_counts_kinds_alike_and_scenes_as_items() -> None:
    asked = [
        *(Question(f"s{i}", "existence", "is there a red ring?", "yes") for i in range(4)),
        *(Question("s0", "count", "how many rings are there?", "two") for _ in range(2)),
    ]
    found = accuracy(asked, ["yes", "Yes.", "no", "yes it is", "two", "two"])
    assert found["existence"].value == 0.5
    assert found["count"].value == 1.0
    assert found["count"].items == 1
    assert found["mean"].value == pytest.approx(0.75)
    assert found["mean"].items == 4
