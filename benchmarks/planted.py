"""Rungs 0 and 1 on pairs whose truth is known: is the optimum reached, and in what time?

    python benchmarks/planted.py                          # 50,000 pairs, about 3 CPU-minutes
    python benchmarks/planted.py --pairs 5000 --out /tmp/planted

Features h [128] of a decaying spectrum; texts t [384] of unit length. `linear`: t = unit(A h + b +
noise). `bent`: half of the variance of t is B |C h| with 32 directions C: a matrix can follow
nothing. All of it goes the users' way: `lift embed` (vectors from files, images that are tiny files
of their own), `lift fit`, `lift train head`. What nobody was fitted on, 2,000 pairs, is judged: the
mean cosine of right pairs, which the head is trained for, against that of the planted function
itself, and R@1 and R@10 of texts among them. Times are CPU-seconds of the two commands.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

import lift
from lift.world import versions

WIDTH, DIMENSIONS, HELD, NOISE = 128, 384, 2_000, 0.5
BENT = 32
HEAD = (
    "objective=cosine",
    "samples=400000",
    "optim.lr=5e-4",
    "patience=0",
    "head.dropout=0",
    "threads=1",
)
"""Retrieval among so few is solved by either rung: what can still be told apart is the cosine."""
RESULTS = Path(__file__).parent / "results" / "planted.json"
TRUTHS = ("linear", "bent")


def unit(x: np.ndarray) -> np.ndarray:
    """Return rows of unit length."""
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def planted(truth: str, pairs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return h, t, and what the planted function says of h without noise."""
    rng = np.random.default_rng(0)
    spread = (np.arange(1, WIDTH + 1) ** -0.5).astype(np.float32)
    h = rng.standard_normal((pairs, WIDTH), dtype=np.float32) * spread
    matrix = rng.standard_normal((WIDTH, DIMENSIONS), dtype=np.float32)
    t = h @ matrix
    if truth == "bent":  # even functions: least squares sees nothing of them
        bent = np.abs(h @ rng.standard_normal((WIDTH, BENT), dtype=np.float32))
        more = (bent - bent.mean(axis=0)) @ rng.standard_normal(
            (BENT, DIMENSIONS), dtype=np.float32
        )
        t = t / t.std() + more / more.std()
    t = t / t.std() + 0.3 * rng.standard_normal(DIMENSIONS, dtype=np.float32)
    noise = NOISE * rng.standard_normal(t.shape, dtype=np.float32)
    return h, unit(t + noise), unit(t)


def images(pairs: int) -> list[bytes]:
    """Return files of so many pictures, no two alike."""
    pixels = np.random.default_rng(1).integers(0, 256, (pairs, 4, 4, 3), dtype=np.uint8)
    files = []
    for picture in pixels:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG", compress_level=0)
        files.append(file.getvalue())
    return files


def prepared(truth: str, pairs: int, out: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Store everything the users' way; return what is judged: h, t and the planted function."""
    total = pairs + HELD
    h, t, said = planted(truth, total)
    keys, words = [f"k{n}" for n in range(total)], [f"text {n}" for n in range(total)]
    out.mkdir(parents=True)
    table = pa.table({"id": keys, "image": images(total), "title": words})
    pq.write_table(table.slice(0, pairs), out / "pairs.parquet", row_group_size=5_000)
    for name, rows, texts in (("h", h, keys), ("t", t, words)):
        np.save(out / f"{name}.npy", rows[:pairs])
        (out / f"{name}.txt").write_text("\n".join(texts[:pairs]) + "\n")
    lift.embed(
        out=out / "captions",
        encoder=f"vectors:path={out}/t.npy,model=planted",
        codec="float32",
        progress=False,
    )
    lift.embed_images(
        [data(out)],
        out=out / "features",
        tower=f"stored:width={WIDTH},model=planted",
        vectors=f"{out}/h.npy",
        codec="float32",
        progress=False,
    )
    return h[pairs:], t[pairs:], said[pairs:]


def data(out: Path) -> str:
    """Return the pairs in words."""
    return f"table:path={out}/pairs.parquet,image=image,caption=title,key=id"


def judged(z: np.ndarray, t: np.ndarray) -> dict[str, float]:
    """Return mean cosine of right pairs, and R@k of texts among all images."""
    scores = t @ z.T
    ahead = (scores > np.diag(scores)[:, None]).sum(axis=1)
    return {
        "cosine": float((z * t).sum(axis=1).mean()),
        "R@1": float((ahead < 1).mean()),
        "R@10": float((ahead < 10).mean()),
    }


def climbed(truth: str, pairs: int, out: Path) -> dict:
    """Return figures and times of both rungs."""
    h, t, said = prepared(truth, pairs, out)
    found: dict = {"planted function": judged(said, t)}
    seen, held = (f"share:data=[{data(out)}],start={a},stop={b}" for a, b in ((0, 0.95), (0.95, 1)))
    started = time.process_time()
    lift.fit(
        seen,
        cache=out / "captions",
        features=out / "features",
        out=out / "fit",
        method="ridge",
        holdout=0,
        progress=False,
    )
    found["rung 0"] = judged(lift.load(out / "fit").encode_features(h), t)
    found["rung 0"]["cpu_seconds"] = round(time.process_time() - started, 1)
    started = time.process_time()
    lift.train(
        "head",
        data=seen,
        validation=held,
        cache=out / "captions",
        out=out / "head",
        options=[f"features={out}/features", f"start={out}/fit", *HEAD],
        progress=False,
    )
    found["rung 1"] = judged(lift.load(out / "head").encode_features(h), t)
    found["rung 1"]["cpu_seconds"] = round(time.process_time() - started, 1)
    return found


def main() -> None:
    """Climb both rungs on both truths, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=50_000)
    parser.add_argument("--out", type=Path, default=Path("out/planted"))
    words = parser.parse_args()
    torch.set_num_threads(1)
    found = {truth: climbed(truth, words.pairs, words.out / truth) for truth in TRUTHS}
    record = {
        "pairs": words.pairs,
        "judged": HELD,
        **found,
        "versions": versions(),
        "machine": platform.processor() or platform.machine(),
        "date": time.strftime("%Y-%m-%d"),
    }
    print(json.dumps(found, indent=2))
    if words.pairs == parser.get_default("pairs"):
        RESULTS.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
