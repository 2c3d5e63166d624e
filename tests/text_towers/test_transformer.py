"""CLIP's text transformer: equal to transformers', its counts, its first weights, its FLOPs."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lift import plugins
from lift.config import part
from lift.errors import ConfigError
from lift.heads import HeadConfig
from lift.model import SideConfig, build_side, count_parameters
from lift.text_towers import transformer
from lift.towers import vit

TINY = {"width": 64, "depth": 3, "heads": 4, "context": 20, "vocabulary": 100}


def shaken(config):
    tower = transformer.build(config).eval()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return tower


def copied(tower, clip):
    """Put our weights into a CLIPTextModel."""
    state, ours = {}, tower.state_dict()
    head = "text_model." if any(k.startswith("text_model.") for k in clip.state_dict()) else ""
    for name, value in ours.items():
        name = name.replace("blocks.", f"{head}encoder.layers.")
        name = name.replace("norm1", "layer_norm1").replace("norm2", "layer_norm2")
        name = name.replace("attention.out", "self_attn.out_proj")
        if "qkv" in name:
            for letter, part_ in zip("qkv", value.chunk(3), strict=True):
                state[name.replace("attention.qkv", f"self_attn.{letter}_proj")] = part_
            continue
        if name in ("token", "position"):
            name = f"{head}embeddings.{name}_embedding.weight"
        elif name.startswith("norm."):
            name = f"{head}final_layer_{name}"
        state[name] = value
    missing = clip.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys
    assert all("position_ids" in name for name in missing.missing_keys)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@torch.no_grad()
def test_it_is_the_one_of_transformers(activation):
    transformers = pytest.importorskip("transformers")
    config = transformer.Config(**TINY, activation=activation, mlp_ratio=2.5)
    end = config.vocabulary - 1
    clip = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            max_position_embeddings=config.context,
            hidden_act=activation,
            layer_norm_eps=config.norm_eps,
            bos_token_id=end - 1,
            eos_token_id=end,
            pad_token_id=0,
        )
    ).eval()
    tower = shaken(config)
    copied(tower, clip)
    lengths = [20, 9, 2, 14]
    ids = torch.full((4, 20), -1)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(1, end - 1, (length,))
        ids[row, 0], ids[row, length - 1] = end - 1, end
    theirs = clip(input_ids=ids.clamp(min=0), attention_mask=(ids >= 0).long()).pooler_output
    assert theirs.std() > 0.1
    assert (tower(ids) - theirs).abs().max() <= 1e-6 * max(1.0, float(theirs.abs().max()))


@pytest.mark.parametrize(("context", "millions"), [(77, 149.62), (323, 149.75)])
def test_parameters_of_the_papers_clip(context, millions):
    """github.com/Jingfeng0705/LIFT's baseline: B/16 and 12 x 512, one matrix 768-512 each."""
    head = HeadConfig(layers=1, bias=False)
    options = {"width": 768, "heads": 12, "class_token": True, "pre_norm": True}
    options |= {"patch_bias": False, "pooling": "token"}
    with torch.device("meta"):
        image = build_side(SideConfig(tower=part("towers", "vit", **options), head=head), None, 512)
        tower = part("text_towers", "transformer", context=context)
        text = build_side(SideConfig(tower=tower, head=head), None, 512)
    assert count_parameters(image) == pytest.approx(86.19e6, abs=5e3)
    total = count_parameters(image) + count_parameters(text) + 1
    assert total == pytest.approx(millions * 1e6, abs=5e3)
    if context == 77:
        assert total == 149_620_737  # OpenAI's and OpenCLIP's ViT-B/16


def test_first_weights_are_clips():
    tower = transformer.build(transformer.Config(width=256, depth=4, heads=4, vocabulary=2000))
    expected = {
        "token": 0.02,
        "position": 0.01,
        "blocks.1.attention.qkv.weight": 256**-0.5,
        "blocks.1.attention.out.weight": (256 * 8) ** -0.5,
        "blocks.1.mlp.fc1.weight": 512**-0.5,
        "blocks.1.mlp.fc2.weight": (256 * 8) ** -0.5,
    }
    state = tower.state_dict()
    for name, std in expected.items():
        assert float(state[name].std()) == pytest.approx(std, rel=0.05), name
    for name, tensor in state.items():
        if name.endswith("bias"):
            assert not tensor.any(), name
        elif "norm" in name:
            assert (tensor == 1).all(), name


@torch.no_grad()
def test_causal_is_causal_and_the_other_is_not():
    """What follows a token moves its vector in a tower that is not causal only."""
    for causal in (True, False):
        tower = shaken(transformer.Config(**TINY, causal=causal))
        ids = torch.randint(0, 100, (1, 8))
        other = ids.clone()
        other[0, 7] = (ids[0, 7] + 1) % 100
        a, b = (_third(tower, x) for x in (ids, other))
        assert torch.allclose(a, b, atol=1e-6) == causal


def _third(tower, ids):
    kept = []
    hook = tower.norm.register_forward_hook(lambda _m, _i, out: kept.append(out[:, 2]))
    tower(ids)
    hook.remove()
    return kept[0]


def test_options_that_cannot_be_are_told():
    for options, words in (
        ({"heads": 3, "width": 64}, "3 heads can't share the width 64"),
        ({"context": 2}, "room for start, end and a word"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"mlp_ratio": 0.0}, "no hidden unit"),
        ({"norm_eps": 0.0}, "norm_eps must be above 0"),
        ({"pooling": "eos"}, "Did you mean 'eot'"),
        ({"pad_to": "x"}, "Known: context, longest"),
        ({"activation": "relu"}, "Known: gelu"),
    ):
        with pytest.raises(ConfigError, match=words):
            plugins.configure(part("text_towers", "transformer", **options))


# --- FLOPs -------------------------------------------------------------------------------------

SHAPES = {
    "clip": (transformer.Config(), 77),
    "long": (transformer.Config(context=323), 323),
    "short": (transformer.Config(), 20),
    "wide": (transformer.Config(width=128, heads=2, depth=3, mlp_ratio=2.5, causal=False), 40),
    "recomputed": (transformer.Config(**TINY, checkpoint_activations=True), 20),
}


def counted(config, tokens, backward):
    with torch.device("meta"):
        tower = transformer.build(config).train(backward)
        ids = torch.zeros(1, tokens, dtype=torch.int64)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        h = tower(ids)
        if backward:
            h.sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", SHAPES)
def test_flops_agree_with_the_counter(name):
    config, tokens = SHAPES[name]
    forward = counted(config, tokens, False)
    assert transformer.forward_flops(config, tokens) == pytest.approx(forward, rel=0.01)
    if name != "recomputed":
        both = counted(config, tokens, True)
        assert transformer.training_flops(config, tokens) == pytest.approx(both, rel=0.01)
    else:  # useful work only
        assert counted(config, tokens, True) > 1.2 * transformer.training_flops(config, tokens)


def test_flops_of_the_paper():
    config = transformer.Config(context=1024)
    assert transformer.forward_flops(config, 77) == pytest.approx(5.96e9, rel=1e-3)
    assert transformer.forward_flops(config, 323) == pytest.approx(26.95e9, rel=1e-3)
    head = 2 * 512 * 512
    assert transformer.forward_flops(config, 77, head) == head + transformer.forward_flops(
        config, 77
    )
    # The paper's table divides by image and text tower: 14.4% and 43.4% of a CLIP step.
    image = vit.forward_flops(vit.clip_size("B/16"))
    for tokens, share in ((77, 0.144), (323, 0.434)):
        text = transformer.forward_flops(config, tokens)
        assert (text - 0.04e9) / (image + text) == pytest.approx(share, abs=2e-3)
