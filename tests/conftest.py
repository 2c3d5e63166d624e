"""Fixtures for every test: one torch thread, no hub, real data where it is at hand."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What lift keeps for the next time stays out of the caller's own folder, and goes at the end.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="lift-tests-")

import pytest
import torch
from jaxtyping import install_import_hook

torch.set_num_threads(1)
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# Every annotated shape in the package is checked while tests run, so annotations can't lie.
sys.path.insert(0, str(Path(__file__).parent))
install_import_hook("lift", "typechecker.check")

SHARED_DATA = Path(
    os.environ.get("LIFT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")
).resolve()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of small real data sets, or skip."""
    if not (SHARED_DATA / "flickr8k").is_dir():
        pytest.skip(f"real data sets are not at {SHARED_DATA} (set LIFT_TEST_DATA)")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a real disk of one megabyte, or skip."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk here")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)
