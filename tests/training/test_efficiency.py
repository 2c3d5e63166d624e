"""The efficiency table: torch's counter, closed forms and memory agree, for LIFT and for CLIP."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from lift import recipes
from lift.config import Part
from lift.training.config import RunConfig
from lift.training.cost import clip_beside
from lift.training.kept import kept_of_a_pair

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PAPER = "lift_b16_512m"


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("efficiency")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def counting(benchmark: ModuleType) -> ModuleType:
    return importlib.import_module("_counting")


def small(**tower: object) -> RunConfig:
    base = recipes.get("quickstart")
    options = {**base.tower.options, "depth": 2, **tower}
    return dataclasses.replace(base, tower=Part("towers", "vit", options), dimensions=384)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_the_counter_and_the_closed_form_agree(counting: ModuleType, pooling: str) -> None:
    base = small(pooling=pooling)
    for config in (
        base,
        clip_beside(base, context=20),
        clip_beside(base, context=323, matched=True),
    ):
        closed = counting.closed_flops(config)
        assert counting.counted_flops(config) == pytest.approx(closed, rel=0.01), config


@pytest.mark.parametrize("tokens", [0, 77])
def test_they_agree_for_the_papers_shapes(counting: ModuleType, tokens: int) -> None:
    base = recipes.get(PAPER)
    config = clip_beside(base, context=tokens) if tokens else base
    closed = counting.closed_flops(config)
    assert counting.counted_flops(config) == pytest.approx(closed, rel=0.01)


def test_the_papers_shapes_cost_what_the_notes_say(
    counting: ModuleType, benchmark: ModuleType
) -> None:
    base = recipes.get(PAPER)
    lift = counting.closed_flops(base)
    assert lift / 1e9 == pytest.approx(105.3, abs=0.1)
    saved = {}
    for tokens, gf in ((77, 123.0), (323, 186.0)):
        found = counting.closed_flops(clip_beside(base, context=tokens))
        assert found / 1e9 == pytest.approx(gf, abs=0.1)
        saved[tokens] = 1 - lift / found
    assert saved == pytest.approx({77: 0.144, 323: 0.434}, abs=0.001)
    # The savings of the abstract need captions of about these lengths.
    assert benchmark.reached_at(base, 0.255, False) == pytest.approx(150, abs=5)
    assert benchmark.reached_at(base, 0.357, False) == pytest.approx(240, abs=10)


def test_checkpointing_keeps_less_and_computes_more(counting: ModuleType) -> None:
    base = small(depth=4)
    for config in (base, clip_beside(base, context=20)):
        again = config.with_checkpointing()
        plain, slim = (kept_of_a_pair(c, c.dimensions) for c in (config, again))
        assert slim.kept < 0.3 * plain.kept
        assert slim.again > 0 == plain.again
        assert counting.closed_flops(again) == counting.closed_flops(config)
        # Forward again without the last product of a block: less than a third more.
        assert 1.15 < counting.counted_flops(again) / counting.counted_flops(config) < 1 / 3 + 1


def test_the_tables_say_it_all(
    benchmark: ModuleType, counting: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "FIXED", (77,))
    monkeypatch.setattr(benchmark, "MODELS", benchmark.MODELS[:1])
    base = small(depth=1)
    made = {
        "recipe": "quickstart",
        "batch": base.step_samples,
        "lengths": [20],
        **benchmark.rows(base, [20], False),
        "claimed": {"short captions": {"saving": 0.255, "tokens_needed": 150}},
        "offline": benchmark.offline(base, False),
    }
    text = benchmark.markdown(made)
    for words in ("longest of the batch 20", "all padded to 77", "states 25.5%", "NV-Embed-v2"):
        assert words in text, text
    # 16 tokens of a 7 B encoder are 224 GF; each epoch saves what CLIP costs more.
    (short, _) = made["offline"]
    clip = counting.closed_flops(clip_beside(base, context=77)) / 1e9
    lift = counting.closed_flops(base) / 1e9
    expected = 223.5 / (clip - lift)
    assert short["break_even_epochs"]["padded to 77"] == pytest.approx(expected, rel=0.001)
    assert 0 < made["CLIP"]["20"]["saving"] < made["CLIP"]["77"]["saving"] < 1
