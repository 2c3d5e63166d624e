"""Devices, threads and the timed choice of precision."""

from __future__ import annotations

import time

import pytest
import torch

from lift.errors import ConfigError
from lift.world import (
    autocast,
    choose_device,
    probe_precision,
    probe_products,
    products,
    threads,
)


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


def test_products_are_put_back() -> None:
    with products("medium"):
        assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("faster", ["highest", "medium"])
def test_the_faster_way_to_multiply_wins_where_it_is_as_exact(faster: str) -> None:
    def step() -> None:
        time.sleep(0.002 if torch.get_float32_matmul_precision() == faster else 0.02)

    chosen, measured = probe_products(step, torch.device("cpu"))
    exact = measured["error, medium"] <= 2 * measured["error, highest"]
    assert chosen == (faster if exact else "highest")
    assert torch.get_float32_matmul_precision() == "highest"


def test_products_that_round_to_less_are_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU with bfloat16 units."""
    multiply = torch.Tensor.__matmul__

    def rounded(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if torch.get_float32_matmul_precision() == "medium" and a.dtype == torch.float32:
            return multiply(a.bfloat16(), b.bfloat16()).float()
        return multiply(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    chosen, measured = probe_products(lambda: time.sleep(1), torch.device("cpu"))
    assert chosen == "highest" and measured["error, medium"] > 10 * measured["error, highest"]


def test_gpus_keep_full_products() -> None:
    assert probe_products(lambda: None, torch.device("cuda")) == ("highest", {})
