"""Tables of every suffix, with paths and with bytes, and rows that are broken on purpose."""

from __future__ import annotations

import csv
import datetime
import gc
import gzip
import io
import json
import os
import pickle
import threading
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lift.config import Part
from lift.data.image import decode
from lift.data.source import open_source
from lift.errors import BrokenSample, ConfigError, DataError

KINDS = ("csv", "tsv", "jsonl", "parquet")


def table(path, **options) -> Any:
    if str(path).endswith("t.tsv"):  # written by `write`, with tabs and line ends in quotes
        options.setdefault("quote", True)
    return open_source(Part("data/formats", "table", {"path": str(path), **options}))


def write(path, rows, **more):
    """Write rows by the standard library (parquet: by pyarrow), independent of our readers."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, **more)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            dialect = "excel" if path.suffix == ".csv" else "excel-tab"
            writer = csv.DictWriter(file, list(rows[0]), dialect=dialect)
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.fixture
def photos(tmp_path, picture):
    folder = tmp_path / "shop"
    (folder / "images").mkdir(parents=True)
    for number in range(4):
        (folder / "images" / f"{number}.png").write_bytes(picture(number))
    return folder


ROWS = [
    {
        "image": f"images/{n}.png",
        "title": f'Shoe {n}, "red"\tof ünïcode',
        "long": f" line one\nline {n} ",
        "sku": f"00{n}",
        "price": f"{n}.50",
    }
    for n in range(4)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_suffix_gives_the_same_samples(photos, picture, kind):
    source = table(write(photos / f"t.{kind}", ROWS), caption=("title", "long"), key="sku")
    assert source.name == f"shop/t.{kind}" and len(source) == 4
    for number, row in enumerate(ROWS):
        sample = source.read(number)
        assert sample.key == f"00{number}"  # text stays text: no 0 for 000
        assert sample.image == picture(number)
        assert [tuple(c)[:3] for c in sample.captions] == [
            (row["title"], "title", 1.0),
            (row["long"].strip(), "long", 1.0),
        ]
        assert dict(sample.fields) == {"price": f"{number}.50"}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_numbered_without_a_key(photos, kind):
    source = table(write(photos / f"t.{kind}", ROWS), caption="title", fields=())
    assert [key for key, _ in source.texts()] == ["0", "1", "2", "3"]
    assert dict(source.read(2).fields) == {}


@pytest.mark.parametrize("struct", [False, True])
def test_parquet_with_bytes(tmp_path, picture, struct):
    rows = [
        {
            "image": {"bytes": picture(n), "path": None} if struct else picture(n),
            "caption": [f"one {n}", f"two {n}"],
            "day": datetime.date(2012, 3, 4),
            "count": n,
            "share": 0.5,
            "flag": True,
            "nothing": None if n else "x",
            "blob": b"raw",
        }
        for n in range(7)
    ]
    source = table(write(tmp_path / "t.parquet", rows, row_group_size=3))
    assert source.groups == (3, 3, 1)
    for number in (6, 0, 4, 2):
        sample = source.read(number)
        assert sample.image == picture(number) and sample.key == str(number)
        assert [c.text for c in sample.captions] == [f"one {number}", f"two {number}"]
        expected = {"day": "2012-03-04", "count": str(number), "share": "0.5", "flag": "true"}
        assert dict(sample.fields) == expected | ({} if number else {"nothing": "x"})


def test_real_parquet(shared_data):
    path = shared_data / "fashion-products" / "test.parquet"
    source = table(path, caption="title", key="id")
    raw = pq.read_table(path).to_pylist()
    assert source.name == "fashion-products/test.parquet" and len(source) == len(raw) == 2000
    for (key, captions), row in zip(source.texts(), raw, strict=True):
        assert key == str(row["id"]) and captions[0].text == row["title"].strip()
    sample = source.read(1500)
    assert sample.fields["article_type"] == raw[1500]["article_type"]
    assert decode(sample.image).ndim == 3


def test_jsonl_keeps_text_as_text_and_lists_as_lists(photos):
    rows = [
        {"image": "images/0.png", "caption": "2012-03-04", "n": 1.5, "tags": {"a": [1]}},
        {"image": "images/1.png", "caption": ["x", "y"], "n": None, "tags": None},
    ]
    source = table(write(photos / "t.jsonl", rows))
    assert [[c.text for c in captions] for _, captions in source.texts()] == [
        ["2012-03-04"],
        ["x", "y"],
    ]
    assert dict(source.read(0).fields) == {"n": "1.5", "tags": '{"a": [1]}'}
    assert dict(source.read(1).fields) == {}


def test_several_files_have_prefixed_keys(photos):
    write(photos / "a.csv", ROWS[:2])
    write(photos / "b.jsonl", ROWS[2:])
    files = [str(photos / "a.csv"), str(photos / "b.jsonl")]
    source = open_source(Part("data/formats", "table", {"path": files, "caption": "title"}))
    assert [key for key, _ in source.texts()] == ["a/0", "a/1", "b/0", "b/1"]
    assert source.groups == (2, 2) and source.name.endswith("(2 files)")


def test_quote_off_keeps_quotes(photos):
    (photos / "t.tsv").write_text('image\tcaption\nimages/0.png\t"quoted" and 5" long\n')
    assert table(photos / "t.tsv", quote=False).read(0).captions[0].text == '"quoted" and 5" long'


def test_captions_have_roles_and_keep_every_script(photos):
    odd = [
        "ein \U0001f469\u200d\U0001f680 im All",
        "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
        "a\u2028b\x85c\x0cd",
        "\ufeffx",
    ]
    rows = [{"image": f"images/{n}.png", "alt": odd[n], "long": f"l{n}"} for n in range(4)]
    for kind in KINDS:
        source = table(write(photos / f"t.{kind}", rows), caption=("alt:raw", "long:rewrite"))
        for (_, told), text in zip(source.texts(), odd, strict=True):
            assert tuple(told[0])[:2] == (text, "raw")
            assert told[1].role == "rewrite"


def test_jsonl_may_be_gzipped(photos, picture):
    path = write(photos / "t.jsonl", ROWS)
    (photos / "z.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    source = table(photos / "z.jsonl.gz", caption="title")
    assert len(source) == 4 and source.read(3).image == picture(3)
    (photos / "z.jsonl.gz").write_bytes(gzip.compress(path.read_bytes())[:-12])
    with pytest.raises(DataError, match=r"z\.jsonl\.gz can't be read"):
        table(photos / "z.jsonl.gz", caption="title")


@pytest.mark.parametrize(
    "name, options, count",
    [
        ("caltech101-a/test.parquet", {"caption": "class_name", "key": "key"}, 350),
        ("cifar10/test.parquet", {"caption": "class_name:raw", "key": "key"}, 5000),
        ("nlvr/dev.parquet", {"caption": "sentence", "key": "key"}, 1978),
    ],
)
def test_real_tables(shared_data, name, options, count):
    source = table(shared_data / name, **options)
    raw = pq.read_table(shared_data / name, columns=["key", "image"])
    assert len(source) == count and source.counters == {}
    assert [key for key, _ in source.texts()] == raw["key"].to_pylist()
    kinds = set()
    for number in range(0, count, count // 50):
        sample = source.read(number)
        assert sample.image == raw["image"][number].as_py()
        with Image.open(io.BytesIO(sample.image)) as opened:
            kinds.add(opened.mode)
        assert decode(sample.image).shape[0] == 3
    assert kinds <= ({"RGBA"} if "nlvr" in name else {"RGB", "L"})


@pytest.mark.parametrize("mode", ["P", "RGBA", "L", "LA", "1"])
def test_pictures_of_every_mode_arrive_as_they_are(tmp_path, picture, mode):
    out = io.BytesIO()
    Image.open(io.BytesIO(picture(3))).convert(mode).save(out, "PNG")
    path = write(tmp_path / "t.parquet", [{"image": out.getvalue(), "caption": "a"}])
    sample = table(path).read(0)
    assert sample.image == out.getvalue() and decode(sample.image).shape[0] == 3


# --- what is wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_column_gets_the_nearest_name(photos, kind):
    path = write(photos / f"t.{kind}", ROWS)
    with pytest.raises(DataError, match=rf"column of .*t\.{kind}: 'titel'. Did you mean 'title'"):
        table(path, caption="titel")
    for options in ({"image": "img"}, {"key": "id"}, {"fields": ("colour",)}):
        with pytest.raises(DataError, match=r"Known: image, long, price, sku, title"):
            table(path, **{"caption": "title", **options})


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_caption_names_its_sample(photos, kind):
    rows = [{**ROWS[0]}, {**ROWS[1], "title": "  "}]
    source = table(write(photos / f"t.{kind}", rows), caption="title", key="sku")
    with pytest.raises(BrokenSample, match="Sample 001 has an empty caption in 'title'"):
        source.read(1)
    assert [(key, len(captions)) for key, captions in source.texts()] == [("000", 1), ("001", 0)]
    assert source.counters == {"empty caption": 1}
    assert "Sample 001" in source.examples["empty caption"]
    strict = table(photos / f"t.{kind}", caption="title", key="sku", strict=True)
    with pytest.raises(BrokenSample, match="Sample 001 has an empty caption"):
        list(strict.texts())


@pytest.mark.parametrize(
    "caption, sentence",
    [
        (None, "Sample 0 has an empty caption"),
        ([], "Sample 0 has an empty caption"),
        (["", ""], "Sample 0 has an empty caption"),
    ],
)
def test_captions_without_text(photos, caption, sentence):
    rows = [{"image": "images/0.png", "caption": caption}, {"image": "x", "caption": ["b"]}]
    with pytest.raises(DataError, match=sentence):
        table(write(photos / "t.jsonl", rows)).read(0)


def test_a_caption_that_is_a_number(tmp_path):
    path = write(tmp_path / "t.parquet", [{"image": b"i", "caption": 3}])
    with pytest.raises(DataError, match=r"Sample 0 has a caption .* int, not text"):
        table(path).read(0)


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows(tmp_path, kind):
    path = tmp_path / f"t.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"image": pa.array([], "string"), "caption": []}), path)
    elif kind == "jsonl":
        path.write_text("")
    else:
        path.write_text("image,caption\n" if kind == "csv" else "image\tcaption\n")
    with pytest.raises(DataError, match=rf"t\.{kind} holds no samples"):
        table(path)


@pytest.mark.parametrize("kind", KINDS)
def test_no_file_and_no_table(tmp_path, kind):
    with pytest.raises(DataError, match="No file matches"):
        table(tmp_path / f"t.{kind}")
    (tmp_path / f"t.{kind}").write_bytes(b"\xff\xfe\x00\x01 no table \x80")
    with pytest.raises(DataError, match=rf"t\.{kind}"):
        table(tmp_path / f"t.{kind}")


def test_broken_lines_are_counted_with_their_place(tmp_path):
    rows = ["image,caption", "x.png,a", "x.png,a,b", '"y.png","multi', 'line"', "z.png", "x.png,c"]
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
    source = table(tmp_path / "a.csv")
    told = [captions[0].text for _, captions in source.texts()]
    assert told == ["a", "multi\nline", "c"]
    assert source.counters == {"row of another form": 2}
    first = source.examples["row of another form"]
    assert "a.csv, row 3, has 3 columns instead of 2: 'x.png,a,b'" in first
    with pytest.raises(BrokenSample, match=r"a\.csv, row 3"):
        table(tmp_path / "a.csv", strict=True)

    lines = [b'{"image": "a", "caption": "b"}', b'{"image": ', b"", b"[]", b'{"caption": "\xff"}']
    lines += [b"[" * 100_000, b'{"caption": ' + b"9" * 9_000 + b"}"]
    (tmp_path / "c.jsonl").write_bytes(b"\n".join(lines))
    source = table(tmp_path / "c.jsonl")
    assert len(source) == 1 and source.counters == {
        "row that is not JSON": 4,
        "row that is not UTF-8": 1,
    }
    assert "c.jsonl, line 2, is not JSON" in source.examples["row that is not JSON"]
    assert "line 5," in source.examples["row that is not UTF-8"]
    with pytest.raises(BrokenSample, match="line 2, is not JSON"):
        table(tmp_path / "c.jsonl", strict=True)


def test_csv_that_is_not_utf8_loses_only_those_rows(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"image\tcaption\na\tfine\nb\tcaf\xe9\nc\tcaf\xc3\xa9\n")
    source = table(tmp_path / "a.tsv")
    assert [captions[0].text for _, captions in source.texts()] == ["fine", "café"]
    assert source.counters == {"row that is not UTF-8": 1}
    assert "row 1 of those" in source.examples["row that is not UTF-8"]


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("a.csv", "image,caption\nx.png,a,b\n", "holds no samples: 1 row of another form"),
        ("d.jsonl", "[]\n", "holds no samples: 1 row that is not JSON"),
        ("b.csv", "image,caption,caption\nx.png,a,b\n", "two columns of one name"),
        ("e.xlsx", "", r"Known: .csv, .jsonl, .jsonl.gz, .parquet, .tsv"),
        ("f.csv", ",".join(f"c{n}" for n in range(1_001)) + "\n", "more than 1,000 columns"),
        ("g.jsonl", "\n".join(json.dumps({f"c{n}": 1}) for n in range(1_001)), "more than 1,000"),
    ],
)
def test_files_without_samples(tmp_path, name, content, sentence):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=sentence):
        table(tmp_path / name)


def test_one_file_without_samples_among_others(photos):
    write(photos / "a.csv", ROWS)
    (photos / "b.jsonl").write_text("{\n{\n")
    with pytest.raises(DataError, match=r"b\.jsonl holds no samples: 2 row that is not JSON"):
        open_source(
            Part(
                "data/formats",
                "table",
                {"path": [str(photos / "a.csv"), str(photos / "b.jsonl")], "caption": "title"},
            )
        )


def test_a_truncated_parquet(photos):
    path = write(photos / "t.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"t\.parquet can't be read as \.parquet"):
        table(path, caption="title")


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_whose_key_was_there_is_left_out(photos, picture, kind):
    rows = [ROWS[0], ROWS[1], {**ROWS[2], "sku": "000"}, ROWS[3], {**ROWS[3], "sku": "000"}]
    path = write(photos / f"t.{kind}", rows, **({"row_group_size": 2} if kind == "parquet" else {}))
    source = table(path, caption="title", key="sku")
    assert source.groups == ((2, 1, 0) if kind == "parquet" else (3,))
    assert [key for key, _ in source.texts()] == ["000", "001", "003"]
    assert [source.read(n).key for n in range(3)] == ["000", "001", "003"]
    assert source.read(2).image == picture(3)
    assert [c[0].text for _, c in source.texts()] == [ROWS[n]["title"] for n in (0, 1, 3)]
    assert source.counters == {"duplicate key": 2}
    assert "'000' more than once in 'sku'" in source.examples["duplicate key"]
    copy = pickle.loads(pickle.dumps(source))
    assert copy.read(2).key == "003" and list(copy.texts()) == list(source.texts())
    with pytest.raises(BrokenSample, match="'000' more than once in 'sku'"):
        table(path, caption="title", key="sku", strict=True)


def test_keys_must_be_there_and_plain(photos):
    rows = [{**ROWS[0], "sku": None}, ROWS[1], {**ROWS[2], "sku": ""}]
    source = table(write(photos / "t.jsonl", rows), caption="title", key="sku")
    assert [key for key, _ in source.texts()] == ["001"]
    assert source.counters == {"without a key": 2}
    rows = [{**ROWS[0], "sku": ["a"]}]
    with pytest.raises(DataError, match="'sku' is no column of plain values"):
        table(write(photos / "t.jsonl", rows), caption="title", key="sku")


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/hostname", "link.png", "a/../../secret.png"]
)
def test_paths_stay_inside(photos, name):
    secret = photos.parent / "secret.png"
    secret.write_bytes(b"secret")
    os.symlink(secret, photos / "link.png")
    path = write(photos / "t.csv", [{"image": name, "caption": "a"}])
    with pytest.raises(DataError, match=r"Sample 0: .* lies outside .* allow_outside=true"):
        table(path).read(0)
    if "etc" not in name and "a/" not in name:
        assert table(path, allow_outside=True).read(0).image == b"secret"


def test_root_is_where_paths_start(photos, picture):
    path = write(photos / "images" / "t.csv", ROWS)
    assert table(path, caption="title", root=str(photos)).read(3).image == picture(3)
    with pytest.raises(DataError, match=r"Sample 3: .*can't be read \(No such file"):
        table(path, caption="title").read(3)


@pytest.mark.parametrize(
    "value, sentence",
    [
        ("", "Sample 0 has no image in 'image'"),
        ("images", r"can't be read \(Is a directory"),
        ("gone.png", "can't be read"),
        ("nul\0.png", "is not a path|can't be read"),
        ("x" * 5000, "can't be read|is not a path"),
    ],
)
def test_images_that_are_not_there(photos, value, sentence):
    source = table(write(photos / "t.jsonl", [{"image": value, "caption": "a"}]))
    with pytest.raises(DataError, match=sentence):
        source.read(0)


def test_a_pipe_does_not_hang_the_reader(photos):
    os.mkfifo(photos / "pipe.png")
    source = table(write(photos / "t.csv", [{"image": "pipe.png", "caption": "a"}]))
    with pytest.raises(DataError, match="not an ordinary file"):
        source.read(0)


def test_images_that_are_too_large(photos):
    path = write(photos / "t.csv", ROWS)
    with pytest.raises(DataError, match=r"Sample 1: .* bytes; up to 10 are read"):
        table(path, caption="title", max_image_bytes=10).read(1)
    path = write(photos / "t.parquet", [{"image": b"x" * 11, "caption": "a"}])
    with pytest.raises(DataError, match="11 bytes; up to 10 are read"):
        table(path, max_image_bytes=10).read(0)


def test_the_reference_drops_what_is_over_50_000_bytes(tmp_path, picture):
    small, large = picture(1), picture(1) + bytes(50_001 - len(picture(1)))
    rows = [{"image": small, "caption": "a"}, {"image": large, "caption": "b"}]
    source = table(write(tmp_path / "t.parquet", rows), max_image_bytes=50_000)
    assert source.read(0).image == small
    with pytest.raises(BrokenSample) as caught:
        source.read(1)
    assert caught.value.kind == "image file too large"


def test_troubles_have_kinds(photos):
    (photos / "empty.png").write_bytes(b"")
    os.mkfifo(photos / "pipe")
    (photos / "big.png").write_bytes(bytes(3000))
    troubles = {
        "gone.png": "image missing",
        "empty.png": "empty image",
        "big.png": "image file too large",
        "../x.png": "image path outside",
        "pipe": "unreadable image file",
        "": "image missing",
        "https://example.org/a.jpg": "image that is a URL",
        "S3://bucket/a.jpg": "image that is a URL",
    }
    rows = [{"image": name, "caption": "a"} for name in troubles]
    for kind in KINDS:
        found, source = [], table(write(photos / f"t.{kind}", rows), max_image_bytes=2_000)
        for number in range(len(rows)):
            with pytest.raises(BrokenSample) as caught:
                source.read(number)
            found.append(caught.value.kind)
        assert found == list(troubles.values())
    with pytest.raises(BrokenSample, match="is a URL; download the images first"):
        table(photos / "t.csv").read(6)


def test_parquet_strings_that_are_not_utf8(tmp_path, picture):
    bad = pa.Array.from_buffers(
        pa.string(), 2, pa.array([b"ok", b"caf\xe9"], pa.binary()).buffers()
    )
    whole = pa.table({"image": [picture(0)] * 2, "caption": bad, "note": bad, "id": ["a", "b"]})
    pq.write_table(whole, tmp_path / "t.parquet")
    source = table(tmp_path / "t.parquet", key="id")
    assert [len(captions) for _, captions in source.texts()] == [1, 0]
    assert source.counters == {"caption that is not UTF-8": 1}
    assert source.read(0).fields == {"note": "ok"}
    with pytest.raises(BrokenSample, match="Sample b has a caption in 'caption' that is not UTF"):
        source.read(1)
    source = table(tmp_path / "t.parquet", key="caption")
    assert len(source) == 1 and source.counters == {"key that is not UTF-8": 1}


@pytest.mark.parametrize("caption", ["nul \0 in it", "x" * 101])
def test_captions_out_of_bounds_are_counted(photos, caption):
    rows = [{"image": "images/0.png", "caption": c} for c in ("fine", caption)]
    source = table(write(photos / "t.jsonl", rows), max_caption_chars=100)
    assert [len(captions) for _, captions in source.texts()] == [1, 0]
    assert sum(source.counters.values()) == 1


def test_options_are_checked(photos):
    with pytest.raises(ConfigError, match="at least one column"):
        table(photos / "t.csv", caption=())
    with pytest.raises(ConfigError, match="above 0"):
        table(photos / "t.csv", memory_mb=0)


def test_two_columns_of_one_name(photos):
    (photos / "t.csv").write_text("image,caption,caption\na,b,c\n")
    columns = [pa.array([b"x"]), pa.array(["c"]), pa.array(["d"])]
    twins = pa.Table.from_arrays(columns, names=["image", "caption", "caption"])
    pq.write_table(twins, photos / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        with pytest.raises(DataError, match=rf"{name} has two columns of one name: image, capt"):
            table(photos / name)


@pytest.mark.parametrize("caption", ['"x \\ud800"', '["x", "\\udfff"]'])
def test_text_that_is_none_is_left_out_by_line(photos, caption):
    rows = ['{"image": "a", "caption": "fine"}', f'{{"image": "a", "caption": {caption}}}']
    (photos / "t.jsonl").write_text("\n".join(rows) + "\n")
    source = table(photos / "t.jsonl")
    assert len(source) == 1 and source.counters == {"row that is not UTF-8": 1}
    assert "t.jsonl, line 2, has text" in source.examples["row that is not UTF-8"]


# --- memory -------------------------------------------------------------------------------------


def test_a_window_fits_into_the_memory(tmp_path, monkeypatch):
    """Random order over more groups than are held would load each one again for every row."""
    noise = os.urandom(1 << 21)
    rows = [{"image": noise[n << 15 : n + 2 << 15], "caption": "a"} for n in range(62)]
    path = write(tmp_path / "t.parquet", rows, row_group_size=2, use_dictionary=False)
    source = table(path, memory_mb=1)
    assert 4 <= source.window_samples <= 8  # 64 KB a row, half a MB
    loads = []
    recent = source._table.recent
    load = recent._load
    monkeypatch.setattr(recent, "_load", lambda n: loads.append(n) or load(n))
    for first in range(0, 62, source.window_samples):
        window = [n for n in range(first, min(62, first + source.window_samples))]
        for number in window[::2] + window[1::2]:
            source.read(number)
    assert len(loads) <= 31 + 62 // source.window_samples


def anonymous(work) -> int:
    """Return by how many KB the process's own memory grew at most while `work` ran."""

    def now() -> int:
        text = Path("/proc/self/status").read_text()
        return int(text.split("RssAnon:")[1].split()[0])

    gc.collect()
    pa.default_memory_pool().release_unused()
    start, most, done = now(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            most[0] = max(most[0], now())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return most[0] - start


@pytest.mark.slow
@pytest.mark.parametrize("kind, most, words", [("csv", 100_000, 200), ("jsonl", 10_000, 2_000)])
def test_memory_does_not_grow_with_rows(tmp_path, kind, most, words):
    def grown(count: int) -> int:
        path = tmp_path / f"{count}.{kind}"
        with path.open("w") as file:
            if kind == "csv":
                file.write("id,image,caption\n")
            for n in range(count):
                text = f"{n} {'word ' * words}"
                row = {"id": str(n), "image": f"{n}.png", "caption": text}
                file.write((f"{n},{n}.png,{text}" if kind == "csv" else json.dumps(row)) + "\n")

        def work() -> None:
            source = table(path, key="id")
            assert source.window_samples is None
            assert len(source) == count and sum(1 for _ in islice(source.texts(), 10_000))

        return anonymous(work)

    few, many = grown(most // 20), grown(most)  # 100 MB of text
    assert many < few + 50_000, (few, many)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_that_changes_between_processes(photos, kind):
    path = write(photos / f"t.{kind}", ROWS)
    source = table(path, caption="title")
    kept = pickle.dumps(source)
    write(path, ROWS[:3])
    with pytest.raises(DataError, match=rf"t\.{kind} changed while it was being read"):
        pickle.loads(kept).read(1)


def test_any_row_of_many_is_near(photos, picture):
    rows = [{"image": f"images/{n % 4}.png", "caption": f"row {n}"} for n in range(9_000)]
    more = [{"image": "images/0.png", "caption": "x", "later": "y"}]
    source = table(write(photos / "t.jsonl", rows + more))
    assert source.groups == (9_001,)
    for number in (8_999, 0, 4_095, 4_096, 8_192):
        assert source.read(number).captions[0].text == f"row {number}"
    assert source.read(9_000).fields == {"later": "y"} and source.read(0).fields == {}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_lists_and_objects_in_text_are_not_captions_as_they_stand(tmp_path, suffix):
    """A csv holds lists as JSON; training on brackets would never be noticed."""
    cells: list[Any] = [["a dog", "a cat"], ["a dog", None], {"en": "a dog"}, [1], "[sic] a dog"]
    if suffix == "jsonl":
        lines = [json.dumps({"image": "x.png", "caption": cell}) for cell in cells]
    else:
        mark = "," if suffix == "csv" else "\t"
        told = [cell if isinstance(cell, str) else json.dumps(cell) for cell in cells]
        if suffix == "csv":
            told = ['"' + text.replace('"', '""') + '"' for text in told]
        lines = [f"image{mark}caption", *(f"x.png{mark}{text}" for text in told)]
    (tmp_path / f"a.{suffix}").write_text("\n".join(lines))
    source = table(tmp_path / f"a.{suffix}")
    texts = [[c.text for c in captions] for _, captions in source.texts()]
    assert texts == [["a dog", "a cat"], ["a dog"], [], [], ["[sic] a dog"]]
    assert source.counters == {
        "empty caption beside a good one": 1,
        "caption that is not text": 2,
    }


def test_times_beyond_those_of_python_are_text(tmp_path, picture):
    when = pa.array([9_999_999_999_999_999, 0], pa.timestamp("ms"))
    rows = {"image": [picture(), picture()], "caption": ["x", "y"], "when": when}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    source = table(tmp_path / "a.parquet", key="when")
    assert [source.read(n).key for n in (0, 1)] == ["9999999999999999", "1970-01-01 00:00:00"]
    assert [key for key, _ in source.texts()] == ["9999999999999999", "1970-01-01 00:00:00"]
    assert table(tmp_path / "a.parquet").read(0).fields["when"] == "9999999999999999"


def test_damaged_pages_are_broken_samples(tmp_path, picture):
    rows = {"image": [picture()] * 4, "caption": [f"thing {n}" for n in range(4)]}
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(rows), path, row_group_size=2, compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[4:12] = b"\xff" * 8  # the first page's header
    path.write_bytes(content)
    source = table(path)
    assert source.read(2).captions[0].text == "thing 2"
    with pytest.raises(BrokenSample, match=r"Sample 0: .*a\.parquet can't be read") as caught:
        source.read(0)
    assert caught.value.kind == "unreadable row"


def test_a_name_of_a_million_characters_is_shown_by_its_ends(tmp_path):
    write(tmp_path / "a.jsonl", [{"image": "x" * 1_000_000, "caption": "y"}])
    with pytest.raises(BrokenSample, match=r"Sample 0.*x [.]{3} x.*too long") as caught:
        table(tmp_path / "a.jsonl").read(0)
    assert len(str(caught.value)) < 4_100


def test_a_single_quote_in_tsv_swallows_no_rows(tmp_path):
    """Few who write tsv quote: Conceptual Captions has thousands of such lines."""
    rows = ['0.png\t"a dog', "1.png\ta cat", '2.png\ta "bird" sings', '3.png\ta 5" fish']
    (tmp_path / "a.tsv").write_text("\n".join(["image\tcaption", *rows]))
    texts = [captions[0].text for _, captions in table(tmp_path / "a.tsv").texts()]
    assert texts == ['"a dog', "a cat", 'a "bird" sings', 'a 5" fish']
    rows = ['0.png\t"a ""red"" dog"', '1.png\t"a" and "b"', '"2.png"\t"']
    (tmp_path / "a.tsv").write_text("\n".join(['"image"\tcaption', *rows]))
    texts = [captions[0].text for _, captions in table(tmp_path / "a.tsv").texts()]
    assert texts == ['a "red" dog', '"a" and "b"', '"']
    (tmp_path / "a.tsv").write_text('image\tcaption\n0.png\t"a\ttab"\n')
    (_, captions), *_ = table(tmp_path / "a.tsv", quote=True).texts()
    assert captions[0].text == "a\ttab"


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_utf16_is_named(tmp_path, name):
    (tmp_path / name).write_bytes("image,caption\nx.png,a dog\n".encode("utf-16"))
    with pytest.raises(DataError, match=rf"{name} is UTF-16, not UTF-8; save it as UTF-8"):
        table(tmp_path / name)
