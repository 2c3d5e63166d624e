"""Networks of transformers from folders: found, read alone, their shape as plain values."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lift import plugins
from lift.errors import ConfigError
from lift.text.loading import fault_of

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
READ = ("config.json", "*.safetensors", "model.safetensors.index.json")
"""Files that a network is loaded from."""

_NOT_KEPT = ("auto_map", "quantization_config", "architectures", "transformers_version", "dtype")


def found_folder(
    model: str,
    revision: str | None,
    *,
    wanted_by: str,
    extra: str,
    files: Sequence[str],
    unknown: str,
) -> Path:
    """Return the folder with a model's files, fetched from the hub where it is none.

    Args:
        model: a folder, or an id of the hub.
        revision: branch, tag or commit of a hub model.
        wanted_by: the part's name, for messages.
        extra: of lift-align, that brings the hub's client.
        files: patterns of what is fetched.
        unknown: the message where there is no such model, with `{}` for the reason.

    Raises:
        ConfigError: no such model, or one without weights in safetensors.
        MissingPackage: huggingface_hub is needed and not installed.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        plugins.require("huggingface_hub", extra, wanted_by)
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(model, revision=revision, allow_patterns=[*files]))
        except Exception as error:
            raise ConfigError(unknown.replace("{}", fault_of(error))) from error
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise ConfigError(
            f"{wanted_by}: {model!r} has no weights in safetensors ({WEIGHTS[0]}); other "
            "formats can run code, so they are not read."
        )
    return folder


@contextmanager
def alone(folder: Path, files: Sequence[str] = READ) -> Iterator[Path]:
    """Yield a folder with links to shape and weights: adapters and code beside them go unseen."""
    with tempfile.TemporaryDirectory() as other:
        for pattern in files:
            for file in folder.glob(pattern):
                try:
                    (Path(other) / file.name).symlink_to(file.resolve())
                except OSError:  # a file system, or a user of Windows, without links
                    shutil.copyfile(file, Path(other) / file.name)
        yield Path(other)


def values_of(file: Path, wanted_by: str) -> dict[str, Any]:
    """Return the JSON object in a model's file. Raises ConfigError."""
    try:
        values = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{wanted_by}: {file} can't be read ({error}); get the model again."
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(f"{wanted_by}: {file} is no JSON object.")
    return values


def plain(values: Any) -> Any:
    """Return a shape without what could fetch code, or a kernel of the hub."""
    if isinstance(values, Mapping):
        return {
            name: plain(value)
            for name, value in values.items()
            if not name.startswith("_") and "implementation" not in name and name not in _NOT_KEPT
        }
    return [plain(value) for value in values] if isinstance(values, list | tuple) else values


def shape_values(shape: Any) -> dict[str, Any]:
    """Return the plain values from which `AutoConfig.for_model` makes a shape again."""
    values = json.loads(shape.to_json_string(use_diff=True))
    return {**plain(values), "model_type": shape.model_type}
