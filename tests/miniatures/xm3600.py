"""A folder as that of Crossmodal-3600: 24 photos with captions in three languages, one too rare."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {
    "red": ("rot", "rouge"),
    "green": ("grün", "vert"),
    "blue": ("blau", "bleu"),
    "white": ("weiß", "blanc"),
    "black": ("schwarz", "noir"),
    "yellow": ("gelb", "jaune"),
}


def write(folder: Path) -> None:
    (folder / "images").mkdir()
    rows = []
    both = [(one, two) for one in COLOURS for two in COLOURS if one != two][:24]
    for number, (one, two) in enumerate(both):
        key = f"{number:016x}"
        image = Image.new("RGB", (24, 18), one)
        ImageDraw.Draw(image).rectangle((12, 0, 24, 18), fill=two)
        image.save(folder / "images" / f"{key}.jpg")
        german, french = (COLOURS[one][0], COLOURS[two][0]), (COLOURS[one][1], COLOURS[two][1])
        told = {
            "en": {"caption": [f"{one} beside {two}", f"{one} left of {two}"]},
            "de": {"caption": ["{} neben {}".format(*german)]},
        }
        if number < 3:
            told["fr"] = {"caption": ["{} et {}".format(*french)]}
        rows.append({"image/key": key, "image/locale": "en", **told})
    (folder / "captions.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
