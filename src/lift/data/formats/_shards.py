"""What all layouts of tar shards share: opening by way of an index, reading at its offsets."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lift.data import kinds
from lift.data.formats._captions import as_fields
from lift.data.formats._index import Entry, Index, Span, Spool
from lift.data.formats._layout import Bounds, Layout, Told
from lift.data.formats._members import Recipe, Scan, as_object, not_seen
from lift.data.formats._paths import File, parent_and_name, shown, source_name, whereabouts
from lift.data.formats._scans import Scans
from lift.data.formats._stands import Stand, stand_of
from lift.data.tally import Tally
from lift.errors import BrokenSample, ConfigError, DataError, Unreachable
from lift.terms import Caption, Sample
from lift.text.keys import KeySet

_AHEAD = 2
"""Remote shards that are fetched while one is scanned or its texts are read."""


@dataclass(frozen=True, kw_only=True)
class TarBounds(Bounds):
    """Options that every layout of tar shards has.

    Attributes:
        path: a shard, a glob, a brace range (`train-{0000..0003}.tar`), or a list of them; files
            or URLs.
        index: the folder where scans of shards are kept for the next opening; None takes
            `lift/index` in the user's cache folder.
        max_members: entries of a tar; one with more is refused.
        timeout_s: seconds without a byte after which a remote read is tried again.
        retries: how often it is.
        disk_mb: disk space for local copies of remote shards.
    """

    path: str | tuple[str, ...] = ()
    index: str | None = None
    max_members: int = 10_000_000
    timeout_s: float = 30
    retries: int = 4
    disk_mb: int = 4096

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_members < 1 or self.disk_mb < 1:
            raise ConfigError(
                f"max_members and disk_mb must be above 0, not {self.max_members} and "
                f"{self.disk_mb}."
            )
        if not self.timeout_s > 0 or self.retries < 0:
            raise ConfigError(
                f"timeout_s must be above 0 and retries not below, not {self.timeout_s} and "
                f"{self.retries}."
            )


class Parts:
    """The files of one sample, read when they are asked for.

    Attributes:
        key: of the sample, unique in the source.
    """

    def __init__(
        self, key: str, entry: Entry, extra: str, read: Callable[[Span, str], bytes]
    ) -> None:
        self.key = key
        self._entry, self._extra, self._read = entry, extra, read

    def has_text(self) -> bool:
        """Return whether the sample has a `.txt`."""
        return self._entry.text.offset > 0

    def image(self) -> bytes:
        """Return the bytes of the image file. Like all of these, raises BrokenSample."""
        return self._read(self._entry.image, self.key)

    def text(self) -> bytes:
        """Return the bytes of `.txt`."""
        if not self.has_text():
            raise BrokenSample(kinds.CAPTION_NO_FIELD, f"Sample {self.key} has no .txt.")
        return self._read(self._entry.text, self.key)

    def record(self) -> dict[str, Any]:
        """Return the object in `.json`; empty where the sample has none."""
        return self._object(self._entry.json, "json")

    def extra(self) -> dict[str, Any]:
        """Return the object in the layout's one more file; empty where the sample has none."""
        return self._object(self._entry.extra, self._extra)

    def _object(self, span: Span, ending: str) -> dict[str, Any]:
        return as_object(self._read(span, self.key), self.key, ending) if span.offset else {}


class TarLayout(Layout):
    """Samples of tar shards, read at their offsets; a shard is a storage group."""

    not_fields: tuple[str, ...] = ("captions", "caption")
    """Of `.json`, what is no field of the sample."""

    hint = ""
    """What a shard without samples may mean here, as a sentence."""

    def __init__(
        self,
        config: TarBounds,
        recipe: Recipe,
        files: Sequence[File],
        prefixes: Sequence[str] | None,
        absent: Tally | None = None,
    ) -> None:
        """Open every shard: from what is kept of it, else by a scan of its headers.

        Args:
            config: the options.
            recipe: what makes a sample.
            files: the shards.
            prefixes: what the keys of each shard start with; None where keys are unique over all
                shards: then a repeated one is left out and counted.
            absent: what was left out before.

        Raises:
            DataError: a shard is missing, not a sound tar, or holds no samples.
            BrokenSample: something is left out and the bounds are strict.
        """
        self._config, self._recipe, self._files = config, recipe, files
        self._prefixes = prefixes
        self._stand: Stand = stand_of(files, config.timeout_s, config.retries, config.disk_mb)
        left_out = Tally()
        self._index, groups = self._open(left_out)
        if absent is not None:
            left_out.update(absent.counts, absent.first)
        super().__init__(source_name(files), whereabouts(files), groups, config, left_out)
        self._starts = list(accumulate(groups, initial=0))
        self.window_samples = self._stand.window(self.groups)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_index": None}

    def ahead(self, groups: Sequence[int]) -> None:
        """Hear which shards are read next; remote ones are fetched in the background."""
        self._stand.ahead(groups)

    def promise(self) -> str:
        """Return how long reading may wait for a server at most; "" for local shards."""
        return self._stand.promise()

    @abstractmethod
    def _captions(self, parts: Parts) -> tuple[Caption, ...]:
        """Return a sample's captions. Raises BrokenSample."""

    def _read(self, group: int, place: int) -> Sample:
        first, index = self._at(group)
        parts = self._parts(group, index[first + place])
        captions = self._captions(parts)
        fields = as_fields(parts.record(), self.not_fields)
        return Sample(parts.key, parts.image(), captions, fields)

    def _told(self, group: int) -> Iterator[Told]:
        self.ahead(range(group, min(group + 1 + _AHEAD, len(self._files))))
        first, index = self._at(group)
        for entry in index.between(first, first + self.groups[group]):
            parts = self._parts(group, entry)
            yield parts.key, partial(self._captions, parts)

    def _parts(self, group: int, entry: Entry) -> Parts:
        key = self._prefixes[group] + entry.key if self._prefixes else entry.key
        return Parts(key, entry, self._recipe.extra, partial(self._bytes, group))

    def _bytes(self, group: int, span: Span, key: str) -> bytes:
        what = f"Sample {key} can't be read"
        try:
            found = self._stand.read(group, span)
        except OSError as error:
            raise BrokenSample(kinds.ROW_UNREADABLE, f"{what} ({error.strerror}).") from error
        except DataError as error:  # of the whole shard: to try it for each sample takes for ever
            raise Unreachable(f"{what}: {error}") from error
        if len(found) != span.size:
            raise Unreachable(f"{what}: {shown(self._files[group])} became shorter; start again.")
        return found

    def _at(self, group: int) -> tuple[int, Index]:
        """Return the number of a group's first sample, and the index."""
        if self._index is None:  # a pickled copy, in another process
            index, groups = self._open(Tally())
            if tuple(groups) != self.groups:
                raise DataError(f"{self.name} changed while it was being read; start again.")
            self._index = index
        return self._starts[group], self._index

    def _open(self, left_out: Tally) -> tuple[Index, list[int]]:
        kept = Scans(self._config.index)
        seen = None if self._prefixes is not None or len(self._files) == 1 else KeySet()
        groups: list[int] = []
        with Spool() as all_shards, Spool() as shard:
            for number in tqdm(
                range(len(self._files)), "index of shards", unit="shard", leave=False,
                delay=1, disable=None,
            ):  # fmt: skip
                shard.clear()
                tally = self._shard(number, kept, shard)
                before = len(all_shards)
                for chunk in shard.chunks():
                    if seen is not None:
                        new, repeated = not_seen(chunk, seen)
                        chunk = chunk.only(new)
                        for key in repeated:
                            tally.add(kinds.KEY_TWICE, f"{key} in {self._called(number)}")
                    all_shards.add(chunk)
                groups.append(len(all_shards) - before)
                self._judge(number, groups[-1], tally)
                left_out.update(tally.counts, tally.first)
            return all_shards.index(), groups

    def _judge(self, number: int, samples: int, tally: Tally) -> None:
        if not samples:
            why = f"left out: {tally.sentence()}" if tally.counts else "it holds no files"
            hint = self.hint
            if {kinds.IMAGE_MISSING, kinds.IMAGE_WITHOUT_CAPTION} <= set(tally.counts):
                hint = hint or "The files of a sample have to stand side by side."
            sentence = f"{shown(self._files[number])} holds no samples; {why}. {hint}"
            raise DataError(sentence.rstrip())
        if self._config.strict and tally.counts:
            kind, example = next(iter(tally.first.items()))
            raise BrokenSample(kind, f"{example}: {kind}; strict=true stops at the first.")

    def _called(self, number: int) -> str:
        return parent_and_name(self._files[number])[1]

    def _shard(self, number: int, kept: Scans, spool: Spool) -> Tally:
        """Fill `spool` with the samples of a shard and return what is left out."""
        what, mark = self._what(number), self._stand.mark(number)
        told = bool(mark.tag)  # else another shard of as many bytes would pass for this one
        tally = kept.load(what, mark, spool) if told else None
        if tally is None:
            coming = range(number, min(number + 1 + _AHEAD, len(self._files)))
            self.ahead([n for n in coming if not kept.holds(self._what(n))])
            with self._stand.opened(number) as fd:
                name = self._called(number)
                scan = Scan(fd, name, self._recipe, self._config.max_image_bytes)
                scan.fill(spool, self._config.max_members)
            tally = scan.left_out
            if told:
                kept.keep(what, mark, spool, tally, costly=self._stand.remote)
        return tally

    def _what(self, number: int) -> dict[str, Any]:
        file = self._files[number]
        whole = str(file.absolute()) if isinstance(file, Path) else file
        # Not the URL itself: it may hold a password.
        address = hashlib.blake2b(whole.encode("utf-8", "surrogateescape"), digest_size=20)
        return {
            "shard": self._called(number),
            "address": address.hexdigest(),
            "recipe": asdict(self._recipe),
            "max_image_bytes": self._config.max_image_bytes,
            "max_members": self._config.max_members,
        }
