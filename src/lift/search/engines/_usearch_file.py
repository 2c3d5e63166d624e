"""Whether a file of usearch (format 2) says nothing that its library would run out of bounds with.

The library trusts what it maps. As it writes files (docs/format.md of usearch, and files looked
at): the rows with their count and bytes (two uint32); 64 bytes that begin with `usearch`; count,
links of a row, links on the lowest level, highest level, first row (five uint64); the level of each
row (int16); then each row's key (uint64), level (int16) and, for every level from 0, how many links
it has (uint32) and room for all (uint32 each).
"""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from lift.search.engines._built import Unusable

_HEAD, _COUNTS = 64, 40
_MOST_LEVELS = 64
_ROWS_AT_ONCE = 65_536


def require_sound(path: Path, rows: int, width: int, connectivity: int, bytes_: int) -> None:
    """Look at every link in the file.

    Args:
        path: the file, which does not change meanwhile.
        rows, width: of the vectors it was built of.
        connectivity: links of a row on upper levels.
        bytes_: of a number of its copy of the rows.

    Raises:
        Unusable: what the file says doesn't fit.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as map_:
            data = np.frombuffer(map_, np.uint8)
            try:
                sound = _sound(data, rows, width * bytes_, connectivity)
            finally:
                del data  # else the map can't be closed
    except (OSError, ValueError, IndexError, OverflowError) as error:
        raise Unusable("its file can't be read") from error
    if not sound:
        raise Unusable("its file holds links that lead nowhere")


def _sound(data: UInt8[np.ndarray, " b"], rows: int, row_bytes: int, links: int) -> bool:
    start = 8 + rows * row_bytes
    if len(data) < start + _HEAD + _COUNTS + 2 * rows:
        return False
    counts = [rows, row_bytes]
    if data[:8].view("<u4").tolist() != counts or bytes(data[start : start + 7]) != b"usearch":
        return False
    start += _HEAD
    told = data[start : start + _COUNTS].copy().view("<u8").tolist()
    if told[:3] != [rows, links, 2 * links] or told[3] >= _MOST_LEVELS:
        return False
    if rows and told[4] >= rows:
        return False
    start += _COUNTS
    levels = data[start : start + 2 * rows].copy().view("<i2").astype(np.int64)
    start += 2 * rows
    if rows and (levels.min() < 0 or levels.max() > told[3] or levels[told[4]] != told[3]):
        return False
    lowest, upper = 4 + 8 * links, 4 + 4 * links
    sizes = 10 + lowest + levels * upper
    starts = start + np.cumsum(sizes) - sizes
    if start + int(sizes.sum()) != len(data):
        return False
    return all(
        _level_sound(data, starts, levels, level, lowest if level == 0 else upper, upper)
        for level in range(int(levels.max(initial=0)) + 1)
    )


def _level_sound(
    data: UInt8[np.ndarray, " b"],
    starts: Int64[np.ndarray, " n"],
    levels: Int64[np.ndarray, " n"],
    level: int,
    size: int,
    upper: int,
) -> bool:
    """Whether the rows of a level have links to rows of that level, and keys of their own place."""
    offset = 10 if level == 0 else 10 + (4 + 2 * (upper - 4)) + (level - 1) * upper
    inside = np.flatnonzero(levels >= level)
    for first in range(0, len(inside), _ROWS_AT_ONCE):
        some = inside[first : first + _ROWS_AT_ONCE]
        at = starts[some]
        if level == 0:
            head = data[at[:, None] + np.arange(10)]
            keys, own = head[:, :8].copy().view("<u8"), head[:, 8:].copy().view("<i2")
            if (keys[:, 0] != some).any() or (own[:, 0] != levels[some]).any():
                return False
        lists = data[at[:, None] + offset + np.arange(size)].copy().view("<u4")
        counts, ends = lists[:, 0], lists[:, 1:]
        if (counts > ends.shape[1]).any():
            return False
        used = ends[np.arange(ends.shape[1]) < counts[:, None]]
        if (used >= len(levels)).any() or (levels[used] < level).any():
            return False
    return True
