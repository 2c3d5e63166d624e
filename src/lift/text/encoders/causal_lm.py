"""Any decoder of transformers (Llama, Mistral, Qwen, ...) as a text encoder, known ones by name."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift import plugins
from lift.config import Part, to_dict
from lift.errors import ConfigError, unknown
from lift.text.encoders._decoder import DecoderEncoder, Weights, load_decoder
from lift.text.encoders._json_files import read_json, token_limit, whole_number
from lift.text.encoders._own_code import OWN, code_step
from lift.text.encoders._presets import PRESETS, Options, Pooling, seen_by, usable_prefixes
from lift.text.encoders._tokens import Side, Tokens, load_tokenizer
from lift.text.encoders._where import LOCAL, locate, require_sentencepiece
from lift.text.space import TextSpace
from lift.world import choose_device

SAME_VECTORS = frozenset({"padding", "weights", "trust_remote_code", "ignore_remote_code", "saw"})
"""Options that only round, or say how to load or label a model: they are in no fingerprint.
The two about code do nothing unless a model's files name code; then the pooling says whose ran."""

_NAME = "text/encoders/causal_lm"

_POOLINGS = {"last": "lasttoken", "mean": "mean", "weightedmean": "weightedmean"}
"""Names in the space: those of sentence-transformers."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options; None takes the preset's value, and without a preset what each line says.

    Attributes:
        model: a folder on disk, else an id of the hub; needed without a preset.
        revision: branch, tag or commit on the hub; the space always holds the commit.
        preset: options of a known model: vicuna, mistral, e5_mistral, sfr, sfr2, linq,
            qwen3_embedding. What it sets is in the fingerprint, its name is not.
        pooling: "last" takes the last token (its EOS, if one is appended), "mean" all tokens that
            the network reads, prompt and special tokens included, "weightedmean" these with
            weights 1, 2, 3, ... (Muennighoff 2022, SGPT). None: "last".
        padding: where batches are padded; changes rounding alone. None: "right".
        append_eos: end every text with EOS, after any cut; a tokenizer that does it already is
            left alone. None: false, which leaves the ends to the tokenizer.
        prompt: text before every caption, an instruction for example. None: "".
        layer: which of the network's hidden states: 0 are the token embeddings, k what block k
            puts out (before the final norm), the number of blocks or -1 the last one with the
            final norm, negative ones count from there. None: -1.
        normalised: scale rows to unit length. None: true.
        max_tokens: texts are cut here, prompt and special tokens included. None: what tokenizer
            and network allow.
        weights: number format in which the weights are kept, "auto" for that of the file. In half
            precision a model of 7 billion parameters takes 15 GB instead of 29, and computes in
            it; pooling is in float32 always.
        trust_remote_code: whether Python code that comes with the model may run; it is never
            stored, and counts only in the user's own words (see `build_encoder`).
        ignore_remote_code: take the library's own classes where the model's files name code that
            comes with it; the rows are another space ("library-code") than with that code
            ("own-code").
        saw: benchmarks whose captions the model was trained on. None: what is known of it.
    """

    model: str | None = None
    revision: str | None = None
    preset: str | None = None
    pooling: Pooling | None = None
    padding: Side | None = None
    append_eos: bool | None = None
    prompt: str | None = None
    layer: int | None = None
    normalised: bool | None = None
    max_tokens: int | None = None
    weights: Weights = "float32"
    trust_remote_code: bool = False
    ignore_remote_code: bool = False
    saw: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.preset is not None and self.preset not in PRESETS:
            raise unknown(f"preset of {_NAME}", self.preset, PRESETS)
        if self.preset is None and self.model is None:
            raise ConfigError(
                f"{_NAME} needs model=FOLDER_OR_HUB_ID, or a preset ({', '.join(PRESETS)})."
            )
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(f"{_NAME}: max_tokens must be positive, not {self.max_tokens}.")


def space(config: Config) -> TextSpace:
    """Return the space of these options, from the model's JSON files.

    A local folder is known by the hash of its content, so it has to be there whole. Of a hub
    model only the JSON files are fetched. transformers need not be installed.

    Raises:
        ConfigError: no such folder or hub model, not a decoder, a layer or cap it doesn't have,
            or code of its own about which nothing was said.
        MissingPackage: huggingface_hub is needed and not installed.
    """
    options = _options(config)
    return _space(config, options, *locate(options.model, config.revision, _NAME))


def _options(config: Config) -> Options:
    """Return the preset's options with the user's own on top."""
    model = str(config.model)
    base = PRESETS[config.preset] if config.preset else Options(model=model, saw=seen_by(model))
    own = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(Config)
        if hasattr(base, field.name) and getattr(config, field.name) is not None
    }
    return dataclasses.replace(base, **own)


def _space(config: Config, options: Options, folder: Path, model: str, revision: str) -> TextSpace:
    network = _network(folder)
    width = _first(network, "hidden_size", "n_embd", "d_model", "dim")
    if width is None:
        raise ConfigError(f"{folder / 'config.json'} does not say how long the rows are.")
    steps = [_POOLINGS[options.pooling]]
    if options.append_eos:
        steps.append("eos")
    if (layer := _layer(config.layer, network, options.model)) is not None:
        steps.append(f"layer{layer}")
    if (code := _code(config, folder, model)) is not None:
        steps.append(code)
    return TextSpace(
        encoder="causal-lm",
        model=model,
        revision=revision,
        prompt=options.prompt,
        pooling=" > ".join(steps),
        max_tokens=_cap(options, network, read_json(folder / "tokenizer_config.json")),
        normalised=options.normalised,
        dimensions=width,
    )


def _code(config: Config, folder: Path, model: str) -> str | None:
    """Return whose code runs, None where only the library's can."""
    trusted, ignored = config.trust_remote_code, config.ignore_remote_code
    return code_step([folder], model=model, trusted=trusted, ignored=ignored)


def _layer(wanted: int | None, network: dict[str, Any], model: str) -> int | None:
    """Return the chosen hidden state counted from the embeddings, None for the last one."""
    if wanted is None:
        return None
    blocks = _first(network, "num_hidden_layers", "n_layer", "num_layers", "n_layers")
    if blocks is None or not -blocks - 1 <= wanted <= blocks:
        raise ConfigError(
            f"{_NAME}: layer={wanted}, but {model!r} has {blocks or 'an unknown number of'} "
            f"blocks; give 0 (token embeddings) to {blocks or 'their number'}, or count from -1."
        )
    counted = wanted if wanted >= 0 else wanted + blocks + 1
    return None if counted == blocks else counted


def _cap(options: Options, network: dict[str, Any], tokenizer: dict[str, Any]) -> int:
    """Return the token cap: the one that was given, else the smaller of the model's own."""
    positions = _first(
        network, "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"
    )
    if options.max_tokens is not None:
        if positions is not None and options.max_tokens > positions:
            raise ConfigError(
                f"{_NAME}: max_tokens is {options.max_tokens}, but the model {options.model!r} has "
                f"{positions} positions; give max_tokens={positions} or less."
            )
        return options.max_tokens
    limits = [token_limit(positions), token_limit(tokenizer.get("model_max_length"))]
    known = [limit for limit in limits if limit is not None]
    if not known:
        raise ConfigError(
            f"{_NAME}: the files of {options.model!r} name no token cap; give max_tokens."
        )
    return min(known)


def _network(folder: Path) -> dict[str, Any]:
    """Return the part of config.json that describes the decoder."""
    values = read_json(folder / "config.json")
    if not values:
        raise ConfigError(f"{folder} holds no model: config.json is not there.")
    if values.get("is_encoder_decoder"):
        raise ConfigError(
            f"{_NAME}: the model in {folder} is an encoder with a decoder "
            f"({values.get('model_type')!r}); use the encoder sentence_transformer for it."
        )
    inner = values.get("text_config")
    return {**values, **inner} if isinstance(inner, dict) else values


def _first(values: dict[str, Any], *names: str) -> int | None:
    found = (whole_number(values.get(name)) for name in names)
    return next((number for number in found if number is not None), None)


def build(config: Config, device: str = "auto") -> DecoderEncoder:
    """Return the encoder, its weights loaded onto the device.

    Raises:
        ConfigError: see `space`; also a model that does not load whole, or a tokenizer without
            the EOS token that is wanted.
        MissingPackage: transformers is not installed, or sentencepiece where the tokenizer is
            one of its models.
    """
    plugins.require("transformers", "text", _NAME)
    options = _options(config)
    folder, name, revision = locate(options.model, config.revision, _NAME)
    found = _space(config, options, folder, name, revision)
    source, commit = (str(folder), None) if name == LOCAL else (name, revision)
    code = _code(config, folder, name) == OWN
    require_sentencepiece(folder, _NAME)
    # First what is quick to load: a wrong tokenizer is found before gigabytes are read.
    tokens = Tokens(
        load_tokenizer(
            source,
            revision=commit,
            trust_remote_code=code,
            as_filed=not code and (folder / "tokenizer.json").is_file(),
        ),
        prompt=options.prompt,
        max_tokens=found.max_tokens,
        append_eos=options.append_eos,
        wanted_by=f"{_NAME} ({options.model})",
    )
    where = choose_device(device)
    model = load_decoder(source, commit, weights=config.weights, trust_remote_code=code)
    # Spelled out: what is stored means the same after a preset changed or a branch moved.
    exact = {**to_dict(config), **to_dict(options), "model": source, "revision": commit}
    del exact["trust_remote_code"], exact["matryoshka"]
    return DecoderEncoder(
        model.to(where),
        tokens,
        found,
        Part("text/encoders", "causal_lm", exact),
        options,
        layer=_layer(config.layer, _network(folder), options.model),
        matryoshka=usable_prefixes(name, options),
    )
