"""A folder as that of ShareGPT4V: a list of conversations, and photos in folders by origin."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

COLOURS = ("red", "green", "blue", "white", "black", "yellow", "purple", "orange")


def write(folder: Path) -> None:
    (folder / "coco" / "train2017").mkdir(parents=True)
    entries = []
    for number, colour in enumerate(COLOURS):
        name = f"coco/train2017/{number:012d}.jpg"
        Image.new("RGB", (24, 18), colour).save(folder / name)
        told = (
            f"In the heart of the image there is a {colour} wall. Its colour is even from left "
            f"to right. There are {number} marks on it."
        )
        turns = [
            {"from": "human", "value": "<image>\nWhat do you see?"},
            {"from": "gpt", "value": told},
        ]
        entries.append({"id": f"{number:012d}", "image": name, "conversations": turns})
    file = folder / "share-captioner_coco_lcs_sam_1246k_1107.json"
    file.write_text(json.dumps(entries))
