"""A folder as that of Flickr30k: plain colours as photos, captions and splits in a table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from PIL import Image

COLOURS = ("red", "green", "blue", "white", "black", "yellow", "purple", "orange")


def write(folder: Path) -> None:
    (folder / "flickr30k-images").mkdir()
    with (folder / "flickr_annotations_30k.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["raw", "sentids", "split", "filename", "img_id"])
        for number, colour in enumerate(COLOURS):
            name = f"{10_000 + number}.jpg"
            Image.new("RGB", (24, 18), colour).save(folder / "flickr30k-images" / name)
            said = [f"{start} {colour}." for start in ("People in", "It is", "Nothing but")]
            split = "train" if number < 2 else "test"
            table.writerow([json.dumps(said), [0, 1, 2], split, name, number])
