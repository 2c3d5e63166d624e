"""Write card.html: one file that shows text encoders side by side, and its figures as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift import plugins
from lift.config import to_dict
from lift.errors import ConfigError
from lift.files import write_text
from lift.pages.bars import Bar, columns_of, not_drawn
from lift.pages.card_charts import charts_of
from lift.pages.templates import template
from lift.pages.words import count, plain, share
from lift.terms import Metric
from lift.text.edits import Distances, Kind
from lift.text.figures import Card
from lift.text.lines import SECTIONS, headings, lines_of, notes_of, words

FORMAT = "lift.card/1"

INTROS = {
    "spread": "How the captions fill the sphere. All rows are scaled to unit length first. Ranks "
    "grow with the number of captions, so compare them within a page only.",
    "neighbours": "How near the nearest other caption is, among distinct captions. What text can't "
    "tell apart, no image tower will.",
    "tokens": "Tokens of whole captions, special tokens and prompt included, before any cut.",
    "edits": "An edit changes what a caption says; a paraphrase does not. The distance of caption "
    "and edit is the largest margin by which any image tower in this space, however it is "
    "trained, can prefer the one to the other.",
    "cost": "Speed is one timed pass over the captions of this page; sizes are a row's values "
    "alone.",
    "identity": "What has to be equal for two vectors to be comparable, and what is known of the "
    "model.",
}
_DISTANCE = 1.5
"""Right end of the bars: unrelated captions lie at about 1.41, and hardly any pair further."""


@dataclass(frozen=True)
class Row:
    """One figure of every encoder, in the order of the columns."""

    name: str
    says: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class KindRow:
    """The edits of one kind, or the paraphrases, ready to print."""

    name: str
    pairs: str
    bar: Bar
    median: str
    mean: str
    nearer: str
    auc: str
    primary: bool = False


def write_card(cards: Sequence[Card], out: str | Path) -> Path:
    """Write the page of one or more encoders, and beside it `NAME.json` with every figure.

    The page is one file: no script, no font, no request; the same cards give the same bytes.

    Args:
        cards: what `lift.text.card.card` returned, for the same captions.
        out: the page's file; the JSON has its name with the ending `.json`.

    Returns:
        The page's path.

    Raises:
        ConfigError: no card, or `out` ends in `.json` itself.
        MissingPackage: jinja2 or matplotlib is not installed.
        StorageError: the page can't be written.
    """
    for package in ("jinja2", "matplotlib"):
        plugins.require(package, "plots", "The card")
    path = Path(out)
    if not cards or path.suffix == ".json":
        raise ConfigError(f"{path} can't be the page of {len(cards)} card(s); give NAME.html.")
    write_text(path.with_suffix(".json"), to_json(cards))
    write_text(path, render(cards))
    return path


def to_json(cards: Sequence[Card]) -> str:
    """Return every figure of the cards as JSON."""
    found = [
        {"heading": title, "fingerprint": card.space.fingerprint, **to_dict(card)}
        for title, card in zip(headings(cards), cards, strict=True)
    ]
    values = {"format": FORMAT, "cards": found}
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def render(cards: Sequence[Card]) -> str:
    """Return the page's HTML. Every text of captions and models is escaped."""
    from markupsafe import Markup

    from lift.pages.charts import draw

    columns = columns_of(headings(cards), alone="")
    rows = _rows(cards)
    return template("card.html").render(
        title=columns[0].heading if len(cards) == 1 else f"{len(cards)} text encoders",
        lede=_lede(cards),
        columns=columns,
        tiles=[_tile(card) for card in cards],
        facts=_facts(cards[0]),
        notes=[(column, notes_of(card)) for column, card in zip(columns, cards, strict=True)],
        sections=[(name, SECTIONS[name], INTROS[name], rows[name]) for name in rows],
        charts={
            name: [(chart, Markup(draw(chart))) for chart in charts]
            for name, charts in charts_of(cards).items()
        },
        undrawn=not_drawn(len(cards), "encoders"),
        closest=[card.neighbours.closest for card in cards],
        kinds=list(zip(columns, map(_kinds, cards), strict=True)),
        scale=f"{_DISTANCE:g}",
    )


def _rows(cards: Sequence[Card]) -> dict[str, list[Row]]:
    """Return the figures of all cards by section; a figure that one lacks is a dash there."""
    tables = [{(n.section, n.name): n for n in lines_of(card)} for card in cards]
    rows: dict[str, list[Row]] = {section: [] for section in SECTIONS}
    known = {key: line for table in reversed(tables) for key, line in table.items()}
    for key in dict.fromkeys(key for table in tables for key in table):
        values = tuple(table[key].value if key in table else "–" for table in tables)
        rows[key[0]].append(Row(key[1], known[key].says, values))
    return {section: found for section, found in rows.items() if found}


def _kinds(card: Card) -> list[KindRow]:
    """Return the rows of one encoder's table of edits: all, each kind, paraphrases, unrelated."""
    found = card.sensitivity
    if found is None:
        return []
    mark = found.paraphrases.median if found.paraphrases else None
    rows = [_kind(kind, mark) for kind in (found.all, *found.kinds)]
    for name, apart in (("paraphrases", found.paraphrases), ("unrelated", found.unrelated)):
        if apart is not None:
            rows.append(_kind_row(name, apart, mark))
    return rows


def _kind(kind: Kind, mark: float | None) -> KindRow:
    name = "all edits" if kind.name == "all" else words(kind)
    return _kind_row(name, kind.bound, mark, kind.nearer, kind.auc)


def _kind_row(
    name: str,
    found: Distances,
    mark: float | None,
    nearer: Metric | None = None,
    auc: Metric | None = None,
) -> KindRow:
    return KindRow(
        name=name,
        pairs=f"{found.count:,}",
        bar=bar_of(found, mark),
        median=f"{found.median:.3f}",
        mean=f"{found.mean.value:.3f} ({found.mean.low:.3f} to {found.mean.high:.3f})",
        nearer=_shares(nearer),
        auc=_shares(auc),
        primary=name == "all edits",
    )


def bar_of(found: Distances, mark: float | None) -> Bar:
    """Return the bar of some distances: middle half as band, median as dot, paraphrases dotted."""
    low, high, at = (_percent(found.quantiles[i]) for i in (1, 3, 2))
    return Bar(at, low, high, None if mark is None else _percent(mark))


def _percent(distance: float) -> float:
    return round(100 * min(distance, _DISTANCE) / _DISTANCE, 2)


def _shares(metric: Metric | None) -> str:
    if metric is None:
        return "–"
    return f"{share(metric.value)} ({100 * metric.low:.1f} to {100 * metric.high:.1f})"


def _tile(card: Card) -> dict[str, Any]:
    """Return the figure above the fold: the median distance of an edit, else of a neighbour."""
    found = card.sensitivity
    below = [
        f"{card.spread.centred_rank:,.0f} of {card.spread.dimensions:,} dimensions in use, "
        f"{plain(round(card.speed.captions_per_second))} captions a second"
    ]
    if found is None:
        value = f"{card.neighbours.median:.2f}"
        return {"what": "cosine with the nearest other caption", "big": value, "below": below}
    quarter, three = found.all.bound.quantiles[1], found.all.bound.quantiles[3]
    about = f"Half of the edits lie between {quarter:.2f} and {three:.2f}"
    mark = found.paraphrases.median if found.paraphrases else None
    about += f"; a paraphrase (dotted) at {mark:.2f}." if mark is not None else "."
    return {
        "what": "how far an edit moves the row (median): no tower can have a larger margin for it",
        "big": f"{found.all.bound.median:.2f}",
        "bar": bar_of(found.all.bound, mark),
        "below": [about, *below],
    }


def _lede(cards: Sequence[Card]) -> str:
    first = cards[0]
    what = "this encoder does" if len(cards) == 1 else "these encoders do"
    words = f"What {what} with {count(first.captions)} captions, before anything is trained."
    if first.sensitivity:
        words = words[:-1] + f", and with {count(first.sensitivity.all.bound.count)} edits of some."
    return words


def _facts(card: Card) -> list[tuple[str, str]]:
    """Return (name, value) of what the figures were taken on; it is the same for all cards."""
    chosen = "all distinct ones" if card.whole else "chosen by hash"
    facts = [
        ("Captions", f"{card.captions:,}, {chosen}"),
        ("Captions read", f"{card.read:,}"),
        ("Empty captions", f"{card.empty:,}" if card.empty else ""),
        ("Edits", f"{card.sensitivity.all.bound.count:,}" if card.sensitivity else "none"),
        ("With a paraphrase", f"{card.sensitivity.all.compared:,}" if card.sensitivity else ""),
        ("Edits from", card.pairs),
        *((f"Left out: {why}", f"{number:,}") for why, number in card.pairs_left_out.items()),
    ]
    return [fact for fact in facts if fact[1]]
