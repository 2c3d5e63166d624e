"""Read from a model folder's JSON files what its space is, without weights or other packages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift.errors import ConfigError

_CONTENT = {".json", ".txt", ".model", ".safetensors", ".bin", ".tiktoken", ".jinja", ".vocab"}
"""Suffixes of the files that loading reads; `.py` joins them where remote code is trusted."""

_OTHER_BACKENDS = {"onnx", "openvino", "coreml"}
_NOT_READ = {"data_config.json", "modules.json.bak"}
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Names that pooling configs used before `pooling_mode`, in the order of concatenation."""


@dataclass(frozen=True)
class Layout:
    """What the JSON files of a sentence-transformers (or plain transformers) folder say.

    Attributes:
        pooling: pooling modes joined by "+", then the layers after it.
        max_tokens: the model's own cap, None where no file names one.
        normalised: whether the last step scales rows to unit length.
        dimensions: length of a row.
        prompt: the model's default prompt, "" for none.
    """

    pooling: str
    max_tokens: int | None
    normalised: bool
    dimensions: int
    prompt: str


def read_layout(folder: Path) -> Layout:
    """Return the layout of a model folder.

    Raises:
        ConfigError: no model there, or a module whose effect on a row is not known here.
    """
    config = _read(folder / "config.json")
    modules = _read(folder / "modules.json") or []
    if not config and not modules:
        raise ConfigError(
            f"{folder} holds no model: neither config.json nor modules.json is there."
        )
    steps: list[str] = []
    dimensions = _hidden_size(config)
    transformer = folder
    for module in modules:
        kind = str(module["type"]).rsplit(".", 1)[-1]
        values = _read(folder / module["path"] / "config.json") if module["path"] else {}
        if kind == "Transformer" or (not steps and "Transformer" in kind):
            transformer = folder / module["path"]
            dimensions = _hidden_size(_read(transformer / "config.json")) or dimensions
        elif kind == "Pooling":
            modes = _pooling_modes(values)
            width = values.get("embedding_dimension", values.get("word_embedding_dimension"))
            dimensions = (dimensions or width or 0) * len(modes)
            steps.append("+".join(modes))
        elif kind == "Dense":
            dimensions = values["out_features"]
            steps.append(f"dense{dimensions}")
        elif kind in ("Normalize", "LayerNorm", "Dropout"):
            steps.append(kind.lower())
        else:
            raise ConfigError(
                f"The model in {folder} has a module of the type {module['type']!r}, which lift "
                "does not read; models of Transformer, Pooling, Dense, Normalize are."
            )
    if not modules:  # a plain transformers folder: the library puts a mean over it
        steps = ["mean"]
    if not dimensions:
        raise ConfigError(f"The files in {folder} don't say how long the model's rows are.")
    return Layout(
        pooling=" > ".join(step for step in steps if step not in ("dropout", "normalize")),
        max_tokens=_cap(transformer),
        normalised=bool(steps) and [s for s in steps if s != "dropout"][-1] == "normalize",
        dimensions=dimensions,
        prompt=_default_prompt(_read(folder / "config_sentence_transformers.json")),
    )


def content_hash(folder: Path, with_code: bool = False) -> str:
    """Return "sha256:..." over names and contents of every file that loading the model reads."""
    total = hashlib.sha256()
    for path in _content_files(folder, with_code):
        total.update(f"{path.relative_to(folder).as_posix()}\n{file_hash(path)}\n".encode())
    return f"sha256:{total.hexdigest()}"


def file_hash(path: Path) -> str:
    """Return the SHA-256 of one file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content_files(folder: Path, with_code: bool) -> Iterator[Path]:
    wanted = _CONTENT | ({".py"} if with_code else set())
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        if path.suffix not in wanted or path.name in _NOT_READ or not path.is_file():
            continue
        if any(part.startswith(".") or part in _OTHER_BACKENDS for part in inside):
            continue
        if path.suffix == ".bin" and any(path.parent.glob("*.safetensors")):
            continue  # the older copy of the same weights, which is not read then
        yield path


def _read(path: Path) -> Any:
    """Return the JSON of a file, {} where there is none."""
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is not JSON ({error}); get the model again.") from error


def _hidden_size(config: dict[str, Any]) -> int:
    inner = config.get("text_config") or {}
    for source in (config, inner):
        for name in ("hidden_size", "d_model", "dim", "n_embd"):
            if isinstance(source.get(name), int):
                return source[name]
    return 0


def _pooling_modes(values: dict[str, Any]) -> list[str]:
    modes = values.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in _POOLING_FLAGS.items() if values.get(flag)] or ["mean"]
    found = [modes] if isinstance(modes, str) else list(modes)
    # Leaving the prompt out of the mean is another vector, hence another name.
    return found if values.get("include_prompt", True) else [f"{m}-no-prompt" for m in found]


def _cap(transformer: Path) -> int | None:
    """Return the token cap: of the module's own file, else the tokenizer's and the network's."""
    stated = _read(transformer / "sentence_bert_config.json").get("max_seq_length")
    if isinstance(stated, int):
        return stated
    limits = [
        _read(transformer / "tokenizer_config.json").get("model_max_length"),
        _read(transformer / "config.json").get("max_position_embeddings"),
    ]
    # Tokenizers without a limit say 10^30; some networks say -1.
    known = [int(v) for v in limits if isinstance(v, int | float) and 0 < v < 10**9]
    return min(known) if known else None


def _default_prompt(config: dict[str, Any]) -> str:
    name = config.get("default_prompt_name")
    return config.get("prompts", {}).get(name, "") if name else ""
