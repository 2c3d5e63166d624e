"""Long captions: groups, changes, paired differences, and what can't be changed."""

from __future__ import annotations

import numpy as np
import pytest

from lift.errors import ConfigError, DataError
from lift.evals import long_captions
from lift.evals._rewordings import OF_SENTENCES, first, only_first, shuffled, without_first
from lift.terms import Caption, Sample

TEXT = "A red wall stands here. It has 3 doors. Nobody, as Dr. Smith says, goes in!"


def photo(number, *texts):
    captions = tuple(Caption(text, "long") for text in texts)
    return Sample(f"k{number}", f"image {number}".encode(), captions)


def told(number):
    """Three sentences; the number stands in the second only."""
    return f"This is a picture of a wall. Its number is {number} and no other. It is quiet there."


class Reader:
    """Sees the number in an image and in a text; a text without one has a direction of its own."""

    name, saw = "reader", ()

    def __init__(self, count):
        self.count = count

    def encode_images(self, images):
        return np.eye(self.count + 1, dtype=np.float32)[[int(i.split()[1]) for i in images]]

    def encode_texts(self, texts):
        found = [[word for word in text.split() if word.isdigit()] for text in texts]
        places = [int(words[0]) if words else self.count for words in found]
        return np.eye(self.count + 1, dtype=np.float32)[places]


class Constant(Reader):
    def encode_images(self, images):
        return np.eye(self.count + 1, dtype=np.float32)[[0] * len(images)]

    encode_texts = encode_images


def run(samples, encoder, list_source, **options):
    evaluation = long_captions.build(long_captions.Config(**options))
    return evaluation.run(encoder, list_source(samples))


def values(result):
    return {name: metric.value for name, metric in result.metrics.items()}


# --- changes -------------------------------------------------------------------------------------


def test_changes_of_a_caption():
    assert first(3).of(TEXT, "k") == "A red wall"
    assert first(5).of(TEXT, "k") == "A red wall stands here"
    assert first(99).of(TEXT, "k") == TEXT
    assert without_first(TEXT, "k") == "It has 3 doors. Nobody, as Dr. Smith says, goes in!"
    assert only_first(TEXT, "k") == "A red wall stands here."
    for change in OF_SENTENCES:
        assert change.of("One sentence, with Dr. Smith in it.", "k") is None


def test_shuffling_changes_the_order_and_nothing_else():
    both = "It is red. It is old."
    assert shuffled(both, "any key") == "It is old. It is red."
    many = " ".join(f"Sentence number {n}." for n in range(6))
    orders = {shuffled(many, f"key {n}") for n in range(8)}
    assert len(orders) == 8 and many not in orders
    assert all(sorted(order) == sorted(many) for order in orders)
    assert shuffled(many, "key 1") == shuffled(many, "key 1")


def test_words_of_other_scripts_count():
    assert first(2).of("猫が好き", "k") == "猫が"


# --- figures -------------------------------------------------------------------------------------


def test_an_oracle_and_what_it_can_not_see(list_source):
    samples = [photo(n, told(n)) for n in range(30)]
    result = run(samples, Reader(30), list_source, lengths=(4, 12))
    found = values(result)
    for way in ("text_to_image", "image_to_text"):
        assert found[f"{way}/R@1"] == found[f"{way}/R@10"] == 1
        for change in ("first 12 words", "without the first sentence", "sentences shuffled"):
            assert found[f"{way}/R@1 ({change})"] == 1
            less = result.metrics[f"{way}/R@1 ({change}, less whole)"]
            assert less.value == 0 and less.low < 0 < less.high
        for change in ("first 4 words", "first sentence only"):
            assert found[f"{way}/R@1 ({change})"] == pytest.approx(1 / 30)
            less = result.metrics[f"{way}/R@1 ({change}, less whole)"]
            assert less.value == pytest.approx(1 / 30 - 1) and less.high < -0.8
    assert result.counts == {"images": 30, "captions": 30, "median words": 18, "most words": 18}


def test_a_constant_encoder_scores_chance_everywhere(list_source):
    samples = [photo(n, told(n)) for n in range(30)]
    result = run(samples, Constant(30), list_source)
    for name, value in values(result).items():
        chance = 0 if "less whole" in name else int(name.split("@")[1].split()[0]) / 30
        assert value == pytest.approx(chance, abs=1e-9), name
    assert result.chance == pytest.approx(1 / 30)


def test_groups_by_length(list_source):
    samples = [photo(n, f"number {n} " + "word " * (10 * (n % 3))) for n in range(30)]
    result = run(samples, Reader(30), list_source, buckets=(5, 15), sentences=False, lengths=())
    for way in ("text_to_image", "image_to_text"):
        for group in ("up to 5 words", "6 to 15 words", "over 15 words"):
            metric = result.metrics[f"{way}/R@1 ({group})"]
            assert (metric.value, metric.items) == (1, 10)
    alike = run(samples[::3], Reader(30), list_source, buckets=(5, 15), lengths=())
    assert not any("words" in name for name in alike.metrics)  # one group is all


def test_the_longest_caption_of_an_image_asks(list_source):
    samples = [photo(n, "number 0", f"it is number {n}") for n in range(20)]
    result = run(samples, Reader(20), list_source)
    assert result.metrics["text_to_image/R@1"].value == 1
    assert result.counts["captions"] == 20


def test_a_caption_of_one_sentence_is_no_query_about_sentences(list_source):
    samples = [photo(n, told(n)) for n in range(20)] + [photo(20, "One sentence with number 20.")]
    result = run(samples, Reader(21), list_source, lengths=())
    without = result.metrics["text_to_image/R@1 (without the first sentence)"]
    assert without.items == 20 and result.metrics["text_to_image/R@1"].items == 21
    assert result.counts["captions of one sentence"] == 1
    assert any("1 of 21 captions are one sentence" in note for note in result.notes)


def test_equal_captions_are_right_for_each_other(list_source):
    samples = [photo(n, told(n - n % 2)) for n in range(20)]
    result = run(samples, Reader(20), list_source, lengths=())
    assert result.metrics["text_to_image/R@1"].value == 1
    shuffled_ones = result.metrics["text_to_image/R@1 (sentences shuffled)"]
    assert shuffled_ones.value == 1 and 0.6 < shuffled_ones.low < 1


def test_captions_longer_than_the_encoder_takes_are_counted(list_source):
    encoder = Reader(20)
    encoder.cut = lambda texts: np.array([len(text) > 30 for text in texts])
    samples = [photo(n, told(n) if n < 7 else f"number {n}") for n in range(20)]
    result = run(samples, encoder, list_source)
    assert result.counts["captions cut"] == 7
    assert any("7 of 20 captions are longer than the text encoder takes" in n for n in result.notes)


def test_the_protocol_says_what_was_asked():
    def protocol(**options):
        return long_captions.build(long_captions.Config(**options)).protocol

    assert protocol() == (
        "longest caption of each image, equal captions right, groups and changes by R@1, groups "
        "up to 25, 50, 100, 200 words"
    )
    assert len({protocol(), protocol(k=5), protocol(buckets=(50,)), protocol(role="long")}) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lengths": (0,)}, "lengths must be numbers of words that grow"),
        ({"buckets": (20, 10)}, "buckets must be numbers of words that grow"),
        ({"buckets": (10, 10)}, "buckets must be"),
        ({"k": 0}, "k must be 1 or more"),
        ({"examples": -1}, "examples"),
    ],
)
def test_options_that_make_no_sense_stop(options, words):
    with pytest.raises(ConfigError, match=words):
        long_captions.build(long_captions.Config(**options))


def test_no_caption_of_the_role_stops(list_source):
    with pytest.raises(DataError, match="no captions of role 'short'"):
        run([photo(0, "a b.")], Reader(1), list_source, role="short")
