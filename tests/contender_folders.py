"""Writes small models that can be judged, for tests in more than one place.

All are real ones with random weights: of ours, of sentence-transformers (both kinds), of
transformers; and vectors that one of them made.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import decoder_folders
import tower_folders
from lift.bundle import Bundle
from lift.bundle_record import BundleRecord
from lift.cache.addresses import content_hash
from lift.cache.probes import Probes
from lift.config import part
from lift.data.transform import Transform
from lift.heads import HeadConfig
from lift.model import SideConfig, build_side
from lift.text.encoder import build_encoder

WIDTH = 24


def pictures(count: int = 5) -> list[bytes]:
    """Return PNGs of different sizes and content."""
    found = []
    for number in range(count):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (20 + number, 30, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        found.append(file.getvalue())
    return found


TEXTS = ("a dog", "two red cats asleep on a sofa", "a dog on the beach", "snow", "nothing at all")


def bundle(folder: Path, *, resize: str = "center_crop") -> Path:
    """Write a model of ours in the space of the `hashing` encoder, with its probes."""
    torch.manual_seed(2)
    config = SideConfig(
        tower=part("towers", "vit", width=16, depth=1, heads=2, patch=8, resolution=16),
        head=HeadConfig(layers=1),
    )
    encoder = build_encoder(part("text/encoders", "hashing", dimensions=WIDTH))
    transform = Transform(resolution=16, resize=resize)  # type: ignore[arg-type]
    side = build_side(config, None, WIDTH).eval()
    with torch.no_grad():
        for weights in side.parameters():
            weights += 0.2 * torch.randn_like(weights)
    record = BundleRecord(
        image=config, transform=transform, space=encoder.space, encoder=encoder.part
    )
    probes = Probes(encoder.probes, encoder.encode(encoder.probes).rows)
    return Bundle(side, record, probes=probes).save(folder)


def dual(folder: Path, kind: str) -> Path:
    """Write a whole "clip" or "siglip" of transformers."""
    return tower_folders.write(folder, kind)


def old_sentence_model(folder: Path) -> Path:
    """Write a model of sentence-transformers of one module, as those before 5.4 are."""
    folder.mkdir(parents=True)
    dual(folder / "0_CLIPModel", "clip")
    kind = "sentence_transformers.models.CLIPModel"
    modules = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": kind}]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def router(folder: Path) -> Path:
    """Write a model of sentence-transformers with one route for texts and one for images."""
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules as kinds

    images = tower_folders.write(folder / "images", "siglip_vision")
    told = json.loads((images / "preprocessor_config.json").read_text())
    told["image_processor_type"] = "SiglipImageProcessor"
    (images / "preprocessor_config.json").write_text(json.dumps(told))
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 64, "vocab_size": 512, "max_position_embeddings": 64}
    torch.manual_seed(4)
    transformers.BertModel(transformers.BertConfig(**sizes)).save_pretrained(folder / "texts")
    words = decoder_folders.tokenizer(bos=True, eos=True, ends=True)
    words.pad_token = "</s>"
    words.save_pretrained(folder / "texts")
    text = kinds.Transformer(str(folder / "texts"), max_seq_length=16)
    image = kinds.Transformer(str(images))
    route = kinds.Router(
        {
            "text": [text, kinds.Pooling(32, "mean")],
            "image": [image, kinds.Pooling(32, "mean"), kinds.Dense(32, 32)],
        },
        route_mappings={(None, "text"): "text", (None, "image"): "image"},
    )
    model = SentenceTransformer(modules=[route], device="cpu")
    model.save_pretrained(str(folder / "whole"), create_model_card=False)
    return folder / "whole"


def vectors(folder: Path, images: Sequence[bytes], texts: Sequence[str], seed: int = 0) -> Path:
    """Write rows of images, known by content, and of texts as `.npy` files."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    hashes = [content_hash(image).hex() for image in images]
    for name, words in (("images", hashes), ("texts", list(texts))):
        np.save(folder / f"{name}.npy", rng.standard_normal((len(words), WIDTH)).astype("f4"))
        (folder / f"{name}.txt").write_text("".join(f"{word}\n" for word in words))
    return folder


def changed(folder: Path, other: Path) -> Path:
    """Copy a model's folder with one number of its weights changed."""
    shutil.copytree(folder, other)
    file = max(other.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    tensors = load_file(file)
    name = next(n for n, t in sorted(tensors.items()) if t.ndim > 1 and t.is_floating_point())
    tensors[name].view(-1)[0] += 1
    save_file(tensors, file, metadata={"format": "pt"})
    return other
