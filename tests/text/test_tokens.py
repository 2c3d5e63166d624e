"""Texts become ids once: counted whole, cut before the end tokens, padded on either side."""

from __future__ import annotations

import importlib.util
import json
import logging

import pytest
import torch

import decoder_folders
from lift.errors import ConfigError, MissingPackage
from lift.text.encoders._tokens import Tokens, load_tokenizer, pad
from lift.text.encoders._where import require_sentencepiece
from lift.text.probes import PROBES

TEXTS = ["a dog on the beach", "", "Two men play cards at a table outside.", "x", "日本の犬 🐕"]
BOS, EOS = 0, 1


def tokens_of(words, *, prompt="", max_tokens=1_000, append_eos=False) -> Tokens:
    return Tokens(
        words, prompt=prompt, max_tokens=max_tokens, append_eos=append_eos, wanted_by="test"
    )


def plain(words, text: str) -> list[int]:
    return words(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("prompt", ["", "Describe: "])
def test_ids_are_prompt_and_text_between_special_tokens(bos, ends, prompt):
    words = decoder_folders.tokenizer(bos=bos, ends=ends)
    found = tokens_of(words, prompt=prompt, append_eos=True)(TEXTS)
    for text, ids, count in zip(TEXTS, found.ids, found.tokens, strict=True):
        expected = [BOS] * bos + plain(words, prompt + text) + [EOS]
        assert ids == expected  # one EOS, whether the tokenizer or we put it there
        assert count == len(expected)
    assert not found.truncated.any()


def test_the_tokenizers_own_ends_stay_without_an_eos_of_ours():
    assert tokens_of(decoder_folders.tokenizer(ends=True))(["x"]).ids[0][-1] == EOS
    assert tokens_of(decoder_folders.tokenizer())(["x"]).ids[0][-1] != EOS


@pytest.mark.parametrize("append_eos", [True, False])
def test_a_cut_takes_from_the_text_and_keeps_the_ends(append_eos):
    words = decoder_folders.tokenizer()
    ends = [EOS] * append_eos
    text = "a man rides a wave on a surfboard"
    whole = [BOS, *plain(words, text), *ends]
    for cap in range(2 + append_eos, len(whole) + 2):
        found = tokens_of(words, max_tokens=cap, append_eos=append_eos)([text])
        assert found.tokens.tolist() == [len(whole)]
        assert found.truncated.tolist() == [len(whole) > cap]
        body = plain(words, text)[: cap - 1 - append_eos]
        assert found.ids == [[BOS, *body, *ends]]
        assert len(found.ids[0]) == found.lengths[0] == min(cap, len(whole))


def test_text_that_spells_eos_does_not_stand_in_for_it():
    found = tokens_of(decoder_folders.tokenizer(), append_eos=True)(["stop</s>"])
    assert found.ids[0][-2:] == [EOS, EOS]


def test_an_empty_text_is_at_least_one_token():
    found = tokens_of(decoder_folders.tokenizer(bos=False))(["", "x"])
    assert (found.ids[0], found.tokens[0]) == ([EOS], 1)
    bare = decoder_folders.tokenizer(bos=False, eos=False)
    assert tokens_of(bare)([""]).ids == [[0]]
    assert tokens_of(bare)([]).ids == []


def test_eos_that_is_wanted_and_missing_is_one_sentence():
    bare = decoder_folders.tokenizer(eos=False)
    with pytest.raises(ConfigError, match=r"has no eos_token; give append_eos=false"):
        tokens_of(bare, append_eos=True)
    assert tokens_of(bare).pad_id == 0


def test_a_cap_without_room_for_text_is_refused():
    words = decoder_folders.tokenizer()
    with pytest.raises(ConfigError, match=r"max_tokens=2 .* 2 tokens .* at least 3"):
        tokens_of(words, max_tokens=2, append_eos=True)
    assert tokens_of(words, max_tokens=3, append_eos=True)(["a b"]).truncated
    # With a prompt as long as the cap every text would have the same row.
    taken = 1 + len(plain(words, "Describe: "))
    with pytest.raises(ConfigError, match=rf"beside {taken} tokens of the prompt"):
        tokens_of(words, prompt="Describe: ", max_tokens=taken)
    rows = tokens_of(words, prompt="Describe: ", max_tokens=taken + 1)(["a b", "x y"]).ids
    assert rows[0] != rows[1]


def test_padding_is_the_tokenizers_own_else_eos():
    words = decoder_folders.tokenizer()
    assert tokens_of(words).pad_id == EOS
    words.pad_token = "!"
    assert tokens_of(words).pad_id == words.convert_tokens_to_ids("!")


@pytest.mark.parametrize("side", ["left", "right"])
def test_pad(side):
    ids, mask = pad([[5, 6, 7], [8]], 9, side)
    rows = {"left": [[5, 6, 7], [9, 9, 8]], "right": [[5, 6, 7], [8, 9, 9]]}
    masks = {"left": [[1, 1, 1], [0, 0, 1]], "right": [[1, 1, 1], [1, 0, 0]]}
    assert (ids.tolist(), mask.tolist()) == (rows[side], masks[side])
    assert ids.dtype == mask.dtype == torch.int64


def test_many_long_texts_in_order_and_in_silence(caplog):
    words = decoder_folders.tokenizer()
    words.model_max_length = 8
    texts = [f"{n} " * (n % 40) for n in range(2_500)]
    with caplog.at_level(logging.DEBUG):
        found = tokens_of(words, max_tokens=16)(texts)
    assert not caplog.records
    for n in (0, 1_023, 1_024, 2_499):
        assert found.ids[n] == [BOS, *plain(words, texts[n])][:16]
        assert found.tokens[n] == 1 + len(plain(words, texts[n]))


def test_truncation_saved_with_a_tokenizer_counts_for_nothing(tmp_path):
    words = decoder_folders.tokenizer()
    words.backend_tokenizer.enable_truncation(4)
    words.backend_tokenizer.enable_padding(length=50)
    words.save_pretrained(tmp_path)
    found = tokens_of(load_tokenizer(tmp_path))(["a dog on the beach in the rain"])
    assert found.tokens[0] == len(found.ids[0]) > 6


def test_a_folder_without_a_tokenizer_is_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ConfigError, match="could not be loaded"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_that_tells_no_texts_apart_is_refused():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    empty = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1}, unk_token="<unk>"))
    with pytest.raises(ConfigError, match=r"Of 32 different texts 31 are the same .* of test"):
        tokens_of(PreTrainedTokenizerFast(tokenizer_object=empty, unk_token="<unk>"))
    nothing = Tokenizer(models.BPE())
    with pytest.raises(ConfigError, match=r"Of 32 different texts 31 are the same"):
        tokens_of(PreTrainedTokenizerFast(tokenizer_object=nothing))


def test_special_tokens_are_found_though_a_letter_has_no_token():
    """Of the text "a" this tokenizer makes nothing, so that it shows no place between them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted({c for text in PROBES for c in text.lower()} - {"a", " "})
    words = ["<s>", "</s>", *letters]
    bare = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    bare.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    found = tokens_of(PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="</s>"))
    assert (found.first, found.last) == ([0], [1])
    assert found(["dog"]).ids == [[0, *map(words.index, "dog"), 1]]


def test_special_tokens_that_differ_from_text_to_text_are_refused():
    words = decoder_folders.tokenizer()

    class Odd:
        def __getattr__(self, name):
            return getattr(words, name)

        def __call__(self, text, **options):
            found = words(text, **options)
            if isinstance(text, str) and len(text) > 60:
                found["input_ids"] = [*found["input_ids"], 1]
            return found

    with pytest.raises(ConfigError, match=r"test: .* does not put the same special tokens"):
        tokens_of(Odd())


def test_ids_of_texts_that_spell_special_tokens_are_those_of_the_file(tmp_path):
    from tokenizers import Tokenizer, models, normalizers
    from transformers import AutoTokenizer

    words = ["<unk>", "<s>", "</s>", "\u2581", *"abcdefghijklmnopqrstuvwxyz"]
    filed = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, [], unk_token="<unk>"))
    filed.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    filed.add_special_tokens(["<unk>", "<s>", "</s>"])
    filed.save(str(tmp_path / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    stated = json.dumps({"tokenizer_class": "LlamaTokenizer", **names})
    (tmp_path / "tokenizer_config.json").write_text(stated)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    found = load_tokenizer(tmp_path, as_filed=True)
    for text in ("a dog", "dog </s> cat", "dog</s>cat", "<s>a"):
        expected = filed.encode(text, add_special_tokens=False).ids
        assert found(text, add_special_tokens=False)["input_ids"] == expected
    built = AutoTokenizer.from_pretrained(tmp_path)("dog</s>cat", add_special_tokens=False)
    assert built["input_ids"] != filed.encode("dog</s>cat").ids  # else as_filed is not needed


def test_a_tokenizer_of_sentencepiece_alone_names_the_command(tmp_path, monkeypatch):
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"sentencepiece.*pip install 'lift-align\[text\]'"):
        require_sentencepiece(tmp_path, "test")
    (tmp_path / "tokenizer.json").write_text("{}")
    require_sentencepiece(tmp_path, "test")


def test_a_tokenizer_of_sentencepiece_is_read(tmp_path):
    train = pytest.importorskip("sentencepiece")
    (tmp_path / "corpus.txt").write_text("\n".join(decoder_folders.captions()))
    train.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus.txt"),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=500,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    stated = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, **names}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(stated))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    original = train.SentencePieceProcessor(str(tmp_path / "tokenizer.model"))
    found = tokens_of(load_tokenizer(tmp_path), append_eos=True)
    for text in ("a brown dog", "two  cats", "caf\u00e9"):
        assert found([text]).ids == [[1, *original.encode(text), 2]]
