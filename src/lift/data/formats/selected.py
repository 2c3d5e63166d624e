"""What `lift data select` kept of another source, as its manifest says."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from lift.config import Part
from lift.data.dice import key_number
from lift.data.formats._kept import METADATA, Kept, Record, read_record, writable
from lift.data.formats._within import Within
from lift.data.spilled import room_for
from lift.data.tally import Tally
from lift.errors import ConfigError, DataError
from lift.files import told_plainly
from lift.terms import Caption, Sample, Source

__all__ = ["METADATA", "Config", "Digest", "Record", "Selected", "build", "writable"]

_BLOCK = 8192
_NOT_SELECTED = "not selected"
_TOO_SMALL = "with a weight too small to be shown"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of a selection.

    Attributes:
        path: the manifest.
        data: words that open the source, where it lies elsewhere by now; "" takes the manifest's.
        check: compare all keys and captions with those that were selected from. Without it the
            number of samples is compared, and each key when it is read.
    """

    path: str = ""
    data: str = ""
    check: bool = True

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("selected needs the path of a manifest: selected:path=kept.parquet.")


class Digest:
    """Of every key and caption of a source, in order; another data set, another digest."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, key: str, captions: tuple[Caption, ...]) -> None:
        """Take in one sample."""
        words = "\0".join([key, *(caption.text for caption in captions)])
        self._hash.update(words.encode("utf-8", "surrogatepass") + b"\n")

    def hexdigest(self) -> str:
        """Return 32 hex digits."""
        return self._hash.hexdigest()


def build(config: Config) -> Selected:
    """Open the manifest and its source, and compare the two.

    Raises:
        DataError: no manifest, a damaged one, or the data changed since.
        ConfigError: the source can't be opened as the manifest says.
    """
    record = read_record(Path(config.path))
    return Selected(config, record, _open(config, record))


class Selected(Within):
    """Some samples of another source, in its order or cluster by cluster.

    Attributes:
        name, whereabouts: of the inner source.
        groups: kept samples of each storage group of the inner source that has any; one group
            where samples lie cluster by cluster.
        window_samples: of the inner source, less what is not selected; see `Layout`.
        clusters: sizes of the runs of samples that belong together; () without clusters.
        slots: draws of an epoch: the weights' sum, rounded down; 0 where every sample counts once.
        slot_groups: how many of these draws fall into each group.
        slot_clusters: how many fall into each cluster; () without clusters or weights.
        record: what the manifest says of itself.
    """

    def __init__(self, config: Config, record: Record, inner: Source) -> None:
        self._config, self.record, self._inner = config, record, inner
        self.name = inner.name
        self.whereabouts = getattr(inner, "whereabouts", "")
        if len(inner) != record.samples:
            raise self._changed(f"it had {record.samples:,} samples and has {len(inner):,}")
        if config.check:
            digest = Digest()
            for key, captions in inner.texts():
                digest.add(key, captions)
            if digest.hexdigest() != record.digest:
                raise self._changed("its keys or captions are others")
        self._load()

    def _load(self) -> None:
        kept = self._kept = Kept(Path(self._config.path), self.record)
        self.clusters, self.slots = kept.clusters, kept.slots
        ends = np.array([len(kept)], np.int64)
        self._owners: list[int] = []  # the inner group of each group
        if not kept.clusters:
            inner_ends = np.cumsum(np.asarray(self._inner.groups, np.int64))
            ends = np.searchsorted(kept.numbers, inner_ends)
            full = np.flatnonzero(np.diff(ends, prepend=0))
            ends, self._owners = ends[full], full.tolist()
        self.groups: tuple[int, ...] = tuple(np.diff(ends, prepend=0).tolist())
        self.slot_groups = self._slots_of(ends)
        self.slot_clusters = self._slots_of(np.cumsum(kept.clusters, dtype=np.int64))

    def _slots_of(self, ends: Int64[np.ndarray, " n"]) -> tuple[int, ...]:
        """Return how many slots fall into each of the runs that end before these samples."""
        if not self.slots or not len(ends):
            return ()
        slots = [self._kept.slots_before(end) for end in ends.tolist()]
        slots[-1] = self.slots
        return tuple(np.diff(slots, prepend=0).tolist())

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self._config, "record": self.record, "inner": self._inner}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Compared before; a manifest that was replaced since is none of this source's.
        config, record = state["config"], state["record"]
        if read_record(Path(config.path)) != record:
            raise DataError(f"{config.path} was replaced while it was in use; start again.")
        self.__init__(replace(config, check=False), record, state["inner"])
        self._config = config

    def __len__(self) -> int:
        return len(self._kept)

    def read(self, index: int) -> Sample:
        """Return sample `index`.

        Raises:
            DataError: it can't be read, or is not the sample that was selected.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index} among {len(self)}")
        number = int(self._kept.numbers[index])
        sample = self._inner.read(number)
        self._require_key(sample.key, index, number)
        return sample

    def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        """Yield (key, captions) of every kept sample in order, without reading image bytes."""
        found = self._in_clusters() if self.clusters else self._in_order()
        count = 0
        for index, (key, captions) in enumerate(found):
            self._require_key(key, index, int(self._kept.numbers[index]))
            count += 1
            yield key, captions
        if count != len(self):
            raise self._changed(f"only {count:,} of {len(self):,} kept samples are there")

    def drawn(self, slots: Int64[np.ndarray, " n"], seed: int, epoch: int) -> np.ndarray:
        """Return which sample each of these slots of an epoch shows, int64 [n].

        Systematic sampling: one offset for each epoch, then every whole step of the weights'
        running sum. A sample of weight w is shown floor(w) or ceil(w) times in every epoch, and w
        times on average where the weights' fractions add up to a whole number (else a little
        less: by less than one draw of the whole epoch).

        Args:
            slots: numbers below `slots`.
            seed: the run's.
            epoch: from 0.
        """
        return self._kept.drawn(slots, seed, epoch)

    def _in_order(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        """Yield kept texts where numbers ascend: two ordered lists side by side."""
        at, wanted = 0, self._kept.numbers[:_BLOCK].tolist()
        for number, told in enumerate(self._inner.texts()):
            if not wanted:
                continue  # to the end, so that the inner source completes its counters
            if number == wanted[at]:
                yield told
                at += 1
                if at == len(wanted):
                    after = number + 1
                    start = int(np.searchsorted(self._kept.numbers, after))
                    at, wanted = 0, self._kept.numbers[start : start + _BLOCK].tolist()

    def _in_clusters(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        """Yield kept texts cluster by cluster: written to disk in one order, read in another."""
        places = room_for(len(self._inner), np.int64)  # of each sample: its index + 1, or 0
        for start in range(0, len(self), _BLOCK):
            numbers = self._kept.numbers[start : start + _BLOCK]
            places[numbers] = np.arange(start + 1, start + 1 + len(numbers))
        offsets = room_for(len(self), np.int64)
        folder = Path(tempfile.gettempdir())
        with tempfile.TemporaryFile() as file:
            end = 0
            for number, (key, captions) in enumerate(self._inner.texts()):
                if number < len(places) and (place := int(places[number])):
                    line = json.dumps([key, captions]).encode() + b"\n"
                    with told_plainly(folder):
                        file.write(line)
                    offsets[place - 1] = end + 1
                    end += len(line)
            with told_plainly(folder):
                file.flush()
            for index in range(len(self)):
                if not offsets[index]:
                    return  # the inner source became shorter: told by the count
                file.seek(int(offsets[index]) - 1)
                key, captions = json.loads(file.readline())
                yield key, tuple(Caption(*caption) for caption in captions)

    def _require_key(self, key: str, index: int, number: int) -> None:
        if key_number(writable(key)) != int(self._kept.keys[index]):
            raise self._changed(f"sample {number} is {key!r} now")

    def _changed(self, how: str) -> DataError:
        return DataError(
            f"{self.name} changed since {self._config.path} was selected from it: {how}. Select "
            "again, or give the old data with data=."
        )

    def _outside(self, tally: Tally) -> None:
        record = self.record
        first = next((f"{key} ({why})" for why, key in record.examples.items()), "")
        tally.add(_NOT_SELECTED, first, record.samples - len(self))
        tally.add(_TOO_SMALL, self._config.path, self._kept.too_small)


def _open(config: Config, record: Record) -> Source:
    from lift.data.source import open_source  # which loads formats, this one among them

    data = config.data or record.data
    if not data:
        raise DataError(f"{config.path} does not say where its data lies; give it with data=.")
    if isinstance(data, Part) and data.room != "data/formats":
        raise DataError(f"{config.path} names a part of {data.room}, which is no data.")
    path, outer = os.path.realpath(config.path), _OPENING.get()
    if path in outer:
        raise _Endless(f"{config.path} is a selection of itself; give its data with data=.")
    mark = _OPENING.set(outer | {path})
    try:
        return open_source(data)
    except (ConfigError, DataError) as error:
        if config.data or isinstance(error, _Endless):
            raise
        told = data if isinstance(data, str) else data.name
        raise type(error)(
            f"The data of {config.path} ({told}) can't be opened: {error} Where it lies elsewhere "
            "by now, say so with data=."
        ) from error
    finally:
        _OPENING.reset(mark)


class _Endless(DataError):
    """Selections that lead back to themselves."""


_OPENING: ContextVar[frozenset[str]] = ContextVar(
    "manifests that are being opened", default=frozenset()
)
