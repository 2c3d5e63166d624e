"""How large a text encoder is and what a caption costs in it, from its config.json alone."""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lift.cache.reader import EmbeddingCache
from lift.config import Part
from lift.errors import ConfigError, DataError
from lift.text.sentences import count_words
from lift.training.encoder_space import MINILM, EncoderSpace, model_file, model_of, read_space

TOKENS_PER_WORD = 4 / 3
"""Of English captions in the vocabularies of large models (49.4 words are 66 tokens)."""

SAMPLE = 20_000
"""Captions that are tokenised to know their length; more are represented by a random sample."""


@dataclass(frozen=True, kw_only=True)
class EncoderSize:
    """What decides the FLOPs of a text encoder.

    Attributes:
        name: for tables.
        parameters: in the matrices of its blocks, embeddings left out; None where unknown.
        layers: blocks.
        width: of all attention heads together.
        source: where the numbers come from, or why there are none.
    """

    name: str
    parameters: int | None
    layers: int = 0
    width: int = 0
    source: str = ""

    def flops(self, tokens: float) -> float | None:
        """Return FLOPs of one caption, nothing padded: 2 a parameter and token, plus attention.

        1 multiply-add = 2 FLOPs; attention counts every pair of tokens, as kernels compute it
        (half of that where a causal one skips the rest).
        """
        if self.parameters is None:
            return None
        return 2 * self.parameters * tokens + 4 * tokens**2 * self.width * self.layers


_MISTRAL_7B = (218_103_808 * 32, 32, 4096)
_KNOWN = {
    "nvidia/NV-Embed-v2": _MISTRAL_7B,  # its pooling block comes on top, not counted
    "mistralai/Mistral-7B-v0.1": _MISTRAL_7B,
    "intfloat/e5-mistral-7b-instruct": _MISTRAL_7B,
    "Salesforce/SFR-Embedding-Mistral": _MISTRAL_7B,
    "Salesforce/SFR-Embedding-2_R": _MISTRAL_7B,
    "Linq-AI-Research/Linq-Embed-Mistral": _MISTRAL_7B,
    "lmsys/vicuna-7b-v1.5": (202_375_168 * 32, 32, 4096),
    "Qwen/Qwen3-Embedding-0.6B": (15_728_640 * 28, 28, 2048),
    MINILM: (1_769_472 * 6, 6, 384),
}
"""Parameters, layers and width of models that need not be on disk."""

_GATED = ("llama", "mistral", "qwen", "gemma", "phi3", "modernbert", "nomic", "olmo", "smollm")
"""Families whose feed-forward layer has three matrices; others have two."""


def encoder_size(part: Part | None) -> EncoderSize:
    """Return the size of the encoder of a part in `text/encoders`; nothing is downloaded.

    An encoder behind a server, and one whose config.json is not on this disk, has None parameters
    and says why.
    """
    if part is None:
        return EncoderSize(name="unknown", parameters=None, source="the recipe names no encoder")
    if part.name == "hashing":
        return EncoderSize(name="hashing", parameters=0, source="a hash, no network")
    if part.name == "vectors":
        return EncoderSize(name="vectors", parameters=0, source="the rows exist already")
    if part.name == "api":
        why = "the model behind a server"
        return EncoderSize(name=str(part.options.get("model", "api")), parameters=None, source=why)
    model = model_of(part)
    path = model_file(model, "config.json", part.options.get("revision"))
    if path is not None:
        try:
            return size_from_config(json.loads(path.read_text(encoding="utf-8")), model)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} is not a model's config: {error}.") from error
    if model in _KNOWN:
        parameters, layers, width = _KNOWN[model]
        return EncoderSize(
            name=model, parameters=parameters, layers=layers, width=width, source="known model"
        )
    return EncoderSize(name=model, parameters=None, source="its config.json is not on this disk")


def size_from_config(config: Mapping[str, Any], name: str) -> EncoderSize:
    """Return the size that a transformers config.json describes.

    Read are the keys of BERT-like encoders, of decoders with grouped-query attention and of T5;
    a mixture of experts has no single number and gives None.
    """
    if isinstance(config.get("text_config"), Mapping):
        config = config["text_config"]
    family = str(config.get("model_type", ""))
    if any(config.get(key) for key in ("num_experts", "num_local_experts", "n_routed_experts")):
        return EncoderSize(name=name, parameters=None, source="a mixture of experts")
    hidden = _first(config, "hidden_size", "d_model", "dim", "n_embd")
    layers = _first(config, "num_hidden_layers", "num_layers", "n_layers", "n_layer")
    heads = _first(config, "num_attention_heads", "num_heads", "n_heads", "n_head")
    inner = _first(config, "intermediate_size", "d_ff", "hidden_dim", "n_inner")
    inner = inner or (4 * hidden if hidden else None)
    if not (hidden and layers and heads and inner):
        return EncoderSize(name=name, parameters=None, source="its config.json has other keys")
    width = heads * (_first(config, "head_dim", "d_kv") or hidden // heads)
    shared = _first(config, "num_key_value_heads") or heads
    attention = 2 * hidden * width + 2 * hidden * width * shared // heads
    gated = family.startswith(_GATED) or "gated" in str(config.get("feed_forward_proj", ""))
    block = attention + (3 if gated else 2) * hidden * inner
    return EncoderSize(
        name=name, parameters=layers * block, layers=layers, width=width, source="config.json"
    )


@dataclass(frozen=True, kw_only=True)
class CaptionLengths:
    """How many captions there are and how long.

    Attributes:
        count: distinct captions.
        mean, longest: tokens the encoder reads, special tokens included, after its cap.
        source: how the lengths were found, for the table.
    """

    count: int
    mean: float
    longest: int
    source: str = "given"

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < self.mean <= self.longest:
            raise ConfigError(
                f"Captions need a count above 0 and a mean length between 0 and the longest, not "
                f"count={self.count}, mean={self.mean}, longest={self.longest}."
            )


def lengths_in_cache(cache: EmbeddingCache, *, cap: int | None = None) -> CaptionLengths:
    """Return the lengths that a cache's columns give, cut at `cap`, else at the space's own."""
    total, longest, count = 0, 0, 0
    most = cap or cache.space.max_tokens
    for number in range(len(cache.shards)):
        whole = cache.view(number).tokens
        cut = whole.clip(max=most) if most else whole
        total += int(cut.sum())
        longest = max(longest, int(cut.max(initial=0)))
        count += len(cut)
    if not total:
        raise DataError(f"The cache {cache.folder} has no row, or no token counts; give numbers.")
    return CaptionLengths(count=count, mean=total / count, longest=longest, source="the cache")


def lengths_of_texts(
    texts: Iterable[str],
    part: Part | None,
    *,
    count: int | None = None,
    seed: int = 0,
    space: EncoderSpace | None = None,
) -> CaptionLengths:
    """Return the lengths of captions, by the encoder's tokenizer where it is on this disk.

    Prompt and an appended EOS are counted, and texts are cut at the encoder's cap, where these are
    known. Without the tokenizer, tokens are estimated from words (4/3 a word, and 2). Above 20,000
    captions a random sample, the same for one seed, stands for all; `source` says all of this.

    Args:
        texts: the captions, read once.
        part: the encoder.
        count: distinct captions, where known; else the number of texts.
        seed: of the sample.
        space: of the encoder; None reads it (see `read_space`).

    Raises:
        DataError: no texts.
    """
    dice = random.Random(seed)
    kept: list[str] = []
    seen = 0
    for seen, text in enumerate(texts, 1):
        if len(kept) < SAMPLE:
            kept.append(text)
        elif (at := dice.randrange(seen)) < SAMPLE:
            kept[at] = text
    if not kept:
        raise DataError("There are no captions to count; name a source that has some.")
    space = space or read_space(part)
    tokens, how = _token_counts(kept, part, space)
    if (cap := space.max_tokens) is not None:
        if cut := sum(length > cap for length in tokens):
            how += f", {cut / len(tokens):.2%} cut at {cap:,}"
        tokens = [min(cap, length) for length in tokens]
    if seen > len(kept):
        how += f", {len(kept):,} of {seen:,} captions drawn"
    mean = sum(tokens) / len(tokens)
    return CaptionLengths(count=count or seen, mean=mean, longest=max(tokens), source=how)


def _token_counts(
    texts: list[str], part: Part | None, space: EncoderSpace
) -> tuple[list[int], str]:
    path, revision = None, part.options.get("revision") if part else None
    if part is not None and part.name not in ("hashing", "vectors", "api"):
        path = model_file(model_of(part), "tokenizer.json", revision)
    if path is None or importlib.util.find_spec("tokenizers") is None:
        how = "estimated from words, the tokenizer is not on this disk"
        asked = count_words(space.prompt)
        return [round((asked + count_words(text)) * TOKENS_PER_WORD) + 2 for text in texts], how
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    settings = path.with_name("tokenizer_config.json")
    end = _eos(tokenizer, settings.read_bytes() if settings.is_file() else b"{}")
    lengths: list[int] = []
    for start in range(0, len(texts), 1_000):
        batch = [space.prompt + text for text in texts[start : start + 1_000]]
        for found in tokenizer.encode_batch(batch):
            missing = space.appends_eos and found.ids[-1:] != [end]
            lengths.append(max(1, len(found.ids) + missing))
    return lengths, "the encoder's tokenizer"


def _eos(tokenizer: Any, settings: bytes) -> int | None:
    """Return the number of the EOS token that tokenizer_config.json names."""
    try:
        stated = json.loads(settings).get("eos_token")
    except (ValueError, AttributeError):
        return None
    text = stated.get("content") if isinstance(stated, dict) else stated
    return tokenizer.token_to_id(text) if isinstance(text, str) else None


def _first(config: Mapping[str, Any], *names: str) -> int | None:
    """Return the first of these keys that holds a whole number above 0."""
    values = (config.get(name) for name in names)
    return next((v for v in values if isinstance(v, int) and v > 0), None)
