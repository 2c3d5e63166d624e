"""A small causal language model of whole words: for miniatures and tests, where none is at hand."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from lift import plugins
from lift.export._quiet import quiet
from lift.files import whole_folder

_PIECES = re.compile(r"\w+|[^\w\s]")


def small_tokenizer(texts: Iterable[str]) -> Any:
    """Return a tokenizer whose tokens are the words and signs of some texts, in small letters.

    A word that is in none of them is `<unk>`.
    """
    plugins.require("transformers", "text", "A small language model")
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for text in texts for word in _PIECES.findall(text.lower())})
    names = ["<unk>", "<s>", "</s>", "<pad>", *words]
    table = {word: number for number, word in enumerate(names)}
    made = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.WordPiece(prefix="##")
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )


def small_llama(
    folder: str | Path,
    tokenizer: Any,
    *,
    width: int = 128,
    depth: int = 2,
    heads: int = 4,
    seed: int = 0,
) -> Path:
    """Write the folder of an untrained Llama of this shape, with its tokenizer, and return it."""
    plugins.require("transformers", "text", "A small language model")
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with whole_folder(Path(folder)) as aside, quiet():
        LlamaForCausalLM(config).save_pretrained(aside)
        tokenizer.save_pretrained(aside)
    return Path(folder)
