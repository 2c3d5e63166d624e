"""What every file in `search/stores/` promises: answers of numpy, whole keys, texts as they are."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from databases import MAKERS, Row, opened
from lift import plugins
from lift.errors import ConfigError, LiftError
from lift.search.filters import Filter
from lift.search.stores._store import Entry, meets
from lift.search.terms import FactRange

ROOM = "search/stores"
WIDTH = 24
HOSTILE = (
    "a'b\"c; drop table texts; --",
    "new\nline\ttab\r",
    "%s %(x)s {} {{}}",
    "\u202ertl \U0001f600 e\u0301 \ufeff",
    "\\x00 \\u0000",
    "k" * 1_900,
    "ключ",
)


def units(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def facts_of(n: int) -> dict:
    return {
        "price": float(n % 7) + 0.5,
        "colour": ("red", "Blue", "ÉTÉ vert")[n % 3],
        "new": n % 2 == 0,
    }


TEXTS = units(60)
TEXTS[50:55] = TEXTS[50]  # equal rows
ROWS = [Row(n, f"text {n}", TEXTS[n], facts_of(n) if n % 5 else {}) for n in range(60)]
IMAGES = units(40, 1)


def entry(key: str, rows: np.ndarray, **told) -> Entry:
    names = tuple(f"{n:032x}" for n in range(len(rows)))
    return Entry(key=key, rows=rows, digests=names, thumbnails=(b"jpeg",) * len(rows), **told)


NAMES = plugins.names(ROOM)


@pytest.fixture(params=NAMES)
def part(request, tmp_path):
    return MAKERS[request.param](str(tmp_path / "db"), ROWS)


def fill(store):
    store.prepare({"model": "m"}, WIDTH)
    store.put([entry(f"i{n}", IMAGES[n : n + 1], facts=facts_of(n)) for n in range(30)])
    store.put([entry("many", IMAGES[30:35]), entry("linked", IMAGES[35:36], link="7")])
    return store


@pytest.fixture(scope="module", params=NAMES)
def standing(request, tmp_path_factory):
    """A filled store that tests only read."""
    folder = tmp_path_factory.mktemp(request.param) / "db"
    made = fill(opened(MAKERS[request.param](str(folder), ROWS)))
    yield made
    made.close()


@pytest.fixture
def store(part):
    made = opened(part)
    yield made
    made.close()


@pytest.fixture
def filled(part, copies):
    folder = Path(part.options["url"])
    if folder.is_dir():  # filling it takes a commit a point
        if not copies.is_dir():
            fill(opened(part)).close()
            shutil.copytree(folder, copies)
        shutil.rmtree(folder)
        shutil.copytree(copies, folder)
        made = opened(part)
    else:
        made = fill(opened(part))
    yield made
    made.close()


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    return tmp_path_factory.mktemp("filled") / "db"


def nearest(z: np.ndarray, rows: np.ndarray, top: int) -> np.ndarray:
    return np.sort(rows @ z)[::-1][:top]


def test_says_what_is_there(store):
    layout = store.layout()
    assert (layout.dimensions, layout.rows, layout.text) == (WIDTH, 60, "body")
    assert store.about() is None and store.count_texts() == 60
    rows = store.sample(16)
    assert 10 <= len({row.key for row in rows}) <= 16
    for row in rows:
        assert row.text == f"text {row.key}"
        assert row.facts == dict(ROWS[int(row.key)].facts)
        np.testing.assert_allclose(row.row, TEXTS[int(row.key)], atol=1e-6)
    assert [row.key for row in store.browse_texts(5, 3)] == ["5", "6", "7"]
    found = store.texts(
        ["7", "07", "x", "-1", "--5", "-", "99999999999999999999999", "'", "\0"], rows=True
    )
    assert list(found) == ["7"] and found["7"].text == "text 7"


@pytest.mark.parametrize("top", [1, 5, 36, 60, 200])
def test_nearest_are_those_of_numpy(standing, top):
    for z in (*units(3, 2), TEXTS[50], -TEXTS[50]):
        texts, images = standing.near_texts(z, top), standing.near_images(z, top)
        np.testing.assert_allclose([one.cosine for one in texts], nearest(z, TEXTS, top), atol=2e-6)
        np.testing.assert_allclose(
            [one.cosine for one in images], nearest(z, IMAGES[:36], top), atol=2e-6
        )
        assert len({one.item for one in texts}) == len(texts)
        for one in texts:
            assert one.cosine == pytest.approx(float(TEXTS[int(one.item)] @ z), abs=2e-6)
            assert one.text == f"text {one.item}"
        for one in images:
            assert one.item == ("7" if one.key == "linked" else one.key)


WHERE = [
    "colour=red",
    "colour=red|Blue",
    "colour!=red",
    "price<3",
    "price>=3.5",
    "price=2.5",
    "price!=2.5",
    "new=true",
    "new=1",
    "new!=false",
    "colour~été",
    "colour~VERT|blu",
    "price~3",
    "missing=1",
    "missing!=1",
    "colour=red price>1 new=true",
    "colour=Red",
    "price=red",
]


@pytest.mark.parametrize("words", WHERE)
def test_filters_let_pass_what_they_say(standing, words):
    where, z = Filter.parse(words), units(1, 3)[0]
    fit = [n for n in range(60) if meets(where, ROWS[n].facts)]
    found = standing.near_texts(z, 10, where)
    assert {int(one.item) for one in found} <= set(fit)
    np.testing.assert_allclose([one.cosine for one in found], nearest(z, TEXTS[fit], 10), atol=2e-6)
    assert standing.count_texts(where) == len(fit)
    assert [row.key for row in standing.browse_texts(1, 4, where)] == [str(n) for n in fit[1:5]]
    own = [n for n in range(30) if meets(where, facts_of(n))]
    bare = list(range(30, 36)) if meets(where, {}) else []
    images = standing.near_images(z, 40, where)
    np.testing.assert_allclose(
        [one.cosine for one in images], nearest(z, IMAGES[own + bare], 40), atol=2e-6
    )
    alone = [f"i{n}" for n in own] + ["many"] * bool(bare)
    assert standing.browse_images(0, 50, where) == alone
    assert standing.browse_images(1, 2, where) == alone[1:3]
    assert standing.count_alone(where) == len(alone)


def test_meets_tells_kinds_apart():
    assert not meets(Filter.of({"a": 1}), {"a": True}) and not meets(
        Filter.of({"a": 1}), {"a": "1"}
    )
    assert meets(Filter.of({"a": {"ne": 1}}), {"a": True}) and meets(
        Filter.of({"a": 1}), {"a": 1.0}
    )
    assert not meets(Filter.of({"a": {"lt": 2}}), {"a": True})


VALUES = ["'; drop table x; --", '"', "\\", "%s", "\U0001f600", "{}", "a\nb"]


def test_hostile_values_of_filters_are_only_values(filled):
    z = units(1)[0]
    for value in VALUES:
        for operator in ("eq", "ne", "contains"):
            where = Filter.of({"colour": {operator: value}})
            every = operator == "ne"
            assert len(filled.near_texts(z, 60, where)) == (60 if every else 0)
            assert len(filled.near_images(z, 60, where)) == (36 if every else 0)
        filled.put([entry("it", IMAGES[:1], facts={"colour": value})])
        assert [o.key for o in filled.near_images(z, 9, Filter.of({"colour": value}))] == ["it"]
        found = filled.near_images(z, 9, Filter.of({"colour": {"contains": value.upper()}}))
        assert [o.key for o in found] == ["it"]
        filled.delete(["it"])


def test_hostile_keys_are_only_keys(filled):
    for key in HOSTILE:
        filled.put([entry(key, IMAGES[36:38], facts={"it": key[:100]})])
        assert filled.known([key])[key].facts == {"it": key[:100]}
        assert [place.number for place in filled.images_of([key])[key]] == [0, 1]
        assert filled.near_images(IMAGES[36], 1)[0].key == key
        np.testing.assert_allclose(filled.image_rows(key), IMAGES[36:38], atol=1e-6)
        assert filled.thumbnail(key, 1) == b"jpeg" and filled.thumbnail(key, 2) is None
        assert filled.delete([key]) == 1 and filled.known([key]) == {}
    assert filled.count_texts() == 60 and len(filled.near_images(IMAGES[0], 99)) == 36


def test_a_key_again_replaces_all_that_it_had(filled):
    filled.put([entry("many", IMAGES[38:40], facts={"a": 1})])
    assert len(filled.images_of(["many"])["many"]) == 2
    assert len(filled.near_images(IMAGES[0], 99)) == 36 - 5 + 2
    known = filled.known(["many", "i0", "nobody"])
    assert set(known) == {"many", "i0"} and len(known["many"].digests) == 2
    np.testing.assert_allclose(filled.rows_of("many"), IMAGES[38:40], atol=1e-6)
    assert filled.delete(["many", "nobody", "many"]) == 1
    assert filled.delete([]) == 0 and filled.rows_of("many").shape[0] == 0


def test_images_of_a_row_are_its_items(filled):
    filled.put([entry("again", IMAGES[36:38], link="7", linked={"colour": "red"}, facts={"a": 1})])
    places = filled.images_of(["7"])["7"]
    assert [(place.key, place.number) for place in places] == [
        ("again", 0),
        ("again", 1),
        ("linked", 0),
    ]
    np.testing.assert_allclose(filled.image_rows("7"), IMAGES[[36, 37, 35]], atol=1e-6)
    assert filled.known(["again"])["again"].asked == {"colour": "red", "a": 1}
    found = filled.near_images(IMAGES[36], 50, Filter.parse("colour=red a=1"))
    assert [one.item for one in found] == ["7", "7"]
    assert filled.count_alone() == 31 and "again" not in filled.browse_images(0, 99)


def test_what_was_said_of_the_model_stays_what_it_was(filled):
    filled.prepare({"model": "another"}, WIDTH)
    assert filled.about() == {"model": "m"}
    assert len(filled.near_images(IMAGES[0], 99)) == 36


def test_facts_are_those_of_texts_and_images(filled):
    filled.put([entry("it", IMAGES[:1], facts={"only": "here", "price": 99})])
    facts = filled.facts()
    assert facts["only"] == FactRange((("here", 1),), None, None, 1)
    assert (facts["price"].low, facts["price"].high) == (0.5, 99.0)
    assert facts["price"].items == 48 + 30 + 1
    colours = [r.facts.get("colour") for r in ROWS] + [facts_of(n)["colour"] for n in range(30)]
    assert dict(facts["colour"].values) == {
        c: colours.count(c) for c in ("red", "Blue", "ÉTÉ vert")
    }
    assert {type(value) for value, _ in facts["new"].values} == {bool}


def test_threads_that_write_wait_for_one_another(filled):
    def change(n: int) -> int:
        filled.put([entry(f"new {n}", IMAGES[36:38])])
        return filled.delete([f"i{n}"])

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(change, range(12))) == [1] * 12
    assert filled.count_alone() == 31 and len(filled.images_of(["new 3"])["new 3"]) == 2


def test_many_threads_get_the_answers_of_one(standing):
    z = units(16, 4)
    alone = [standing.near_images(row, 5) + standing.near_texts(row, 5) for row in z]
    with ThreadPoolExecutor(12) as pool:
        found = list(
            pool.map(lambda row: standing.near_images(row, 5) + standing.near_texts(row, 5), z)
        )
    assert found == alone


def test_it_opens_again_from_its_options(part, filled):
    told = filled.options()
    filled.close()
    again = opened(part.__class__(part.room, part.name, told))
    assert again.about() == {"model": "m"} and len(again.near_images(IMAGES[0], 99)) == 36
    again.close()


def test_an_index_changes_no_answer(filled):
    before = [one.key for one in filled.near_images(IMAGES[3], 5)]
    filled.index()
    assert [one.key for one in filled.near_images(IMAGES[3], 5)] == before


def test_a_table_that_is_none_is_told(part):
    for name in ("nothing here", "x.y", 'a"b', "\0"):
        with pytest.raises(LiftError):
            opened(part, table=name)
    with pytest.raises(ConfigError, match="vector"):
        opened(part, vector="body" if part.name == "pgvector" else "other")
