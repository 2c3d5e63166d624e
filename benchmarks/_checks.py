"""What has to hold before anything is timed."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from _contenders import INPUTS, Contender, Setting
from _timing import matmul_precision

from lift.data.transform import Transform

TOLERANCE = {"float32": 2e-5, "bfloat16": 3e-2, "float64": 1e-12}
"""Of LIFT's loss against float64, relative; float32 products on tensor cores are judged as 1e-3."""


def check(
    setting: Setting, name: str, contender: Contender, before: dict[str, float]
) -> dict[str, float]:
    """Return the first loss of a contender, having compared it.

    LIFT's has to be that of the same weights in float64, open_clip's that of our CLIP.
    """
    expected = naive_loss(setting, contender) if name == "LIFT" else None
    first = contender.step(0)
    if first is None:
        return {}
    found = {name: float(first)}
    if expected is not None:
        found["LIFT in float64"] = expected
    elif name == "open_clip" and "CLIP" in before:
        expected = before["CLIP"]
    if expected is not None:
        lax = torch.get_float32_matmul_precision() != "highest"
        bound = max(TOLERANCE[setting.precision], 1e-3 if lax else 0.0) * abs(expected)
        if not abs(found[name] - expected) <= bound:
            raise SystemExit(f"{name}'s loss is {found[name]}, not {expected}: nothing was timed.")
    return found


def medium_error(setting: Setting) -> dict[str, Any]:
    """Return what `medium` products do to the tower's gradients on two images, and if that's safe.

    Errors are lengths of differences from the float64 gradient, over its length. Safe is no more
    than twice the error of float32.
    """
    if setting.precision != "float32":
        return {"safe": False, "why": f"products are {setting.precision}"}
    tower = setting.build_tower()
    generator = torch.Generator().manual_seed(7)
    side = setting.tower.resolution
    images = torch.randn(2, 3, side, side, generator=generator).to(setting.device)
    upstream = torch.randn(2, setting.tower.width, generator=generator).to(setting.device)

    def gradient(double: bool) -> torch.Tensor:
        net = copy.deepcopy(tower).double() if double else tower
        kind = torch.float64 if double else torch.float32
        found = torch.autograd.grad(net(images.to(kind)), list(net.parameters()), upstream.to(kind))
        return torch.cat([g.double().flatten() for g in found])

    exact = gradient(double=True)
    error = {}
    for name in ("highest", "medium"):
        with matmul_precision(name):
            error[name] = float((gradient(double=False) - exact).norm() / exact.norm())
    return {"error": error, "safe": error["medium"] <= 2 * error["highest"]}


@torch.no_grad()
def naive_loss(setting: Setting, contender: Contender) -> float:
    """Return LIFT's loss of the first input, all of it in float64, written out as in the paper."""
    model = copy.deepcopy(contender.modules[0]).double()
    images, texts = contender.inputs[0], contender.inputs[INPUTS]
    mean, std = (
        torch.tensor(getattr(Transform(), name), dtype=torch.float64, device=images.device)
        for name in ("mean", "std")
    )
    parts = []
    for chunk in images.split(64):
        x = (chunk.double() / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
        parts.append(model.image.head(model.image.tower(x)))  # type: ignore[union-attr,operator]
    z, t = (F.normalize(h, dim=-1) for h in (torch.cat(parts), texts.double()))
    logits = z @ t.T / 0.07
    right = logits.diagonal()
    return float(((logits.logsumexp(1) - right).mean() + (logits.logsumexp(0) - right).mean()) / 2)
