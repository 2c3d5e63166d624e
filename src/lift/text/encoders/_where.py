"""Find a model, as a folder on disk or on the hub, and say exactly which one it is."""

from __future__ import annotations

from pathlib import Path

from lift import plugins
from lift.errors import ConfigError
from lift.text.encoders._layout import content_hash

LOCAL = "local"
"""The name of a model that only its content identifies."""


def locate(model: str, revision: str | None, wanted_by: str) -> tuple[Path, str, str]:
    """Return (folder with the JSON files, name of the model, its revision).

    Args:
        model: a folder on disk, whose name becomes "local" and whose revision is the hash of its
            content; else an id of the hub, of which only the JSON files, the card and a
            vocabulary of sentencepiece are fetched.
        revision: branch, tag or commit on the hub; the commit is returned. None for folders.
        wanted_by: the encoder's name, for the messages ("text/encoders/causal_lm").

    Raises:
        ConfigError: no such folder or hub model, or a revision for a folder.
        MissingPackage: huggingface_hub is needed and not installed.
    """
    folder = _folder(model, wanted_by)
    if folder is not None:
        if revision is not None:
            raise ConfigError(
                f"{wanted_by}: revision={revision!r} is for hub models, but {model!r} "
                "is a folder; leave it out."
            )
        return folder.resolve(), LOCAL, content_hash(folder.resolve())
    plugins.require("huggingface_hub", "text", wanted_by)
    from huggingface_hub import snapshot_download

    try:
        snapshot = snapshot_download(
            model, revision=revision, allow_patterns=["*.json", "README.md", "*.model"]
        )
    except Exception as error:
        raise ConfigError(
            f"{wanted_by}: {model!r} is neither a folder nor a hub model that can be reached "
            f"from here ({' '.join(str(error).split())[:200]}); check the name, or download it "
            "and give its folder."
        ) from error
    return Path(snapshot), model, Path(snapshot).name


def _folder(model: str, wanted_by: str) -> Path | None:
    """Return the folder of that name, None where there is none."""
    try:
        folder = Path(model).expanduser()
        return folder if folder.is_dir() else None
    except (RuntimeError, OSError) as error:  # nobody's home; a name longer than a disk takes
        raise ConfigError(
            f"{wanted_by}: {model!r} can't be looked up ({error}); give a folder or a hub id."
        ) from error


def require_sentencepiece(folder: Path, wanted_by: str) -> None:
    """Raise MissingPackage if the only tokenizer in a folder is a model of sentencepiece."""
    if (folder / "tokenizer.json").is_file() or not any(folder.glob("*.model")):
        return
    for package in ("sentencepiece", "google.protobuf"):
        plugins.require(package, "text", wanted_by)
