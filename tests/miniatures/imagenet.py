"""A folder as that of ImageNet: five classes of 1000, two of which have one name."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

CLASSES = {
    "n01440764": "tench, Tinca tinca",
    "n02012849": "crane",
    "n02112018": "Pomeranian",
    "n03126707": "crane",
    "n03710721": "maillot, tank suit",
}
COLOURS = ("green", "white", "orange", "yellow", "blue")


def write(folder: Path) -> None:
    lines = [f"{code} {names}" for code, names in CLASSES.items()]
    (folder / "LOC_synset_mapping.txt").write_text("\n".join(lines) + "\n")
    for code, colour in zip(CLASSES, COLOURS, strict=True):
        (folder / "val" / code).mkdir(parents=True)
        for number in range(2):
            image = Image.new("RGB", (24, 18 + number), colour)
            image.save(folder / "val" / code / f"ILSVRC2012_val_{number:08d}.JPEG")
