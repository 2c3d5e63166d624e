from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lift
from lift.cache.reader import EmbeddingCache
from lift.errors import ConfigError, DataError
from lift.merging import Calibration
from lift.search import calibrating
from lift.search.ranking import Near, Ranking
from search_shelf import COLOURS, THINGS, model, pixels


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a table of products: two photos of each, titles and facts."""
    folder = tmp_path / "photos"
    folder.mkdir()
    with (folder / "products.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "title", "caption", "product", "colour", "price"])
        for n in range(12):
            Image.fromarray(pixels(n)).save(folder / f"{n}.png")
            title = f"{COLOURS[n // 2]} {THINGS[n // 2]}"
            rows.writerow([f"{n}.png", title, f"photo {n}", f"p{n // 2}", COLOURS[n // 2], n])
    return folder


def test_pairs_tables_and_what_goes_again(tmp_path: Path, photos: Path) -> None:
    words = f"table:path={photos}/products.csv,caption=title+caption"
    (tmp_path / "manuals.csv").write_text("id,body,year\n007,how to sail,1999\n8,how to sit,x\n")
    model().save(tmp_path / "model")
    table = {"documents": str(tmp_path / "manuals.csv"), "texts": ("body",), "key": "id"}
    table["facts"] = ("year",)
    done = lift.build_index(
        tmp_path / "index",
        model=tmp_path / "model",
        data=words,
        group="product",
        weights={"title": 2.0},
        progress=False,
        **table,
    )
    assert (done.added, done.rows) == (8, {"image": 12, "text": 6 + 12 + 2})
    with lift.open_index(tmp_path / "index") as made:
        assert made.record.weights == {"title": 2.0}
        item = made.item("p3")
        assert item is not None and item.images == 2
        assert item.texts == {"title": ("yellow house",), "caption": ("photo 6", "photo 7")}
        assert item.facts == {"product": "p3", "colour": "yellow", "price": 6.0}
        assert made.item("007").facts == {"year": 1999.0} and made.item("8").facts == {"year": "x"}
    # The same again costs nothing; without the table and with prune its items go.
    again = lift.build_index(
        tmp_path / "index", data=words, group="product", prune=True, progress=False
    )
    assert (again.unchanged, again.removed, sum(again.rows.values())) == (6, 2, 0)
    with pytest.raises(ConfigError, match="needs a model"):
        lift.build_index(tmp_path / "new", data=words)
    with pytest.raises(ConfigError, match="Nothing to put"):
        lift.build_index(tmp_path / "new", model=tmp_path / "model")
    with pytest.raises(ConfigError, match="has no 'brand' to tell items by"):
        lift.build_index(
            tmp_path / "new", model=tmp_path / "model", data=words, group="brand", progress=False
        )
    with pytest.raises(ConfigError, match="engine"):
        lift.build_index(tmp_path / "index", engine="exakt")


def test_nothing_is_pruned_by_mistake(tmp_path: Path, photos: Path) -> None:
    words = f"table:path={photos}/products.csv,caption=title"
    out = tmp_path / "index"
    lift.build_index(out, model=model(), data=words, progress=False)
    with pytest.raises(ConfigError, match="Nothing to prune by"):
        lift.build_index(out, prune=True, progress=False)
    (photos / "3.png").unlink()  # a disk that is half there
    done = lift.build_index(out, data=words, prune=True, progress=False)
    assert done.removed == 0 and done.unchanged == 11 and "Nothing was pruned" in str(done)
    rows = (photos / "products.csv").read_text().splitlines(keepends=True)
    (photos / "products.csv").write_text("".join(rows[:4] + rows[5:]))
    done = lift.build_index(out, data=words, prune=True, progress=False)
    assert done.removed == 1 and not done.notes and not done.left_out.counts


def test_of_two_with_one_key_the_first_stays(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        lines = "".join(f"{n},{folder} {n}\n" for n in range(3))
        (tmp_path / folder / "table.csv").write_text("id,body\n" + lines)
    table = {"documents": f"{tmp_path}/*/table.csv", "texts": ("body",), "progress": False}
    out = tmp_path / "index"
    assert lift.build_index(out, model=model(), **table).added == 6  # rows of files are told apart
    first = lift.build_index(tmp_path / "keyed", model=model(), key="id", **table)
    again = lift.build_index(tmp_path / "keyed", key="id", **table)
    assert (first.added, first.replaced, again.unchanged, again.replaced) == (3, 0, 3, 0)
    assert again.left_out.counts == {"item with the key of an earlier one": 3}
    with lift.open_index(tmp_path / "keyed") as made:
        assert made.item("1").title == "a 1"


def test_pictures_without_captions_and_options_that_are_chosen_once(tmp_path: Path) -> None:
    album = tmp_path / "album" / "summer"
    album.mkdir(parents=True)
    for n in range(3):
        Image.fromarray(pixels(n)).save(album / f"{n}.PNG")
    (album / "notes.txt").write_text("x")
    (album / "broken.jpg").write_bytes(b"x")
    Image.fromarray(pixels(9)).save(os.fsdecode(bytes(album) + b"/\xff.png"))
    out, pictures = tmp_path / "index", str(tmp_path / "album")
    done = lift.build_index(out, model=model(), pictures=pictures, progress=False, thumbnails=32)
    assert done.added == 3 and done.left_out.counts["item with a key that is none"] == 1
    assert sum(done.left_out.counts.values()) == 3
    with lift.open_index(out) as made:
        assert list(made.keys()) == [f"summer/{n}.PNG" for n in range(3)]
        assert made.search("red")[0].kind == "image"
    for other in ({"thumbnails": 64}, {"stored": "float16"}):
        with pytest.raises(ConfigError, match="chosen once"):
            lift.build_index(out, pictures=pictures, progress=False, **other)
    again = lift.build_index(out, pictures=pictures, weights={"a": 2.0}, prune=True, progress=False)
    assert (again.unchanged, again.removed) == (3, 0)
    with lift.open_index(out) as made:
        assert made.record.weights == {"a": 2.0} and made.record.thumbnails == 32
    with pytest.raises(DataError, match="no pictures"):
        lift.build_index(out, pictures=[str(tmp_path / "index" / "model")], progress=False)


def test_curves_of_other_data_stay(tmp_path: Path) -> None:
    def folder(name: str, count: int, broken: bool = False) -> str:
        (tmp_path / name).mkdir()
        for n in range(count):
            Image.fromarray(pixels(n, 16)).save(tmp_path / name / f"{n}.png")
            said = f"{COLOURS[n % 6]} {THINGS[n // 6 % 6]} number {n}"
            (tmp_path / name / f"{n}.txt").write_text(f"{said}\nthis is {said}\n")
        if broken:
            (tmp_path / name / "3.png").write_bytes(b"broken")
        return str(tmp_path / name)

    data, other = folder("own", 4), folder("other", 110, broken=True)
    curves = {"image": Calibration(2.0, -5.0), "text": Calibration(3.0, -5.0)}
    with pytest.MonkeyPatch.context() as patch:
        seen = []
        patch.setattr(calibrating, "fit", lambda asked: (seen.append(asked), curves)[1])
        lift.build_index(
            tmp_path / "index", model=model(), data=data, calibrate=other, progress=False
        )
        assert len(seen[0].z) == 109  # but for the broken one
        patch.setattr(calibrating, "of_rows", lambda *_: pytest.fail("fitted on its own items"))
        (tmp_path / "own" / "1.txt").write_text("another\nand another")
        assert lift.build_index(tmp_path / "index", data=data, progress=False).replaced == 1
    with lift.open_index(tmp_path / "index") as made:
        assert made.record.calibrated_on and made.record.ranking.calibrations == curves


def test_rows_of_a_cache_are_those_of_the_index(tmp_path: Path, photos: Path) -> None:
    words = f"table:path={photos}/products.csv,caption=title"
    model().save(tmp_path / "model")
    encoder = "hashing:dimensions=32"
    lift.embed([words], out=tmp_path / "captions", encoder=encoder, progress=False)
    lift.build_index(
        tmp_path / "index",
        model=tmp_path / "model",
        data=words,
        cache=tmp_path / "captions",
        progress=False,
    )
    cache = EmbeddingCache.open(tmp_path / "captions")
    with lift.open_index(tmp_path / "index") as made:
        for key in made.keys():
            text = made.item(key).title
            stored = cache.take(cache.find([text]))[0]
            row = next(row for kind, _, _, row in made.rows(key) if kind == "text")
            assert np.allclose(row, stored / np.linalg.norm(stored), atol=1e-6), text


def test_curves_are_fitted_where_there_is_enough_and_merge_fairly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n, d = 200, 32
    base = rng.standard_normal((n, d))

    def near(noise: float, shift: float) -> np.ndarray:
        rows = base + noise * rng.standard_normal((n, d)) + shift
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    of = np.arange(n)
    z = near(0.3, 0.0)
    asked = calibrating.Asked(z, of, (near(2.0, 0.6), of), (near(0.5, 0.0), of))
    curves = calibrating.fit(asked)
    assert set(curves) == {"image", "text"} and all(c.slope > 0 for c in curves.values())
    # A right image lies below wrong texts by its bare cosine, and among them by its odds.
    images, texts = z @ asked.images[0].T, z @ asked.texts[0].T
    odds = curves["image"](np.diag(images)).mean(), curves["text"](np.sort(texts)[:, -2]).mean()
    assert odds[0] > odds[1] and np.diag(images).mean() < np.diag(texts).mean() - 0.3
    assert calibrating.fit(calibrating.Asked(z[:50], of[:50], asked.images, asked.texts)) == {}


def test_ranking_by_hand() -> None:
    curves = {"image": Calibration(30.0, -6.0), "text": Calibration(10.0, -6.0)}
    ranking = Ranking({"title": 4.0}, curves)
    lists = {
        "image": [Near("a", 0.2, "image", 0), Near("b", 0.1, "image", 0)],
        "text": [Near("a", 0.5, "body", 0), Near("a", 0.45, "title", 0), Near("c", 0.6, "body", 0)],
    }
    found = ranking.merged(lists, top=3, way="calibrated")
    assert [(one.item, one.kind, one.row.field) for one in found] == [
        ("a", "image", "image"),  # 30 * 0.2 - 6 = 0; its title: 4.5 - 6 + log 4 = -0.11
        ("c", "text", "body"),  # 6 - 6 = 0, after a, which came first
        ("b", "image", "image"),  # 3 - 6
    ]
    assert found[0].score == pytest.approx(0.0) and found[2].score == pytest.approx(-3.0)
    turns = ranking.merged(lists, top=3, way="reciprocal")
    assert [one.item for one in turns] == ["a", "c", "b"]
    assert turns[0].score == pytest.approx(1 / 61 + 1 / 62)
    assert ranking.way("auto", "text", ["image", "text"]) == "calibrated"
    assert ranking.way("auto", "image", ["image", "text"]) == "reciprocal"
    assert Ranking().way("calibrated", "text", ["image", "text"]) == "reciprocal"
    assert ranking.way("auto", "text", ["image"]) == "cosine"


def test_the_console(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lift.cli import main

    model().save(tmp_path / "model")
    index = str(tmp_path / "index")
    words = ["index", "build", index, "--model", str(tmp_path / "model"), "--quiet"]
    words += ["--data", f"table:path={photos}/products.csv,caption=title"]
    assert main(words) == 0
    assert "12 added" in (said := capsys.readouterr().out) and "lift serve" in said
    assert main(["search", index, "yellow house", "--top", "2", "--kinds", "text", "--json"]) == 0
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(hits) == 2 and hits[0]["text"] == "yellow house"
    assert main(["search", index, "--image", str(photos / "4.png"), "--kinds", "image"]) == 0
    assert "1.000  image  4" in capsys.readouterr().out
    assert main(["index", "remove", index, "4", "99"]) == 0
    assert "1 of 2 removed; 11 items are left" in capsys.readouterr().out
    assert main(["index", "compact", index]) == 0 and "2 vectors" in capsys.readouterr().out
    for bad in (
        ["search", index, "x", "--where", "colour"],
        ["search", index],
        ["search", str(tmp_path), "x"],
        ["search", index, "--image", str(tmp_path / "no.png")],
        ["index", "build", index, "--weights", "title"],
    ):
        assert main(bad) == 2, bad
        assert capsys.readouterr().err.startswith("lift: ")
