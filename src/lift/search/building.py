"""An index built, or brought up to date: what is there and did not change costs no encoding."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lift import bundle as bundles
from lift.bundle import Bundle
from lift.cache.reader import EmbeddingCache
from lift.cached_texts import with_cache
from lift.config import Part
from lift.data.source import open_source, parse_part
from lift.data.tally import Tally
from lift.errors import ConfigError, DataError
from lift.search import combiner as combiners
from lift.search import record, sources
from lift.search.adding import Added
from lift.search.index import COMBINER, Index
from lift.search.prepared import checked_key
from lift.search.terms import Item

ROOM = "search/engines"

_STALE = 0.05
"""Of the rows may be unknown to an engine, which compares them one by one, before it is built."""

_MOST_CAPTIONS = 20_000
"""Texts of the index that its combiner learns from."""
_MOST_IMAGES = 5_000
"""Images whose middle it is told."""


class Table(NamedTuple):
    """A table of texts: where it is, and its columns (see `lift.search.sources.Documents`)."""

    path: str = ""
    texts: tuple[str, ...] = ()
    key: str = ""
    facts: tuple[str, ...] = ()


def build(
    out: Path,
    *,
    model: str | Path | Bundle | None,
    data: Sequence[str],
    documents: Table,
    pictures: Sequence[str],
    group: str,
    cache: str | Path | None,
    weights: Mapping[str, float],
    engine: str | Part | None,
    thumbnails: int | None,
    stored: str | None,
    calibrate: str,
    combiner: bool,
    prune: bool,
    device: str,
    progress: bool,
) -> Added:
    """Make an index, or bring one up to date; see `lift.commands.index.build_index`."""
    part = parse_part(ROOM, engine) if isinstance(engine, str) else engine
    pairs = sources.pairs(data, group) if data else None
    table = sources.Documents(*documents) if documents.path else None
    bare = [sources.Pictures(folder) for folder in pictures]
    if pairs is None and table is None and not bare and (prune or not (out / record.NAME).exists()):
        asked = "prune by" if prune else "put into the index"
        raise ConfigError(f"Nothing to {asked}: give --data, --documents or --pictures.")
    with _opened(out, model, dict(weights), part, thumbnails, stored, device) as index:
        encoder = index.encoder
        if cache is not None:
            encode = with_cache(encoder, EmbeddingCache.open(cache), "of the index").encode_texts
        else:
            encode = encoder.encode_texts
        seen: set[int] = set()
        left_out = Tally()
        items = itertools.chain(pairs or (), table or (), *bare)
        done = index.add(
            _noted(items, seen, left_out),
            total=None if pairs is None or table is not None or bare else len(pairs),
            progress=progress,
            encode_texts=encode,
        )
        unread = Tally() if pairs is None else pairs.left_out
        for tally in (unread, left_out):
            done.left_out.update(tally.counts, tally.first)
        if prune and (unread.counts or not seen):
            done.notes.append(
                "Nothing was pruned: where samples can't be read, what is gone can't be told from "
                "what is broken. Mend them, or take them out of the data, and run it again."
            )
        elif prune:
            done.removed = index.delete([key for key in index.keys() if hash(key) not in seen])
        _finish(index, done, part, calibrate, combiner)
    return done


def _opened(
    out: Path,
    model: str | Path | Bundle | None,
    weights: dict[str, float],
    engine: Part | None,
    thumbnails: int | None,
    stored: str | None,
    device: str,
) -> Index:
    """Return the index that is there, or a new one, open for writing.

    Raises:
        ConfigError: one is there, and was made with other options.
    """
    given = bundles.load(model, device=device) if isinstance(model, str | Path) else model
    if (out / record.NAME).exists():
        there = record.read(out)
        if thumbnails not in (None, there.thumbnails) or stored not in (None, there.stored):
            raise ConfigError(
                f"The index {out} keeps pictures of {there.thumbnails} pixels and vectors of "
                f"{there.stored}, which is chosen once: leave these options out, or build another."
            )
        index = Index.open(out, model=given, device=device, writes=True)
        if weights and weights != dict(there.weights):
            index.weigh(weights)
        return index
    if given is None:
        raise ConfigError(f"{out} is a new index, which needs a model: give --model RUN_OR_MODEL.")
    return Index.create(
        out,
        given,
        weights=weights,
        engine=engine or record.EXACT,
        thumbnails=256 if thumbnails is None else thumbnails,
        stored=stored or "float32",
    )


def _noted(items: Iterator[Item], seen: set[int], left_out: Tally) -> Iterator[Item]:
    """Yield items whose key can be one and came for the first time; note the hashes of keys.

    Of two sources that call different things alike the first has its way, each time: else either
    would replace the other whenever the index is brought up to date.
    """
    for item in items:
        try:
            number = hash(checked_key(item.key))
        except DataError as error:
            left_out.add("item with a key that is none", str(error))
            continue
        if number in seen:
            left_out.add("item with the key of an earlier one", item.key)
            continue
        seen.add(number)
        yield item


def _finish(index: Index, done: Added, engine: Part | None, calibrate: str, combiner: bool) -> None:
    """Do what needs all items: the engine, the curves, the combiner."""
    if engine is not None and engine != index.record.engine:
        index.build_engine(engine)
    elif any(
        side.engine.stale > _STALE * len(side.owner) or side.engine.complaint
        for side in index.view.sides.values()
    ):
        index.build_engine()
    said = (side.engine.complaint for side in index.view.sides.values())
    done.notes.extend(dict.fromkeys(complaint for complaint in said if complaint))
    changed = done.added or done.replaced or done.removed
    if calibrate:
        if not index.calibrate(open_source(calibrate)):
            raise ConfigError(
                f"{calibrate} has too few images with two different captions to fit curves on."
            )
    elif not index.record.calibrated_on and (changed or not index.record.calibrations):
        index.calibrate()
    if combiner:
        texts = itertools.islice(_texts(index), _MOST_CAPTIONS)
        side = index.view.sides["image"]
        rows = side.file.rows[np.flatnonzero(side.owner >= 0)[:_MOST_IMAGES]]
        images = np.asarray(rows, np.float32) if len(rows) else None
        made = combiners.train_combiner(index.encoder, list(dict.fromkeys(texts)), images=images)
        made.save(index.folder / COMBINER)


def _texts(index: Index) -> Iterator[str]:
    for start in itertools.count(0, 1_000):
        items = index.browse(start, 1_000)
        if not items:
            return
        for item in items:
            for texts in item.texts.values():
                yield from texts
