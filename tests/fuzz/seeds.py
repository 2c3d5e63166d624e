"""Valid miniatures of every layout as trees of files, and image files of every kind."""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from contracts.test_formats import MINIATURES, ROOM, png
from lift.config import Part

IMAGE_ENDINGS = ("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif")


@dataclass(frozen=True)
class Seed:
    """A miniature: its files by name, the part that reads it, and how many items it has.

    Attributes:
        files: contents by path from the folder.
        part: `FOLDER` in its options stands for the folder.
        items: what samples and counters have to add up to, at the least.
    """

    files: dict[str, bytes]
    part: Part
    items: int

    def at(self, folder: str, **more: Any) -> Part:
        """Return the part with the folder put in."""
        return replace(self.part, options={**_swap(self.part.options, "FOLDER", folder), **more})


def _swap(value: Any, old: str, new: str) -> Any:
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, dict):
        return {name: _swap(v, old, new) for name, v in value.items()}
    return [_swap(v, old, new) for v in value] if isinstance(value, list | tuple) else value


HOME = Path(tempfile.gettempdir(), f"lift-fuzz-{os.getpid()}")
"""Some miniatures hold their own absolute path, so all of them are read at one."""

FOLDER = HOME / "data"


@functools.cache
def seed(name: str) -> Seed:
    """Return a miniature; made once."""
    from fuzz.properties import emptied

    maker, items = SEEDS[name]
    emptied(FOLDER)
    part = maker(FOLDER)
    files = {
        str(path.relative_to(FOLDER)): path.read_bytes()
        for path in sorted(FOLDER.rglob("*"))
        if path.is_file()
    }
    return Seed(files, replace(part, options=_swap(part.options, str(FOLDER), "FOLDER")), items)


# --- makers that the contract suite lacks -------------------------------------------------------


def _pictures(folder: Path, count: int = 4) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"{number}.png").write_bytes(png(number))


_ROWS = [{"file_name": f"{n}.png", "text": f"thing {n}", "more": n} for n in range(4)]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows in the form that the suffix tells."""
    names = list(rows[0])
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        content = "\n".join(map(json.dumps, rows)).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        mark = "\t" if path.suffix in (".tsv", ".token") else ","
        lines = [names, *([str(v) for v in row.values()] for row in rows)]
        path.write_text("\n".join(map(mark.join, lines)))


def folder_file(name: str) -> Callable[[Path], Part]:
    def make(folder: Path) -> Part:
        _pictures(folder)
        _write(folder / name, _ROWS)
        return Part(ROOM, "folder", {"path": str(folder)})

    return make


def folder_json(folder: Path) -> Part:
    _pictures(folder)
    for number in range(4):
        record = {"told": [f"thing {number}", "more"], "width": 6, "licence": "CC0"}
        (folder / f"{number}.json").write_text(json.dumps(record))
    return Part(ROOM, "folder", {"path": str(folder), "caption_field": "told:raw"})


def folder_names(folder: Path) -> Part:
    _pictures(folder / "a_red-dog")
    return Part(ROOM, "folder", {"path": str(folder), "names": True})


def table_of(ending: str, **options: Any) -> Callable[[Path], Part]:
    def make(folder: Path) -> Part:
        _pictures(folder)
        rows: list[dict[str, Any]] = [
            {"image": f"{n}.png", "caption": f"thing {n}", "id": n, "when": n / 2} for n in range(5)
        ]
        if ending == "parquet":
            for row in rows:
                row["image"] = {"bytes": png(row["id"]), "path": None}
                row["caption"] = [row["caption"], "another"]
        else:
            rows = rows[:4]
        _write(folder / f"t.{ending}", rows)
        return Part(ROOM, "table", {"path": str(folder / f"t.{ending}"), **options})

    return make


def texts_of(ending: str, **options: Any) -> Callable[[Path], Part]:
    def make(folder: Path) -> Part:
        path = folder / f"t.{ending}"
        if ending == "npy":
            np.save(path, np.array(["one", "two", "three", "four"]))
        elif ending.startswith("txt"):
            content = b"one\ntwo\nthree\nfour\n"
            path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        else:
            _write(path, [{"caption": f"thing {n}", "id": f"i{n}"} for n in range(4)])
        return Part(ROOM, "texts", {"path": str(path), **options})

    return make


def coco_karpathy(folder: Path) -> Part:
    _pictures(folder / "val2014")
    images = [
        {
            "filepath": "val2014",
            "filename": f"{n}.png",
            "cocoid": n,
            "split": "val",
            "sentences": [{"raw": f"thing {n}"}, {"raw": f"item {n}"}],
        }
        for n in range(4)
    ]
    (folder / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    return Part(ROOM, "coco", {"path": str(folder), "images": str(folder)})


def coco_list(folder: Path) -> Part:
    _pictures(folder / "images")
    listed = [{"file_name": f"{n}.png", "id": n, "captions": [f"thing {n}"]} for n in range(4)]
    (folder / "images.json").write_text(json.dumps(listed))
    return Part(ROOM, "coco", {"path": str(folder)})


def flickr_csv(folder: Path) -> Part:
    _pictures(folder / "images")
    lines = ["raw,sentids,split,filename,img_id"]
    lines += [f'"[""thing {n}"", ""item {n}""]","[{n}]",train,{n}.png,{n}' for n in range(4)]
    (folder / "flickr_annotations_30k.csv").write_text("\n".join(lines))
    return Part(ROOM, "flickr30k", {"path": str(folder)})


def flickr_karpathy(folder: Path) -> Part:
    _pictures(folder / "images")
    images = [
        {"filename": f"{n}.png", "split": "val", "sentences": [{"raw": f"thing {n}"}]}
        for n in range(4)
    ]
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": images}))
    return Part(ROOM, "flickr30k", {"path": str(folder)})


def described(layout: str) -> Callable[[Path], Part]:
    """Return a maker of photos with long descriptions in the layout of a data set."""

    def make(folder: Path) -> Part:
        _pictures(folder / ("photos" if layout == "dci" else "images"))
        told = [f"A thing is here. It is number {n}." for n in range(4)]
        if layout == "dci":
            (folder / "annotations").mkdir()
            for n, text in enumerate(told):
                one = {"image": f"{n}.png", "short_caption": f"thing {n}", "extra_caption": text}
                (folder / "annotations" / f"{n}.json").write_text(json.dumps(one))
        elif layout == "sharegpt4v":
            said = [[{"from": "human", "value": "?"}, {"from": "gpt", "value": t}] for t in told]
            whole = [{"image": f"{n}.png", "conversations": turns} for n, turns in enumerate(said)]
            (folder / "sharegpt4v_1.json").write_text(json.dumps(whole))
        else:
            name, image, text = {
                "docci": ("docci_descriptions.jsonlines", "image_file", "description"),
                "iiw": ("data.jsonl", "image", "IIW"),
            }[layout]
            rows = [json.dumps({image: f"{n}.png", text: one}) for n, one in enumerate(told)]
            (folder / name).write_text("\n".join(rows))
        return Part(ROOM, "long_texts", {"path": str(folder), "layout": layout})

    return make


def graded_of(ending: str) -> Callable[[Path], Part]:
    def make(folder: Path) -> Part:
        _pictures(folder)
        _write(
            folder / f"items.{ending}",
            [{"item": f"i{n}", "image": f"{n}.png", "kind": "shoe"} for n in range(4)],
        )
        _write(
            folder / f"judged.{ending}",
            [{"query": f"find {n}", "item": f"i{n % 4}", "grade": n + 0.5} for n in range(6)],
        )
        paths = {"path": f"{folder}/judged.{ending}", "items": f"{folder}/items.{ending}"}
        return Part(ROOM, "graded", paths)

    return make


def huggingface_mapped(folder: Path) -> Part:
    rows = [{"image": {"bytes": png(n), "path": None}, "caption": f"{n}", "id": n} for n in (0, 1)]
    _write(folder / "0.parquet", rows)
    return Part(ROOM, "huggingface", {"path": str(folder), "key": "id"})


def classes_named(folder: Path) -> Part:
    MINIATURES["classes"](folder)
    (folder / "names.json").write_text(json.dumps({"kind_0": "a thing", "kind_1": "an item"}))
    (folder / "templates.txt").write_text("a photo of a {}.\na bad photo of a {}.")
    given = {"names": str(folder / "names.json"), "templates": str(folder / "templates.txt")}
    return Part(ROOM, "classes", {"path": str(folder), **given})


def aro_table(folder: Path) -> Part:
    MINIATURES["aro"](folder)
    (folder / "visual_genome_relation.json").unlink()
    rows = [f"the {n}\t{n}.png\t['{n} the', \"the's {n}\"]\t[0]" for n in range(4)]
    table = "\n".join(["title\tfilepath\tneg_caption\tneg_image", *rows])
    (folder / "order.tsv").write_text(table)
    return Part(ROOM, "aro", {"path": str(folder / "order.tsv")})


def winoground_parquet(folder: Path) -> Part:
    rows = [
        {"image_0": {"bytes": png(n), "path": None}, "image_1": {"bytes": png(n + 2), "path": None}}
        | {"caption_0": f"{n} b", "caption_1": f"b {n}", "id": n}
        for n in range(2)
    ]
    _write(folder / "0.parquet", rows)
    return Part(ROOM, "winoground", {"path": str(folder / "0.parquet")})


def nlvr_parquet(folder: Path) -> Part:
    rows = [
        {"key": f"k{n}", "image": png(n), "sentence": f"It is {n}", "label": n % 2 == 0}
        for n in range(4)
    ]
    _write(folder / "0.parquet", rows)
    return Part(ROOM, "nlvr", {"path": str(folder / "0.parquet"), "key": "key"})


SEEDS: dict[str, tuple[Callable[[Path], Part], int]] = {
    "webdataset": (MINIATURES["webdataset"], 12),
    "img2dataset": (MINIATURES["img2dataset"], 12),
    "datacomp": (MINIATURES["datacomp"], 12),
    "mobileclip": (MINIATURES["mobileclip"], 12),
    "selected": (MINIATURES["selected"], 8),
    "table": (MINIATURES["table"], 8),
    "table_csv": (table_of("csv", key="id"), 4),
    "table_tsv": (table_of("tsv"), 4),
    "table_gz": (table_of("jsonl.gz"), 4),
    "table_parquet": (table_of("parquet", key="id"), 5),
    **{name: (MINIATURES[name], 0) for name in ("sugarcrepe", "sugarcrepe_pp", "aro")},
    "aro_tsv": (aro_table, 0),
    "winoground": (MINIATURES["winoground"], 4),
    "winoground_parquet": (winoground_parquet, 4),
    "nlvr": (MINIATURES["nlvr"], 0),
    "nlvr_parquet": (nlvr_parquet, 4),
    "triplets": (MINIATURES["triplets"], 4),
    "recap_datacomp": (MINIATURES["recap_datacomp"], 6),
    "graded": (MINIATURES["graded"], 3),
    "graded_csv": (graded_of("csv"), 4),
    "graded_parquet": (graded_of("parquet"), 4),
    "folder": (MINIATURES["folder"], 4),
    "folder_json": (folder_json, 4),
    "folder_names": (folder_names, 4),
    **{
        f"folder_{name.rpartition('.')[2]}": (folder_file(name), 4)
        for name in ("metadata.jsonl", "metadata.csv", "captions.tsv", "metadata.parquet")
    },
    "folder_txt": (folder_file("captions.txt"), 4),
    "folder_list": (folder_file("captions.json"), 4),
    "classes": (MINIATURES["classes"], 4),
    "classes_named": (classes_named, 4),
    "coco": (MINIATURES["coco"], 4),
    "coco_karpathy": (coco_karpathy, 4),
    "coco_list": (coco_list, 4),
    "flickr30k": (MINIATURES["flickr30k"], 4),
    "flickr_csv": (flickr_csv, 4),
    "long_texts": (MINIATURES["long_texts"], 4),
    **{f"long_{name}": (described(name), 4) for name in ("docci", "dci", "sharegpt4v", "iiw")},
    "xm3600": (MINIATURES["xm3600"], 4),
    "flickr_karpathy": (flickr_karpathy, 4),
    "texts_txt": (texts_of("txt"), 4),
    "texts_gz": (texts_of("txt.gz"), 4),
    "texts_npy": (texts_of("npy"), 4),
    **{f"texts_{e}": (texts_of(e, key="id"), 4) for e in ("jsonl", "csv", "tsv", "parquet")},
    "texts_jsonl_gz": (texts_of("jsonl.gz"), 4),
    "huggingface": (MINIATURES["huggingface"], 9),
    "huggingface_mapped": (huggingface_mapped, 2),
}
"""Makers by name, with the least number of items that each has."""

SLOW = {"huggingface", "huggingface_mapped"}
"""The library `datasets` needs a tenth of a second to open anything."""


# --- images -------------------------------------------------------------------------------------


@functools.cache
def images() -> dict[str, bytes]:
    """Return one small file of every kind that is decoded."""
    rows, columns = np.mgrid[0:24, 0:32]
    pixels = np.stack([rows * 9, columns * 7, (rows ^ columns) * 5], axis=-1).astype(np.uint8)
    rgb = Image.fromarray(pixels)
    grey16 = Image.fromarray((rows * 2000 + columns).astype(np.uint16))
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "jpeg": (rgb, "JPEG", {}),
        "jpeg progressive": (rgb, "JPEG", {"progressive": True, "subsampling": 0}),
        "jpeg restarts": (rgb, "JPEG", {"restart_marker_blocks": 1}),
        "jpeg grey": (rgb.convert("L"), "JPEG", {}),
        "jpeg cmyk": (rgb.convert("CMYK"), "JPEG", {}),
        "jpeg turned": (rgb, "JPEG", {"exif": turned, "comment": b"hello"}),
        "mpo": (rgb, "MPO", {"save_all": True, "append_images": [rgb]}),
        "png": (rgb, "PNG", {}),
        "png palette": (rgb.quantize(8), "PNG", {"transparency": 3}),
        "png alpha": (rgb.convert("RGBA"), "PNG", {"exif": turned}),
        "png grey alpha": (rgb.convert("LA"), "PNG", {}),
        "png 16": (grey16, "PNG", {}),
        "png 1": (rgb.convert("1"), "PNG", {}),
        "apng": (rgb, "PNG", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        "webp": (rgb, "WEBP", {}),
        "webp lossless": (rgb.convert("RGBA"), "WEBP", {"lossless": True, "exif": turned}),
        "webp moving": (rgb, "WEBP", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        "gif": (rgb.quantize(16), "GIF", {}),
        "gif moving": (rgb, "GIF", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        "bmp": (rgb, "BMP", {}),
        "tiff": (rgb, "TIFF", {}),
        "tiff lzw": (rgb, "TIFF", {"compression": "tiff_lzw"}),
        "tiff deflate": (grey16, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "tiff float": (rgb.convert("F"), "TIFF", {}),
        "tiff jpeg": (rgb, "TIFF", {"compression": "jpeg"}),
        "avif": (rgb, "AVIF", {"speed": 10}),
        "ppm": (rgb, "PPM", {}),
        "jpeg 2000": (rgb, "JPEG2000", {}),
        "tga": (rgb, "TGA", {"compression": "tga_rle"}),
    }
    return {name: _saved(*kind) for name, kind in kinds.items()}


def _saved(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()
