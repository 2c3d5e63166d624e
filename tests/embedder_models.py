"""Small models in the space of a small model of sentence-transformers, no weight 0 or 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from lift import plugins
from lift.bundle import Bundle
from lift.bundle_record import BundleRecord
from lift.config import Part, part
from lift.data.transform import Transform
from lift.heads import Head, HeadConfig
from lift.model import SideConfig, build_side
from lift.text.encoder import build_encoder

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CLIP = {"class_token": True, "pre_norm": True, "patch_bias": False, "norm_eps": 1e-5}


def text_folder(folder: Path, width: int = 24) -> Path:
    """Write a model of sentence-transformers: a one-layer BERT, its mean, unit length, prompts."""
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ":", "."]
    words += [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    (folder / "vocab.txt").write_text("\n".join(words))
    shape: Any = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes: Any = {"intermediate_size": 32, "max_position_embeddings": 64}
    BertModel(BertConfig(vocab_size=len(words), **shape, **sizes)).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    _write(folder / "modules.json", modules)
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True}
    _write(folder / "1_Pooling" / "config.json", pooling)
    (folder / "2_Normalize").mkdir()
    prompts = {"prompts": {"query": "find: ", "document": ""}}
    _write(folder / "config_sentence_transformers.json", prompts)
    return folder


def model(
    texts: Path | Part,
    *,
    head: HeadConfig | None = None,
    transform: dict[str, Any] | None = None,
    prompt: str | None = None,
    tower: Part | None = None,
    seed: int = 0,
    **shape: Any,
) -> Bundle:
    """Return a model of ours in the space of a text model's folder, or of another encoder.

    Args:
        texts: the folder, or the encoder as a part.
        head, transform, prompt, tower: in place of small ones.
        seed: of the weights.
        shape: fields of `towers/vit`.
    """
    torch.manual_seed(seed)
    if isinstance(texts, Path):
        said = {} if prompt is None else {"prompt": prompt}
        texts = part("text/encoders", "sentence_transformer", model=str(texts), **said)
    encoder = build_encoder(texts)
    plain = {"width": 16, "depth": 2, "heads": 2, "patch": 8, "resolution": 32}
    tower = tower or plugins.resolve(part("towers", "vit", **{**plain, **shape}))
    image = SideConfig(tower=tower, head=head or HeadConfig(layers=2, hidden=20))
    side = build_side(image, None, encoder.space.dimensions).eval()
    _stir(side)
    record = BundleRecord(
        image=image,
        transform=Transform(**{"resolution": 32, "resize": "squash", **(transform or {})}),
        space=encoder.space,
        encoder=plugins.resolve(encoder.part),
        scalars={"scale": 20.0},
    )
    return Bundle(side, record, name="small", text_encoder=encoder)


def _stir(side: torch.nn.Module) -> None:
    """Move every weight off the value that it starts from."""
    with torch.no_grad():
        for parameter in side.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        for module in side.modules():
            if isinstance(module, Head) and module.config.standardise:
                module.mean.copy_(torch.randn(module.inner))
                module.spread.copy_(torch.rand(module.inner) + 0.5)


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))
