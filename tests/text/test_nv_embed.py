"""NV-Embed: rows of a naive float64 computation, tokens and cuts of the original, loud files."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

import tiny_nv_embed
from lift import recipes
from lift.config import override, part
from lift.errors import ConfigError
from lift.text.encoder import batches, build_encoder, space_of
from lift.text.probes import PROBES

TEXTS = [*PROBES[:12], "", "x", "x" + " x" * 40, "日本の犬", "Café </s> noir"]
INSTRUCTION = "Instruct: Find the picture.\nQuery: "
SECOND = "model-00002-of-00002.safetensors"


def of(folder: Path, **options):
    return part("text/encoders", "nv_embed", model=str(folder), **options)


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny_nv_embed.shared_folder()


@pytest.fixture(scope="module")
def encoder(folder):
    return build_encoder(of(folder), "cpu")


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def edit(folder: Path, file: str, **values) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


class Naive:
    """One text at a time in float64, from tensors and plain operations alone."""

    def __init__(self, folder: Path) -> None:
        self.weights = {
            name: value.double()
            for file in sorted(folder.glob("*.safetensors"))
            for name, value in load_file(file).items()
        }
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def row(self, text: str, instruction: str = "", cap: int = 4096) -> np.ndarray:
        ids = self.tokenizer.encode(f"{instruction}{text}</s>").ids[:cap]
        skip = 0
        if instruction:
            skip = len(self.tokenizer.encode(instruction, add_special_tokens=False).ids)
        mean = self.pooled(self.states(ids))[skip:].mean(dim=0)
        return (mean / mean.pow(2).sum().sqrt()).numpy()

    def states(self, ids: list[int]) -> torch.Tensor:
        c = tiny_nv_embed.CONFIG["text_config"]
        heads, key_heads = c["num_attention_heads"], c["num_key_value_heads"]
        size = c["hidden_size"] // heads
        x = self.weights["embedding_model.embed_tokens.weight"][ids]
        for i in range(c["num_hidden_layers"]):
            w = {
                name.split(f"layers.{i}.")[1].removesuffix(".weight"): value
                for name, value in self.weights.items()
                if f"layers.{i}." in name
            }
            h = self.rms(x, w["input_layernorm"])
            q, k, v = (h @ w[f"self_attn.{name}_proj"].T for name in "qkv")
            seen = []
            for head in range(heads):
                group = head // (heads // key_heads)
                qh = self.rotate(q[:, head * size : (head + 1) * size])
                kh = self.rotate(k[:, group * size : (group + 1) * size])
                vh = v[:, group * size : (group + 1) * size]
                seen.append(self.softmax(qh @ kh.T / math.sqrt(size)) @ vh)
            x = x + torch.cat(seen, dim=1) @ w["self_attn.o_proj"].T
            h = self.rms(x, w["post_attention_layernorm"])
            gate, up = h @ w["mlp.gate_proj"].T, h @ w["mlp.up_proj"].T
            x = x + (gate / (1 + (-gate).exp()) * up) @ w["mlp.down_proj"].T
        return self.rms(x, self.weights["embedding_model.norm.weight"])

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        name = "latent_attention_model"
        w = {n.removeprefix(f"{name}."): v for n, v in self.weights.items() if n.startswith(name)}
        a, f = "cross_attend_blocks.0", "cross_attend_blocks.1"
        heads, size = tiny_nv_embed.CROSS_HEADS, tiny_nv_embed.CROSS_WIDTH
        asks = self.layer(x, w, f"{a}.norm") @ w[f"{a}.fn.to_q.weight"].T
        answers = self.layer(w["latents"], w, f"{a}.norm_context") @ w[f"{a}.fn.to_kv.weight"].T
        seen = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            value = slice((heads + head) * size, (heads + head + 1) * size)
            scores = asks[:, own] @ answers[:, own].T / math.sqrt(size)
            seen.append(self.softmax(scores) @ answers[:, value])
        x = x + torch.cat(seen, dim=1) @ w[f"{a}.fn.to_out.weight"].T
        h = self.layer(x, w, f"{f}.norm") @ w[f"{f}.fn.net.0.weight"].T + w[f"{f}.fn.net.0.bias"]
        half = h.shape[1] // 2
        gates = h[:, half:]
        h = h[:, :half] * gates * 0.5 * (1 + torch.erf(gates / math.sqrt(2)))
        return x + h @ w[f"{f}.fn.net.2.weight"].T + w[f"{f}.fn.net.2.bias"]

    @staticmethod
    def rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x / (x.pow(2).mean(dim=1, keepdim=True) + 1e-5).sqrt() * weight

    @staticmethod
    def layer(x: torch.Tensor, w: dict, name: str) -> torch.Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        spread = (centred.pow(2).mean(dim=1, keepdim=True) + 1e-5).sqrt()
        return centred / spread * w[f"{name}.weight"] + w[f"{name}.bias"]

    @staticmethod
    def softmax(x: torch.Tensor) -> torch.Tensor:
        e = (x - x.max(dim=1, keepdim=True).values).exp()
        return e / e.sum(dim=1, keepdim=True)

    @staticmethod
    def rotate(x: torch.Tensor) -> torch.Tensor:
        turned, half = torch.empty_like(x), x.shape[1] // 2
        for i in range(half):
            angle = torch.arange(len(x)).double() * 10_000.0 ** (-i / half)
            a, b = x[:, i], x[:, i + half]
            turned[:, i] = a * angle.cos() - b * angle.sin()
            turned[:, i + half] = b * angle.cos() + a * angle.sin()
        return turned


@pytest.fixture(scope="module")
def naive(folder) -> Naive:
    return Naive(folder)


def test_rows_are_those_of_the_naive_computation(encoder, naive):
    found = encoder.encode(TEXTS)
    expected = np.stack([naive.row(text) for text in TEXTS])
    assert np.abs(found.rows - expected).max() < 1e-5
    # The rows differ enough for that to mean something.
    closest = expected @ expected.T - 2 * np.eye(len(TEXTS))
    assert closest.max() < 0.99


@pytest.mark.parametrize("instruction", [INSTRUCTION, "about a dog"])
def test_an_instruction_is_seen_and_left_out_of_the_mean(folder, naive, encoder, instruction):
    asked = build_encoder(of(folder, prompt=instruction), "cpu").encode(TEXTS)
    expected = np.stack([naive.row(text, instruction) for text in TEXTS])
    assert np.abs(asked.rows - expected).max() < 1e-5
    # The instruction changes the other tokens' states, and is longer than nothing.
    plain = encoder.encode(TEXTS)
    assert np.abs(asked.rows - plain.rows).max() > 0.01
    assert (asked.tokens > plain.tokens).all()


def test_an_instruction_that_merges_into_the_text_leaves_a_row(folder, naive):
    """A word that is one token, begun by the instruction in three and ended by the text."""

    def count(text: str) -> int:
        return len(naive.tokenizer.encode(text, add_special_tokens=False).ids)

    words = sorted(w[1:] for w in naive.tokenizer.get_vocab() if w.startswith("▁") and len(w) > 4)
    word = next(w for w in words if count(w) == 1 and count(w[:-1]) >= 3)
    encoder = build_encoder(of(folder, prompt=word[:-1]), "cpu")
    found = encoder.encode([word[-1]])
    assert found.tokens.tolist() == [3] and encoder._ids.instruction >= 3
    # The original divides nothing by nothing there; here EOS stays in the mean.
    states = naive.states(naive.tokenizer.encode(f"{word}</s>").ids)
    expected = naive.pooled(states)[-1]
    np.testing.assert_allclose(found.rows[0], expected / expected.norm(), atol=1e-5)


def test_padding_batch_and_order_do_not_matter(encoder):
    rows = encoder.encode(TEXTS).rows
    for budget in (1, 100, 10_000):
        found = encoder.encode(TEXTS, token_budget=budget)
        np.testing.assert_allclose(found.rows, rows, rtol=0, atol=1e-6)
    back = encoder.encode(TEXTS[::-1], token_budget=300).rows[::-1]
    np.testing.assert_allclose(back, rows, rtol=0, atol=1e-6)


def test_padding_is_counted(encoder):
    alone = encoder.encode(TEXTS, token_budget=1)
    assert alone.padded == alone.tokens.sum()
    planned = batches(alone.tokens, 200)
    expected = sum(len(batch) * alone.tokens[batch].max() for batch in planned)
    assert encoder.encode(TEXTS, token_budget=200).padded == expected > alone.padded


def test_a_later_token_changes_an_earlier_state(encoder):
    ids = torch.arange(300, 312)[None]
    other = ids.clone()
    other[0, -1] = 400
    read = torch.ones_like(ids, dtype=torch.bool)
    with torch.inference_mode():
        a, b = (encoder._network.states(x, read)[0] for x in (ids, other))
    # All of them, also those further away than the sliding window of 4 in config.json.
    assert ((a - b).abs().amax(dim=1) > 1e-3).all()


def test_padding_changes_no_state(encoder):
    ids = torch.arange(300, 312)[None]
    read = torch.arange(12)[None] < 8
    with torch.inference_mode():
        padded = encoder._network.states(ids, read)[0, :8]
        alone = encoder._network.states(ids[:, :8], read[:, :8])[0]
    torch.testing.assert_close(padded, alone, rtol=0, atol=1e-5)


def test_bos_and_eos_are_around_every_text(encoder, naive):
    for text, ids in zip(TEXTS, encoder._ids(TEXTS).ids, strict=True):
        assert ids == [*naive.tokenizer.encode(text).ids, 2] and ids[0] == 1
    assert encoder.encode([""]).tokens.tolist() == [2]


def test_cuts_are_those_of_the_original_and_counted(folder, naive):
    encoder = build_encoder(of(folder, max_tokens=6), "cpu")
    texts = ["a dog", "x x x x", "x x x x x", TEXTS[2]]
    found = encoder.encode(texts)
    whole = [len(naive.tokenizer.encode(f"{text}</s>").ids) for text in texts]
    assert found.tokens.tolist() == whole
    assert found.truncated.tolist() == [n > 6 for n in whole]
    assert found.truncated.any() and not found.truncated.all()
    expected = np.stack([naive.row(text, cap=6) for text in texts])
    assert np.abs(found.rows - expected).max() < 1e-5


@pytest.mark.parametrize("weights", ["bfloat16", "float16"])
def test_half_weights_stay_near(folder, encoder, weights):
    half = build_encoder(of(folder, weights=weights), "cpu")
    assert {p.dtype for p in half._network.parameters()} == {getattr(torch, weights)}
    assert half.space == encoder.space
    rows, exact = half.encode(TEXTS).rows, encoder.encode(TEXTS).rows
    assert rows.dtype == np.float32
    assert (rows * exact).sum(axis=1).min() > 0.99
    np.testing.assert_array_equal(half.encode(TEXTS, precision="bfloat16").rows, rows)


def test_half_files_compute_in_float32(copy, encoder):
    for file in copy.glob("*.safetensors"):
        save_file({n: v.half() for n, v in load_file(file).items()}, file)
    half = build_encoder(of(copy), "cpu")
    assert {p.dtype for p in half._network.parameters()} == {torch.float32}
    rows = half.encode(TEXTS).rows
    assert np.abs(rows - np.stack([Naive(copy).row(text) for text in TEXTS])).max() < 1e-5


def test_the_space_says_what_a_row_is(folder, copy, encoder):
    space = encoder.space
    assert (space.encoder, space.model, space.dimensions) == ("nv-embed", "local", 64)
    assert space.pooling == "latents16x4 > mean-no-prompt > eos-before-cut"
    assert space.normalised and (space.max_tokens, space.prompt) == (4096, "")
    assert space_of(of(copy)) == space  # the content counts, not the path
    assert encoder.saw == ("flickr30k",) and not encoder.matryoshka
    changed = load_file(copy / SECOND)
    changed["latent_attention_model.latents"][0, 0] += 1
    save_file(changed, copy / SECOND)
    assert set(space.differences(space_of(of(copy)))) == {"revision"}


def test_published_sizes_are_those_of_the_published_files():
    """Names and 15.7 GB of float16 in all, as the hub lists nvidia/NV-Embed-v2."""
    from lift.text.encoders._latent_attention import NVEmbedNetwork
    from lift.text.encoders._nv_files import read_sizes

    big = {**tiny_nv_embed.CONFIG, "hidden_size": 4096}
    big["latent_attention_config"] = {"model_type": "latent_attention"}
    big["text_config"] = {
        **tiny_nv_embed.CONFIG["text_config"],
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32_000,
    }
    home = tiny_nv_embed.shared_folder().parent / "published"
    home.mkdir(exist_ok=True)
    (home / "config.json").write_text(json.dumps(big))
    sizes = read_sizes(home)
    assert (sizes.latents, sizes.heads, sizes.head_width) == (512, 8, 4096)
    with torch.device("meta"):
        network = NVEmbedNetwork(sizes)
    bytes_of_half = 2 * sum(value.numel() for value in network.state_dict().values())
    assert 5.00 + 4.92 + 5.00 + 0.789 == pytest.approx(bytes_of_half / 1e9, abs=0.015)


def without(folder: Path, name: str) -> None:
    kept = load_file(folder / SECOND)
    del kept[f"latent_attention_model.{name}"]
    save_file(kept, folder / SECOND)


def more(folder: Path, name: str, value: torch.Tensor) -> None:
    save_file({**load_file(folder / SECOND), name: value}, folder / SECOND)


def shorten(folder: Path) -> None:
    (folder / SECOND).write_bytes((folder / SECOND).read_bytes()[:-100])


def no_eos(folder: Path) -> None:
    edit(folder, "tokenizer_config.json", eos_token=None)


LATENT = "latent_attention_model.latents"
BROKEN = {
    "missing": (lambda f: without(f, "latents"), rf"1 missing \({LATENT}\)"),
    "unexpected": (lambda f: more(f, "lm_head.weight", torch.ones(2)), r"1 unexpected \(lm_head"),
    "shape": (lambda f: more(f, LATENT, torch.ones(3, 64)), r"latents \(3, 64\) instead of"),
    "twice": (
        lambda f: more(f, "embedding_model.norm.weight", torch.ones(64)),
        r"1 twice \(embedding_model\.norm",
    ),
    "shard gone": (lambda f: (f / SECOND).unlink(), f"not whole: {SECOND} is not there"),
    "shard cut": (shorten, "can't be read"),
    "index leaves": (
        lambda f: edit(f, "model.safetensors.index.json", weight_map={"a": "../x"}),
        r"names the file '\.\./x'",
    ),
    "other model": (lambda f: edit(f, "config.json", model_type="mistral"), "'mistral', but"),
    "left padding": (lambda f: edit(f, "config.json", padding_side="left"), "padding_side='left'"),
    "no sizes": (lambda f: edit(f, "config.json", text_config={}), "rms_norm_eps; get the model"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is not there"),
    "not JSON": (lambda f: (f / "config.json").write_text("{"), "is not JSON"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
    "bad tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "is not a tokenizer"),
    "no EOS": (no_eos, r"no EOS token \(eos_token=None\)"),
    "adds EOS": (lambda f: edit(f, "tokenizer_config.json", add_eos_token=True), "use its files"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_one_sentence(copy, name):
    damage, sentence = BROKEN[name]
    damage(copy)
    with pytest.raises(ConfigError, match=sentence) as caught:
        build_encoder(of(copy), "cpu")
    assert "\n" not in str(caught.value)


def test_widths_that_disagree_are_refused(copy):
    edit(copy, "config.json", latent_attention_config={"model_type": "latent_attention"})
    with pytest.raises(ConfigError, match=r"hidden_dim=4096, but the decoder's states have 64"):
        space_of(of(copy))


def test_bad_options_say_what_to_do(folder):
    with pytest.raises(ConfigError, match="max_tokens=8192 or less"):
        space_of(of(folder, max_tokens=9_000))
    with pytest.raises(ConfigError, match="at least 3"):
        space_of(of(folder, max_tokens=2))
    with pytest.raises(ConfigError, match="no room for text beside an instruction"):
        build_encoder(of(folder, prompt=INSTRUCTION, max_tokens=8), "cpu")
    with pytest.raises(ConfigError, match="is a folder; leave it out"):
        space_of(of(folder, revision="main"))


def test_hub_models_are_known_by_their_commit_and_bring_no_code(monkeypatch, folder, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    home = tmp_path / "models--nvidia--NV-Embed-v2"
    snapshot = Path(shutil.copytree(folder, home / "snapshots" / commit))
    (snapshot / "modeling_nvembed.py").write_text("raise SystemExit('must not run')")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    encoder = build_encoder(part("text/encoders", "nv_embed"), "cpu")
    assert (encoder.space.model, encoder.space.revision) == ("nvidia/NV-Embed-v2", commit)
    assert encoder.part.options["revision"] == commit
    assert build_encoder(encoder.part, "cpu").space == encoder.space
    assert encoder.encode(["a dog"]).rows.shape == (1, 64)


@pytest.mark.parametrize(
    ("name", "cap"), [("lift_b16_128m", 77), ("lift_b16_512m", 323), ("lift_b16_1280m_cosine", 77)]
)
def test_the_papers_recipes_use_it(folder, name, cap):
    config = override(recipes.get(name), [f"encoder.model={folder}"]).resolved()
    assert config.encoder is not None and config.encoder.name == "nv_embed"
    space = space_of(config.encoder)
    assert (space.prompt, space.max_tokens, space.normalised) == ("", cap, True)
    assert override(config, ["encoder=none"]).encoder is None


@pytest.fixture(scope="module")
def script():
    path = Path(__file__).parents[2] / "runs" / "check_nv_embed.py"
    spec = importlib.util.spec_from_file_location("check_nv_embed", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference(naive, script) -> dict[str, np.ndarray]:
    ask = script.INSTRUCTION
    return {
        "plain": np.stack([naive.row(text) for text in PROBES]),
        "asked": np.stack([naive.row(text, ask) for text in PROBES]),
        "cut": np.stack([naive.row(text, cap=8) for text in PROBES]),
    }


def test_the_check_agrees_with_the_naive_rows(folder, script, reference, tmp_path, capsys):
    np.savez(tmp_path / "reference.npz", **reference)
    said = [str(folder), "--reference", str(tmp_path / "reference.npz"), "--device", "cpu"]
    assert script.main([*said, "--out", str(tmp_path / "ours.npz")]) == 0
    printed = capsys.readouterr().out
    for words in ("plain: largest", "asked: largest", "cut: largest", "transformers", "agree."):
        assert words in printed
    assert set(np.load(tmp_path / "ours.npz")) == {"plain", "asked", "cut"}


@pytest.mark.parametrize("case", ["plain", "asked", "cut", "nan", "fewer"])
def test_the_check_tells_what_does_not_agree(folder, script, reference, tmp_path, capsys, case):
    rows = {name: value.copy() for name, value in reference.items()}
    if case in rows:
        rows[case][[4, 5]] = rows[case][[5, 4]]
    elif case == "nan":
        rows["plain"][3, 3] = np.nan
    else:
        rows["plain"] = rows["plain"][:-1]
    np.savez(tmp_path / "reference.npz", **rows)
    for more in ([], ["--half"]):
        said = [str(folder), "--reference", str(tmp_path / "reference.npz"), "--device", "cpu"]
        assert script.main([*said, *more]) == 2
        assert "DO NOT AGREE" in capsys.readouterr().out


def test_the_check_without_reference_or_model(folder, script, tmp_path, capsys):
    assert script.main([str(folder), "--device", "cpu", "--weights", "bfloat16"]) == 0
    assert "NOTHING COMPARED" in capsys.readouterr().out
    assert script.main([str(tmp_path), "--device", "cpu"]) == 2
    assert "holds no NV-Embed" in capsys.readouterr().err
    np.savez(tmp_path / "other.npz", rows=np.ones((32, 64)))
    assert script.main([str(folder), "--reference", str(tmp_path / "other.npz")]) == 2
    assert "expected some of" in capsys.readouterr().err
    assert script.main(["--write-probes", str(tmp_path / "probes.json")]) == 0
    assert tuple(json.loads((tmp_path / "probes.json").read_text())) == PROBES


def test_the_recipe_for_a_reference_is_python(script, capsys):
    assert script.main(["--how"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = lines.index("import json, sys")
    last = next(i for i, line in enumerate(lines) if line.startswith("np.savez"))
    compile("\n".join(lines[first : last + 1]), "make_reference.py", "exec")
    assert "transformers==4.42.4" in "\n".join(lines)
