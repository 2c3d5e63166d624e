"""What ranks tell each other arrives; alone, nothing travels."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lift.errors import DataError, RankLost
from lift.ranks import ALONE, joined, telling


def test_alone_every_word_is_the_speakers_own() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    assert torch.equal(ALONE.gather(x), x) and not ALONE.gather(x).requires_grad
    assert ALONE.gather_with_gradient(x) is x
    assert torch.equal(ALONE.sum(x), x) and torch.equal(ALONE.max(x), x)
    assert ALONE.hear(1) == [1] and ALONE.agree("a") == "a" and ALONE.any(True)
    with pytest.raises(DataError, match="mine"), ALONE.together():
        raise DataError("mine")
    with joined(torch.device("cpu")) as ranks:
        assert ranks is ALONE


def test_three_processes_understand_each_other() -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    program = Path(__file__).with_name("ranks_program.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "3"]
    done = subprocess.run(
        [*command, "--master-port", str(port), str(program)],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("is right") == 3


def test_what_a_backend_says_becomes_one_sentence() -> None:
    with pytest.raises(RankLost, match="run the same command again"), telling():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:537] Connection closed by peer")
    with pytest.raises(RuntimeError, match="shape"), telling():
        raise RuntimeError("shape '[2, 3]' is invalid")
