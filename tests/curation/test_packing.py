"""Packed shards: what comes back, the same bytes however the work went, and refusals."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import string
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lift.config import Part
from lift.curation.image_files import header_of, smaller
from lift.curation.packing import pack
from lift.curation.shards import member_name
from lift.data.image import decode
from lift.data.source import open_source
from lift.errors import BrokenSample, ConfigError, DataError, StorageError
from lift.files import sole_writer
from lift.terms import Caption, Foil, Sample, Source

LONG = "k" * 90


def image(width: int, height: int, mode: str = "RGB", kind: str = "JPEG", **options) -> bytes:
    rng = np.random.default_rng(width * height)
    small = rng.integers(0, 256, (5, 7, 3), np.uint8)
    made = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    if mode == "RGBA":
        made.putalpha(0)
    out = io.BytesIO()
    made.convert(mode).save(out, kind, **options)
    return out.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return image(300, 200, exif=exif)


IMAGES = {
    "small-1": image(300, 200),
    "a/b.c": image(900, 600),
    "ключ": image(64, 48, "RGBA", "PNG"),
    LONG: turned(),
    "palette": image(400, 500, "P", "PNG"),
    "grey": image(90, 80, "L"),
    "cmyk": image(90, 80, "CMYK"),
    "cut": image(300, 300)[:2000],
    "text": b"no image at all",
    "last": image(1000, 260),
}


def table(folder: Path, images: dict[str, bytes], name: str = "pairs.jsonl") -> Part:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (key, content) in enumerate(images.items()):
        (folder / f"{number}.bin").write_bytes(content)
        row = {"id": key, "image": f"{number}.bin", "caption": [f"a {number}", "two\nlines 猫"]}
        rows.append({**row, "long": f"much about {number}", "licence": "cc0", "key": "mine"})
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = {"path": str(folder / name), "key": "id", "caption": ["caption:raw", "long:rewrite"]}
    return Part("data/formats", "table", options)


def everything(source: Source) -> list[Sample]:
    return [source.read(number) for number in range(len(source))]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def noisy(count: int) -> dict[str, bytes]:
    return {f"n{number:03d}": image(500 + number, 400) for number in range(count)}


def test_everything_comes_back(tmp_path: Path) -> None:
    source = open_source(table(tmp_path / "in", IMAGES))
    report = pack([source], tmp_path / "out", shard_samples=4, progress=False)
    assert report.data == (
        f"webdataset:path={tmp_path}/out/shard-*.tar,caption_field=raw+rewrite,key_field=key"
    )
    back = {sample.key: sample for sample in everything(open_source(report.data))}
    wanted = [key for key in IMAGES if key not in ("cut", "text")]
    assert list(back) == wanted
    for number, sample in enumerate(everything(source)):
        if sample.key in back:
            assert back[sample.key].captions == sample.captions
            assert back[sample.key].captions[:2] == (
                Caption(f"a {number}", "raw"),
                Caption("two\nlines 猫", "raw"),
            )
            fields = back[sample.key].fields
            assert fields["licence"] == "cc0" and "mine" in fields.values()
    assert report.samples == 8 and report.of == 10 and report.shards == 3
    assert sum(report.left_out.values()) == 2
    assert all(any(key in s for s in report.examples.values()) for key in ("cut", "text"))
    assert report.captions == {"raw": 16, "rewrite": 8}
    assert report.changed["captions whose line breaks are spaces in .txt"] == 8
    assert report.bytes_before == sum(len(IMAGES[key]) for key in wanted)
    assert report.bytes_after == sum(len(sample.image) for sample in back.values())
    assert report.kept == 1 and back["small-1"].image == IMAGES["small-1"]
    assert "8 of 10 samples" in report.table() and "left out: 1" in report.table()


def test_pictures_are_small_upright_rgb_on_white(tmp_path: Path) -> None:
    source = open_source(table(tmp_path / "in", IMAGES))
    report = pack([source], tmp_path / "out", progress=False)
    back = {sample.key: sample for sample in everything(open_source(report.data))}
    sizes = {"a/b.c": (384, 256), LONG: (200, 300), "palette": (256, 320), "last": (985, 256)}
    for key, sample in back.items():
        header = header_of(sample.image)
        assert header.kind == "JPEG RGB" and header.orientation == 1
        size = sizes.get(key, Image.open(io.BytesIO(IMAGES[key])).size)
        assert (header.width, header.height) == size, key
        if key != "ключ":
            true = decode(IMAGES[key]).permute(1, 2, 0).numpy()
            resized = np.asarray(Image.fromarray(true).resize(size, Image.Resampling.BICUBIC))
            apart = decode(sample.image).permute(1, 2, 0).numpy().astype(int) - resized
            assert abs(apart).mean() < 6, key
    assert decode(back["ключ"].image).min() > 250


def test_the_same_bytes_whoever_works(tmp_path: Path) -> None:
    source = open_source(table(tmp_path / "in", IMAGES))
    folders = [tmp_path / f"out{workers}" for workers in (0, 1, 3)]
    for workers, folder in zip((0, 1, 3), folders, strict=True):
        pack([source], folder, shard_samples=3, workers=workers, progress=False)
    first = bytes_of(folders[0])
    assert {"shard-00000.tar", "shard-00003.json", "plan.json", "manifest.json"} <= set(first)
    assert all(bytes_of(folder) == first for folder in folders)
    with tarfile.open(folders[0] / "shard-00000.tar") as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
            assert (member.uname, member.gname) == ("", "")
    # A finished folder is left as it is.
    times = {path: path.stat().st_mtime_ns for path in folders[0].glob("shard-*")}
    pack([source], folders[0], shard_samples=3, progress=False)
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_gone_on_gives_the_same_bytes(workers: int, tmp_path: Path) -> None:
    spec = table(tmp_path / "in", noisy(40))
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    pack([open_source(spec)], whole, shard_samples=4, progress=False)

    def run() -> None:
        pack([open_source(spec)], folder, shard_samples=4, workers=workers, progress=False)

    kills = 0
    for wanted in (0, 1, 3, 6, 8):
        process = multiprocessing.get_context("fork").Process(target=run)
        process.start()
        while process.is_alive() and len(list(folder.glob("shard-*.json"))) < wanted:
            time.sleep(0.001)
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
        # Workers leave when the command is gone, and the lock with the last of them.
        wait_for_lock(folder)
    assert kills >= 3
    assert len(list(folder.glob("shard-*.json"))) < 10 or not (folder / "manifest.json").exists()
    run()
    assert bytes_of(folder) == bytes_of(whole)


def wait_for_lock(folder: Path) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            with sole_writer(folder):
                return
        except StorageError:
            time.sleep(0.01)
    raise AssertionError("a worker outlived the command")


def test_damaged_and_missing_shards_are_made_again(tmp_path: Path) -> None:
    source = open_source(table(tmp_path / "in", IMAGES))
    out = tmp_path / "out"
    pack([source], out, shard_samples=3, progress=False)
    before = bytes_of(out)
    (out / "shard-00000.tar").unlink()
    (out / "shard-00001.tar").write_bytes(b"short")
    (out / "shard-00002.json").write_text("{")
    (out / ".partial-shard-00003.tar.0123").write_bytes(b"left")
    pack([source], out, shard_samples=3, progress=False)
    assert bytes_of(out) == before


def test_other_options_and_other_pairs_are_refused(tmp_path: Path) -> None:
    spec = table(tmp_path / "in", IMAGES)
    out = tmp_path / "out"
    pack([open_source(spec)], out, progress=False)
    before = bytes_of(out)
    with pytest.raises(StorageError, match="begun with side=256, not 128"):
        pack([open_source(spec)], out, side=128, progress=False)
    text = (tmp_path / "in" / "pairs.jsonl").read_text().replace("a 3", "b 3")
    (tmp_path / "in" / "pairs.jsonl").write_text(text)
    with pytest.raises(StorageError, match="other pairs"):
        pack([open_source(spec)], out, progress=False)
    assert bytes_of(out) == before
    with pytest.raises(StorageError, match="holds something else"):
        pack([open_source(spec)], tmp_path / "in", progress=False)
    with sole_writer(tmp_path / "held"), pytest.raises(StorageError, match="Another process"):
        pack([open_source(spec)], tmp_path / "held", progress=False)
    for name in ("side", "quality", "shard_samples"):
        with pytest.raises(ConfigError, match=name):
            pack([open_source(spec)], tmp_path / "new", progress=False, **{name: 0})
    with pytest.raises(ConfigError, match="Nothing was given"):
        pack([], tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()


def test_keys_of_several_sources_are_told_apart(tmp_path: Path) -> None:
    sources = [
        open_source(table(tmp_path / "one", {"a": IMAGES["small-1"], "b": IMAGES["grey"]})),
        open_source(table(tmp_path / "two", {"a": IMAGES["cmyk"]})),
    ]
    report = pack(sources, tmp_path / "out", progress=False)
    assert [s.key for s in everything(open_source(report.data))] == ["0/a", "0/b", "1/a"]
    sources[1] = open_source(table(tmp_path / "three", {"c": IMAGES["cmyk"]}))
    report = pack(sources, tmp_path / "other", progress=False)
    assert [s.key for s in everything(open_source(report.data))] == ["a", "b", "c"]


def test_nothing_to_pack_is_an_error_with_its_reason(tmp_path: Path) -> None:
    source = open_source(table(tmp_path / "in", {"x": b"broken", "y": b""}))
    with pytest.raises(DataError, match=r"No sample could be packed: .*x"):
        pack([source], tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not list((tmp_path / "out").glob("*.tar"))


def test_a_shard_of_broken_samples_alone_has_no_file(tmp_path: Path) -> None:
    images = {"x": b"broken", "y": b"broken", "z": IMAGES["grey"]}
    source = open_source(table(tmp_path / "in", images))
    report = pack([source], tmp_path / "out", shard_samples=2, progress=False)
    assert [path.name for path in (tmp_path / "out").glob("*.tar")] == ["shard-00001.tar"]
    assert report.shards == 1 and len(open_source(report.data)) == 1
    assert sum(report.left_out.values()) == 2


def test_strict_stops_at_the_first(tmp_path: Path) -> None:
    spec = table(tmp_path / "in", IMAGES)
    spec = Part(spec.room, spec.name, {**spec.options, "strict": True})
    for workers in (0, 2):
        with pytest.raises(BrokenSample):
            pack([open_source(spec)], tmp_path / "out", workers=workers, progress=False)
        wait_for_lock(tmp_path / "out")
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".partial")]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_is_one_sentence(workers: int, tmp_path: Path, full_disk: Path) -> None:
    rng = np.random.default_rng(0)
    images = {}
    for number in range(30):
        out = io.BytesIO()
        pixels = rng.integers(0, 256, (256, 256, 3), np.uint8)
        Image.fromarray(pixels).save(out, "JPEG", quality=95)
        images[f"n{number}"] = out.getvalue()
    source = open_source(table(tmp_path / "in", images))
    with pytest.raises(StorageError, match="No space left"):
        pack([source], full_disk / "out", shard_samples=6, workers=workers, progress=False)
    names = [path.name for path in (full_disk / "out").iterdir()]
    assert not [name for name in names if name.startswith(".partial")]
    assert "manifest.json" not in names
    done = [name for name in names if name.endswith(".tar")]
    assert 1 <= len(done) < 5
    report = pack([source], tmp_path / "roomy", shard_samples=6, progress=False)
    for name in done:  # what was finished is whole
        assert (full_disk / "out" / name).read_bytes() == (tmp_path / "roomy" / name).read_bytes()
    assert report.samples == 30


@given(st.one_of(st.text(min_size=1), st.text(string.ascii_letters + "/._-%~ é", max_size=120)))
def test_member_names_are_safe_and_lead_back(key: str) -> None:
    name, how = member_name(key)
    assert len(name.encode()) <= 80 and not set(name) & set("./ ")
    assert name.isascii() and name.isprintable() and name
    if "hashed" in how:
        assert name.startswith("~")
    else:
        assert unquote(name, errors="surrogatepass") == key and not name.startswith("~")


class InMemory:
    """Pairs with what few files can spell: weights and foils."""

    name, groups = "memory", (3,)

    def __len__(self) -> int:
        return 3

    def read(self, index: int) -> Sample:
        captions = (Caption("good", "raw", 3.0), Caption("poor", "raw", 0.5))
        foils = (Foil("swap", "good", "bad"),)
        return Sample(str(index), IMAGES["grey"], captions[: 2 - index], {"raw": "taken"}, foils)

    def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        for index in range(3):
            yield str(index), self.read(index).captions


def test_weights_are_stored_and_losses_are_counted(tmp_path: Path) -> None:
    report = pack([InMemory()], tmp_path / "out", progress=False)
    with tarfile.open(tmp_path / "out" / "shard-00000.tar") as archive:
        content = archive.extractfile("0.json")
        assert content is not None
        record = json.load(content)
        text = archive.extractfile("0.txt")
        assert text is not None and text.read() == b"good\npoor\n"
    assert record["weights"] == {"raw": [3.0, 0.5]} and record["raw_"] == "taken"
    assert report.left_out == {"image without caption": 1}
    assert report.changed["foils that are not packed"] == 2


def test_a_worker_that_dies_is_told_and_finished_shards_stay(tmp_path: Path) -> None:
    class Deadly(InMemory):
        def read(self, index: int) -> Sample:
            if index == 1 and multiprocessing.parent_process() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().read(0)

    with pytest.raises(DataError, match="A worker died"):
        pack([Deadly()], tmp_path / "out", shard_samples=1, workers=1, progress=False)
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name != ".lock") == [
        "plan.json",
        "shard-00000.json",
        "shard-00000.tar",
    ]


def test_a_role_that_some_samples_lack_is_told(tmp_path: Path) -> None:
    class Mixed(InMemory):
        def read(self, index: int) -> Sample:
            sample = super().read(0)
            captions = (Caption("one"), Caption("two", "rewrite"))[: 2 - index % 2]
            return Sample(str(index), sample.image, captions)

    report = pack([Mixed()], tmp_path / "out", progress=False)
    assert report.having == {"raw": 3, "rewrite": 2}
    assert "1 samples have no caption 'rewrite'" in report.table()
    assert "caption_field=raw+rewrite," in report.data and len(open_source(report.data)) == 3


def test_what_no_jpeg_can_hold_is_a_broken_sample() -> None:
    with pytest.raises(BrokenSample) as caught:
        smaller(image(66_000, 20, kind="PNG"), 256, 90)
    assert caught.value.kind == "image too long for a JPEG"
    # A side that shrinks below one pixel is kept at one.
    content, kept = smaller(image(60_000, 1, kind="PNG"), 256, 90)
    assert not kept and header_of(content).width == 60_000


def test_a_small_file_that_is_cut_does_not_stay() -> None:
    content = image(200, 100)
    assert smaller(content, 256, 90) == (content, True)
    with pytest.raises(BrokenSample):
        smaller(content[: len(content) // 2], 256, 90)
    with pytest.raises(BrokenSample):
        smaller(b"", 256, 90)
