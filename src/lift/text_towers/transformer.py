"""CLIP's text transformer: causal blocks over byte-level BPE, pooled at the end of the text.

Radford et al. 2021 (arXiv 2103.00020), section 2.4. The projection into the shared space is the
head of the side (`HeadConfig(layers=1, bias=False)` for CLIP's).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lift.errors import ConfigError, unknown
from lift.layers import Activation, Block
from lift.text.tokenizer import Tokenizer
from lift.text_towers._pooling import is_token, pooled, require_fits

BPE = "bpe"
"""The tokenizer that is trained on the run's own captions."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of the tower and its tokenizer; the defaults are CLIP B's (63 M parameters).

    Attributes:
        width: length of a token and of the output.
        depth: number of blocks.
        heads: attention heads; they share the width equally.
        context: tokens that a text is cut to, start and end included.
        mlp_ratio: hidden width of a block's MLP, as a multiple of `width`.
        activation: "gelu" (exact), "quick_gelu" (OpenAI's CLIP) or "gelu_tanh" (SigLIP).
        norm_eps: epsilon of every LayerNorm.
        causal: a token sees only those before it.
        pooling: the "eot", the last token of the text, or the "mean" of its tokens.
        tokenizer: "bpe" is trained on the run's own captions; else a folder, a file
            `tokenizer.json` or a hub id of a Hugging Face tokenizer.
        vocabulary: tokens that "bpe" may have at most; a run's saved options say how many the
            tokenizer has.
        lower: whether "bpe" reads all letters as small ones, as CLIP's does.
        pad_to: whether a batch is padded to its "longest" text, or always to the whole "context",
            as CLIP's reference code does.
        checkpoint_activations: recompute blocks in the backward pass instead of storing them.
    """

    width: int = 512
    depth: int = 12
    heads: int = 8
    context: int = 77
    mlp_ratio: float = 4.0
    activation: Activation = "gelu"
    norm_eps: float = 1e-5
    causal: bool = True
    pooling: Literal["eot", "mean"] = "eot"
    tokenizer: str = BPE
    vocabulary: int = 49_408
    lower: bool = True
    pad_to: Literal["longest", "context"] = "longest"
    checkpoint_activations: bool = False

    def __post_init__(self) -> None:
        choices = {
            "activation": get_args(Activation),
            "pooling": ("eot", "mean"),
            "pad_to": ("longest", "context"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        names = ("width", "depth", "heads", "vocabulary")
        wrong = [
            f"{name} must be at least 1, not {getattr(self, name)}."
            for name in names
            if getattr(self, name) < 1
        ]
        if self.context < 3:
            wrong.append(f"context must leave room for start, end and a word, not {self.context}.")
        if not wrong:
            tests = {
                f"{self.heads} heads can't share the width {self.width} equally.": self.width
                % self.heads,
                f"mlp_ratio {self.mlp_ratio} leaves the MLP no hidden unit.": self.hidden < 1,
                f"norm_eps must be above 0, not {self.norm_eps}.": self.norm_eps <= 0,
            }
            wrong = [sentence for sentence, is_wrong in tests.items() if is_wrong]
        if wrong:
            raise ConfigError("text_towers/transformer: " + " ".join(wrong))

    @property
    def hidden(self) -> int:
        """Hidden width of a block's MLP."""
        return round(self.width * self.mlp_ratio)


def tokenizer(config: Config, captions: Iterable[str]) -> Tokenizer:
    """Return the tokenizer of these options: trained on the captions, or found.

    Raises:
        MissingPackage: the package tokenizers is not installed.
        ConfigError: a vocabulary that can't hold the 256 bytes, or no such tokenizer.
        DataError: no captions to train on.
    """
    if config.tokenizer == BPE:
        return Tokenizer.trained(captions, config.vocabulary, lower=config.lower)
    return Tokenizer.found(config.tokenizer, ends=True)


def fitted(config: Config, tokenizer: Tokenizer) -> Config:
    """Return the options with as many tokens as the tokenizer has.

    Raises:
        ConfigError: its start and end leave no room for a word.
    """
    tokenizer.require_room(config.context)
    return dataclasses.replace(config, vocabulary=tokenizer.size)


def build(config: Config) -> TextTransformer:
    """Return the tower, its weights drawn from torch's global generator."""
    return TextTransformer(config)


rebuild = build


class TextTransformer(nn.Module):
    """The tower; see `Config`.

    Attributes:
        config: what it was built from.
        width: length of `h_text`.
        context: tokens of a text at most.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.width, self.context = config, config.width, config.context
        self.token = nn.Parameter(torch.empty(config.vocabulary, config.width))
        self.position = nn.Parameter(torch.empty(config.context, config.width))
        self.blocks = nn.ModuleList(
            Block(config, causal=config.causal) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, config.norm_eps)
        self._init()

    def forward(self, ids: Int[Tensor, "c t"]) -> Float[Tensor, "c width"]:
        """Return `h_text`, one raw vector a text.

        Args:
            ids: tokens; -1 pads shorter texts at their end. Where texts end by themselves
                nothing depends on `t`, so that a batch may be as short as its longest text.

        Raises:
            ConfigError: more tokens than `context`.
        """
        require_fits(ids, self.context)
        real = is_token(ids)
        # As in the image tower the stream is float32 under autocast too.
        x = nn.functional.embedding(ids.clamp(min=0), self.token) + self.position[: ids.shape[1]]
        # Padding comes last, so that the tokens of a causal tower never see it.
        seen = None if self.config.causal else real[:, None, None]
        recompute = self.config.checkpoint_activations and self.training
        for block in self.blocks:
            if recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, seen, use_reentrant=False)
            else:
                x = block(x, seen)
        return pooled(self.norm(x), real, "last" if self.config.pooling == "eot" else "mean")

    def _init(self) -> None:
        """Draw weights as CLIP does: tokens 0.02, positions 0.01, matrices by width and depth.

        width^-0.5 into attention, (2 width)^-0.5 into an MLP, width^-0.5 (2 depth)^-0.5 back into
        the stream; biases 0, norms 1.
        """
        scale = self.width**-0.5
        back = scale * (2 * self.config.depth) ** -0.5
        stds = {"qkv": scale, "fc1": scale * 2**-0.5, "out": back, "fc2": back}
        nn.init.normal_(self.token, std=0.02)
        nn.init.normal_(self.position, std=0.01)
        for name, parameter in self.blocks.named_parameters():
            owner, _, kind = name.rpartition(".")
            owner = owner.rpartition(".")[2]
            if kind == "bias":
                nn.init.zeros_(parameter)
            elif owner in stds:
                nn.init.normal_(parameter, std=stds[owner])


def forward_flops(config: Config, tokens: int, head_flops: int = 0) -> int:
    """Return the operations of one text's forward pass, padded to `tokens`, head included.

    A multiply-add is 2; norms, activations and softmax are left out, and a causal attention
    counts as a full one, as the literature does. CLIP B: 5.96e9 at 77 tokens, 26.95e9 at 323.
    """
    width = config.width
    token = 2 * 4 * width**2 + 2 * 2 * width * config.hidden
    return config.depth * (tokens * token + 2 * 2 * tokens**2 * width) + head_flops


def training_flops(config: Config, tokens: int, head_flops: int = 0) -> int:
    """Return the operations of one text's forward and backward pass: three forward passes.

    What `checkpoint_activations` computes twice is not counted.
    """
    return 3 * forward_flops(config, tokens, head_flops)
