"""A folder as that of SugarCrepe with photos of plain colours and their other captions."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

COLOURS = ("red", "green", "blue", "white", "black", "yellow", "purple", "orange")


def write(folder: Path) -> None:
    (folder / "images").mkdir()
    (folder / "sugarcrepe").mkdir()
    swapped, added, photos, told = {}, {}, [], []
    for number, colour in enumerate(COLOURS):
        name = f"{number:012d}.jpg"
        Image.new("RGB", (24, 18), colour).save(folder / "images" / name)
        other = COLOURS[(number + 3) % len(COLOURS)]
        swapped[str(number)] = {
            "filename": name,
            "caption": f"A {colour} picture.",
            "negative_caption": f"A {other} picture.",
        }
        added[str(10 * number)] = {
            "filename": name,
            "caption": f"It is {colour} all over.",
            "negative_caption": f"It is {colour} and {other} all over.",
        }
        photos.append({"id": number, "file_name": name})
        told += [
            {"image_id": number, "caption": f"A {colour} picture."},
            {"image_id": number, "caption": f"Nothing but {colour}."},
        ]
    (folder / "sugarcrepe" / "replace_att.json").write_text(json.dumps(swapped))
    (folder / "sugarcrepe" / "add_att.json").write_text(json.dumps(added))
    whole = {"info": {}, "images": photos, "licenses": [], "annotations": told}
    (folder / "sugarcrepe" / "captions_val2017.json").write_text(json.dumps(whole))
