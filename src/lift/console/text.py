"""Console of the commands about texts: embed, audit, card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from lift.commands import text
from lift.console.words import Options, Words
from lift.errors import ConfigError, LiftError


@dataclass(frozen=True, kw_only=True)
class OfImages:
    """What is said of images."""

    images: bool = False
    """store features of the images, not of the captions."""
    tower: str = ""
    """what makes features: `timm:model=...`, `huggingface:model=...`, the folder of a model; that
    of the cache if not given."""
    vectors: str = ""
    """where features lie that somebody computed, each with the key of its sample; the tower
    `stored:width=...,model=...` says what they are."""
    views: int | None = None
    """random views of each image that get a row of their own."""
    grid: int | None = None
    """cells of a side of the patch grid that get a row of their own."""
    seed: int | None = None
    """of the views."""
    options: Options = ()
    """key=value options of the pixels (`resolution=336`, `augment.flip=0.5`)."""
    workers: int | None = None
    """threads that decode images."""

    def told(self, of_texts: Mapping[str, object]) -> bool:
        """Return whether images are meant. Raises ConfigError where something fits neither."""
        others = of_texts if self.images else vars(self)
        if said := [name for name, value in others.items() if value not in (None, "", (), False)]:
            name = "set" if said[0] == "options" else said[0]
            mine, why = ("images", "leave it out") if self.images else ("captions", "say --images")
            raise ConfigError(f"--{name} says nothing about {mine}; {why}.")
        return self.images


_NOTHING = OfImages()


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
    images: tyro.conf.OmitArgPrefixes[OfImages] = _NOTHING,
    device: str = "auto",
    strict: bool = False,
    quiet: bool = False,
) -> None:
    """Compute every distinct caption's vector, or image's features, once and store it.

    Running it again goes on where it stopped, or adds the captions of more data. Parts run on
    any machines with a common folder; under torchrun each process takes its own.

    For example:

      lift embed --data 'flickr8k/*.tar' --out captions
      lift embed --data pairs.csv --out captions --encoder sentence_transformer:model=BAAI/bge-m3
      lift embed --data pairs.csv --out captions --encoder causal_lm:preset=qwen3_embedding
        --codec int8 --part 2/3
      lift embed --data pairs.csv --out captions --encoder api:model=text-embedding-3-small
      lift embed --encoder vectors:path=rows.npy,of=minilm --out captions
      lift embed --images --data 'flickr8k/*.tar' --tower runs/mine --out features
      lift embed --images --data pairs.csv --tower timm:model=vit_base_patch14_dinov2.lvd142m
        --views 4 --set augment.scale=0.4,1 augment.flip=0.5 --out features
      lift embed --images --data pairs.csv --tower stored:width=1024,model=dinov2-l
        --vectors feats.npy,texts=keys.txt --out features
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
        images: of images instead of captions.
        device: auto, cpu, cuda, cuda:1 or mps.
        strict: stop at the first sample that can't be used, instead of counting it.
        quiet: no progress bar.
    """
    of_texts = {"roles": roles, "derive": derive, "language": language}
    of_texts["encoder"] = "" if encoder == "minilm" else encoder
    common: dict[str, Any] = {"out": out, "codec": codec, "part": part, "precision": precision}
    common |= {"device": device, "strict": strict, "progress": not quiet}
    if images.told(of_texts):
        words = {name: value for name, value in vars(images).items() if name != "images"}
        report = text.embed_images(data, **words, **common)
    else:
        of_texts["encoder"] = encoder
        report = text.embed(data, **of_texts, **common)
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
        data: pairs whose captions (images) should all have rows.
        encoder: in place of the one that the cache names (of image features: the tower); needed
            where that is a server.
        sample: captions (images) to encode again and compare with the stored rows.
        live: encode the stored probes and the sample again (needs the text encoder, or the tower).
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
