"""A random permutation of any size that is computed place by place and needs no memory."""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Int64

from lift.data.dice import generator

_PERMUTE = 6
"""Purpose of the dice: the keys of a permutation's rounds."""

_ROUNDS = 8
_SALTS = 1 << 32
_DRAWN = 4_096


def permuted(
    places: Int64[np.ndarray, " n"], size: int, seed: int, epoch: int, salt: int = 0
) -> Int64[np.ndarray, " n"]:
    """Return where a permutation of 0 ... `size` - 1 sends `places`.

    Up to 4,096 it is drawn and kept. Beyond, it is a Feistel network over the next power of two,
    walked on until it lands below `size` (Black and Rogaway, CT-RSA 2002): one call costs the
    same wherever in the epoch it is, so that a run can go on anywhere.

    Args:
        places: from 0 to `size` - 1.
        size: of the permutation, up to 2**62.
        seed, epoch, salt: another one, another permutation.
    """
    if size <= _DRAWN:
        return _drawn(size, seed, epoch, salt)[places]
    bits = (size - 1).bit_length()
    keys = _keys(seed, epoch, salt)
    found = places.astype(np.uint64)
    found = _network(found, bits, keys)
    while (outside := found >= size).any():
        found[outside] = _network(found[outside], bits, keys)
    return found.astype(np.int64)


@functools.lru_cache(maxsize=256)
def _drawn(size: int, seed: int, epoch: int, salt: int) -> np.ndarray:
    return generator(seed, _PERMUTE, epoch, salt % _SALTS).permutation(size)


@functools.lru_cache(maxsize=4_096)
def _keys(seed: int, epoch: int, salt: int) -> tuple[int, ...]:
    rng = generator(seed, _PERMUTE, epoch, salt % _SALTS)
    return tuple(rng.integers(0, 1 << 63, _ROUNDS).tolist())


def _network(values: np.ndarray, bits: int, keys: tuple[int, ...]) -> np.ndarray:
    """Return values of `bits` bits, each sent to another: rounds of left ^= f(right), then swap."""
    wide, narrow = bits - bits // 2, bits // 2
    left, right = values >> np.uint64(narrow), values & np.uint64((1 << narrow) - 1)
    for key in keys:
        # Widths swap with the halves; after an even number of rounds they are as before.
        mixed = _mix(right ^ np.uint64(key)) & np.uint64((1 << wide) - 1)
        left, right = right, left ^ mixed
        wide, narrow = narrow, wide
    return (left << np.uint64(narrow)) | right


def _mix(values: np.ndarray) -> np.ndarray:
    """Scramble 64 bits (the finaliser of SplitMix64, Steele et al., OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))
