"""Two tars of drawings in two styles, with names, keywords and groups."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "orange", "black", "purple")
GROUPS = ("round", "square")


def write(folder: Path) -> None:
    for style in ("noto", "twemoji"):
        with tarfile.open(folder / f"{style}-0000.tar", "w") as archive:
            for number, colour in enumerate(COLOURS * 4):
                group = GROUPS[number % 2]
                image = Image.new("RGBA", (36, 36 + number))
                draw = ImageDraw.Draw(image)
                paint = draw.ellipse if group == "round" else draw.rectangle
                paint((4, 4, 20 + number, 30), fill=colour)
                out = io.BytesIO()
                image.save(out, "PNG")
                name = f"{style}_{number:x}"
                label = f"{colour} {group} {number}"
                told = {"label": label, "tags": [colour, f"no {number}"], "group": group}
                record = json.dumps({"hexcode": f"{number:X}", "style": style, **told}).encode()
                files = {"png": out.getvalue(), "txt": label.encode(), "json": record}
                for ending, content in files.items():
                    entry = tarfile.TarInfo(f"{name}.{ending}")
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
