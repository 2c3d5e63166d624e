"""Any sentence-transformers or transformers text model: a local folder, or an id of the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from lift import plugins
from lift.config import Part, to_dict
from lift.errors import ConfigError, unknown
from lift.text.encoders._layout import Layout, read_layout
from lift.text.encoders._own_code import OWN
from lift.text.encoders._sentence import SentenceEncoder, Weights, load_model
from lift.text.encoders._training_data import seen_by, usable_prefixes
from lift.text.encoders._where import LOCAL, locate, require_sentencepiece
from lift.text.space import TextSpace

SAME_VECTORS = frozenset(
    {"trust_remote_code", "ignore_remote_code", "saw", "matryoshka", "weights"}
)
"""Options that say how to load or label a model, or that only round: they are in no fingerprint.
The two about code do nothing unless a model's files name code; then the pooling says whose ran."""

_NAME = "text/encoders/sentence_transformer"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        model: a folder on disk, else an id of the hub ("organisation/name").
        revision: branch, tag or commit on the hub; the space always holds the commit.
        prompt: text put before every caption; None takes the model's own default prompt.
        prompt_name: the same by its name among the model's prompts ("query").
        max_tokens: texts are cut here; None takes the model's own cap.
        dimensions: keep the first values of every row, scaled to unit length again where the
            model scales; None keeps all. Only for models that were trained for it.
        matryoshka: whether prefixes of the model's rows are usable; None takes what is known of
            it. True is the word of somebody who measured what a prefix costs.
        weights: precision in which the network is held and computes, whatever `encode` is asked
            for. Half precision takes half the memory and rounds rows: MiniLM's stay within a
            cosine of 0.99994 (bfloat16) and 0.999998 (float16).
        trust_remote_code: whether Python code that comes with the model may run; it is never
            stored, and counts only in the user's own words (see `build_encoder`).
        ignore_remote_code: take the library's own classes where the model's files name code that
            comes with it; the rows are another space ("library-code") than with that code
            ("own-code").
        saw: benchmarks whose captions the model was trained on; None takes what is known of it.
    """

    model: str
    revision: str | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    max_tokens: int | None = None
    dimensions: int | None = None
    matryoshka: bool | None = None
    weights: Weights = "float32"
    trust_remote_code: bool = False
    ignore_remote_code: bool = False
    saw: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(f"{_NAME}: max_tokens must be positive, not {self.max_tokens}.")
        if self.prompt is not None and self.prompt_name is not None:
            raise ConfigError(
                f"{_NAME}: prompt={self.prompt!r} and prompt_name={self.prompt_name!r} both say "
                "what to put before a caption; give one of them."
            )
        if self.weights not in get_args(Weights):
            raise unknown(f"weights of {_NAME}", self.weights, get_args(Weights))


def space(config: Config) -> TextSpace:
    """Return the space of these options, from the model's JSON files.

    A local folder is known by the hash of its content, so it has to be there whole. Of a hub
    model only the JSON files are fetched. sentence-transformers need not be installed.

    Raises:
        ConfigError: no such folder or hub model, or a layout that is not understood.
        MissingPackage: huggingface_hub is needed and not installed.
    """
    folder, model, revision = locate(config.model, config.revision, _NAME)
    layout = _layout(config, folder, model)
    return _space(config, layout, model, revision, _matryoshka(config, model, folder))


def _layout(config: Config, folder: Path, model: str) -> Layout:
    trusted, ignored = config.trust_remote_code, config.ignore_remote_code
    return read_layout(folder, model=model, trusted=trusted, ignored=ignored)


def _space(
    config: Config, layout: Layout, model: str, revision: str, matryoshka: bool
) -> TextSpace:
    cap = config.max_tokens or layout.max_tokens
    if cap is None:
        raise ConfigError(
            f"{_NAME}: the files of {config.model!r} name no token cap; give max_tokens."
        )
    prefix = _prefix(config, layout, matryoshka)
    return TextSpace(
        encoder="sentence-transformers",
        model=model,
        revision=revision,
        prompt=layout.prompt(config.prompt_name) if config.prompt is None else config.prompt,
        pooling=layout.pooling if prefix is None else f"{layout.pooling} > prefix{prefix}",
        max_tokens=cap,
        normalised=layout.normalised,
        dimensions=prefix or layout.dimensions,
    )


def _prefix(config: Config, layout: Layout, matryoshka: bool) -> int | None:
    """Return the values kept of a row, None for all."""
    kept = config.dimensions
    if kept is None or kept == layout.dimensions:
        return None
    if not 1 <= kept < layout.dimensions:
        raise ConfigError(
            f"{_NAME}: dimensions must be from 1 to {layout.dimensions}, the length of a row of "
            f"{config.model!r}, not {kept}."
        )
    if not matryoshka:
        raise ConfigError(
            f"{_NAME}: {config.model!r} is not known to be trained so that the first {kept} of "
            f"{layout.dimensions} values are a usable row; leave dimensions out, or give "
            "matryoshka=true if you know better."
        )
    return kept


def _matryoshka(config: Config, model: str, folder: Path) -> bool:
    return usable_prefixes(model, folder) if config.matryoshka is None else config.matryoshka


def build(config: Config, device: str = "auto") -> SentenceEncoder:
    """Return the encoder, its weights loaded onto the device.

    Raises:
        ConfigError: see `space`; also a model that does not load.
        MissingPackage: sentence-transformers is not installed, or sentencepiece where the
            tokenizer is one of its models.
    """
    plugins.require("sentence_transformers", "text", _NAME)
    folder, name, revision = locate(config.model, config.revision, _NAME)
    layout = _layout(config, folder, name)
    require_sentencepiece(folder, _NAME)
    matryoshka = _matryoshka(config, name, folder)
    found = _space(config, layout, name, revision, matryoshka)
    local = name == LOCAL
    source, commit = (str(folder), None) if local else (name, revision)
    model, where = load_model(
        source,
        device,
        weights=config.weights,
        revision=commit,
        trust_remote_code=layout.code == OWN,
    )
    # What is stored has to find the same model from another folder, or after a branch moved.
    exact = {**to_dict(config), "model": source, "revision": commit}
    del exact["trust_remote_code"]
    return SentenceEncoder(
        model,
        found,
        Part("text/encoders", "sentence_transformer", exact),
        seen_by(name, folder) if config.saw is None else config.saw,
        where,
        matryoshka=matryoshka,
        prefix_of=None if found.dimensions == layout.dimensions else layout.dimensions,
        weights=config.weights,
    )
