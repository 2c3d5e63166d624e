"""A model's head beside a tower that another library loads: weights, what they are, and a module.

`lift_image.py`, which needs torch alone, has the classes that compute it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from lift.bundle import Bundle
from lift.config import to_dict
from lift.export import _image_module
from lift.export._sentence_modules import MODULE, spelled
from lift.heads import Head
from lift.model import save_tensors

WEIGHTS, FACTS = "head.safetensors", "head.json"


def write_head(bundle: Bundle, folder: Path, takes: str) -> None:
    """Write the head (none is told as none), and the text space that it ends in.

    Args:
        bundle: the model.
        folder: where to.
        takes: what the head takes, in words ("the mean of the patch tokens after the last norm").
    """
    head = bundle.side.head
    facts: dict[str, Any] = {
        "takes": takes,
        "width": int(bundle.side.tower.width),  # type: ignore[union-attr,arg-type]
        "dimensions": bundle.dimensions,
        "head": {"layers": 0},
        "then": "unit length",
        "scale": bundle.scale,
        "text_space": {**to_dict(bundle.space), "fingerprint": bundle.space.fingerprint},
    }
    if isinstance(head, Head):
        facts["head"] = spelled(head.config, head.width, head.shared)
        save_tensors({name: v.cpu() for name, v in head.state_dict().items()}, folder / WEIGHTS)
        shutil.copyfile(_image_module.__file__, folder / f"{MODULE}.py")
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    (folder / FACTS).write_text(text + "\n", encoding="utf-8")


def through_head(folder: Path, h: Float[Tensor, "n width"]) -> Float[Tensor, "n d"]:
    """Return unit rows of a tower's, by the files in the folder alone."""
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    if facts["head"]["layers"]:
        head = _image_module.Head(facts["head"], facts["width"], facts["dimensions"])
        head.load_state_dict(load_file(folder / WEIGHTS))
        with torch.inference_mode():
            h = head.eval()(h)
    return _image_module.unit(h)


def usage(bundle: Bundle) -> str:
    """Return code that makes unit vectors `z` in the text space of a tower's `h`."""
    if bundle.side.head is None:
        return "z = torch.nn.functional.normalize(h, dim=-1)  # the model has no head"
    return _USAGE


_USAGE = """\
import json, sys
from safetensors.torch import load_file
sys.path.insert(0, "{folder}")
from lift_image import Head, unit  # a file in the folder; needs torch alone

about = json.load(open("{folder}/head.json"))
head = Head(about["head"], about["width"], about["dimensions"])
head.load_state_dict(load_file("{folder}/head.safetensors"))
with torch.inference_mode():
    z = unit(head(h))  # in the text space that head.json names"""
