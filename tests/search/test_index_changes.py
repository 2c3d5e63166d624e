"""What changing an index costs, who may do it at once, and what it takes where it can't be."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lift.config import part
from lift.errors import ConfigError, StorageError
from lift.search import adding, calibrating, prepared, reading
from lift.search.index import Index
from lift.search.tables import Tables
from lift.search.terms import Item, Kind, Query, Term
from search_shelf import index, items, model, pixels


def whole(view) -> list:
    """Whose each row is, as it would be read from nothing."""
    return [
        (s.owner.tolist(), s.field.tolist(), s.number.tolist(), s.live, s.items)
        for s in view.sides.values()
    ]


def test_a_commit_is_seen_without_reading_what_was_there(tmp_path: Path, monkeypatch) -> None:
    starts: list[int] = []
    read = Tables.rows

    def noted(self, kind, start=0):
        starts.append(start)
        return read(self, kind, start)

    monkeypatch.setattr(Tables, "rows", noted)
    monkeypatch.setattr(adding, "AT_ONCE", 4)
    with index(tmp_path / "index", 12) as made:
        starts.clear()
        made.add(items(8, start=12))  # two commits, looked at once
        assert sorted(starts) == [12, 24]
        made.add([Item(key="item 3", texts={"title": ("another",)})])
        made.delete(["item 5"])
        with Index.open(tmp_path / "index") as fresh:
            assert whole(made.view) == whole(fresh.view)
        made.compact()
        made.add(items(2, start=30))
        with Index.open(tmp_path / "index") as fresh:
            assert whole(made.view) == whole(fresh.view)


def test_threads_that_add_wait_for_each_other(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(adding, "AT_ONCE", 3)
    with Index.create(tmp_path / "index", model(), thumbnails=0) as made:
        own = [items(12, start=12 * number, images=0) for number in range(4)]
        threads = [threading.Thread(target=made.add, args=(some,)) for some in own]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 48
        for item in (item for some in own for item in some):
            z = made.encoder.encode_texts(item.texts["title"])[0]
            row = next(row for _, name, _, row in made.rows(item.key) if name == "title")
            assert np.allclose(row, z, atol=1e-6), item.key


def test_threads_that_ended_leave_no_connections(tmp_path: Path) -> None:
    with index(tmp_path / "index", 2) as made:
        for _ in range(8):
            thread = threading.Thread(target=made.facts)
            thread.start()
            thread.join()
        assert len(made._tables._connections._all) <= 2
    with pytest.raises(StorageError, match="was closed"):
        made.item("item 0")


@pytest.fixture
def disc(tmp_path: Path) -> Iterator[Path]:
    """Return a folder of a disk that a test may make one for reading, or skip."""
    place = tmp_path / "disc"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_an_index_where_nothing_can_be_written(disc: Path, monkeypatch) -> None:
    monkeypatch.setattr(reading, "LOOK", 0.0)
    index(disc / "index", 4).close()
    assert not (disc / "index" / "items.db-wal").exists()
    subprocess.run(["mount", "-o", "remount,ro", str(disc)], check=True)
    with Index.open(disc / "index") as made:
        assert len(made) == 4 and made.search("red dog 0", kinds=["text"])[0].key == "item 0"
        with pytest.raises(StorageError, match="Can't write"):
            Index.open(disc / "index", writes=True)
        # Whoever may write does: a reader that took the file as unchanging sees it all the same.
        subprocess.run(["mount", "-o", "remount,rw", str(disc)], check=True)
        with Index.open(disc / "index", writes=True) as writer:
            writer.add(items(3, start=4))
            assert len(made) == 7
        assert len(made) == 7 and made.rows("item 6")


def test_keys_that_are_no_unicode_are_nobodys(tmp_path: Path) -> None:
    with index(tmp_path / "index", 2) as made:
        assert made.item("a\ud800") is None and made.rows("a\ud800") == []
        assert made.picture("a\ud800") is None and made.delete(["a\ud800"]) == 0
        with pytest.raises(ConfigError, match="There is no item"):
            made.search(Query((Term("item", "a\ud800"),)))


def test_large_images_are_committed_in_smaller_pieces(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(adding, "_BYTES", 10_000)  # a picture here has 7,000 bytes
    with Index.create(tmp_path / "index", model()) as made:
        made.add(items(6))
        assert made._tables.state()[0] == 3 and len(made) == 6


def test_an_unchanged_picture_is_not_decoded_again(tmp_path: Path, monkeypatch) -> None:
    broken = b"\xff\xd8 no jpeg"
    both = Item(key="both", images=(pixels(1), broken))
    with index(tmp_path / "index", 3) as made:
        made.add([both])
        small, seen = prepared.small, []
        monkeypatch.setattr(prepared, "small", lambda *a: (seen.append(a), small(*a))[1])
        done = made.add([*items(3), both])
        assert done.unchanged == 4 and len(seen) == 2  # of the item with the broken one
        assert sum(done.left_out.counts.values()) == 1
        assert made.add([Item(key="both", images=(pixels(1),))]).unchanged == 1


def test_weights_that_float32_cannot_hold(tmp_path: Path) -> None:
    with index(tmp_path / "index", 2) as made:
        first = made.vectors([Query((Term("text", "a red dog"), Term("text", "snow", -0.5)))])[0]
        for scale in (1e300, 1e-300):
            terms = (Term("text", "a red dog", scale), Term("text", "snow", -0.5 * scale))
            z, _ = made.vectors([Query(terms)])
            assert np.isfinite(z).all() and np.allclose(z, first)


def test_a_reader_sees_what_was_chosen_since(tmp_path: Path) -> None:
    with index(tmp_path / "index", 6) as writer, Index.open(tmp_path / "index") as reader:
        writer.weigh({"title": 5.0})
        writer._change(calibrations={"image": (9.0, 0.0), "text": (8.0, 0.0)})
        reader.refresh()
        assert reader.view.ranking == writer.view.ranking
        assert reader.view.ranking.weights == {"title": 5.0}
        assert reader.view.ranking.way("auto", "text", ["image", "text"]) == "calibrated"
        (tmp_path / "index" / "index.json").write_text("{")
        reader.refresh()  # a damaged record: the one that it had still holds
        assert reader.search("dog", top=1)


def test_compacting_builds_what_an_engine_had_built(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    engine = part("search/engines", "usearch", least=0)
    with index(tmp_path / "index", 24, engine=engine) as made:
        made.delete(["item 0"])
        made.compact()
        assert made.view.sides["text"].engine.stale == 46  # nobody had asked for it
        made.build_engine()
        made.delete(["item 1"])
        made.compact()
        assert [side.engine.stale for side in made.view.sides.values()] == [0, 0]
        assert not any(side.engine.complaint for side in made.view.sides.values())


def test_equal_items_are_not_taken_for_wrong_ones() -> None:
    rng = np.random.default_rng(0)

    def near(base: np.ndarray, noise: float) -> np.ndarray:
        rows = base + noise * rng.standard_normal(base.shape)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    base = rng.standard_normal((150, 16))
    own = {"image": near(base, 1.0), "title": near(base, 0.4), "body": near(base, 0.4)}

    kinds: dict[str, Kind] = {"image": "image", "title": "text", "body": "text"}

    def rows(item: int) -> list[tuple[Kind, str, int, np.ndarray]]:  # each ten times over
        return [(kinds[name], name, 0, z[item % 150]) for name, z in own.items()]

    once, often = (calibrating.of_rows(range(n), rows) for n in (150, 1_500))
    assert once and often
    for kind, curve in once.items():
        assert often[kind].slope == pytest.approx(curve.slope, rel=1e-6)
        assert often[kind].offset == pytest.approx(curve.offset, rel=1e-6)


def test_filters_and_answers_are_of_one_commit(tmp_path: Path, monkeypatch) -> None:
    """Items that were replaced between the looks at rows and at items are no gap in an answer."""
    monkeypatch.setattr(reading, "LOOK", 1e9)
    with index(tmp_path / "index", 12) as writer, Index.open(tmp_path / "index") as reader:
        assert len(reader) == 12
        writer.add(Item(key=item.key, texts={"title": ("new",)}) for item in items(12))
        assert len(reader.search("red dog", top=12)) == 12
