"""What is found out about somebody's network: its blocks, its width, what no gradient reaches."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call

from lift.errors import ConfigError, LiftError


class SomebodysNetwork(nn.Module):
    """The base of towers made of other libraries' networks.

    Running means of batches (BatchNorm) stay as they were published, also in training: else an
    image's vector would depend on its neighbours, and a frozen tower would drift.
    """

    def train(self, mode: bool = True) -> Any:
        """Set training mode for all but batch norms."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def patches_a_side(self, images: Tensor) -> int:
        """Return into how many parts of a side `grid` divides images at most: one a patch.

        Raises:
            ConfigError: a network without a square grid of patches.
        """
        tokens = getattr(self, "_tokens", None)
        if tokens is None:
            raise ConfigError(f"{type(self).__name__} tells no patches of an image apart.")
        x, prefix = tokens(images)[:2]
        count = x.shape[1] - prefix
        if math.isqrt(count) ** 2 != count:
            raise ConfigError(f"{type(self).__name__} has {count} patches, which are no square.")
        return math.isqrt(count)


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Return the repeated blocks (or stages), first to last: the largest list in no other list."""
    found = max(_outer_lists(network), key=_size, default=None)
    return [] if found is None else list(found.children())


_LISTS = ("blocks", "stages", "layers")
"""Names of a `Sequential` that holds a network's blocks; others hold what a single block does."""


def _outer_lists(module: nn.Module) -> Iterator[nn.Module]:
    for name, child in module.named_children():
        listed = isinstance(child, nn.Sequential) and name in _LISTS
        if listed or isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from _outer_lists(child)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


_FAILS = (RuntimeError, ValueError, TypeError, AttributeError, IndexError)
"""What networks raise for pixels that they can't take; NotImplementedError is one of the first."""


def settle(tower: nn.Module, resolution: int, wanted_by: str) -> int:
    """Return the tower's width, after freezing the parameters that its vector does not depend on.

    One image of no content goes through it on the device "meta": shapes are computed, no numbers.

    Args:
        tower: takes pixels [b 3 h w].
        resolution: pixels of a side.
        wanted_by: the part's name, for messages.

    Raises:
        ConfigError: images of that size do not go through it.
    """
    try:
        shape, reached = _traced(tower, resolution, "meta")
    except LiftError:
        raise
    except _FAILS:  # some networks look at numbers on their way: then with real ones
        try:
            shape, reached = _traced(tower, resolution, "cpu")
        except LiftError:
            raise
        except _FAILS as error:
            why = textwrap.shorten(str(error), 200, placeholder=" ...")
            raise ConfigError(
                f"{wanted_by}: images of {resolution} x {resolution} pixels don't go through it "
                f"({type(error).__name__}: {why}); give another resolution."
            ) from error
    if len(shape) != 2 or shape[0] != 2:
        raise ConfigError(
            f"{wanted_by}: this network gives {tuple(shape)} numbers for two images, not one "
            "vector an image; choose another pooling."
        )
    for parameter, learns in zip(tower.parameters(), reached, strict=True):
        parameter.requires_grad_(learns and parameter.requires_grad)
    return shape[1]


def _traced(tower: nn.Module, resolution: int, device: str) -> tuple[torch.Size, list[bool]]:
    """Return the shape of `h` of two images, and of each parameter whether it has a part in it."""
    training = tower.training
    tower.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            weights = {
                name: value.detach().to(device).requires_grad_()
                for name, value in tower.named_parameters()
            }
            others = {name: value.detach().to(device) for name, value in tower.named_buffers()}
            images = torch.zeros(2, 3, resolution, resolution, device=device)
            h = functional_call(tower, {**weights, **others}, (images,))
            if h.ndim != 2:
                return h.shape, []
            found = torch.autograd.grad(h.sum(), list(weights.values()), allow_unused=True)
        return h.shape, [gradient is not None for gradient in found]
    finally:
        tower.train(training)


def tensors_in(file: Path, wanted_by: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file. Raises ConfigError."""
    if file.suffix != ".safetensors":
        raise ConfigError(
            f"{wanted_by}: {file} is no safetensors file; other formats can run code, so they are "
            "not read."
        )
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"{wanted_by}: {file} can't be read ({error}); get the weights again."
        ) from error


def only_weights(path: Path, wanted_by: str) -> Path:
    """Return a safetensors file: the path itself, or the only one in that folder.

    Raises:
        ConfigError: none there, or several.
    """
    if path.is_file():
        return path
    found = sorted(path.glob("*.safetensors")) if path.is_dir() else []
    if len(found) != 1:
        raise ConfigError(
            f"{wanted_by}: weights={path} should be a safetensors file, or a folder with one; "
            f"{len(found)} are there."
        )
    return found[0]
