"""The Ray example on a real local cluster: `make test-cluster`, in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lift.cache.reader import EmbeddingCache

pytestmark = pytest.mark.cluster
EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_embed.py"


def test_the_example_embeds_every_caption_once(tmp_path):
    pytest.importorskip("ray")
    texts = [f"a photo of {i} birds over house {i % 9}" for i in range(500)]
    (tmp_path / "captions.txt").write_text("".join(f"{text}\n" for text in texts))
    command = [sys.executable, str(EXAMPLE), "--data", str(tmp_path / "captions.txt")]
    command += ["--out", str(tmp_path / "c"), "--encoder", "hashing:dimensions=16", "--parts", "4"]
    for new in (True, False):  # and once more: everything is there
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stdout.splitlines() if line.startswith("part ")]
        assert len(lines) == 4 and all(line.endswith(" 0 new") != new for line in lines), lines
    cache = EmbeddingCache.open(tmp_path / "c", verify=True)
    assert len(cache) == 500 and (cache.find(texts) >= 0).all()
    assert cache.codec.name == "int8"
