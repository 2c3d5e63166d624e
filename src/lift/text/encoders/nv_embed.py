"""NV-Embed-v2 (4,096 dimensions), the paper's main text encoder, from its published weights.

Not yet compared with the published weights: nobody has run `runs/check_nv_embed.py` on them so far.
What is compared, in tests, is a small random model in the published layout with a naive float64
computation.

Native, because the model's own code needs transformers 4.42 and fails on 5 (mteb issues 3287 and
4334). Nothing but config.json, the tokenizer's JSON files and the safetensors files is read; code
that comes with a model never runs. The weights are under cc-by-nc-4.0: **no commercial use**, which
may extend to rows made with them.

Architecture (arXiv 2405.17428; nvidia/NV-Embed-v2's config.json; public ports of its code): Mistral
7B, each token sees all others; each token state (query) attends to 512 trained latents (keys and
values) with 8 heads of 4,096, then a GEGLU layer of four times the width, both with LayerNorm in
front (epsilon 1e-5) and a residual; the mean over tokens in float32, BOS and EOS included, the
instruction left out; unit length. 7.85 billion parameters: 31 GB of memory as float32, 16 GB as
half.

As in the original: captions get no instruction; EOS is put behind a text before it is cut, so a
text longer than the cap ends without EOS; and as many positions are left out of the mean as the
instruction alone has tokens, counted from BOS on.

Read in descriptions and never seen in the files themselves: that tokenizer_config.json asks for BOS
and not for EOS (other values are refused), that its tokenizer.json does what transformers 4.42 made
of it, and that rotary base and norm epsilon are Mistral's 10,000 and 1e-5 (they are read from
config.json).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float32

from lift import plugins
from lift.config import Part, to_dict
from lift.errors import ConfigError
from lift.text.encoder import EncodedTexts, batches, clean, default_token_budget
from lift.text.encoders._latent_attention import NVEmbedNetwork, Sizes
from lift.text.encoders._nv_files import Ids, load_network, read_sizes
from lift.text.encoders._tokens import pad
from lift.text.encoders._where import LOCAL, locate
from lift.text.probes import PROBES
from lift.text.space import TextSpace
from lift.world import Precision, choose_device

MODEL = "nvidia/NV-Embed-v2"
SAME_VECTORS = frozenset({"weights", "saw"})
"""Options that round or label rows: they are in no fingerprint."""

SAW = ("flickr30k",)
"""Its paper (section 4) trains on NLI, whose premises in SNLI are Flickr30k captions, and on
STS-Benchmark, which has pairs of them. COCO is not named there."""

_NAME = "text/encoders/nv_embed"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        model: a folder with the published files, else an id of the hub.
        revision: branch, tag or commit on the hub; the space always holds the commit.
        prompt: the instruction, put before every caption and left out of the mean; captions get
            none. The model's own form is "Instruct: {task}\\nQuery: ".
        max_tokens: texts are cut here, special tokens and instruction included. The original's
            default is 4,096; the paper's run has 77 for original captions, 323 for recaptions.
        weights: what they are held in, and below float32 also computed in, whatever precision
            is asked for. The published files are float16; their authors compute in it on GPUs.
        saw: benchmarks whose captions the model was trained on; None takes what is known of it.
    """

    model: str = MODEL
    revision: str | None = None
    prompt: str = ""
    max_tokens: int = 4_096
    weights: Literal["float32", "bfloat16", "float16"] = "float32"
    saw: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.max_tokens < 3:
            raise ConfigError(
                f"{_NAME}: max_tokens must be at least 3 (BOS, a token, EOS), not "
                f"{self.max_tokens}."
            )


def space(config: Config) -> TextSpace:
    """Return the space of these options, from the model's JSON files.

    A local folder is known by the hash of its content (15.7 GB to read), a hub model by its
    commit.

    Raises:
        ConfigError: no such folder or hub model, or not an NV-Embed.
        MissingPackage: huggingface_hub is needed and not installed.
    """
    folder, model, revision = locate(config.model, config.revision, _NAME)
    return _space(config, read_sizes(folder), model, revision)


def _space(config: Config, sizes: Sizes, model: str, revision: str) -> TextSpace:
    if config.max_tokens > sizes.positions:
        raise ConfigError(
            f"{_NAME}: max_tokens is {config.max_tokens}, but the model {config.model!r} was made "
            f"for {sizes.positions} tokens; give max_tokens={sizes.positions} or less."
        )
    return TextSpace(
        encoder="nv-embed",
        model=model,
        revision=revision,
        prompt=config.prompt,
        pooling=f"latents{sizes.latents}x{sizes.heads} > mean-no-prompt > eos-before-cut",
        max_tokens=config.max_tokens,
        normalised=sizes.normalised,
        dimensions=sizes.width,
    )


def build(config: Config, device: str = "auto") -> NVEmbedEncoder:
    """Return the encoder, its weights loaded onto the device.

    Raises:
        ConfigError: see `space`; also weights or a tokenizer that are not those of the model.
        MissingPackage: transformers is not installed.
    """
    plugins.require("transformers", "text", _NAME)
    folder, model, revision = locate(config.model, config.revision, _NAME)
    sizes = read_sizes(folder)
    found = _space(config, sizes, model, revision)
    local = model == LOCAL
    if not local:
        folder = _fetch(model, revision)
    ids = Ids(folder, instruction=config.prompt, max_tokens=config.max_tokens)
    where = choose_device(device)
    network = load_network(folder, sizes, getattr(torch, config.weights), where)
    # What is stored has to find the same model from another folder, or after a branch moved.
    place = {"model": str(folder), "revision": None} if local else {"revision": revision}
    part = Part("text/encoders", "nv_embed", {**to_dict(config), **place})
    saw = SAW if config.saw is None else config.saw
    return NVEmbedEncoder(network, ids, found, part, saw, where)


class NVEmbedEncoder:
    """A `TextEncoder` over the loaded network; see the attributes there."""

    def __init__(
        self,
        network: NVEmbedNetwork,
        ids: Ids,
        space: TextSpace,
        part: Part,
        saw: tuple[str, ...],
        device: torch.device,
    ) -> None:
        """Put the parts together; all of them agree already."""
        self.space, self.part, self.saw, self.device = space, part, saw, device.type
        self.matryoshka, self.probes = False, PROBES
        self._network, self._ids, self._device = network, ids, device
        self._half = next(network.parameters()).dtype != torch.float32

    def encode(
        self,
        texts: Sequence[str],
        *,
        precision: Precision = "float32",
        token_budget: int | None = None,
    ) -> EncodedTexts:
        """Return rows, token counts and cuts of `texts`, in their order (see `TextEncoder`)."""
        read = self._ids([clean(text) for text in texts])
        rows = np.empty((len(texts), self.space.dimensions), np.float32)
        padded = 0
        for batch in batches(read.lengths, token_budget or default_token_budget(self.device)):
            some = [read.ids[i] for i in batch]
            rows[batch] = self._forward(some, precision)
            padded += len(some) * max(len(ids) for ids in some)
        return EncodedTexts(rows, read.tokens, read.truncated, padded)

    def cut(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Return which texts are longer than the cap; nothing but their tokens is computed."""
        return self._ids([clean(text) for text in texts]).truncated

    def _forward(self, texts: list[list[int]], precision: Precision) -> Float32[np.ndarray, "n d"]:
        """Return the rows of one batch."""
        ids, mask = pad(texts, self._ids.eos, "right")
        read = mask.bool()
        pooled = read.clone()
        for row, text in zip(pooled, texts, strict=True):
            # The last token stays where the instruction's tokens merged with the text's.
            row[: min(self._ids.instruction, len(text) - 1)] = False
        ids, read, pooled = (x.to(self._device) for x in (ids, read, pooled))
        half = precision == "bfloat16" and not self._half
        # Also switches off an autocast of the caller, which would change stored rows.
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, torch.bfloat16, enabled=half),
        ):
            return self._network(ids, read, pooled).cpu().numpy()


def _fetch(model: str, revision: str) -> Path:
    """Return the snapshot of a hub model with its weights; its Python files stay there."""
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors"]
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=wanted))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{_NAME}: the weights of {model!r} can't be fetched from the hub "
            f"({' '.join(str(error).split())[:200]}); download them and give their folder."
        ) from error
