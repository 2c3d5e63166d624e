"""Amounts in words for tables: numbers, FLOPs, bytes, times, epochs."""

from __future__ import annotations

_SMALLEST = 0.001
AT_ONCE = 0.01
"""Epochs below which something holds from the beginning."""


def number(value: float) -> str:
    """Return three digits, or whole thousands; never an exponent."""
    if 0 < value < _SMALLEST:
        return f"less than {_SMALLEST:g}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def epochs(value: float) -> str:
    """Return a number of epochs."""
    return f"{number(value)} epochs" if value >= AT_ONCE else f"less than {AT_ONCE:g} epochs"


def device_time(hours: float) -> str:
    """Return a time on one device, in the largest unit of which there is one or more."""
    for name, size in (("hours", 1.0), ("minutes", 60.0), ("seconds", 3_600.0)):
        if hours * size >= 1:
            return f"{number(hours * size)} device {name}"
    return "less than a device second" if hours else "0 device hours"


def flops(value: float | None) -> str:
    """Return FLOPs with their unit, "unknown" for None."""
    if value is None:
        return "unknown"
    names = ("ZF", 1e21), ("EF", 1e18), ("PF", 1e15), ("TF", 1e12), ("GF", 1e9), ("MF", 1e6)
    return _scaled(value, names)


def short(value: float) -> str:
    """Return a count in thousands, millions or billions."""
    return _scaled(value, (("billion", 1e9), ("million", 1e6), ("thousand", 1e3), ("", 1.0)))


def size(value: float) -> str:
    """Return bytes with their unit."""
    return _scaled(value, (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)))


def _scaled(value: float, units: tuple[tuple[str, float], ...]) -> str:
    unit, factor = next(((u, s) for u, s in units if value >= s), units[-1])
    return f"{number(value / factor)} {unit}".rstrip()
