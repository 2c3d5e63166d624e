"""What is known of how published text encoders were trained: on which captions, for which prefixes.

Sources for captions: the model cards of sentence-transformers/all-*, and for the paraphrase family
the table of pretrained models in the documentation of sentence-transformers, where "Training Data"
lists coco_captions and flickr30k_captions. For prefixes: each model's own card or announcement,
which names Matryoshka representation learning (Kusupati et al. 2022, arXiv 2205.13147).
"""

from __future__ import annotations

import re
from pathlib import Path

from lift.text.encoders._json_files import read_json
from lift.text.encoders._layout import file_hash

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors of all-MiniLM-L6-v2."""

CAPTIONS = ("coco", "flickr30k")
"""Flickr8k overlaps Flickr30k; whoever asks about one has to think of the other."""

_MINILM_BYTES = 90_868_376
_HUB = "sentence-transformers/"
_ALL = f"{_HUB}all-"
_PARAPHRASE = {
    f"{_HUB}paraphrase-{name}-v2"
    for name in (
        "MiniLM-L3",
        "MiniLM-L6",
        "MiniLM-L12",
        "TinyBERT-L6",
        "albert-small",
        "distilroberta-base",
        "mpnet-base",
        # Students of MiniLM-L12-v2 and mpnet-base-v2: what the teacher saw shaped their space.
        "multilingual-MiniLM-L12",
        "multilingual-mpnet-base",
    )
}
"""Of the -v1 models only distilroberta-base-v1 is documented, as trained without captions."""


_MATRYOSHKA = (
    "nomic-ai/nomic-embed-text-v1.5",
    "nomic-ai/nomic-embed-text-v2-moe",
    "nomic-ai/modernbert-embed-base",
    "mixedbread-ai/mxbai-embed-large-v1",
    "mixedbread-ai/mxbai-embed-2d-large-v1",
    "Qwen/Qwen3-Embedding-0.6B",
    "Qwen/Qwen3-Embedding-4B",
    "Qwen/Qwen3-Embedding-8B",
    "Snowflake/snowflake-arctic-embed-m-v1.5",
    "Snowflake/snowflake-arctic-embed-m-v2.0",
    "Snowflake/snowflake-arctic-embed-l-v2.0",
    "google/embeddinggemma-300m",
    "jinaai/jina-embeddings-v3",
)

_CARD_TAG = re.compile(r"^\s*-\s*loss:Matryoshka\w*Loss\s*$", re.MULTILINE)
"""sentence-transformers writes its losses into the cards of the models that it trained."""


def usable_prefixes(model: str, folder: Path) -> bool:
    """Return whether a model is known to be trained so that prefixes of its rows are rows.

    Args:
        model: its id on the hub, or "local".
        folder: where its files are: a card with the tag of the loss counts, and so does a
            config.json with `matryoshka_dimensions` or `is_matryoshka`, as servers read it.
    """
    if model in _MATRYOSHKA:
        return True
    card, config = folder / "README.md", folder / "config.json"
    if card.is_file() and _CARD_TAG.search(card.read_text(encoding="utf-8", errors="replace")):
        return True
    stated = read_json(config)
    return bool(stated.get("matryoshka_dimensions") or stated.get("is_matryoshka"))


def seen_by(model: str, folder: Path) -> tuple[str, ...]:
    """Return the benchmarks whose captions a model saw, () where nothing is known.

    Args:
        model: its id on the hub, or "local".
        folder: where its files are; a copy of MiniLM is known by its weights.
    """
    weights = folder / "model.safetensors"
    if model.startswith(_ALL) or model in _PARAPHRASE:
        return CAPTIONS
    same_size = weights.is_file() and weights.stat().st_size == _MINILM_BYTES
    return CAPTIONS if same_size and file_hash(weights) == MINILM_SHA256 else ()
