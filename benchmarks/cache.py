"""What a cache costs to read, to keep in memory and on disk, beside what it replaces.

Three measurements, each paired in one run:

- `scan`: all rows of a cold cache in order, against plain reads of the same bytes. Before every
  pass the files are dropped from the page cache (`posix_fadvise`), and the two take turns to be
  first. Wall time, because it is the disk that is measured.
- `take`: rows at random, decoded to float32, from a warm cache, against the layout of the paper's
  own code: parquet files of 100 rows with a list of float32, read as that code reads them (a whole
  file, then a tensor). Process CPU time, one thread.
- `memory`: the peak of anonymous memory (RssAnon) while a cache is written, at 100,000 and at
  1,000,000 captions, in processes of their own. Mapped files are not anonymous: the system takes
  their pages back when it needs them.

    python benchmarks/cache.py --out benchmarks/results/cache.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import lift
from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed
from lift.text.encoder import EncodedTexts
from lift.text.encoders.hashing import Config, HashingEncoder

REFERENCE_ROWS = 100
BLOCK = 1 << 20


class Drawn(HashingEncoder):
    """Random unit rows, in no time: reading is measured here, not embedding."""

    def encode(self, texts, **options):
        dice = np.random.default_rng(len(texts))
        rows = dice.standard_normal((len(texts), self.space.dimensions), np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return EncodedTexts(rows, np.full(len(texts), 9, np.int32), np.zeros(len(texts), bool))


def write_cache(folder: Path, rows: int, width: int, codec: str) -> EmbeddingCache:
    """Return a cache of random rows."""
    encoder = Drawn(Config(dimensions=width))
    captions = (f"caption {i}" for i in range(rows))
    embed(captions, encoder, folder, codec=codec, progress=False)
    return EmbeddingCache.open(folder)


def drop(paths: list[Path]) -> None:
    """Take files out of the page cache."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def read_plainly(paths: list[Path]) -> int:
    """Return the bytes of the files, each read once."""
    total, room = 0, bytearray(BLOCK)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(room):
                total += count
    return total


def scan(cache: EmbeddingCache) -> int:
    """Return the bytes of all stored rows, each read into a batch."""
    return sum(block.nbytes for block in cache.scan())


def paired(a: Callable[[], object], b: Callable[[], object], rounds: int, clock) -> dict:
    """Return seconds of both over some rounds, taking turns, and the ratios b / a."""
    seconds: list[tuple[float, float]] = []
    for round_ in range(rounds):
        times = {}
        for call in (a, b) if round_ % 2 else (b, a):
            start = clock()
            call()
            times[call] = clock() - start
        seconds.append((times[a], times[b]))
    ratios = sorted(y / x for x, y in seconds)
    return {
        "ours_s": statistics.median(x for x, _ in seconds),
        "theirs_s": statistics.median(y for _, y in seconds),
        "ratio_median": statistics.median(ratios),
        "ratio_p10": ratios[len(ratios) // 10],
        "ratio_p90": ratios[-1 - len(ratios) // 10],
        "rounds": rounds,
    }


def measure_scan(folder: Path, rows: int, width: int, rounds: int) -> dict[str, Any]:
    """Return cold scans against cold plain reads of the same bytes."""
    cache = write_cache(folder / "scan", rows, width, "float16")
    paths = [folder / "scan" / shard.file for _, shard in cache.shards]

    def ours() -> None:
        scan(EmbeddingCache.open(folder / "scan"))

    def plain() -> None:
        read_plainly(paths)

    seconds: list[tuple[float, float]] = []
    for round_ in range(rounds):
        times = {}
        for name, call in (("ours", ours), ("plain", plain))[:: 1 if round_ % 2 else -1]:
            drop(paths)
            start = time.perf_counter()
            call()
            times[name] = time.perf_counter() - start
        seconds.append((times["ours"], times["plain"]))
    ratios = sorted(plain / ours for ours, plain in seconds)
    size = sum(path.stat().st_size for path in paths)
    return {
        "bytes": size,
        "ours_mb_s": size / 1e6 / statistics.median(x for x, _ in seconds),
        "plain_mb_s": size / 1e6 / statistics.median(y for _, y in seconds),
        "ratio_median": statistics.median(ratios),
        "ratio_p10": ratios[len(ratios) // 10],
        "ratio_p90": ratios[-1 - len(ratios) // 10],
        "rounds": rounds,
    }


def measure_take(folder: Path, rows: int, width: int, rounds: int) -> dict[str, Any]:
    """Return warm random rows of each codec against the reference's parquet files."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((REFERENCE_ROWS, width), np.float32)
    files = []
    for number in range(max(1, rows // REFERENCE_ROWS // 8)):
        table = pa.table(
            {
                "key": [f"{number}-{i}.jpg" for i in range(REFERENCE_ROWS)],
                "embedding": pa.array(list(values), pa.list_(pa.float32())),
            }
        )
        files.append(folder / f"{number}.parquet")
        pq.write_table(table, files[-1])

    def reference() -> int:
        count = 0
        for file in files:
            column = pq.read_table(file)["embedding"].combine_chunks()
            count += len(column.flatten().to_numpy().reshape(-1, width))
        return count

    found: dict[str, Any] = {"reference_bytes_a_row": files[0].stat().st_size / REFERENCE_ROWS}
    scale = rows / (len(files) * REFERENCE_ROWS)
    for codec in ("float32", "float16", "int8", "int4"):
        cache = write_cache(folder / codec, rows, width, codec)
        size = sum(shard.bytes for _, shard in cache.shards)
        entry = {"bytes_a_row": size / rows, "payload": cache.codec.bytes_per_row}
        for name, call in ways(cache, rng.permutation(rows)).items():
            call(), reference()
            times = paired(call, reference, rounds, time.process_time)
            entry[name] = {
                "rows_s": rows / times["ours_s"],
                "reference_rows_s": rows / scale / times["theirs_s"],
                "ratio_median": times["ratio_median"] * scale,
                "ratio_p10": times["ratio_p10"] * scale,
            }
        found[codec] = entry
    return found


def ways(cache: EmbeddingCache, wanted: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return the ways of reading all rows: in order, at random, at random and decoded."""

    def taken(take: Callable[[np.ndarray], np.ndarray]) -> None:
        for start in range(0, len(wanted), 512):
            take(wanted[start : start + 512])

    return {
        "in order": lambda: scan(cache),
        "random": lambda: taken(cache.take_stored),
        "random, decoded": lambda: taken(cache.take),
    }


MEMORY = """
import sys, threading, time
import lift
peak = 0
def watch():
    global peak
    while True:
        with open("/proc/self/status") as status:
            line = next(line for line in status if line.startswith("RssAnon"))
        peak = max(peak, int(line.split()[1]))
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
data, out, encoder, codec = sys.argv[1:]
start = time.process_time()
report = lift.embed([data] if data else [], out=out, encoder=encoder, codec=codec, progress=False)
print(peak, report.rows, time.process_time() - start)
"""


def measure_memory(folder: Path, counts: list[int], width: int) -> dict[str, Any]:
    """Return the peak of anonymous memory by encoder and number of captions."""
    found: dict[str, Any] = {}
    for count in counts:
        names = folder / f"{count}.txt"
        names.write_text(
            "".join(f"a photo of {i} birds over house {i * 7}\n" for i in range(count))
        )
        rows = np.lib.format.open_memmap(folder / f"{count}.npy", "w+", np.float16, (count, width))
        dice = np.random.default_rng(0)
        for start in range(0, count, 50_000):
            block = dice.standard_normal((min(50_000, count - start), width), np.float32)
            rows[start : start + len(block)] = block / np.linalg.norm(block, axis=1)[:, None]
        rows.flush()
        del rows
        vectors = f"vectors:path={folder / f'{count}.npy'},model=drawn,max_tokens=0"
        hashing = f"hashing:dimensions={width}"
        captions = f"texts:path={names}"
        for name, data, encoder in (("vectors", "", vectors), ("hashing", captions, hashing)):
            out = folder / f"{name}-{count}"
            command = [sys.executable, "-c", MEMORY, data, str(out), encoder, "int8"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            peak, stored, seconds = done.stdout.split()
            found.setdefault(name, {})[str(count)] = {
                "rss_anon_mb": int(peak) / 1024,
                "rows": int(stored),
                "cpu_s": float(seconds),
            }
    for by_count in found.values():
        first, last = (by_count[str(count)]["rss_anon_mb"] for count in (counts[0], counts[-1]))
        by_count["growth"] = last / first
    return found


def main() -> None:
    """Measure and print; write JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rows", type=int, default=40_000, help="rows of 4,096 values")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--counts", type=int, nargs=2, default=[100_000, 1_000_000])
    parser.add_argument("--only", choices=["scan", "take", "memory"], action="append")
    parser.add_argument("--folder", type=Path, help="where to write; on the disk to be measured")
    options = parser.parse_args()
    found: dict[str, Any] = {
        "date": date.today().isoformat(),
        "lift": lift.__version__,
        "python": platform.python_version(),
        "pyarrow": pa.__version__,
        "numpy": np.__version__,
        "load": os.getloadavg()[0],
    }
    wanted = options.only or ["scan", "take", "memory"]
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        if "scan" in wanted:
            found["scan"] = measure_scan(folder, options.rows, 4_096, options.rounds)
        if "take" in wanted:
            found["take"] = measure_take(folder, options.rows // 4, 4_096, options.rounds)
        if "memory" in wanted:
            found["memory"] = measure_memory(folder, options.counts, 64)
    print(json.dumps(found, indent=2))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
