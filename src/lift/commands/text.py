"""Commands about vectors that are computed once: embed, embed_images, audit, card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lift.cache.audit import AuditReport
    from lift.cache.writer import EmbedReport
    from lift.config import Part
    from lift.text.card import Card


def embed(
    data: Sequence[str] = (),
    *,
    out: str | Path,
    encoder: str = "minilm",
    codec: str = "",
    part: str = "",
    precision: Literal["float32", "bfloat16", "auto"] = "float32",
    roles: Sequence[str] = (),
    derive: Sequence[Literal["sub-caption", "phrase", "negative"]] = (),
    language: str = "",
    rows_per_shard: int | None = None,
    device: str = "auto",
    strict: bool = False,
    progress: bool = True,
) -> EmbedReport:
    """Compute the vector of every distinct caption once and store it; `embed_images` is for images.

    Running it again goes on where it stopped, or adds the captions of more data.

    Args:
        data: where the captions are: paths (`train-*.tar`, `pairs.parquet`), `scenes:count=500`,
            or `format:key=value,...`. Vectors that lie beside their texts need none.
        out: the cache's folder, or a URL that fsspec knows (`s3://bucket/captions`).
        encoder: a text encoder: `minilm`, `sentence_transformer:model=FOLDER_OR_HUB_ID`, ...
        codec: how numbers are stored: float16, float32, int8, int4, `prefix:dimensions=256`, ...;
            "" takes float16, or what the cache has.
        part: "2/3" embeds the second of three parts, on this machine or another; "" all of them.
        precision: what the encoder computes in; auto times both and keeps the faster.
        roles: embed captions of these roles only.
        derive: also embed what can be made of each caption: its sentences, its noun phrases,
            negatives.
        language: of the captions ("en"); kept beside each.
        rows_per_shard: rows of one file; None takes the default.
        device: auto, cpu, cuda, cuda:1, mps.
        strict: stop at the first sample that can't be used, instead of counting it.
        progress: draw a progress bar.

    Raises:
        LiftError: bad input, another space or something else in the folder, a full disk.
    """
    from lift.data.source import parse_part
    from lift.embedding import embed as run

    return run(
        [data] if isinstance(data, str) else data,
        _encoder(encoder),
        out,
        part=part,
        codec=parse_part("cache/codecs", codec) if codec else None,
        precision=precision,
        roles=roles,
        derived=derive,
        language=language,
        rows_per_shard=rows_per_shard,
        device=device,
        strict=strict,
        progress=progress,
    )


def embed_images(
    data: Sequence[str],
    *,
    out: str | Path,
    tower: str = "",
    options: Sequence[str] = (),
    vectors: str = "",
    views: int | None = None,
    grid: int | None = None,
    seed: int | None = None,
    codec: str = "",
    part: str = "",
    precision: Literal["float32", "bfloat16", "auto"] = "float32",
    rows_per_shard: int | None = None,
    workers: int | None = None,
    device: str = "auto",
    strict: bool = False,
    progress: bool = True,
) -> EmbedReport:
    """Compute the features of every distinct image once and store them: no tower runs after that.

    Running it again goes on where it stopped, or adds the images of more data; what is not said
    is then as the cache has it.

    Args:
        data: where the images are, as for `embed`.
        out: the cache's folder, or a URL that fsspec knows.
        tower: what makes features: `timm:model=...`, `huggingface:model=...`,
            `lift_model:model=FOLDER` or the folder of a model alone; "" takes that of the cache.
        options: how pixels reach the tower (`resolution=336`), where not as its weights were made.
        vectors: where features lie that somebody computed (`feats.npy,texts=keys.txt`), each with
            the key of its sample; then `tower` says what they are: `stored:width=1024,model=...`.
        views: random views of each image that get a row, drawn as the options `augment.*` say.
        grid: cells of a side of the patch grid that get a row.
        seed: of the views.
        codec, part, precision: as for `embed`.
        rows_per_shard: rows of one file; None takes 1,024 on a CPU, 8,192 elsewhere.
        workers: threads that decode images; None takes as many as there are cores, at most 8.
        device, strict, progress: as for `embed`.

    Raises:
        LiftError: bad input, another tower or something else in the folder, a full disk.
    """
    from lift.data.source import parse_part
    from lift.features import Rows
    from lift.features import embed_images as run
    from lift.image_tower import named_tower

    return run(
        [data] if isinstance(data, str) else data,
        named_tower(tower) if tower else None,
        out,
        rows=Rows(views=views, grid=grid, seed=seed),
        options=options,
        vectors=vectors,
        part=part,
        codec=parse_part("cache/codecs", codec) if codec else None,
        precision=precision,
        rows_per_shard=rows_per_shard,
        workers=workers,
        device=device,
        strict=strict,
        progress=progress,
    )


def audit(
    cache: str | Path,
    *,
    data: Sequence[str] = (),
    encoder: str = "",
    sample: int = 256,
    live: bool = True,
) -> AuditReport:
    """Prove a cache: checksums, norms, NaN, duplicates, coverage, probes, re-encoded rows.

    Args:
        cache: the folder.
        data: pairs whose captions (images) should all have rows; also where those come from that
            are encoded again.
        encoder: in words, in place of the one that the cache names: a stranger's cache may not
            choose a server, or code to run. Of image features, the tower.
        sample: captions to encode again and compare.
        live: whether to encode the probe sentences again, and the sample where there is `data`.
            Without `data` an encoder that is not installed is told, and is no error.

    Raises:
        CacheError: the folder holds no readable cache.
        MissingPackage: there is `data`, and the encoder is not installed.
    """
    from lift.cache.audit import audit as prove
    from lift.cache.features import FeatureCache, open_any
    from lift.data.pictures import Pictures
    from lift.data.source import Captions, open_source
    from lift.errors import CheckpointError, ConfigError, MissingPackage, ServerError
    from lift.features import auditor
    from lift.image_tower import named_tower
    from lift.text.encoder import build_encoder

    opened = open_any(cache)
    sources = [open_source(spec) for spec in data]
    of_images = isinstance(opened, FeatureCache)
    items = None
    if of_images and sources:
        pictures = Pictures(sources, views=opened.views, grid=opened.grid)
        items = (linked.text for linked in pictures)
    elif sources:
        items = Captions(sources)
    built, not_live = None, ""
    try:
        if live and of_images:
            built = auditor(opened, named_tower(encoder) if encoder else None, sources)
        elif live:
            words = _encoder(encoder) if encoder else None
            built = build_encoder(words or opened.part, trusted=bool(words))
    except (MissingPackage, ConfigError, ServerError, CheckpointError) as error:
        if encoder or (data and not (of_images and opened.tower.name == "stored")):
            raise
        not_live = str(error)
    return prove(cache, captions=items, encoder=built, sample=sample, not_live=not_live)


def card(
    encoders: Sequence[str],
    *,
    captions: Sequence[str] = (),
    pairs: Sequence[str | Path] = (),
    out: str | Path = "card.html",
    limit: int = 5_000,
    device: str = "auto",
) -> list[Card]:
    """Look at text spaces before anything is trained in them: one page, from text alone.

    Args:
        encoders: text encoders in words, side by side.
        captions: where captions are, as for `embed`; () takes those of the pairs, and drawn
            scenes without these.
        pairs: files with edits and paraphrases (SugarCrepe's, ARO's, COCO's captions); () makes
            edits by rule.
        out: the page; figures go into a JSON file beside it.
        limit: captions, and edits of all kinds together, that are looked at, drawn by hash.
        device: auto, cpu, cuda or mps.
    """
    from lift.data.source import Captions, open_source
    from lift.pages.card import write_card
    from lift.text.card import card as look
    from lift.text.pairs import read_pairs

    specs = [captions] if isinstance(captions, str) else [*captions]
    if not specs and not pairs:
        specs = ["scenes:count=400"]
    made = look(
        [_encoder(words) for words in encoders],
        Captions([open_source(spec) for spec in specs]) if specs else None,
        read_pairs(pairs) if pairs else None,
        limit=limit,
        device=device,
        trusted=True,
    )
    write_card(made, out)
    return made


def _encoder(words: str) -> Part:
    """Return the text encoder that words name.

    Raises:
        ConfigError: none, a wrong option, or the folder of a run or a trained model.
    """
    from lift import plugins
    from lift.bundle_record import read_record
    from lift.data.source import parse_part
    from lift.errors import ConfigError
    from lift.model_folder import MARKER, model_in

    room = "text/encoders"
    found = model_in(words)
    if words in plugins.names(room) or not (found or Path(words, "run.json").exists()):
        return parse_part(room, words)
    if found is None:
        raise ConfigError(f"{words} is a run that is not finished, not a text encoder.")
    encoder = read_record(found / MARKER).encoder
    if encoder is None:
        raise ConfigError(
            f"{words} is a trained model, not a text encoder: its texts have a space of its own, "
            f"which can't be stored yet; use lift.load({words!r}).encode_texts."
        )
    raise ConfigError(
        f"{words} is a trained model, not a text encoder: its texts are those of the text encoder "
        f"{encoder.name}; give that one, with the options that {found / MARKER} tells."
    )
