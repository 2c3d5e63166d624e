"""A folder as that of DCI: plain colours with a short and a further description."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

COLOURS = ("red", "green", "blue", "white", "black", "yellow", "purple", "orange")


def write(folder: Path) -> None:
    for name in ("photos", "annotations"):
        (folder / name).mkdir()
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (24, 18), colour).save(folder / "photos" / f"sa_{number}.jpg")
        told = {
            "image": f"sa_{number}.jpg",
            "short_caption": f"A {colour} wall.",
            "extra_caption": f"It has {number} bricks in a row. Nothing stands before it.",
            "mask_data": {},
        }
        (folder / "annotations" / f"sa_{number}.json").write_text(json.dumps(told))
