"""Commands about indexes: built, opened, searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lift.bundle import Bundle
    from lift.config import Part
    from lift.search.adding import Added
    from lift.search.attached import Attached
    from lift.search.index import Index


def open_index(path: str | Path, *, device: str = "auto", writes: bool = False) -> Index:
    """Open an index: `search`, `add`, `delete`.

    Args:
        path: its folder.
        device: where queries are encoded.
        writes: to change it; only one process can.

    Raises:
        DataError: no index there, or a damaged one.
    """
    from lift.search.index import Index

    return Index.open(path, device=device, writes=writes)


def open_searchable(path: str | Path, *, device: str = "auto") -> Index | Attached:
    """Open an index, or what `lift index attach` made, for asking: `search`, `item`, `browse`.

    Raises:
        DataError: neither lies there, or it is damaged.
        LiftError: the database can't be reached.
    """
    from lift.search.opening import open_searchable as opened

    return opened(path, device=device)


def build_index(
    out: str | Path,
    *,
    model: str | Path | Bundle | None = None,
    data: str | Sequence[str] = (),
    documents: str = "",
    texts: Sequence[str] = (),
    key: str = "",
    facts: Sequence[str] = (),
    pictures: str | Sequence[str] = (),
    group: str = "",
    cache: str | Path | None = None,
    weights: Mapping[str, float] | None = None,
    engine: str | Part | None = None,
    thumbnails: int | None = None,
    stored: str | None = None,
    calibrate: str = "",
    combiner: bool = False,
    prune: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> Added:
    """Make an index of pairs and texts, or bring one up to date; return what was done.

    What did not change costs no encoding: a call that was killed goes on when it is made again.

    Args:
        out: folder of the index.
        model: a run or a model; needed for a new index.
        data: pairs of images and captions in words; fields are the captions' roles.
        documents: a table of texts (csv, tsv, jsonl, parquet; a text a line): items without
            images.
        texts, key, facts: columns of it: what is embedded, the keys, what filters ask for.
        pictures: folders of pictures without captions, each an item.
        group: a fact by which neighbouring pairs are one item.
        cache: takes vectors of texts from this cache of the model's space, to the bit.
        weights: of fields: how many times the odds of their rows count; empty leaves them.
        engine: exact, usearch or faiss, with options (`usearch:connectivity=32`); None is exact
            for a new index, and the one that it has for another.
        thumbnails, stored: of a new index (`Index.create`); None is 256 and float32.
        calibrate: pairs that the curves for mixed search are fitted on; "" takes the index's own
            items with an image and two texts.
        combiner: train the combiner that edits pictures by texts, on the index's own texts.
        prune: remove items that are in none of `data`, `documents` and `pictures`; where
            some of the data can't be read, nothing is removed.
        device: where it is encoded.
        progress: draw progress bars.

    Raises:
        LiftError: bad input.
    """
    from lift.search import building

    return building.build(
        Path(out),
        model=model,
        data=[data] if isinstance(data, str) and data else list(data),
        documents=building.Table(documents, tuple(texts), key, tuple(facts)),
        pictures=[pictures] if isinstance(pictures, str) else list(pictures),
        group=group,
        cache=cache,
        weights=dict(weights or {}),
        engine=engine,
        thumbnails=thumbnails,
        stored=stored,
        calibrate=calibrate,
        combiner=combiner,
        prune=prune,
        device=device,
        progress=progress,
    )


def open_to_remove(path: str | Path) -> Index | Attached:
    """Open an index for writing, or what `lift index attach` made, whose images can be removed.

    Raises:
        DataError: neither lies there, or it is damaged.
        LiftError: the database can't be reached, or another process writes.
    """
    from lift.search.attached_record import is_attached

    return open_searchable(path) if is_attached(Path(path)) else open_index(path, writes=True)
