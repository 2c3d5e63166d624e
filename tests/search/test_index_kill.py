"""An index whose writer is killed, starved of disk or spoiled afterwards."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lift.errors import DataError, LiftError, StorageError
from lift.search import adding
from lift.search.filters import Filter
from lift.search.index import Index
from lift.search.terms import Item, Query
from made_model import made

PIECE = 8
WORDS = "snow dog red boat night tree child blue stone bridge cat river".split()


def jpeg(number: int) -> bytes:
    import io

    pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def items(count: int) -> Iterator[Item]:
    for number in range(count):
        dice = random.Random(number)
        body = tuple(" ".join(dice.choices(WORDS, k=5)) for _ in range(number % 3))
        yield Item(
            key=f"item {number}",
            texts={"title": (f"{WORDS[number % 12]} number {number}",), "body": body},
            images=(jpeg(number),) if number % 2 else (),
            facts={"number": number, "even": number % 2 == 0, "word": WORDS[number % 12]},
        )


@pytest.fixture(scope="module")
def model():
    return made()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(adding, "AT_ONCE", PIECE)


def everything(index: Index) -> dict:
    """All that an index knows, by key."""
    found = {}
    for stored in index.browse(0, 10_000):
        rows = index.rows(stored.key)
        found[stored.key] = (
            dict(stored.texts),
            dict(stored.facts),
            [index.picture(stored.key, number) for number in range(stored.images)],
            [(kind, field, number, z.tobytes()) for kind, field, number, z in rows],
        )
    return found


def answers(index: Index) -> list:
    z, of = index.vectors([Query.of(word) for word in WORDS])
    return [
        [(hit.key, hit.score, hit.field, hit.number) for hit in own]
        for where in (None, Filter.parse("even=true"))
        for own in index.near(z, of=of, top=7, where=where)
    ]


def require_whole(folder: Path) -> int:
    """A prefix of commits is there, each whole; return how many items that is."""
    with Index.open(folder) as index:
        found = everything(index)
        keys = list(index.keys())
        assert keys == [f"item {number}" for number in range(len(keys))]
        wanted = {item.key: item for item in items(len(keys))}
        for key, (texts, facts, pictures, rows) in found.items():
            item = wanted[key]
            assert texts == {name: own for name, own in item.texts.items() if own}
            assert facts == item.facts and len(pictures) == len(item.images) and all(pictures)
            count = len(item.images) + sum(len(own) for own in item.texts.values())
            assert len(rows) == count
        answers(index)
        return len(keys)


@pytest.fixture(scope="module")
def unhurt(model, tmp_path_factory):
    """An index that nobody killed, what it knows, what it answers and how long it took."""
    folder = tmp_path_factory.mktemp("unhurt") / "index"
    before, adding.AT_ONCE = adding.AT_ONCE, PIECE
    try:
        with Index.create(folder, model) as index:
            index.add(items(PIECE))  # whatever is done once
            began = time.monotonic()
            index.add(items(96))
            took = time.monotonic() - began
            return everything(index), answers(index), took, folder
    finally:
        adding.AT_ONCE = before


def forked(work) -> int:
    """Run `work` in a process of its own, which starts with all that is imported here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads that are asleep
        child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:  # noqa: BLE001
        os._exit(1)
    os._exit(0)


def add_all(folder: Path, model, tell: int, pause: float = 0.0) -> None:
    """Add in a process that tells after which items a commit was done."""

    def told() -> Iterator[Item]:
        for number, item in enumerate(items(96)):
            # `add` asks for the item after a full piece, and commits the piece before the next.
            if number > PIECE and number % PIECE == 1:
                os.write(tell, bytes([number - 1 - PIECE]))
            time.sleep(pause)
            yield item

    with Index.open(folder, model=model, writes=True) as index:
        index.add(told())


def killed_at_random_moments(model, unhurt, folder: Path, times: int) -> None:
    whole, best, took, _ = unhurt
    Index.create(folder, model).close()
    dice, counts = random.Random(times), []
    for _ in range(times):
        read, write = os.pipe()
        child = forked(lambda w=write: add_all(folder, model, w))
        os.close(write)
        time.sleep(dice.uniform(0.02, 0.9 * took / max(1, times / 4)))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        said = b"".join(iter(lambda r=read: os.read(r, 4_096), b""))
        os.close(read)
        counts.append(require_whole(folder))
        assert counts[-1] % PIECE == 0 or counts[-1] == 96
        assert counts[-1] >= max(said, default=0)  # what was committed stays
        assert counts == sorted(counts)
        assert os.waitstatus_to_exitcode(status) in (-signal.SIGKILL, 0)
    with Index.open(folder, model=model, writes=True) as index:
        done = index.add(items(96))
        assert done.unchanged == counts[-1] and done.added == 96 - counts[-1]
        assert everything(index) == whole and answers(index) == best
    assert not list(folder.rglob(".partial-*"))


def test_three_kills(model, unhurt, tmp_path):
    killed_at_random_moments(model, unhurt, tmp_path / "index", 3)


@pytest.mark.slow
def test_ten_kills_and_ten_more(model, unhurt, tmp_path):
    killed_at_random_moments(model, unhurt, tmp_path / "a", 10)
    killed_at_random_moments(model, unhurt, tmp_path / "b", 10)


@pytest.mark.parametrize("what", ["update", "delete", "compact"])
def test_killed_while_it_changes_what_is_there(model, unhurt, tmp_path, what):
    """Killed at random, each piece of the change is there as a whole or not at all."""
    whole, _, _, source = unhurt
    later = [
        Item(key=item.key, texts={"title": (f"{item.texts['title'][0]} again",)})
        for item in items(96)
    ]
    gone = [f"item {number}" for number in range(0, 96, 3)]
    folder = shutil.copytree(source, tmp_path / "index")
    before = whole
    if what == "compact":
        with Index.open(folder, model=model, writes=True) as index:
            index.delete(gone)
            before = everything(index)

    def change() -> None:
        with Index.open(folder, model=model, writes=True) as index:
            if what == "update":
                index.add(iter(later))
            elif what == "delete":
                for start in range(0, len(gone), 4):
                    index.delete(gone[start : start + 4])
            else:
                index.compact()

    dice = random.Random(what)
    for _ in range(3):
        child = forked(change)
        time.sleep(dice.uniform(0.005, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with Index.open(folder, model=model) as index:
            found = everything(index)
            answers(index)
        if what == "update":
            new = [key for key, one in found.items() if one[0] != whole[key][0]]
            assert len(found) == 96 and len(new) % PIECE == 0
            assert all(found[key] == whole[key] for key in found if key not in new)
        elif what == "delete":
            left = [key for key in gone if key in found]
            assert len(left) % 4 == 0 and left == gone[len(gone) - len(left) :]
            assert all(found[key] == whole[key] for key in found)
        else:
            assert found == before
    with Index.open(folder, model=model, writes=True) as index:
        if what == "compact":
            index.compact()
        files = [path.name for path in folder.glob("*-*.f32")]
        assert len(files) == 2  # nothing of a killed compaction stays


def test_what_a_torn_write_left_is_written_over(model, unhurt, tmp_path):
    whole, best, _, source = unhurt
    folder = shutil.copytree(source, tmp_path / "index")
    for path in folder.glob("*.f32"):
        with path.open("ab") as file:
            file.write(os.urandom(24 * 4 * 3 + 5))
    with Index.open(folder, model=model, writes=True) as index:
        assert everything(index) == whole and answers(index) == best
        index.add([Item(key="new", texts={"title": ("a new one",)})])
        kind, field, number, z = index.rows("new")[0]
        assert (kind, field, number) == ("text", "title", 0)
        np.testing.assert_allclose(z, model.encode_texts(["a new one"])[0], atol=1e-6)
        index.delete(["new"])
        assert everything(index) == whole


def test_vectors_cut_short_are_said_and_not_answered(model, unhurt, tmp_path):
    folder = shutil.copytree(unhurt[3], tmp_path / "index")
    path = next(folder.glob("text-*.f32"))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"should hold .* vectors .* damaged"):
        Index.open(folder, model=model)
    path.unlink()
    with pytest.raises(DataError, match="damaged"):
        Index.open(folder, model=model)


def test_a_file_that_may_grow_no_further(model, unhurt, tmp_path):
    """The limit of a process; the signal that Python ignores becomes an error of the disk."""
    folder = shutil.copytree(unhurt[3], tmp_path / "index")
    read, write = os.pipe()

    def work() -> None:
        limit = 400_000  # SQLite's log meets it after some commits
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with Index.open(folder, model=model, writes=True) as index:
            try:
                more = [Item(key=f"more {n}", texts={"title": (f"x {n}",)}) for n in range(200)]
                index.add(more)
            except StorageError as error:
                os.write(write, str(error).encode())
            everything(index)  # it still answers

    child = forked(work)
    os.close(write)
    said = os.read(read, 10_000).decode()
    os.close(read)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert "Can't write" in said
    with Index.open(folder, model=model, writes=True) as index:
        found = everything(index)
        assert {key: found[key] for key in unhurt[0]} == unhurt[0]
        assert (len(found) - 96) % PIECE == 0
        index.add([Item(key=f"more {n}", texts={"title": (f"x {n}",)}) for n in range(200)])
        assert len(index) == 296


def test_a_full_disk(model, full_disk):
    with Index.create(full_disk / "index", model, thumbnails=0) as index:
        index.add(items(PIECE))
        before = everything(index)
        filler = full_disk / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(full_disk).free))
        with pytest.raises(StorageError, match="Can't write"):
            index.add(items(96))
        assert everything(index) == before
        answers(index)
        filler.unlink()
    with Index.open(full_disk / "index", model=model, writes=True) as index:
        assert everything(index) == before
        index.add(items(24))
        assert len(index) == 24


def test_nothing_of_an_index_is_made_on_a_full_disk(model, full_disk):
    (full_disk / "filler").write_bytes(bytes(shutil.disk_usage(full_disk).free - 8_192))
    with pytest.raises(StorageError):
        Index.create(full_disk / "index", model)
    assert [path.name for path in full_disk.iterdir()] == ["filler"]


# --- folders of strangers ------------------------------------------------------------------------


@pytest.fixture
def strange(unhurt, tmp_path):
    return shutil.copytree(unhurt[3], tmp_path / "index")


def asked_everything(folder: Path, model, writes: bool) -> None:
    with Index.open(folder, model=model, writes=writes) as index:
        index.facts()
        everything(index)
        answers(index)
        for hit in index.search("snow", where="number>3 word~o even=true"):
            index.item(hit.key)
        if writes:
            index.add(items(12))
            index.add([Item(key="new", texts={"title": ("new",)})])
            index.delete(["item 3"])
            index.compact()


def require_sentence(folder: Path, model, *, may_work: bool = False) -> None:
    """Only errors of ours, each one sentence or two, whoever opens it."""
    for writes in (False, True):
        try:
            asked_everything(folder, model, writes)
        except LiftError as error:
            assert "\n" not in str(error).strip() and len(str(error)) < 2_000
        else:
            assert may_work, "it opened and answered"


def test_strange_records(strange, model):
    path = strange / "index.json"
    told = json.loads(path.read_text())
    texts = [
        "",
        "{}",
        "[" * 200_000,
        '{"a":' * 100_000,
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
        json.dumps({**told, "format": "lift.index/99"}),
        json.dumps({**told, "stored": "float64"}),
        json.dumps({**told, "engine": {"room": "contenders", "name": "lift", "options": {}}}),
        json.dumps({**told, "engine": {**told["engine"], "name": "../../x"}}),
        json.dumps({**told, "engine": {**told["engine"], "options": {"x": 1}}}),
        json.dumps({**told, "weights": {"title": -1.0}}),
        json.dumps({**told, "weights": {"title": "much"}}),
        json.dumps({**told, "calibrations": {"image": [1, 2]}}),
        json.dumps({**told, "space": {**told["space"], "dimensions": 23}}),
        json.dumps({**told, "space": {**told["space"], "dimensions": -1}}),
        json.dumps({**told, "space": {**told["space"], "dimensions": 2**40}}),
        json.dumps({**told, "space": None}),
        json.dumps({**told, "model": "another"}),
    ]
    for text in texts:
        path.write_text(text)
        require_sentence(strange, model)
    path.unlink()
    os.mkfifo(path)
    require_sentence(strange, model)
    path.unlink()
    path.symlink_to("/dev/zero")
    require_sentence(strange, model)


SPOILED = {
    "counts too large": "UPDATE state SET texts = 4000000000000000000",
    "counts too large to hold": "UPDATE state SET texts = 300000000000",
    "counts below 0": "UPDATE state SET texts = -1",
    "counts in words": "UPDATE state SET texts = 'many'",
    "no state": "DELETE FROM state",
    "generation in words": "UPDATE state SET generation = '../../x'",
    "another generation": "UPDATE state SET generation = 77",
    "places in words": "UPDATE rows SET place = 'x' WHERE place = 3",
    "places below 0": "UPDATE rows SET place = -7 WHERE place = 3",
    "places of nothing": "UPDATE rows SET place = 4000000000000000000 WHERE place = 3",
    "places too large": "UPDATE rows SET place = 1e300 WHERE place = 3",
    "strange kinds": "UPDATE rows SET kind = 9 WHERE place = 3 AND kind = 0",
    "kinds in words": "UPDATE rows SET kind = 'x' WHERE place = 3 AND kind = 0",
    "strange owners": "UPDATE rows SET item = 'x' WHERE place = 3",
    "owners of nothing": "UPDATE rows SET item = 4000000000000000000 WHERE place = 3",
    "owners below 0": "UPDATE rows SET item = -5 WHERE place = 3",
    "strange fields": "UPDATE rows SET field = 1e18",
    "fields in words": "UPDATE rows SET field = 'x', number = 'y'",
    "numbers below 0": "UPDATE rows SET number = -4",
    "texts that are no JSON": "UPDATE items SET texts = '{'",
    "texts of lists": "UPDATE items SET texts = '[1]'",
    "texts of numbers": "UPDATE items SET texts = '{\"title\": 5}'",
    "texts of texts of numbers": "UPDATE items SET texts = '{\"title\": [5]}'",
    "deep texts": "UPDATE items SET texts = replace(hex(zeroblob(100000)), '00', '[')",
    "texts as bytes": "UPDATE items SET texts = x'ff00'",
    "keys as bytes": "UPDATE items SET key = x'ff00' WHERE id = 4",
    "keys as numbers": "UPDATE items SET key = 5 WHERE id = 4",
    "digests in words": "UPDATE items SET digest = 'x'",
    "digests of numbers": "UPDATE items SET digest = 9000000000000",
    "images in words": "UPDATE items SET images = 'x'",
    "images below 0": "UPDATE items SET images = -3",
    "facts as bytes": "UPDATE facts SET value = x'00ff'",
    "names of facts as bytes": "UPDATE facts SET name = x'00ff' WHERE name = 'word'",
    "facts of nothing": "UPDATE facts SET value = NULL",
    "truths in words": "UPDATE facts SET truth = 'x'",
    "pictures in words": "UPDATE pictures SET jpeg = 'x'",
    "pictures of numbers": "UPDATE pictures SET jpeg = 9000000000000",
    "contents of numbers": "UPDATE rows SET content = place + 9000000000000",
    "names of fields as bytes": "UPDATE fields SET name = x'ff' WHERE id = 1",
    "a table less": "DROP TABLE facts",
    "a column less": "ALTER TABLE items DROP COLUMN texts",
    "a view that never ends": "DROP TABLE fields; CREATE VIEW fields AS WITH RECURSIVE "
    "n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id, 'x' AS name FROM n",
    "a trigger": "CREATE TRIGGER t AFTER UPDATE ON state BEGIN DELETE FROM items; END",
    "another mark": "PRAGMA application_id = 5",
    "another version": "PRAGMA user_version = 99",
}


@pytest.mark.parametrize("statement", SPOILED.values(), ids=SPOILED)
def test_strange_tables(strange, model, statement):
    base = sqlite3.connect(strange / "items.db")
    base.execute("PRAGMA ignore_check_constraints = ON")
    base.executescript(statement)
    base.close()
    require_sentence(strange, model, may_work=True)


def test_bytes_that_are_no_database(strange, model):
    path = strange / "items.db"
    data = path.read_bytes()
    for spoiled in (b"", b"x" * 5_000, data[:2_000], data[:16] + os.urandom(len(data) - 16)):
        path.write_bytes(spoiled)
        require_sentence(strange, model)
    dice = random.Random(0)
    for _ in range(4):
        spoiled = bytearray(data)
        for _ in range(200):
            spoiled[dice.randrange(100, len(data))] = dice.randrange(256)
        path.write_bytes(bytes(spoiled))
        require_sentence(strange, model, may_work=True)
    path.unlink()
    path.mkdir()
    require_sentence(strange, model)


def test_links_out_of_the_folder_are_not_followed(strange, model, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1_000_000))
    path = next(strange.glob("text-*.f32"))
    path.unlink()
    path.symlink_to(secret)
    require_sentence(strange, model)
    assert secret.read_bytes() == bytes(1_000_000)


@pytest.mark.parametrize("name", ["usearch", "faiss"])
def test_an_engines_folder_that_leads_elsewhere_is_left_alone(strange, model, tmp_path, name):
    pytest.importorskip(name)
    from lift.config import part

    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "built").mkdir(parents=True)
    (elsewhere / "built" / "precious").write_text("mine")
    (elsewhere / ".partial-precious").write_text("mine")
    (strange / "engine").mkdir(exist_ok=True)
    shutil.rmtree(strange / "engine")
    (strange / "engine").mkdir()
    for kind in ("image", "text"):
        (strange / "engine" / kind).symlink_to(elsewhere)
    with (
        Index.open(strange, model=model, writes=True) as index,
        pytest.raises(StorageError, match="leads elsewhere"),
    ):
        index.build_engine(part("search/engines", name, least=0))
    assert (elsewhere / "built" / "precious").read_text() == "mine"
    assert (elsewhere / ".partial-precious").read_text() == "mine"
