"""A folder as that of Winoground: pairs of images of two halves, each the other's mirror."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

PAIRS = (("red", "green"), ("blue", "white"), ("black", "yellow"), ("purple", "orange"))


def write(folder: Path) -> None:
    (folder / "images").mkdir()
    rows = []
    for number, (left, right) in enumerate(PAIRS):
        for side, (first, second) in enumerate(((left, right), (right, left))):
            image = Image.new("RGB", (40, 20), first)
            image.paste(second, (20, 0, 40, 20))
            image.save(folder / "images" / f"ex_{number}_img_{side}.png")
        rows.append(
            {
                "id": number,
                "image_0": f"ex_{number}_img_0",
                "image_1": f"ex_{number}_img_1",
                "caption_0": f"{left} left of {right}",
                "caption_1": f"{right} left of {left}",
                "tag": "Noun",
                "secondary_tag": "",
                "num_main_preds": 1,
                "collapsed_tag": "Object" if number % 2 else "Relation",
            }
        )
    (folder / "examples.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
