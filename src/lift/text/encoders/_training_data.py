"""What is known of the captions that published text encoders were trained on.

Sources: the model cards of sentence-transformers/all-*, and for the paraphrase family the table of
pretrained models in the documentation of sentence-transformers, where "Training Data" lists
coco_captions and flickr30k_captions.
"""

from __future__ import annotations

from pathlib import Path

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
