"""Captions in several languages: each counts alike, English bounds them, few images are said."""

from __future__ import annotations

import numpy as np
import pytest

from lift.errors import ConfigError, DataError
from lift.evals import multilingual
from lift.terms import Caption, Sample

WORDS = {"en": "number", "de": "Nummer", "sw": "nambari"}


def photo(number, *tags, each=1):
    captions = tuple(
        Caption(f"{WORDS.get(tag, tag)} {copy} of {number}", language=tag)
        for tag in tags
        for copy in range(each)
    )
    return Sample(f"k{number}", f"image {number}".encode(), captions)


class Polyglot:
    """Sees numbers in images, and in texts of the languages that it knows."""

    name, saw = "polyglot", ()

    def __init__(self, *known, count=40):
        self.known, self.count = known, count

    def _rows(self, places):
        return np.eye(self.count + 1, dtype=np.float32)[places]

    def encode_images(self, images):
        return self._rows([int(image.split()[1]) for image in images])

    def encode_texts(self, texts):
        known = {WORDS[tag] for tag in self.known}
        return self._rows(
            [int(t.split()[-1]) if t.split()[0] in known else self.count for t in texts]
        )


def run(samples, encoder, list_source, **options):
    evaluation = multilingual.build(multilingual.Config(**options))
    return evaluation.run(encoder, list_source(samples))


def test_each_language_counts_alike(list_source):
    samples = [photo(n, "en", "de", each=3) for n in range(30)]
    samples += [photo(n, "sw") for n in range(30, 40)]
    result = run(samples, Polyglot("en", "de"), list_source, fewest=10)
    value = {name: metric.value for name, metric in result.metrics.items()}
    assert value["text_to_image/R@1 (de)"] == value["image_to_text/R@1 (en)"] == 1
    assert value["text_to_image/R@1 (sw)"] == pytest.approx(1 / 40)
    assert value["image_to_text/R@1 (sw)"] == pytest.approx(1 / 10)  # ten captions to choose among
    assert value["text_to_image/R@1"] == pytest.approx((1 + 1 + 1 / 40) / 3)
    assert value["text_to_image/R@10"] == pytest.approx((1 + 1 + 10 / 40) / 3)
    assert result.counts == {"images": 40, "languages": 3, "captions": 190}
    assert result.chance == pytest.approx(1 / 40)
    assert result.metrics["text_to_image/R@1"].items == 40  # photos, not captions


def test_english_found_by_the_others_is_the_bound(list_source):
    samples = [photo(n, "en", "de", "sw") for n in range(30)]
    blind = Polyglot("en", "de")
    blind.encode_images = lambda images: blind._rows([40] * len(images))
    result = run(samples, blind, list_source)
    value = {name: metric.value for name, metric in result.metrics.items()}
    assert value["text_to_text/R@1 (de)"] == 1
    assert value["text_to_text/R@1 (sw)"] == pytest.approx(1 / 30)
    assert "text_to_text/R@1 (en)" not in value
    assert value["text_to_text/R@1"] == pytest.approx((1 + 1 / 30) / 2)
    assert value["text_to_image/R@1 (de)"] == pytest.approx(1 / 30)  # all images tie


def test_any_kind_of_english_is_english(list_source):
    WORDS["en-GB"] = "figure"
    samples = [photo(n, "en-GB" if n % 2 else "en", "de") for n in range(40)]
    result = run(samples, Polyglot("en", "en-GB", "de"), list_source)
    assert result.metrics["text_to_text/R@1 (de)"].value == 1
    assert result.metrics["text_to_text/R@1 (de)"].items == 40
    none = run(samples, Polyglot("de"), list_source, reference="ja")
    assert "text_to_text/R@1" not in none.metrics
    assert any("no captions in 'ja'" in note for note in none.notes)


def test_languages_of_few_images_are_said(list_source):
    samples = [photo(n, "en", *(["sw"] if n < 3 else [])) for n in range(30)]
    result = run(samples, Polyglot("en"), list_source)
    assert result.counts["languages with few images"] == 1 and result.counts["languages"] == 1
    assert "1 languages with fewer than 20 images left out: sw (3)" in result.notes
    with pytest.raises(DataError, match=r"no language with 50 images; the most has 'en', 30"):
        run(samples, Polyglot("en"), list_source, fewest=50)


def test_a_row_for_each_language_is_one_image(list_source):
    """As tables have it: (image, language, caption)."""
    rows = []
    for n in range(25):
        for tag in ("en", "de"):
            one = photo(n, tag)
            rows.append(Sample(f"{tag}/{n}", one.image, one.captions))
    result = run(rows, Polyglot("en", "de"), list_source)
    assert result.counts["images"] == 25
    assert result.metrics["text_to_image/R@1"].value == 1
    assert result.metrics["text_to_text/R@1 (de)"].value == 1


def test_chosen_languages_and_captions_that_say_none(list_source):
    samples = [photo(n, "en", "de", "sw") for n in range(30)]
    mute = Sample("mute", b"image 30", (Caption("number 0 of 30"),))
    result = run([*samples, mute], Polyglot("en", "de"), list_source, languages=("de",))
    assert result.counts["captions without a language"] == 1
    assert result.counts["languages"] == 1 and result.counts["images"] == 31
    assert result.metrics["text_to_text/R@1"].value == 1
    assert "de with 20 images or more" in result.protocol
    with pytest.raises(DataError, match=r"no captions in 'fr'; its languages are de, en, sw"):
        run(samples, Polyglot("en"), list_source, languages=("fr",))
    with pytest.raises(DataError, match="no captions that say their language"):
        run([mute], Polyglot("en"), list_source)


def test_unreadable_images_are_left_out(list_source):
    class Broken(Polyglot):
        def encode_images(self, images):
            if b"image 3" in images:
                raise DataError("image 3 is damaged")
            return super().encode_images(images)

    samples = [photo(n, "en", "de") for n in range(30)]
    result = run(samples, Broken("en", "de"), list_source)
    assert result.counts["images"] == 29 and result.counts["unreadable images"] == 1
    assert result.metrics["text_to_image/R@1"].value == 1
    assert result.counts["captions"] == 58


def test_examples_are_of_several_languages(list_source):
    samples = [photo(n, "en", "de", "sw") for n in range(30)]
    result = run(samples, Polyglot("en", "de"), list_source)
    assert {e["language"] for e in result.examples} == {"de", "en", "sw"}
    wrong = next(e for e in result.examples if e["language"] == "sw")
    assert not wrong["right"] and wrong["rank"] > 1 and len(wrong["top"]) == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fewest": 0}, "1 or more"),
        ({"k": 0}, "1 or more"),
        ({"languages": ()}, "languages is empty"),
        ({"examples": -1}, "examples"),
    ],
)
def test_options_that_make_no_sense_stop(options, words):
    with pytest.raises(ConfigError, match=words):
        multilingual.build(multilingual.Config(**options))
