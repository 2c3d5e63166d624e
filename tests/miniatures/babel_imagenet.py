"""ImageNet's folders of classes, and their names in two languages."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

CLASSES = {"n01440764": "tench", "n01443537": "goldfish", "n01484850": "great white shark"}
COLOURS = ("green", "orange", "grey")


def write(folder: Path) -> None:
    lines = [f"{code} {name}" for code, name in CLASSES.items()]
    (folder / "LOC_synset_mapping.txt").write_text("\n".join(lines))
    told = {"DE": [[0, 2], ["Schleie", "Weißer Hai"]], "FR": [[0, 1, 2], ["a", "b", "c"]]}
    (folder / "babel_imagenet.json").write_text(json.dumps(told))
    for code, colour in zip(CLASSES, COLOURS, strict=True):
        (folder / "val" / code).mkdir(parents=True)
        for copy in range(2):
            image = Image.new("RGB", (24, 18 + copy), colour)
            image.save(folder / "val" / code / f"{copy}.JPEG")
