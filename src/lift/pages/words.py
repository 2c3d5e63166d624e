"""Put figures into words: shares, intervals, durations, counts, names of metrics."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_DIRECTIONS = {
    "t2i": "text to image",
    "i2t": "image to text",
    "text_to_image": "text to image",
    "image_to_text": "image to text",
}


def metric_words(name: str, *, brief: bool = False) -> str:
    """Return a metric's name for people: "t2i_r10" -> "text to image R@10".

    Args:
        name: as in EvalResult.metrics.
        brief: leave the direction out, for the end of a line in a chart.
    """
    for short, long in _DIRECTIONS.items():
        if name.lower().startswith(short):
            rest = _recall(name[len(short) :].strip("_-/. "))
            return rest if brief and rest else f"{long} {rest}".strip()
    return _recall(name)


def _recall(name: str) -> str:
    name = re.sub(r"\b(?:r|recall)[_@]?(\d+)\b", r"R@\1", name, flags=re.I)
    name = re.sub(r"\btop[_@]?(\d+)\b", r"top-\1", name, flags=re.I)
    return name.replace("_", " ")


def share(value: float) -> str:
    """Return a share in percent: 0.2931 -> "29.3%"."""
    return f"{100 * value:.1f}%" if math.isfinite(value) else "not finite"


def plain(value: float) -> str:
    """Return a number of any unit: 8.0 -> "8", 1234.5 -> "1,234"."""
    if not math.isfinite(value):
        return "not finite"
    if abs(value) >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def count(value: float) -> str:
    """Return a large count: 105730560 -> "105.7 million"."""
    for limit, word in ((1e9, "billion"), (1e6, "million")):
        if abs(value) >= limit:
            return f"{value / limit:.1f} {word}"
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units: 754 -> "12 min 34 s"."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h"


def value_words(value: Any) -> str:
    """Return a config value as one line: nested values are written as JSON would."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {value_words(v)}" for name, v in value.items()) or "empty"
    if isinstance(value, list | tuple):
        return ", ".join(value_words(v) for v in value) or "empty"
    return str(value)


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return (dotted path, value) of nested options; a part's name stands at its own path.

    The paths are those that the command line takes (`objective=softmax`, `loader.batch_size=64`).
    """
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and set(value) == {"room", "name", "options"}:
            rows.append((path, str(value["name"])))
            rows += flatten(value["options"] or {}, f"{path}.")
        elif isinstance(value, Mapping) and value:
            rows += flatten(value, f"{path}.")
        else:
            rows.append((path, value_words(value)))
    return rows
