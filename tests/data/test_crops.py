"""Views finished in a batch equal views finished one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lift.data import crops as crops_module
from lift.data.augment import Augment, View, draw_view, finish
from lift.data.crops import Crops, Room, finished, resized_together

FILL = torch.tensor([7, 80, 200], dtype=torch.uint8)
STRONG = Augment(
    flip=0.5, jitter=0.8, brightness=0.3, contrast=0.4, saturation=0.3, hue=0.1, grey=0.2, erase=0.5
)


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(0)
    sizes = [*rng.integers(5, 300, (14, 2)).tolist(), [64, 64], [1, 300], [300, 1]]
    noise = [torch.from_numpy(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in sizes]
    return [crop.permute(2, 0, 1) for crop in noise]


def pack(views, pictures):
    room = Room(sum(picture[0].numel() for picture in pictures))
    for number, picture in enumerate(pictures):
        if number == 1:  # one that broke while it was decoded leaves no trace
            room.rest()[:5] = 1
        rest = room.rest()[: picture.numel()].view(*picture.shape[1:], 3)
        rest.copy_(picture.permute(1, 2, 0))
        room.keep(*picture.shape[1:])
    return Crops.pack(room, views)


def whole(picture):
    return View((0, 0, *picture.shape[1:]))


def alone(crop, side, mode):
    if crop.shape[1:] == (side, side):
        return crop.contiguous()
    return F.interpolate(crop[None], size=(side, side), mode=mode, antialias=True)[0]


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("side", [17, 64])
@pytest.mark.parametrize("chunk", [None, 1])
def test_matrix_products_resize_as_torch_does(pixels, mode, side, chunk, monkeypatch):
    """The way of a GPU, run here: a value may be rounded to its neighbour."""
    if chunk:
        monkeypatch.setattr(crops_module, "_CHUNK_PIXELS", chunk)
    packed = pack(list(map(whole, pixels)), pixels)
    ours = resized_together(packed, side, mode).int()
    theirs = torch.stack([alone(crop, side, mode) for crop in pixels]).int()
    assert (ours - theirs).abs().max() <= 1
    assert (ours != theirs).float().mean() < 0.02


def test_a_batch_equals_views_one_by_one(pixels):
    views = [
        draw_view(*crop.shape[1:], 48, STRONG, np.random.default_rng(n))
        for n, crop in enumerate(pixels)
    ]
    assert any(v.flip for v in views) and any(v.erased for v in views)
    assert any(v.colour is not None for v in views) and any(v.colour is None for v in views)
    together = finished(pack(views, pixels), 48, "bicubic", FILL)
    for view, picture, ours in zip(views, pixels, together, strict=True):
        top, left, height, width = view.box
        crop = picture[:, top : top + height, left : left + width]
        theirs = finish(view, alone(crop, 48, "bicubic"), FILL)
        # Colours are products of float32: a half may fall to either side.
        assert (ours.int() - theirs.int()).abs().max() <= (1 if view.colour is not None else 0)


def test_crops_keep_their_pixels_and_travel(pixels):
    packed = pack(list(map(whole, pixels)), pixels)
    assert len(packed) == len(pixels)
    for ours, theirs in zip(packed.to(torch.device("cpu")).each(), pixels, strict=True):
        assert torch.equal(ours, theirs)
