"""A small random model in the layout in which nvidia/NV-Embed-v2 is published."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

WIDTH, LAYERS, HEADS, KEY_HEADS, FEED, VOCABULARY = 64, 3, 8, 2, 96, 512
LATENTS, CROSS_HEADS, CROSS_WIDTH = 16, 4, 24
CONFIG: dict[str, Any] = {
    "add_eos": True,
    "add_pad_token": True,
    "architectures": ["NVEmbedModel"],
    "auto_map": {"AutoModel": "modeling_nvembed.NVEmbedModel"},
    "hidden_size": WIDTH,
    "is_mask_instruction": True,
    "latent_attention_config": {
        "model_type": "latent_attention",
        "num_latents_value": LATENTS,
        "num_cross_heads": CROSS_HEADS,
        "cross_dim_head": CROSS_WIDTH,
        "hidden_dim": WIDTH,
        "latent_dim": WIDTH,
    },
    "mask_type": "b",
    "model_type": "nvembed",
    "padding_side": "right",
    "text_config": {
        "model_type": "bidir_mistral",
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": FEED,
        "max_position_embeddings": 8_192,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KEY_HEADS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "rope_scaling": None,
        "sliding_window": 4,  # not in force in the original: its mask hides padding alone
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": VOCABULARY,
    },
    "torch_dtype": "float16",
}


def shapes() -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the published tensors, written out."""
    head, inner, pool = WIDTH // HEADS, CROSS_HEADS * CROSS_WIDTH, "latent_attention_model"
    found: dict[str, tuple[int, ...]] = {"embedding_model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    for i in range(LAYERS):
        layer = f"embedding_model.layers.{i}"
        found |= {
            f"{layer}.self_attn.q_proj.weight": (WIDTH, WIDTH),
            f"{layer}.self_attn.k_proj.weight": (KEY_HEADS * head, WIDTH),
            f"{layer}.self_attn.v_proj.weight": (KEY_HEADS * head, WIDTH),
            f"{layer}.self_attn.o_proj.weight": (WIDTH, WIDTH),
            f"{layer}.mlp.gate_proj.weight": (FEED, WIDTH),
            f"{layer}.mlp.up_proj.weight": (FEED, WIDTH),
            f"{layer}.mlp.down_proj.weight": (WIDTH, FEED),
            f"{layer}.input_layernorm.weight": (WIDTH,),
            f"{layer}.post_attention_layernorm.weight": (WIDTH,),
        }
    attend, feed = f"{pool}.cross_attend_blocks.0", f"{pool}.cross_attend_blocks.1"
    return found | {
        "embedding_model.norm.weight": (WIDTH,),
        f"{pool}.latents": (LATENTS, WIDTH),
        f"{attend}.norm.weight": (WIDTH,),
        f"{attend}.norm.bias": (WIDTH,),
        f"{attend}.norm_context.weight": (WIDTH,),
        f"{attend}.norm_context.bias": (WIDTH,),
        f"{attend}.fn.to_q.weight": (inner, WIDTH),
        f"{attend}.fn.to_kv.weight": (2 * inner, WIDTH),
        f"{attend}.fn.to_out.weight": (WIDTH, inner),
        f"{feed}.norm.weight": (WIDTH,),
        f"{feed}.norm.bias": (WIDTH,),
        f"{feed}.fn.net.0.weight": (8 * WIDTH, WIDTH),
        f"{feed}.fn.net.0.bias": (8 * WIDTH,),
        f"{feed}.fn.net.2.weight": (WIDTH, 4 * WIDTH),
        f"{feed}.fn.net.2.bias": (WIDTH,),
    }


def weights() -> dict[str, torch.Tensor]:
    """Return random values, large enough that every part of the network shows in a row."""
    generator = torch.Generator().manual_seed(7)
    found = {}
    for name, shape in shapes().items():
        values = torch.randn(shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            found[name] = 1 + 0.3 * values
        elif len(shape) == 1 or "embed_tokens" in name or name.endswith("latents"):
            found[name] = 0.5 * values
        else:
            found[name] = 1.3 * values / shape[1] ** 0.5
    return found


def write(folder: Path) -> Path:
    """Write the model into a new folder: config, tokenizer, two shards with their index."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    _write_json(folder / "config.json", CONFIG)
    _write_tokenizer(folder)
    values, names = weights(), [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    where = {name: names[name.startswith("latent")] for name in values}
    for file in names:
        save_file({n: v for n, v in values.items() if where[n] == file}, folder / file)
    _write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": where})
    return folder


def _write_tokenizer(folder: Path) -> None:
    """Train byte-fallback BPE on the probe sentences, with Mistral's normaliser and BOS."""
    from tokenizers import Tokenizer, normalizers, processors, trainers
    from tokenizers.models import BPE

    from lift.text.probes import PROBES

    tokenizer = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    english = [text for text in PROBES if text.isascii()]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=names, show_progress=False, max_token_length=12
    )
    tokenizer.train_from_iterator(english, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    flags = {"add_bos_token": True, "add_eos_token": False, "tokenizer_class": "LlamaTokenizer"}
    _write_json(folder / "tokenizer_config.json", {**flags, **tokens})


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


@functools.cache
def shared_folder() -> Path:
    """Return one such folder for the whole test process; nobody writes into it."""
    home = Path(tempfile.mkdtemp(prefix="nv-embed-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return write(home / "model")
