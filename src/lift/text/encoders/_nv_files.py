"""Read a folder of NV-Embed: sizes of the network, tokenizer, weights; nothing in it is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lift.errors import ConfigError
from lift.text.encoders._json_files import read_json
from lift.text.encoders._latent_attention import NVEmbedNetwork, Sizes
from lift.text.encoders._tokens import Tokenised

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"

_PUBLISHED = {
    "model_type": "nvembed",
    "padding_side": "right",
    "is_mask_instruction": True,
    "add_pad_token": True,
    "add_eos": True,
    "mask_type": "b",
}
"""What nvidia/NV-Embed-v2's config.json says and this code does; another value is refused."""

_WHOLE_NUMBERS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
)
_AT_ONCE = 1_024
"""Texts for one call of the tokenizer, whose results are larger than the ids that are kept."""


def read_sizes(folder: Path) -> Sizes:
    """Return the sizes in a model folder's config.json.

    The published file leaves the pooler's sizes to defaults that stand in its Python code (512
    latents, 8 heads of 4096); the same defaults hold here.

    Raises:
        ConfigError: no such file, another kind of model, or a value that this code does not do.
    """
    path = folder / "config.json"
    config = read_json(path)
    if not config:
        raise ConfigError(f"{folder} holds no NV-Embed: config.json is not there.")
    for name, expected in _PUBLISHED.items():
        found = config.get(name, expected if name != "model_type" else None)
        if found != expected:
            raise ConfigError(
                f"{path} says {name}={found!r}, but the encoder nv_embed computes what "
                f"nvidia/NV-Embed-v2 does, {name}={expected!r}; use its files."
            )
    text, pooler = config.get("text_config"), config.get("latent_attention_config")
    text, pooler = (x if isinstance(x, dict) else {} for x in (text, pooler))
    decoder = _decoder_arguments(text, path)
    width = decoder["hidden_size"]
    for name in ("hidden_dim", "latent_dim"):
        if pooler.get(name, 4096) != width:
            raise ConfigError(
                f"{path} says latent_attention_config.{name}={pooler.get(name, 4096)!r}, but the "
                f"decoder's states have {width} numbers; both have to be equal."
            )
    return Sizes(
        decoder=decoder,
        latents=_whole(pooler, "num_latents_value", path, 512),
        heads=_whole(pooler, "num_cross_heads", path, 8),
        head_width=_whole(pooler, "cross_dim_head", path, 4096),
        normalised=bool(pooler.get("output_normalize", True)),
    )


def _decoder_arguments(text: dict[str, Any], path: Path) -> dict[str, Any]:
    if text.get("rope_scaling"):
        raise ConfigError(
            f"{path} scales its rotary positions ({text['rope_scaling']!r}), which the encoder "
            "nv_embed does not do; use the files of nvidia/NV-Embed-v2."
        )
    rope = text.get("rope_parameters") or {"rope_theta": text.get("rope_theta")}
    for name, value in (("rms_norm_eps", text.get("rms_norm_eps")), *rope.items()):
        if name in ("rms_norm_eps", "rope_theta") and not isinstance(value, int | float):
            raise ConfigError(f"{path} lacks the number text_config.{name}; get the model again.")
    found = {name: _whole(text, name, path) for name in _WHOLE_NUMBERS}
    if isinstance(text.get("head_dim"), int):
        found["head_dim"] = text["head_dim"]
    return {
        **found,
        "rms_norm_eps": float(text["rms_norm_eps"]),
        "hidden_act": text.get("hidden_act", "silu"),
        "rope_parameters": {"rope_type": "default", **rope},
        # The original prepares a mask of padding alone and gives it to every layer, so the window
        # of 4,096 tokens that its file inherits from Mistral is not in force.
        "sliding_window": None,
        "attention_dropout": 0.0,
        "use_cache": False,
        "attn_implementation": "sdpa",
    }


def _whole(values: dict[str, Any], name: str, path: Path, default: int | None = None) -> int:
    found = values.get(name, default)
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ConfigError(
            f"{path} says {name}={found!r} where a positive whole number is needed; get the model "
            "again."
        )
    return found


class Ids:
    """Turns cleaned texts into ids as the original does: BOS, instruction and text, EOS, then cut.

    The original writes EOS behind the text before it cuts, so a text that is cut ends without it.

    tokenizer.json is read as it is: transformers 5 would build parts of a Llama tokenizer anew.

    Attributes:
        eos: id of the last token, which also fills up batches (masked there).
        instruction: tokens of the instruction alone. As many positions from the first, BOS
            included, are left out of the mean.
    """

    def __init__(self, folder: Path, *, instruction: str, max_tokens: int) -> None:
        """Read the tokenizer of a folder.

        Raises:
            ConfigError: no tokenizer there, no EOS or BOS in it, or a cap within the instruction.
        """
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ConfigError(f"{folder} has no tokenizer.json; get the model's files again.")
        try:
            self._tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # tokenizers raises nothing narrower
            raise ConfigError(
                f"{path} is not a tokenizer ({' '.join(str(error).split())[:200]}); get the "
                "model's files again."
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        config = read_json(folder / "tokenizer_config.json")
        if config.get("add_eos_token") or not config.get("add_bos_token", True):
            raise ConfigError(
                f"{folder / 'tokenizer_config.json'} says add_bos_token="
                f"{config.get('add_bos_token', True)}, add_eos_token={config.get('add_eos_token')}"
                ", but nvidia/NV-Embed-v2 has true and false; use its files."
            )
        named = {**read_json(folder / "special_tokens_map.json"), **config}
        self._bos, self.eos = (self._special(named, name, folder) for name in ("bos", "eos"))
        self._text, self._cap = instruction, max_tokens
        self.instruction = len(self._plain([instruction])[0]) if instruction else 0
        if self.instruction >= max_tokens - 2:
            raise ConfigError(
                f"text/encoders/nv_embed: max_tokens={max_tokens} leaves no room for text beside "
                f"an instruction of {self.instruction} tokens; give at least "
                f"{self.instruction + 3}."
            )

    def __call__(self, texts: Sequence[str]) -> Tokenised:
        """Return the ids of `texts`, every text tokenised once."""
        ids: list[list[int]] = []
        tokens = np.empty(len(texts), np.int32)
        for start in range(0, len(texts), _AT_ONCE):
            some = [self._text + text for text in texts[start : start + _AT_ONCE]]
            for body in self._plain(some):
                whole = [self._bos, *body, self.eos]
                tokens[len(ids)] = len(whole)
                ids.append(whole[: self._cap])
        return Tokenised(ids, tokens, tokens > self._cap)

    def _plain(self, texts: list[str]) -> list[list[int]]:
        found = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def _special(self, named: Mapping[str, Any], name: str, folder: Path) -> int:
        word = named.get(f"{name}_token")
        word = word.get("content") if isinstance(word, dict) else word
        found = self._tokenizer.token_to_id(word) if isinstance(word, str) else None
        if found is None:
            raise ConfigError(
                f"The tokenizer in {folder} has no {name.upper()} token ({name}_token={word!r}), "
                "which NV-Embed puts around every text; get the model's files again."
            )
        return found


def load_network(
    folder: Path, sizes: Sizes, dtype: torch.dtype, device: torch.device
) -> NVEmbedNetwork:
    """Return the network with the weights of a folder, frozen.

    Names and shapes are compared before anything is read. Then one tensor at a time goes from its
    file to the device and to `dtype`, so beside the weights only one tensor needs memory.

    Raises:
        ConfigError: no weights, a damaged file, or tensors that are missing, unexpected or of
            another shape.
    """
    from safetensors import SafetensorError, safe_open

    with torch.device("meta"):
        network = NVEmbedNetwork(sizes)
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    files = _weight_files(folder)
    try:
        _require_tensors(wanted, files, folder)
        for file in files:
            with safe_open(file, framework="pt", device=str(device)) as shard:
                tensors = {name: shard.get_tensor(name).to(dtype) for name in shard.keys()}
            network.load_state_dict(tensors, strict=False, assign=True)
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f"The weights in {folder} can't be read ({' '.join(str(error).split())[:200]}); get "
            "the model's files again."
        ) from error
    # Frequencies are in no file, and on the meta device they have no values.
    decoder = network.embedding_model
    decoder.rotary_emb = type(decoder.rotary_emb)(config=decoder.config).to(device)
    return network.eval().requires_grad_(False)


def _weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that the index names, else the only one."""
    named = read_json(folder / INDEX).get("weight_map")
    names = sorted(set(named.values())) if isinstance(named, dict) else [WHOLE]
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise ConfigError(f"{folder / INDEX} names the file {name!r}; get the model again.")
        if not (folder / name).is_file():
            raise ConfigError(
                f"The weights in {folder} are not whole: {name} is not there; get the model's "
                "safetensors files."
            )
    return [folder / name for name in names]


def _require_tensors(wanted: Mapping[str, tuple], files: list[Path], folder: Path) -> None:
    """Raise ConfigError unless the files hold exactly the wanted names and shapes, each once."""
    from safetensors import safe_open

    found: dict[str, tuple] = {}
    wrong: dict[str, list[str]] = {"missing": [], "unexpected": [], "twice": [], "shape": []}
    for file in files:
        with safe_open(file, framework="pt") as shard:
            for name in shard.keys():
                if name in found:
                    wrong["twice"].append(name)
                found[name] = tuple(shard.get_slice(name).get_shape())
    wrong["missing"] = [name for name in wanted if name not in found]
    wrong["unexpected"] = [name for name in found if name not in wanted]
    for name in wanted.keys() & found.keys():
        if wanted[name] != found[name]:
            wrong["shape"].append(f"{name} {found[name]} instead of {wanted[name]}")
    said = [
        f"{len(names)} {kind} ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in wrong.items()
        if names
    ]
    if said:
        raise ConfigError(
            f"The weights in {folder} are not those of the network in its config.json: tensors "
            f"{'; '.join(said)}; get all files of one revision."
        )
