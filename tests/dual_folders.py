"""Writes small models of two towers as folders, for tests in more than one place.

Networks are real ones of transformers with random weights, the tokenizer is that of
`decoder_folders`.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import decoder_folders

IMAGE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 24,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}


def write(folder: Path, kind: str = "clip") -> Path:
    """Write a clip (shared width 24) or a siglip with its tokenizer and return the folder."""
    import torch
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(3)
        if kind == "clip":
            shape = transformers.CLIPConfig(
                text_config=TEXT, vision_config=IMAGE, projection_dim=24
            )
            network: Any = transformers.CLIPModel(shape)
        else:
            shape = transformers.SiglipConfig(text_config=TEXT, vision_config=IMAGE)
            network = transformers.SiglipModel(shape)
        with torch.no_grad():
            for weights in network.parameters():
                weights += 0.1 * torch.randn_like(weights)
        network.save_pretrained(folder)
    words = decoder_folders.tokenizer(bos=kind == "clip", eos=True, ends=True)
    words.pad_token = "</s>"
    words.save_pretrained(folder)
    return folder


@functools.cache
def folder(kind: str = "clip") -> Path:
    """Return a folder with that model, written once and removed when the tests are over."""
    parent = Path(tempfile.mkdtemp(prefix="lift-dual-"))
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    return write(parent / kind, kind)
