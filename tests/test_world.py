"""Devices, threads and the timed choice of precision."""

from __future__ import annotations

import time

import pytest
import torch

from lift.errors import ConfigError
from lift.world import autocast, choose_device, probe_precision, threads


def test_a_device_that_is_not_there_is_refused() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ConfigError, match="'no_such_device' can't be used here"):
        choose_device("no_such_device")


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("faster", "slow_dtype"), [("float32", True), ("bfloat16", False)])
def test_the_faster_precision_wins(faster: str, slow_dtype: bool) -> None:
    def step() -> None:
        half = torch.is_autocast_enabled("cpu")
        time.sleep(0.02 if half == slow_dtype else 0.002)

    chosen, seconds = probe_precision(step, torch.device("cpu"))
    assert chosen == faster
    assert seconds["float32"] > 0 and seconds["bfloat16"] > 0


def test_a_tie_goes_to_float32() -> None:
    chosen, _ = probe_precision(lambda: time.sleep(0.005), torch.device("cpu"))
    assert chosen == "float32"


def test_autocast_is_off_in_float32() -> None:
    with autocast(torch.device("cpu"), "float32"):
        assert not torch.is_autocast_enabled("cpu")
    with autocast(torch.device("cpu"), "bfloat16"):
        assert torch.is_autocast_enabled("cpu")
