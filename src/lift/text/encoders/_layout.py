"""Read from a model folder's JSON files what its space is, without weights or other packages."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift.errors import ConfigError, unknown

_TRUSTED_PACKAGE = "sentence_transformers."

_NOT_READ = {"data_config.json", "modules.json.bak", "trainer_state.json", "training_args.bin"}
_NOT_READ_STEMS = {"readme", "license", "licence", "notice"}
_NOT_READ_SUFFIXES = {".md", ".onnx", ".h5", ".msgpack", ".ot", ".png", ".jpg", ".svg", ".pdf"}
"""What no loading reads: words about the model, traces of training, weights of other frameworks.
All other files count: one too many in the hash costs a second cache, one too few a wrong one."""

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
        prompts: the model's prompts by name.
        default_prompt: name of the one that it uses unasked, None for none.
    """

    pooling: str
    max_tokens: int | None
    normalised: bool
    dimensions: int
    prompts: dict[str, str]
    default_prompt: str | None

    def prompt(self, name: str | None) -> str:
        """Return the prompt of a name, or the default one ("" where there is none).

        Raises:
            ConfigError: the model has no such prompt; the message names the nearest.
        """
        if name is None:
            return self.prompts.get(self.default_prompt or "", "")
        if name not in self.prompts:
            raise unknown("prompt of the model", name, self.prompts)
        return self.prompts[name]


def read_layout(folder: Path, trusted: bool = False) -> Layout:
    """Return the layout of a model folder.

    Args:
        folder: with the JSON files.
        trusted: whether modules may come from code that is not sentence-transformers' own.

    Raises:
        ConfigError: no model there, or a module whose effect on a row is not known here.
    """
    config = _read(folder / "config.json")
    modules = _modules(folder)
    if not config and not modules:
        raise ConfigError(
            f"{folder} holds no model: neither config.json nor modules.json is there."
        )
    steps: list[str] = []
    dimensions = _hidden_size(config)
    transformer = folder
    for module in modules:
        kind = module["type"].rsplit(".", 1)[-1]
        if not trusted and not module["type"].startswith(_TRUSTED_PACKAGE):
            raise ConfigError(
                f"The model in {folder} brings its own code for a module ({module['type']!r}); "
                "read that code, and if you trust it give trust_remote_code=true yourself: what "
                "a cache or a bundle says about trust is not believed."
            )
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
    stated = _read(folder / "config_sentence_transformers.json")
    if not dimensions:
        raise ConfigError(f"The files in {folder} don't say how long the model's rows are.")
    return Layout(
        pooling=" > ".join(step for step in steps if step not in ("dropout", "normalize")),
        max_tokens=_cap(transformer),
        normalised=bool(steps) and [s for s in steps if s != "dropout"][-1] == "normalize",
        dimensions=dimensions,
        prompts=_prompts(stated.get("prompts"), folder),
        default_prompt=stated.get("default_prompt_name"),
    )


def content_hash(folder: Path) -> str:
    """Return "sha256:..." over names and contents of every file that loading the model may read."""
    total = hashlib.sha256()
    for path in _content_files(folder):
        total.update(f"{path.relative_to(folder).as_posix()}\n{file_hash(path)}\n".encode())
    return f"sha256:{total.hexdigest()}"


def file_hash(path: Path) -> str:
    """Return the SHA-256 of one file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content_files(folder: Path) -> list[Path]:
    """Return the files of the folder and its modules' folders, and Python code anywhere in it."""
    found = set(folder.iterdir()) | set(folder.rglob("*.py"))
    for module in _modules(folder):
        if Path(module["path"]).parts:
            found |= set((folder / module["path"]).rglob("*"))
    return sorted(path for path in found if path.is_file() and _may_be_read(path, folder))


def _may_be_read(path: Path, folder: Path) -> bool:
    if any(part.startswith(".") for part in path.relative_to(folder).parts):
        return False
    if path.name in _NOT_READ or path.suffix.lower() in _NOT_READ_SUFFIXES:
        return False
    if path.name.startswith("pytorch_model") and path.suffix == ".bin":
        # The older copy of the same weights is not read where the newer one is there.
        newer = [path.with_name("model.safetensors"), *path.parent.glob("model-*-of-*.safetensors")]
        return not any(other.is_file() for other in newer)
    return path.stem.lower() not in _NOT_READ_STEMS


def _modules(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of modules.json, [] where there is none."""
    modules = _read(folder / "modules.json") or []
    for module in modules:
        named = isinstance(module, dict) and isinstance(module.get("type"), str)
        inside = module.get("path", "") if named else None
        if not isinstance(inside, str) or Path(inside).is_absolute() or ".." in Path(inside).parts:
            raise ConfigError(
                f"{folder / 'modules.json'} lists a module without type, or with a path that "
                f"leaves the folder ({module!r}); get the model again."
            )
    return [{"path": "", **module} for module in modules]


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


def _prompts(stated: Any, folder: Path) -> dict[str, str]:
    """Return the prompts by name, after a look at what the file holds."""
    prompts = stated or {}
    if not isinstance(prompts, dict) or not all(isinstance(p, str) for p in prompts.values()):
        raise ConfigError(
            f"The prompts in {folder / 'config_sentence_transformers.json'} are not texts by name "
            f"({str(stated)[:100]}); get the model again."
        )
    return prompts
