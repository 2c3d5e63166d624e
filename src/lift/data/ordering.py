"""Which order fits a source: what it is made of decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

from lift.data.joined import Joined, sources_of
from lift.data.order import (
    WINDOW_SAMPLES,
    Alike,
    Interleaved,
    Order,
    Redrawn,
    Shuffled,
    Windowed,
)
from lift.errors import ConfigError
from lift.terms import Source

Kind = Literal["any", "source", "cluster"]
"""What the samples of a batch have in common: nothing, their source, or their cluster."""

_MASK = (1 << 63) - 1


def order_of(source: Source, seed: int, batch: int, alike: Kind = "any") -> Order:
    """Return the order in which a run shows a source's samples.

    Args:
        source: one, or several joined.
        seed: of the run.
        batch: samples of a batch, over all ranks.
        alike: what the samples of a batch share.

    Raises:
        ConfigError: batches of one cluster or source are asked for, and there are none.
    """
    if alike == "cluster":
        slots = _slots(source)
        clusters = getattr(source, "slot_clusters" if slots else "clusters", ())
        if not clusters:
            raise ConfigError(
                f"{source.name} has no clusters for loader.alike=cluster; make them with "
                "`lift data select --clusters`."
            )
        found = Alike(clusters, batch, seed)
        if not found.length:
            raise ConfigError(f"{source.name} has no cluster of a whole batch ({batch}).")
        return Redrawn(found, cast(Any, source).drawn, seed) if slots else found
    several = sources_of(source)
    if alike == "source" and len(several) < 2:
        raise ConfigError(f"loader.alike=source needs several sources (a::b), not {source.name}.")
    weights = _weights(source, several, alike)
    if weights is None:
        return _single(source, seed)
    assert isinstance(source, Joined), "only several sources have weights"
    # Sources of one size would else be permuted alike.
    orders = [
        _single(own, (seed + place * 0x9E3779B97F4A7C15) & _MASK)
        for place, own in enumerate(several)
    ]
    for own, order in zip(several, orders, strict=True):
        if alike == "source" and order.length < batch:
            raise ConfigError(
                f"{own.name} shows {order.length} samples an epoch, fewer than one batch of "
                f"{batch}: with loader.alike=source its batches would repeat them. Lower "
                "loader.batch_size or leave that source out."
            )
    return Interleaved(orders, source.begins, weights, seed, batch if alike == "source" else 1)


def _weights(source: Source, several: Sequence[Source], alike: Kind) -> Sequence[float] | None:
    told: Sequence[float] | None = getattr(source, "weights", None)
    if told is None and (alike == "source" or (len(several) > 1 and any(map(_slots, several)))):
        return [_slots(own) or len(own) for own in several]
    return told


def _slots(source: Source) -> int:
    return getattr(source, "slots", 0)


def _single(source: Any, seed: int) -> Order:
    """Return the order of one source: one permutation, or windows of storage groups."""
    slots = _slots(source)
    groups: Sequence[int] = source.slot_groups if slots else source.groups
    window: int | None = getattr(source, "window_samples", None)
    samples = sum(groups)
    # Clusters lie across storage groups: one group, of any size, that no window can hold.
    if samples > WINDOW_SAMPLES and (window is None or getattr(source, "clusters", ())):
        found: Order = Shuffled(samples, seed)
    else:
        if window and slots:  # as many groups as that many samples lie in
            window = max(1, window * slots // len(source))
        ahead = getattr(source, "ahead", None)
        found = Windowed(groups, seed, min(WINDOW_SAMPLES, window or WINDOW_SAMPLES), ahead)
    return Redrawn(found, source.drawn, seed) if slots else found
