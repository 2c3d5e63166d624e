"""Tar shards against the `webdataset` library, and archives that are broken on purpose."""

from __future__ import annotations

import bz2
import gc
import gzip
import io
import json
import lzma
import pickle
import random
import tarfile
from pathlib import Path

import pytest
from webdataset.tariterators import group_by_keys, tar_file_expander

from lift.config import Part
from lift.data.formats import _stands
from lift.data.formats._members import Scan
from lift.data.source import open_source
from lift.errors import BrokenSample, ConfigError, DataError


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
        assert {c.role for c in mine.captions} == {"raw"}
        record = json.loads(sample["json"])
        assert dict(mine.fields) == {k: record[k] for k in ("filename", "key", "split")}
    assert not ours.counters and ours.window_samples is None and ours.promise() == ""


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
    assert [k for k, _ in apart.texts()] == [
        "more/train-0000/c", "photos/train-0000/a", "photos/train-0000/b0",
    ]  # fmt: skip


def test_keys_stay_when_shards_are_added(tmp_path, write_tar):
    def keys(*names):
        paths = [str(write_tar(tmp_path / name, pairs("k"))) for name in names]
        source = open_source(Part("data/formats", "webdataset", {"path": paths}))
        return [key for key, _ in source.texts()]

    assert keys("a.1.tar", "a.2.tar") == ["a.1/k", "a.2/k"]
    assert keys("a.0.tar", "a.1.tar", "a.2.tar") == ["a.0/k", "a.1/k", "a.2/k"]
    assert keys("x/s.1.tar", "y/s.1.tar") == ["x/s.1/k", "y/s.1/k"]
    assert keys("p/x/s.tar", "q/x/s.tar") == ["0-s/k", "1-s/k"]


def test_what_is_left_out_is_counted_and_named(tmp_path, write_tar):
    members = [
        ("README", b"about"),
        (".hidden.jpg", b"i"),
        ("lonely.jpg", b"i"),
        ("silent.txt", b"no image"),
        ("vector.npz", b"v"),
        *pairs("good"),
        ("good.cls", b"3"),
        ("good.npz", b"v" * 2000),
        *pairs("again", "good"),
        *pairs("twice"),
        *pairs("twice"),
        *pairs("large", image=b"i" * 2000),
        *pairs("long", text=b"t" * 2000),
        *pairs("empty", image=b""),
        ("two.jpg", b"i"),
        ("two.png", b"j"),
        ("two.txt", b"text"),
    ]
    path = write_tar(tmp_path / "s.tar", members)
    source = shards(path, max_image_bytes=1000)
    assert [key for key, _ in source.texts()] == ["good", "again", "twice", "two"]
    assert source.read(3).image == b"i"
    assert source.counters == {
        "other file": 2,
        "image without caption": 1,
        "image missing": 2,
        "duplicate key": 2,
        "image file too large": 2,
        "empty image": 1,
        "another image of the same sample": 1,
    }
    assert source.examples["image without caption"] == "lonely in s.tar"
    assert source.examples["image file too large"] == "large in s.tar"
    with pytest.raises(BrokenSample, match=r"README in s\.tar: other file; strict"):
        shards(path, max_image_bytes=1000, strict=True)
    assert len(shards(write_tar(tmp_path / "t.tar", pairs("a")), strict=True)) == 1


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
    assert source.examples == {"other file": "photos/x.jpg in s.tar"}


@pytest.mark.parametrize(
    "members, left, keys",
    [
        ([*pairs("a", "b"), *pairs("a", image=b"other")], 1, ["a", "b"]),
        ([("a.jpg", b"i"), ("a.JPG", b"j"), ("a.txt", b"t")], 1, ["a"]),
        ([*pairs("a"), *pairs("a"), *pairs("a"), *pairs("b")], 2, ["a", "b"]),
    ],
)
def test_of_doubled_samples_the_first_is_taken(tmp_path, write_tar, members, left, keys):
    source = shards(write_tar(tmp_path / "s.tar", members))
    assert [key for key, _ in source.texts()] == keys and source.read(0).image == b"i"
    assert source.counters == {"duplicate key": left}
    assert source.examples == {"duplicate key": "a in s.tar"}


def test_files_that_do_not_stand_side_by_side(tmp_path, write_tar):
    members = [("a.jpg", b"i"), ("b.jpg", b"i"), ("a.txt", b"t"), ("b.txt", b"t")]
    good = write_tar(tmp_path / "good.tar", pairs("a"))
    bad = write_tar(tmp_path / "bad.tar", members)
    with pytest.raises(
        DataError,
        match=r"bad\.tar holds no samples; left out: 2 image without caption \(the first: a in "
        r"bad\.tar\); 2 image missing .*side by side",
    ):
        open_source(Part("data/formats", "webdataset", {"path": [str(good), str(bad)]}))


def test_names_that_are_hostile(tmp_path, write_tar):
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        for name in ("../../etc/passwd", "/root/x", "caf\udce9", "\u202eabc", "🦊" * 40):
            for ending, content in (("jpg", b"i"), ("txt", b"a text")):
                entry = tarfile.TarInfo(f"{name}.{ending}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    keys = [key for key, _ in shards(path).texts()]
    assert keys == ["../../etc/passwd", "/root/x", "caf\\xe9", "\u202eabc", "🦊" * 40]
    assert [shards(path).read(n).key.encode() for n in range(5)]


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_nul_ends_a_name(tmp_path, write_tar, kind):
    names = ["x" * 120 + "\0y.jpg", "x" * 120 + "\0y.txt"]
    path = write_tar(tmp_path / "s.tar", [(names[0], b"i"), (names[1], b"t"), *pairs("a")], kind)
    source = shards(path)
    assert [key for key, _ in source.texts()] == ["a"]
    assert source.counters == {"other file": 2}


def test_thousands_of_empty_members(tmp_path, write_tar):
    members = [(f"{n:05d}.{ending}", b"") for n in range(3000) for ending in ("jpg", "txt")]
    path = write_tar(tmp_path / "s.tar", [*members, *pairs("a")])
    source = shards(path)
    assert len(source) == 1 and source.counters == {"empty image": 3000}
    with pytest.raises(DataError, match=r"s\.tar has more than 6,001 members; raise max_members"):
        shards(path, max_members=6001)
    assert len(shards(path, max_members=6002)) == 1


def test_sparse_files_are_refused(tmp_path):
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("a.jpg")
        entry.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"1\n0\n5"))
    with pytest.raises(DataError, match=r"s\.tar holds a sparse file"):
        shards(path)
    header = tarfile.TarInfo("a.jpg")
    header.type = tarfile.GNUTYPE_SPARSE
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024)
    with pytest.raises(DataError, match=r"s\.tar holds a sparse file"):
        shards(path)


@pytest.mark.parametrize("cut", [1, 511, 512, 513, 1024, 1500, 2048, 3000, 4096])
def test_a_cut_archive_is_never_shorter_without_a_word(tmp_path, write_tar, cut):
    whole = write_tar(tmp_path / "s.tar", pairs("a", "b", image=b"i" * 700)).read_bytes()
    (tmp_path / "s.tar").write_bytes(whole[:cut])
    with pytest.raises(DataError, match=r"s\.tar.*(cut off|not a sound)"):
        shards(tmp_path / "s.tar")


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (lambda b: gzip.compress(b), r"s\.tar is compressed \(gzip\).*unpack it"),
        (lambda b: gzip.compress(bytes(random.Random(1).randbytes(9000))), r"\(gzip\)"),
        (lambda b: bz2.compress(b), r"\(bzip2\)"),
        (lambda b: lzma.compress(b), r"\(xz\)"),
        (lambda b: b"\x1f\x8a" + b[2:], "not a sound, uncompressed tar"),
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
        ({"txt": b""}, {}, "Sample k has an empty caption"),
        ({"txt": b"a\0b"}, {}, "Sample k .* NUL byte"),
        ({"txt": b"abcd"}, {"max_caption_chars": 3}, "Sample k .* of 4 characters"),
        ({"json": b"{"}, {"caption_field": "t"}, "Sample k has a damaged .json"),
        ({"json": b"[1]"}, {"caption_field": "t"}, "Sample k has a .json that is no object"),
        ({"json": b'{"title": "a"}'}, {"caption_field": "t"}, "no field 't'; known: title"),
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
    with pytest.raises(BrokenSample, match=sentence) as broken:
        source.read(0)
    assert list(source.texts()) == [("k", ())]
    assert source.counters == {broken.value.kind: 1}
    with pytest.raises(BrokenSample, match=sentence):
        list(shards(tmp_path / "s.tar", strict=True, **options).texts())


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
    assert [c[:2] for c in sample.captions] == [("b", "long"), ("c", "long"), ("a", "short")]
    assert dict(sample.fields) == {"n": "3", "ok": "true"}


def test_text_and_fields_together_with_roles(tmp_path, write_tar):
    members = [
        *pairs("a"),
        ("a.json", b'{"full": "a long text", "n": 1}'),
        *pairs("b"),
        *pairs("c"),
        ("c.json", b'{"n": 2}'),
    ]
    path = write_tar(tmp_path / "s.tar", members)
    source = open_source(f"webdataset:path={path},caption_field=.txt+full:long")
    assert [c[:2] for c in source.read(0).captions] == [("a text", "raw"), ("a long text", "long")]
    assert dict(source.read(0).fields) == {"n": "1"}
    assert [(key, len(captions)) for key, captions in source.texts()] == [
        ("a", 2),
        ("b", 1),
        ("c", 1),
    ]
    assert source.counters == {"without caption field beside a good one": 2}
    (_, captions), *_ = shards(path, caption_field=".txt:title").texts()
    assert [c[:2] for c in captions] == [("a text", "title")]
    with pytest.raises(ConfigError, match="names no column"):
        shards(path, caption_field="full:")


def test_keys_from_a_field_are_unique_over_all_shards(tmp_path, write_tar):
    def shard(name, *uids):
        files = [
            (f"{n}.{ending}", content)
            for n, uid in enumerate(uids)
            for ending, content in (("jpg", b"i"), ("txt", b"t"), ("json", uid))
            if content is not None
        ]
        return str(write_tar(tmp_path / name, files))

    one = shard("one.tar", b'{"uid": "x"}', b'{"uid": 7}', b'{"uid": ""}', b"{", None, b"[1]")
    two = shard("two.tar", b'{"uid": "x"}', b'{"uid": "y"}', b'{"uid": "\\ud800"}')
    config = {"path": [one, two], "key_field": "uid"}
    source = open_source(Part("data/formats", "webdataset", config))
    assert [key for key, _ in source.texts()] == ["x", "7", "y", "\\ud800"]
    assert source.groups == (2, 2) and source.read(2).key == "y"
    assert source.counters == {"without a key": 2, "damaged .json": 2, "duplicate key": 1}
    assert source.examples["duplicate key"] == "x in two.tar"
    assert source.examples["without a key"] == "2 in one.tar"


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
    scans = []
    fill = Scan.fill
    monkeypatch.setattr(Scan, "fill", lambda self, *a: scans.append(self) or fill(self, *a))
    source = shards(tmp_path / "s-*.tar")
    for step in range(160):
        source.read(step * 37 % 80)
    assert len(scans) == 40
    copy = pickle.loads(pickle.dumps(source))
    assert [copy.read(n).key for n in range(80)] == [key for key, _ in source.texts()]
    assert len(scans) == 80


def test_few_files_are_open_at_a_time(tmp_path, write_tar):
    def opened():
        links = (fd.resolve() for fd in Path("/proc/self/fd").iterdir())
        return sum(str(link).startswith(str(tmp_path)) for link in links)

    for number in range(300):
        write_tar(tmp_path / f"s-{number:03d}.tar", pairs("a"))
    source = shards(tmp_path / "s-*.tar")
    assert 0 < opened() <= 256
    assert [source.read(n).key for n in range(300)] == [f"s-{n:03d}/a" for n in range(300)]
    assert 0 < opened() <= 256
    del source
    gc.collect()
    assert opened() == 0


def test_many_sources_stay_below_what_a_process_may_open(tmp_path, write_tar, monkeypatch):
    """1,024 files are usual, so five sources of 256 open shards were too many."""
    monkeypatch.setattr(_stands, "_MOST_OPEN", 10)

    def opened():
        links = (fd.resolve() for fd in Path("/proc/self/fd").iterdir())
        return sum(str(link).startswith(str(tmp_path)) for link in links)

    sources = []
    for number in range(4):
        for shard in range(6):
            write_tar(tmp_path / f"{number}" / f"s-{shard}.tar", pairs("a"))
        sources.append(shards(tmp_path / f"{number}" / "s-*.tar"))
    for _ in range(2):
        for source in sources:
            assert [source.read(n).key for n in range(6)] == [f"s-{n}/a" for n in range(6)]
            assert opened() <= 10
    del sources, source
    gc.collect()
    assert opened() == 0


def test_a_key_that_is_too_long(tmp_path, write_tar):
    record = json.dumps({"uid": "x" * 5000}).encode()
    members = [("k.jpg", b"i"), ("k.txt", b"t"), ("k.json", record)]
    members += [(f"{'y' * 5000}.{kind}", b"t") for kind in ("jpg", "txt")]
    path = write_tar(tmp_path / "s.tar", [*members, *pairs("z" * 4096)], tarfile.PAX_FORMAT)
    plain = shards(path)
    assert [len(key) for key, _ in plain.texts()] == [1, 4096]
    assert plain.counters == {"key too long": 1}
    assert len(plain.examples["key too long"]) < 4200
    with pytest.raises(DataError, match="1 key too long"):
        shards(path, key_field="uid")


def test_a_shard_that_is_another_one_when_it_is_opened_again(tmp_path, write_tar):
    path = write_tar(tmp_path / "s.tar", pairs("a"))
    copy = pickle.loads(pickle.dumps(shards(path)))
    write_tar(path, pairs("b", image=b"i" * 600))
    with pytest.raises(DataError, match=r"s\.tar changed while it was being read"):
        copy.read(0)


def test_flipped_bits_raise_plainly_or_change_nothing_else(tmp_path, write_tar):
    path = write_tar(tmp_path / "s.tar", pairs("a", "b", "z" * 200), tarfile.PAX_FORMAT)
    sound, dice = path.read_bytes()[:8192], random.Random(1)
    refused = 0
    for _ in range(150):
        flipped = bytearray(sound)
        for _ in range(dice.randrange(1, 4)):
            flipped[dice.randrange(len(flipped))] ^= 1 << dice.randrange(8)
        path.write_bytes(bytes(flipped))
        try:
            source = shards(path)
            told = list(source.texts())
            assert len(told) == len(source) <= 3
            for number in range(len(source)):
                source.read(number)
        except DataError as error:
            assert error.args
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("style, kind", [("noto", b"\x89PNG"), ("twemoji", b"\x89PNG")])
def test_emoji(shared_data, style, kind):
    path = shared_data / "emoji" / f"{style}-0000.tar"
    source = shards(path, caption_field=(".txt:name", "tags:tag", "label"), key_field="hexcode")
    plain = shards(path)
    assert len(source) == len(plain) == len(by_reference(path))
    assert source.read(5).image[:4] == kind
    assert plain.read(5).key == f"{style}_{source.read(5).key.lower()}"
    assert {c.role for c in source.read(5).captions} == {"name", "tag", "label"}


def test_paths_and_urls_do_not_mix(tmp_path, write_tar):
    path = write_tar(tmp_path / "s.tar", pairs("a"))
    both = {"path": [str(path), "https://me:secret@example.org/t.tar?token=secret"]}
    with pytest.raises(DataError, match=r"'https://example\.org/t\.tar' a URL; a source is either"):
        open_source(Part("data/formats", "webdataset", both))


def test_a_shard_that_opens_and_cannot_be_read(tmp_path):
    (tmp_path / "a.tar").symlink_to("/proc/self/mem")
    with pytest.raises(DataError, match=r"a\.tar can't be read \(Input/output error\)"):
        shards(tmp_path / "a.tar")
