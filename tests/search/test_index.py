from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lift.errors import ConfigError, DataError, SpaceMismatch, StorageError
from lift.search.filters import Filter
from lift.search.index import Index
from lift.search.ranking import SCALE
from lift.search.terms import Item, Query, Searchable, Term
from lift.terms import Encoder
from search_shelf import index, items, model, pixels


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory):
    with index(tmp_path_factory.mktemp("shelf") / "index", weights={"title": 3.0}) as made:
        yield made


def reference(
    shelf: Index, z: np.ndarray, kind: str, weights: dict[str, float]
) -> dict[str, float]:
    """Return each item's score by the definition, in float64."""
    found: dict[str, float] = {}
    for key in shelf.keys():
        for own, field, _, row in shelf.rows(key):
            if own == kind:
                cosine = float(row.astype(np.float64) @ z.astype(np.float64))
                score = SCALE * cosine + math.log(weights.get(field, 1.0))
                found[key] = max(found.get(key, -math.inf), score)
    return found


def test_it_is_searchable_and_says_what_it_holds(shelf: Index) -> None:
    assert isinstance(shelf, Searchable) and isinstance(shelf.encoder, Encoder)
    assert len(shelf) == 36 and list(shelf.keys())[:2] == ["item 0", "item 1"]
    stored = shelf.item("item 7")
    assert stored is not None and stored.title == "green cat 7" and stored.images == 1
    assert stored.facts == {"colour": "green", "number": 7, "even": False, "price": 3.5}
    assert isinstance(stored.facts["even"], bool)
    assert shelf.item("nobody") is None and shelf.rows("nobody") == []
    picture = shelf.picture("item 7")
    assert picture is not None and picture[:2] == b"\xff\xd8"
    assert shelf.picture("item 7", 1) is None
    facts = shelf.facts()
    assert facts["colour"].values[0] == ("black", 6) and facts["price"].high == 17.5
    assert facts["even"].values == ((False, 18), (True, 18)) and facts["number"].items == 36


@pytest.mark.parametrize("kind", ["image", "text"])
def test_answers_are_those_of_the_definition(shelf: Index, kind) -> None:
    z, of = shelf.vectors([Query.of("a blue boat"), Query.of(images=[pixels(3)])])
    assert of == ["text", "image"]
    answers = shelf.near(z, of=of, top=9, kinds=[kind])
    for row, hits in zip(z, answers, strict=True):
        right = reference(shelf, row, kind, {"title": 3.0})
        order = sorted(right, key=lambda key: -right[key])
        assert [hit.key for hit in hits] == order[:9]
        assert np.allclose([hit.score for hit in hits], [right[hit.key] for hit in hits], atol=1e-5)
        assert {hit.kind for hit in hits} == {kind}
    hit = shelf.search("red dog 0", kinds=["text"])[0]
    assert (hit.key, hit.field, hit.number, hit.text) == ("item 0", "title", 0, "red dog 0")
    assert hit.cosine == pytest.approx(1.0, abs=1e-6)


def test_a_query_of_several_is_the_weighted_sum_of_unit_vectors(shelf: Index) -> None:
    terms = (
        Term("text", "a red dog"),
        Term("image", pixels(5), 2.0),
        Term("item", "item 9", -0.5),
        Term("vector", np.arange(32.0), 0.25),
    )
    z, of = shelf.vectors([Query(terms)])
    text = shelf.encoder.encode_texts(["a red dog"])[0]
    image = shelf.encoder.encode_images([pixels(5)])[0]
    item = next(row for kind, _, _, row in shelf.rows("item 9") if kind == "image")
    vector = np.arange(32.0) / np.linalg.norm(np.arange(32.0))
    wanted = text + 2 * image - 0.5 * item + 0.25 * vector
    assert np.allclose(z[0], wanted / np.linalg.norm(wanted), atol=1e-6) and of == [None]
    for terms, said in (
        ((Term("item", "nobody"),), "no item 'nobody'"),
        ((Term("text", "a"), Term("text", "a", -1.0)), "cancel out"),
        ((Term("vector", [1.0]),), r"shape \(1,\)"),
        ((Term("vector", [math.nan] * 32),), "not finite"),
        ((Term("vector", ["a"] * 32),), "not a list of numbers"),
    ):
        with pytest.raises(ConfigError, match=said):
            shelf.vectors([Query(terms)])
    with pytest.raises(ConfigError, match="has no combiner"):
        shelf.search(Query.of("at night", images=[pixels(1)], combine="edit"))


def test_filters_leave_the_others_out(shelf: Index) -> None:
    for words, meets in (
        ("colour=red|blue", lambda n: n % 6 in (0, 2)),
        ("colour!=red", lambda n: n % 6),
        ("number>=30", lambda n: n >= 30),
        ("price<2.5 even=true", lambda n: n < 5 and n % 2 == 0),
        ("colour~RE", lambda n: n % 6 in (0, 1)),
        ("even=1", lambda n: False),
        ("number=true", lambda n: False),
        ("colour=nobody", lambda n: False),
    ):
        wanted = {f"item {n}" for n in range(36) if meets(n)}
        assert {hit.key for hit in shelf.search("a dog", top=36, where=words)} == wanted, words
        assert {item.key for item in shelf.browse(0, 99, Filter.parse(words))} == wanted
        assert shelf.counted(Filter.parse(words)) == len(wanted)
    assert [item.key for item in shelf.browse(2, 2)] == ["item 2", "item 3"]


def test_merged_lists(shelf: Index) -> None:
    z, _ = shelf.vectors([Query.of("a yellow tree")])
    turns = shelf.near(z, of=["text"], top=36)[0]
    assert len({hit.key for hit in turns}) == 36  # each item once, though it has rows of both kinds
    scores = {}
    for kind in ("image", "text"):
        for rank, hit in enumerate(shelf.near(z, of=["text"], top=36, kinds=[kind])[0], 1):
            scores[hit.key] = scores.get(hit.key, 0) + 1 / (60 + rank)
    for hit in turns:
        assert hit.score == pytest.approx(scores[hit.key])
    bare = shelf.near(z, of=["text"], top=36, merge="cosine")[0]
    both = [reference(shelf, z[0], kind, {"title": 3.0}) for kind in ("image", "text")]
    best = {key: max(own[key] for own in both) for key in both[0]}
    assert np.allclose([h.score for h in bare], sorted(best.values(), reverse=True), atol=1e-5)
    assert all(abs(h.score - best[h.key]) < 1e-5 for h in bare)
    assert shelf.near(z, of=["text"], top=36, merge="calibrated")[0] == turns  # nobody calibrated


def test_unchanged_items_cost_nothing_and_changed_ones_are_replaced(tmp_path: Path) -> None:
    with index(tmp_path / "index") as made:
        again = made.add(items(36))
        assert (again.unchanged, again.added, sum(again.rows.values())) == (36, 0, 0)
        other = replace(items(1)[0], facts={"colour": "pink"})
        done = made.add([other])
        assert (done.replaced, done.known, sum(done.rows.values())) == (1, 3, 0)
        assert [h.key for h in made.search("x", where="colour=pink")] == ["item 0"]
        assert len(made) == 36 and len(made.view.sides["text"].owner) == 74
        z = {key: [(*row[:3], row[3].tobytes()) for row in made.rows(key)] for key in made.keys()}
        assert made.delete(["item 5", "item 5", "nobody"]) == 1 and made.item("item 5") is None
        assert made.compact() == 6 and made.compact() == 0 and len(made) == 35
        assert len(made.view.sides["text"].owner) == 70
        for key in made.keys():
            assert [(*row[:3], row[3].tobytes()) for row in made.rows(key)] == z[key]
        assert sorted(path.name for path in made.folder.glob("*.f32")) == [
            "image-000001.f32",
            "text-000001.f32",
        ]
    with Index.open(tmp_path / "index") as read:
        assert len(read) == 35 and read.search("red dog 0", kinds=["text"])[0].key == "item 0"
        with pytest.raises(ConfigError, match="opened for reading"):
            read.delete(["item 0"])


def test_text_rows_that_exist_already_are_kept_to_the_bit(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    known = {f"text {n}": rows[n] for n in range(3)}
    with Index.create(tmp_path / "index", model()) as made:
        made.add(
            [Item(key=text, texts={"body": (text,)}) for text in known],
            encode_texts=lambda texts: np.stack([known[text] for text in texts]),
        )
        for text, row in known.items():
            assert made.rows(text)[0][3].tobytes() == row.tobytes()
        assert made.view.sides["text"].file.path.read_bytes() == rows.tobytes()


def test_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no jpeg")
    with Index.create(tmp_path / "index", model()) as made:
        done = made.add(
            [
                Item(key="a", texts={"title": ("", "  ", "fine", "nul\0")}),
                Item(key="b", images=(str(tmp_path / "broken.jpg"), pixels(1))),
                Item(key="c", images=(str(tmp_path / "absent.jpg"),)),
                Item(key="d"),
            ]
        )
        assert done.added == 2 and len(made) == 2
        counts = done.left_out.counts
        assert counts["empty or too long text"] == 3 and counts["item without text and image"] == 2
        assert sum(counts.values()) == 7, counts
        assert made.item("b").images == 1 and made.picture("b", 0)
    for item, said in (
        (Item(key="", texts={"a": ("x",)}), "no key"),
        (Item(key="a\0", texts={"a": ("x",)}), "no key"),
        (Item(key="a", texts={"image": ("x",)}), "no name for a field"),
        (Item(key="a", texts={"a": ("x",)}, facts={"a b": 1}), "no name of a fact"),
        (Item(key="a", texts={"a": ("x",)}, facts={"a": math.nan}), "finite numbers"),
    ):
        with Index.open(tmp_path / "index", writes=True) as made:
            with pytest.raises(DataError, match=said):
                made.add([item])


def test_an_index_of_another_model_or_none_is_refused(tmp_path: Path) -> None:
    index(tmp_path / "index", 2).close()
    with pytest.raises(ConfigError, match="another model of the same text space"):
        Index.open(tmp_path / "index", model=model(seed=1))
    with pytest.raises(SpaceMismatch):
        Index.open(tmp_path / "index", model=model(encoder={"seed": 9}))  # type: ignore
    with pytest.raises(DataError, match=r"has no index\.json"):
        Index.open(tmp_path)
    with pytest.raises(ConfigError, match="holds something already"):
        Index.create(tmp_path / "index", model())
    with Index.open(tmp_path / "index", writes=True):
        with pytest.raises(StorageError, match="Another process"):
            Index.open(tmp_path / "index", writes=True)
        with Index.open(tmp_path / "index") as reader:
            assert len(reader) == 2
    values = json.loads((tmp_path / "index" / "index.json").read_text())
    for change in ({"format": "x"}, {"weights": {"a": -1}}, {"engine": {"room": "towers"}}):
        (tmp_path / "index" / "index.json").write_text(json.dumps({**values, **change}))
        with pytest.raises(DataError):
            Index.open(tmp_path / "index")


def test_a_reader_sees_what_was_committed(tmp_path: Path) -> None:
    with index(tmp_path / "index", 6) as writer, Index.open(tmp_path / "index") as reader:
        assert len(reader) == 6
        writer.add(items(3, start=6))
        reader.refresh()
        assert len(reader) == 9
        found = reader.search("yellow cat 9", kinds=["text"])  # never added
        assert {hit.key for hit in found} == {f"item {n}" for n in range(9)}
        writer.delete(["item 0"])
        writer.compact()
        assert reader.rows("item 8") and len(reader) == 8


def test_stored_as_float16_it_takes_half_and_answers_alike(tmp_path: Path) -> None:
    with index(tmp_path / "full") as full, index(tmp_path / "half", stored="float16") as half:
        sizes = [one.view.sides["text"].file.path.stat().st_size for one in (full, half)]
        assert sizes[0] == 2 * sizes[1]
        z, of = full.vectors([Query.of("a black road")])
        a, b = (one.near(z, of=of, top=36, kinds=["text"])[0] for one in (full, half))
        assert np.allclose(sorted(h.cosine for h in a), sorted(h.cosine for h in b), atol=1e-3)


def test_options_that_are_none(shelf: Index, tmp_path: Path) -> None:
    z, of = shelf.vectors([Query.of("x")])
    for wrong, said in (
        ({"top": 0}, "from 1 to 1,000"),
        ({"kinds": []}, "kinds to look for"),
    ):
        with pytest.raises(ConfigError, match=said):
            shelf.near(z, of=of, **wrong)
    with pytest.raises(ConfigError, match="vectors of 32 numbers"):
        shelf.near(z[:, :8], of=of)
    with pytest.raises(ConfigError, match="from 1 to 16"):
        Query(())
    with pytest.raises(ConfigError, match="above 0"):
        Query.of(without=["a"])
    with pytest.raises(ConfigError, match="must be above 0"):
        Index.create(tmp_path / "i", model(), weights={"title": 0.0})
    assert not (tmp_path / "i").exists()


def test_no_row_that_was_not_asked_for_could_have_won(tmp_path: Path) -> None:
    """A weight lifts far rows above near ones, and one item's many rows hide the others'."""
    weights = {"title": 1e4}
    with index(tmp_path / "weighed", weights=weights) as made:
        z, of = made.vectors([Query.of("a dog that is red, number 0, a cat that is blue")])
        right = reference(made, z[0], "text", weights)
        hits = made.near(z, of=of, top=2, kinds=["text"])[0]
        assert [hit.key for hit in hits] == sorted(right, key=lambda key: -right[key])[:2]
    with index(tmp_path / "hidden") as made:
        many = tuple(f"red dog {number}" for number in range(60))
        made.add([Item(key="many", texts={"title": many})])
        found = made.search("red dog", top=5, kinds=["text"])
        assert len({hit.key for hit in found}) == 5
