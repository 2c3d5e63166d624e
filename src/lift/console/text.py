"""Console of the commands about texts: embed, audit, card."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from lift.commands import text
from lift.console.words import Words
from lift.errors import LiftError


def embed(
    *,
    out: str,
    data: Words = (),
    encoder: str = "minilm",
    codec: str = "",
    part: str = "",
    precision: Literal["float32", "bfloat16", "auto"] = "float32",
    roles: tuple[str, ...] = (),
    derive: tuple[Literal["sub-caption", "phrase", "negative"], ...] = (),
    language: str = "",
    device: str = "auto",
    strict: bool = False,
    quiet: bool = False,
) -> None:
    """Compute every distinct caption's vector once and store it.

    Running it again goes on where it stopped, or adds the captions of more data. Parts run on
    any machines with a common folder; under torchrun each process takes its own.

    For example:

      lift embed --data 'flickr8k/*.tar' --out captions
      lift embed --data pairs.csv --out captions --encoder sentence_transformer:model=BAAI/bge-m3
      lift embed --data pairs.csv --out captions --encoder causal_lm:preset=qwen3_embedding
        --codec int8 --part 2/3
      lift embed --data pairs.csv --out captions --encoder api:model=text-embedding-3-small
      lift embed --encoder vectors:path=rows.npy,of=minilm --out captions
      torchrun --nproc-per-node 8 -m lift embed --data 'cc12m/*.tar' --out s3://bucket/cc12m

    Args:
        out: the cache's folder, or a URL (s3://bucket/captions).
        data: where the captions are: paths, globs, `scenes:count=500`, `format:key=value,...`.
        encoder: the frozen text encoder: `minilm`, `sentence_transformer:model=...`,
            `causal_lm:model=...`, `nv_embed`, `api:model=...,url=...`, `vectors:path=...`.
        codec: how numbers are stored: float16 (if not given), float32, int8, int4,
            `prefix:dimensions=256`.
        part: `2/3` embeds the second of three parts; all of them if not given.
        precision: what the encoder computes in; auto times both and keeps the faster.
        roles: embed captions of these roles only.
        derive: also embed what is made of each caption: its sentences, noun phrases, negatives.
        language: of the captions (`en`); kept beside each.
        device: auto, cpu, cuda, cuda:1 or mps.
        strict: stop at the first sample that can't be used, instead of counting it.
        quiet: no progress bar.
    """
    report = text.embed(
        data,
        out=out,
        encoder=encoder,
        codec=codec,
        part=part,
        precision=precision,
        roles=roles,
        derive=derive,
        language=language,
        device=device,
        strict=strict,
        progress=not quiet,
    )
    print(report.table())


def audit(
    cache: tyro.conf.Positional[str],
    *,
    data: Words = (),
    encoder: str = "",
    sample: int = 256,
    live: bool = True,
) -> None:
    """Prove a cache: checksums, norms, NaN, duplicates, coverage, probes, re-encoded rows.

    For example:

      lift audit captions
      lift audit captions --data 'flickr8k/*.tar'

    Args:
        cache: the folder.
        data: pairs whose captions should all have rows.
        encoder: in place of the one that the cache names; needed where that is a server.
        sample: captions to encode again and compare with the stored rows.
        live: encode the stored probe sentences and the sample again (needs the text encoder).
    """
    found = text.audit(cache, data=data, encoder=encoder, sample=sample, live=live)
    print(found.table())
    if not found.ok:
        raise LiftError(f"The cache {cache} is not sound; the verdict above says why.")


def card(
    encoders: tyro.conf.Positional[tuple[str, ...]],
    *,
    captions: Words = (),
    pairs: tuple[Path, ...] = (),
    out: Path = Path("card.html"),
    limit: int = 5_000,
    device: str = "auto",
) -> None:
    """Look at text spaces before anything is trained in them: one page, from text alone.

    Spread, near-duplicates, truncation, and how far an edited caption moves: a bound on the margin
    that any image tower can reach.

    For example:

      lift card minilm --captions captions.txt
      lift card minilm causal_lm:preset=qwen3_embedding --captions 'train-*.tar' --out card.html
      lift card minilm --pairs sugarcrepe/ coco_captions.jsonl.gz

    Args:
        encoders: text encoders, as for `lift embed`; two or more come side by side.
        captions: where captions are, as for `lift embed`; those of `--pairs` if not given, and
            drawn scenes without these.
        pairs: files or folders with edits and paraphrases: SugarCrepe, ARO, captions of photos.
        out: the page; a JSON file with all figures lies beside it.
        limit: captions, and edits of all kinds together, that are looked at, drawn by hash.
        device: auto, cpu, cuda or mps.
    """
    from lift.text.lines import as_table

    print(
        as_table(
            text.card(encoders, captions=captions, pairs=pairs, out=out, limit=limit, device=device)
        )
    )
    print(f"page: {out}")
