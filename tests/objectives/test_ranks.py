"""Real processes: one, two, three and four of them find the same loss and the same gradients."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lift.ranks import ALONE
from objectives import rank_program

PROGRAM = Path(rank_program.__file__)


@pytest.fixture(scope="module")
def alone() -> dict[str, torch.Tensor]:
    """Return the answers of this process, in one tile."""
    return rank_program.answers(ALONE)


def together(size: int, folder: Path) -> dict[str, torch.Tensor]:
    """Run so many processes once; each has to end well."""
    words = [str(size), str(folder / "meet"), str(folder / "answers.safetensors")]
    started = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(rank), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    ended = [process.returncode for process in started]
    assert ended == [0] * size, "\n".join(said)
    return load_file(folder / "answers.safetensors")


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_ranks_agree_with_one_process(size, alone, tmp_path):
    found = together(size, tmp_path)
    assert set(found) == set(alone)
    for name, value in alone.items():
        allowed = 1e-10 if value.dtype == torch.float64 else 1e-5
        # A loss of one number is compared with itself, and a gradient with its largest entry.
        bound = allowed * value.abs().max()
        assert (found[name] - value).abs().max() <= bound, name
        if not name.endswith(("bias", "loss", "scale")):
            assert value.abs().max() > 1e-4, name
