"""A step takes the memory of some tiles, whatever its size; measured in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lift import plugins
from lift.config import part
from objectives import memory_program
from objectives.naive import CASES, step

PROGRAM = Path(memory_program.__file__)
SOFT = {"ignore_above": 0.5, "soft": 0.3}


def measure(name: str, options: dict, images: int, width: int, extra: int = 0) -> dict[str, float]:
    words = [name, json.dumps(options), str(images), str(width), *([str(extra)] if extra else [])]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("name", "options", "extra"),
    [
        ("softmax", {"equal": True}, 0),
        ("softmax", SOFT, 9000),
        ("sigmoid", {"equal": True}, 9000),
        ("compatible", {}, 9000),
    ],
)
def test_less_than_one_matrix(name, options, extra):
    """One matrix of logits would be 144 MiB here."""
    images, width = 6144, 32
    found = measure(name, options, images, width, extra)
    assert found["most"] < 90
    handed_over = images * width * 4 / 2**20 if name == "sigmoid" else 0
    assert found["kept"] < handed_over + 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["softmax", "sigmoid", "cosine"])
def test_a_large_step_takes_less_than_256_megabytes(name):
    """8,192 vectors of 4,096 values are 128 MiB; what is beside tiles grows with b + c only."""
    found = measure(name, {}, 8192, 4096)
    assert found["most"] < 256e6 / 2**20


@pytest.mark.parametrize(("name", "options"), CASES)
def test_nothing_of_the_size_of_a_matrix_is_kept(name, options):
    """What autograd is given to keep is what came in."""
    if "of" in options:
        options = {**options, "of": part("objectives", options["of"])}
    objective = plugins.build(part("objectives", name, **options))
    z_image, texts = step(40, 30, 8, dtype=torch.float32)
    z_image.requires_grad_()
    kept = []

    def keep(x):
        kept.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        objective(z_image, texts)
    assert kept and max(kept) <= max(z_image.numel(), texts.z.numel()) < 40 * 70
