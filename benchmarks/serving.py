"""How many queries a second a server answers over 100,000 items, and how long each takes.

An index of 100,000 text rows of 384 numbers, searched exactly, is served by `lift serve` in a
process of its own. Clients post vectors as JSON over kept connections for some seconds, at several
numbers of connections: one tells what a lone client sees, many what the server can do. `wrk` asks
where it is installed, else a client of plain sockets in a process of its own, which costs more of
the same cores. Every answer has to be 200; one is compared with a plain product.

    python benchmarks/serving.py --out benchmarks/results/serving-cpu.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lift import plugins
from lift.bundle import Bundle
from lift.bundle_record import BundleRecord
from lift.config import part
from lift.data.transform import Transform
from lift.heads import HeadConfig
from lift.model import SideConfig, build_side
from lift.search.index import Index
from lift.search.terms import Item
from lift.text.encoder import EncodedTexts
from lift.text.encoders.hashing import Config, HashingEncoder

BODIES = 256
SERVER = """
import sys
from lift.commands.serve import serve
serve(sys.argv[1], port=0, device="cpu", bounds=sys.argv[2:],
      listening=lambda url, _: print(url, flush=True))
"""
SCRIPT = """
local bodies, at = {}, 0
for line in io.lines("FILE") do bodies[#bodies + 1] = line end
request = function()
  at = at % #bodies + 1
  return wrk.format("POST", "/search", {["Content-Type"] = "application/json"}, bodies[at])
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("found %d %d %d %.3f %.3f %.3f %.3f\\n", summary.requests,
    summary.duration, e.status + e.read + e.write + e.timeout + e.connect,
    latency:percentile(50) / 1000, latency:percentile(90) / 1000, latency:percentile(99) / 1000,
    latency.max / 1000))
end
"""


class Drawn(HashingEncoder):
    """Random unit rows, in no time: searching is measured here, not encoding."""

    def encode(self, texts, **options):
        rows = self.dice.standard_normal((len(texts), self.space.dimensions), np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return EncodedTexts(rows, np.full(len(texts), 9, np.int32), np.zeros(len(texts), bool))

    dice = np.random.default_rng(0)


def build(folder: Path, count: int, width: int) -> None:
    """Make an index of random rows."""
    torch.manual_seed(0)
    texts = Drawn(Config(dimensions=width))
    shape = {"width": 16, "depth": 1, "heads": 2, "patch": 8, "resolution": 32}
    tower = plugins.resolve(part("towers", "vit", **shape))
    record = BundleRecord(
        image=SideConfig(tower=tower, head=HeadConfig(layers=2)),
        transform=Transform(resolution=32, canvas=40),
        space=texts.space,
        encoder=plugins.resolve(texts.part),
    )
    model = Bundle(build_side(record.image, None, width), record, text_encoder=texts)
    with Index.create(folder, model) as index:
        index.add(
            Item(key=f"item-{i}", texts={"title": (f"thing number {i}",)}, facts={"price": i % 100})
            for i in range(count)
        )


def bodies(file: Path, width: int, top: int) -> None:
    """Write requests, one a line, each with a vector of its own."""
    rows = np.random.default_rng(1).standard_normal((BODIES, width), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    lines = [json.dumps({"query": [{"vector": row.tolist()}], "top": top}) for row in rows]
    file.write_text("\n".join(lines) + "\n")


def by_wrk(folder: Path, url: str, connections: int, seconds: float) -> dict[str, Any]:
    """Return what wrk finds."""
    script = folder / "ask.lua"
    script.write_text(SCRIPT.replace("FILE", str(folder / "bodies.jsonl")))
    words = ["wrk", "-t1", f"-c{connections}", f"-d{int(seconds)}s", "--timeout", "30s", "-s"]
    done = subprocess.run([*words, str(script), url], capture_output=True, text=True, check=True)
    line = re.search(r"^found (.*)$", done.stdout, re.MULTILINE)
    if line is None:
        raise SystemExit(done.stdout + done.stderr)
    requests, micros, failed, p50, p90, p99, most = map(float, line[1].split())
    told = {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "max_ms": most}
    return {
        "requests": int(requests),
        "failed": int(failed),
        "per_s": requests / micros * 1e6,
        **told,
    }


async def by_sockets(folder: Path, url: str, connections: int, seconds: float) -> dict[str, Any]:
    """Return the same from plain sockets."""
    host, port = url.split("//")[1].strip("/").split(":")
    lines = (folder / "bodies.jsonl").read_bytes().splitlines()
    head = "POST /search HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n"
    start = head.format(host).encode()
    sent = [start + f"content-length: {len(b)}\r\n\r\n".encode() + b for b in lines]
    took: list[float] = []
    failed = 0
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(host, int(port))
        while (began := time.perf_counter()) < end:
            writer.write(sent[number % len(sent)])
            answer = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", answer)
            await reader.readexactly(int(length[1]) if length else 0)
            failed += not answer.startswith(b"HTTP/1.1 200")
            took.append(1000 * (time.perf_counter() - began))
            number += connections
        writer.close()

    await asyncio.gather(*(client(number) for number in range(connections)))
    cuts = statistics.quantiles(took, n=100)
    told = {"p50_ms": cuts[49], "p90_ms": cuts[89], "p99_ms": cuts[98], "max_ms": max(took)}
    return {"requests": len(took), "failed": failed, "per_s": len(took) / seconds, **told}


def measured(folder: Path, url: str, connections: int, seconds: float) -> dict[str, Any]:
    """Return one measurement, by whichever client is there."""
    if shutil.which("wrk"):
        return by_wrk(folder, url, connections, seconds)
    words = [sys.executable, __file__, "--client", str(folder), url, str(connections), str(seconds)]
    return json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def right(folder: Path, url: str, index: Path) -> bool:
    """Return whether one answer is what a plain product gives."""
    body = (folder / "bodies.jsonl").read_bytes().splitlines()[0]
    asked = urllib.request.Request(url + "search", body, {"content-type": "application/json"})
    with urllib.request.urlopen(asked) as answer:
        hits = json.load(answer)["hits"]
    query = np.array(json.loads(body)["query"][0]["vector"], np.float32)
    file = next(index.glob("text-*.f32"))
    rows = np.memmap(file, np.float32, "r").reshape(-1, len(query))
    best = np.argsort(-(rows @ query), kind="stable")[: len(hits)]
    return [hit["key"] for hit in hits] == [f"item-{place}" for place in best]


def batches(url: str) -> dict[str, float]:
    """Return how many searches there were, and in how many batches."""
    with urllib.request.urlopen(url + "metrics") as answer:
        text = answer.read().decode()
    found = dict(re.findall(r'^lift_batch_size_(sum|count){worker="near"} (\S+)$', text, re.M))
    return {name: float(value) for name, value in found.items()}


def cpu_seconds(process: int) -> float:
    """Return how long a process has computed, over all its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--top", type=int, default=10)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--threads", type=int, default=1, help="of the server's products")
    parser.add_argument("--set", nargs="*", default=[], help="bounds of the server")
    parser.add_argument("--index", type=Path, help="an index made earlier")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--client", nargs=4, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.client:
        folder, url, connections, seconds = told.client
        found = asyncio.run(by_sockets(Path(folder), url, int(connections), float(seconds)))
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        index = told.index or folder / "index"
        if not index.exists():
            build(index, told.items, told.width)
        bodies(folder / "bodies.jsonl", told.width, told.top)
        results = served(folder, index, told)
    results = {**facts(told), **results}
    print(json.dumps(results, indent=2))
    if told.out:
        told.out.write_text(json.dumps(results, indent=2) + "\n")


def served(folder: Path, index: Path, told: argparse.Namespace) -> dict[str, Any]:
    """Return what clients see of a server under way."""
    threads = {name: str(told.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(index), *told.set],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **threads},
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        measured(folder, url, 8, 2)  # warm
        is_right = right(folder, url, index)
        found = {}
        for connections in told.connections:
            before, load, spent = batches(url), os.getloadavg()[0], cpu_seconds(process.pid)
            one = measured(folder, url, connections, told.seconds)
            after, spent = batches(url), cpu_seconds(process.pid) - spent
            one["server_cpu_ms"] = 1000 * spent / max(one["requests"], 1)
            size = (after["sum"] - before["sum"]) / max(after["count"] - before["count"], 1)
            found[str(connections)] = {**one, "batch": size, "load_before": load}
            print(connections, found[str(connections)], file=sys.stderr)
        return {"first_answer_right": is_right, "connections": found}
    finally:
        process.terminate()
        process.wait()


def facts(told: argparse.Namespace) -> dict[str, Any]:
    """Return what the figures depend on."""
    packages = ("numpy", "torch", "fastapi", "uvicorn", "h11", "pydantic")
    return {
        "date": date.today().isoformat(),
        "lift": version("lift-align"),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "client": "wrk" if shutil.which("wrk") else "sockets",
        "cores": os.cpu_count(),
        "threads": told.threads,
        "items": told.items,
        "width": told.width,
        "top": told.top,
        "seconds": told.seconds,
        "set": told.set,
    }


if __name__ == "__main__":
    main()
