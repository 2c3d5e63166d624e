"""What `step.py` makes of its measurements: slopes over batches, shares of a ceiling, tables."""

from __future__ import annotations

import json
from typing import Any


def slopes(cells: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return MB an image and constant GB of the peaks of cells that differ in their batch only."""
    groups: dict[str, list[tuple[int, float]]] = {}
    for cell in cells:
        setting = {k: v for k, v in cell["setting"].items() if k != "batch"}
        for name, found in cell["memory"].items():
            if "peak_gb" in found:
                label = f"{name}, width {setting['width']}, compile {setting['compile']}"
                groups.setdefault(label, []).append((cell["setting"]["batch"], found["peak_gb"]))
    found = {}
    for label, points in groups.items():
        (small, low), (large, high) = min(points), max(points)
        if large > small:
            slope = (high - low) / (large - small)
            found[label] = {
                "mb_an_image": round(1e3 * slope, 2),
                "constant_gb": round(low - slope * small, 2),
                "batches": [small, large],
            }
    return found


def utilisation(cell: dict[str, Any], measured: dict[str, float]) -> dict[str, float]:
    """Return useful FLOPs a second (nothing counted twice) over those of a large product."""
    setting = cell["setting"]
    name = setting["precision"]
    if name == "float32":
        name = f"float32 {setting['matmul precision']}"
    if name not in measured:
        return {}
    speeds, work = cell["images_per_s"], cell["work"]
    found = {n: speeds[n] * work[n]["total"] * 1e9 / measured[name] for n in speeds}
    return {n: round(share, 4) for n, share in found.items()}


def table(cell: dict[str, Any]) -> str:
    """Return what a reader wants to see first."""
    s = cell["setting"]
    lines = [
        f"\nwidth {s['width']}, {s['depth']} layers, patch {s['patch']}, {s['resolution']} px, "
        f"batch {s['batch']}, {s['precision']} ({s['matmul precision']}), compile {s['compile']}, "
        f"{s['device']}: {cell['rounds']} rounds of {cell['steps a turn']}"
    ]
    lines.append(f"  head, loss and optimiser are {cell['beside the tower']:.2%} of LIFT's work")
    for name, speed in cell["images_per_s"].items():
        share = cell.get("utilisation", {}).get(name)
        held = cell["memory"].get(name, {})
        more = "".join(f"  {key} {value:g}" for key, value in held.items())
        lines.append(
            f"  {name:16}{speed:10,.2f} images/s  {cell['work'][name]['total']:8.1f} GF"
            + (f"  {share:6.1%} of a large product" if share is not None else "")
            + more
        )
    lines += [f"  {name:16}missing: {why}" for name, why in cell["missing"].items()]
    for pair, found in cell["ratios"].items():
        judged = cell["goals"].get(pair)
        end = ""
        if judged:
            end = f"  goal {judged['goal']:g} {'reached' if judged['reached'] else 'MISSED'}"
        lines.append(
            f"  {pair:26}{found['median']:7.3f} [{found['p10']:.3f}, {found['p90']:.3f}]{end}"
        )
    if cell["medium"]:
        lines.append(f"  medium: {json.dumps(cell['medium'])}")
    return "\n".join(lines)
