"""A folder as that of DOCCI: plain colours, each described in three sentences."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

COLOURS = ("red", "green", "blue", "white", "black", "yellow", "purple", "orange")


def write(folder: Path) -> None:
    (folder / "images").mkdir()
    rows = []
    for number, colour in enumerate(COLOURS):
        split = "train" if number < 2 else "test"
        name = f"{split}_{number:05d}"
        Image.new("RGB", (24, 18), colour).save(folder / "images" / f"{name}.jpg")
        told = (
            f"An outdoor shot of a {colour} wall. Nothing hangs on it, and it fills the picture "
            f"to its edges. There are {number} scratches in its middle."
        )
        rows.append(
            {"example_id": name, "split": split, "image_file": f"{name}.jpg", "description": told}
        )
    lines = "\n".join(json.dumps(row) for row in rows)
    (folder / "docci_descriptions.jsonlines").write_text(lines)
