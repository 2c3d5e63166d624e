"""Embed captions on a Ray cluster: each task is one part of one cache, on any machine.

    pip install 'lift-align[text,ray]'
    python examples/ray_embed.py --data 'cc12m/*.tar' --out s3://bucket/cc12m --parts 64

Parts are divided by the hash of a caption, so tasks share nothing and need no order. A task that
dies is started again and goes on from its last shard; the whole script may be run again, too. When
all parts are there the cache is complete, and `lift audit` proves it.
"""

from __future__ import annotations

import argparse

import ray.data


def embed_part(row: dict, *, data: list[str], out: str, encoder: str, parts: int) -> dict:
    """Embed one part; its number comes from the data set of numbers."""
    import lift

    number = int(row["id"]) + 1
    report = lift.embed(
        data, out=out, encoder=encoder, part=f"{number}/{parts}", codec="int8", progress=False
    )
    return {"part": number, "rows": report.rows, "embedded": report.embedded}


def main() -> None:
    """Run all parts and print what each of them did."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", required=True, help="as for `lift embed`")
    parser.add_argument("--out", required=True, help="a common folder, or a URL")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--parts", type=int, default=8)
    parser.add_argument("--gpus", type=float, default=0, help="of a task")
    options = parser.parse_args()
    words = {"data": options.data, "out": options.out, "encoder": options.encoder}
    done = ray.data.range(options.parts, override_num_blocks=options.parts).map(
        embed_part,
        fn_kwargs={**words, "parts": options.parts},
        num_gpus=options.gpus or None,
    )
    for row in sorted(done.take_all(), key=lambda row: row["part"]):
        print(f"part {row['part']}/{options.parts}: {row['rows']:,} rows, {row['embedded']:,} new")


if __name__ == "__main__":
    ray.init(ignore_reinit_error=True)
    main()
