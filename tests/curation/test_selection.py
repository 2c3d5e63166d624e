"""Selecting: columns, what is kept and why not, and the manifest that comes of it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed
from lift.config import part
from lift.curation.columns import COLUMNS, Means, compute
from lift.curation.selection import select
from lift.curation.visual import NEAREST, NOT_VISUAL, VISUAL, visualness
from lift.data.source import open_source
from lift.embedding import Texts
from lift.errors import ConfigError, DataError, MissingRows, SpaceMismatch
from lift.terms import Source
from lift.text.encoder import TextEncoder, build_encoder


def png(number: int, width: int = 6, height: int = 4, turn: int = 1) -> bytes:
    image, out = Image.new("RGB", (width, height), (20 * number, 10, 200)), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = turn
    image.save(out, "JPEG", exif=exif)
    return out.getvalue()


ROWS: list[dict[str, Any]] = [
    {"caption": "a dog runs on grass", "score": "0.5", "lang": "en", "kind": "photo"},
    {"caption": ["a red car", "ein rotes Auto"], "score": "2", "kind": "photo"},
    {"caption": "a dog runs on grass ", "score": "none", "lang": "de"},
    {"caption": "Click here to read more.", "score": "-1", "kind": "text"},
    {"caption": "éé ö", "score": "3e0", "kind": "text"},
    {"caption": "a dog runs on grass", "score": "7", "kind": "photo"},
]
IMAGES = [png(0), png(1, 8, 4, turn=6), png(2), png(0), b"no image", png(3, 5, 5)]


@pytest.fixture
def words(tmp_path: Path) -> str:
    for number, content in enumerate(IMAGES):
        (tmp_path / f"{number}.jpg").write_bytes(content)
    rows = [{"image": f"{n}.jpg", "id": f"k{n}", **row} for n, row in enumerate(ROWS)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return f"table:path={tmp_path}/rows.jsonl,key=id"


def hashing(**options: Any) -> TextEncoder:
    return build_encoder(part("text/encoders", "hashing", dimensions=32, **options))


def cached(folder: Path, sources: Sequence[Source], language: str = "") -> EmbeddingCache:
    embed(Texts(sources, language=language), hashing(), folder, progress=False)
    return EmbeddingCache.open(folder)


def values(source: Source, *names: str, **means: Any) -> dict[str, list[Any]]:
    tables = list(compute(source, names, Means(**means)).tables())
    return {n: [v for t in tables for v in t.column(n).to_pylist()] for n in tables[0].column_names}


def test_columns_of_texts_and_fields(words):
    found = values(
        open_source(words), "source", "captions", "roles", "caption", "chars", "words",
        "caption_copy", "language", "score", "field.kind",
    )  # fmt: skip
    assert found["key"] == [f"k{n}" for n in range(6)] and found["number"] == list(range(6))
    assert set(found["source"]) == {open_source(words).name}
    assert found["captions"] == [1, 2, 1, 1, 1, 1]
    assert len(set(found["roles"])) == 1
    assert found["caption"][1] == "a red car"
    assert found["chars"] == [19, 9, 19, 24, 4, 19] and found["words"][3] == 5
    assert found["caption_copy"] == [0, 0, 1, 0, 0, 2]
    assert found["language"] == ["en", None, "de", None, None, None]
    assert found["field.score"][4] == "3e0" and found["field.kind"][2] is None


def test_columns_of_images_come_from_their_headers(words):
    found = values(open_source(words), "bytes", "width", "height", "aspect", "image_copy")
    assert found["bytes"] == [len(image) for image in IMAGES]
    assert found["width"] == [6, 4, 6, 6, None, 5] and found["height"] == [4, 8, 4, 4, None, 5]
    assert found["aspect"][1] == 0.5 and found["aspect"][4] is None
    assert found["image_copy"] == [0, 0, 0, 1, 0, 0]


def test_images_are_read_only_where_a_column_needs_them(words, tmp_path):
    for number in range(6):
        (tmp_path / f"{number}.jpg").unlink()
    assert values(open_source(words), "chars", "caption_copy")["chars"][0] == 19
    with pytest.raises(DataError, match="None of the 6 samples"):
        select((words, open_source(words)), out=tmp_path / "k.parquet", where="bytes > 0")


def test_copies_over_many_chunks_are_those_of_a_dictionary():
    source = open_source("scenes:count=3000,resolution=32,short=1,long=0")
    seen: dict[str, int] = {}
    expected = []
    for _, captions in source.texts():
        expected.append(seen.get(captions[0].text, 0))
        seen[captions[0].text] = expected[-1] + 1
    assert max(expected) > 3
    assert values(source, "caption_copy")["caption_copy"] == expected


def test_columns_of_stored_rows(words, tmp_path):
    source = open_source(words)
    cache, encoder = cached(tmp_path / "c", [source]), hashing()
    found = values(source, "similarity", "visualness", cache=cache, task=("a red car", "blue sky"))
    assert found["similarity"][1] == pytest.approx(1, abs=1e-5) and found["similarity"][4] < 0.9
    z = encoder.encode([str(c) for c in values(source, "caption")["caption"]]).rows
    near = [np.sort(z @ encoder.encode(p).rows.T)[:, -NEAREST:] for p in (VISUAL, NOT_VISUAL)]
    wanted = near[0].mean(axis=1) - near[1].mean(axis=1)
    np.testing.assert_allclose(found["visualness"], wanted, atol=1e-4)
    assert found["visualness"][0] > 0 > found["visualness"][3]
    with pytest.raises(SpaceMismatch):
        values(source, "visualness", cache=cache, encoder=hashing(seed=1))


def test_visual_sentences_are_told_from_others_by_each_other():
    z = [hashing().encode(texts).rows for texts in (VISUAL, NOT_VISUAL)]
    assert len(set(VISUAL)) == len(VISUAL) == len(set(NOT_VISUAL)) == len(NOT_VISUAL) == 40
    assert visualness(z[0], *z).mean() > 0.1 and visualness(z[1], *z).mean() < -0.1


class Judge:
    """Sees an image as the text row of the caption that it was made for."""

    name, saw = "judge", ()

    def __init__(self, space: Any = None) -> None:
        self._encoder, self.live = hashing(), 0
        if space is not None:
            self.space = space

    def encode_images(self, images: Any) -> np.ndarray:
        if b"no image" in images:
            raise DataError("no image")
        told = {image: row["caption"] for image, row in zip(IMAGES, ROWS, strict=True)}
        first = [t if isinstance(t := told[i], str) else t[0] for i in images]
        return self._encoder.encode(first).rows

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.live += len(texts)
        return self._encoder.encode(texts).rows


@pytest.mark.parametrize("same", [True, False])
def test_alignment_takes_stored_rows_only_of_the_judges_own_space(words, tmp_path, same):
    source = open_source(words)
    cache = cached(tmp_path / "c", [source])
    judge = Judge(cache.space if same else None)
    found = values(source, "alignment", cache=cache, judge=judge)["alignment"]
    assert found[1] == pytest.approx(1, abs=1e-5) and found[4] is None
    assert found[0] < 0.9  # its image's bytes are those of another caption
    assert (judge.live == 0) == same


def test_languages_come_from_the_links_of_a_cache(words, tmp_path):
    plain = open_source(words)
    cache = cached(tmp_path / "c", [open_source(f"{words},caption=caption")], language="fr")
    assert values(plain, "language", cache=cache)["language"] == ["fr"] * 6


def test_a_column_without_its_means_is_refused(words, tmp_path):
    source = open_source(words)
    for name in ("cluster", "visualness", "similarity", "alignment"):
        with pytest.raises(ConfigError, match=f"column {name} needs"):
            values(source, name)
    small = cached(tmp_path / "c", [open_source("scenes:count=3,resolution=32")])
    with pytest.raises(MissingRows):
        values(source, "similarity", cache=small, task=("x",))


def test_unknown_columns_stop_with_the_nearest(words, tmp_path):
    source, out = open_source(words), tmp_path / "k.parquet"
    with pytest.raises(ConfigError, match=r"'scores'\. Did you mean 'score'"):
        select(source, out=out, where="scores > 1", progress=False)
    with pytest.raises(ConfigError, match="'nothing'"):
        select(source, out=out, where="field.nothing > 1", progress=False)
    with pytest.raises(ConfigError, match="Text is compared"):
        select(source, out=out, where="caption > 1", progress=False)
    assert not out.exists()


def test_what_is_kept_dropped_and_why(words, tmp_path):
    source, out = open_source(words), tmp_path / "k.parquet"
    found = select(
        [(words, source)], out=out, where="score > 0 and caption_copy == 0 and kind != 'text'",
        weight="score * 2", progress=False,
    )  # fmt: skip
    assert (found.samples, found.kept) == (6, 2)
    told = {d.why: (d.samples, d.unknown, d.first) for d in found.dropped}
    assert told == {
        "score > 0": (2, 1, "k2"),
        "caption_copy == 0": (1, 0, "k5"),
        "kind != 'text'": (1, 0, "k4"),
        "a weight of 0": (0, 0, ""),
    }
    assert found.weights == (5.0, 1.0, 4.0)
    table = pq.read_table(out)
    assert table.to_pydict() == {
        "number": [0, 1],
        "key": ["k0", "k1"],
        "weight": [1.0, 4.0],
        "field.score": ["0.5", "2"],
        "caption_copy": [0, 0],
        "field.kind": ["photo", "photo"],
    }
    record = json.loads(table.schema.metadata[b"lift"])
    assert record["data"] == words and record["samples"] == 6 and record["where"]
    text = found.table()
    assert "2 of 6 samples kept (33.3%)" in text and "weights add up to 5" in text
    assert "score > 0" in text and "k2" in text


def test_equal_inputs_give_equal_bytes(words, tmp_path):
    cache = cached(tmp_path / "c", [open_source(words)])
    made = []
    for name in ("a", "b"):
        out = tmp_path / f"{name}.parquet"
        select(
            (words, open_source(words)), out=out, where="chars > 3", weight="chars / 10",
            cache=cache, clusters=3, progress=False,
        )  # fmt: skip
        made.append(out.read_bytes())
    assert made[0] == made[1]


def test_clusters_sort_the_kept_samples(tmp_path):
    source = open_source("scenes:count=500,resolution=32,short=1,long=0")
    cache = cached(tmp_path / "c", [source])
    out = tmp_path / "k.parquet"
    found = select(source, out=out, where="chars > 20", cache=cache, clusters=7, progress=False)
    table = pq.read_table(out)
    rows = list(zip(*(table.column(n).to_pylist() for n in ("cluster", "number")), strict=True))
    assert rows == sorted(rows) and len(rows) == found.kept
    assert found.clusters == tuple(np.bincount([c for c, _ in rows], minlength=7))
    kept = {k for k, captions in source.texts() if len(captions[0].text) > 20}
    assert set(table.column("key").to_pylist()) == kept
    texts, captions = dict(source.texts()), table.column("key").to_pylist()
    z = cache.take(cache.require([texts[key][0].text for key in captions]))
    owner = np.array([c for c, _ in rows])
    middles = np.stack([z[owner == c].mean(axis=0) for c in range(7)])
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    assert ((z @ middles.T).argmax(axis=1) == owner).mean() > 0.9


def test_nothing_kept_writes_nothing(words, tmp_path):
    out = tmp_path / "k.parquet"
    with pytest.raises(DataError, match=r"None of the 6 .* 6 by chars > 900 \(the first: k0\)"):
        select(open_source(words), out=out, where="chars > 900", progress=False)
    with pytest.raises(DataError, match="6 by a weight of 0"):
        select(open_source(words), out=out, weight="0", progress=False)
    assert not out.exists() and not list(tmp_path.glob(".partial*"))


@pytest.mark.parametrize(
    ("weight", "told"), [("-1", "k0.* is -1"), ("score", "k2.*nan"), ("1/0", "inf")]
)
def test_a_weight_that_is_none_stops(words, tmp_path, weight, told):
    with pytest.raises(DataError, match=told):
        select(open_source(words), out=tmp_path / "k.parquet", weight=weight, progress=False)


def test_several_sources_need_a_manifest_each(words, tmp_path):
    sources = [(words, open_source(words))] * 2
    with pytest.raises(ConfigError, match=r"selected:a\.parquet::selected:b\.parquet"):
        select(sources, out=tmp_path / "k.parquet", progress=False)


def test_a_role_chooses_the_caption(tmp_path):
    rows = [{"a": "first", "b": "the second one"}, {"a": "only this"}]
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    text = [json.dumps({"image": f"{n}.png", "b": "x", **row}) for n, row in enumerate(rows)]
    (tmp_path / "r.jsonl").write_text("\n".join(text))
    source = open_source(f"table:path={tmp_path}/r.jsonl,caption=a+b")
    assert values(source, "caption", role="b")["caption"] == ["the second one", "x"]
    found = values(source, "caption", "chars", role="zz")
    assert found["caption"] == found["chars"] == [None, None]


def test_real_pairs(shared_data, tmp_path):
    words = str(shared_data / "flickr8k" / "val-*.tar")
    source = open_source(words)
    cache = cached(tmp_path / "c", [source])
    found = select(
        (words, source), out=tmp_path / "k.parquet", where="'dog' in caption and width == 224",
        weight="words / 8", cache=cache, clusters=4, progress=False,
    )  # fmt: skip
    assert 40 < found.kept < 200 and sum(found.clusters) == found.kept
    again = open_source(f"selected:{tmp_path}/k.parquet")
    assert all("dog" in captions[0].text for _, captions in again.texts())


PROGRAM = """
import sys
from lift.curation.selection import select
from lift.data.source import open_source
words = f"scenes:count={sys.argv[1]},resolution=32,short=1,long=0"
select((words, open_source(words)), out=sys.argv[2], where="caption_copy < 9 and chars > 9",
       weight="chars / 20", progress=False)
source = open_source(f"selected:{sys.argv[2]},check=false")
assert sum(1 for _ in source.texts()) == len(source) > int(sys.argv[1]) // 20
print(open("/proc/self/status").read().split("RssAnon:")[1].split()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RssAnon is told by Linux")
def test_memory_does_not_grow_with_the_samples(tmp_path):
    found = []
    for count in (5_000, 50_000):
        command = [sys.executable, "-c", PROGRAM, str(count), str(tmp_path / f"{count}.parquet")]
        environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        found.append(int(done.stdout) / 1024)
    assert found[1] < 1.1 * found[0], found


def test_every_column_says_what_it_is():
    assert all(column.meaning for column in COLUMNS.values())
