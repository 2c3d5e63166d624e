"""Images put beside the text vectors of a database, once it is sure that both are of one space."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from tqdm import tqdm

from lift.bundle import Bundle
from lift.cache.probes import LEAST_COSINE_AFAR, Drift, Probes, between
from lift.data.tally import Tally
from lift.errors import ConfigError, DataError, NotFinite, SpaceMismatch
from lift.merging import Calibration
from lift.search import calibrating
from lift.search.attached_record import FORMAT, require_model
from lift.search.prepared import Prepared, prepared
from lift.search.stores._store import LONGEST_KEY, SHOWN, Entry, Known, Store, TextRow
from lift.search.terms import Item, Kind

PROBED = 32
"""Text rows whose vectors are made again to see whether they are of the model's space."""

AT_ONCE = 64
"""Items of one transaction."""

BY_KEY = "key"
_UNIT = 1e-3
"""How far from 1 the length of a stored row may be; float16 rounds that far."""


@dataclass
class AttachReport:
    """What `attach` did.

    Attributes:
        database: which table of which database.
        texts: rows there, none of which was written.
        probes: how far their vectors are from those of the model; None where nobody looked.
        added, replaced, unchanged: items of images; the last cost no encoding.
        images: vectors that were computed.
        linked: items that belong to a text row.
        link: how items were to name it.
        left_out: what could not be used, and why.
        calibrated: whether images and texts compete by their odds.
        seconds: wall time.
    """

    database: str
    texts: int = 0
    probes: Drift | None = None
    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    images: int = 0
    linked: int = 0
    link: str = ""
    left_out: Tally = field(default_factory=Tally)
    calibrated: bool = False
    seconds: float = 0.0

    def __str__(self) -> str:
        checked = "not checked, as you said" if self.probes is None else str(self.probes)
        lost = f" (no --link {self.link} is the id of one)" if self.link and not self.linked else ""
        curves = "calibrated" if self.calibrated else "in turns (too few pairs to calibrate)"
        return (
            f"{self.database}: {self.texts:,} text rows, left as they are; space: {checked}.\n"
            f"{self.added:,} items of images added, {self.replaced:,} replaced, "
            f"{self.unchanged:,} unchanged, {self.linked:,} of them belong to a text row{lost}; "
            f"{self.images:,} images encoded in {self.seconds:.1f} s; left out: "
            f"{self.left_out.sentence()}.\nImages and texts are merged {curves}."
        )


def check_space(store: Store, model: Bundle, *, trust: bool = False) -> Drift | None:
    """Hold a table of text vectors to a model's space, by texts that lie beside them.

    Up to `PROBED` rows spread over the table are embedded again by the model's text encoder and
    compared by their cosine, so that length and float16 make no difference. Finds out, too,
    whether the rows have unit length.

    Args:
        store: the database.
        model: its text encoder.
        trust: where there are no texts to look at, take the user's word.

    Returns:
        None where nothing was compared.

    Raises:
        SpaceMismatch: they are vectors of another space, with the row that is furthest.
        ConfigError: there is nothing to compare, and nobody said to trust.
    """
    layout, width = store.layout(), model.space.dimensions
    if layout.dimensions not in (None, width):
        raise SpaceMismatch(
            f"The vectors of {store.words} have {layout.dimensions} numbers, those of the model "
            f"{model.name} {width}: they are of two spaces; use a model of the space that the "
            "table was made in."
        )
    rows = store.sample(PROBED)
    lengths = np.array([np.linalg.norm(row.row) for row in rows if row.row is not None])
    store.unit = bool(len(lengths)) and bool((abs(lengths - 1) < _UNIT).all())
    known = [row for row in rows if row.text.strip() and row.row is not None and row.row.any()]
    known = [row for row in known if len(row.text) < SHOWN] or known  # others were read in part
    if not layout.rows:
        return None
    if trust:
        return None
    if not known:
        near = f" ({', '.join(layout.columns)} could be)" if layout.columns else ""
        raise ConfigError(
            f"No column of {store.words} is known to hold the texts of its vectors{near}, so "
            f"nobody can check that they are of the space of {model.name}: name it with text=, or "
            "say --trust-space."
        )
    return _hold(store, model, known)


def _hold(store: Store, model: Bundle, known: Sequence[TextRow]) -> Drift:
    stored = np.stack([row.row for row in known]).astype(np.float32)  # type: ignore[arg-type]
    made = model.encode_texts([row.text for row in known])
    found = between(Probes(tuple(row.text for row in known), stored), made, LEAST_COSINE_AFAR, True)
    if found.ok:
        return found
    own = [
        between(Probes((row.text,), stored[n : n + 1]), made[n : n + 1], LEAST_COSINE_AFAR, True).ok
        for n, row in enumerate(known)
    ]
    worst = next(row for row in known if row.text == found.worst)
    why = (
        "their texts may have changed since they were embedded: embed those rows again"
        if sum(own) > len(own) / 2
        else "another model, another prompt or other texts than this column's"
    )
    raise SpaceMismatch(
        f"The vectors of {store.words} are not those that the text encoder of {model.name} makes: "
        f"{sum(own)} of {len(own)} rows agree, the worst is {worst.key!r} ({worst.text[:200]!r}) "
        f"with a cosine of {found.min_cosine:.4f}, {found.allowed} needed ({why}). Use the model "
        "of their space, or say --trust-space."
    )


class _Pair(NamedTuple):
    """What a curve is fitted on: a caption that asks, an image and a text that are right."""

    ask: str
    image: np.ndarray
    held: str | np.ndarray


@dataclass
class Attaching:
    """Images on their way into a database that holds texts of their space.

    Attributes:
        store: the database.
        model: makes the vectors.
        link: how an item names its text row: "key", by its own key; a fact of it; "" for none.
        thumbnails: pixels of the longer side of the small pictures, 0 for none.
        report: what was done.
        pairs: that curves can be fitted on.
    """

    store: Store
    model: Bundle
    link: str = ""
    thumbnails: int = 256
    report: AttachReport = field(default_factory=lambda: AttachReport(""))
    pairs: list[_Pair] = field(default_factory=list)

    def run(self, items: Iterable[Item], *, progress: bool = False) -> AttachReport:
        """Attach items: those that are there already, the same, cost no encoding.

        Each `AT_ONCE` are one transaction: killed at any time, no item is there by half, and the
        same call goes on. A key that comes again replaces what it had.

        Raises:
            DataError: a key, fact or image set that can't be stored.
            SpaceMismatch: another model's images lie there.
            StorageError: another process is attaching.
            ServerError: the database refuses.
        """
        start, model = time.monotonic(), self.model.identity
        space = self.model.space
        about = {"format": FORMAT, "model": model, "name": self.model.name}
        about |= {"space": space.fingerprint, "dimensions": space.dimensions}
        total = len(items) if hasattr(items, "__len__") else None  # type: ignore[arg-type]
        with self.store.writing(), tqdm(total=total, unit="item", disable=not progress) as bar:
            if self.store.about() is not None:
                require_model(self.store, model)
            self.store.prepare(about, space.dimensions)
            require_model(self.store, model)
            for batch in _batches(items):
                self._take(batch)
                bar.update(len(batch))
        left = getattr(items, "left_out", None)
        if isinstance(left, Tally):
            self.report.left_out.update(left.counts, left.first)
        self.report.seconds = time.monotonic() - start
        return self.report

    def _take(self, batch: Sequence[Item]) -> None:
        """Attach some items, together."""
        ready: dict[str, Prepared] = {}
        for item in batch:
            bare = Item(key=item.key, images=item.images, facts=item.facts)
            one = prepared(bare, self.thumbnails, self.report.left_out)
            if one is not None and self._storable(one):
                ready[item.key] = one
        known = self.store.known(list(ready))
        links = self._links(ready)
        entries, new = [], []
        for key, one in ready.items():
            made = self._entry(one, links.get(key))
            old = known.get(key)
            self.report.linked += made.link is not None
            if old == Known(made.digests, made.link, dict(made.facts), made.asked):
                self.report.unchanged += 1
            elif old is not None and old.digests == made.digests:
                entries.append(_with_rows(made, self.store.rows_of(key)))
            else:
                new.append(made)
        entries += self._encoded(new, ready)
        self.store.put(entries)
        self.report.replaced += sum(entry.key in known for entry in entries)
        self.report.added += sum(entry.key not in known for entry in entries)
        if len(self.pairs) < calibrating.MOST:
            self._note(batch, entries, links)

    def _storable(self, one: Prepared) -> bool:
        for what in (one.key, *one.facts, *(v for v in one.facts.values() if isinstance(v, str))):
            if "\0" in what:
                raise DataError(f"{what[:80]!r} of item {one.key!r} holds NUL, as no database can.")
        if len(one.key.encode()) > LONGEST_KEY:
            raise DataError(f"The key {one.key[:80]!r} is longer than {LONGEST_KEY:,} bytes.")
        return bool(one.images)

    def _links(self, ready: dict[str, Prepared]) -> dict[str, TextRow]:
        """Return the text row of each item that names one which is there."""
        asked: dict[str, str] = {}
        for key, one in ready.items():
            if self.link in ("", BY_KEY):
                asked[key] = key
            elif self.link in one.facts:
                value = one.facts[self.link]
                whole = isinstance(value, float) and value.is_integer()
                asked[key] = str(int(value)) if whole else str(value)
        rows = self.store.texts(list(dict.fromkeys(asked.values())), rows=True)
        found = {key: rows[row] for key, row in asked.items() if row in rows and self.link}
        if self.link != BY_KEY:
            own = [key for key in ready if key not in found]
            if both := list(self.store.texts(own) if self.link else rows):
                raise DataError(
                    f"The key {both[0]!r} of an image is also the id of a row of "
                    f"{self.store.words}: say link=key if it is that row's image, else give "
                    "images other keys."
                )
        return found

    def _entry(self, one: Prepared, row: TextRow | None) -> Entry:
        return Entry(
            key=one.key,
            link=None if row is None else row.key,
            facts=one.facts,
            linked={} if row is None else row.facts,
            digests=tuple(r.content.hex() for r in one.rows),
            rows=np.zeros((0, 0), np.float32),
            thumbnails=tuple(one.pictures) if self.thumbnails else (),
        )

    def _encoded(self, new: Sequence[Entry], ready: dict[str, Prepared]) -> list[Entry]:
        """Return entries with vectors; one whose image the model can't take is left out."""
        images = [[row.value for row in ready[entry.key].rows] for entry in new]
        flat = [image for own in images for image in own]
        if not flat:
            return []
        try:
            made = self._vectors(flat)
        except DataError:
            if len(new) > 1:  # find out which
                return [one for entry in new for one in self._encoded([entry], ready)]
            self.report.left_out.add("unreadable image", new[0].key)
            return []
        ends = np.cumsum([len(own) for own in images])[:-1]
        return [_with_rows(e, z) for e, z in zip(new, np.split(made, ends), strict=True)]

    def _vectors(self, images: Sequence[bytes]) -> Float32[np.ndarray, "n d"]:
        made = self.model.encode_images(images)
        if not np.isfinite(made).all():
            raise NotFinite(
                f"The model {self.model.name} gave NaN for an image; check its weights, or use "
                "precision float32."
            )
        self.report.images += len(images)
        return made

    # --- curves ---

    def _note(
        self, batch: Sequence[Item], entries: Sequence[Entry], links: dict[str, TextRow]
    ) -> None:
        """Remember what curves can be fitted on: captions of images and texts of their rows."""
        rows = {entry.key: entry.rows[0] for entry in entries}
        for item in batch:
            said = list(dict.fromkeys(text for own in item.texts.values() for text in own))
            row = links.get(item.key)
            if item.key not in rows or not said:
                continue
            if row is not None and row.row is not None and row.text:
                others = [text for text in said if text != row.text]
                if others:
                    self.pairs.append(_Pair(others[0], rows[item.key], row.row))
            elif len(said) > 1:
                self.pairs.append(_Pair(said[1], rows[item.key], said[0]))

    def curves(self) -> dict[Kind, Calibration]:
        """Return the curves that the attached images give; none of too few pairs."""
        pairs = self.pairs[: calibrating.MOST]
        if len(pairs) < calibrating.FEWEST:
            return {}
        spoken = [pair.held for pair in pairs if isinstance(pair.held, str)]
        made = iter(self.model.encode_texts(spoken))
        held = [next(made) if isinstance(p.held, str) else _unit(p.held) for p in pairs]
        of = np.arange(len(pairs), dtype=np.int64)
        asking = self.model.encode_texts([pair.ask for pair in pairs])
        images = np.stack([pair.image for pair in pairs]).astype(np.float32)
        texts = np.stack(held).astype(np.float32)
        return calibrating.fit(calibrating.Asked(asking, of, (images, of), (texts, of)))


def _unit(row: np.ndarray) -> np.ndarray:
    return row / max(float(np.linalg.norm(row)), 1e-12)


def _with_rows(entry: Entry, rows: Float32[np.ndarray, "n d"]) -> Entry:
    return replace(entry, rows=rows)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield items in pieces, in each no key twice: the later one replaces the earlier."""
    batch: dict[str, Item] = {}
    for item in items:
        if item.key in batch or len(batch) == AT_ONCE:
            yield list(batch.values())
            batch = {}
        batch[item.key] = item
    if batch:
        yield list(batch.values())
