"""Folders as those of ImageNet-R (classes by WordNet's numbers) and -V2 (by their own)."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

CLASSES = {"n01440764": "tench", "n01443537": "goldfish", "n01484850": "great_white_shark"}
COLOURS = ("green", "orange", "grey")


def write(folder: Path) -> None:
    index = {str(number): [code, name] for number, (code, name) in enumerate(CLASSES.items())}
    (folder / "imagenet_class_index.json").write_text(json.dumps(index))
    for number, (code, colour) in enumerate(zip(CLASSES, COLOURS, strict=True)):
        for place in (f"imagenet-r/{code}", f"imagenetv2-matched-frequency/{number}"):
            if place == "imagenet-r/n01484850":
                continue  # these have 200 of the 1000
            (folder / place).mkdir(parents=True)
            for copy in range(3):
                size = (24, 18 + copy)
                Image.new("RGB", size, colour).save(folder / place / f"{copy}.jpeg")
