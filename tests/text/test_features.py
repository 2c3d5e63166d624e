"""Features made of ids that were kept: equal to the library's own for every tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lift.errors import ConfigError
from lift.text.encoders._features import Reader

TEXTS = [
    "a dog",
    "",
    "the quick brown fox",
    "x",
    "A DOG: Caf\u00e9",
    "lazy dogs sleep. " * 2,
    "y y",
]


def model_of(folder: Path, cap: int = 48):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    model.max_seq_length = cap
    return model


@pytest.fixture
def copy(tiny_model, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


def same(ours: dict, theirs: dict) -> bool:
    return ours.keys() == theirs.keys() and all(
        torch.equal(value, theirs[name])
        if isinstance(value, torch.Tensor)
        else value == theirs[name]
        for name, value in ours.items()
    )


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("prompt", ["", "find: "])
def test_features_are_the_librarys(tiny_model, side, prompt):
    model = model_of(tiny_model)
    model.tokenizer.padding_side = side
    reader = Reader(model, prompt, 48)
    assert reader.plain
    read = reader.read(TEXTS)
    for batch in ([0], [1], [2, 0, 3], [5, 4, 1, 6]):
        ours = read.features(np.array(batch))
        theirs = model.preprocess([TEXTS[i] for i in batch], prompt=prompt or None)
        assert same(ours, dict(theirs)), batch
        masks = theirs["attention_mask"].sum(dim=1).tolist()
        assert read.tokens[batch].tolist() == masks
    assert ("prompt_length" in read.features(np.array([0]))) == bool(prompt)


def test_cut_texts_are_the_librarys(tiny_model):
    model = model_of(tiny_model, cap=8)
    read = Reader(model, "", 8).read(["abcdefghij", "dog"])
    assert read.tokens.tolist() == [12, 5]
    assert same(read.features(np.array([0, 1])), dict(model.preprocess(["abcdefghij", "dog"])))


def test_texts_are_tokenised_once(tiny_model, monkeypatch):
    model = model_of(tiny_model)
    reader = Reader(model, "", 48)
    seen: list[str] = []
    tokenize = type(model.tokenizer).__call__

    def counted(self, text, *args, **kwargs):
        seen.extend([text] if isinstance(text, str) else text)
        return tokenize(self, text, *args, **kwargs)

    monkeypatch.setattr(type(model.tokenizer), "__call__", counted)
    read = reader.read(TEXTS)
    read.features(np.arange(len(TEXTS)))
    assert seen == TEXTS


def test_a_model_that_pads_in_its_own_way_is_asked(copy):
    (copy / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 48, "processing_kwargs": {"text": {"padding": "max_length"}}})
    )
    model = model_of(copy)
    reader = Reader(model, "", 48)
    assert not reader.plain
    features = reader.read(["a dog"]).features(np.array([0]))
    assert features["input_ids"].shape == (1, 48)
    assert same(features, dict(model.preprocess(["a dog"])))
    assert reader.read(["a dog", "x", "lazy dogs"]).tokens.tolist() == [6, 3, 10]


def test_a_tokenizer_that_cannot_pad_is_refused(tiny_model):
    model = model_of(tiny_model)
    model.tokenizer.pad_token = None
    with pytest.raises(ConfigError, match="no padding token"):
        Reader(model, "", 48)


@pytest.mark.parametrize("prompt", ["", "find: "])
def test_a_cap_without_room_beside_the_prompt_is_refused(tiny_model, prompt):
    """Every text would be the same tokens, cut behind the prompt."""
    taken = 2 + len("find:") * bool(prompt)
    for cap in (1, taken):
        with pytest.raises(ConfigError, match=rf"={cap} leaves no room .* at least {taken + 1}"):
            Reader(model_of(tiny_model, cap=cap), prompt, cap)
    Reader(model_of(tiny_model, cap=taken + 1), prompt, taken + 1)


def test_a_vocabulary_that_tells_no_texts_apart_is_refused(copy):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.txt").write_text("\n".join([*words, *(f"[unused{n}]" for n in range(60))]))
    model = model_of(copy)
    model.tokenizer._tokenizer.pre_tokenizer = None  # a text is one word, hence one [UNK]
    with pytest.raises(ConfigError, match=r"Of 32 different texts 31 are the same .* tokenizer"):
        Reader(model, "", 48)
