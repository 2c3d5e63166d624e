"""Models of several shapes, photographs, and the code of model cards run in a new process."""

from __future__ import annotations

import dataclasses
import io
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lift import plugins
from lift.bundle import Bundle
from lift.config import part
from lift.data.source import open_source
from lift.data.transform import Transform
from lift.heads import HeadConfig
from lift.model import SideConfig, build_side
from made_model import made

SMALL = {"width": 32, "depth": 3, "heads": 2, "patch": 8, "resolution": 32}
CLIP = SMALL | {"class_token": True, "pre_norm": True, "patch_bias": False, "norm_eps": 1e-5}
SIGLIP = SMALL | {"pooling": "attention", "activation": "gelu_tanh"}

SHIM = """
import torch
for _name in ("nms", "qnms"):
    torch.library.define(
        f"torchvision::{_name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    )
"""
"""As in parity/conftest.py, for a process of its own: a CPU torch beside another torchvision."""


def shaped(
    shape: dict[str, Any], head: HeadConfig, *, dimensions: int = 24, **transform: Any
) -> Bundle:
    """Return a model with a tower of this shape; no norm is the identity, no bias is 0."""
    base = made(dimensions=dimensions, scalars={"scale": 20.0})
    image = SideConfig(tower=plugins.resolve(part("towers", "vit", **shape)), head=head)
    pixels = Transform(resolution=shape["resolution"], **transform)
    record = dataclasses.replace(base.record, image=image, transform=pixels)
    torch.manual_seed(1)
    side = build_side(image, None, dimensions)
    with torch.no_grad():
        for value in side.state_dict().values():
            value += 0.1 * torch.rand_like(value)
    return Bundle(side.eval(), record, name="made")


def photographs(shared_data: Path, count: int) -> list[np.ndarray]:
    """Return photographs of Flickr as uint8 [h w 3], cut to several shapes."""
    source = open_source(str(shared_data / "flickr8k" / "val-0000.tar"))
    found = []
    for number in range(count):
        image = Image.open(io.BytesIO(source.read(number).image)).convert("RGB")
        wide, tall = image.size
        found.append(np.asarray(image.crop((0, 0, wide - 13 * number, tall - 29 * (number % 3)))))
    return found


def squares(pictures: Sequence[np.ndarray], side: int) -> list[np.ndarray]:
    """Return pictures at a model's own size, so that no library has anything to resize."""
    return [np.asarray(Image.fromarray(picture).resize((side, side))) for picture in pictures]


def code_of(readme: Path) -> str:
    """Return the Python of a model card's section on use."""
    text = readme.read_text(encoding="utf-8")
    section = text.split("\n## Use\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL))


def run_fresh(code: str, folder: Path, *, without: Sequence[str] = ("lift",)) -> str:
    """Run Python in a new process, in a folder, where some packages can't be imported."""
    first = f"import sys\nsys.modules.update(dict.fromkeys({tuple(without)!r}))\n"
    done = subprocess.run(
        [sys.executable, "-c", first + code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
