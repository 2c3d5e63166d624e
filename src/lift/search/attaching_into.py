"""Attach from words: a database and a model opened, images put in, a folder that opens it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lift import bundle as bundles
from lift import plugins
from lift.bundle import Bundle
from lift.config import Part
from lift.data.source import open_source
from lift.errors import ConfigError, SpaceMismatch
from lift.files import is_ours_or_empty, sole_writer
from lift.merging import Calibration
from lift.search import calibrating, sources
from lift.search.attached_record import MODEL, NAME, ROOM, AttachedRecord, read
from lift.search.attaching import Attaching, AttachReport, check_space
from lift.search.stores._store import Store
from lift.search.terms import Item, Kind


class Where(NamedTuple):
    """Which table of which database; see `lift.commands.attach.attach`."""

    database: str
    url: str
    table: str
    id: str = ""
    vector: str = ""
    text: str = ""
    facts: tuple[str, ...] = ()
    exact: bool = False

    @property
    def part(self) -> Part:
        """The database as a part. Raises ConfigError where an option is none of it."""
        name = self.database or _database(self.url)
        told: dict[str, Any] = {n: v for n, v in self._asdict().items() if n != "database" and v}
        return Part(ROOM, name, told)


@dataclass(frozen=True)
class How:
    """The rest of what a user says; see `lift.commands.attach.attach`."""

    link: str = ""
    group: str = ""
    trust_space: bool = False
    index: bool = False
    calibrate: str = ""
    thumbnails: int = 256
    device: str = "auto"
    progress: bool = False


def _database(url: str) -> str:
    """Return which kind of database an address means."""
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme in ("postgresql", "postgres") or (not scheme and "=" in url):
        return "pgvector"
    if scheme in ("", "http", "https"):
        return "qdrant"
    raise ConfigError(
        f"No database is reached by {scheme}://; write postgresql://USER@HOST/DATABASE, "
        "http://HOST:6333, or the folder of a local Qdrant."
    )


def attach(
    out: Path,
    where: Where,
    images: str | Sequence[str] | Iterable[Item],
    model: str | Path | Bundle,
    how: How,
) -> AttachReport:
    """See `lift.commands.attach.attach`."""
    if not is_ours_or_empty(out, NAME, {MODEL}):
        raise ConfigError(f"{out} holds something else; choose another folder.")
    own = bundles.load(model, device=how.device) if isinstance(model, str | Path) else model
    if not (out / NAME).exists() and (out / MODEL).exists():  # was this killed, or is it theirs?
        if bundles.load(out / MODEL).identity != own.identity:
            raise ConfigError(f"{out} holds another model; choose another folder.")
    items = _items(images, how.group)
    store: Store = plugins.build(where.part)
    try:
        return into(out, store, items, own, how, where)
    finally:
        store.close()


def into(
    out: Path, store: Store, items: Iterable[Item], model: Bundle, how: How, where: Where
) -> AttachReport:
    """Attach items to a database that is open, and write the folder."""
    drift = check_space(store, model, trust=how.trust_space)
    report = AttachReport(store.words, texts=store.layout().rows, probes=drift, link=how.link)
    work = Attaching(store, model, how.link, how.thumbnails, report)
    with sole_writer(out):
        record = _recorded(out, store, model, where)
        record.write(out)  # killed from here on, the folder opens and the same call goes on
        work.run(items, progress=how.progress)
        if how.index:
            store.index()
        told = _curves(work, how.calibrate)
        if told:
            curves = {kind: (curve.slope, curve.offset) for kind, curve in told.items()}
            record = AttachedRecord(
                store=record.store,
                model=record.model,
                weights=record.weights,
                calibrations=curves,
            )
            record.write(out)
    report.calibrated = bool(record.calibrations)
    return report


def _recorded(out: Path, store: Store, model: Bundle, where: Where) -> AttachedRecord:
    """Return what the folder says, with the model beside it; a new one if need be."""
    part = Part(ROOM, where.part.name, store.options())
    if not (out / NAME).exists():
        model.save(out / MODEL)
        return AttachedRecord(store=part, model=model.identity)
    old = read(out)
    if old.model != model.identity:
        raise SpaceMismatch(
            f"The folder {out} is of another model than {model.name}; choose another folder."
        )
    told = {
        name: (old.store.options.get(name), part.options.get(name)) for name in ("url", "table")
    }
    if old.store.name != part.name or any(a != b for a, b in told.values()):
        raise ConfigError(
            f"The folder {out} is of another table ({told['table'][0]}) or database; choose "
            "another folder."
        )
    return AttachedRecord(
        store=part, model=old.model, weights=old.weights, calibrations=old.calibrations
    )


def _curves(work: Attaching, calibrate: str) -> dict[Kind, Calibration]:
    if not calibrate:
        return work.curves()
    found = calibrating.of_source(work.model, open_source(calibrate))
    if not found:
        raise ConfigError(
            f"{calibrate} has too few images with two different captions to fit curves on."
        )
    return found


def _items(images: str | Sequence[str] | Iterable[Item], group: str) -> Iterable[Item]:
    if isinstance(images, str):
        return sources.pairs([images], group)
    if isinstance(images, Sequence) and images and all(isinstance(one, str) for one in images):
        return sources.pairs([str(one) for one in images], group)
    return images  # type: ignore[return-value]  # items
