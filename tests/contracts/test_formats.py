"""What every file in `data/formats/` promises."""

from __future__ import annotations

import io
import json
import multiprocessing
import pickle
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lift import plugins
from lift.config import Part
from lift.curation.selection import select
from lift.data.source import left_out, open_source
from lift.errors import DataError
from lift.terms import Source

ROOM = "data/formats"


def png(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (6, 5), (20 * number, 10, 200)).save(out, "PNG")
    return out.getvalue()


def tar(path: Path, first: int, count: int) -> None:
    with tarfile.open(path, "w") as archive:
        for number in range(first, first + count):
            files = {"png": png(number), "txt": f"thing {number}\nitem {number}".encode()}
            for kind, content in files.items():
                entry = tarfile.TarInfo(f"{number:03d}.{kind}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def webdataset(folder: Path) -> Part:
    for shard in range(3):
        tar(folder / f"s-{shard}.tar", 0, 3 + shard)
    return Part(ROOM, "webdataset", {"path": str(folder / "s-*.tar")})


def with_records(path: Path, first: int, count: int) -> None:
    with tarfile.open(path, "w") as archive:
        for number in range(first, first + count):
            files = {
                "png": png(number),
                "txt": f"thing {number}\nitem {number}".encode(),
                "json": json.dumps({"uid": f"uid-{number}", "width": 6}).encode(),
                "syn.json": json.dumps({"syn_text": [f"a drawn {number}"]}).encode(),
            }
            for kind, content in files.items():
                entry = tarfile.TarInfo(f"{number:09d}.{kind}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def of_records(name: str, folder: Path) -> Part:
    for shard in range(3):
        with_records(folder / f"s-{shard}.tar", 10 * shard, 3 + shard)
    return Part(ROOM, name, {"path": str(folder / "s-*.tar")})


def img2dataset(folder: Path) -> Part:
    return of_records("img2dataset", folder)


def datacomp(folder: Path) -> Part:
    return of_records("datacomp", folder)


def mobileclip(folder: Path) -> Part:
    return of_records("mobileclip", folder)


def table(folder: Path) -> Part:
    for name in "ab":
        rows = [{"image": f"{n}.png", "caption": [f"thing {n}", f"{name} {n}"]} for n in range(4)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for number in range(4):
        (folder / f"{number}.png").write_bytes(png(number))
    return Part(ROOM, "table", {"path": str(folder / "*.jsonl")})


def scenes(folder: Path) -> Part:
    return Part(ROOM, "scenes", {"count": 12, "resolution": 32})


def sugarcrepe(folder: Path) -> Part:
    (folder / "images").mkdir()
    for number in range(4):
        (folder / "images" / f"{number}.png").write_bytes(png(number))
    for kind in ("swap_obj", "add_att"):
        questions = {
            str(n): {"filename": f"{n}.png", "caption": f"{n}", "negative_caption": f"no {n}"}
            for n in range(4)
        }
        (folder / f"{kind}.json").write_text(json.dumps(questions))
    return Part(ROOM, "sugarcrepe", {"path": str(folder)})


def sugarcrepe_pp(folder: Path) -> Part:
    (folder / "images").mkdir()
    for number in range(4):
        (folder / "images" / f"{number}.png").write_bytes(png(number))
    for kind in ("swap_obj", "replace_att"):
        questions = [
            {"id": n, "filename": f"{n}.png", "caption": f"{n}", "caption2": f"the {n}"}
            | {"negative_caption": f"no {n}"}
            for n in range(4)
        ]
        (folder / f"{kind}.json").write_text(json.dumps(questions))
    return Part(ROOM, "sugarcrepe_pp", {"path": str(folder)})


def aro(folder: Path) -> Part:
    (folder / "images").mkdir()
    for number in range(4):
        (folder / "images" / f"{number}.png").write_bytes(png(number))
    boxes = {"bbox_x": 1, "bbox_y": 2, "bbox_w": 4, "bbox_h": 3}
    asked = [
        {"image_path": f"{n}.png", "true_caption": f"{n} on it", "false_caption": f"it on {n}"}
        | boxes
        for n in range(4)
    ]
    (folder / "visual_genome_relation.json").write_text(json.dumps(asked))
    return Part(ROOM, "aro", {"path": str(folder)})


def winoground(folder: Path) -> Part:
    (folder / "images").mkdir()
    for number in range(4):
        (folder / "images" / f"{number}.png").write_bytes(png(number))
    rows = [
        {"id": n, "image_0": f"{2 * n}", "image_1": f"{2 * n + 1}", "caption_0": "a b"}
        | {"caption_1": "b a", "collapsed_tag": "Object"}
        for n in range(2)
    ]
    (folder / "examples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Part(ROOM, "winoground", {"path": str(folder)})


def nlvr(folder: Path) -> Part:
    (folder / "images" / "0").mkdir(parents=True)
    for number in range(4):
        (folder / "images" / "0" / f"dev-7-{number}-0.png").write_bytes(png(number))
    rows = [
        {"sentence": f"It is {n}", "identifier": f"7-{n}", "directory": "0", "label": "true"}
        for n in range(4)
    ]
    (folder / "dev.json").write_text("\n".join(map(json.dumps, rows)))
    return Part(ROOM, "nlvr", {"path": str(folder), "orders": 1})


def triplets(folder: Path) -> Part:
    rows = [
        {"image": f"{n}.png", "caption": f"thing {n}", "foil": [f"no {n}", f"not {n}"], "kind": "x"}
        for n in range(4)
    ]
    (folder / "asked.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for number in range(4):
        (folder / f"{number}.png").write_bytes(png(number))
    return Part(ROOM, "triplets", {"path": str(folder / "asked.jsonl"), "kind": "kind"})


def recap_datacomp(folder: Path) -> Part:
    (folder / "images").mkdir()
    for shard in range(2):
        rows = [
            {"key": f"{shard}{n}", "org_caption": f"thing {n}", "re_caption": f"a long thing {n}"}
            for n in range(3)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"train-{shard + 1}.parquet")
        for row in rows[shard:]:
            (folder / "images" / f"{row['key']}.png").write_bytes(png(shard))
    options = {"path": str(folder / "*.parquet"), "images": str(folder / "images")}
    return Part(ROOM, "recap_datacomp", options)


def graded(folder: Path) -> Part:
    items = [{"item": f"i{n}", "image": [f"{n}.png", f"{n + 1}.png"]} for n in range(3)]
    judged = [{"query": f"find {n}", "item": f"i{n % 3}", "grade": n} for n in range(1, 7)]
    for name, rows in (("items", items), ("judged", judged)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for number in range(4):
        (folder / f"{number}.png").write_bytes(png(number))
    paths = {"path": str(folder / "judged.jsonl"), "items": str(folder / "items.jsonl")}
    return Part(ROOM, "graded", paths)


def huggingface(folder: Path) -> Part:
    pytest.importorskip("datasets")
    for part in range(3):
        rows = {"image": [png(n) for n in range(3)], "caption": [f"{part} {n}" for n in range(3)]}
        pq.write_table(pa.table(rows), folder / f"{part}.parquet")
    return Part(ROOM, "huggingface", {"path": str(folder), "streaming": True})


def folder(folder: Path) -> Part:
    for number in range(4):
        (folder / f"{number}.png").write_bytes(png(number))
        (folder / f"{number}.txt").write_text(f"thing {number}\nitem {number}")
    return Part(ROOM, "folder", {"path": str(folder)})


def classes(folder: Path) -> Part:
    for number in range(4):
        (folder / f"kind_{number % 2}").mkdir(exist_ok=True)
        (folder / f"kind_{number % 2}" / f"{number}.png").write_bytes(png(number))
    return Part(ROOM, "classes", {"path": str(folder)})


def coco(folder: Path) -> Part:
    (folder / "images").mkdir()
    for number in range(4):
        (folder / "images" / f"{number}.png").write_bytes(png(number))
    images = [{"id": n, "file_name": f"{n}.png"} for n in range(4)]
    told = [{"image_id": n % 4, "caption": f"thing {n}"} for n in range(8)]
    whole = json.dumps({"images": images, "annotations": told})
    (folder / "captions_val2017.json").write_text(whole)
    return Part(ROOM, "coco", {"path": str(folder)})


def flickr30k(folder: Path) -> Part:
    (folder / "images").mkdir()
    for number in range(4):
        (folder / "images" / f"{number}.png").write_bytes(png(number))
    lines = [f"{n}.png#{k}\tthing {n} {k}" for n in range(4) for k in range(5)]
    (folder / "results.token").write_text("\n".join(lines))
    return Part(ROOM, "flickr30k", {"path": str(folder)})


def long_texts(folder: Path) -> Part:
    for name in ("image", "caption"):
        (folder / name).mkdir()
    for number in range(4):
        (folder / "image" / f"{number}.png").write_bytes(png(number))
        told = f"A thing stands here. It is number {number}."
        (folder / "caption" / f"{number}.txt").write_text(told)
    return Part(ROOM, "long_texts", {"path": str(folder)})


def xm3600(folder: Path) -> Part:
    (folder / "images").mkdir()
    rows = []
    for number in range(4):
        (folder / "images" / f"{number}.jpg").write_bytes(png(number))
        told = {tag: {"caption": [f"{tag} {number}", f"{tag} too"]} for tag in ("de", "en")}
        rows.append({"image/key": str(number), "image/locale": "en", **told})
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Part(ROOM, "xm3600", {"path": str(folder)})


def selected(folder: Path) -> Part:
    inner = table(folder)
    found = (inner, open_source(inner))
    select(found, out=folder / "kept.parquet", where="number != 1", progress=False)
    return Part(ROOM, "selected", {"path": str(folder / "kept.parquet")})


def share(folder: Path) -> Part:
    path = table(folder).options["path"]
    return Part(ROOM, "share", {"data": f"table:path={path}", "start": 0.1, "stop": 0.9})


def voc(folder: Path) -> Part:
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text("0\n1\n2\n3\n")
    for number in range(4):
        (folder / "JPEGImages" / f"{number}.jpg").write_bytes(png(number))
        mask = Image.new("L", (6, 5), 1 + number)
        mask.save(folder / "SegmentationClass" / f"{number}.png")
    return Part(ROOM, "voc", {"path": str(folder)})


MINIATURES = {
    make.__name__: make
    for make in (
        share,
        selected,
        webdataset,
        table,
        scenes,
        sugarcrepe,
        sugarcrepe_pp,
        aro,
        winoground,
        nlvr,
        triplets,
        img2dataset,
        datacomp,
        mobileclip,
        recap_datacomp,
        graded,
        huggingface,
        folder,
        classes,
        coco,
        flickr30k,
        voc,
        long_texts,
        xm3600,
    )
}
"""Another format brings its own."""

WITHOUT_IMAGES = {"texts"}
"""There is nothing to read from these: they have tests of their own."""


def break_webdataset(folder: Path) -> None:
    path = folder / "s-1.tar"
    path.write_bytes(path.read_bytes()[:-11_000])


def break_table(folder: Path) -> None:
    (folder / "2.png").unlink()


def break_sugarcrepe(folder: Path) -> None:
    (folder / "images" / "2.png").unlink()


def break_nlvr(folder: Path) -> None:
    (folder / "images" / "0" / "dev-7-2-0.png").unlink()


def break_long_texts(folder: Path) -> None:
    (folder / "image" / "2.png").unlink()


def break_xm3600(folder: Path) -> None:
    (folder / "images" / "2.jpg").unlink()


def break_parquet(folder: Path) -> None:
    path = next(folder.glob("*2.parquet"))
    path.write_bytes(path.read_bytes()[:-11])


def break_folder(folder: Path) -> None:
    (folder / "2.txt").write_text(" ")


def break_classes(folder: Path) -> None:
    (folder / "kind_0" / "2.png").write_bytes(b"")


def break_voc(folder: Path) -> None:
    (folder / "SegmentationClass" / "2.png").unlink()


BREAKS = {
    "share": break_table,
    "selected": break_table,
    "webdataset": break_webdataset,
    "img2dataset": break_webdataset,
    "datacomp": break_webdataset,
    "mobileclip": break_webdataset,
    "table": break_table,
    "sugarcrepe": break_sugarcrepe,
    "sugarcrepe_pp": break_sugarcrepe,
    "aro": break_sugarcrepe,
    "winoground": break_sugarcrepe,
    "nlvr": break_nlvr,
    "triplets": break_table,
    "recap_datacomp": break_parquet,
    "graded": break_table,
    "huggingface": break_parquet,
    "folder": break_folder,
    "classes": break_classes,
    "coco": break_sugarcrepe,
    "flickr30k": break_sugarcrepe,
    "voc": break_voc,
    "long_texts": break_long_texts,
    "xm3600": break_xm3600,
}

COUNTED = {"aro", "classes", "coco", "flickr30k", "long_texts", "xm3600", "nlvr"}
"""These look at every file when they are opened and count the broken one there."""


@pytest.fixture(params=[name for name in plugins.names(ROOM) if name not in WITHOUT_IMAGES])
def made(request, tmp_path) -> tuple[Source, Part, Path]:
    folder = tmp_path / "data"
    folder.mkdir()
    spec = MINIATURES[request.param](folder)
    return open_source(spec), spec, folder


def facts(source: Source, index: int) -> tuple:
    sample = source.read(index)
    return sample.key, sample.image, sample.captions, tuple(sample.foils)


def everything(source: Source) -> list[tuple]:
    return [facts(source, index) for index in range(len(source))]


def test_is_a_source_with_a_name(made):
    source, _, _ = made
    assert isinstance(source, Source) and source.name


def test_keys_are_unique_and_stable(made):
    source, spec, _ = made
    keys = [facts(source, index)[0] for index in range(len(source))]
    assert len(set(keys)) == len(keys) > 3
    assert everything(open_source(spec)) == everything(source)


def test_groups_cover_every_sample(made):
    source, _, _ = made
    assert sum(source.groups) == len(source) and isinstance(source.groups, tuple)


def test_texts_have_the_order_and_the_captions_of_read(made):
    source, _, _ = made
    told = list(source.texts())
    assert told == [(key, captions) for key, _, captions, _ in everything(source)]
    assert all(captions and all(c.text.strip() for c in captions) for _, captions in told)
    assert told == list(source.texts())


def test_reads_in_any_order(made):
    source, _, _ = made
    backwards = [facts(source, index) for index in reversed(range(len(source)))]
    assert backwards[::-1] == everything(source)


def test_numbers_outside_are_refused(made):
    source, _, _ = made
    for index in (-1, len(source), len(source) + 5):
        with pytest.raises(IndexError):
            source.read(index)


def _answer(source: Source, start: int, pipe) -> None:
    pipe.send([facts(source, index) for index in range(start, len(source), 2)])
    pipe.close()


def test_two_forked_processes_read_at_once(made):
    source, _, _ = made
    whole = everything(source)  # and so with files that are open before the fork
    fork = multiprocessing.get_context("fork")
    pipes, children = [], []
    for start in range(2):
        here, there = fork.Pipe(duplex=False)
        child = fork.Process(target=_answer, args=(source, start, there))
        child.start()
        there.close()
        pipes.append(here)
        children.append(child)
    assert [pipe.recv() for pipe in pipes] == [whole[0::2], whole[1::2]]
    for child in children:
        child.join(10)
        assert child.exitcode == 0
    assert everything(source) == whole


def test_a_pickled_source_reads_the_same(made):
    source, _, _ = made
    before = everything(source)
    assert everything(pickle.loads(pickle.dumps(source))) == before


def test_a_broken_item_is_raised_and_never_lost(made):
    source, spec, folder = made
    if spec.name not in BREAKS:
        assert spec.name == "scenes", "only a source without files can't break"
        return
    BREAKS[spec.name](folder)
    total = len(source)
    if spec.name in COUNTED:
        again = open_source(spec)
        assert len(again) == total - 1 and sum(left_out(again).values()) >= 1
        assert any("2" in example for example in again.examples.values())
        return
    with pytest.raises(DataError, match=r"2|s-1\.tar"):
        again = open_source(spec)
        assert len(again) == total, "a broken item was left out without a word"
        everything(again)


def test_images_are_image_files(made):
    source, _, _ = made
    for _, image, _, _ in everything(source):
        with Image.open(io.BytesIO(image)) as opened:
            opened.load()
