"""Bytes against agreement for every codec on real captions, as a table in docs/codecs.md.

    python benchmarks/codecs.py CAPTIONS.jsonl.gz --rows rows.npy --write docs/codecs.md

The captions are embedded once with MiniLM in float32 (about 80 CPU-seconds for 25,000); the rows
are kept in the file that --rows names. Speeds are CPU time of one thread, the best of five.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from lift import plugins
from lift.cache.codec import Codec
from lift.cache.fidelity import measure
from lift.config import Part, part

QUERIES = 1_000
SMALL = 2_048
TIMED = 8_192
WIDE = 4_096

PARTS = [
    part("cache/codecs", "float32"),
    part("cache/codecs", "float16"),
    part("cache/codecs", "int8"),
    part("cache/codecs", "int4"),
    part("cache/codecs", "binary"),
    part("cache/codecs", "prefix", dimensions=192, force=True),
    part("cache/codecs", "prefix", dimensions=96, force=True),
    part("cache/codecs", "prefix", dimensions=8, force=True),
]


def rows_of(captions: Path, kept: Path) -> np.ndarray:
    """Return the float32 rows of the captions, from `kept` where they are."""
    if kept.exists():
        return np.load(kept, allow_pickle=False)
    from lift.text.encoder import build_encoder

    with gzip.open(captions, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["caption"] for line in lines]
    encoder = build_encoder(part("text/encoders", "minilm"), "cpu")
    rows = encoder.encode(texts, precision="float32").rows
    np.save(kept, rows)
    return rows


def rows_per_second(work: Callable[[], object], rows: int) -> float:
    """Return the speed of the quickest of five calls in CPU time."""
    taken = []
    for _ in range(5):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return rows / min(taken)


def bytes_at(chosen: Part, width: int) -> int:
    """Return the bytes of a row of `width` numbers; a prefix keeps its share of them."""
    options = dict(chosen.options)
    if chosen.name == "prefix":
        options["dimensions"] = options["dimensions"] * width // 384
    return plugins.build(part(chosen.room, chosen.name, **options), width).bytes_per_row


def line(chosen: Part, rows: np.ndarray) -> str:
    """Return a codec's line of the table."""
    codec: Codec = plugins.build(chosen, rows.shape[1])
    timed = rows[:TIMED]
    stored = np.array(codec.stored(codec.encode(timed)))
    encode = rows_per_second(lambda: codec.encode(timed), len(timed))
    decode = rows_per_second(lambda: codec.decode(stored), len(timed))
    near = measure(codec, rows, queries=QUERIES, gallery=SMALL)
    far = measure(codec, rows, queries=QUERIES, gallery=len(rows))
    label = f"{chosen.name} {chosen.options['dimensions']}" if chosen.options else chosen.name
    speeds = (
        ["nothing to do"] * 2
        if codec.exact
        else [f"{speed / 1000:,.0f} k" for speed in (encode, decode)]
    )
    cells = [
        label,
        f"{codec.bytes_per_row:,}",
        f"{codec.bytes_per_row / (4 * rows.shape[1]):.1%}",
        f"{near.mean_cosine:.6f}",
        f"{near.worst_cosine:.6f}",
        f"{near.top1_agreement:.1%}",
        f"{near.top10_overlap:.1%}",
        f"{far.top1_agreement:.1%}",
        f"{far.top10_overlap:.1%}",
        *speeds,
        f"{bytes_at(chosen, WIDE):,}",
    ]
    return f"| {' | '.join(cells)} |"


def table(rows: np.ndarray) -> str:
    """Return the whole section."""
    head = (
        "| codec | bytes | of float32 | mean cosine | worst cosine "
        f"| top-1 in {SMALL:,} | top-10 in {SMALL:,} | top-1 in all | top-10 in all "
        f"| encode, rows/s | decode, rows/s | bytes at {WIDE:,} |"
    )
    rule = "| --- |" + " --- |" * 11
    note = (
        f"{len(rows):,} captions, {rows.shape[1]} numbers a row. {QUERIES:,} float32 queries "
        f"search the first {SMALL:,} rows, and all of them, leaving themselves out. Speeds: one "
        "core, CPU time, beside other work."
    )
    return "\n".join([note, "", head, rule, *(line(chosen, rows) for chosen in PARTS)])


def write_section(path: Path, name: str, command: str, text: str) -> None:
    """Replace what stands between the markers of a section; the rest of the file stays."""
    start, end = f"<!-- {name}: made by `{command}` -->", f"<!-- end of {name} -->"
    before = path.read_text(encoding="utf-8")
    begin = before.index(f"<!-- {name}: made by")
    stop = before.index(end)
    path.write_text(f"{before[:begin]}{start}\n\n{text}\n\n{before[stop:]}", encoding="utf-8")


def main() -> None:
    """Print the table, or put it into a document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("captions", type=Path, help="JSON lines with a caption each, gzipped")
    parser.add_argument("--rows", type=Path, default=Path("rows.npy"), help="float32 rows, kept")
    parser.add_argument("--write", type=Path, help="document whose section is replaced")
    args = parser.parse_args()
    torch.set_num_threads(1)
    text = table(rows_of(args.captions, args.rows))
    print(text)
    if args.write:
        command = f"python benchmarks/codecs.py {args.captions.name} --write {args.write}"
        write_section(args.write, "codecs", command, text)


if __name__ == "__main__":
    main()
