"""Which benchmark a path speaks of: whole words, anywhere in the path."""

from __future__ import annotations

import pytest

from lift.data.source import open_source
from lift.evals._seen import guess, seen_note


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("flickr8k/val-0000.tar", "flickr8k"),
        ("data/flickr_8k-val.parquet", "flickr8k"),
        ("Flickr30k/images", "flickr30k"),
        ("flickr/val.tar", "flickr8k"),
        ("/data/mscoco/val2017.tar", "coco"),
        ("coco-val2017.tar", "coco"),
        ("coco_captions/val.tar", "coco"),
        ("MS-COCO/val.tar", "coco"),
        ("coco2014/val.tar", "coco"),
        ("sugarcrepe (coco)", "sugarcrepe"),
        ("coconut/val.tar", ""),
        ("cocoa/val.tar", ""),
        ("tars/val-0000.tar", ""),
        ("flickrish/a.csv", ""),
        ("", ""),
    ],
)
def test_guess(name, found):
    assert guess(name) == found


@pytest.mark.parametrize("layout", ["webdataset", "table"])
def test_the_folders_above_count_too(layout, tmp_path, vectors):
    folder = tmp_path / "flickr8k" / "tars"
    folder.mkdir(parents=True)
    if layout == "table":
        path = folder / "val-0000.csv"
        path.write_text("image,caption\na.png,a dog\n")
    else:
        path = folder / "val-0000.tar"
        _tar(path)
    source = open_source(str(path))
    assert source.name.startswith("tars/val-0000")
    encoder = vectors({})
    encoder.saw = ("flickr30k",)
    assert seen_note(encoder, source, None)
    assert not seen_note(encoder, source, "own pairs")


def _tar(path):
    import io
    import tarfile

    with tarfile.open(path, "w") as tar:
        for name, content in (("a.jpg", b"i"), ("a.txt", b"a dog")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
