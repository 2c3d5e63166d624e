"""A tiny Pascal VOC: plain rectangles on a plain ground, and their masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

_THINGS = {1: (200, 30, 30), 8: (30, 180, 40), 12: (40, 60, 220), 15: (230, 200, 30)}
"""Colours of aeroplanes, cats, dogs and people."""

_PALETTE = [value for at in range(256) for value in (at, 255 - at, at // 2)]


def write(folder: Path) -> None:
    """Write 8 photos of 24 x 32 pixels with a thing of a class each, bordered by pixels of none."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    names = []
    for number in range(8):
        label = list(_THINGS)[number % len(_THINGS)]
        names.append(f"2007_{number:06d}")
        pixels = np.full((24, 32, 3), 128, np.uint8)
        mask = np.zeros((24, 32), np.uint8)
        top, left = 2 + number % 3, 4 + number
        mask[top - 1 : top + 15, left - 1 : left + 15] = 255
        mask[top : top + 14, left : left + 14] = label
        pixels[mask == label] = _THINGS[label]
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{names[-1]}.jpg", quality=90)
        png = Image.fromarray(mask)
        png.putpalette(_PALETTE)
        png.save(folder / "SegmentationClass" / f"{names[-1]}.png")
    lists = folder / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("\n".join(names[:2]) + "\n")
    (lists / "val.txt").write_text("\n".join(names[2:]) + "\n")
