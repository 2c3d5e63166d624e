"""Choose once how the rows of a cache are made, and hold every later run to it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lift import __version__
from lift.cache import manifest as records
from lift.cache.manifest import Plan
from lift.config import Part
from lift.errors import CacheError
from lift.text.encoder import TextEncoder, default_token_budget
from lift.world import Precision, probe_precision

ROWS_PER_SHARD = 16_384
"""A kill loses at most this many rows: under a minute of MiniLM on one CPU core."""

BLOCK = 1_024
"""Captions that the encoder gets at once: enough to batch by length, a progress bar that moves."""


def new_plan(
    folder: Path, encoder: TextEncoder, wanted: Mapping[str, Any], sample: list[str]
) -> Plan:
    """Choose everything that a run may choose, once, and write it down."""
    if any(folder.glob("shard-*.arrow")) or (folder / records.MANIFEST).exists():
        raise CacheError(
            f"{folder} has shards but no {records.PLAN}; remove the folder and embed again."
        )
    plan = Plan(
        space=encoder.space,
        fingerprint=encoder.space.fingerprint,
        encoder=encoder.part,
        saw=encoder.saw,
        codec=wanted["codec"],
        precision=wanted["precision"] or _faster_precision(encoder, sample),
        token_budget=wanted["token_budget"] or default_token_budget(encoder.device),
        rows_per_shard=wanted["rows_per_shard"] or ROWS_PER_SHARD,
        block=BLOCK,
        threads=torch.get_num_threads(),
        device=encoder.device,
        versions=versions(),
    )
    records.write_record(folder, plan)
    return plan


def require_plan(plan: Plan, encoder: TextEncoder, wanted: Mapping[str, Any], folder: Path) -> None:
    """Refuse an encoder of another space, and choices other than those of the plan."""
    plan.space.require_same(
        encoder.space, ours=f"the cache {folder}", theirs=f"the encoder {encoder.part.name}"
    )
    for name, value in wanted.items():
        ours = getattr(plan, name)
        if value is not None and value != ours:
            shown = (ours.name, value.name) if isinstance(ours, Part) else (ours, value)
            raise CacheError(
                f"{folder} was created with {name} {shown[0]}, not {shown[1]}; use "
                f"{name}={shown[0]}, or another folder."
            )


def _faster_precision(encoder: TextEncoder, sample: list[str]) -> Precision:
    device = torch.device(encoder.device)

    def step() -> None:
        half = torch.is_autocast_enabled(device.type)
        encoder.encode(sample, precision="bfloat16" if half else "float32")

    return probe_precision(step, device)[0]


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


def versions() -> dict[str, str]:
    """Return the versions of what computes and stores rows, of the packages that are there."""
    found = {"lift-align": __version__}
    packages = ("torch", "numpy", "pyarrow", "transformers", "tokenizers", "sentence-transformers")
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
