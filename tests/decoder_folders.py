"""Writes small decoders as model folders, for tests in more than one place.

Networks are real ones of transformers with random weights, large enough in scale that every token
matters; the tokenizer is a byte-level BPE trained on real captions, or on other prose where these
are not at hand.
"""

from __future__ import annotations

import atexit
import functools
import gzip
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("LIFT_TEST_DATA", ROOT.parent / "shared" / "data"))
POSITIONS = 64

SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.15,
}


@functools.cache
def captions(count: int = 2_000) -> tuple[str, ...]:
    """Return captions of COCO, or lines of the project's own pages where they are not at hand."""
    file = DATA / "text" / "coco_captions_val2017.jsonl.gz"
    if file.is_file():
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            return tuple(json.loads(next(lines))["caption"].strip() for _ in range(count))
    pages = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
    lines = [line.strip() for page in pages for line in page.read_text("utf-8").splitlines()]
    return tuple([line for line in lines if line.count(" ") > 5][:count])


def tokenizer(*, bos: bool = True, eos: bool = True, ends: bool = False) -> Any:
    """Return a fresh tokenizer without a padding token.

    Args:
        bos: whether it begins texts with <s>.
        eos: whether it has an EOS token.
        ends: whether it ends texts with </s> by itself.
    """
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(_trained())
    template = " ".join(["<s>"] * bos + ["$A"] + ["</s>"] * ends)
    backend.post_processor = TemplateProcessing(
        single=template, special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    named = {"bos_token": "<s>"} if bos else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **named, **({"eos_token": "</s>"} if eos else {})
    )


@functools.cache
def _trained() -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(captions(), trainer)
    return backend.to_str()


def write(folder: Path, kind: str = "llama", *, words: Any = None, **sizes: Any) -> Path:
    """Write a decoder with its tokenizer and return the folder.

    Args:
        folder: made here.
        kind: llama, mistral (a window of 7 tokens), qwen3 or gpt2 (learned positions).
        words: the tokenizer; None is `tokenizer()`.
        sizes: of the network, in place of `SIZES`.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    own = {"mistral": {"sliding_window": 7}, "qwen3": {"head_dim": 12}}.get(kind, {})
    values = {**SIZES, **own, **sizes}
    with torch.random.fork_rng():
        torch.manual_seed(sum(map(ord, kind)))
        config = AutoConfig.for_model(kind, vocab_size=512, tie_word_embeddings=False, **values)
        # With its head, as decoders are published: loading has to leave that out.
        network = AutoModelForCausalLM.from_config(config)
        for weights in network.parameters():
            if weights.ndim == 1:  # norms and biases would all be 1 and 0
                weights.data += 0.2 * torch.randn_like(weights)
        network.save_pretrained(folder)
    (words or tokenizer()).save_pretrained(folder)
    return folder


@functools.cache
def folder(kind: str = "llama") -> Path:
    """Return a folder with that decoder, written once and removed when the tests are over."""
    parent = Path(tempfile.mkdtemp(prefix="lift-decoder-"))
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    return write(parent / kind, kind)
