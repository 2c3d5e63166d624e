"""What a run would cost, counted from the modules that would run."""

from __future__ import annotations

import pytest

import lift
from lift import recipes


def test_the_papers_trunk_and_head_have_the_papers_sizes() -> None:
    counted = lift.dry_run("lift_b16_512m")
    assert counted.tower_parameters == 85_799_424
    assert counted.head_parameters == 19_931_136
    # 105.2 GF tower, 0.12 GF head (performance notes: 1 multiply-add = 2 FLOPs).
    assert counted.step_flops / 1e9 == pytest.approx(105.3, rel=0.005)
    assert counted.forward_flops / 1e9 == pytest.approx(35.17, rel=0.005)
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
    for words in ("105,730,560", "35.17 GF", "31,250 of 16,384", "2.10 TB"):
        assert words in table, table
