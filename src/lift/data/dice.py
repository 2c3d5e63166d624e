"""Randomness by address: the same (seed, purpose, epoch, item) gives the same draws anywhere."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Int64, UInt64

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def generator(seed: int, purpose: int, epoch: int = 0, item: int = 0) -> np.random.Generator:
    """Return a Philox generator addressed by its arguments (Salmon et al., SC 2011).

    Seed and purpose are the key; epoch and item are the high words of the counter, so that two
    addresses never share a draw before 2**128 draws of one of them.
    """
    return np.random.Generator(
        np.random.Philox(
            key=np.array([seed & _MASK, purpose], dtype=np.uint64),
            counter=np.array([0, 0, item, epoch], dtype=np.uint64),
        )
    )


def key_number(key: str) -> int:
    """Return 63 bits that stand for a sample's key, the same in every process."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def turn(seed: int, number: int, epoch: int, choices: int) -> int:
    """Return which of `choices` a sample shows in `epoch`.

    Each run of `choices` epochs shows every choice once, from a start drawn anew each time: no
    caption of an image is seen less often than the others.

    Args:
        seed: the run's.
        number: `key_number` of the sample.
        epoch: from 0.
        choices: how many there are, at least 1.
    """
    cycle, place = divmod(epoch, choices)
    return (_mix(number ^ _mix((seed & _MASK) ^ _mix(cycle + 1))) + place) % choices


def turns(
    seed: int,
    numbers: UInt64[np.ndarray, " n"],
    epochs: Int64[np.ndarray, " n"],
    choices: Int64[np.ndarray, " n"],
) -> Int64[np.ndarray, " n"]:
    """Return `turn` of each of several samples; arguments as there."""
    cycle, place = np.divmod(epochs, choices)
    of_cycle = _mixed((cycle + 1).astype(np.uint64))
    drawn = _mixed(numbers ^ _mixed(np.uint64(seed & _MASK) ^ of_cycle))
    wide = choices.astype(np.uint64)
    return ((drawn % wide + place.astype(np.uint64)) % wide).astype(np.int64)


def _mixed(values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Return `_mix` of each value: numpy's unsigned numbers wrap around by themselves."""
    values = values + np.uint64(_GOLDEN)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _mix(value: int) -> int:
    """Scramble 64 bits (the finaliser of SplitMix64, Steele et al., OOPSLA 2014)."""
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
