"""Mosaics: where each image goes, what a tile's vector is made of, what it costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lift.errors import ConfigError
from lift.towers import vit
from lift.towers._mosaic import by_tile, mosaics

TINY = {"width": 32, "depth": 2, "heads": 2, "patch": 8, "resolution": 32}
CLIP = {"class_token": True, "pre_norm": True, "patch_bias": False}
SHAPES = {
    "mean": {},
    "mean beside a class token": CLIP,
    "token": CLIP | {"pooling": "token"},
    "attention": {"pooling": "attention"},
    "attention beside a class token": CLIP | {"pooling": "attention"},
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def shape(request):
    return request.param


def make(**changes):
    return vit.build(vit.Config(**{**TINY, **changes}))


class Apart(nn.Module):
    """Attention that sees only the tokens of one tile."""

    def __init__(self, attention: nn.Module, tiles: int) -> None:
        super().__init__()
        self.attention, self.tiles = attention, tiles

    def forward(self, x, *more):
        alone = self.attention(x.unflatten(1, (self.tiles**2, -1)).flatten(0, 1), *more)
        return alone.unflatten(0, (len(x), -1)).flatten(1, 2)


# --- pixels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tiles", [1, 2, 3])
def test_images_fill_mosaics_row_by_row(tiles):
    count = tiles**2
    levels = torch.arange(2 * count, dtype=torch.float32)
    made = mosaics(levels[:, None, None, None].expand(-1, 3, 24, 12).contiguous(), tiles)
    assert made.shape == (2, 3, 24, 12)
    down, across = 24 // tiles, 12 // tiles
    for number in range(2 * count):
        row, column = divmod(number % count, tiles)
        tile = made[number // count, :, row * down :, column * across :][..., :down, :across]
        torch.testing.assert_close(tile, torch.full_like(tile, number))


def test_tiles_stand_upright_and_are_what_pillow_shrinks_them_to():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    images[:, :16] //= 4  # the upper half is darker
    (made,) = mosaics(torch.from_numpy(images).permute(0, 3, 1, 2).float(), 2)
    for number, image in enumerate(images):
        row, column = divmod(number, 2)
        tile = made[:, 16 * row :, 16 * column :][:, :16, :16]
        shrunk = Image.fromarray(image).resize((16, 16), Image.Resampling.BICUBIC)
        truth = torch.from_numpy(np.array(shrunk)).permute(2, 0, 1)
        # Pillow rounds to 8 bits after each pass.
        assert (tile.clamp(0, 255) - truth).abs().max() < 1.5
        assert tile[:, :8].mean() < tile[:, 8:].mean() / 2


@pytest.mark.parametrize(("count", "made"), [(1, 1), (3, 1), (4, 1), (5, 2), (11, 3)])
def test_the_last_mosaic_is_filled_with_the_first_images(count, made):
    images = torch.randn(count, 3, 16, 16)
    whole = torch.cat([images] * 4)[: 4 * made]
    assert torch.equal(mosaics(images, 2), mosaics(whole, 2))
    assert len(mosaics(images, 2)) == made


def test_patches_of_a_tile_come_together():
    numbers = torch.arange(4.0 * 6)[None, :, None]  # 4 rows of 6 patches
    first, second, third, last = by_tile(numbers, 4, 2)[..., 0].tolist()
    assert first == [0, 1, 2, 6, 7, 8] and second == [3, 4, 5, 9, 10, 11]
    assert third == [12, 13, 14, 18, 19, 20] and last == [15, 16, 17, 21, 22, 23]


# --- vectors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize("tiles", [2, 3])
def test_a_tile_that_sees_no_other_is_a_small_image(pooling, tiles):
    small = make(resolution=16, pooling=pooling).eval().double()
    tower = make(resolution=16 * tiles, pooling=pooling).eval().double()
    weights = small.state_dict()
    # Positions start anew in every tile.
    grid = weights["position"].unflatten(0, (2, 2)).repeat(tiles, tiles, 1)
    tower.load_state_dict({**weights, "position": grid.flatten(0, 1)})
    images = torch.randn(tiles**2 + 1, 3, 16 * tiles, 16 * tiles, dtype=torch.float64)
    shrunk = nn.functional.interpolate(images, (16, 16), mode="bicubic", antialias=True)
    together = tower.regions(images, tiles)
    for block in tower.blocks:
        block.attention = Apart(block.attention, tiles)
    torch.testing.assert_close(tower.regions(images, tiles), small(shrunk), rtol=0, atol=1e-12)
    assert (together - small(shrunk)).abs().max() > 1e-3  # they do attend to each other


def test_one_vector_an_image_however_many_there_are(shape):
    tower = make(**shape).eval()
    images = torch.randn(5, 3, 32, 32)
    h = tower.regions(images, 2)
    assert h.shape == (5, 32) and h.dtype == torch.float32
    torch.testing.assert_close(h[:4], tower.regions(images[:4], 2))
    again = images[[4, 0, 1, 2]]  # what fills the last mosaic
    torch.testing.assert_close(h[4], tower.regions(again, 2)[0])
    assert tower.regions(images[:0], 2).shape == (0, 32)


def test_moved_tiles_move_their_vectors_where_no_position_says_so(shape):
    tower, order = make(**shape).eval(), [2, 0, 3, 1]
    images = torch.randn(4, 3, 32, 32)
    assert (tower.regions(images[order], 2) - tower.regions(images, 2)[order]).abs().max() > 1e-3
    with torch.no_grad():
        tower.position[int(tower.config.class_token) :] = 0
    torch.testing.assert_close(tower.regions(images[order], 2), tower.regions(images, 2)[order])


def test_a_tile_speaks_of_its_own_image_first(shape):
    tower = make(**shape).eval()
    images = torch.randn(4, 3, 32, 32)
    other = images.clone()
    other[1] = torch.randn(3, 32, 32)
    moved = (tower.regions(other, 2) - tower.regions(images, 2)).abs().amax(1)
    assert moved.argmax() == 1 and (moved > 0).all()  # neighbours attend to it


def test_parts_of_a_photograph_of_any_shape(shape):
    tower = make(**shape).eval()
    images = torch.randn(2, 3, 32, 64)
    x = tower.tokens(images, normed=True).unflatten(1, (4, 8))
    pool = tower.pool or (lambda patches: patches.mean(1))
    h = tower.grid(images, 2)
    assert h.shape == (8, 32)
    expected = pool(x[1:, 2:, :4].flatten(1, 2))[0]  # bottom left of the second
    torch.testing.assert_close(h[4 + 2], expected)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_one_part_is_the_image(pooling):
    tower = make(pooling=pooling).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(tower.grid(images, 1), tower(images))
    torch.testing.assert_close(tower.regions(images, 1), tower(images))


# --- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("patch_dropout", [0.0, 0.5])
@pytest.mark.parametrize("depth", [1, 2])
def test_every_parameter_gets_gradient(shape, patch_dropout, depth):
    tower = make(**shape, patch_dropout=patch_dropout, depth=depth).train()
    # With two mosaics and dropout of a half, every position is seen.
    h = tower.regions(torch.randn(32, 3, 32, 32), 2)
    (h * torch.randn_like(h)).sum().backward()
    for name, parameter in tower.named_parameters():
        assert parameter.grad is not None, name
        rows = parameter.grad.flatten(1) if parameter.ndim > 1 else parameter.grad[None]
        assert (rows.abs().amax(1) > 0).all(), name


def test_patch_dropout_leaves_every_tile_its_share():
    tower = make(patch_dropout=0.5, class_token=True).train()
    with torch.no_grad():
        tower.patch.weight.zero_()
        tower.position[1:] = torch.arange(16.0)[:, None].expand(-1, 32)
    x = tower._embed(torch.zeros(500, 3, 32, 32), 2)
    assert x.shape == (500, 1 + 4 * 2, 32)
    kept = x[:, 1:, 0].unflatten(1, (4, 2)).long()
    for tile, own in enumerate([{0, 1, 4, 5}, {2, 3, 6, 7}, {8, 9, 12, 13}, {10, 11, 14, 15}]):
        assert set(kept[:, tile].flatten().tolist()) == own
    assert (kept[..., 0] != kept[..., 1]).all()
    share = torch.bincount(kept.flatten(), minlength=16) / 500
    assert (share - 0.5).abs().max() < 0.1  # standard error 0.02


def test_a_tile_keeps_a_patch_whatever_is_dropped():
    tower = make(patch_dropout=0.95).train()
    assert tower._embed(torch.randn(2, 3, 32, 32), 4).shape == (2, 16, 32)
    assert tower.regions(torch.randn(3, 3, 32, 32), 4).isfinite().all()


def test_mosaics_follow_the_tower_s_own_ways_in_training(shape):
    saved = {}
    for recompute in (False, True):
        torch.manual_seed(1)
        tower = make(**shape, checkpoint_activations=recompute, drop_path=0.3, dropout=0.2)
        tower.train().regions(torch.randn(8, 3, 32, 32), 2).square().sum().backward()
        saved[recompute] = {name: p.grad for name, p in tower.named_parameters()}
    for name, gradient in saved[False].items():
        assert torch.equal(gradient, saved[True][name]), name


def test_other_resolutions_and_precisions(shape):
    tower, images = make(**shape), torch.randn(4, 3, 64, 64)
    assert tower.regions(images, 2).shape == (4, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = tower.eval().regions(images, 2)
    assert torch.cosine_similarity(h.float(), tower.regions(images, 2)).min() > 0.99
    assert tower.double().regions(images.double(), 2).dtype == torch.float64


def flops(call) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize("tiles", [2, 4])
def test_an_image_costs_one_part_in_tiles_squared(tiles):
    tower, images = make(class_token=True).eval(), torch.randn(32, 3, 32, 32)
    whole = flops(lambda: tower(images))
    assert flops(lambda: tower.regions(images, tiles)) * tiles**2 == whole


@pytest.mark.parametrize(
    ("size", "tiles", "sentence"),
    [
        (32, 3, "32 x 32 pixels do not divide into 3 x 3 tiles.*multiple of 24"),
        (24, 2, "24 x 24 pixels do not divide into 2 x 2 tiles of whole patches of 8"),
        (36, 2, "36 x 36 pixels do not divide"),
        (32, 0, "at least 1 tile a side, not 0"),
    ],
)
def test_tiles_that_do_not_fit_say_so(size, tiles, sentence):
    tower = make()
    for call in (tower.regions, tower.grid):
        with pytest.raises(ConfigError, match=sentence):
            call(torch.zeros(1, 3, size, size), tiles)
        with pytest.raises(ConfigError, match=sentence):  # before a run begins, at no cost
            call(torch.zeros(0, 3, size, size), tiles)
