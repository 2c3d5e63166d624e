"""Decoders as encoders: every row against one text at a time, in float64, pooled by hand."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import decoder_folders
from lift.config import part
from lift.errors import ConfigError
from lift.text.encoder import build_encoder, space_of
from lift.text.encoders._decoder import pool
from lift.text.encoders._presets import PRESETS, Options, seen_by, usable_prefixes
from lift.text.encoders.causal_lm import Config

BOS, EOS = 0, 1
KINDS = ("llama", "mistral", "qwen3")
TEXTS = [
    *decoder_folders.captions()[:12],
    "x",
    "",
    "日本の犬が公園で走っています。",
    "a red bus drives past a clock tower and " * 20,
]


def of(folder: Path | None = None, **options):
    if folder is not None:
        options["model"] = str(folder)
    return part("text/encoders", "causal_lm", **options)


def rows_of(folder: Path, *, precision="float32", token_budget=None, texts=TEXTS, **options):
    encoder = build_encoder(of(folder, **options), "cpu")
    return encoder.encode(texts, precision=precision, token_budget=token_budget).rows


@functools.cache
def reference(folder: Path):
    """Return the library's network in float64 and its tokenizer."""
    from transformers import AutoModel, AutoTokenizer

    return AutoModel.from_pretrained(folder).double().eval(), AutoTokenizer.from_pretrained(folder)


def naive(folder: Path, text: str, *, pooling, eos, layer=-1, prompt="", cap=64) -> np.ndarray:
    """Return the row of one text, not normalised: no batch, no padding, no mask."""
    model, words = reference(folder)
    ids = [BOS, *words(prompt + text.strip(), add_special_tokens=False, verbose=False).input_ids]
    ids = [*ids[: cap - 1], EOS] if eos else ids[:cap]
    with torch.no_grad():
        found = model(torch.tensor([ids]), output_hidden_states=True, use_cache=False)
    states = found.hidden_states[layer][0].numpy()
    if pooling == "last":
        return states[-1]
    weights = np.ones(len(ids)) if pooling == "mean" else np.arange(1, len(ids) + 1)
    return (states * weights[:, None]).sum(0) / weights.sum()


def naive_rows(folder: Path, texts=TEXTS, **how) -> np.ndarray:
    return np.stack([naive(folder, text, **how) for text in texts])


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def copy(tiny_decoder, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_decoder, tmp_path / "copy"))


def edit(file: Path, **values) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["last", "mean", "weightedmean"])
@pytest.mark.parametrize("padding", ["left", "right"])
def test_rows_are_those_of_one_text_at_a_time(kind, pooling, padding):
    folder = decoder_folders.folder(kind)
    for eos in (True, False):
        found = rows_of(folder, pooling=pooling, padding=padding, append_eos=eos)
        expected = unit(naive_rows(folder, pooling=pooling, eos=eos))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_learned_positions_too(tmp_path):
    folder = decoder_folders.write(
        tmp_path / "gpt2", "gpt2", n_embd=48, n_layer=2, n_head=4, n_positions=64
    )
    assert space_of(of(folder)).max_tokens == 64
    assert space_of(of(folder, layer=1)).pooling == "lasttoken > layer1"
    for padding in ("left", "right"):
        found = rows_of(folder, padding=padding, append_eos=True)
        expected = unit(naive_rows(folder, pooling="last", eos=True))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_rows_depend_on_neither_batch_nor_order_nor_side(kind, pooling):
    folder = decoder_folders.folder(kind)
    encoder = build_encoder(of(folder, pooling=pooling), "cpu")
    left = build_encoder(of(folder, pooling=pooling, padding="left"), "cpu")
    rows = encoder.encode(TEXTS).rows
    order = np.random.default_rng(0).permutation(len(TEXTS))
    some = [TEXTS[i] for i in order]
    for budget in (1, 60, 300):
        for one in (encoder, left):
            found = one.encode(some, token_budget=budget).rows
            np.testing.assert_allclose(found, rows[order], rtol=0, atol=2e-6)


@pytest.mark.parametrize("layer", [0, 1, 2, 3, -1, -2, -4])
@pytest.mark.parametrize("padding", ["left", "right"])
def test_a_chosen_layer(tiny_decoder, layer, padding):
    found = rows_of(tiny_decoder, layer=layer, pooling="mean", padding=padding)
    expected = unit(naive_rows(tiny_decoder, pooling="mean", eos=False, layer=layer))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_layers_have_one_name(tiny_decoder):
    names = {k: space_of(of(tiny_decoder, pooling="mean", layer=k)).pooling for k in range(-4, 4)}
    assert names[0] == names[-4] == "mean > layer0"
    assert names[2] == names[-2] == "mean > layer2"
    assert names[3] == names[-1] == "mean"  # with the final norm: what a decoder puts out
    for layer in (4, -5):
        with pytest.raises(ConfigError, match=rf"layer={layer}, .* has 3 blocks; give 0 "):
            space_of(of(tiny_decoder, layer=layer))


def test_a_layer_in_the_middle_has_no_final_norm(tiny_decoder):
    """The reference above takes it from the library; this one from the blocks themselves."""
    model, _ = reference(tiny_decoder)
    encoder = build_encoder(of(tiny_decoder, layer=2, normalised=False), "cpu")
    seen = []
    hook = encoder._model.layers[1].register_forward_hook(lambda *args: seen.append(args[-1]))
    rows = encoder.encode(["a dog"]).rows
    hook.remove()
    np.testing.assert_array_equal(rows[0], seen[0][0, -1].numpy())
    assert len(model.layers) == 3


@pytest.mark.parametrize("padding", ["left", "right"])
def test_prompt_normalisation_and_cut(tiny_decoder, padding):
    how = {"append_eos": True, "padding": padding, "prompt": "Describe: "}
    raw = rows_of(tiny_decoder, pooling="mean", max_tokens=14, normalised=False, **how)
    options = {"pooling": "mean", "eos": True, "prompt": "Describe: "}
    np.testing.assert_allclose(raw, naive_rows(tiny_decoder, cap=14, **options), atol=1e-4)
    assert np.ptp(np.linalg.norm(raw, axis=1)) > 0.01
    short = unit(naive_rows(tiny_decoder, cap=14, **options))
    whole = unit(naive_rows(tiny_decoder, cap=64, **options))
    assert np.abs(short[-1] - whole[-1]).max() > 0.01  # the cut is no formality


def test_tokens_cuts_and_padding_are_counted(tiny_decoder):
    encoder = build_encoder(of(tiny_decoder, append_eos=True, max_tokens=12), "cpu")
    _, words = reference(tiny_decoder)
    found = encoder.encode(TEXTS, token_budget=48)
    whole = [len(words(text.strip(), verbose=False).input_ids) + 1 for text in TEXTS]
    assert found.tokens.tolist() == whole
    assert found.truncated.tolist() == [count > 12 for count in whole]
    read = sorted((min(12, count) for count in whole), reverse=True)
    padded, start = 0, 0
    while start < len(read):
        many = 48 // read[start]
        padded += read[start] * len(read[start : start + many])
        start += many
    assert found.padded == padded > sum(read)
    alone = encoder.encode(TEXTS, token_budget=1)
    assert alone.padded == sum(read)


def test_bfloat16_stays_near(tiny_decoder):
    exact = rows_of(tiny_decoder)
    for options in ({"precision": "bfloat16"}, {"weights": "bfloat16"}, {"weights": "float16"}):
        rows = rows_of(tiny_decoder, **options)
        assert 0.998 < (rows * exact).sum(axis=1).min() < 1 - 1e-7, options
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_weights_are_kept_as_asked(copy):
    from safetensors.torch import load_file, save_file

    file = copy / "model.safetensors"
    save_file({n: w.half() for n, w in load_file(file).items()}, file, {"format": "pt"})
    edit(copy / "config.json", dtype="float16")
    kept = {"auto": torch.float16, "float32": torch.float32, "bfloat16": torch.bfloat16}
    for weights, dtype in kept.items():
        encoder = build_encoder(of(copy, weights=weights), "cpu")
        assert {p.dtype for p in encoder._model.parameters()} == {dtype}
        assert not any(p.requires_grad for p in encoder._model.parameters())
    assert {p.dtype for p in build_encoder(of(copy), "cpu")._model.parameters()} == {torch.float32}


def test_an_autocast_of_the_caller_changes_nothing(tiny_decoder):
    encoder = build_encoder(of(tiny_decoder), "cpu")
    with torch.autocast("cpu", torch.bfloat16):
        inside = encoder.encode(TEXTS[:3]).rows
    np.testing.assert_array_equal(inside, encoder.encode(TEXTS[:3]).rows)


def test_the_head_is_left_out_in_silence(tiny_decoder, caplog, capfd):
    encoder = build_encoder(of(tiny_decoder), "cpu")
    assert type(encoder._model).__name__ == "LlamaModel"
    encoder.encode(TEXTS)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert capfd.readouterr() == ("", "")


def test_pooling_ignores_whatever_stands_at_padding():
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    hidden = torch.tensor([[1.0, 3.0, torch.inf], [torch.nan, 5.0, 9.0]]).unsqueeze(2)
    expected = {"last": [3, 9], "mean": [2, 7], "weightedmean": [7 / 3, 23 / 3]}
    for how, values in expected.items():
        np.testing.assert_allclose(pool(hidden, mask, how)[:, 0], values, rtol=1e-6)


# --- presets


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_in_the_space(name, tiny_decoder):
    assert {field.name for field in dataclasses.fields(Config)} >= {"preset", "pooling"}
    chosen = PRESETS[name]
    space = space_of(of(tiny_decoder, preset=name, max_tokens=64))
    eos = " > eos" if chosen.append_eos else ""
    assert (space.pooling, space.prompt, space.normalised) == (f"lasttoken{eos}", "", True)
    with pytest.raises(ConfigError, match=rf"max_tokens is {chosen.max_tokens}, .*=64 or less"):
        space_of(of(tiny_decoder, preset=name))
    encoder = build_encoder(of(tiny_decoder, preset=name, max_tokens=64), "cpu")
    assert encoder.matryoshka == (name == "qwen3_embedding")
    assert ("flickr30k" in encoder.saw) == (name in {"e5_mistral", "sfr", "sfr2", "linq"})
    assert encoder._side == chosen.padding
    assert rows_of(tiny_decoder, preset=name, max_tokens=64).shape == (len(TEXTS), 48)


def test_presets_name_hub_models():
    assert len({chosen.model for chosen in PRESETS.values()}) == len(PRESETS)
    with pytest.raises(ConfigError, match="neither a folder nor a hub model"):
        space_of(of(preset="sfr"))  # the hub can't be reached in tests
    with pytest.raises(ConfigError, match=r"Unknown preset .*'sfr1'.*Did you mean 'sfr"):
        space_of(of(preset="sfr1"))
    with pytest.raises(ConfigError, match=r"needs model=FOLDER_OR_HUB_ID, or a preset \(vicuna,"):
        space_of(of())


def test_what_a_model_is_known_for_needs_no_preset():
    assert seen_by("intfloat/e5-mistral-7b-instruct") == ("flickr30k",)
    assert seen_by("somebody/else") == ()
    plain = Options(model="Qwen/Qwen3-Embedding-8B")
    assert usable_prefixes(plain.model, plain)
    assert not usable_prefixes("Qwen/Qwen3-8B", plain)


def test_own_options_come_before_those_of_a_preset(tiny_decoder):
    own = {"pooling": "mean", "append_eos": False, "prompt": "p ", "normalised": False}
    space = space_of(of(tiny_decoder, preset="linq", max_tokens=20, **own))
    assert space == space_of(of(tiny_decoder, max_tokens=20, **own))
    assert (space.pooling, space.prompt, space.normalised) == ("mean", "p ", False)
    encoder = build_encoder(of(tiny_decoder, preset="linq", max_tokens=20, saw=("coco",)), "cpu")
    assert encoder.saw == ("coco",)


def test_the_stored_part_spells_everything_out(copy, monkeypatch):
    monkeypatch.chdir(copy.parent)
    relative = of(Path("copy"), preset="vicuna", max_tokens=30, layer=-2)
    encoder = build_encoder(relative, "cpu", trusted=True)
    options = encoder.part.options
    assert (options["append_eos"], options["pooling"], options["padding"]) == (
        True,
        "last",
        "right",
    )
    assert "trust_remote_code" not in options
    monkeypatch.chdir("/")
    # As if the preset had changed since: what is stored does not ask it.
    monkeypatch.setitem(PRESETS, "vicuna", dataclasses.replace(PRESETS["sfr"], pooling="mean"))
    assert space_of(encoder.part) == encoder.space
    again = build_encoder(encoder.part, "cpu")
    assert again.part == encoder.part
    np.testing.assert_array_equal(again.encode(TEXTS).rows, encoder.encode(TEXTS).rows)


def test_what_changes_rows_changes_the_fingerprint_and_what_rounds_does_not(tiny_decoder):
    base = space_of(of(tiny_decoder)).fingerprint
    moved = [
        {"pooling": "mean"},
        {"pooling": "weightedmean"},
        {"append_eos": True},
        {"prompt": "a "},
        {"layer": 1},
        {"normalised": False},
        {"max_tokens": 32},
    ]
    found = {space_of(of(tiny_decoder, **options)).fingerprint for options in moved}
    assert len(found | {base}) == len(moved) + 1
    for options in ({"padding": "left"}, {"weights": "float16"}, {"layer": -1}, {"saw": ["coco"]}):
        assert space_of(of(tiny_decoder, **options)).fingerprint == base


# --- what goes wrong


def test_a_tokenizer_without_eos(tmp_path):
    words = decoder_folders.tokenizer(eos=False)
    folder = decoder_folders.write(tmp_path / "bare", words=words)
    with pytest.raises(ConfigError, match=r"EOS token has to end every text, but .* no eos_token"):
        build_encoder(of(folder, preset="mistral", max_tokens=64), "cpu")
    # Nor does it pad, and neither stops whoever needs no EOS.
    assert rows_of(folder, pooling="mean").shape == (len(TEXTS), 48)


def test_bad_input_is_one_sentence(tiny_decoder, copy, tmp_path):
    with pytest.raises(ConfigError, match="neither a folder nor a hub model"):
        space_of(of(tmp_path / "missing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"holds no model: config\.json"):
        space_of(of(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="is a folder; leave it out"):
        space_of(of(tiny_decoder, revision="main"))
    with pytest.raises(ConfigError, match="has 64 positions; give max_tokens=64 or less"):
        space_of(of(tiny_decoder, max_tokens=65))
    with pytest.raises(ConfigError, match="must be positive, not 0"):
        space_of(of(tiny_decoder, max_tokens=0))
    with pytest.raises(ConfigError, match=r"value of .*pooling: 'lasst'.* Did you mean 'last'"):
        space_of(of(tiny_decoder, pooling="lasst"))
    edit(copy / "config.json", is_encoder_decoder=True)
    with pytest.raises(ConfigError, match="use the encoder sentence_transformer"):
        space_of(of(copy))
    (copy / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json is not JSON"):
        space_of(of(copy))


def test_missing_weights_are_not_made_up(copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack 1 of .*layers\.1\.mlp\.up_proj\.weight"):
        build_encoder(of(copy), "cpu")


def test_weights_of_another_shape_or_half_a_file(copy):
    content = (copy / "model.safetensors").read_bytes()
    edit(copy / "config.json", hidden_size=96)
    with pytest.raises(ConfigError, match="could not be loaded"):
        build_encoder(of(copy), "cpu")
    edit(copy / "config.json", hidden_size=48)
    (copy / "model.safetensors").write_bytes(content[:-1_000])
    with pytest.raises(ConfigError, match="could not be loaded"):
        build_encoder(of(copy), "cpu")


def test_rows_of_another_width_than_promised(tmp_path):
    folder = decoder_folders.write(
        tmp_path / "opt", "opt", ffn_dim=96, word_embed_proj_dim=24, do_layer_norm_before=False
    )
    encoder = build_encoder(of(folder, max_tokens=32), "cpu")
    with pytest.raises(ConfigError, match=r"rows of 24 values, but its config\.json promises 48"):
        encoder.encode(["a dog"])


def test_code_of_a_model_runs_only_on_the_users_word(copy, tmp_path):
    """Both times the model is not loaded; what differs is whether its code ran."""
    trace = tmp_path / "ran"
    (copy / "own.py").write_text(f"open({str(trace)!r}, 'w').close()\nraise ValueError('ran')\n")
    edit(
        copy / "config.json",
        model_type="own",
        auto_map={"AutoConfig": "own.A", "AutoModel": "own.B"},
    )
    edit(copy / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    wanted = of(copy, trust_remote_code=True)
    assert space_of(wanted).dimensions == 48
    with pytest.raises(ConfigError):
        build_encoder(wanted, "cpu")
    assert not trace.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ConfigError):
            build_encoder(wanted, "cpu", trusted=True)
    assert trace.exists()


BOTH_WAYS = """
from transformers import LlamaModel as Theirs
class LlamaModel(Theirs):
    def forward(self, input_ids=None, attention_mask=None, position_ids=None, **options):
        count = input_ids.shape[1]
        mask = attention_mask.bool()[:, None, None, :].expand(-1, 1, count, count)
        return super().forward(
            input_ids=input_ids, attention_mask=mask, position_ids=position_ids, **options
        )
"""


@pytest.fixture
def both_ways(copy, monkeypatch, tmp_path) -> Path:
    """Return a Llama whose own class lets every token see all others."""
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    (copy / "both_ways.py").write_text(BOTH_WAYS)
    edit(copy / "config.json", auto_map={"AutoModel": "both_ways.LlamaModel"})
    return copy


def test_whose_code_runs_is_said_and_in_the_space(both_ways):
    with pytest.raises(ConfigError, match=r"own code .*both_ways\.LlamaModel.*ignore_remote_code"):
        build_encoder(of(both_ways), "cpu", trusted=True)
    with pytest.raises(ConfigError, match="give one of them"):
        space_of(of(both_ways, trust_remote_code=True, ignore_remote_code=True))
    library = build_encoder(of(both_ways, pooling="mean", ignore_remote_code=True), "cpu")
    own = build_encoder(of(both_ways, pooling="mean", trust_remote_code=True), "cpu", trusted=True)
    assert library.space.pooling == "mean > library-code"
    assert own.space.pooling == "mean > own-code"
    assert own.space == space_of(of(both_ways, pooling="mean", trust_remote_code=True))
    rows = [encoder.encode(["a dog on the beach"]).rows[0] for encoder in (library, own)]
    assert rows[0] @ rows[1] < 0.99
    assert build_encoder(library.part, "cpu").space == library.space
    # What was made with trust is never quietly rebuilt without it.
    with pytest.raises(ConfigError, match="own code"):
        build_encoder(own.part, "cpu")


def test_options_about_code_change_nothing_where_no_file_names_code(tiny_decoder):
    base = space_of(of(tiny_decoder))
    for options in ({"trust_remote_code": True}, {"ignore_remote_code": True}):
        assert space_of(of(tiny_decoder, **options)) == base


def test_code_of_a_tokenizer_counts_too(copy):
    edit(copy / "tokenizer_config.json", auto_map={"AutoTokenizer": ["words.Slow", None]})
    with pytest.raises(ConfigError, match=r"own code .*words\.Slow"):
        space_of(of(copy))


def test_code_that_nothing_pins_is_refused(copy):
    edit(copy / "config.json", auto_map={"AutoModel": "some/body--modeling.Model"})
    with pytest.raises(ConfigError, match=r"code of another repository \('some/body--modeling"):
        space_of(of(copy, trust_remote_code=True))
    assert space_of(of(copy, ignore_remote_code=True)).pooling == "lasttoken > library-code"
    edit(copy / "config.json", auto_map={}, attn_implementation="some/kernel")
    with pytest.raises(ConfigError, match="a kernel of the hub"):
        space_of(of(copy, ignore_remote_code=True))


@pytest.mark.parametrize("padding", ["left", "right"])
def test_longrope_rows_do_not_depend_on_the_batch(tmp_path, padding):
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "factor": 4.0,
        "short_factor": [1.0] * 6,
        "long_factor": [4.0] * 6,
        "original_max_position_embeddings": 16,
    }
    folder = decoder_folders.write(
        tmp_path / "phi",
        "phi3",
        rope_parameters=rope,
        original_max_position_embeddings=16,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=1,
    )
    encoder = build_encoder(of(folder, pooling="mean", padding=padding), "cpu")
    texts = [" ".join(("at" * 12)[:count]) for count in range(8, 24)]  # each letter a token
    found = encoder.encode(texts)
    assert {15, 16, 17} <= set(found.tokens.tolist())
    alone = encoder.encode(texts, token_budget=1).rows
    np.testing.assert_allclose(found.rows, alone, rtol=0, atol=2e-6)


def test_a_padding_token_that_the_network_lacks(tmp_path):
    words = decoder_folders.tokenizer()
    words.add_special_tokens({"pad_token": "[PAD]"})
    assert words.pad_token_id == 512
    folder = decoder_folders.write(tmp_path / "pad", words=words)
    encoder = build_encoder(of(folder), "cpu")
    rows = encoder.encode(TEXTS).rows
    np.testing.assert_allclose(rows, encoder.encode(TEXTS, token_budget=1).rows, atol=2e-6)
    with pytest.raises(ConfigError, match="has a token 512, but the network has vectors for 512"):
        encoder.encode(["a [PAD] b"])


BAD_JSON = {
    "list": b"[1]",
    "text": b'"x"',
    "latin": b"\xff\xfe{}",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", BAD_JSON.values(), ids=BAD_JSON)
@pytest.mark.parametrize("name", ["causal_lm", "sentence_transformer"])
def test_files_that_are_no_json_object_are_one_sentence(copy, name, content):
    (copy / "config.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.json (is not JSON|holds a JSON)"):
        space_of(part("text/encoders", name, model=str(copy)))


@pytest.mark.parametrize(
    "values",
    [
        {"attn_implementation": "flash_attention_2"},
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        {"num_attention_heads": 7},
        {"vocab_size": "x"},
        {"hidden_size": True},
        {"hidden_act": "nope"},
        {"model_type": "nope"},
    ],
    ids=str,
)
def test_configurations_that_do_not_load_are_one_sentence(copy, values):
    edit(copy / "config.json", **values)
    with pytest.raises(ConfigError):
        build_encoder(of(copy), "cpu")


def test_limits_and_names_that_are_none(copy):
    (copy / "tokenizer_config.json").write_text('{"model_max_length": Infinity}')
    assert space_of(of(copy)).max_tokens == 64
    for name in ("~nobody-of-that-name/x", "x" * 5_000, "a/b/c/d"):
        with pytest.raises(ConfigError):
            space_of(of(Path(name)))
