"""A folder as that of ImageInWords: a line for each photo, photos by their keys."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

COLOURS = ("red", "green", "blue", "white", "black", "yellow", "purple", "orange")


def write(folder: Path) -> None:
    (folder / "images").mkdir()
    rows = []
    for number, colour in enumerate(COLOURS):
        key = f"aar_test_{number:05d}"
        Image.new("RGB", (24, 18), colour).save(folder / "images" / f"{key}.jpg")
        told = (
            f"A medium shot of a {colour} surface. It is lit from above, so that its upper half "
            f"is brighter than its lower one. {number} small dots are seen."
        )
        rows.append({"image/key": key, "IIW": told, "IIW-P5B": f"A {colour} surface."})
    (folder / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
