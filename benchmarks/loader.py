"""How fast pairs become batches on one core, against webdataset with Pillow.

    python benchmarks/loader.py --out benchmarks/results/loader.json

Contenders read the same local tar, in one process with one torch thread, and take turns in every
round, in rotating order; each round gives one ratio for each pair, and reported are the 10th, 50th
and 90th percentile of these. Process CPU time is counted, so that other work on the machine weighs
less; wall time stands beside it. One turn is one batch. A run takes some 2
minutes of a core (--quick: 40 s).

    webdataset          webdataset's decode("pilrgb"), random crop, Pillow's bicubic filter to 224
                        pixels, float32 and normalised, stacked: what open_clip feeds on
    ours                our `Loader`: uint8 at 224 pixels, as it goes to the device
    ours again          the same, whose ratio to the first is the noise floor
    ours, normalised    the same, and normalised to float32 here instead of on the device
    ours, Pillow        the same as ours where simplejpeg is not installed
    ours, device        `loader.resize=device`: crops as they were decoded, ready for the device
    in place            by hand: pictures decoded from memory straight into one batch, views drawn:
                        what `ours, device` could be if reading and looking up cost nothing
    decode, Pillow      decoding alone, from memory: the floor of anything with Pillow
    decode, simplejpeg  the floor of ours

The crop is that of the paper: 0.9 to 1.0 of the area, aspect 3:4 to 4:3, antialiased bicubic.
Both filters are the same; torch's rounds between its passes to 8 bits as Pillow's does (a value
differs by 0.005 on average, by 3 at most).

Images are procedural: octaves of noise with discs, saved at quality 90 to about the bytes that
photos of their size have. "Waiting" is a real training run on the smallest of them, decoded anew
at every visit, by the tower of flickr8k_tiny with two data workers: the share of time that the run
itself says it waited for data, in each report but the first (which holds the start of the workers).
That is wall time, and means little on a machine with other work (see `load`).
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import io
import itertools
import json
import os
import platform
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from PIL import Image, features
from webdataset.compat import WebDataset

import lift
from lift import recipes
from lift.cache.reader import EmbeddingCache
from lift.config import Part
from lift.data import jpeg
from lift.data.augment import Augment, crop_box
from lift.data.loader import Loader, LoaderConfig
from lift.data.source import open_source
from lift.data.transform import Transform
from lift.training import loop

ROWS = {256: (256, 341, 0.43), 384: (384, 512, 0.68), 512: (512, 683, 0.63)}
"""Height, width, and how rough the images are, by shortest side."""

GOALS = {
    (256, "ours over webdataset"): 1.4,
    (384, "ours over webdataset"): 1.2,
    (512, "ours over webdataset"): 2.0,
    **{(side, "ours, device over webdataset"): 4.0 for side in ROWS},
}
"""Of the median and of the 10th percentile."""

PAIRS = (
    ("ours", "webdataset"),
    ("ours, device", "webdataset"),
    ("ours, normalised", "webdataset"),
    ("ours, Pillow", "webdataset"),
    ("in place", "webdataset"),
    ("decode, simplejpeg", "webdataset"),
    ("ours", "ours, Pillow"),
    ("ours", "ours again"),
)
MOST_WAITING = 0.03
FOR_EVER = 10**9

Work = Callable[[], object]


def photo(height: int, width: int, rough: float, seed: int) -> bytes:
    """Return a JPEG of clouds of noise in every octave, and some discs with sharp edges."""
    rng = np.random.default_rng(seed)
    canvas = np.full((height, width, 3), 120, dtype=np.float32)
    octaves = int(np.log2(max(height, width)))
    for octave in range(1, octaves + 1):
        shape = 2**octave + 1
        grid = rng.standard_normal((shape, shape, 1)) + 0.35 * rng.standard_normal(
            (shape, shape, 3)
        )
        for channel in range(3):
            layer = Image.fromarray(grid[..., channel].astype(np.float32))
            layer = layer.resize((width, height), Image.Resampling.BICUBIC)
            canvas[..., channel] += 38 * rough ** (octave - 1) * np.asarray(layer)
    y, x = np.mgrid[:height, :width]
    for _ in range(12):
        (top, left), radius = rng.random(2) * (height, width), rng.uniform(0.05, 0.25) * height
        canvas[(y - top) ** 2 + (x - left) ** 2 < radius**2] += rng.normal(0, 40, 3)
    file = io.BytesIO()
    Image.fromarray(canvas.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_tar(path: Path, photos: list[bytes]) -> None:
    """Write photos with a caption each."""
    with tarfile.open(path, "w") as tar:
        for number, content in enumerate(photos):
            caption = f"photo number {number}".encode()
            for ending, body in (("jpg", content), ("txt", caption)):
                member = tarfile.TarInfo(f"{number:06d}.{ending}")
                member.size = len(body)
                tar.addfile(member, io.BytesIO(body))


def by_webdataset(tar: Path, batch: int, transform: Transform) -> Iterator[Any]:
    """Yield batches as open_clip's pipeline makes them (its tokenizer left out)."""
    rng = np.random.default_rng(0)
    side = transform.resolution
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (transform.mean, transform.std))

    def seen(image: Image.Image) -> torch.Tensor:
        top, left, height, width = crop_box(image.height, image.width, transform.augment, rng)
        box = (left, top, left + width, top + height)
        view = image.resize((side, side), Image.Resampling.BICUBIC, box=box)
        pixels = torch.from_numpy(np.array(view)).permute(2, 0, 1).contiguous()
        return pixels.float().div_(255).sub_(mean).div_(std)

    made: Any = WebDataset(str(tar), shardshuffle=False)
    made = made.repeat().decode("pilrgb")
    made = made.to_tuple("jpg", "txt").map_tuple(seen, str).batched(batch, partial=False)
    return iter(made)


def by_us(tar: Path, cache: Path, batch: int, transform: Transform, resize: str) -> Iterator[Any]:
    """Yield our batches, made in this process."""
    source = open_source(Part("data/formats", "webdataset", {"path": str(tar)}))
    config = LoaderConfig(batch_size=batch, resize=resize)  # type: ignore[arg-type]
    loader = Loader(source, EmbeddingCache.open(cache), transform, config, seed=0)
    return loader.batches(0, FOR_EVER)


def without_simplejpeg(work: Work) -> Work:
    """Return the work as it is done where simplejpeg is not installed."""

    def slower() -> object:
        real, jpeg.decoder = jpeg.decoder, lambda: None  # type: ignore[assignment]
        try:
            return work()
        finally:
            jpeg.decoder = real

    return slower


def in_place(photos: list[bytes], transform: Transform) -> torch.Tensor:
    """Return all pictures one after the other in one piece of memory."""
    pictures = [transform.opened(content) for content in photos]
    rng = np.random.default_rng(0)
    for picture in pictures:
        transform.draw(picture.height, picture.width, rng)
    # Of numpy, which asks for huge pages; torch does not.
    room = torch.from_numpy(np.empty(sum(3 * p.height * p.width for p in pictures), np.uint8))
    place = 0
    for picture in pictures:
        place += picture.pixels(out=room[place:]).numel()
    return room


def contenders(folder: Path, photos: list[bytes]) -> dict[str, Work]:
    """Return the calls that take turns; each makes one batch of all photos."""
    tar, cache, count = folder / "photos.tar", folder / "cache", len(photos)
    write_tar(tar, photos)
    lift.embed([str(tar)], out=cache, encoder="hashing:dimensions=64", progress=False)
    transform = Transform(augment=Augment(scale=(0.9, 1.0)))
    theirs = by_webdataset(tar, count, transform)
    ours, again, slow, plain = (by_us(tar, cache, count, transform, "worker") for _ in range(4))
    device = by_us(tar, cache, count, transform, "device")
    return {
        "webdataset": lambda: next(theirs),
        "ours": lambda: next(ours),
        "ours, normalised": lambda: transform.normalise(next(plain).images),
        "ours, device": lambda: next(device),
        "ours again": lambda: next(again),
        "ours, Pillow": without_simplejpeg(lambda: next(slow)),
        "in place": lambda: in_place(photos, transform),
        "decode, Pillow": lambda: [Image.open(io.BytesIO(p)).load() for p in photos],
        "decode, simplejpeg": lambda: [simplejpeg.decode_jpeg(p) for p in photos],
    }


def seconds(work: Work) -> tuple[float, float]:
    """Return the CPU and wall seconds of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def measure(side: int, count: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Return all figures of images of one size."""
    height, width, rough = ROWS[side]
    photos = [photo(height, width, rough, seed) for seed in range(count)]
    folder.mkdir()
    calls = contenders(folder, photos)
    for work in calls.values():  # first batches open files and load code
        work()
    times: list[dict[str, tuple[float, float]]] = []
    names = list(calls)
    for number in range(rounds):
        shift = number % len(names)
        times.append({name: seconds(calls[name]) for name in names[shift:] + names[:shift]})
    return {
        "size": f"{width}x{height}",
        "kb": round(sum(map(len, photos)) / count / 1000, 1),
        "images_per_s_per_core": {
            name: round(count / statistics.median(t[name][0] for t in times), 1) for name in names
        },
        "images_per_s_wall": {
            name: round(count / statistics.median(t[name][1] for t in times), 1) for name in names
        },
        "ratios": {
            f"{fast} over {slow}": quantiles([t[slow][0] / t[fast][0] for t in times])
            for fast, slow in PAIRS
        },
    }


def quantiles(values: list[float]) -> dict[str, float]:
    """Return the 10th, 50th and 90th percentile."""
    p10, median, p90 = np.quantile(values, [0.1, 0.5, 0.9]).round(4).tolist()
    return {"p10": p10, "median": median, "p90": p90, "rounds": len(values)}


def waiting(folder: Path, steps: int, workers: int) -> dict[str, Any]:
    """Train for some steps and return what the run says of its waiting."""
    height, width, rough = ROWS[256]
    folder.mkdir()
    photos = [photo(height, width, rough, seed) for seed in range(32)]
    tar, cache = folder / "photos.tar", folder / "cache"
    write_tar(tar, list(itertools.islice(itertools.cycle(photos), 512)))
    lift.embed([str(tar)], out=cache, encoder="hashing:dimensions=64", progress=False)
    config = recipes.flickr8k_tiny()
    config = dataclasses.replace(
        config,
        data=str(tar),
        cache=str(cache),
        encoder=None,
        samples=steps * config.loader.batch_size,
        transform=dataclasses.replace(config.transform, canvas=None),
        loader=dataclasses.replace(config.loader, workers=workers, captions="one"),
        evaluations=(),
        log_every=10,
        threads=1,
        precision="float32",
        device="cpu",
    )
    loop.run(config, folder / "run", progress=False)
    lines = (folder / "run" / "events.jsonl").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if "wait" in event]
    shares = [event["wait"] for event in events]
    return {
        "workers": workers,
        "batch_size": config.loader.batch_size,
        "first report": shares[0],
        "wait": quantiles(shares[1:]),
        "images_per_s": statistics.median(event["img_per_s"] for event in events[1:]),
    }


def judged(rows: dict[int, dict[str, Any]], waited: dict[str, Any] | None) -> dict[str, Any]:
    """Return for each goal whether it is reached, with its numbers."""
    made: dict[str, Any] = {}
    for (side, name), goal in GOALS.items():
        if side in rows:
            found = rows[side]["ratios"][name]
            made[f"{side} px: {name}"] = {"goal": goal, **found, "reached": found["p10"] >= goal}
    if waited:
        median = waited["wait"]["median"]
        made["waiting for data"] = {"at most": MOST_WAITING, "median": median}
        made["waiting for data"]["reached"] = median <= MOST_WAITING
    return made


def table(rows: dict[int, dict[str, Any]], goals: dict[str, Any]) -> str:
    """Return what a reader wants to see first."""
    lines = []
    for side, row in rows.items():
        lines.append(f"\n{side} px ({row['size']}, {row['kb']} KB): images/s/core")
        for name, speed in row["images_per_s_per_core"].items():
            lines.append(f"  {name:28}{speed:9,.0f}")
        for name, found in row["ratios"].items():
            lines.append(
                f"  {name:36}{found['median']:6.2f} [{found['p10']:.2f}, {found['p90']:.2f}]"
            )
    lines.append("\ngoals")
    for name, found in goals.items():
        limit = found.get("goal", found.get("at most"))
        verdict = "reached" if found["reached"] else "MISSED"
        lines.append(f"  {name:44}{found['median']:7.3f}  goal {limit:<5} {verdict}")
    return "\n".join(lines)


def facts() -> dict[str, Any]:
    """Return what the numbers depend on."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    names = ("torch", "pillow", "simplejpeg", "webdataset", "numpy")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "lift": lift.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in names},
            "libjpeg-turbo of Pillow": features.version("libjpeg_turbo"),
        },
        "processor": models[0] if models else platform.machine(),
        "torch_isa": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "plain JPEGs decoded by": jpeg.decoder_name(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=32, help="images of a batch")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=120, help="of the training run")
    parser.add_argument("--sides", type=int, nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--quick", action="store_true", help="10 rounds, 40 steps")
    parser.add_argument("--no-waiting", action="store_true", help="without the training run")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.steps = 10, 40
    torch.set_num_threads(1)
    made = facts()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = {
            side: measure(side, args.count, args.rounds, folder / str(side)) for side in args.sides
        }
        waited = None if args.no_waiting else waiting(folder / "waiting", args.steps, workers=2)
    made["options"] = {"count": args.count, "rounds": args.rounds, "steps": args.steps}
    made["goals"] = judged(rows, waited)
    made["rows"] = rows
    made["waiting"] = waited
    made["load_after"] = os.getloadavg() if hasattr(os, "getloadavg") else None
    print(table(rows, made["goals"]))
    text = json.dumps(made, indent=2)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")
    else:
        sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
