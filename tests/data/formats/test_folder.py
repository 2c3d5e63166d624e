"""Folders of images: every way in which captions lie beside them, and hostile files."""

from __future__ import annotations

import json
import os
import pickle
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lift.config import Part
from lift.data.guess import guess
from lift.data.source import open_source
from lift.errors import BrokenSample, ConfigError, DataError
from lift.terms import Caption
from lift.text import reading


def photos(path, **options):
    return open_source(Part("data/formats", "folder", {"path": str(path), **options}))


def told(source):
    found = {key: [c.text for c in captions] for key, captions in source.texts()}
    for index, (key, texts) in enumerate(found.items()):
        sample = source.read(index)
        assert (sample.key, [c.text for c in sample.captions]) == (key, texts)
    return found


@pytest.fixture
def folder(tmp_path, picture):
    path = tmp_path / "photos"
    (path / "sub").mkdir(parents=True)
    for number, name in enumerate(("b.JPG", "a.png", "sub/c.webp")):
        kind = {"b.JPG": "JPEG", "a.png": "PNG", "sub/c.webp": "WEBP"}[name]
        (path / name).write_bytes(picture(number, kind=kind))
    return path


def test_a_text_file_beside_each_image(folder):
    (folder / "a.txt").write_text("a dog\n\n a cat \r\n")
    (folder / "b.txt").write_bytes("\ufeff犬と猫".encode())
    (folder / "sub" / "c.TXT").write_text("مرحبا 🐕\x0cone line")
    source = photos(folder)
    assert told(source) == {
        "a.png": ["a dog", "a cat"],
        "b.JPG": ["犬と猫"],
        "sub/c.webp": ["مرحبا 🐕\x0cone line"],
    }
    assert source.read(0).captions[0] == Caption("a dog", "raw")
    assert source.read(2).image == (folder / "sub" / "c.webp").read_bytes()
    assert source.counters == {} and source.groups == (3,) and source.name.endswith("/photos")


def test_missing_partners_are_counted(folder, picture):
    (folder / "a.txt").write_text("a dog")
    (folder / "gone.txt").write_text("image missing")
    (folder / "notes.pdf").write_bytes(b"?")
    (folder / "README.md").write_text("?")
    source = photos(folder)
    assert list(told(source)) == ["a.png"]
    assert source.counters == {
        "other file": 1,
        "image without caption": 2,
        "caption without image": 1,
    }
    assert source.examples["caption without image"] == "gone.txt"
    assert source.examples["image without caption"] == "b.JPG"
    with pytest.raises(BrokenSample, match=r"b\.JPG: image without caption"):
        photos(folder, strict=True)


def test_captions_that_cannot_be_used_keep_their_place(folder):
    (folder / "a.txt").write_bytes(b"\xff\xfe")
    (folder / "b.txt").write_text(" \n")
    (folder / "sub" / "c.txt").write_text("fine")
    source = photos(folder)
    assert [len(captions) for _, captions in source.texts()] == [0, 0, 1]
    assert source.counters == {"caption that is not UTF-8": 1, "empty caption": 1}
    with pytest.raises(BrokenSample, match=r"Sample a\.png has a caption that is not UTF-8"):
        source.read(0)
    with pytest.raises(BrokenSample, match="has a caption in 'raw' of 4 characters; up to 3"):
        photos(folder, max_caption_chars=3).read(2)
    with pytest.raises(BrokenSample):
        list(photos(folder, strict=True).texts())


def test_json_beside_each_image(folder):
    (folder / "a.json").write_text(json.dumps({"text": ["x", "y"], "alt": "z", "w": 3}))
    (folder / "b.json").write_text("{")
    (folder / "sub" / "c.json").write_text('{"text": "only"}')
    source = photos(folder, caption_field=["text:raw", "alt"])
    assert source.read(0).captions == (
        Caption("x", "raw"),
        Caption("y", "raw"),
        Caption("z", "alt"),
    )
    assert dict(source.read(0).fields) == {"w": "3"}
    assert [len(captions) for _, captions in source.texts()] == [3, 0, 1]
    beside = "without caption field beside a good one"
    assert source.counters == {"damaged .json": 1, beside: 1}
    assert "no field 'alt'; known: text" in source.examples[beside]


def test_names_as_captions(tmp_path, picture):
    for name in ("a_red-dog.jpg", "__.png"):
        (tmp_path / name).write_bytes(picture())
    source = photos(tmp_path, names=True)
    assert [captions for _, captions in source.texts()] == [(), (Caption("a red dog", "raw"),)]
    assert source.counters == {"empty caption": 1}


ROWS = [("a.png", "a dog"), ("b.JPG", 'a "big", red cat'), ("sub/c.webp", "c"), ("a.png", "two")]
WANTED = {"a.png": ["a dog", "two"], "b.JPG": ['a "big", red cat'], "sub/c.webp": ["c"]}


def csv_line(cells):
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)


@pytest.mark.parametrize(
    "name, text",
    [
        ("captions.csv", "\n".join(map(csv_line, [("file_name", "caption"), *ROWS]))),
        ("captions.csv", "\ufeffimage,text\n" + "\n".join(map(csv_line, ROWS))),
        ("captions.csv", "\n".join(map(csv_line, ROWS))),
        ("captions.tsv", "filename\ttitle\n" + "\n".join("\t".join(row) for row in ROWS)),
        ("captions.tsv", "\n".join("\t".join(row) for row in ROWS)),
        ("captions.txt", "\n".join("\t".join(row) for row in ROWS)),
        ("captions.txt", "\r\n".join(f"{f}#{n}\t{c}" for n, (f, c) in enumerate(ROWS))),
        ("captions.txt", "\n".join(f"{f},{c}" for f, c in ROWS) + "\n\n"),
        ("captions.txt", "image,caption\n" + "\n".join(f"{f},{c}" for f, c in ROWS)),
        ("captions.txt", "image,caption\n" + "\n".join(map(csv_line, ROWS))),
        ("captions.jsonl", "\n".join(json.dumps({"image": f, "caption": c}) for f, c in ROWS)),
        ("captions.json", json.dumps([{"path": f, "captions": [c]} for f, c in ROWS])),
        ("captions.json", json.dumps({f: texts for f, texts in WANTED.items()})),
        ("metadata.jsonl", "\n".join(json.dumps({"file_name": f, "text": c}) for f, c in ROWS)),
        ("metadata.csv", "file_name,text\n" + "\n".join(map(csv_line, ROWS))),
    ],
)
def test_one_file_with_all_captions(folder, name, text):
    (folder / name).write_bytes(text.encode())
    source = photos(folder)
    assert told(source) == WANTED
    assert all(c.role == "raw" for _, captions in source.texts() for c in captions)
    assert source.counters == {}


def test_parquet_with_roles_and_fields(folder):
    table = pa.table(
        {"name": ["b", "a"], "re": ["x", "y"], "org": [["p", "q"], ["r"]], "n": [1, 2]}
    )
    pq.write_table(table, folder / "metadata.parquet")
    source = photos(folder, caption=["re:rewrite", "org:raw"])
    assert source.read(0).captions == (Caption("y", "rewrite"), Caption("r", "raw"))
    assert dict(source.read(1).fields) == {"n": "1"}
    assert source.counters == {"image without caption": 1}
    with pytest.raises(DataError, match=r"Unknown column of .*'text'"):
        photos(folder, caption="text")


def test_a_file_elsewhere_in_any_order_with_other_spellings(folder, tmp_path, picture):
    (folder / "e\u0301.png").write_bytes(picture(7))  # as macOS spells it
    rows = [
        ("sub\\c.webp", "windows"),
        ("./b.JPG", "dotted"),
        (str(folder / "a.png"), "whole path"),
        ("\u00e9.png", "composed"),
        ("c.webp", "by its name alone"),
        ("c", "without ending"),
    ]
    file = tmp_path / "all.tsv"
    file.write_text("".join(f"{name}\t{text}\n" for name, text in rows))
    source = photos(folder, captions=str(file))
    assert told(source) == {
        "a.png": ["whole path"],
        "b.JPG": ["dotted"],
        "e\u0301.png": ["composed"],
        "sub/c.webp": ["windows"],  # what has no folder may mean another c, see below
    }
    assert source.counters == {"caption without image": 2}
    file.write_text("c.webp\tby its name alone\nc\twithout ending\na\tits stem\n")
    assert told(photos(folder, captions=str(file))) == {
        "a.png": ["its stem"],
        "sub/c.webp": ["by its name alone", "without ending"],
    }
    with pytest.raises(DataError, match=r"No captions file is at nowhere\.csv"):
        photos(folder, captions="nowhere.csv")


def test_captions_of_a_missing_image_do_not_go_to_a_namesake(folder):
    rows = ["c.webp,of the one that is missing", "sub/c.webp,right", "c.webp,missing again"]
    (folder / "captions.csv").write_text("\n".join(["file_name,caption", *rows]))
    source = photos(folder)
    assert told(source) == {"sub/c.webp": ["right"]}
    assert source.counters["caption without image"] == 2
    assert "row 2 ('c.webp')" in source.examples["caption without image"]


def test_text_files_whose_names_are_spelled_otherwise(tmp_path, picture):
    for name in ("e\u0301.png", "u\u0308.png", "\u00fc.png"):
        (tmp_path / name).write_bytes(picture())
    (tmp_path / "\u00e9.txt").write_text("composed")
    (tmp_path / "\u00fc.txt").write_text("its own")
    (tmp_path / "u\u0308.txt").write_text("its own, decomposed")
    assert told(photos(tmp_path, strict=True)) == {
        "e\u0301.png": ["composed"],
        "u\u0308.png": ["its own, decomposed"],
        "\u00fc.png": ["its own"],
    }


def test_a_second_captions_file_is_counted(folder):
    for name in ("a.txt", "a.TXT", "README.txt"):
        (folder / name).write_text(name)
    source = photos(folder)
    assert told(source) == {"a.png": ["a.TXT"]}
    assert source.counters == {
        "another captions file of the same image": 1,
        "image without caption": 2,
    }
    assert source.examples["another captions file of the same image"] == "a.txt"


def test_csv_from_a_spreadsheet(folder, monkeypatch):
    text = '\ufeff"image","caption"\r\n"a.png","a dog that is,\r\n""running"""\r\n"b.JPG","x"\r\n'
    (folder / "captions.csv").write_bytes(text.encode())
    assert told(photos(folder)) == {"a.png": ['a dog that is,\n"running"'], "b.JPG": ["x"]}
    monkeypatch.setattr(reading, "_LONGEST_LINE", 22)
    with pytest.raises(DataError, match=r"captions\.csv, line 2, is longer than 22 bytes"):
        photos(folder)


@pytest.mark.parametrize(
    "name, lines",
    [
        ("captions.csv", ["a.png,a dog; a cat; a bird", "b.JPG,x"]),
        ("captions.csv", ["image;caption", "a.png;a dog, a cat, a bird", "b.JPG;x"]),
        ("captions.csv", ["image_name| comment_number| comment", "a.png| 0| a dog, x"]),
        ("captions.txt", ["a.png a dog, a cat", "b.JPG x"]),
        ("captions.txt", ["a.png, a dog | a cat", "b.JPG, x"]),
        ("captions.txt", ["a.png#0\ta dog, a cat", "a.png#1\ta | cat"]),
        ("captions.tsv", ["a.png\ta dog, a cat", "b.JPG\tx"]),
    ],
)
def test_what_parts_the_cells_is_found(folder, name, lines):
    (folder / name).write_text("\n".join(lines))
    text = told(photos(folder))["a.png"][0]
    assert text.startswith("a dog") and lines[0].count(text) + lines[1].count(text) == 1
    found = guess(str(folder / name)).part
    assert found.name == "folder" or ("\t" in lines[0] and found.options["path"].endswith("tsv"))
    assert told(open_source(found))["a.png"][0] == text


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_the_first_record_may_lack_its_caption(folder, suffix):
    rows = [{"file_name": "b.JPG"}, {"file_name": "a.png", "text": "a dog"}]
    whole = json.dumps(rows) if suffix == "json" else "\n".join(map(json.dumps, rows))
    (folder / f"captions.{suffix}").write_text(whole)
    source = photos(folder)
    assert told(source) == {"a.png": ["a dog"]}
    assert source.counters == {"empty caption": 1, "image without caption": 2}


def test_rows_that_lead_nowhere_are_counted(folder, picture):
    (folder / "other").mkdir()
    (folder / "other" / "c.webp").write_bytes(picture())
    rows = ["a.png", "../secret.png", "/etc/passwd", "c.webp", "gone.png", "nul\0.png", "b.JPG"]
    lines = [json.dumps({"file": name, "caption": "x"}) for name in rows]
    lines += ["{", "[1]", '{"file": 3, "caption": "x"}', '{"file": "b.JPG", "caption": null}']
    lines += ['{"file": "\\ud800.png", "caption": "x"}', '{"file": "b.JPG", "caption": "\\ud800"}']
    (folder / "captions.jsonl").write_text("\n".join(lines))
    source = photos(folder)
    assert told(source) == {"a.png": ["x"], "b.JPG": ["x"]}
    assert source.counters == {
        "row that is not JSON": 1,
        "row of another form": 2,
        "image path outside": 2,
        "caption of several images": 1,
        "caption without image": 3,
        "empty caption": 1,
        "caption that is not UTF-8": 1,
        "image without caption": 2,
    }
    first = source.examples
    assert first["image path outside"].endswith("row 2 ('../secret.png')")
    assert first["row of another form"] == "captions.jsonl, row 9"
    with pytest.raises(BrokenSample, match=r"captions\.jsonl, row 8: row that is not JSON"):
        photos(folder, strict=True)


def test_csv_that_is_broken_is_refused(folder):
    (folder / "captions.csv").write_text('file,caption\na.png,"never closed\nb.JPG,x\n')
    with pytest.raises(DataError, match=r"captions\.csv, line 3, is not csv"):
        photos(folder)
    (folder / "captions.csv").write_text("file,caption\na.png,x,y\nb.JPG,z\n")
    assert photos(folder).counters == {"row of another form": 1, "image without caption": 2}


def test_captions_txt_beside_captions_jpg_is_a_sidecar(tmp_path, picture):
    (tmp_path / "captions.jpg").write_bytes(picture())
    (tmp_path / "captions.txt").write_text("a list of captions")
    assert told(photos(tmp_path)) == {"captions.jpg": ["a list of captions"]}


def test_links_are_followed_inside_only(folder, tmp_path, picture):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(picture(5))
    (folder / "link.png").symlink_to(outside / "secret.png")
    (folder / "away").symlink_to(outside)
    (folder / "up").symlink_to(folder)
    (folder / "dead.png").symlink_to(folder / "nothing.png")
    (folder / "twin.png").symlink_to("a.png")
    source = photos(folder, names=True)
    assert list(told(source)) == ["a.png", "b.JPG", "sub/c.webp", "twin.png"]
    assert source.counters == {
        "link out of the folder": 2,
        "link to a folder": 1,
        "image missing": 1,
    }
    everywhere = photos(folder, names=True, allow_outside=True)
    assert {"away/secret.png", "link.png"} <= set(told(everywhere))
    assert everywhere.counters == {"link to a folder above it": 1, "image missing": 1}


def test_an_image_that_becomes_a_link_is_not_read(folder, tmp_path, picture):
    (tmp_path / "secret.png").write_bytes(picture())
    source = photos(folder, names=True)
    (folder / "a.png").unlink()
    (folder / "a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(BrokenSample, match=r"Sample a\.png: 'a\.png' lies outside"):
        source.read(0)
    (folder / "b.JPG").write_bytes(b"")
    with pytest.raises(BrokenSample, match="holds no bytes"):
        source.read(1)


def test_files_that_are_no_images(folder):
    (folder / "zero.png").write_bytes(b"")
    (folder / "large.png").write_bytes(b"x" * 5000)
    (folder / "dir.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / ".DS_Store").write_bytes(b"x")
    with open(os.path.join(os.fsencode(folder), b"\xff.png"), "wb") as file:
        file.write(b"x")
    source = photos(folder, names=True, max_image_bytes=4999)
    assert list(told(source)) == ["a.png", "b.JPG", "sub/c.webp"]
    assert source.counters == {
        "empty image": 1,
        "image file too large": 1,
        "unreadable image file": 1,
        "hidden file": 1,
        "file name that is not UTF-8": 1,
    }
    for path in folder.glob("*.png"):
        if path.name not in ("zero.png", "dir.png"):
            path.unlink()
    with pytest.raises(BrokenSample, match=r"zero\.png: empty image"):
        photos(folder, names=True, strict=True)


def test_nothing_there(tmp_path, folder):
    with pytest.raises(DataError, match="No path was given; set path to a folder of images"):
        open_source(Part("data/formats", "folder"))
    with pytest.raises(DataError, match="No folder is at"):
        photos(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no samples; left out: nothing"):
        photos(tmp_path / "empty")
    with pytest.raises(DataError, match=r"3 image without caption \(the first: a\.png\)"):
        photos(folder)
    with pytest.raises(ConfigError, match="captions come from one place"):
        photos(folder, names=True, captions="x.csv")
    with pytest.raises(DataError, match="holds no captions file; name it with captions=FILE"):
        photos(folder, caption="text")


def test_pickled_and_sorted(folder):
    (folder / "sub" / "a.png").write_bytes((folder / "a.png").read_bytes())
    source = photos(folder, names=True)
    again = pickle.loads(pickle.dumps(source))
    assert told(again) == told(source)
    assert list(told(source)) == ["a.png", "b.JPG", "sub/a.png", "sub/c.webp"]


def anonymous() -> int:
    """Return bytes of this process that belong to no file."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon"))


def crowd(path, count):
    path.mkdir()
    for number in range(count):
        (path / f"{number:06d}-a-rather-long-name-of-a-photograph.png").write_bytes(b"x")
    with open(path / "metadata.csv", "w") as file:
        file.write("file_name,text\n")
        for number in reversed(range(count)):
            name = f"{number:06d}-a-rather-long-name-of-a-photograph.png"
            file.write(f"{name},caption {number} of a photograph\n")
    return path


@pytest.mark.slow
def test_memory_does_not_grow_with_files():
    shm = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where files are made fast
    with tempfile.TemporaryDirectory(dir=shm) as path:
        small, large = crowd(Path(path, "small"), 2_000), crowd(Path(path, "large"), 30_000)
        held = photos(small)
        before = anonymous()
        with_many = photos(large)
        count = sum(len(captions) for _, captions in with_many.texts())
        grown = anonymous() - before
        assert count == len(with_many) == 30_000 and len(held) == 2_000
        assert with_many.read(29_999).captions[0].text == "caption 29999 of a photograph"
        assert grown < 5 << 20, f"{grown:,} bytes"


def test_a_link_to_itself_leads_nowhere(folder):
    (folder / "a.txt").write_text("a dog")
    (folder / "circle.png").symlink_to("circle.png")
    source = photos(folder, names=True)
    assert len(source) == 3 and source.counters["image missing"] == 1
    everywhere = photos(folder, names=True, allow_outside=True)
    assert len(everywhere) == 3 and everywhere.counters["image missing"] == 1


def test_a_captions_file_that_is_a_link_out_is_refused(folder, tmp_path):
    row = json.dumps({"file_name": "a.png", "text": "a secret"})
    (tmp_path / "secret.jsonl").write_text(row)
    (folder / "metadata.jsonl").symlink_to(tmp_path / "secret.jsonl")
    with pytest.raises(DataError, match=r"metadata\.jsonl is a link out of the folder; name it"):
        photos(folder)
    assert told(photos(folder, allow_outside=True)) == {"a.png": ["a secret"]}
    named = photos(folder, captions=str(tmp_path / "secret.jsonl"))
    assert told(named) == {"a.png": ["a secret"]}


def test_half_pairs_in_fields_are_spelled_out(folder):
    (folder / "a.json").write_text('{"told": "a dog", "by": "x\\ud800é", "\\udfff": 1}')
    fields = photos(folder, caption_field="told").read(0).fields
    assert fields == {"by": "x\\ud800é", "\\udfff": "1"}


def test_times_beyond_those_of_python_are_text(folder):
    when = pa.array([9_999_999_999_999_999, 0, 1], pa.timestamp("ms"))
    rows = {"file_name": ["a.png", "b.JPG", "sub/c.webp"], "text": ["x", "y", "z"], "when": when}
    pq.write_table(pa.table(rows), folder / "metadata.parquet")
    source = photos(folder)
    assert source.read(0).fields["when"] == "9999999999999999"
    assert source.read(1).fields["when"].startswith("1970-01-01")
