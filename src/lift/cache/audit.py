"""Check a finished cache: checksums, coverage, norms, duplicates, cuts, probes, a new sample."""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lift.cache import probes
from lift.cache.features import open_any
from lift.cache.findings import AuditReport, Coverage, Resampled
from lift.cache.maker import RowMaker, items_of
from lift.cache.opened import OpenedCache
from lift.errors import ConfigError, ServerError
from lift.text.encoder import clean
from lift.text.keys import KEY, KeySet, keys_of
from lift.world import threads

_CHUNK = 4_096
_SLACK = {"float32": 1e-5, "bfloat16": 2e-2}
"""How far a value of a unit row may move with the company it is encoded in, and the machine:
1.3e-7 measured for MiniLM in float32 on one CPU; bfloat16 has 8 bits of significand."""


_UNIT_TOLERANCE = 2e-3
"""Rounding every value of a unit row to float16 changes its length by at most 2^-11."""


def audit(
    folder: str | Path,
    *,
    captions: Iterable[str] | None = None,
    encoder: RowMaker | None = None,
    sample: int = 256,
    seed: int = 0,
    not_live: str = "",
) -> AuditReport:
    """Read all of a cache and report what is wrong with it.

    Args:
        folder: of a finished cache.
        captions: those it should cover, of images their addresses; read once, in chunks.
        encoder: of the cache's space, to make its probe sentences and a sample of `captions`
            again.
        sample: how many distinct captions to make again, chosen by hash.
        seed: of the choice.
        not_live: why there is no encoder, for the report.

    Raises:
        CacheError: no finished cache, or shards that can't be opened.
        SpaceMismatch: the encoder has another space.
        DataError: a caption is not valid Unicode.
    """
    if sample < 0:
        raise ConfigError(f"sample is a number of captions, 0 or more, not {sample}.")
    cache = open_any(folder)
    space = cache.plan.space
    if encoder is not None:
        space.require_same(
            encoder.space, ours=f"the cache {folder}", theirs=f"the encoder {encoder.part.name}"
        )
    damaged = tuple(cache.damaged())
    rows = _scan(cache)
    coverage, chosen = (None, []) if captions is None else _cover(cache, captions, sample, seed)
    stored = cache.probes()
    drift = resampled = None
    try:
        with threads(cache.plan.threads):
            if encoder is not None and stored is not None:
                drift = probes.drift(stored, encoder, cache.plan)
            if encoder is not None and coverage is not None:
                resampled = _resample(cache, encoder, chosen, sample)
    except ServerError as error:  # the rest of the report does not need it
        not_live = str(error)
    return AuditReport(
        folder=str(folder),
        fingerprint=space.fingerprint,
        items=items_of(space),
        rows=len(cache),
        dimensions=cache.dimensions,
        parts=len(cache.manifests),
        shards=len(cache.shards),
        links=cache.counters.get("links", 0),
        dangling=_dangling(cache) if not damaged else 0,
        bytes=sum(shard.bytes for _, shard in cache.shards),
        codec=cache.codec.name,
        fidelity=cache.fidelity,
        damaged=damaged,
        coverage=coverage,
        resampled=resampled,
        drift=drift,
        not_live=not_live,
        **rows,
    )


def _scan(cache: OpenedCache) -> dict:
    """Return every figure that the stored columns give, in one pass with bounded memory."""
    low, high, total, count = np.inf, 0.0, 0.0, 0
    tokens = truncated = not_finite = not_unit = repeated = 0
    tolerance = _UNIT_TOLERANCE + cache.codec.length_error
    scratch = cache.shards[0][0].scratch if cache.shards else None
    contents, keys = KeySet(scratch), KeySet(scratch)
    within, part = 0, None
    for number, (place, _) in enumerate(cache.shards):
        view = cache.view(number)
        if place is not part:
            part, keys = place, KeySet(scratch)
        within += int((~keys.add(view.keys)).sum())
        tokens += int(view.tokens.sum())
        truncated += int(view.truncated.sum())
        for start in range(0, len(view.keys), _CHUNK):
            stored = np.ascontiguousarray(view.stored[start : start + _CHUNK])
            repeated += int((~contents.add(_content_keys(stored))).sum())
            decoded = cache.codec.decode(stored).astype(np.float64)
            length = np.sqrt((decoded * decoded).sum(axis=1))
            not_finite += int((~np.isfinite(length)).sum())
            length = length[np.isfinite(length)]
            low, high = min(low, length.min(initial=np.inf)), max(high, length.max(initial=0.0))
            total, count = total + float(length.sum()), count + len(length)
            not_unit += int((np.abs(length - 1) > tolerance).sum()) * cache.plan.space.normalised
    counted = {"rows": len(cache), "tokens": tokens, "truncated": truncated}
    stated = cache.counters
    return {
        "norm_min": float(low),
        "norm_mean": total / count if count else float("nan"),
        "norm_max": float(high),
        "not_unit": not_unit,
        "not_finite": not_finite,
        "duplicate_keys": within,
        "shared_keys": cache.index().repeated() - within,
        "duplicate_rows": repeated,
        "truncated": truncated,
        "counters_differ": tuple(n for n, v in counted.items() if stated.get(n) != v),
    }


def _dangling(cache: OpenedCache) -> int:
    """Return how many links lead to a text that has no row."""
    count = 0
    for table in cache.links():
        for batch in table.select(["caption"]).to_batches(_CHUNK):
            count += int((cache.find_keys(batch.column(0).to_pylist()) < 0).sum())
    return count


def _content_keys(stored: np.ndarray) -> np.ndarray:
    """Return 16 bytes for the content of every stored row [n w]: equal rows, equal keys."""
    lines = stored.view(np.uint8).reshape(len(stored), -1)
    digests = (hashlib.blake2b(line.data, digest_size=KEY.itemsize).digest() for line in lines)
    return np.frombuffer(b"".join(digests), KEY)


def _cover(
    cache: OpenedCache, captions: Iterable[str], sample: int, seed: int
) -> tuple[Coverage, list[str]]:
    """Return the coverage, and the `sample` stored captions with the smallest salted key."""
    salt = np.frombuffer(np.random.default_rng(seed).bytes(8), np.uint64)[0]
    seen = KeySet(cache.shards[0][0].scratch if cache.shards else None)
    count = missing = without = 0
    first: str | None = None
    smallest: list[tuple[int, str]] = []  # a heap of (-salted key, caption)
    broken = KeySet()
    for keys in cache.absent():
        broken.add(keys)
    texts = map(_cleaned, captions)
    while chunk := list(itertools.islice(texts, _CHUNK)):
        keys = keys_of(chunk)
        new = seen.add(keys)
        there = cache.find_keys(keys) >= 0
        count += len(chunk)
        lacking = broken.contains(keys)
        without += int((new & lacking).sum())
        absent = np.flatnonzero(new & ~there & ~lacking)
        missing += len(absent)
        if first is None and len(absent):
            first = chunk[int(absent[0])]
        salted = keys.view(np.uint64).reshape(-1, 2)[:, 0] ^ salt
        for i in np.flatnonzero(new & there):
            entry = (-int(salted[i]), chunk[i])
            if len(smallest) < sample:
                heapq.heappush(smallest, entry)
            elif smallest and entry > smallest[0]:
                heapq.heapreplace(smallest, entry)
    chosen = [text for _, text in sorted(smallest, reverse=True)]
    coverage = Coverage(
        captions=count,
        distinct=len(seen),
        missing=missing,
        first_missing=first,
        broken=without,
    )
    return coverage, chosen


def _cleaned(caption: str) -> str:
    """Return a clean caption, the same object where it is one: an address knows its place."""
    cleaned = clean(caption)
    return caption if cleaned == caption else cleaned


def _resample(cache: OpenedCache, encoder: RowMaker, texts: list[str], asked: int) -> Resampled:
    """Encode texts as the cache's plan says and compare with what is stored."""
    if not texts:
        return Resampled(asked=asked, sample=0, max_difference=0.0, min_cosine=1.0, beyond=0)
    plan = cache.plan
    with threads(plan.threads):
        again = encoder.encode(texts, precision=plan.precision, token_budget=plan.token_budget).rows
    stored = cache.take(cache.require(texts))
    difference = np.abs(stored - again)
    scale = np.linalg.norm(again, axis=1, keepdims=True)
    allowed = cache.codec.bound(again) * 1.001 + _SLACK[plan.precision] * scale
    cosine = (stored * again).sum(axis=1) / np.maximum(
        np.linalg.norm(stored, axis=1) * scale[:, 0], 1e-12
    )
    # A coarse codec may move single values far, and still no row further than was measured.
    worst = min((m.fidelity.worst_cosine for m in cache.manifests if m.fidelity), default=-1.0)
    far = ~(difference <= allowed).all(axis=1) | ~(cosine >= worst - _SLACK[plan.precision])
    return Resampled(
        asked=asked,
        sample=len(texts),
        max_difference=float(difference.max()),
        min_cosine=float(cosine.min()),
        beyond=int(far.sum()),  # NaN is beyond, too
    )
