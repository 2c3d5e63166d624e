"""A frozen tower for images: its network, the pixels that it wants, the identity of its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from lift import plugins
from lift.cache.features import FeatureCache
from lift.config import Part, from_dict, override, to_dict
from lift.data.source import parse_part
from lift.data.transform import Transform
from lift.errors import ConfigError
from lift.image_space import ImageSpace
from lift.model_folder import model_in
from lift.world import Precision, autocast, choose_device

_UNSEEN = "of rows made elsewhere"
"""In place of a hash, where nobody here has the weights."""


class ImageTower:
    """A tower that only computes.

    Attributes:
        part: as the user gave it.
        kept: as a saved model keeps it; no place on disk is in it.
        module: in evaluation mode, on the device.
        space: the identity of its rows.
        device: where it computes.
        notes: where the user's pixels are not those that its weights were made with.
    """

    def __init__(
        self,
        part: Part,
        module: nn.Module,
        transform: Transform | None,
        space: ImageSpace,
        device: torch.device,
        notes: Sequence[str] = (),
    ) -> None:
        """Use `open_tower` instead."""
        self.part, self.kept, self.space, self.device = part, space.tower, space, device
        self.module = module.to(device).eval()
        self.notes = tuple(notes)
        self._transform = transform

    @property
    def takes_rows(self) -> bool:
        """Return whether rows that were computed elsewhere come in, not pixels."""
        return self._transform is None

    @property
    def transform(self) -> Transform:
        """Return how pixels reach it. Raises ConfigError where none do."""
        if self._transform is None:
            raise ConfigError(
                f"The tower {self.space.name} takes rows that were computed elsewhere, not images; "
                "give the tower that made them, or the rows with --vectors."
            )
        return self._transform

    @torch.inference_mode()
    def features(
        self, images: UInt8[Tensor, "b 3 r r"], precision: Precision = "float32"
    ) -> Float32[Tensor, "b width"]:
        """Return one raw row an image, on the CPU."""
        with autocast(self.device, precision):
            made = self.module(self.transform.normalise(images.to(self.device)))
        return made.float().cpu()

    @torch.inference_mode()
    def grid(
        self, images: UInt8[Tensor, "b 3 r r"], tiles: int, precision: Precision = "float32"
    ) -> Float32[Tensor, "n width"]:
        """Return one raw row for each of `tiles` x `tiles` parts of every image, row by row.

        Raises:
            ConfigError: it has no patch grid, or parts that are not made of whole patches.
        """
        grid = getattr(self.module, "grid", None)
        if grid is None:
            raise ConfigError(
                f"The tower {self.space.name} can't pool parts of an image; leave out --grid."
            )
        with autocast(self.device, precision):
            made = grid(self.transform.normalise(images.to(self.device)), tiles)
        return made.float().cpu()


def open_tower(
    part: Part,
    options: Mapping[str, Any] | Sequence[str] = (),
    *,
    device: str = "auto",
) -> ImageTower:
    """Build a tower and say what its rows mean.

    Args:
        part: of the room towers, in the user's words.
        options: fields of `Transform` as plain values, or words (`resolution=336`,
            `augment.flip=0.5`); what is not said is as the tower's weights were made.
        device: auto, cpu, cuda, cuda:1 or mps.

    Raises:
        ConfigError: no such tower or option, or pixels that nobody knows.
        MissingPackage: it needs a package that is not installed.
    """
    if part.room != "towers":  # a stranger's cache may say so
        raise ConfigError(f"A tower can't be of {part.room}/{part.name}.")
    module = plugins.build(part)
    own = plugins.pixels(part)
    transform, notes = None, []
    if module.resolution:
        own = {"resolution": module.resolution, **own}
        base = from_dict(Transform, own, "transform")
        transform = _changed(base, options)
        for name, value in own.items():
            if (said := getattr(transform, name)) != getattr(base, name):
                notes.append(f"{name} is {said}, not {value} as of the tower's weights")
    elif options:
        raise ConfigError(
            f"The tower {part.name} takes rows that were computed elsewhere: there are no pixels "
            f"to change; leave out {_first(options)}."
        )
    space = space_of(part, module, transform)
    return ImageTower(part, module, transform, space, choose_device(device), notes)


def named_tower(words: str) -> Part:
    """Return the tower that words name; the folder of a model stands for its tower.

    Raises:
        ConfigError: none, or a wrong option.
    """
    if words not in plugins.names("towers") and model_in(words) is not None:
        return Part("towers", "lift_model", {"model": words})
    return parse_part("towers", words)


def space_of(part: Part, module: nn.Module, transform: Transform | None) -> ImageSpace:
    """Return the identity of what a tower makes of images.

    Args:
        part: as it was built.
        module: what it built, in float32.
        transform: how pixels reach it; None where rows come in.
    """
    kept = plugins.kept(part, module)
    # What only training knows has no part in its rows; what a library's own release may name anew
    # is told by the weights.
    busy = getattr(plugins.load(kept.room, kept.name), "NOT_IN_ROWS", frozenset())
    at_rest = {name: value for name, value in kept.options.items() if name not in busy}
    plain = to_dict(transform) if transform else {}
    plain.pop("augment", None)
    return ImageSpace(
        tower=Part(kept.room, kept.name, to_dict(at_rest)),
        weights=weights_of(module),
        transform=plain,
        dimensions=module.width,  # type: ignore[arg-type]
    )


def tower_of(cache: FeatureCache, *, device: str = "auto") -> ImageTower:
    """Return the tower that made the rows of a cache, checked against its space.

    Raises:
        ConfigError, MissingPackage: as `open_tower`.
        SpaceMismatch: what is there now makes other rows.
    """
    tower = open_tower(cache.tower, cache.transform, device=device)
    cache.space.require_same(
        tower.space, ours=f"the cache {cache.folder}", theirs=f"the tower {tower.part.name}"
    )
    return tower


def weights_of(module: nn.Module) -> str:
    """Return "sha256:..." of a network's tensors: kinds, shapes and bytes, whatever their names.

    Releases of a library rename tensors; the network is the same.
    """
    found = [v for v in module.state_dict().values() if isinstance(v, Tensor)]
    if not found:
        return _UNSEEN
    each = []
    for value in found:
        digest = hashlib.sha256(f"{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        each.append(digest.digest())
    return f"sha256:{hashlib.sha256(b''.join(sorted(each))).hexdigest()}"


def _changed(base: Transform, options: Mapping[str, Any] | Sequence[str]) -> Transform:
    if isinstance(options, Mapping):
        return from_dict(Transform, {**to_dict(base), **options}, "transform")
    return override(base, options)


def _first(options: Mapping[str, Any] | Sequence[str]) -> str:
    return str(next(iter(options)))
