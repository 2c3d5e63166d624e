"""A folder as that of COCO: plain colours as photos, five captions each."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

COLOURS = ("red", "green", "blue", "white", "black", "yellow", "purple", "orange")


def write(folder: Path) -> None:
    (folder / "val2017").mkdir()
    (folder / "annotations").mkdir()
    photos, told = [], []
    for number, colour in enumerate(COLOURS):
        name = f"{number:012d}.jpg"
        Image.new("RGB", (24, 18), colour).save(folder / "val2017" / name)
        photos.append({"id": number, "file_name": name, "license": 1})
        for words in ("A {} picture.", "It is {}.", "All {}.", "{} everywhere", "Nothing but {}."):
            told.append({"id": len(told), "image_id": number, "caption": words.format(colour)})
    whole = {"info": {}, "images": photos, "annotations": told, "licenses": []}
    (folder / "annotations" / "captions_val2017.json").write_text(json.dumps(whole))
    (folder / "annotations" / "captions_train2017.json").write_text(json.dumps(whole))
