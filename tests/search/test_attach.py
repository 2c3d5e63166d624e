"""Images attached to real databases of text vectors: checked, whole, resumable, and searched."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psycopg
import pytest
from PIL import Image

from databases import Row, collection, postgres, qdrant, table
from lift.commands.attach import attach, open_attached
from lift.errors import ConfigError, DataError, SpaceMismatch, StorageError
from lift.merging import Calibration
from lift.search.attached_record import read
from lift.search.attaching import Attaching, check_space
from lift.search.filters import Filter
from lift.search.ranking import Ranking
from lift.search.terms import Item, Query, Searchable, Term
from made_model import made

WORDS = ("red", "blue", "dog", "cat", "boat", "tree", "house", "snow", "beach", "night")
TEXTS = [f"a {WORDS[n % 10]} {WORDS[n // 10]} number {n}" for n in range(100)]


def photo(seed: int) -> bytes:
    """Return a picture of 4 x 4 fields of strong colours."""
    fields = np.random.default_rng(seed).integers(0, 2, (4, 4, 3), dtype=np.uint8) * 255
    file = io.BytesIO()
    Image.fromarray(fields.repeat(8, 0).repeat(8, 1)).save(file, "PNG")
    return file.getvalue()


PHOTOS = [photo(n) for n in range(40)]


@pytest.fixture(scope="module")
def model():
    return made()


@pytest.fixture(scope="module")
def rows(model):
    z = model.encode_texts(TEXTS)
    return [
        Row(n, text, row, {"price": float(n % 9), "colour": WORDS[n % 10]})
        for n, (text, row) in enumerate(zip(TEXTS, z, strict=True))
    ]


@pytest.fixture(params=["pgvector", "qdrant"])
def where(request, rows, tmp_path):
    """Return url= and table= of a database with the text rows."""
    if request.param == "pgvector":
        return {"url": postgres(), "table": table(rows)}
    return qdrant(str(tmp_path / "db"), rows).options


def items(count: int = 20, **told) -> list[Item]:
    """Return items: each third has two images; an even one belongs to a text row."""
    return [
        Item(
            key=str(n) if n % 2 == 0 else f"photo {n}",
            images=(PHOTOS[n], PHOTOS[n + 20])[: 1 + (n % 3 == 0)],
            facts={"size": n, **told},
        )
        for n in range(count)
    ]


def attached(where, model, out, images=None, **how):
    told = {"link": "key", "progress": False, **how}
    found = items() if images is None else images
    return attach(out, images=found, model=model, **where, **told)


def opened(where, out):
    return open_attached(out, url=where["url"])


def test_images_come_beside_texts_and_both_are_found(where, model, rows, tmp_path):
    out = tmp_path / "it"
    report = attached(where, model, out)
    assert (report.texts, report.added, report.linked, report.unchanged) == (100, 20, 10, 0)
    assert report.images == 27 and report.probes is not None
    assert report.probes.probes == 32 and report.probes.min_cosine > 0.99999
    assert "left as they are" in str(report)
    with opened(where, out) as found:
        assert isinstance(found, Searchable) and len(found) == 110
        assert found.space == model.space
        query = "a dog on the beach"
        hits = found.search(query, top=30, kinds=("text",))
        z = model.encode_texts([query])[0]
        cosines = np.stack([row.vector for row in rows]) @ z
        np.testing.assert_allclose(
            [hit.cosine for hit in hits], np.sort(cosines)[::-1][:30], atol=2e-6
        )
        assert hits[0].text == TEXTS[int(hits[0].key)] and hits[0].field == "body"
        assert found.picture("0", 1) is not None and found.picture("1") is None
        assert Image.open(io.BytesIO(found.picture("photo 1"))).format == "JPEG"
        item = found.item("6")
        assert item is not None and item.images == 2 and item.title == TEXTS[6]
        assert item.facts == {"price": 6.0, "colour": "house", "size": 6}
        alone = found.item("photo 3")
        assert alone is not None and alone.images == 2 and alone.texts == {}
        assert found.item("nobody") is None and found.item("100") is None
        kinds = [(kind, field, number) for kind, field, number, _ in found.rows("6")]
        assert kinds == [("image", "image", 0), ("image", "image", 1), ("text", "body", 0)]
        for _, _, _, row in found.rows("6"):
            assert np.linalg.norm(row) == pytest.approx(1, abs=1e-5)


def numpy_hits(model, rows, pictures, query, top, curves=None):
    """Return (score, key) of items as one would compute them by hand."""
    z = model.encode_texts([query])[0]
    best: dict[str, dict[str, float]] = {"image": {}, "text": {}}
    for row in rows:
        best["text"][str(row.id)] = float(row.vector @ z)
    for key, own in pictures.items():
        best["image"][key] = float((own @ z).max())
    scores: dict[str, float] = {}
    for kind, own in best.items():
        ordered = sorted(own.items(), key=lambda one: (-round(one[1], 6), one[0]))
        for rank, (key, cosine) in enumerate(ordered):
            if curves is None:
                if rank < 100:
                    scores[key] = scores.get(key, 0.0) + 1 / (61 + rank)
            else:
                odds = curves[kind].slope * cosine + curves[kind].offset
                scores[key] = max(scores.get(key, -1e9), odds)
    return sorted(((s, k) for k, s in scores.items()), reverse=True)[:top]


def test_mixed_answers_are_those_of_numpy(where, model, rows, tmp_path):
    out = tmp_path / "it"
    attached(where, model, out)
    pictures = {item.key: model.encode_images(list(item.images)) for item in items()}
    curves = {"image": Calibration(30.0, -2.0), "text": Calibration(12.0, -6.0)}
    with opened(where, out) as found:
        for query in ("a red dog", "night", "boat number 41"):
            for known in (None, curves):
                found.ranking = Ranking({}, known or {})
                hits = found.search(query, top=12)
                assert len({hit.key for hit in hits}) == 12
                expected = numpy_hits(model, rows, pictures, query, 12, known)
                np.testing.assert_allclose(
                    [hit.score for hit in hits], [s for s, _ in expected], rtol=2e-5
                )
        hits = found.search(Query.of(images=[PHOTOS[4]]), kinds=("image",), top=3)
        assert hits[0].key == "4" and hits[0].cosine == pytest.approx(1, abs=1e-5)
        again = found.search(Query.of(images=[PHOTOS[26]]), kinds=("image",), top=40)
        assert {hit.key: hit.number for hit in again}["6"] == 1  # its second image
        similar = found.search(Query((Term("item", "4"),)), top=1, kinds=("image",))
        assert similar[0].key == "4"
        with pytest.raises(ConfigError, match="no combiner"):
            found.search(Query.of("night", images=[PHOTOS[0]], combine="edit"))


def test_filters_and_pages_go_over_both(where, model, tmp_path):
    out = tmp_path / "it"
    attached(where, model, out)
    with opened(where, out) as found:
        for words, keys in (
            ("colour=red", [str(n) for n in range(0, 100, 10)]),
            ("size>=17", ["photo 17", "photo 19"]),
            ("size=18", []),  # a text row is asked for its own facts
            ("price=3 colour=tree", ["75"]),
            ("size>16 price>=0", []),
        ):
            where_ = Filter.parse(words)
            assert [item.key for item in found.browse(0, 50, where_)] == keys
            assert found.counted(where_) == len(keys)
        hits = found.search("a dog", where="colour=red", kinds=("image",))
        assert {hit.key for hit in hits} == {"0", "10"}  # by the facts of their rows
        everything = [item.key for item in found.browse(0, 500)]
        assert everything == [str(n) for n in range(100)] + [f"photo {n}" for n in range(1, 20, 2)]
        pages = [item.key for start in range(0, 130, 13) for item in found.browse(start, 13)]
        assert pages == everything
        facts = found.facts()
        assert facts["size"].high == 19 and dict(facts["colour"].values)["red"] == 10


def test_again_costs_no_encoding_and_changes_come_through(where, model, tmp_path):
    out = tmp_path / "it"
    attached(where, model, out)
    again = attached(where, model, out)
    assert (again.unchanged, again.added, again.replaced, again.images) == (20, 0, 0, 0)
    changed = items()
    changed[3] = Item(key="photo 3", images=(PHOTOS[30],), facts={"size": 3})
    changed[5] = Item(key="photo 5", images=changed[5].images, facts={"size": 500})
    third = attached(where, model, out, [*changed, Item(key="new", images=(PHOTOS[31],))])
    assert (third.unchanged, third.replaced, third.added, third.images) == (18, 2, 1, 2)
    with opened(where, out) as found:
        assert (
            found.search(Query.of(images=[PHOTOS[30]]), top=1, kinds=("image",))[0].key == "photo 3"
        )
        assert found.item("photo 3").images == 1
        assert [item.key for item in found.browse(0, 9, Filter.parse("size=500"))] == ["photo 5"]
        assert found.delete(["photo 5", "nobody"]) == 1 and found.item("photo 5") is None
        assert found.delete(["6"]) == 1  # its images; the text row stays
        assert found.item("6").images == 0 and found.item("6").title == TEXTS[6]


def test_another_models_images_never_mix(where, model, tmp_path):
    attached(where, model, tmp_path / "it", items(3))
    other = made(seed=1)
    with pytest.raises(SpaceMismatch, match=r"another model.*don't mix"):
        attached(where, other, tmp_path / "other", items(3))
    with pytest.raises(SpaceMismatch, match="of another model than"):
        attached(where, other, tmp_path / "it", items(3))
    assert attached(where, model, tmp_path / "second", items(3)).unchanged == 3


@pytest.mark.parametrize(
    "encoder", [{"seed": 3}, {"prompt": "query: "}, {"ngrams": 1}], ids=lambda one: next(iter(one))
)
def test_vectors_of_another_space_are_refused_with_the_worst_row(where, encoder, tmp_path):
    other = made(encoder=encoder)
    with pytest.raises(SpaceMismatch, match=r"of 32 rows agree, the worst is '\d+' \('a .*--trust"):
        attached(where, other, tmp_path / "it")
    assert not (tmp_path / "it").exists()


def test_another_width_is_refused_even_where_it_is_trusted(where, tmp_path):
    with pytest.raises(SpaceMismatch, match=r"24 numbers, those of the model .* 32"):
        attached(where, made(dimensions=32), tmp_path / "it", trust_space=True)


def test_without_texts_somebody_has_to_vouch_for_the_space(model, rows, tmp_path):
    bare = table([row._replace(text="") for row in rows])
    told = {"url": postgres(), "table": bare}
    with pytest.raises(ConfigError, match="--trust-space"):
        attached(told, model, tmp_path / "it", items(3))
    report = attached(told, model, tmp_path / "it", items(3), trust_space=True)
    assert report.probes is None and "not checked" in str(report)


def test_a_few_texts_that_changed_are_told_as_such(model, rows, tmp_path):
    stale = [row._replace(text="quite another text") if row.id == 33 else row for row in rows]
    with pytest.raises(SpaceMismatch, match=r"31 of 32 rows agree, the worst is '33'.*changed"):
        attached({"url": postgres(), "table": table(stale)}, model, tmp_path / "it")


def test_keys_that_are_ids_by_accident_are_refused(where, model, tmp_path):
    with pytest.raises(DataError, match="'0' of an image is also the id of a row"):
        attached(where, model, tmp_path / "it", link="")
    own = [
        Item(key=f"p{n}", images=(PHOTOS[n % 40],), facts={"row": float(n)}) for n in (3, 4, 999)
    ]
    report = attached(where, model, tmp_path / "it", own, link="row")
    assert (report.added, report.linked) == (3, 2)
    with opened(where, tmp_path / "it") as found:
        assert found.item("3").images == 1 and found.item("p3") is None
        assert found.item("p999").images == 1
    with pytest.raises(DataError, match="'7' of an image is also the id"):  # of no row it names
        attached(where, model, tmp_path / "it", [Item(key="7", images=(PHOTOS[0],))], link="row")
    lost = attached(where, model, tmp_path / "it", own, link="rwo")
    assert (lost.replaced, lost.linked, lost.images) == (2, 0, 0)
    assert "0 of them belong to a text row (no --link rwo is the id of one)" in str(lost)


def test_what_cant_be_used_is_counted_and_the_rest_is_there(where, model, tmp_path):
    own = [
        Item(key="good", images=(PHOTOS[0], b"no image", PHOTOS[1])),
        Item(key="bad", images=(PHOTOS[2][:60],)),
        Item(key="none"),
    ]
    report = attached(where, model, tmp_path / "it", own)
    assert report.added == 1 and sum(report.left_out.counts.values()) == 4
    with opened(where, tmp_path / "it") as found:
        assert found.item("good").images == 2 and found.item("bad") is None
    for item in (
        Item(key="a\0b", images=(PHOTOS[0],)),
        Item(key="k" * 1_024 + "é", images=(PHOTOS[0],)),
        Item(key="é" * 1_010, images=(PHOTOS[0],)),
        Item(key="a", images=(PHOTOS[0],), facts={"f": "x\0y"}),
        Item(key="\ud800", images=(PHOTOS[0],)),
    ):
        with pytest.raises(DataError):
            attached(where, model, tmp_path / "it", [item])


def test_curves_are_fitted_on_captions_of_what_is_attached(model, rows):
    where = {"url": postgres(), "table": table(rows)}
    own = [
        Item(
            key=str(n),
            images=(PHOTOS[n % 40],),
            texts={"caption": (TEXTS[n], f"{TEXTS[n]} indeed")},
        )
        for n in range(100)
    ]
    work = Attaching(*_store_and(where, model), "key")
    work.run(own)
    assert len(work.pairs) == 100
    assert all(pair.ask.endswith("indeed") for pair in work.pairs)
    for n in (0, 57):
        np.testing.assert_allclose(work.pairs[n].held, model.encode_texts([TEXTS[n]])[0], atol=1e-6)
    work.pairs = work.pairs[:99]
    assert work.curves() == {}
    work.store.close()


def _store_and(where, model):
    from lift import plugins
    from lift.search.attaching_into import Where

    store = plugins.build(Where("", where["url"], where["table"]).part)
    check_space(store, model)
    assert store.unit
    return store, model


def test_the_folder_opens_it_again_and_holds_no_password(model, rows, tmp_path, monkeypatch):
    name, secret = table(rows), "s3cr3t word"
    url = postgres().replace("postgres:@", f"postgres:{secret.replace(' ', '%20')}@")
    report = attached({"url": url, "table": name}, model, tmp_path / "it", items(3))
    held = b"".join(path.read_bytes() for path in (tmp_path / "it").rglob("*") if path.is_file())
    for word in (secret, secret.replace(" ", "%20"), secret.replace(" ", "+")):
        assert word not in str(report) and word.encode() not in held
    with open_attached(tmp_path / "it") as found:  # without its address
        assert len(found) == 101 and found.name == "it"
    with pytest.raises(ConfigError, match="of another table"):
        attached({"url": postgres(), "table": table(rows)}, model, tmp_path / "it", items(3))
    (tmp_path / "it" / "attached.json").unlink()  # killed between model and record
    assert attached({"url": url, "table": name}, model, tmp_path / "it", items(3)).unchanged == 3
    (tmp_path / "it" / "attached.json").unlink()
    with pytest.raises(ConfigError, match="holds another model"):
        attached({"url": url, "table": name}, made(seed=1), tmp_path / "it", items(3))
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "file").touch()
    with pytest.raises(ConfigError, match="something else"):
        attached({"url": postgres(), "table": name}, model, tmp_path / "else")


def test_a_folder_of_a_database_is_only_opened_where_the_user_names_it(
    model, rows, tmp_path, monkeypatch
):
    where = qdrant(str(tmp_path / "db"), rows).options
    attached(where, model, tmp_path / "it", items(3))
    with pytest.raises(ConfigError, match="name it yourself in LIFT_DATABASE"):
        open_attached(tmp_path / "it")
    monkeypatch.setenv("LIFT_DATABASE", where["url"])
    with open_attached(tmp_path / "it") as found:
        assert len(found) == 101


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(format="lift.attached/9"),
        lambda d: d["store"].update(room="text/encoders"),
        lambda d: d["store"].update(name="../x"),
        lambda d: d.update(calibrations={"image": [1]}),
        lambda d: d.update(calibrations={"image": [-1, 0], "text": [1, 0]}),
        lambda d: d.update(calibrations={"image": [10**400, 0], "text": [1, 0]}),
        lambda d: d.update(weights={"body": 10**400}),
        lambda d: d.update(weights={"body": 0.0}),
        lambda d: d.update(more=1),
        lambda d: d["store"]["options"].update(more=1),
        lambda d: d.pop("model"),
    ],
)
def test_a_damaged_folder_is_told(model, rows, tmp_path_factory, change):
    from lift.errors import LiftError

    folder = _attached_once(model, rows, tmp_path_factory)
    path = folder / "attached.json"
    before = path.read_text()
    values = json.loads(before)
    change(values)
    try:
        path.write_text(json.dumps(values))
        with pytest.raises(LiftError):
            open_attached(folder)
        for text in ("", "[" * 100_000, "null", "{}"):
            path.write_text(text)
            with pytest.raises(DataError):
                open_attached(folder)
    finally:
        path.write_text(before)
    read(folder)


_ONCE: list[Path] = []


def _attached_once(model, rows, factory) -> Path:
    if not _ONCE:
        _ONCE.append(factory.mktemp("once") / "it")
        attached({"url": postgres(), "table": table(rows)}, model, _ONCE[0], items(3))
    return _ONCE[0]


_ATTACHING = """
import os, sys, time
from pathlib import Path
import torch; torch.set_num_threads(1)
from made_model import made
from test_attach import attached, many
from lift.search import attaching
attaching.AT_ONCE = 4
model = made()
def given(upto):  # and then nothing more, until the process is killed
    for number, item in enumerate(many()):
        if number == upto:
            time.sleep(600)
        yield item

for line in sys.stdin:
    url, table, out, upto = line.rstrip("\\n").split("\\t")
    child = os.fork()  # what was imported is there at once
    if not child:
        try:
            attached({"url": url, "table": table}, model, out, given(int(upto)))
        finally:
            os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


@pytest.fixture(scope="module")
def starter():
    """Return a function that starts a process which attaches, and one that waits for its end."""
    tests = Path(__file__).parents[1]
    path = os.pathsep.join(map(str, (Path(__file__).parent, tests)))
    with subprocess.Popen(
        [sys.executable, "-c", _ATTACHING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        to, back = process.stdin, process.stdout

        def start(where, out, upto) -> int:
            to.write(f"{where['url']}\t{where['table']}\t{out}\t{upto}\n")
            to.flush()
            return int(back.readline())

        def ended() -> None:
            assert back.readline() == "ended\n"

        yield start, ended
        to.close()


def many() -> list[Item]:
    """Return items of three images each, so that an item is under way at any time."""
    return [
        Item(key=f"item {n}", images=tuple(PHOTOS[(n + k) % 40] for k in (0, 7, 19)))
        for n in range(80)
    ]


def counted(where) -> dict[str, int]:
    """Return how many images each key has, as a client of its own sees it."""
    if where["url"].startswith("postgresql"):
        with psycopg.connect(where["url"]) as connection:
            query = f"select key, count(*) from {where['table']}_lift_images group by key"
            exists = f"select to_regclass('{where['table']}_lift_images')"
            if connection.execute(exists).fetchone() == (None,):
                return {}
            return dict(connection.execute(query).fetchall())
    from lift import plugins
    from lift.search.attaching_into import Where

    store = plugins.build(Where("", where["url"], where["table"]).part)
    try:
        if store.about() is None:
            return {}
        found: dict[str, int] = {}
        for z in np.eye(24, dtype=np.float32)[:2]:
            found = {}
            for one in store.near_images(z, 2_000):
                found[one.key] = found.get(one.key, 0) + 1
        return found
    finally:
        store.close()


def written(where) -> int:
    """Return how much a process that attaches has written."""
    if where["url"].startswith("postgresql"):
        return len(counted(where))
    file = Path(where["url"], "collection", "texts_lift_items", "storage.sqlite")
    return file.stat().st_size // 10_000 if file.exists() else 0


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_any_moment_no_item_is_there_by_half(where, model, tmp_path, starter, kills):
    start, ended = starter
    rng, seen = np.random.default_rng(0), [0]
    for _ in range(kills):
        before, until = written(where), time.monotonic() + (5 if seen[-1] else 20)
        # Half of what is left, so that no machine is so slow that it kills what has finished.
        child = start(where, tmp_path / "it", seen[-1] + (80 - seen[-1] + 1) // 2)
        while written(where) < before + 1 and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(float(rng.uniform(0, 0.2)))
        os.kill(child, signal.SIGKILL)
        ended()
        found = counted(where)
        assert set(found.values()) <= {3}, "an item is there by half"
        seen.append(len(found))
    assert 0 < seen[-1] and seen == sorted(seen)
    report = attached(where, model, tmp_path / "it", many())
    assert report.unchanged == seen[-1] and report.added == 80 - seen[-1]
    found = counted(where)
    assert len(found) == 80 and set(found.values()) == {3}


def test_two_at_once_are_refused(model, rows, tmp_path):
    where = {"url": postgres(), "table": table(rows)}
    store, _ = _store_and(where, model)
    with store.writing(), pytest.raises(StorageError, match="Another process is attaching"):
        attached(where, model, tmp_path / "it", items(3))
    store.close()


def test_qdrant_collections_by_other_metrics_are_searched_where_they_can_be(model, rows, tmp_path):
    rows = rows[:30]
    for distance in ("Dot", "Euclid"):
        folder = str(tmp_path / distance)
        collection(folder, rows, distance=distance)
        where = {"url": folder, "table": "texts"}
        attached(where, model, tmp_path / f"{distance} out", items(3))
        with opened(where, tmp_path / f"{distance} out") as found:
            hits = found.search("a red dog", kinds=("text",), top=5)
            z = model.encode_texts(["a red dog"])[0]
            expected = np.sort(np.stack([row.vector for row in rows]) @ z)[::-1][:5]
            np.testing.assert_allclose([hit.cosine for hit in hits], expected, atol=1e-5)
    folder = str(tmp_path / "long")
    collection(folder, [row._replace(vector=row.vector * 3) for row in rows], distance="Dot")
    where = {"url": folder, "table": "texts"}
    attached(where, model, tmp_path / "long out", items(3))
    with opened(where, tmp_path / "long out") as found:
        with pytest.raises(ConfigError, match="other lengths than 1"):
            found.search("a red dog")
