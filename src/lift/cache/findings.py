"""What an audit found, as numbers, as faults and as lines of text."""

from __future__ import annotations

from dataclasses import dataclass, field

from lift.cache.fidelity import Fidelity
from lift.cache.probes import Drift

_NO_PROBES = "not compared: the encoder can't embed them (stored vectors)"


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Of the captions given to the audit: how many are distinct, how many have no row.

    Of images also how many can't be decoded, and have none for that.
    """

    captions: int
    distinct: int
    missing: int
    first_missing: str | None
    broken: int = 0


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """Rows made again and compared with the stored ones.

    Attributes:
        asked: captions that were to be compared, at most.
        sample: captions compared.
        max_difference: largest |stored - again|, over all values.
        min_cosine: smallest cosine between stored and again.
        beyond: rows further off than the codec's error, declared and measured, and the encoder's
            own noise.
    """

    asked: int
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
        items: what rows stand for: captions or images.
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
    items: str = "captions"
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
            checks.append(
                (self.coverage.missing, f"{self.coverage.missing} {self.items[:-1]}(s) missing")
            )
        if self.resampled is not None:
            found = self.resampled
            checks.append((found.beyond, f"{found.beyond} re-encoded row(s) too far off"))
            nothing = found.sample == 0 and found.asked > 0
            checks.append((nothing, f"nothing to re-encode: no given {self.items[:-1]} is stored"))
        if self.drift is not None:
            checks.append((not self.drift.ok, "the encoder drifted from the stored probes"))
        object.__setattr__(self, "faults", tuple(words for bad, words in checks if bad))

    @property
    def ok(self) -> bool:
        """Return whether nothing is wrong."""
        return not self.faults

    def table(self) -> str:
        """Return the report as lines of text, the verdict last."""
        texts = self.items == "captions"
        between = "from texts to images" if texts else "from images to samples"
        lines = [
            ("cache", self.folder),
            ("space", self.fingerprint),
            (
                "rows",
                f"{self.rows:,} x {self.dimensions} in {self.shards} shard(s), {self.parts} "
                "part(s)",
            ),
            ("links", f"{self.links:,} {between}, {self.dangling:,} to no row"),
            ("size", f"{_size(self.bytes)}, codec {self.codec}"),
            ("codec error", self.fidelity.words() if self.fidelity else "not measured (version 1)"),
            ("checksums", "all right" if not self.damaged else f"WRONG: {', '.join(self.damaged)}"),
            ("norms", f"{self.norm_min:.6f} / {self.norm_mean:.6f} / {self.norm_max:.6f}"),
            ("not finite", f"{self.not_finite:,}"),
            ("duplicate keys", f"{self.duplicate_keys:,} ({self.shared_keys:,} over parts)"),
            ("duplicate rows", f"{self.duplicate_rows:,}"),
            *([("truncated", f"{self.truncated:,}")] if texts else []),
        ]
        if self.coverage is not None:
            c = self.coverage
            there = c.distinct - c.missing - c.broken
            broken = f", {c.broken:,} can't be decoded" if c.broken else ""
            first = f", first missing {c.first_missing!r}" if c.missing else ""
            lines.append(
                ("coverage", f"{there:,} of {c.distinct:,} distinct {self.items}{broken}{first}")
            )
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
        live = self.drift is not None or self.resampled is not None
        ok = "ok" if live else "ok, as far as files tell: the encoder was not asked"
        lines.append(("verdict", ok if self.ok else "; ".join(self.faults)))
        return "\n".join(f"{name:<16}{value}" for name, value in lines)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"
