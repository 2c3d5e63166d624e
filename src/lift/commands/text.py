"""Commands about texts and their vectors: embed, audit, card."""

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
    """Compute the vector of every distinct caption once and store it.

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
        data: pairs whose captions should all have rows; also where re-encoded texts come from.
        encoder: in words, in place of the one that the cache names: a stranger's cache may not
            choose a server, or code to run.
        sample: captions to encode again and compare.
        live: whether to encode the probe sentences again, and the sample where there is `data`.
            Without `data` an encoder that is not installed is told, and is no error.

    Raises:
        CacheError: the folder holds no readable cache.
        MissingPackage: there is `data`, and the encoder is not installed.
    """
    from lift.cache.audit import audit as prove
    from lift.cache.reader import EmbeddingCache
    from lift.data.source import Captions, open_source
    from lift.errors import ConfigError, MissingPackage, ServerError
    from lift.text.encoder import build_encoder

    captions = Captions([open_source(spec) for spec in data]) if data else None
    built, not_live = None, ""
    if live:
        words = _encoder(encoder) if encoder else None
        try:
            built = build_encoder(words or EmbeddingCache.open(cache).part, trusted=bool(words))
        except (MissingPackage, ConfigError, ServerError) as error:
            if data or words:
                raise
            not_live = str(error)
    return prove(cache, captions=captions, encoder=built, sample=sample, not_live=not_live)


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
    from lift.bundle_record import MARKER, read_record
    from lift.data.source import parse_part
    from lift.errors import ConfigError

    room = "text/encoders"
    found = [path for path in (Path(words, MARKER), Path(words, "model", MARKER)) if path.exists()]
    if words in plugins.names(room) or not (found or Path(words, "run.json").exists()):
        return parse_part(room, words)
    if not found:
        raise ConfigError(f"{words} is a run that is not finished, not a text encoder.")
    encoder = read_record(found[0]).encoder
    if encoder is None:
        raise ConfigError(
            f"{words} is a trained model, not a text encoder: its texts have a space of its own, "
            f"which can't be stored yet; use lift.load({words!r}).encode_texts."
        )
    raise ConfigError(
        f"{words} is a trained model, not a text encoder: its texts are those of the text encoder "
        f"{encoder.name}; give that one, with the options that {found[0]} tells."
    )
