"""A folder as that of Flickr8k with Karpathy's split: plain colours as photos."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

COLOURS = ("red", "green", "blue", "white", "black", "yellow", "purple", "orange")


def write(folder: Path) -> None:
    (folder / "Flicker8k_Dataset").mkdir()
    images = []
    for number, colour in enumerate(COLOURS):
        name = f"{number:08d}_{colour}.jpg"
        Image.new("RGB", (24, 18), colour).save(folder / "Flicker8k_Dataset" / name)
        said = [{"raw": f"{start} {colour} ."} for start in ("A dog in", "It is", "Nothing but")]
        split = "train" if number < 2 else "test"
        images.append({"filename": name, "split": split, "sentences": said})
    whole = {"images": images, "dataset": "flickr8k"}
    (folder / "dataset_flickr8k.json").write_text(json.dumps(whole))
