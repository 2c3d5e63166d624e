"""Memory does not grow with the number of samples: an epoch of 20,000 against one of 200,000."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

_EPOCH = """
import json, sys
from lift.cache.reader import EmbeddingCache
from lift.data.loader import Loader, LoaderConfig
from lift.data.source import open_source
from lift.data.transform import Transform

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

data, cache = sys.argv[1:]
config = LoaderConfig(batch_size=500, captions="raw:1")
source = open_source(data)
loader = Loader(source, EmbeddingCache.open(cache), Transform(resolution=8), config, 0)
peak, seen = anonymous(), 0
for step, batch in enumerate(loader.batches(0, len(source) // 500)):
    seen += len(batch.images)
    if step % 8 == 0:
        peak = max(peak, anonymous())
print(json.dumps({"peak": peak, "seen": seen, "distinct": len(source)}))
"""
SHARD = 5_000


def write_shards(folder: Path, samples: int, picture: bytes) -> str:
    for shard in range(samples // SHARD):
        with tarfile.open(folder / f"{shard:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in range(SHARD):
                for kind, content in (("png", picture), ("txt", b"thing %d" % (number % 1000))):
                    entry = tarfile.TarInfo(f"{shard:05d}{number:04d}.{kind}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    return f"{folder}/*.tar"


@pytest.mark.slow
def test_an_epoch_takes_the_same_memory_whatever_its_length(tmp_path, picture):
    import lift

    image, peaks = picture(1, 12, 10), {}
    for samples in (20_000, 200_000):
        folder = tmp_path / str(samples)
        folder.mkdir()
        data = write_shards(folder, samples, image)
        cache = folder / "cache"
        lift.embed([data], out=cache, encoder="hashing:dimensions=16", progress=False)
        command = [sys.executable, "-c", _EPOCH, data, str(cache)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        facts = json.loads(done.stdout)
        assert facts["seen"] == facts["distinct"] == samples
        peaks[samples] = facts["peak"]
    assert peaks[200_000] - peaks[20_000] < 0.05 * peaks[20_000] + 4, peaks
