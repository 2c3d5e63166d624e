"""Stored rows that are bytes: packed codes, then one little-endian float32 scale a row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from lift.cache.codec import as_lists

SCALE_BYTES = 4


def row_type(code_bytes: int) -> pa.FixedSizeListType:
    """Return fixed_size_list<uint8>[code_bytes + 4]."""
    return pa.list_(pa.uint8(), code_bytes + SCALE_BYTES)


def join(
    codes: UInt8[np.ndarray, "n w"], scales: Float32[np.ndarray, " n"]
) -> pa.FixedSizeListArray:
    """Return rows of codes with their scales behind them."""
    stored = np.empty((len(codes), codes.shape[1] + SCALE_BYTES), np.uint8)
    stored[:, :-SCALE_BYTES] = codes
    stored[:, -SCALE_BYTES:] = scales.astype("<f4").view(np.uint8).reshape(-1, SCALE_BYTES)
    return as_lists(stored)


def split(stored: UInt8[Tensor, "n w4"]) -> tuple[UInt8[Tensor, "n w"], Float32[Tensor, "n 1"]]:
    """Return the codes (a view) and the scales of stored rows."""
    # Their place in a row is no multiple of 4, as the view needs; `contiguous` would not move one.
    scales = stored[:, -SCALE_BYTES:].clone(memory_format=torch.contiguous_format)
    scales = scales.view(torch.float32).view(-1, 1)
    return stored[:, :-SCALE_BYTES], scales
