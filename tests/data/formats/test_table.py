"""Tables of every suffix, with paths and with bytes, and rows that are broken on purpose."""

from __future__ import annotations

import csv
import datetime
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lift.config import Part
from lift.data.image import decode
from lift.data.source import open_source
from lift.errors import ConfigError, DataError

KINDS = ("csv", "tsv", "jsonl", "parquet")


def table(path, **options):
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
        assert [tuple(c) for c in sample.captions] == [
            (row["title"], "title"),
            (row["long"].strip(), "long"),
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
    with pytest.raises(DataError, match="Sample 001 has an empty caption in 'title'"):
        source.read(1)
    with pytest.raises(DataError, match="Sample 001 has an empty caption"):
        list(source.texts())


@pytest.mark.parametrize(
    "caption, sentence",
    [
        (None, "Sample 0 has an empty caption"),
        ([], "Sample 0 has an empty caption"),
        (["a", ""], "Sample 0 has an empty caption"),
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


def test_ragged_and_doubled_columns(tmp_path):
    (tmp_path / "a.csv").write_text("image,caption\nx.png,a,b\n")
    with pytest.raises(DataError, match=r"a\.csv can't be read as \.csv"):
        table(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("image,caption,caption\nx.png,a,b\n")
    with pytest.raises(DataError, match="two columns of one name"):
        table(tmp_path / "b.csv")
    (tmp_path / "c.jsonl").write_text('{"image": "a", "caption": "b"}\n{"image": \n')
    with pytest.raises(DataError, match="line 2, is not JSON"):
        table(tmp_path / "c.jsonl")
    (tmp_path / "d.jsonl").write_text("[]\n")
    with pytest.raises(DataError, match="line 1, is not a JSON object"):
        table(tmp_path / "d.jsonl")
    (tmp_path / "e.xlsx").write_text("")
    with pytest.raises(DataError, match=r"Known: .csv, .jsonl, .parquet, .tsv"):
        table(tmp_path / "e.xlsx")


def test_a_truncated_parquet(photos):
    path = write(photos / "t.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"t\.parquet can't be read as \.parquet"):
        table(path, caption="title")


@pytest.mark.parametrize("kind", KINDS)
def test_keys_must_be_unique(photos, kind):
    path = write(photos / f"t.{kind}", [*ROWS, ROWS[1]])
    with pytest.raises(DataError, match="'001' more than once in 'sku'"):
        table(path, caption="title", key="sku")


def test_keys_must_be_there_and_plain(photos):
    rows = [{**ROWS[0], "sku": None}, ROWS[1]]
    with pytest.raises(DataError, match="rows without a 'sku'"):
        table(write(photos / "t.jsonl", rows), caption="title", key="sku")
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


def test_text_that_is_none_is_refused_by_row(photos):
    rows = ['{"image": "a", "caption": "fine"}', '{"image": "a", "caption": "x \\ud800"}']
    (photos / "t.jsonl").write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError, match=r"t\.jsonl: row 1 .* 'caption' .* as UTF-8"):
        table(photos / "t.jsonl")
    lists = '{"image": "a", "caption": ["x", "\\udfff"]}'
    (photos / "t.jsonl").write_text(lists + "\n")
    with pytest.raises(DataError, match=r"row 0 .* 'caption'"):
        table(photos / "t.jsonl")


# --- memory -------------------------------------------------------------------------------------


def test_a_window_fits_into_the_memory(tmp_path, monkeypatch):
    """Random order over more groups than are held would load each one again for every row."""
    noise = os.urandom(1 << 21)
    rows = [{"image": noise[n << 15 : n + 2 << 15], "caption": "a"} for n in range(62)]
    path = write(tmp_path / "t.parquet", rows, row_group_size=2, use_dictionary=False)
    source = table(path, memory_mb=1)
    assert 4 <= source.window_samples <= 8  # 64 KB a row, half a MB
    loads = []
    load = source._recent._load
    monkeypatch.setattr(source._recent, "_load", lambda n: loads.append(n) or load(n))
    for first in range(0, 62, source.window_samples):
        window = [n for n in range(first, min(62, first + source.window_samples))]
        for number in window[::2] + window[1::2]:
            source.read(number)
    assert len(loads) <= 31 + 62 // source.window_samples
