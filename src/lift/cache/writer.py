"""Embed captions into a cache: each distinct one once, shard by shard, resumable anywhere."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from lift import plugins
from lift.cache import manifest as records
from lift.cache import probes
from lift.cache.fidelity import Fidelity, merge
from lift.cache.maker import RowMaker, items_of
from lift.cache.part import OpenPart
from lift.cache.place import place_of
from lift.cache.planning import Wishes, require_ours, require_plan, settle
from lift.config import Part
from lift.errors import ConfigError, DataError
from lift.text.encoder import clean
from lift.text.roles import Linked
from lift.world import Precision, threads

_PROBED = 64


@dataclass(frozen=True, kw_only=True)
class EmbedReport:
    """What one run of `embed` did.

    Attributes:
        folder: the cache.
        numbers, parts: which parts this run worked on, from 0, and of how many.
        items: what rows stand for: captions, or images (with their views and patches).
        captions: captions (images) offered to this part, repeats included.
        distinct: distinct ones among them (after cleaning).
        stored: distinct ones that had a row before this run.
        embedded: rows that this run made.
        truncated: rows of this run whose caption was longer than the encoder's cap.
        rows: rows in this part now.
        links: links from texts to images that this run stored.
        padding: share of the tokens computed by this run that were padding; None where unknown.
        fidelity: what the codec changed, measured; see `lift.cache.fidelity`.
        precision, threads, device: what the encoder computed with.
        seconds: wall time of the whole run.
        captions_per_second: rows made in a second of this run.
        derived: texts made from captions, by what they are.
        left_out: what the data or the tool left out, by reason.
        notes: sentences about this run that are no error, such as new versions of packages.
    """

    folder: str
    numbers: tuple[int, ...] = (0,)
    parts: int = 1
    items: str = "captions"
    captions: int
    distinct: int
    stored: int
    embedded: int
    truncated: int
    rows: int
    links: int = 0
    padding: float | None = None
    fidelity: Fidelity | None = None
    precision: Precision
    threads: int
    device: str
    seconds: float
    captions_per_second: float
    derived: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def _what(self) -> str:
        return self.items if self.items == "captions" else "images, views, patches"

    def _rows(self) -> str:
        return self.items if self.items == "captions" else "rows"

    def table(self) -> str:
        """Return the counters as lines of text."""
        which = ", ".join(str(number + 1) for number in self.numbers)
        lines = [("part", f"{which} of {self.parts}")] if self.parts > 1 else []
        lines += [
            ("texts, derived too" if self.derived else self._what(), f"{self.captions:,}"),
            ("distinct", f"{self.distinct:,}"),
            ("already stored", f"{self.stored:,}"),
            ("embedded now", f"{self.embedded:,}"),
            *([("truncated", f"{self.truncated:,}")] if self.items == "captions" else []),
            ("rows in cache" if self.parts == 1 else "rows in part(s)", f"{self.rows:,}"),
        ]
        if self.links:
            lines.append(("links stored now", f"{self.links:,}"))
        if self.padding is not None:
            lines.append(("padding", f"{self.padding:.1%} of the tokens computed"))
        if self.fidelity is not None:
            lines.append(("codec", self.fidelity.words()))
        lines += [
            ("computed in", f"{self.precision} on {self.device}, {self.threads} thread(s)"),
            ("time", f"{self.seconds:.1f} s ({self.captions_per_second:,.0f} {self._rows()}/s)"),
        ]
        lines += [(f"derived: {what}", f"{count:,}") for what, count in self.derived.items()]
        lines += [(f"left out: {why}", f"{count:,}") for why, count in self.left_out.items()]
        lines += [("note", note) for note in self.notes]
        wide = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:<{wide}}  {value}" for name, value in lines)


def together(reports: Sequence[EmbedReport]) -> EmbedReport:
    """Return the reports of several parts that one process worked on, one after another, as one."""
    first, *others = reports
    if not others:
        return first

    def added(name: str) -> Any:
        return sum(getattr(report, name) for report in reports)

    counted = ("captions", "distinct", "stored", "embedded", "truncated", "rows", "links")
    measured = [report.fidelity for report in reports if report.fidelity is not None]
    left_out = {why for report in reports for why in report.left_out}
    return dataclasses.replace(
        first,
        **{name: added(name) for name in counted},
        numbers=tuple(number for report in reports for number in report.numbers),
        padding=None,
        fidelity=merge(measured) if len(measured) == len(reports) else None,
        seconds=added("seconds"),
        captions_per_second=added("embedded") / added("seconds"),
        left_out={why: sum(r.left_out.get(why, 0) for r in reports) for why in sorted(left_out)},
        notes=tuple(dict.fromkeys(note for report in reports for note in report.notes)),
    )


def embed(
    captions: Iterable[str | Linked],
    encoder: RowMaker,
    folder: str | Path,
    *,
    part: tuple[int, int] | None = None,
    codec: str | Part | None = None,
    precision: Precision | Literal["auto"] = "float32",
    rows_per_shard: int | None = None,
    token_budget: int | None = None,
    total: int | None = None,
    progress: bool = True,
) -> EmbedReport:
    """Store a row for every distinct caption; the same command again goes on where it stopped.

    The first run writes a plan (precision, batching, threads) that later runs obey, so a cache
    that was killed and resumed is bit-equal to one that was not. Captions that a finished cache
    lacks are appended as new shards. Memory holds one shard, whatever the number of captions.

    A cache in several parts is complete when every part is. Each part is offered all captions
    and takes its own, by their hash; parts run anywhere, in any order, at the same time.

    Args:
        captions: any number of texts. Those with an image (a key) also get a link, in a second
            reading: then this has to be something that can be read twice.
        encoder: makes the rows.
        folder: of the cache, a path or a URL that fsspec knows; created where it is missing.
        part: (number from 0, of how many); None takes the only part.
        codec: a name or part of `cache/codecs`; None takes float16, or what the cache has.
        precision: inside the encoder; "auto" times both when the cache is created.
        rows_per_shard: None takes 16,384, or what the cache has.
        token_budget: padded tokens a batch; None takes the device's default, or the cache's.
        total: captions to come, for the bar; None takes their length, if they have one.
        progress: show a bar with captions/s and time left, where stderr is a terminal.

    Raises:
        ConfigError: no such codec, or one that the encoder was not trained for; a bad number.
        DataError: no captions, an empty one, or one that is not text; the message says which.
        SpaceMismatch: rows of another space, or an encoder that drifted.
        CacheError: something else in the folder, other choices, or damaged files.
        StorageError: a full disk, or another process in this part; what was stored stays whole.
        NotFinite: the encoder returned NaN or infinity.
    """
    start = time.perf_counter()
    wishes = _wishes(part, codec, precision, rows_per_shard, token_budget)
    items = _cleaned(captions)
    first = list(itertools.islice(items, _PROBED))
    if not first:
        raise DataError(f"There are no {items_of(encoder.space)} to embed: the set is empty.")
    texts = [item.text for item in first]
    number, parts = part or (0, 1)
    known = len(captions) if total is None and isinstance(captions, Sized) else total
    noun = items_of(encoder.space)
    with _bar(known and known // parts, number, parts, noun, progress) as bar:
        place = place_of(folder)
        require_ours(place)
        if plan := records.read_plan(place):
            require_plan(plan, encoder, wishes, place)  # before this part leaves a trace
        with place.held("" if parts == 1 else records.part_name(number, parts)):
            plan = settle(place, encoder, wishes, texts)
            with threads(plan.threads):
                run = OpenPart(place, plan, number, encoder, bar.update)
                moved = probes.require(place, plan, encoder, lambda: run.known(texts))
                if run.embed(itertools.chain(first, items)):
                    bar.set_description("links")
                    run.link(_again(captions))
                notes = [run.finish()]
    if moved is None or not moved.probes:
        notes.append("the encoder can't embed the stored probes: its drift was not looked for")
    return _report(run, str(folder), time.perf_counter() - start, [n for n in notes if n])


def _bar(total: int | None, number: int, parts: int, noun: str, progress: bool) -> tqdm:
    return tqdm(
        total=total,
        unit=f" {noun}",
        dynamic_ncols=True,
        disable=None if progress else True,
        desc="embed" if parts == 1 else f"embed {number + 1}/{parts}",
    )


def _wishes(
    part: tuple[int, int] | None,
    codec: str | Part | None,
    precision: Precision | Literal["auto"],
    rows_per_shard: int | None,
    token_budget: int | None,
) -> Wishes:
    for name, value in (("rows_per_shard", rows_per_shard), ("token_budget", token_budget)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be positive, not {value}.")
    if part is not None and not 0 <= part[0] < part[1]:
        raise ConfigError(
            f"There is no part {part[0] + 1} of {part[1]}: parts count from 1 to {part[1]}."
        )
    named = Part("cache/codecs", codec) if isinstance(codec, str) else codec
    return Wishes(
        codec=plugins.resolve(named) if named else None,
        precision=None if precision == "auto" else precision,
        rows_per_shard=rows_per_shard,
        token_budget=token_budget,
        parts=part[1] if part else 1,
    )


def _report(run: OpenPart, folder: str, seconds: float, notes: list[str]) -> EmbedReport:
    counts = run.counts
    real, padded = counts["real tokens"], counts["padded tokens"]
    return EmbedReport(
        folder=folder,
        numbers=(run.number,),
        parts=run.plan.parts,
        items=items_of(run.plan.space),
        captions=counts["captions"],
        distinct=run.distinct,
        stored=counts["stored"],
        embedded=counts["embedded"],
        truncated=counts["truncated"],
        rows=run.rows,
        links=counts["links"],
        padding=1 - real / padded if padded else None,
        fidelity=run.fidelity(),
        precision=run.plan.precision,
        threads=run.plan.threads,
        device=run.encoder.device,
        seconds=seconds,
        captions_per_second=counts["embedded"] / seconds,
        left_out=run.left_out,
        notes=tuple(notes),
    )


def _again(captions: Iterable[str | Linked]) -> Iterator[Linked]:
    if iter(captions) is captions:
        raise ConfigError(
            "Captions with images are read twice, and these can be read only once; give a list, or "
            "an object whose __iter__ begins again. The rows are stored."
        )
    return _cleaned(captions)


def _cleaned(captions: Iterable[str | Linked]) -> Iterator[Linked]:
    """Yield cleaned captions, counting from 1 to name the one that is none."""
    previous = None
    for number, item in enumerate(captions, 1):
        linked = item if isinstance(item, Linked) else Linked(item)
        text = clean(linked.text) if isinstance(linked.text, str) else ""
        if not text:
            raise DataError(_no_caption(number, linked.text, previous))
        _require_storable(linked, number)
        previous = linked.text
        if linked.parent:
            linked = linked._replace(parent=clean(linked.parent))
        # Most texts are clean already: every part of a large cache goes through all of them.
        yield linked if text == linked.text else linked._replace(text=text)


def _no_caption(number: int, text: object, previous: str | None) -> str:
    after = f" (after {previous!r})" if previous is not None else ""
    what = f"is empty: {text!r}" if isinstance(text, str) else f"is not text but {text!r}"
    return f"Caption {number}{after} {what}; remove or mend it."


def _require_storable(item: Linked, number: int) -> None:
    """Refuse what could not be stored beside a row, before hours of work are done."""
    for name, value in zip(_WORDS, (item.key, item.role, item.source, item.language), strict=True):
        if isinstance(value, str) and (value.isascii() or _is_unicode(value)):
            continue
        why = "is not valid Unicode" if isinstance(value, str) else "is not text"
        raise DataError(f"The {name} of caption {number} {why}: {value!r}; mend or rename it.")
    if not 0 <= item.weight < float("inf"):
        raise DataError(
            f"The weight of caption {number} ({item.text!r}) is {item.weight}; it has to be a "
            "finite number, 0 or more."
        )


_WORDS = ("key", "role", "source", "language")


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
