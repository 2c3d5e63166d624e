"""What pixels a published network was trained on, from the files beside its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lift.errors import ConfigError
from lift.text.networks import values_of

FILES = ("preprocessor_config.json", "processor_config.json")
"""Where transformers writes it: alone, or (newer) beside what prepares texts."""

CLIP = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize": "center_crop",
}
IMAGENET = CLIP | {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALVES = CLIP | {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "resize": "squash"}

_FAMILIES = {"clip": CLIP, "metaclip_2": CLIP, "siglip": HALVES, "siglip2": HALVES}
_FAMILIES |= {"dinov2": IMAGENET, "dinov2_with_registers": IMAGENET, "dinov3_vit": IMAGENET}
"""Families of which every published network was trained on the same pixels."""

_FILTERS = {0: "bilinear", 1: "bicubic", 2: "bilinear", 3: "bicubic", 4: "bilinear", 5: "bilinear"}
"""Pillow's numbers; where lift has no such filter (nearest, Lanczos, box, Hamming), its nearest."""


def read_pixels(folder: Path, kind: str, wanted_by: str) -> dict[str, Any]:
    """Return fields of a `Transform`, as far as the files in a model's folder tell them.

    Args:
        folder: where the model's files are.
        kind: its `model_type`; a few are known without a file.
        wanted_by: the part's name, for messages.

    Raises:
        ConfigError: a file that can't be read, or that asks for what lift does not do.
    """
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    family = _FAMILIES.get(kind.removesuffix("_vision_model"), {})
    if file is None:
        return {"interpolation": "bicubic", "resize": "center_crop", **family}
    values = values_of(file, wanted_by)
    inner = values.get("image_processor")
    if isinstance(inner, dict):
        values = inner
    where = f"{wanted_by}: {file}"
    found: dict[str, Any] = {
        "interpolation": "bicubic",
        **family,
        **_statistics(values, where),
        "resize": "center_crop" if _crops(values) else "squash",
    }
    if (side := _side(values, where)) is not None:
        found["resolution"] = side
    if isinstance(number := values.get("resample"), int):
        found["interpolation"] = _FILTERS.get(number, "bicubic")
    return found


def require_statistics(found: Mapping[str, Any], model: str, wanted_by: str) -> None:
    """Raise ConfigError unless mean and deviation of the pixels are known."""
    if "mean" not in found or "std" not in found:
        raise ConfigError(
            f"{wanted_by}: no {FILES[0]} came with {model!r}, so nobody knows the mean and the "
            "deviation of the pixels that it was trained on; get that file from the model's page, "
            "or give both: mean=[0.5,0.5,0.5] std=[0.5,0.5,0.5], as its authors state them."
        )


def _statistics(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    scale = values.get("rescale_factor", 1 / 255)
    if values.get("do_rescale") is False or abs(scale * 255 - 1) > 1e-3:
        raise ConfigError(
            f"{where} wants pixels that are not divided by 255 (rescale_factor {scale}), which "
            "lift does not do; give mean= and std= for pixels from 0 to 1 and take the file away."
        )
    if values.get("do_normalize") is False:
        return {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    found = {"mean": values.get("image_mean"), "std": values.get("image_std")}
    return {name: _three(numbers, where) for name, numbers in found.items() if numbers is not None}


def _three(numbers: Any, where: str) -> tuple[float, ...]:
    several = isinstance(numbers, Sequence) and not isinstance(numbers, str)
    if not several or len(numbers) != 3 or not all(isinstance(n, int | float) for n in numbers):
        raise ConfigError(
            f"{where} says {numbers!r} where three numbers should stand, one a colour."
        )
    return tuple(float(number) for number in numbers)


def _crops(values: Mapping[str, Any]) -> bool:
    """Return whether the longer side is cut; else both are brought to one length."""
    size = values.get("size")
    by_short_side = isinstance(size, int) or (isinstance(size, dict) and "shortest_edge" in size)
    return bool(values.get("do_center_crop", by_short_side)) or by_short_side


def _side(values: Mapping[str, Any], where: str) -> int | None:
    """Return the side of the square that the network sees; None where nothing is said."""
    crop = values.get("crop_size") if values.get("do_center_crop", True) else None
    for size in (crop, values.get("size")):
        if isinstance(size, dict):
            sides = {size[name] for name in ("height", "width", "shortest_edge") if name in size}
        else:
            sides = {size} if isinstance(size, int) else set()
        if len(sides) > 1:
            raise ConfigError(
                f"{where} wants images of {sorted(sides)} pixels a side, lift's towers see "
                "squares; give resolution= and take the file away."
            )
        if sides and isinstance(side := next(iter(sides)), int):
            return side
    return None
