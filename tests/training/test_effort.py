"""What an arm costs: closed forms against counted operations, padding against drawn batches."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lift import recipes
from lift.cache.reader import EmbeddingCache
from lift.config import part
from lift.errors import ConfigError
from lift.heads import HeadConfig, build_head
from lift.model import Side, build_side
from lift.training.config import LowResolutionConfig, MosaicConfig, RunConfig
from lift.training.effort import (
    effort,
    embedding_of,
    head_flops,
    image_flops,
    padded_length,
    text_flops,
)

TRAIN = "scenes:count=96,seed=1,resolution=32"


def counted(side: Side, x: torch.Tensor) -> float:
    """Return counted operations of one training step an item."""
    with FlopCounterMode(display=False) as counter:
        side(x).sum().backward()
    return counter.get_total_flops() / len(x)


def images(config: RunConfig) -> torch.Tensor:
    size = config.transform.resolution
    return torch.randn(2, 3, size, size)


@pytest.mark.parametrize("dropped", [0.0, 0.5])
@pytest.mark.parametrize("frozen", [(), ("image.tower",), ("image.head",)])
def test_an_image_costs_what_is_counted(dropped: float, frozen: tuple[str, ...]) -> None:
    config = recipes.get("quickstart", [f"tower.patch_dropout={dropped}", "tower.depth=2"])
    config = dataclasses.replace(config, freeze=frozen)
    with torch.device("meta"):  # where attention is spelled out, and counted
        side, x = build_side(config.image, None, 384), images(config)
    for name in frozen:
        getattr(side, name.removeprefix("image.")).requires_grad_(False)
    if "image.tower" in frozen:
        side.tower.eval()  # type: ignore[union-attr]
    assert image_flops(config, 384) == pytest.approx(counted(side, x), rel=0.01)


@pytest.mark.parametrize(
    ("frozen", "layers"), [((), 1), ((), 2), (("text.tower",), 1), (("text.head",), 1)]
)
def test_a_caption_costs_what_is_counted(frozen: tuple[str, ...], layers: int) -> None:
    config = recipes.get("quickstart+clip")
    config = dataclasses.replace(config, freeze=frozen, text_head=HeadConfig(layers=layers))
    tower = part("text_towers", "transformer", width=64, depth=2, heads=1, vocabulary=300)
    config = dataclasses.replace(config, text_tower=tower)
    with torch.device("meta"):
        side, ids = build_side(config.text, None, config.dimensions), torch.ones(2, 20).long()
    for name in frozen:
        getattr(side, name.removeprefix("text.")).requires_grad_(False)
    assert text_flops(config, tower, 20) == pytest.approx(counted(side, ids), rel=0.01)


def test_the_papers_towers_cost_what_the_literature_says() -> None:
    config = recipes.get("clip_reference").resolved()
    assert config.text_tower is not None
    assert text_flops(config, config.text_tower, 77) / 3e9 == pytest.approx(5.96, abs=0.01)
    assert image_flops(config, 512) / 3e9 == pytest.approx(35.1, abs=0.1)
    assert head_flops(HeadConfig(layers=2), 768, 4096) == 2 * (768 * 4096 + 4096 * 4096)
    assert head_flops(HeadConfig(layers=0), 768, 768) == 0


@pytest.mark.parametrize(
    "head",
    [
        HeadConfig(layers=1),
        HeadConfig(layers=3, hidden=40),
        HeadConfig(kind="residual"),
        HeadConfig(kind="residual", layers=3, hidden=30, unit=True, standardise=True),
        HeadConfig(kind="gated"),
        HeadConfig(kind="gated", unit=True, before=HeadConfig(layers=2), between=20),
    ],
)
def test_every_kind_of_head_costs_what_is_counted(head: HeadConfig) -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build_head(head, 24, 16)(torch.empty(5, 24))
    assert head_flops(head, 24, 16) == counter.get_total_flops() / 5


@pytest.mark.parametrize(
    "head",
    [
        HeadConfig(layers=1),
        HeadConfig(layers=3, hidden=40),
        HeadConfig(kind="residual", layers=3, hidden=30, standardise=True),
        HeadConfig(kind="gated"),
        HeadConfig(kind="gated", unit=True, before=HeadConfig(layers=2), between=20),
    ],
)
def test_a_head_behind_a_tower_that_stands_still_costs_what_is_counted(head: HeadConfig) -> None:
    config = recipes.get("quickstart", ["tower.width=64", "tower.depth=1", "tower.heads=1"])
    config = dataclasses.replace(config, head=head, freeze=("image.tower",))
    with torch.device("meta"):
        side = build_side(config.image, None, 48)
        rest = side.tower.requires_grad_(False).eval()  # type: ignore[union-attr]
        with FlopCounterMode(display=False) as counter:
            rest(images(config))
    whole = image_flops(config, 48) - counter.get_total_flops() / 2
    rows = torch.empty(4, 64, device="meta")
    with FlopCounterMode(display=False) as counter:
        side.finish(rows).sum().backward()
    assert whole == pytest.approx(counter.get_total_flops() / 4, rel=1e-3)


def test_small_images_cost_their_share() -> None:
    config = recipes.get("quickstart")
    small = dataclasses.replace(
        config, low_resolution=LowResolutionConfig(resolution=24, share=0.75)
    )
    only = recipes.get("quickstart", ["transform.resolution=24", "tower.resolution=24"])
    mixed = 0.75 * image_flops(only, 384) + 0.25 * image_flops(config, 384)
    assert image_flops(small, 384) == pytest.approx(mixed)


def test_images_cost_what_their_own_size_does() -> None:
    """A tower may be shown another size than its positions were learned for."""
    config = recipes.get("quickstart", ["transform.resolution=64", "transform.canvas=64"])
    with torch.device("meta"):
        side, x = build_side(config.image, None, 384), images(config)
    assert x.shape[-1] == 64 and config.tower.options["resolution"] == 48
    assert image_flops(config, 384) == pytest.approx(counted(side, x), rel=0.01)


def test_mosaics_cost_their_share() -> None:
    config = recipes.get("quickstart", ["mosaic.every=3", "tower.depth=2"])
    plain = dataclasses.replace(config, mosaic=MosaicConfig())
    with torch.device("meta"):
        side, x = build_side(config.image, None, 384), torch.empty(4, 3, 48, 48)
    with FlopCounterMode(display=False) as counter:
        side(x, 2).sum().backward()
    mosaic = counter.get_total_flops() / 4
    expected = (2 * image_flops(plain, 384) + mosaic) / 3
    assert image_flops(config, 384) == pytest.approx(expected, rel=0.01)


def test_a_mean_length_is_between_its_neighbours() -> None:
    config = recipes.get("clip_reference").resolved()
    assert config.text_tower is not None
    low, middle, high = (text_flops(config, config.text_tower, n) for n in (20, 20.25, 21))
    assert middle == pytest.approx(0.75 * low + 0.25 * high)


def test_padding_is_the_mean_longest_of_a_batch() -> None:
    config = recipes.get("quickstart+clip", ["loader.batch_size=8"])
    tower = part("text_towers", "transformer", context=77)
    dice = np.random.default_rng(0)
    lengths = dice.poisson(14, 500) + 3
    drawn = dice.choice(lengths, (20_000, 8)).max(1).mean()
    assert padded_length(config, tower, lengths.tolist()) == pytest.approx(drawn, rel=0.01)
    two = dice.choice(lengths, (20_000, 16)).max(1).mean()
    assert padded_length(config, tower, lengths.tolist(), 2) == pytest.approx(two, rel=0.01)
    assert padded_length(config, tower, [9]) == 9
    whole = part("text_towers", "transformer", context=77, pad_to="context")
    assert padded_length(config, whole, lengths.tolist()) == 77


def test_stored_rows_cost_nothing_in_training_and_once_before_it(captions: Path) -> None:
    options = ["encoder=hashing", "encoder.dimensions=32"]
    lift = dataclasses.replace(
        recipes.get("quickstart", options), data=TRAIN, cache=str(captions), samples=128
    )
    cost = effort(lift)
    assert cost.text_flops == 0 and cost.tokens is None and cost.samples == 128
    assert cost.embedding_flops == 0 and "captions by hashing" in cost.embedding
    assert cost.run_flops == 128 * image_flops(lift, 32)
    cache = EmbeddingCache.open(captions)
    cache.part = part("text/encoders", "minilm")
    flops, words = embedding_of(cache)
    tokens = sum(int(cache.view(n).tokens.sum()) for n in range(len(cache.shards)))
    assert flops is not None and flops > 2 * 1_769_472 * 6 * tokens  # 2 a parameter and token
    assert words == f"{len(cache):,} captions by sentence-transformers/all-MiniLM-L6-v2"
    cache.part = part("text/encoders", "api", model="far")
    assert embedding_of(cache) == (None, f"{len(cache):,} captions by far, of unknown cost")


def test_tokens_are_those_that_batches_have() -> None:
    """The mean padded length is near that of the loader's own batches."""
    from lift.data.loader import Loader
    from lift.data.source import open_source
    from lift.data.tokens import TokenRows, captions_of
    from lift.text_side import fitted, tokenizer_of

    config = dataclasses.replace(
        recipes.get("quickstart+clip", ["loader.batch_size=8"]), data=TRAIN
    ).resolved()
    cost = effort(config)
    source = open_source(TRAIN)
    assert config.text_tower is not None
    tokenizer = tokenizer_of(config.text_tower, captions_of(source, ()))
    tower = fitted(config.text_tower, tokenizer)
    rows = TokenRows(source, tokenizer, tower.options["context"], config=config.loader)
    loader = Loader(source, rows, config.transform, config.loader, seed=0)
    widths = [rows.decode(batch.texts).shape[1] for batch in loader.batches(0, 24)]
    assert cost.tokens == pytest.approx(np.mean(widths), rel=0.06)
    assert cost.text_flops == text_flops(config, tower, cost.tokens or 0)
    assert cost.embedding == "" and cost.sample_flops == cost.image_flops + cost.text_flops


def test_every_caption_of_an_image_is_paid_for() -> None:
    one = dataclasses.replace(recipes.get("quickstart+clip"), data=TRAIN)
    costs = {}
    for captions in ("one", "all", "any:2"):
        loader = dataclasses.replace(one.loader, captions=captions)
        costs[captions] = effort(dataclasses.replace(one, loader=loader)).text_flops
    assert costs["any:2"] == pytest.approx(2 * costs["one"], rel=0.1)
    assert costs["all"] > 3 * costs["one"]  # a scene has five captions


def test_a_tower_without_closed_forms_is_named() -> None:
    config = recipes.get("quickstart+clip_minilm")
    far = part("text_towers", "pretrained", model="somebody/unknown-model")
    with pytest.raises(ConfigError, match=r"somebody/unknown-model costs is not known.*samples"):
        text_flops(config, far, 20)
    minilm = part("text_towers", "pretrained")
    assert text_flops(config, minilm, 20) == pytest.approx(
        3 * (2 * 1_769_472 * 6 * 20 + 4 * 400 * 384 * 6)
    )
    frozen = dataclasses.replace(config, freeze=("text.tower",))
    assert text_flops(frozen, minilm, 20) == text_flops(config, minilm, 20) / 3
