"""A folder as that of Urban1k: plain colours, each described in three sentences."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

COLOURS = ("red", "green", "blue", "white", "black", "yellow", "purple", "orange")


def write(folder: Path) -> None:
    for name in ("image", "caption"):
        (folder / name).mkdir()
    for number, colour in enumerate(COLOURS, 1):
        Image.new("RGB", (24, 18), colour).save(folder / "image" / f"{number}.jpg")
        told = (
            f"This image shows a wall in the city. The wall is painted {colour} from the street "
            f"up to the roof, and no window breaks it. There are {number} people before it."
        )
        (folder / "caption" / f"{number}.txt").write_text(told)
