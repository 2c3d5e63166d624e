"""Tar shards against the `webdataset` library, and archives that are broken on purpose."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from webdataset.tariterators import group_by_keys, tar_file_expander

from lift.config import Part
from lift.data.source import open_source
from lift.errors import DataError


def pairs(*names, image=b"i", text=b"a text"):
    for name in names:
        yield f"{name}.jpg", image
        yield f"{name}.txt", text


def by_reference(path):
    with path.open("rb") as stream:
        return list(group_by_keys(tar_file_expander([{"url": str(path), "stream": stream}])))


def shards(path, **options):
    return open_source(Part("data/formats", "webdataset", {"path": str(path), **options}))


def test_equals_the_reference_on_a_real_shard(shared_data):
    path = shared_data / "flickr8k" / "val-0000.tar"
    ours = shards(path)
    theirs = by_reference(path)
    assert ours.name == "flickr8k/val-0000.tar"
    assert len(ours) == len(theirs) == 400 and ours.groups == (400,)
    for index, sample in enumerate(theirs):
        mine = ours.read(index)
        assert mine.key == sample["__key__"] and mine.image == sample["jpg"]
        lines = sample["txt"].decode().splitlines()
        assert [c.text for c in mine.captions] == [line.strip() for line in lines if line.strip()]
        assert {c.role for c in mine.captions} == {"caption"}
        record = json.loads(sample["json"])
        assert dict(mine.fields) == {k: record[k] for k in ("filename", "key", "split")}
    assert set(ours.counters.values()) == {0}


def test_captions_of_a_json_field_equal_those_of_the_text(shared_data):
    path = shared_data / "flickr8k" / "val-0000.tar"
    plain, told = shards(path), shards(path, caption_field="captions")
    for (key, ours), (other, theirs) in zip(plain.texts(), told.texts(), strict=True):
        assert key == other
        assert [c.text for c in ours] == [c.text for c in theirs]
        assert {c.role for c in theirs} == {"captions"}


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_every_tar_dialect(tmp_path, write_tar, kind):
    long = "x" * 60 + "/" + "y" * 90
    names = ["plain", "a/b/deep", long]
    if kind != tarfile.USTAR_FORMAT:
        names += ["ü/文字", "z" * 300]
    path = write_tar(tmp_path / "s.tar", pairs(*names), kind)
    theirs = by_reference(path)
    assert [key for key, _ in shards(path).texts()] == names == [s["__key__"] for s in theirs]


def test_several_shards_and_how_they_are_called(tmp_path, write_tar):
    for number in range(12):
        write_tar(tmp_path / "photos" / f"train-{number:04d}.tar", pairs("a", f"b{number}"))
    source = shards(tmp_path / "photos" / "train-*.tar")
    assert source.groups == (2,) * 12 and source.name == "photos/train-*.tar (12 files)"
    assert source.read(3).key == "train-0001/b1"
    braces = shards(tmp_path / "photos" / "train-{0002..0003}.tar")
    assert [k for k, _ in braces.texts()] == [
        "train-0002/a", "train-0002/b2", "train-0003/a", "train-0003/b3",
    ]  # fmt: skip
    both = ("train-0001.tar", "train-0000.tar")
    listed = Part(
        "data/formats", "webdataset", {"path": [str(tmp_path / "photos" / n) for n in both]}
    )
    assert open_source(listed).read(0).key == "train-0001/a"
    write_tar(tmp_path / "more" / "train-0000.tar", pairs("c"))
    apart = shards(tmp_path / "*" / "train-0000.tar")
    assert apart.name == "*/train-0000.tar (2 files)"
    assert [k for k, _ in apart.texts()] == ["0-train-0000/c", "1-train-0000/a", "1-train-0000/b0"]


def test_what_is_left_out_is_counted_and_named(tmp_path, write_tar):
    members = [
        ("README", b"about"),
        ("lonely.jpg", b"i"),
        ("silent.txt", b"no image"),
        *pairs("good"),
        ("large.jpg", b"i" * 2000),
        ("large.txt", b"text"),
    ]
    source = shards(write_tar(tmp_path / "s.tar", members), max_member_bytes=1000)
    assert len(source) == 1 and source.read(0).key == "good"
    assert source.counters == {
        "without image": 1,
        "without caption": 1,
        "over max_member_bytes": 1,
        "not a sample's file": 1,
    }
    assert source.left_out["without caption"] == ("lonely",)
    assert source.left_out["over max_member_bytes"] == ("large",)


def test_links_and_folders_are_no_samples(tmp_path):
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as tar:
        folder = tarfile.TarInfo("photos/")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        link = tarfile.TarInfo("photos/x.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for name, content in pairs("photos/y"):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    source = shards(path)
    assert [key for key, _ in source.texts()] == ["photos/y"]
    assert source.left_out["not a sample's file"] == ("photos/x.jpg",)


@pytest.mark.parametrize(
    "members, sentence",
    [
        ([*pairs("a", "b", "a")], "'a' twice"),
        ([("a.jpg", b"i"), ("a.JPG", b"j"), ("a.txt", b"t")], "twice"),
    ],
)
def test_doubled_samples_are_refused(tmp_path, write_tar, members, sentence):
    with pytest.raises(DataError, match=sentence):
        shards(write_tar(tmp_path / "s.tar", members))


@pytest.mark.parametrize("cut", [1, 511, 512, 513, 1024, 1500, 2048, 3000, 4096])
def test_a_cut_archive_is_never_shorter_without_a_word(tmp_path, write_tar, cut):
    whole = write_tar(tmp_path / "s.tar", pairs("a", "b", image=b"i" * 700)).read_bytes()
    (tmp_path / "s.tar").write_bytes(whole[:cut])
    with pytest.raises(DataError, match=r"s\.tar.*(cut off|not a sound)"):
        shards(tmp_path / "s.tar")


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (lambda b: b"\x1f\x8b" + b[2:], "not a sound, uncompressed tar"),
        (lambda b: b[:124] + b"77777777777\0" + b[136:], "not a sound"),
        (lambda b: b[:148] + b"0000000\0" + b[156:], "not a sound"),
        (lambda b: b"not a tar at all" * 100, "not a sound"),
        (lambda b: b"", "cut off"),
        (lambda b: b + b, "joined by cat"),
    ],
)
def test_hostile_archives(tmp_path, write_tar, spoil, sentence):
    path = write_tar(tmp_path / "s.tar", pairs("a"))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=sentence):
        shards(path)


def test_a_size_beyond_the_file_is_refused(tmp_path, write_tar):
    path = write_tar(tmp_path / "s.tar", pairs("a"))
    block = bytearray(path.read_bytes())
    header = tarfile.TarInfo("a.jpg")
    header.size = 8 << 30
    block[:512] = header.tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(bytes(block))
    with pytest.raises(DataError, match=r"claims 8,589,934,592 bytes"):
        shards(path)


@pytest.mark.parametrize("extra", [b"99 path=x\n", b"nonsense", b"12 size=-100\n", b"7 size\n"])
def test_damaged_extended_headers(tmp_path, extra):
    path = tmp_path / "s.tar"
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, len(extra)
    path.write_bytes(header.tobuf() + extra.ljust(512, b"\0") + b"\0" * 1024)
    with pytest.raises(DataError, match="damaged extended header"):
        shards(path)


@pytest.mark.parametrize(
    "files, options, sentence",
    [
        ({"txt": b" \n\n"}, {}, "Sample k has an empty caption"),
        ({"txt": b"\xff\xfe\xfa"}, {}, "Sample k .* not UTF-8"),
        ({"json": b"{"}, {"caption_field": "t"}, "Sample k has a damaged .json"),
        ({"json": b"[1]"}, {"caption_field": "t"}, "Sample k has a .json that is no object"),
        ({"json": b'{"title": "a"}'}, {"caption_field": "t"}, "no field 't' .* known: title"),
        ({"json": b'{"t": ""}'}, {"caption_field": "t"}, "Sample k has an empty caption in 't'"),
        ({"json": b'{"t": []}'}, {"caption_field": "t"}, "Sample k has an empty caption"),
        ({"json": b'{"t": 3}'}, {"caption_field": "t"}, "Sample k .* is int, not text"),
        ({"json": b'{"t": "a \\ud800"}'}, {"caption_field": "t"}, "Sample k .* as UTF-8"),
        ({"json": b"[" * 100_000}, {"caption_field": "t"}, "Sample k has a damaged .json"),
    ],
)
def test_broken_captions_name_the_sample(tmp_path, write_tar, files, options, sentence):
    members = [("k.jpg", b"i"), *((f"k.{kind}", content) for kind, content in files.items())]
    source = shards(write_tar(tmp_path / "s.tar", members), **options)
    with pytest.raises(DataError, match=sentence):
        source.read(0)
    with pytest.raises(DataError, match=sentence):
        list(source.texts())


def test_only_line_ends_end_a_caption(tmp_path, write_tar):
    text = "one\x0bline\x0c with\x85 odd\u2028 spaces\u2029 in it\r\n\n second\n\r\nthird\r\n"
    members = [("k.jpg", b"i"), ("k.txt", text.encode())]
    (_, captions), *_ = shards(write_tar(tmp_path / "s.tar", members)).texts()
    assert [caption.text for caption in captions] == [
        "one\x0bline\x0c with\x85 odd\u2028 spaces\u2029 in it",
        "second",
        "third",
    ]


def test_several_json_fields_are_roles_and_other_values_fields(tmp_path, write_tar):
    record = {"short": "a", "long": ["b", " c "], "n": 3, "ok": True, "none": None, "list": [1]}
    members = [("k.webp", b"i"), ("k.json", json.dumps(record).encode())]
    path = write_tar(tmp_path / "s.tar", members)
    sample = shards(path, caption_field=("long", "short")).read(0)
    assert [tuple(c) for c in sample.captions] == [("b", "long"), ("c", "long"), ("a", "short")]
    assert dict(sample.fields) == {"n": "3", "ok": "true"}


def test_nothing_there_and_nothing_in_it(tmp_path, write_tar):
    with pytest.raises(DataError, match=r"No file matches .*nowhere-\*\.tar"):
        shards(tmp_path / "nowhere-*.tar")
    with pytest.raises(DataError, match="No path was given"):
        open_source(Part("data/formats", "webdataset"))
    with pytest.raises(DataError, match=r"empty\.tar holds no samples"):
        shards(write_tar(tmp_path / "empty.tar", []))
    path = write_tar(tmp_path / "s.tar", pairs("a"))
    with pytest.raises(DataError, match="named twice"):
        open_source(Part("data/formats", "webdataset", {"path": [str(path), str(path)]}))


def test_a_shard_that_shrinks_under_the_reader(tmp_path, write_tar):
    path = write_tar(tmp_path / "s.tar", pairs("a", "b", image=b"i" * 2000))
    source = shards(path)
    source.read(0)
    with path.open("r+b") as file:
        file.truncate(1024)
    with pytest.raises(DataError, match=r"Sample b can't be read: .*became shorter"):
        source.read(1)


def test_random_reading_scans_each_shard_once(tmp_path, write_tar, monkeypatch):
    """A window of the loader's order may lie across dozens of shards."""
    for number in range(40):
        write_tar(tmp_path / f"s-{number:02d}.tar", pairs("a", "b"))
    source = shards(tmp_path / "s-*.tar")
    loads = []
    load = source._shards._load
    monkeypatch.setattr(source._shards, "_load", lambda n: loads.append(n) or load(n))
    for step in range(160):
        source.read(step * 37 % 80)
    assert sorted(loads) == list(range(40))
