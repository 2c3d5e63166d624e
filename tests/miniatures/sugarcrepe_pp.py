"""A folder as that of SugarCrepe++ with photos of plain colours."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

COLOURS = ("red", "green", "blue", "white", "black", "yellow")


def write(folder: Path) -> None:
    (folder / "val2017").mkdir()
    (folder / "data").mkdir()
    asked = []
    for number, colour in enumerate(COLOURS):
        name = f"{number:012d}.jpg"
        Image.new("RGB", (24, 18), colour).save(folder / "val2017" / name)
        other = COLOURS[(number + 2) % len(COLOURS)]
        asked.append(
            {
                "id": number,
                "filename": name,
                "caption": f"A {colour} picture.",
                "caption2": f"The picture is {colour}.",
                "negative_caption": f"A {other} picture.",
            }
        )
    (folder / "data" / "replace_att.json").write_text(json.dumps(asked))
    (folder / "data" / "swap_att.json").write_text(json.dumps(asked[:4]))
