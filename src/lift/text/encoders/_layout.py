"""Read from a model folder's JSON files what its space is, without weights or other packages."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift.errors import ConfigError, unknown
from lift.text.encoders._json_files import read_any_json, read_json, token_limit, whole_number
from lift.text.encoders._own_code import code_step

_TRUSTED_PACKAGE = "sentence_transformers."
_TRUSTED_ACTIVATION = "torch."

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
        code: whose code runs where the files name code of the model's own (see `code_step`).
    """

    pooling: str
    max_tokens: int | None
    normalised: bool
    dimensions: int
    prompts: dict[str, str]
    default_prompt: str | None
    code: str | None = None

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


def read_layout(
    folder: Path, *, model: str, trusted: bool = False, ignored: bool = False
) -> Layout:
    """Return the layout of a model folder.

    Args:
        folder: with the JSON files.
        model: a hub id, or "local".
        trusted: whether code that comes with the model, or is not sentence-transformers' own, may
            run.
        ignored: whether the library's classes are to stand in for such code.

    Raises:
        ConfigError: no model there, a module whose effect on a row is not known here, or code
            about which nothing was said.
    """
    config = read_json(folder / "config.json")
    modules = _modules(folder)
    if not config and not modules:
        raise ConfigError(
            f"{folder} holds no model: neither config.json nor modules.json is there."
        )
    steps: list[str] = []
    dimensions = _hidden_size(config)
    transformer = folder
    code = _code(folder, modules, model=model, trusted=trusted, ignored=ignored)
    for module in modules:
        kind = module["type"].rsplit(".", 1)[-1]
        values = _module_config(folder, module)
        if kind == "Transformer" or (not steps and "Transformer" in kind):
            transformer = folder / module["path"]
            dimensions = _hidden_size(read_json(transformer / "config.json")) or dimensions
        elif kind == "Pooling":
            modes = _pooling_modes(values, folder)
            width = values.get("embedding_dimension", values.get("word_embedding_dimension"))
            dimensions = (dimensions or whole_number(width) or 0) * len(modes)
            steps.append("+".join(modes))
        elif kind == "Dense":
            dimensions = whole_number(values.get("out_features")) or 0
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
    stated = read_json(folder / "config_sentence_transformers.json")
    default = stated.get("default_prompt_name")
    if not dimensions:
        raise ConfigError(f"The files in {folder} don't say how long the model's rows are.")
    named = [step for step in steps if step not in ("dropout", "normalize")]
    return Layout(
        pooling=" > ".join([*named, code] if code else named),
        max_tokens=_cap(transformer),
        normalised=[s for s in steps if s != "dropout"][-1:] == ["normalize"],
        dimensions=dimensions,
        prompts=_prompts(stated.get("prompts"), folder),
        default_prompt=default if isinstance(default, str) else None,
        code=code,
    )


def _module_config(folder: Path, module: dict[str, Any]) -> dict[str, Any]:
    return read_json(folder / module["path"] / "config.json") if module["path"] else {}


def _code(
    folder: Path, modules: list[dict[str, Any]], *, model: str, trusted: bool, ignored: bool
) -> str | None:
    """Return whose code runs, of modules, of their networks and of what stands behind them."""
    types = [module["type"] for module in modules]
    activations = [
        str(_module_config(folder, module).get("activation_function", _TRUSTED_ACTIVATION))
        for module in modules
        if module["type"].endswith(".Dense")
    ]
    return code_step(
        {folder, *(folder / module["path"] for module in modules)},
        model=model,
        trusted=trusted,
        ignored=ignored,
        classes=[name for name in types if not name.startswith(_TRUSTED_PACKAGE)],
        # Untrusted, the library puts a Tanh in the place of any other.
        replaceable=[name for name in activations if not name.startswith(_TRUSTED_ACTIVATION)],
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
    """Return the files of the folder that loading may read, and all of its modules' folders.

    Python code counts wherever it is.
    """
    found = {path for path in folder.iterdir() if _may_be_read(path)}
    found |= set(folder.rglob("*.py"))
    for module in _modules(folder):
        if Path(module["path"]).parts:
            found |= set((folder / module["path"]).rglob("*"))
    return sorted(path for path in found if path.is_file())


def _may_be_read(path: Path) -> bool:
    """Return whether a file at the top of a model folder may decide what the model is."""
    suffix = path.suffix.lower()
    if path.name.startswith(".") or path.name in _NOT_READ or suffix in _NOT_READ_SUFFIXES:
        return False
    if path.name.startswith("pytorch_model") and suffix == ".bin":
        return not _reads_safetensors(path.parent)
    return suffix not in ("", ".txt") or path.stem.lower() not in _NOT_READ_STEMS


def _reads_safetensors(folder: Path) -> bool:
    """Return whether the older copy of the weights is left alone, beside a newer one."""
    whole = (folder / "model.safetensors").is_file()
    index = read_json(folder / "model.safetensors.index.json").get("weight_map")
    parts = set(map(str, index.values())) if isinstance(index, dict) else set()
    if not whole and not (parts and all((folder / part).is_file() for part in parts)):
        return False
    # Both files can ask for the older one after all.
    files = [folder / "config.json", folder / "sentence_bert_config.json"]
    asking = ("transformers_weights", "use_safetensors")
    return not any(word in str(read_json(file)) for file in files for word in asking)


def _modules(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of modules.json, [] where there is none."""
    modules = read_any_json(folder / "modules.json", [])
    if not isinstance(modules, list):
        raise ConfigError(
            f"{folder / 'modules.json'} does not hold a list of modules; get the model again."
        )
    for module in modules:
        named = isinstance(module, dict) and isinstance(module.get("type"), str)
        inside = module.get("path", "") if named else None
        if not isinstance(inside, str) or Path(inside).is_absolute() or ".." in Path(inside).parts:
            raise ConfigError(
                f"{folder / 'modules.json'} lists a module without type, or with a path that "
                f"leaves the folder ({module!r}); get the model again."
            )
    return [{"path": "", **module} for module in modules]


def _hidden_size(config: dict[str, Any]) -> int:
    inner = config.get("text_config")
    for source in (config, inner if isinstance(inner, dict) else {}):
        for name in ("hidden_size", "d_model", "dim", "n_embd"):
            if (found := whole_number(source.get(name))) is not None:
                return found
    return 0


def _pooling_modes(values: dict[str, Any], folder: Path) -> list[str]:
    modes = values.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in _POOLING_FLAGS.items() if values.get(flag)] or ["mean"]
    found = [modes] if isinstance(modes, str) else modes
    if not isinstance(found, list) or not all(isinstance(mode, str) for mode in found):
        raise ConfigError(
            f"The model in {folder} names its pooling as {modes!r}, which is neither a word nor a "
            "list of words; get the model again."
        )
    # Leaving the prompt out of the mean is another vector, hence another name.
    return found if values.get("include_prompt", True) else [f"{m}-no-prompt" for m in found]


def _cap(transformer: Path) -> int | None:
    """Return the token cap: of the module's own file, else the tokenizer's and the network's."""
    stated = read_json(transformer / "sentence_bert_config.json").get("max_seq_length")
    if (given := whole_number(stated)) is not None:
        return given
    limits = [
        token_limit(read_json(transformer / "tokenizer_config.json").get("model_max_length")),
        token_limit(read_json(transformer / "config.json").get("max_position_embeddings")),
    ]
    known = [limit for limit in limits if limit is not None]
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
