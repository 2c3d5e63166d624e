"""Crops of many sizes on their way to the device, where they become views of one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from lift.data.augment import LUMA, View

_CHUNK_PIXELS = 32 << 20
"""Padded pixels that are resized at a time: 0.4 GB as three float32 channels."""


@dataclass(slots=True)
class Crops:
    """What the views of a batch are made from: pictures one after the other in memory, and boxes.

    Attributes:
        pixels: RGB of all pictures, row by row.
        sizes: height and width of each.
        boxes: top, left, height and width of the crop of each.
        colour: matrix of each view, the identity for none; `contrast` its factor (see `View`).
        flip: which are flipped.
        erased: top, left, height and width of what is filled; height 0 for nothing.
    """

    pixels: UInt8[Tensor, " bytes"]
    sizes: Int64[Tensor, "b 2"]
    boxes: Int64[Tensor, "b 4"]
    colour: Float32[Tensor, "b 3 3"]
    contrast: Float32[Tensor, " b"]
    flip: Bool[Tensor, " b"]
    erased: Int64[Tensor, "b 4"]

    @classmethod
    def pack(cls, room: Room, views: Sequence[View]) -> Crops:
        """Return the pictures in a room with what is to be done to them."""
        eye = np.eye(3)
        colours = [eye if view.colour is None else view.colour for view in views]
        return cls(
            room.taken(),
            torch.tensor(room.sizes, dtype=torch.int64),
            torch.tensor([view.box for view in views], dtype=torch.int64),
            torch.from_numpy(np.stack(colours).astype(np.float32)),
            torch.tensor([view.contrast for view in views], dtype=torch.float32),
            torch.tensor([view.flip for view in views]),
            torch.tensor([view.erased or (0, 0, 0, 0) for view in views], dtype=torch.int64),
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def to(self, device: torch.device, non_blocking: bool = False) -> Crops:
        """Return the crops on a device."""
        moved = (getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self))
        return Crops(*moved)

    def pin_memory(self) -> Crops:
        """Return the crops in memory that a GPU can read by itself."""
        return Crops(*(getattr(self, f.name).pin_memory() for f in fields(self)))

    def each(self) -> Iterator[UInt8[Tensor, "3 _ _"]]:
        """Yield the crops one by one, as views."""
        start = 0
        for (height, width), box in zip(self.sizes.tolist(), self.boxes.tolist(), strict=True):
            end = start + 3 * height * width
            picture = self.pixels[start:end].view(height, width, 3).permute(2, 0, 1)
            top, left, tall, wide = box
            yield picture[:, top : top + tall, left : left + wide]
            start = end


class Room:
    """Memory in which the pictures of a batch are decoded side by side, without a copy.

    Attributes:
        sizes: height and width of the pictures that stand in it.
    """

    def __init__(self, pixels: int) -> None:
        """Make room for so many pixels of all pictures."""
        # numpy asks the system for huge pages where torch does not: a fifth of the time.
        self._memory = torch.from_numpy(np.empty(3 * pixels, dtype=np.uint8))
        self._used = 0
        self.sizes: list[tuple[int, int]] = []

    def rest(self) -> UInt8[Tensor, " bytes"]:
        """Return what is free, for the next picture to be written at its start."""
        return self._memory[self._used :]

    def keep(self, height: int, width: int) -> None:
        """Keep the picture that was written; without this the next one takes its place."""
        self.sizes.append((height, width))
        self._used += 3 * height * width

    def taken(self) -> UInt8[Tensor, " bytes"]:
        """Return the pixels of all pictures."""
        return self._memory[: self._used]


def finished(
    crops: Crops, side: int, interpolation: str, fill: UInt8[Tensor, " 3"]
) -> UInt8[Tensor, "b 3 side side"]:
    """Return the views of a batch, computed where the crops are.

    On a CPU each crop is resized as a worker would; elsewhere all together, as matrix products,
    which may round a value to its neighbour.
    """
    if crops.pixels.device.type == "cpu":
        images = torch.cat([_alone(crop, side, interpolation) for crop in crops.each()])
    else:
        images = resized_together(crops, side, interpolation)
    return _erased(crops, _flipped(crops, _recoloured(crops, images)), fill)


def _alone(crop: UInt8[Tensor, "3 _ _"], side: int, mode: str) -> UInt8[Tensor, "1 3 side side"]:
    crop = crop.permute(1, 2, 0).contiguous().permute(2, 0, 1)[None]
    if crop.shape[2:] == (side, side):
        return crop.contiguous()
    return F.interpolate(crop, size=(side, side), mode=mode, antialias=True)


def resized_together(crops: Crops, side: int, interpolation: str) -> UInt8[Tensor, "b 3 side side"]:
    """Return all crops resized with antialiasing, by two matrix products a chunk of them.

    A separable filter is a matrix for the rows and one for the columns (the same that
    `F.interpolate(..., antialias=True)` applies).
    """
    views = list(crops.each())
    sizes = [view.shape[1:] for view in views]
    done = []
    for first, last in _chunks(sizes):
        tall = max(height for height, _ in sizes[first:last])
        wide = max(width for _, width in sizes[first:last])
        padded = crops.pixels.new_zeros((last - first, 3, tall, wide))
        for place, crop in enumerate(views[first:last]):
            padded[place, :, : crop.shape[1], : crop.shape[2]] = crop
        own = crops.boxes[first:last, 2:]
        across = _filter(own[:, 1], wide, side, interpolation)
        down = _filter(own[:, 0], tall, side, interpolation)
        rows = padded.float() @ across.transpose(1, 2)[:, None]
        # The CPU's kernel rounds to 8 bits between the two passes; so does this.
        rows = rows.add_(0.5).floor_().clamp_(0, 255)
        done.append((down[:, None] @ rows).add_(0.5).floor_().clamp_(0, 255).to(torch.uint8))
    return torch.cat(done)


def _chunks(sizes: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Yield (first, last + 1) of runs whose padded crops stay below `_CHUNK_PIXELS`."""
    first, tall, wide = 0, 0, 0
    for place, (height, width) in enumerate(sizes):
        tall, wide = max(tall, height), max(wide, width)
        if place > first and (place + 1 - first) * tall * wide > _CHUNK_PIXELS:
            yield first, place
            first, tall, wide = place, height, width
    yield first, len(sizes)


def _filter(
    lengths: Int64[Tensor, " b"], longest: int, side: int, interpolation: str
) -> Float32[Tensor, "b side longest"]:
    """Return for each crop the weights of its pixels in each of `side` output pixels.

    The kernel is widened by the factor of shrinking, as Pillow does it: cubic with a = -0.5
    (Keys 1981), or a triangle.
    """
    cubic = interpolation == "bicubic"
    scale = (lengths.float() / side)[:, None, None]
    stretch = scale.clamp(min=1.0)
    out = torch.arange(side, device=lengths.device).float()[None, :, None]
    pixel = torch.arange(longest, device=lengths.device)[None, None, :]
    centre = (out + 0.5) * scale
    support = (2.0 if cubic else 1.0) * stretch
    near = (pixel >= (centre - support + 0.5).floor()) & (pixel < (centre + support + 0.5).floor())
    near &= pixel < lengths[:, None, None]
    x = ((pixel + 0.5 - centre) / stretch).abs()
    if cubic:
        inner = (1.5 * x - 2.5) * x * x + 1.0
        outer = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
        weights = torch.where(x < 1.0, inner, torch.where(x < 2.0, outer, 0.0))
    else:
        weights = (1.0 - x).clamp(min=0.0)
    weights = weights * near
    return weights / weights.sum(2, keepdim=True)


def _recoloured(crops: Crops, images: UInt8[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b 3 h w"]:
    eye = torch.eye(3, device=images.device)
    changed = ((crops.colour != eye).flatten(1).any(1) | (crops.contrast != 1.0)).nonzero()[:, 0]
    if not len(changed):
        return images
    pixels = images[changed].float().flatten(2)
    colour, contrast = crops.colour[changed], crops.contrast[changed]
    luma = torch.tensor(LUMA, dtype=torch.float32, device=images.device)
    mean = torch.einsum("c,bcd,bd->b", luma, colour, pixels.mean(2))
    pixels = (colour * contrast[:, None, None]) @ pixels + ((1 - contrast) * mean)[:, None, None]
    images = images.clone()
    images[changed] = pixels.add_(0.5).clamp_(0, 255).to(torch.uint8).view(-1, *images.shape[1:])
    return images


def _flipped(crops: Crops, images: UInt8[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b 3 h w"]:
    return torch.where(crops.flip[:, None, None, None], images.flip(3), images)


def _erased(
    crops: Crops, images: UInt8[Tensor, "b 3 h w"], fill: UInt8[Tensor, " 3"]
) -> UInt8[Tensor, "b 3 h w"]:
    top, left, height, width = crops.erased.T[:, :, None]
    rows = torch.arange(images.shape[2], device=images.device)[None]
    columns = torch.arange(images.shape[3], device=images.device)[None]
    inside = ((rows >= top) & (rows < top + height))[:, :, None]
    inside = inside & ((columns >= left) & (columns < left + width))[:, None, :]
    return torch.where(inside[:, None], fill.to(images.device)[None, :, None, None], images)
