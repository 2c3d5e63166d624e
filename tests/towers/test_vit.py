"""Shapes, counts, positions, regularisation and FLOPs of the plain ViT."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lift.errors import ConfigError
from lift.towers import vit

TINY = {"width": 32, "depth": 3, "heads": 2, "patch": 8, "resolution": 32}


def make(**changes):
    return vit.build(vit.Config(**{**TINY, **changes}))


def count(config):
    with torch.device("meta"):
        return sum(p.numel() for p in vit.build(config).parameters())


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (vit.clip_size("B/16"), 85_799_424),  # the paper's trunk
        # 85,798,656 are those of ViT-B/16 with class token, patch bias and no norm before.
        (vit.size("B/16", class_token=True), 85_798_656),
        (vit.size("B/16"), 85_798_656 - 2 * 768),  # without the token and its position
    ],
)
def test_parameter_counts(config, parameters):
    assert count(config) == parameters


@pytest.mark.parametrize("shape", vit.SHAPES)
@pytest.mark.parametrize("patch", [8, 14, 16])
def test_named_sizes(shape, patch):
    config = vit.size(f"{shape}/{patch}")
    assert (config.width, config.depth, config.heads) == vit.SHAPES[shape]
    assert config.width == 64 * config.heads
    assert config.patches == (224 // patch) ** 2


def test_size_takes_changes():
    config = vit.size("B/16", resolution=256, pooling="attention", drop_path=0.1)
    assert (config.patches, config.pooling, config.drop_path) == (256, "attention", 0.1)
    assert vit.clip_size("L/14", norm_eps=1e-6).norm_eps == 1e-6


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: vit.size("B16"), "Unknown ViT size 'B16'. Did you mean 'B/16'"),
        (lambda: vit.size("H/14"), "Unknown ViT size 'H/14'"),
        (lambda: vit.size("B/16", resolutoin=256), "Did you mean 'resolution'"),
        (lambda: vit.size("B/16", pooling="mena"), "Did you mean 'mean'"),
        (lambda: vit.Config(resolution=225), "multiple of patch 16, not 225"),
        (lambda: vit.Config(resolution=0), "multiple of patch 16, not 0"),
        (lambda: vit.Config(heads=5), "5 heads can't share the width 192 equally"),
        (lambda: vit.Config(heads=0), "heads must be at least 1, not 0"),
        (lambda: vit.Config(depth=0), "depth must be at least 1, not 0"),
        (lambda: vit.Config(patch_dropout=1.0), r"patch_dropout must lie in \[0, 1\), not 1.0"),
        (lambda: vit.Config(drop_path=-0.1), r"drop_path must lie in \[0, 1\), not -0.1"),
        (lambda: vit.Config(pooling="token"), "pooling=token needs class_token=true"),
        (lambda: vit.Config(mlp_ratio=0.0), "no hidden unit"),
        (lambda: vit.Config(norm_eps=0.0), "norm_eps must be above 0"),
    ],
)
def test_wrong_options_say_so(call, sentence):
    with pytest.raises(ConfigError, match=sentence):
        call()


@pytest.mark.parametrize("name", ["pooling", "activation"])
def test_wrong_names_without_a_type_checker(name):
    config = vit.Config()
    object.__setattr__(config, name, "gleu")  # tests' own type checker stops the constructor
    with pytest.raises(ConfigError, match=f"Unknown {name} 'gleu'"):
        config.__post_init__()


# --- what pools what ---------------------------------------------------------------------------


def test_mean_is_over_normed_patches_without_the_class_token():
    tower = make(class_token=True, pre_norm=True, patch_bias=False).eval()
    x = torch.randn(2, 3, 32, 32)
    expected = tower.tokens(x, normed=True).mean(1)
    assert tower.tokens(x).shape == (2, 16, 32)
    torch.testing.assert_close(tower(x), expected)
    # The order matters: the norm of the mean is something else.
    assert (tower.norm(tower.tokens(x).mean(1)) - expected).abs().max() > 1e-3


def test_class_token_attends_although_it_is_not_pooled():
    tower = make(class_token=True).eval()
    x = torch.randn(1, 3, 32, 32)
    before = tower(x)
    with torch.no_grad():
        tower.class_token += torch.randn(32)
    assert (tower(x) - before).abs().max() > 1e-4


def test_attention_pool_equals_multihead_attention():
    tower = make(pooling="attention").eval()
    pool, x = tower.pool, torch.randn(2, 16, 32)
    truth = torch.nn.MultiheadAttention(32, 2, batch_first=True)
    with torch.no_grad():
        parts = (pool.q, pool.k, pool.v)
        truth.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        truth.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        truth.out_proj.load_state_dict(pool.out.state_dict())
    h = truth(pool.query.expand(2, 1, -1), x, x)[0][:, 0]
    torch.testing.assert_close(pool(x), h + pool.mlp(pool.norm(h)))


def test_tokens_of_every_layer_build_on_one_another():
    tower = make().eval()
    x = torch.randn(2, 3, 32, 32)
    for layer in range(3):
        stepped = tower.blocks[layer](tower.tokens(x, layer))
        torch.testing.assert_close(stepped, tower.tokens(x, layer + 1))
    assert torch.equal(tower.tokens(x), tower.tokens(x, 3))
    assert torch.equal(tower.tokens(x, -4), tower.tokens(x, 0))


@pytest.mark.parametrize("layer", [4, -5])
def test_no_such_layer(layer):
    with pytest.raises(ConfigError, match=f"layer must lie in -4..3, not {layer}"):
        make().tokens(torch.zeros(1, 3, 32, 32), layer)


def test_patches_run_row_by_row():
    tower = make(depth=1).eval()
    x = torch.zeros(1, 3, 32, 32)
    before = tower.tokens(x, 0)
    x[..., 8:16, 16:24] = 1  # second row, third column
    changed = (tower.tokens(x, 0) - before).abs().amax(-1)[0]
    assert changed.nonzero().flatten().tolist() == [1 * 4 + 2]


# --- positions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("class_token", [False, True])
def test_other_sizes_interpolate_positions(class_token):
    tower = make(class_token=class_token).eval()
    prefix = int(class_token)
    with torch.no_grad():  # a ramp from left to right stays one
        tower.position[prefix:] = torch.arange(4.0).repeat(4)[:, None]
    wide = tower._position(2, 8)
    assert wide.shape == (prefix + 16, 32)
    assert torch.equal(wide[:prefix], tower.position[:prefix])
    grid = wide[prefix:].unflatten(0, (2, 8))
    assert (grid[0] - grid[1]).abs().max() < 1e-5 and (grid.diff(dim=1) > 0).all()
    assert tower(torch.randn(2, 3, 16, 64)).shape == (2, 32)
    assert tower.tokens(torch.randn(2, 3, 64, 48)).shape == (2, 48, 32)


def test_smaller_grid_equals_torch_interpolation():
    tower = make()
    grid = tower.position.T.reshape(1, 32, 4, 4)
    small = F.interpolate(grid, (2, 2), mode="bicubic", antialias=True)[0].flatten(1).T
    torch.testing.assert_close(tower._position(2, 2), small)


@pytest.mark.parametrize("shape", [(33, 32), (32, 31), (0, 8)])
def test_sizes_that_do_not_divide(shape):
    with pytest.raises(ConfigError, match=f"{shape[0]} x {shape[1]} pixels do not divide"):
        make()(torch.zeros(1, 3, *shape))


# --- in training only --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dropout", "patch_dropout", "drop_path"])
def test_regularisation_is_random_in_training_and_absent_in_eval(name):
    tower, plain = make(**{name: 0.5}), make()
    plain.load_state_dict(tower.state_dict())
    x = torch.randn(8, 3, 32, 32)
    assert torch.equal(tower.eval()(x), plain.eval()(x))
    assert not torch.equal(tower.train()(x), tower(x))
    torch.manual_seed(3)
    first = tower(x)
    torch.manual_seed(3)
    assert torch.equal(tower(x), first)


def test_patch_dropout_keeps_the_class_token_and_a_share_of_patches():
    tower = make(patch_dropout=0.75, class_token=True).train()
    seen = []
    tower.blocks[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    tower(torch.randn(64, 3, 32, 32))
    (x,) = seen
    assert x.shape[1] == 1 + 4
    first = tower.class_token + tower.position[0]
    assert torch.equal(x[:, 0], first.expand(64, -1))


def test_patch_dropout_chooses_every_patch_equally_often():
    tower = make(patch_dropout=0.75).train()
    with torch.no_grad():
        tower.patch.weight.zero_()
        tower.position.copy_(torch.arange(16.0)[:, None].expand(-1, 32))
    kept = tower._embed(torch.zeros(4000, 3, 32, 32))[..., 0]
    assert kept.shape == (4000, 4)
    assert all(len(row.unique()) == 4 for row in kept[:50])
    share = torch.bincount(kept.flatten().long(), minlength=16) / 4000
    assert (share - 0.25).abs().max() < 0.04  # standard error 0.007


def test_drop_path_grows_with_depth_and_keeps_the_mean():
    tower = make(drop_path=0.5, depth=5)
    assert [block.drop_path for block in tower.blocks] == [0, 0.125, 0.25, 0.375, 0.5]
    assert [block.drop_path for block in make(drop_path=0.5, depth=1).blocks] == [0]
    dropped = tower.blocks[-1].train()._drop(torch.ones(4000, 2, 32))
    rows = dropped.flatten(1)
    assert (rows == rows[:, :1]).all()  # whole images
    assert set(rows.unique().tolist()) == {0.0, 2.0}
    assert abs(float(dropped.mean()) - 1) < 0.1


def test_checkpointing_changes_memory_not_gradients():
    saved = {}
    grads = {}
    for recompute in (False, True):
        torch.manual_seed(1)
        tower = make(checkpoint_activations=recompute, drop_path=0.3, dropout=0.2).train()
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
        ):
            h = tower(torch.randn(4, 3, 32, 32))
        h.square().sum().backward()
        saved[recompute] = sum(sizes)
        grads[recompute] = {name: p.grad for name, p in tower.named_parameters()}
    assert saved[True] < saved[False] / 3
    for name, grad in grads[False].items():
        assert torch.equal(grad, grads[True][name]), name


# --- initialisation ----------------------------------------------------------------------------


@pytest.mark.parametrize("width", [64, 256])
def test_initial_scales(width):
    tower = make(width=width, depth=4, pooling="attention", class_token=True)
    expected = {
        "position": width**-0.5,
        "patch.weight": (3 * 64) ** -0.5,
        "blocks.1.attention.qkv.weight": width**-0.5,
        "blocks.1.attention.out.weight": (width * 8) ** -0.5,
        "blocks.1.mlp.fc1.weight": (2 * width) ** -0.5,
        "blocks.1.mlp.fc2.weight": (width * 8) ** -0.5,
        "pool.k.weight": width**-0.5,
    }
    state = tower.state_dict()
    for name, std in expected.items():
        assert float(state[name].std()) == pytest.approx(std, rel=0.1), name
    for name, tensor in state.items():
        if name.endswith("bias"):
            assert not tensor.any(), name
        elif "norm" in name:
            assert (tensor == 1).all(), name
        else:
            assert float(tensor.std()) > 0, name


# --- FLOPs -------------------------------------------------------------------------------------

SHAPES = {
    "paper": vit.clip_size("B/16"),
    "siglip": vit.size("S/16", pooling="attention", resolution=256),
    "wide": vit.Config(width=128, heads=4, depth=3, patch=8, resolution=64, mlp_ratio=2.5),
    "recomputed": vit.Config(**TINY, checkpoint_activations=True),
    "sparse": vit.Config(**TINY, patch_dropout=0.5, class_token=True),
}


def counted(config, backward):
    with torch.device("meta"):
        tower = vit.build(config).train(backward)
        x = torch.empty(1, 3, config.resolution, config.resolution)
    # The counter sees fused attention on some devices only; the plain form everywhere.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        h = tower(x)
        if backward:
            h.sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", SHAPES)
def test_forward_flops_agree_with_the_counter(name):
    assert vit.forward_flops(SHAPES[name]) == pytest.approx(counted(SHAPES[name], False), rel=0.01)


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "recomputed"])
def test_training_flops_agree_with_the_counter(name):
    assert vit.training_flops(SHAPES[name]) == pytest.approx(counted(SHAPES[name], True), rel=0.01)


def test_recomputed_blocks_are_not_counted_as_useful():
    config = SHAPES["recomputed"]
    assert counted(config, True) > 1.2 * vit.training_flops(config)


def test_flops_of_the_paper():
    head = 2 * (768 * 4096 + 4096 * 4096)
    assert vit.forward_flops(SHAPES["paper"]) == pytest.approx(35.13e9, rel=1e-3)
    assert vit.training_flops(SHAPES["paper"], head) == pytest.approx(105.27e9, rel=1e-3)
    assert vit.forward_flops(SHAPES["paper"], 5) == vit.forward_flops(SHAPES["paper"]) + 5
