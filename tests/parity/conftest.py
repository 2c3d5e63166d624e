"""Makes the opt-in environment with other projects' packages importable beside a CPU torch."""

from __future__ import annotations

import importlib.util

import torch

# The package index pairs a CPU torch with a torchvision whose compiled operators need CUDA; its
# import then fails on operators that nobody defined. Declared without a kernel, they satisfy it.
# It has to happen before the first import of torchvision, and only where it is installed so.
if torch.version.cuda is None and importlib.util.find_spec("torchvision") is not None:
    for _name in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{_name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
