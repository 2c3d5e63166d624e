"""Check a finished cache: checksums, coverage, norms, duplicates, cuts, probes, a new sample."""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lift.cache import probes
from lift.cache.fidelity import Fidelity, merge
from lift.cache.probes import Drift
from lift.cache.reader import EmbeddingCache
from lift.text.encoder import TextEncoder, clean
from lift.text.keys import KEY, KeySet, keys_of
from lift.world import threads

_CHUNK = 4_096
_SLACK = {"float32": 1e-5, "bfloat16": 2e-2}
"""How far a value of a unit row may move with the company it is encoded in, and the machine:
1.3e-7 measured for MiniLM in float32 on one CPU; bfloat16 has 8 bits of significand."""

_NO_PROBES = "not compared: the encoder can't embed them (stored vectors)"

_UNIT_TOLERANCE = 2e-3
"""Rounding every value of a unit row to float16 changes its length by at most 2^-11."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Of the captions given to the audit: how many are distinct, how many have no row."""

    captions: int
    distinct: int
    missing: int
    first_missing: str | None


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """Rows made again and compared with the stored ones.

    Attributes:
        sample: captions compared.
        max_difference: largest |stored - again|, over all values.
        min_cosine: smallest cosine between stored and again.
        beyond: rows further off than the codec's error, declared and measured, and the encoder's
            own noise.
    """

    sample: int
    max_difference: float
    min_cosine: float
    beyond: int


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """What `audit` found.

    Attributes:
        folder: the cache.
        fingerprint: of its space.
        rows, dimensions, parts, shards, links, bytes: its size; bytes are those of the rows.
        dangling: links to texts that have no row.
        codec: how rows are stored.
        fidelity: what that changed, measured when they were written.
        damaged: shard files without their checksum.
        norm_min, norm_mean, norm_max: lengths of the stored rows.
        not_unit: rows whose length is not 1, where the space says that it is.
        not_finite: rows with NaN or infinity.
        duplicate_keys: rows that repeat another row's key in their part.
        shared_keys: rows whose key another part has, too: texts derived from captions of both.
        duplicate_rows: rows bit-equal to another's (two captions that the encoder can't tell
            apart, "A dog." and "a dog." for an uncased one: no fault of the cache).
        truncated: rows whose caption was cut.
        counters_differ: counters of the manifest that the shards don't bear out.
        coverage: where captions were given.
        resampled: where captions and an encoder were given.
        drift: of the stored probe sentences, where an encoder was given.
        not_live: why the encoder could not be asked, "" where it was or nobody wanted it.
    """

    folder: str
    fingerprint: str
    rows: int
    dimensions: int
    parts: int
    shards: int
    links: int
    dangling: int
    bytes: int
    codec: str
    fidelity: Fidelity | None
    damaged: tuple[str, ...]
    norm_min: float
    norm_mean: float
    norm_max: float
    not_unit: int
    not_finite: int
    duplicate_keys: int
    shared_keys: int
    duplicate_rows: int
    truncated: int
    counters_differ: tuple[str, ...]
    coverage: Coverage | None = None
    resampled: Resampled | None = None
    drift: Drift | None = None
    not_live: str = ""
    faults: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Collect what is wrong, in words."""
        checks = [
            (self.damaged, f"{len(self.damaged)} shard(s) without their checksum"),
            (self.not_finite, f"{self.not_finite} row(s) not finite"),
            (self.not_unit, f"{self.not_unit} row(s) not of unit length"),
            (self.duplicate_keys, f"{self.duplicate_keys} key(s) stored twice"),
            (self.dangling, f"{self.dangling} link(s) to texts without a row"),
            (self.counters_differ, f"counters differ: {', '.join(self.counters_differ)}"),
        ]
        if self.coverage is not None:
            checks.append((self.coverage.missing, f"{self.coverage.missing} caption(s) missing"))
        if self.resampled is not None:
            found = self.resampled
            checks.append((found.beyond, f"{found.beyond} re-encoded row(s) too far off"))
            checks.append((found.sample == 0, "nothing to re-encode: no given caption is stored"))
        if self.drift is not None:
            checks.append((not self.drift.ok, "the encoder drifted from the stored probes"))
        object.__setattr__(self, "faults", tuple(words for bad, words in checks if bad))

    @property
    def ok(self) -> bool:
        """Return whether nothing is wrong."""
        return not self.faults

    def table(self) -> str:
        """Return the report as lines of text, the verdict last."""
        lines = [
            ("cache", self.folder),
            ("space", self.fingerprint),
            (
                "rows",
                f"{self.rows:,} x {self.dimensions} in {self.shards} shard(s), {self.parts} "
                "part(s)",
            ),
            ("links", f"{self.links:,} from texts to images, {self.dangling:,} to no row"),
            ("size", f"{self.bytes / 1e6:,.1f} MB, codec {self.codec}"),
            ("codec error", self.fidelity.words() if self.fidelity else "not measured (version 1)"),
            ("checksums", "all right" if not self.damaged else f"WRONG: {', '.join(self.damaged)}"),
            ("norms", f"{self.norm_min:.6f} / {self.norm_mean:.6f} / {self.norm_max:.6f}"),
            ("not finite", f"{self.not_finite:,}"),
            ("duplicate keys", f"{self.duplicate_keys:,} ({self.shared_keys:,} over parts)"),
            ("duplicate rows", f"{self.duplicate_rows:,}"),
            ("truncated", f"{self.truncated:,}"),
        ]
        if self.coverage is not None:
            c = self.coverage
            there = c.distinct - c.missing
            first = f", first missing {c.first_missing!r}" if c.missing else ""
            lines.append(("coverage", f"{there:,} of {c.distinct:,} distinct captions{first}"))
        if self.resampled is not None:
            r = self.resampled
            lines.append(
                (
                    "re-encoded",
                    f"{r.sample} rows: largest difference {r.max_difference:.2e}, "
                    f"smallest cosine {r.min_cosine:.6f}",
                )
            )
        if self.drift is not None:
            lines.append(("probes", str(self.drift) if self.drift.probes else _NO_PROBES))
        elif self.not_live:
            lines.append(("probes", f"not compared: {self.not_live}"))
        lines.append(("verdict", "ok" if self.ok else "; ".join(self.faults)))
        return "\n".join(f"{name:<16}{value}" for name, value in lines)


def audit(
    folder: str | Path,
    *,
    captions: Iterable[str] | None = None,
    encoder: TextEncoder | None = None,
    sample: int = 256,
    seed: int = 0,
    not_live: str = "",
) -> AuditReport:
    """Read all of a cache and report what is wrong with it.

    Args:
        folder: of a finished cache.
        captions: those it should cover; read once, in chunks.
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
    cache = EmbeddingCache.open(folder)
    if encoder is not None:
        cache.space.require_same(
            encoder.space, ours=f"the cache {folder}", theirs=f"the encoder {encoder.part.name}"
        )
    damaged = tuple(cache.damaged())
    rows = _scan(cache)
    coverage, chosen = (None, []) if captions is None else _cover(cache, captions, sample, seed)
    stored = cache.probes()
    drift = None
    if encoder is not None and stored is not None:
        with threads(cache.plan.threads):
            drift = probes.drift(stored, encoder, cache.plan)
    measured = [manifest.fidelity for manifest in cache.manifests]
    return AuditReport(
        folder=str(folder),
        fingerprint=cache.space.fingerprint,
        rows=len(cache),
        dimensions=cache.dimensions,
        parts=len(cache.manifests),
        shards=len(cache.shards),
        links=cache.counters.get("links", 0),
        dangling=_dangling(cache) if not damaged else 0,
        bytes=sum(shard.bytes for _, shard in cache.shards),
        codec=cache.codec.name,
        fidelity=merge(found for found in measured if found) if all(measured) else None,
        damaged=damaged,
        coverage=coverage,
        resampled=_resample(cache, encoder, chosen) if encoder and coverage else None,
        drift=drift,
        not_live=not_live,
        **rows,
    )


def _scan(cache: EmbeddingCache) -> dict:
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
            not_unit += int((np.abs(length - 1) > tolerance).sum()) * cache.space.normalised
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


def _dangling(cache: EmbeddingCache) -> int:
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
    cache: EmbeddingCache, captions: Iterable[str], sample: int, seed: int
) -> tuple[Coverage, list[str]]:
    """Return the coverage, and the `sample` stored captions with the smallest salted key."""
    salt = np.frombuffer(np.random.default_rng(seed).bytes(8), np.uint64)[0]
    seen = KeySet(cache.shards[0][0].scratch if cache.shards else None)
    count = missing = 0
    first: str | None = None
    smallest: list[tuple[int, str]] = []  # a heap of (-salted key, caption)
    texts = (clean(caption) for caption in captions)
    while chunk := list(itertools.islice(texts, _CHUNK)):
        keys = keys_of(chunk)
        new = seen.add(keys)
        there = cache.find_keys(keys) >= 0
        count += len(chunk)
        absent = np.flatnonzero(new & ~there)
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
    coverage = Coverage(captions=count, distinct=len(seen), missing=missing, first_missing=first)
    return coverage, chosen


def _resample(cache: EmbeddingCache, encoder: TextEncoder, texts: list[str]) -> Resampled:
    """Encode texts as the cache's plan says and compare with what is stored."""
    if not texts:
        return Resampled(sample=0, max_difference=0.0, min_cosine=1.0, beyond=0)
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
        sample=len(texts),
        max_difference=float(difference.max()),
        min_cosine=float(cosine.min()),
        beyond=int(far.sum()),  # NaN is beyond, too
    )
