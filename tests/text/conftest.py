"""Small models written on the spot, so that any option can be tried in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a one-layer BERT, class-token pooling, a default prompt, 48 tokens."""
    pytest.importorskip("sentence_transformers")
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ":", "."]
    words += [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    (folder / "vocab.txt").write_text("\n".join(words))
    network = BertModel(
        BertConfig(
            vocab_size=len(words),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=48,
        )
    )
    network.save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    _write(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{t}"}
            for i, (p, t) in enumerate(modules)
        ],
    )
    pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True}
    _write(folder / "1_Pooling" / "config.json", pooling)
    _write(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": "find: ", "document": ""}, "default_prompt_name": "query"},
    )
    return folder


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.fixture(scope="session")
def tiny_decoder() -> Path:
    """Return a folder with a three-layer Llama of 64 positions, which begins texts with <s>."""
    pytest.importorskip("transformers")
    import decoder_folders

    return decoder_folders.folder()
