"""Weights survive the way to every layout and back, and equal what transformers computes."""

from __future__ import annotations

import pytest
import torch

from lift.convert.layouts import LAYOUTS, arguments
from lift.convert.weights import from_layout, to_layout
from lift.errors import CheckpointError, ConfigError
from lift.towers import vit

TINY = {"width": 64, "depth": 3, "heads": 2, "patch": 8, "resolution": 32, "mlp_ratio": 2.5}
CLIP = TINY | {"class_token": True, "pre_norm": True, "patch_bias": False, "norm_eps": 1e-5}

# What each layout can hold.
HOLDS = [
    ("open_clip", CLIP),
    ("open_clip", CLIP | {"pooling": "token", "pre_norm": False}),
    ("timm", CLIP),
    ("timm", CLIP | {"pooling": "token"}),
    ("timm", TINY),
    ("timm", TINY | {"pooling": "attention"}),
    ("transformers_clip", CLIP),
    ("transformers_clip", CLIP | {"pooling": "token", "activation": "quick_gelu"}),
    ("transformers_siglip", TINY),
    ("transformers_siglip", TINY | {"pooling": "attention", "activation": "gelu_tanh"}),
]
holds = pytest.mark.parametrize(
    ("layout", "options"), HOLDS, ids=[f"{n}-{o.get('pooling', 'mean')}" for n, o in HOLDS]
)


def shaken(config):
    """Return a tower in which no two numbers are equal, norms and biases included."""
    tower = vit.build(config).eval()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return tower


def facts(config):
    """Return the fields that weights don't show."""
    return {name: getattr(config, name) for name in ("heads", "pooling", "activation", "norm_eps")}


# --- there and back ----------------------------------------------------------------------------


@holds
@pytest.mark.parametrize("prefix", [False, True])
def test_round_trip_is_exact(layout, options, prefix):
    config = vit.Config(**options)
    tower = shaken(config)
    theirs = to_layout(config, tower.state_dict(), layout, prefix=prefix)
    assert all(name.startswith(LAYOUTS[layout].prefix) for name in theirs) or not prefix
    back_config, back = from_layout(theirs, layout, **facts(config))
    assert back_config == config
    assert list(back) == list(tower.state_dict())
    for name, tensor in tower.state_dict().items():
        assert torch.equal(back[name], tensor), name


@holds
def test_results_are_copies(layout, options):
    config = vit.Config(**options)
    state = vit.build(config).state_dict()
    theirs = to_layout(config, state, layout)
    _, back = from_layout(theirs, layout, **facts(config))
    for result, source in ((theirs, state), (back, theirs)):
        places = {t.untyped_storage().data_ptr() for t in source.values()}
        own = [t.untyped_storage().data_ptr() for t in result.values()]
        assert not places & set(own) and len(own) == len(set(own))
        assert all(t.is_contiguous() and not t.requires_grad for t in result.values())


def test_dtype_is_kept():
    config = vit.Config(**CLIP)
    state = vit.build(config).bfloat16().state_dict()
    theirs = to_layout(config, state, "open_clip")
    assert {t.dtype for t in theirs.values()} == {torch.bfloat16}
    assert {t.dtype for t in from_layout(theirs, "open_clip", heads=2)[1].values()} == {
        torch.bfloat16
    }


def test_what_weights_do_not_show_comes_from_the_library():
    def read(layout, **options):
        config = vit.Config(**options)
        theirs = to_layout(config, vit.build(config).state_dict(), layout)
        return from_layout(theirs, layout)[0]

    one = {"width": 192, "heads": 3, "depth": 1, "resolution": 32}
    clip = one | {"class_token": True, "pre_norm": True, "patch_bias": False}
    for layout, options, expected in (
        ("open_clip", clip, ("token", "gelu", 1e-5)),
        ("timm", clip, ("token", "gelu", 1e-5)),
        ("timm", one, ("mean", "gelu", 1e-6)),
        ("transformers_clip", clip, ("token", "quick_gelu", 1e-5)),
        ("transformers_siglip", one, ("mean", "gelu_tanh", 1e-6)),
        ("transformers_siglip", one | {"pooling": "attention"}, ("attention", "gelu_tanh", 1e-6)),
    ):
        config = read(layout, **options)
        assert (config.pooling, config.activation, config.norm_eps) == expected, layout
        assert config.heads == 3


BLOCK = {
    "open_clip": """ln_1.weight ln_1.bias attn.in_proj_weight attn.in_proj_bias
        attn.out_proj.weight attn.out_proj.bias ln_2.weight ln_2.bias mlp.c_fc.weight
        mlp.c_fc.bias mlp.c_proj.weight mlp.c_proj.bias""",
    "timm": """norm1.weight norm1.bias attn.qkv.weight attn.qkv.bias attn.proj.weight
        attn.proj.bias norm2.weight norm2.bias mlp.fc1.weight mlp.fc1.bias mlp.fc2.weight
        mlp.fc2.bias""",
}
REST = {
    "open_clip": """conv1.weight class_embedding positional_embedding ln_pre.weight ln_pre.bias
        ln_post.weight ln_post.bias proj""",
    "timm": """patch_embed.proj.weight cls_token pos_embed norm_pre.weight norm_pre.bias
        norm.weight norm.bias""",
    "timm attention": """patch_embed.proj.weight patch_embed.proj.bias pos_embed norm.weight
        norm.bias attn_pool.latent attn_pool.q.weight attn_pool.q.bias attn_pool.kv.weight
        attn_pool.kv.bias attn_pool.proj.weight attn_pool.proj.bias attn_pool.norm.weight
        attn_pool.norm.bias attn_pool.mlp.fc1.weight attn_pool.mlp.fc1.bias
        attn_pool.mlp.fc2.weight attn_pool.mlp.fc2.bias""",
}


@pytest.mark.parametrize("case", REST)
def test_names_of_libraries_that_are_not_installed_here(case):
    layout = case.split()[0]
    options = TINY | {"pooling": "attention"} if "attention" in case else CLIP
    config = vit.Config(**options)
    theirs = to_layout(config, vit.build(config).state_dict(), layout)
    block = "transformer.resblocks" if layout == "open_clip" else "blocks"
    names = {f"{block}.{i}.{name}" for i in range(3) for name in BLOCK[layout].split()}
    assert set(theirs) == names | set(REST[case].split())
    if layout == "timm":
        assert theirs["pos_embed"].shape == (1, config.patches + config.class_token, 64)
    if case == "timm":
        assert theirs["cls_token"].shape == (1, 1, 64)
    if case == "timm attention":
        assert theirs["attn_pool.latent"].shape == (1, 1, 64)


# --- what can't be held ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "options", "sentence"),
    [
        ("transformers_clip", TINY, "needs class_token=true; it needs pre_norm=true; it needs pat"),
        ("transformers_clip", CLIP | {"pooling": "attention"}, "can't pool by attention"),
        ("transformers_siglip", CLIP, "needs class_token=false; it needs pre_norm=false"),
        ("transformers_siglip", TINY | {"patch_bias": False}, "needs patch_bias=true"),
        ("open_clip", TINY, "needs class_token=true; it needs patch_bias=false"),
        ("open_clip", CLIP | {"pooling": "attention"}, r"attention \(only token or mean\)"),
        ("timm", TINY | {"pre_norm": True}, "needs patch_bias=false"),
        ("timm", CLIP | {"pre_norm": False}, "needs patch_bias=true"),
    ],
)
def test_a_layout_that_cannot_hold_the_tower(layout, options, sentence):
    config = vit.Config(**options)
    with pytest.raises(ConfigError, match=sentence):
        to_layout(config, vit.build(config).state_dict(), layout)
    with pytest.raises(ConfigError, match=sentence):
        arguments(config, layout)


def test_unknown_layout():
    with pytest.raises(ConfigError, match=r"Unknown layout 'openclip'. Did you mean 'open_clip'"):
        to_layout(vit.Config(**CLIP), {}, "openclip")
    with pytest.raises(ConfigError, match="Unknown layout"):
        from_layout({}, "jax")


def test_state_that_is_not_of_the_config():
    config = vit.Config(**CLIP)
    state = vit.build(config).state_dict()
    less = {name: t for name, t in state.items() if name != "blocks.1.norm1.bias"}
    with pytest.raises(CheckpointError, match=r"Missing in the tower's .*: blocks.1.norm1.bias"):
        to_layout(config, less, "timm")
    with pytest.raises(CheckpointError, match=r"No place .*: extra"):
        to_layout(config, state | {"extra": state["norm.bias"]}, "timm")
    with pytest.raises(CheckpointError, match=r"position has the shape \(5, 64\)"):
        to_layout(config, state | {"position": torch.zeros(5, 64)}, "timm")


# --- weights that don't fit --------------------------------------------------------------------


@pytest.fixture
def theirs():
    config = vit.Config(**CLIP)
    return to_layout(config, vit.build(config).state_dict(), "transformers_clip", prefix=True)


def read(state, **more):
    return from_layout(state, "transformers_clip", heads=2, **more)


@pytest.mark.parametrize(
    "name",
    [
        "embeddings.patch_embedding.weight",
        "embeddings.position_embedding.weight",
        "pre_layrnorm.bias",
        "encoder.layers.0.mlp.fc1.weight",
        "encoder.layers.1.self_attn.k_proj.bias",
        "encoder.layers.2.layer_norm2.weight",
        "post_layernorm.weight",
    ],
)
def test_a_missing_weight_is_named(theirs, name):
    del theirs[f"vision_model.{name}"]
    with pytest.raises(CheckpointError, match=rf"Missing in the weights .*: {name}"):
        read(theirs)


def test_a_block_in_between_is_missing(theirs):
    theirs = {name: t for name, t in theirs.items() if ".layers.1." not in name}
    with pytest.raises(CheckpointError, match=r"Missing .*layers.1.layer_norm1.* and 8 more"):
        read(theirs)


def test_a_block_number_out_of_all_bounds(theirs):
    theirs["vision_model.encoder.layers.999999999.mlp.fc1.bias"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match="Missing"):
        read(theirs)


@pytest.mark.parametrize(
    "name", ["vision_model.head.probe", "vision_model.encoder.layers.1.scale", "text_model.norm"]
)
def test_a_weight_without_place_is_named(theirs, name):
    theirs[name] = torch.zeros(64)
    with pytest.raises(CheckpointError, match=f"No place .*: {name.removeprefix('vision_model.')}"):
        read(theirs)


def test_weights_left_out_knowingly(theirs):
    theirs |= {"text_model.a": torch.zeros(1), "text_model.b": torch.zeros(1)}
    theirs["logit_scale"] = torch.zeros(())
    assert read(theirs, without=["text_model.", "logit_scale"])[0].depth == 3
    with pytest.raises(CheckpointError, match="logit_scale"):
        read(theirs, without=["text_model."])
    with pytest.raises(CheckpointError, match=r"no 'text.' to leave out"):
        read(theirs, without=["text."])


def test_a_buffer_of_older_releases_is_no_weight(theirs):
    theirs["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    assert read(theirs)[0].depth == 3


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("encoder.layers.1.self_attn.v_proj.weight", (64, 32)),
        ("encoder.layers.1.self_attn.q_proj.bias", (32,)),
        ("encoder.layers.2.mlp.fc2.weight", (64, 100)),
        ("embeddings.patch_embedding.weight", (64, 3, 4, 8)),
        ("embeddings.patch_embedding.weight", (64, 192)),
        ("post_layernorm.bias", (65,)),
    ],
)
def test_a_wrong_shape_is_named(theirs, name, shape):
    theirs[f"vision_model.{name}"] = torch.zeros(shape)
    with pytest.raises(CheckpointError, match=rf"{name} has the shape \({shape[0]},"):
        read(theirs)


def test_positions_that_are_no_square(theirs):
    theirs["vision_model.embeddings.position_embedding.weight"] = torch.zeros(16, 64)
    with pytest.raises(CheckpointError, match="16 positions, which is no square of patches and a"):
        read(theirs)


# so400m, ViT-H, -g, -bigG: multiples of 64 among them, and none has width / 64 heads.
@pytest.mark.parametrize(
    ("width", "heads"), [(72, 3), *((w, 16) for w in (1152, 1280, 1408, 1664))]
)
def test_heads_that_cannot_be_guessed(width, heads):
    config = vit.Config(**{**CLIP, "width": width, "heads": heads, "depth": 1, "mlp_ratio": 1.0})
    theirs = to_layout(config, vit.build(config).state_dict(), "timm")
    with pytest.raises(CheckpointError, match=f"width {width} don't show their heads.*give heads="):
        from_layout(theirs, "timm")
    assert from_layout(theirs, "timm", heads=heads)[0].heads == heads


@pytest.mark.parametrize(("width", "heads"), [(192, 3), (384, 6), (768, 12), (1024, 16)])
def test_heads_of_the_usual_widths(width, heads):
    config = vit.Config(**{**CLIP, "width": width, "heads": heads, "depth": 1, "mlp_ratio": 1.0})
    theirs = to_layout(config, vit.build(config).state_dict(), "timm")
    assert from_layout(theirs, "timm")[0].heads == heads


def test_facts_that_do_not_exist(theirs):
    with pytest.raises(ConfigError, match="Did you mean 'activation'"):
        read(theirs, activatoin="gelu")


def test_a_projection_is_no_part_of_the_tower():
    config = vit.Config(**CLIP)
    theirs = to_layout(config, vit.build(config).state_dict(), "open_clip", prefix=True)
    assert torch.equal(theirs["visual.proj"], torch.eye(64))
    for other in (torch.randn(64, 64), torch.zeros(64, 16)):
        theirs["visual.proj"] = other
        with pytest.raises(CheckpointError, match=r"without=\['visual.proj'\]"):
            from_layout(theirs, "open_clip", heads=2)
        assert from_layout(theirs, "open_clip", heads=2, without=["visual.proj"])[0].depth == 3


def test_a_text_tower_does_not_slip_into_the_vision_tower():
    # In a whole open_clip model the text blocks are named as the vision blocks are, but bare.
    config = vit.Config(**CLIP)
    state = vit.build(config).state_dict()
    theirs = to_layout(config, state, "open_clip", prefix=True)
    name = "transformer.resblocks.0.ln_1.weight"
    theirs[name] = torch.full((64,), 5.0)
    with pytest.raises(CheckpointError, match=f"No place for names in .*: {name}"):
        from_layout(theirs, "open_clip", heads=2)
    _, back = from_layout(theirs, "open_clip", heads=2, without=["transformer."])
    assert torch.equal(back["blocks.0.norm1.weight"], state["blocks.0.norm1.weight"])


def test_a_norm_after_the_mean_is_refused():
    config = vit.Config(**TINY)
    theirs = to_layout(config, vit.build(config).state_dict(), "timm")
    swapped = {name.replace("norm.", "fc_norm.") if name.startswith("norm.") else name: t
               for name, t in theirs.items()}  # fmt: skip
    with pytest.raises(CheckpointError, match=r"Missing .*: norm.weight, norm.bias"):
        from_layout(swapped, "timm", heads=2)


# --- the same features as transformers ---------------------------------------------------------


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="the extra 'text' is not installed")


def random_weights(model):
    """Draw every weight, norms and biases included, so that no swap of names can hide."""
    rng = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=rng)
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.2
            parameter.copy_(noise * scale + float("norm" in name and name.endswith("weight")))
    return model.eval()


def compare(tower, model, pixels, cut):
    """Return the largest difference of the pooled output and of the patches of each layer."""
    with torch.no_grad():
        out = model(pixels, output_hidden_states=True)
        pooled = (tower(pixels) - out.pooler_output).abs().max()
        patches = [
            (tower.tokens(pixels, layer) - hidden[:, cut:]).abs().max()
            for layer, hidden in enumerate(out.hidden_states[:-1])
        ]
        # The last hidden state is before the final norm in CLIPVisionModel, after it in SigLIP's.
        last = tower.tokens(pixels, -1, normed=cut == 0)
        patches.append((last - out.last_hidden_state[:, cut:]).abs().max())
    return [float(pooled), *map(float, patches)]


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_same_features_as_clip_vision_model(transformers, activation):
    config = vit.Config(**CLIP | {"pooling": "token", "activation": activation})
    settings = transformers.CLIPVisionConfig(**arguments(config, "transformers_clip"))
    model = random_weights(transformers.CLIPVisionModel(settings))
    read, state = from_layout(
        model.state_dict(), "transformers_clip", heads=2, activation=activation
    )
    assert read == config
    tower = vit.build(read).eval()
    tower.load_state_dict(state)
    differences = compare(tower, model, torch.randn(2, 3, 32, 32), cut=1)
    assert len(differences) == 1 + 4 and max(differences) < 1e-5


def test_same_features_as_siglip_vision_model(transformers):
    config = vit.Config(**TINY | {"pooling": "attention", "activation": "gelu_tanh"})
    settings = transformers.SiglipVisionConfig(**arguments(config, "transformers_siglip"))
    model = random_weights(transformers.SiglipVisionModel(settings))
    read, state = from_layout(model.state_dict(), "transformers_siglip", heads=2)
    assert read == config
    tower = vit.build(read).eval()
    tower.load_state_dict(state)
    differences = compare(tower, model, torch.randn(2, 3, 32, 32), cut=0)
    assert len(differences) == 1 + 4 and max(differences) < 1e-5


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("CLIPVision", CLIP | {"pooling": "token", "activation": "quick_gelu"}),
        ("CLIPVision", CLIP),
        ("SiglipVision", TINY | {"pooling": "attention"}),
        ("SiglipVision", TINY),
    ],
)
def test_export_runs_in_their_class(transformers, name, options):
    config = vit.Config(**options)
    tower = shaken(config)
    layout = "transformers_clip" if name == "CLIPVision" else "transformers_siglip"
    settings = getattr(transformers, f"{name}Config")(**arguments(config, layout))
    model = getattr(transformers, f"{name}Model")(settings).eval()
    model.load_state_dict(to_layout(config, tower.state_dict(), layout), strict=True)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        out = model(pixels)
        if config.pooling == "mean":
            last = out.last_hidden_state
            if name == "CLIPVision":
                last = model.post_layernorm(last[:, 1:])
            theirs = last.mean(1)
        else:
            theirs = out.pooler_output
        torch.testing.assert_close(tower(pixels), theirs, rtol=0, atol=1e-5)


def test_the_paper_trunk_is_clip_vision_model(transformers):
    config = vit.clip_size("B/16", pooling="token", activation="quick_gelu")
    settings = transformers.CLIPVisionConfig(**arguments(config, "transformers_clip"))
    model = random_weights(transformers.CLIPVisionModel(settings))
    assert sum(p.numel() for p in model.parameters()) == 85_799_424
    read, state = from_layout(model.state_dict(), "transformers_clip")
    assert read == config
    assert sum(t.numel() for t in state.values()) == 85_799_424
    with torch.device("meta"):
        tower = vit.build(read)
    tower.load_state_dict(state, assign=True)
    assert max(compare(tower.eval(), model, torch.randn(1, 3, 224, 224), cut=1)) < 1e-5
