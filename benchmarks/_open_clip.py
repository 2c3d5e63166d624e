"""open_clip's CLIP step, where open_clip is at hand: found at run time, nothing of it is here."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import math
import sys
from typing import Any

import torch
from _contenders import CLIP_NORM, INPUTS, OPTIM, VOCABULARY, Contender, Setting, clip_model
from torch import Tensor

from lift.convert.layouts import arguments
from lift.convert.weights import to_layout
from lift.data.transform import Transform
from lift.world import autocast

LARGEST_SCALE = 100.0


def find_open_clip(folder: str = "") -> str:
    """Return the release of open_clip at hand, empty if there is none.

    Args:
        folder: another place to look for it (the site-packages of an environment).
    """
    if folder and folder not in sys.path:
        sys.path.append(folder)
    if importlib.util.find_spec("open_clip") is None:
        return ""
    # A CPU torch beside a torchvision whose operators need CUDA: its import asks for two of them.
    if torch.version.cuda is None and "torchvision" not in sys.modules:
        for name in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{name}",
                "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            )
    importlib.import_module("open_clip")
    return importlib.metadata.version("open_clip_torch")


def their_clip(setting: Setting, *, fused: bool = True) -> Contender:
    """Return open_clip's CLIP step, as its own training loop takes it, on images ready to use.

    Model and loss are its own; the weights are those of `our_clip`. Pixels are normalised and
    on the device beforehand. Clipping is ours on both sides (it has it off unless told).

    Args:
        setting: what all have in common.
        fused: give it the fused AdamW that we use; its own is not fused.
    """
    open_clip: Any = importlib.import_module("open_clip")
    shape = arguments(setting.tower, "open_clip")
    model = open_clip.CLIP(
        **{**shape, "embed_dim": setting.text_width},
        text_cfg={
            "context_length": setting.tokens,
            "vocab_size": VOCABULARY,
            "width": setting.text_width,
            "heads": setting.text_heads,
            "layers": setting.tower.depth,
        },
        output_dict=True,
    )
    model.load_state_dict(_weights(setting))
    model = model.to(setting.device).train()
    called = torch.compile(model) if setting.compile != "off" else model
    loss = open_clip.ClipLoss()
    decayed = [p for name, p in model.named_parameters() if not _plain(name, p)]
    plain = [p for name, p in model.named_parameters() if _plain(name, p)]
    optimizer = torch.optim.AdamW(
        [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.2}],
        lr=OPTIM.lr,
        betas=(0.9, 0.98),
        eps=1e-6,
        fused=True if fused else None,
    )
    transform = Transform(resolution=setting.tower.resolution)
    pixels = [transform.normalise(images) for images in setting.pixels()]
    captions = setting.captions()

    def forward(i: int) -> dict[str, Tensor]:
        with autocast(setting.device, setting.precision):
            return called(pixels[i % INPUTS], captions[i % INPUTS])

    def step(i: int) -> float:
        optimizer.zero_grad()
        with autocast(setting.device, setting.precision):
            found = called(pixels[i % INPUTS], captions[i % INPUTS])
            total = loss(**found)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(LARGEST_SCALE))
        # It logs its loss each hundredth step only: no waiting for the device here.
        return total.detach()

    return Contender(
        step=step, modules=(model,), inputs=[*pixels, *captions], graph=lambda: forward(0)
    )


def _weights(setting: Setting) -> dict[str, Tensor]:
    """Return the weights of our CLIP under the names of open_clip."""
    ours = clip_model(setting).to("cpu").state_dict()
    towers = {
        side: {n.removeprefix(start): p for n, p in ours.items() if n.startswith(start)}
        for side in ("image", "text")
        for start in [f"{side}.tower."]
    }
    found = to_layout(setting.tower, towers["image"], "open_clip", prefix=True)
    for name, tensor in towers["text"].items():
        found[functools.reduce(lambda n, words: n.replace(*words), _TEXT, name)] = tensor
    return {
        **found,
        "visual.proj": ours["image.head.layers.0.weight"].T,
        "text_projection": ours["text.head.layers.0.weight"].T,
        "logit_scale": ours["objective.log_scale"],
    }


_TEXT = (
    ("blocks.", "transformer.resblocks."),
    ("norm1", "ln_1"),
    ("norm2", "ln_2"),
    ("attention.qkv.", "attn.in_proj_"),
    ("attention.out", "attn.out_proj"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("norm.", "ln_final."),
    ("token", "token_embedding.weight"),
    ("position", "positional_embedding"),
)
"""Words of the names in our text tower, and its."""


def _plain(name: str, p: Tensor) -> bool:
    """Whether open_clip's training decays no such weight."""
    return p.ndim < 2 or any(word in name for word in ("bn", "ln", "bias", "logit_scale"))
