"""Choose once how the rows of a cache are made, and hold every later run to it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from lift import __version__, plugins
from lift.cache import manifest as records
from lift.cache.maker import RowMaker
from lift.cache.manifest import Plan, Space
from lift.cache.place import Place
from lift.cache.shard import is_shard
from lift.config import Part
from lift.errors import CacheError, ConfigError
from lift.image_space import ImageSpace
from lift.text.encoder import TextEncoder, default_token_budget
from lift.text.precision import bfloat16_is_safe
from lift.world import Precision, probe_precision

ROWS_PER_SHARD = 16_384
"""A kill loses at most this many rows: under a minute of MiniLM on one CPU core."""

CPU_BLOCK = 4_096
"""Captions that the encoder gets at once on a CPU: enough to batch by length, and a progress bar
that moves. Accelerators get a whole shard: their batches hold more."""

IMAGES_PER_SHARD = 1_024
"""Rows of images that a kill loses at most, on a CPU: two minutes of a ViT-B/16 on one core.
Accelerators, a hundred times as fast, lose eight times as many."""

IMAGE_TOKEN_BUDGET = 65_536
"""Patches of 16 x 16 pixels in a batch on an accelerator: 334 images of 224 x 224. On a CPU the
budget of texts is as good for images: ten of them."""

DEFAULT_CODEC = "float16"


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What a caller asks for; None takes what the cache has, or the default of a new one."""

    codec: Part | None = None
    precision: Precision | None = None
    token_budget: int | None = None
    rows_per_shard: int | None = None
    parts: int | None = None


def settle(place: Place, encoder: RowMaker, wishes: Wishes, sample: list[str]) -> Plan:
    """Return the plan of a cache, chosen and written down once, and the caller held to it.

    Raises:
        SpaceMismatch: the cache holds rows of another space.
        CacheError: it was created with other choices, or holds something else.
        ConfigError: the codec does not suit the encoder.
    """
    plan = records.read_plan(place)
    if plan is None:
        records.write_plan(place, _new(place, encoder, wishes, sample))
        # On an object store two may have written: the last one counts, and both read it here.
        plan = records.read_plan(place)  # another part may have been first: its plan counts
    assert plan is not None
    require_plan(plan, encoder, wishes, place)
    return plan


def require_ours(place: Place) -> None:
    """Refuse a folder that holds anything but a cache, before anything is written into it."""
    foreign = [name for name in place.names() if not records.is_ours(name)]
    if foreign:
        raise CacheError(
            f"{place} holds something else ({', '.join(foreign[:3])}"
            f"{', ...' if len(foreign) > 3 else ''}); give an empty or a new folder."
        )


def _new(place: Place, encoder: RowMaker, wishes: Wishes, sample: list[str]) -> Plan:
    """Choose everything that a run may choose."""
    if any(is_shard(name) or name == records.MANIFEST for name in place.names()):
        raise CacheError(
            f"{place} has shards but no {records.PLAN}; remove the folder and embed again."
        )
    rows_per_shard = wishes.rows_per_shard or _rows_per_shard(encoder)
    plan = Plan(
        space=encoder.space,
        fingerprint=encoder.space.fingerprint,
        encoder=encoder.part,
        saw=encoder.saw,
        codec=wishes.codec or plugins.resolve(Part("cache/codecs", DEFAULT_CODEC)),
        precision=wishes.precision or _faster_precision(encoder, sample),
        token_budget=wishes.token_budget or _token_budget(encoder),
        rows_per_shard=rows_per_shard,
        block=min(rows_per_shard, CPU_BLOCK if encoder.device == "cpu" else rows_per_shard),
        parts=wishes.parts or 1,
        threads=torch.get_num_threads(),
        device=encoder.device,
        versions=versions(encoder.space),
    )
    codec = plan.build_codec()
    if codec.needs_matryoshka and not encoder.matryoshka:
        raise ConfigError(
            f"The codec {codec.name} keeps the first values of a row, and nothing says that the "
            f"encoder {encoder.part.name} was trained for that: its neighbours would be lost. Use "
            f"codec int8 or int4, or say {codec.name}:force=true."
        )
    return plan


def require_plan(plan: Plan, encoder: RowMaker, wishes: Wishes, place: Place) -> None:
    """Refuse an encoder of another space, and choices other than those of the plan."""
    plan.space.require_same(
        encoder.space, ours=f"the cache {place}", theirs=f"the encoder {encoder.part.name}"
    )
    if isinstance(plan.space, ImageSpace):
        _require_rows(plan, encoder.part, place)
    for name, value in vars(wishes).items():
        ours = getattr(plan, name)
        if value is not None and value != ours:
            shown = [_shown(choice) for choice in (ours, value)]
            raise CacheError(
                f"{place} was created with {name} {shown[0]}, not {shown[1]}; use "
                f"{name}={shown[0]}, or another folder."
            )


def _require_rows(plan: Plan, part: Part, place: Place) -> None:
    """Refuse other rows of each image than those that the plan says, or other views."""
    ours, theirs = ({**p.options, **p.options["transform"]} for p in (plan.encoder, part))
    for name in ("views", "grid", "seed", "augment"):
        if ours.get(name) != theirs.get(name):
            raise CacheError(
                f"{place} was created with {name} {ours.get(name)}, not {theirs.get(name)}; leave "
                f"{name} out, or use another folder."
            )


def _rows_per_shard(encoder: RowMaker) -> int:
    if not isinstance(encoder.space, ImageSpace):
        return ROWS_PER_SHARD
    return IMAGES_PER_SHARD if encoder.device == "cpu" else 8 * IMAGES_PER_SHARD


def _token_budget(encoder: RowMaker) -> int:
    if not isinstance(encoder.space, ImageSpace) or encoder.device == "cpu":
        return default_token_budget(encoder.device)
    return IMAGE_TOKEN_BUDGET


def _shown(choice: Any) -> str:
    if not isinstance(choice, Part):
        return str(choice)
    options = ",".join(f"{name}={value}" for name, value in choice.options.items())
    return f"{choice.name}:{options}" if options else choice.name


def _faster_precision(encoder: RowMaker, sample: list[str]) -> Precision:
    """Return bfloat16 where it is faster here and changes no row by more than it may."""
    if encoder.device not in ("cpu", "cuda", "mps"):
        return "float32"  # a server: what it computes in is not ours to choose
    device = torch.device(encoder.device)

    def step() -> None:
        half = torch.is_autocast_enabled(device.type)
        encoder.encode(sample, precision="bfloat16" if half else "float32")

    chosen = probe_precision(step, device)[0]
    safe = chosen == "float32" or bfloat16_is_safe(cast(TextEncoder, encoder), sample)[0]
    return chosen if safe else "float32"


def version_note(before: Sequence[Mapping[str, str]], now: Mapping[str, str]) -> str:
    """Return one sentence where rows come from versions that no earlier run had, else "".

    Packages that only one side names are not compared: an older lift did not list them all.
    """

    def moved(then: Mapping[str, str]) -> list[str]:
        both = [name for name in now if name in then and then[name] != now[name]]
        return [f"{name} {now[name]} (was {then[name]})" for name in both]

    if not before or any(not moved(then) for then in before):
        return ""
    return (
        f"rows of this run come from {', '.join(moved(before[-1]))}; they may differ from the "
        "earlier ones in their last digits"
    )


def versions(space: Space) -> dict[str, str]:
    """Return the versions of what computes and stores rows, of the packages that are there."""
    found = {"lift-align": __version__}
    for name in _OF_IMAGES if isinstance(space, ImageSpace) else _OF_TEXTS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


_OF_TEXTS = ("torch", "numpy", "pyarrow", "transformers", "tokenizers", "sentence-transformers")
_OF_IMAGES = (
    *("torch", "numpy", "pyarrow", "pillow", "simplejpeg"),
    *("transformers", "timm", "open_clip_torch"),
)
"""Packages that can move a last bit of a row."""
