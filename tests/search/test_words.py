"""Pictures in words that somebody wrote: labels, near words, quotations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lift.bundle import Bundle
from lift.errors import ConfigError
from lift.search import vocabulary, words
from lift.search.index import Index
from lift.search.sparse import decomposed
from lift.search.terms import Item
from lift.search.vocabulary import everyday, vectors_of, vocabulary_of
from lift.search.words import Quote, describe, explain, labels
from made_model import made

CAPTIONS = {
    "dog": ("A brown dog runs over the grass.", "The brown dogs play with a red ball."),
    "cat": ("A grey cat sleeps on a wooden bench.",),
    "bus": ("A red bus waits at a bus stop in the rain.",),
    "cake": ("birthday cake", "birthday cake birthday cake"),
    "ja": ("茶色の犬",),
}


@pytest.fixture(scope="module")
def model() -> Bundle:
    return made(dimensions=64)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, model: Bundle) -> Iterator[Index]:
    items = [Item(key=key, texts={"caption": texts}) for key, texts in CAPTIONS.items()]
    colours = {"red photo": (200, 0, 0), "blue photo": (0, 0, 200)}
    items += [
        Item(key=key, texts={"title": (f"a {key} of a wide sea",)}, images=(solid(colour),))
        for key, colour in colours.items()
    ]
    with Index.create(tmp_path_factory.mktemp("words") / "index", model) as made_index:
        made_index.add(items)
        yield made_index


def solid(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (40, 40), colour)


def test_labels_are_phrases_of_stored_texts_by_their_own_vectors(index: Index) -> None:
    z = index.encoder.encode_texts(["brown dog"])[0]
    found = labels(index, z, 6)
    assert found[0].text == "brown dog" and found[0].key == "dog"
    assert found[0].cosine == pytest.approx(1, abs=1e-5)
    assert [label.cosine for label in found] == sorted((one.cosine for one in found), reverse=True)
    written = " ".join(text for texts in CAPTIONS.values() for text in texts).lower()
    written += " a red photo of a wide sea a blue photo of a wide sea"
    assert all(label.text.lower() in written for label in found)
    assert len(found) == 6
    # What is as good as the same is said once; words of no stored text are not said at all.
    every = [label.text for label in labels(index, z, 50)]
    twice = vectors_of(index.encoder, ["birthday cake", "birthday cake birthday cake"])
    assert twice[0] @ twice[1] > 0.92
    rows = vectors_of(index.encoder, every)
    assert (rows @ rows.T - np.eye(len(rows))).max() < 0.92
    assert {"茶色の犬", "red ball", "grey cat"} <= set(every) and "zebra" not in every
    assert len({"birthday cake", "birthday cake birthday cake"} & set(every)) == 1


def test_labels_of_a_picture_of_the_index_without_its_own_words(index: Index) -> None:
    (_, _, _, z) = next(row for row in index.rows("red photo") if row[0] == "image")
    own = {label.key for label in labels(index, z, 50)}
    assert "red photo" in own
    others = labels(index, z, 50, without=["red photo"])
    assert others and "red photo" not in {label.key for label in others}


def test_a_label_counts_the_texts_that_have_it(index: Index) -> None:
    z = index.encoder.encode_texts(["wide sea"])[0]
    assert {label.text: label.texts for label in labels(index, z)}["wide sea"] >= 2


def test_explain_ranks_a_vocabulary(index: Index, model: Bundle) -> None:
    words = ["zebra", "red bus", "bus", "cake"]
    z = model.encode_texts(["red bus"])[0]
    found = explain(index, z, words, top=3)
    assert [word.text for word in found][:2] == ["red bus", "bus"] and len(found) == 3
    cosines = model.encode_texts(words) @ z
    assert found[1].cosine == pytest.approx(float(cosines[2]), abs=1e-6)
    assert found[0].weight is None


def test_the_vocabulary_is_the_indexs_own_with_everyday_words(index: Index) -> None:
    words = vocabulary_of(index)
    assert words.index("dog") < words.index("giraffe")
    assert {"bus", "bench", "sea", "red"} <= set(words) and len(set(words)) == len(words)
    assert "runs" not in words and len(everyday()) > 100
    z = index.encoder.encode_texts(["bench"])[0]
    assert explain(index, z, top=1)[0].text == "bench"


def test_few_words_add_up_to_a_vector(index: Index, model: Bundle) -> None:
    words = ["dog", "bench", "rain", "zebra", "cake", "grass", "car", "tree"]
    rows = model.encode_texts(words).astype(np.float64)
    centred = rows - rows.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    z = (0.9 * centred[1] + 0.6 * centred[3]).astype(np.float32)
    z /= np.linalg.norm(z)
    weights = decomposed(z, rows.astype(np.float32), penalty=0.01)
    assert {words[at] for at in np.argsort(-weights)[:2]} == {"bench", "zebra"}
    # Where no weight can get better, the cosine with what is left is the penalty, else below it.
    left = centred @ (z - weights @ centred)
    assert left[weights > 0] == pytest.approx(0.01, abs=1e-4)
    assert (left[weights == 0] <= 0.01 + 1e-4).all() and (weights >= 0).all()
    picture = index.rows("red photo")[-1][3]
    found = explain(index, picture, words, sparse=True)
    assert all(word.weight is not None and word.weight > 0 for word in found)


def test_describe_quotes_stored_texts(index: Index) -> None:
    z = index.encoder.encode_texts(["A grey cat sleeps on a wooden bench"])[0]
    first, *rest = describe(index, z, 3)
    assert first[:3] == ("A grey cat sleeps on a wooden bench.", "cat", "caption")
    assert first.cosine > 0.9 and len(rest) == 2 and isinstance(first, Quote)
    assert len({quote.key for quote in (first, *rest)}) == 3
    without = describe(index, z, 3, without=["cat"])
    assert len(without) == 3 and "cat" not in {quote.key for quote in without}


def test_vectors_of_words_are_kept(index: Index, model: Bundle) -> None:
    class Counting:
        name, saw = "counting", ()
        asked: list[str]

        def encode_images(self, images: object) -> np.ndarray:
            raise AssertionError

        def encode_texts(self, texts: list[str]) -> np.ndarray:
            self.asked += texts
            return model.encode_texts(texts)

    encoder = Counting()
    encoder.asked = []
    first = vectors_of(encoder, ["dog", "cat", "dog"])
    again = vectors_of(encoder, ["cat", "bus"])
    assert encoder.asked == ["dog", "cat", "bus"]
    assert np.array_equal(first[1], again[0]) and np.array_equal(first[0], first[2])
    long = "x" * 300
    vectors_of(encoder, [long])
    vectors_of(encoder, [long])
    assert encoder.asked.count(long) == 2


def test_a_row_is_kept_without_those_beside_it(model: Bundle) -> None:
    vectors_of(model, ["a kept word", *(f"{n}" + "x" * 300 for n in range(50))])
    assert vocabulary._ROWS[model]["a kept word"].base is None


def test_long_texts_are_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_CANDIDATES", 20)
    monkeypatch.setattr(words, "_OF_A_TEXT", 10)
    monkeypatch.setattr(vocabulary, "_READ_CHARACTERS", 5_000)
    monkeypatch.setattr(vocabulary, "_AT_ONCE", 2)
    letters = "abcdefghijklmnopqrst"
    things = [[f"zonk{n}{a}{b}" for a in letters[:5] for b in letters] for n in letters]
    long = [" ".join(f"A dog meets the {thing}." for thing in own) for own in things]
    with Index.create(tmp_path / "long", made(dimensions=32)) as index:
        index.add(Item(key=f"{n}", texts={"body": (text,)}) for n, text in enumerate(long))
        assert len(labels(index, index.encoder.encode_texts(["a dog"])[0], 5)) == 5
        assert 20 <= len(vocabulary._ROWS[index.encoder]) <= 30
        own = vocabulary_of(index)
        assert 150 < sum(word.startswith("zonk") for word in own) < 300  # of two texts, not 20
        # Words are found anew when an index has grown by a tenth, not with every item.
        index.delete(["0"])
        assert vocabulary_of(index) == own
        index.delete(["1"])
        assert not set(vocabulary_of(index)) & set(things[0])


def test_an_index_without_texts_has_no_words(tmp_path: Path, model: Bundle) -> None:
    with Index.create(tmp_path / "index", model) as bare:
        bare.add([Item(key="a", images=(solid((9, 9, 9)),))])
        z = bare.rows("a")[0][3]
        assert labels(bare, z) == [] and describe(bare, z) == []
        assert len(explain(bare, z, top=4)) == 4


@pytest.mark.parametrize("top", [0, 201])
def test_senseless_questions_are_refused(index: Index, top: int) -> None:
    z = np.zeros(64, np.float32)
    with pytest.raises(ConfigError, match="can be asked for"):
        labels(index, z, top)
    with pytest.raises(ConfigError, match=r"shape \(3,\)"):
        describe(index, z[:3], 1)
    for asked in ([], ["dog", " "], [str(n) for n in range(5_001)]):
        with pytest.raises(ConfigError, match="vocabulary has from 1"):
            explain(index, z, asked)
