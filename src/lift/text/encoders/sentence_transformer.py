"""Any sentence-transformers or transformers text model: a local folder, or an id of the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift import plugins
from lift.config import Part, to_dict
from lift.errors import ConfigError
from lift.text.encoders._layout import content_hash, read_layout
from lift.text.encoders._sentence import SentenceEncoder, load_model
from lift.text.encoders._training_data import seen_by
from lift.text.space import TextSpace

SAME_VECTORS = frozenset({"trust_remote_code", "saw"})
"""Options that say how to load or label a model: they are in no fingerprint."""

_NAME = "text/encoders/sentence_transformer"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        model: a folder on disk, else an id of the hub ("organisation/name").
        revision: branch, tag or commit on the hub; the space always holds the commit.
        prompt: text put before every caption; None takes the model's own default prompt.
        max_tokens: texts are cut here; None takes the model's own cap.
        trust_remote_code: whether Python code that comes with the model may run; it is never
            stored, and counts only in the user's own words (see `build_encoder`).
        saw: benchmarks whose captions the model was trained on; None takes what is known of it.
    """

    model: str
    revision: str | None = None
    prompt: str | None = None
    max_tokens: int | None = None
    trust_remote_code: bool = False
    saw: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(f"{_NAME}: max_tokens must be positive, not {self.max_tokens}.")


def space(config: Config) -> TextSpace:
    """Return the space of these options, from the model's JSON files.

    A local folder is known by the hash of its content, so it has to be there whole. Of a hub
    model only the JSON files are fetched. sentence-transformers need not be installed.

    Raises:
        ConfigError: no such folder or hub model, or a layout that is not understood.
        MissingPackage: huggingface_hub is needed and not installed.
    """
    return _space(config, *_locate(config))


def _space(config: Config, folder: Path, model: str, revision: str) -> TextSpace:
    layout = read_layout(folder, config.trust_remote_code)
    cap = config.max_tokens or layout.max_tokens
    if cap is None:
        raise ConfigError(
            f"{_NAME}: the files of {config.model!r} name no token cap; give max_tokens."
        )
    return TextSpace(
        encoder="sentence-transformers",
        model=model,
        revision=revision,
        prompt=layout.prompt if config.prompt is None else config.prompt,
        pooling=layout.pooling,
        max_tokens=cap,
        normalised=layout.normalised,
        dimensions=layout.dimensions,
    )


def build(config: Config, device: str = "auto") -> SentenceEncoder:
    """Return the encoder, its weights loaded onto the device.

    Raises:
        ConfigError: see `space`; also a model that does not load.
        MissingPackage: sentence-transformers is not installed.
    """
    plugins.require("sentence_transformers", "text", _NAME)
    folder, name, revision = _locate(config)
    found = _space(config, folder, name, revision)
    local = name == "local"
    source, commit = (str(folder), None) if local else (name, revision)
    model, where = load_model(
        source, device, revision=commit, trust_remote_code=config.trust_remote_code
    )
    saw = seen_by(name, folder) if config.saw is None else config.saw
    # What is stored has to find the same model from another folder, or after a branch moved.
    exact = {**to_dict(config), "model": source, "revision": commit}
    del exact["trust_remote_code"]
    part = Part("text/encoders", "sentence_transformer", exact)
    return SentenceEncoder(model, found, part, saw, where)


def _locate(config: Config) -> tuple[Path, str, str]:
    """Return (folder with the JSON files, name of the model, its revision)."""
    folder = Path(config.model).expanduser()
    if folder.is_dir():
        if config.revision is not None:
            raise ConfigError(
                f"{_NAME}: revision={config.revision!r} is for hub models, but {config.model!r} "
                "is a folder; leave it out."
            )
        return folder.resolve(), "local", content_hash(folder.resolve())
    plugins.require("huggingface_hub", "text", _NAME)
    from huggingface_hub import snapshot_download

    try:
        snapshot = snapshot_download(
            config.model, revision=config.revision, allow_patterns=["*.json"]
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{_NAME}: {config.model!r} is neither a folder nor a hub model that can be reached "
            f"from here ({' '.join(str(error).split())[:200]}); check the name, or download it "
            "and give its folder."
        ) from error
    return Path(snapshot), config.model, Path(snapshot).name
