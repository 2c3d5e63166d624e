"""The figures of cards as lines of words, each with what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lift.terms import Metric
from lift.text.edits import Distances, Kind
from lift.text.figures import Card

_WIDEST = 44
_ENOUGH = 5
"""Captions a dimension below which ranks are the sample's: white noise has 0.9 of its rank there.
"""


@dataclass(frozen=True)
class Line:
    """One figure of a card.

    Attributes:
        section: where it stands.
        name: what it is called.
        says: what it means, in a sentence.
        value: in words and figures.
    """

    section: str
    name: str
    says: str
    value: str


SECTIONS = {
    "spread": "Spread",
    "neighbours": "Neighbours",
    "tokens": "Length",
    "edits": "Edits and paraphrases",
    "cost": "Cost",
    "identity": "Identity",
}


def lines_of(card: Card) -> list[Line]:
    """Return the figures as lines; two cards give lines of the same names in the same order."""
    found: list[Line] = []
    for section, rows in (
        ("spread", _spread(card)),
        ("neighbours", _neighbours(card)),
        ("tokens", _tokens(card)),
        ("edits", _edits(card)),
        ("cost", _cost(card)),
        ("identity", _identity(card)),
    ):
        found += [Line(section, *row) for row in rows]
    return found


def as_table(cards: Sequence[Card]) -> str:
    """Return the figures of cards side by side as aligned text, and below it what to know."""
    columns = [lines_of(card) for card in cards]
    names = dict.fromkeys((line.section, line.name) for column in columns for line in column)
    values = [{(line.section, line.name): line.value for line in column} for column in columns]
    titles = headings(cards)
    rows = [("", *titles)]
    for section, title in SECTIONS.items():
        mine = [key for key in names if key[0] == section]
        rows += [(title,)] if mine else []
        rows += [(f"  {k[1]}", *(_cut(column.get(k, "-")) for column in values)) for k in mine]
    wide = [max(len(row[i]) for row in rows if len(row) > i) for i in range(len(cards) + 1)]
    text = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, wide, strict=False)).rstrip()
        for row in rows
    ]
    for title, card in zip(titles, cards, strict=True):
        text += [f"{title}: {note}" for note in notes_of(card)]
    return "\n".join(text)


def headings(cards: Sequence[Card]) -> list[str]:
    """Return the cards' names; those of one name are told apart by the options that differ."""
    found = []
    for card in cards:
        rivals = [other for other in cards if other.name == card.name]
        differ = [
            f"{name}={value}"
            for name, value in card.part.options.items()
            if any(other.part.options.get(name) != value for other in rivals)
        ]
        found.append(f"{card.name} ({', '.join(differ)})" if differ else card.name)
    return found


def _cut(value: str) -> str:
    """Return a value short enough for a column; the page and the JSON have it whole."""
    return value if len(value) <= _WIDEST else f"{value[: _WIDEST - 1]}…"


def notes_of(card: Card) -> list[str]:
    """Return what a reader has to know before the figures, in sentences."""
    notes = []
    flattered = [name for name in card.pairs_made_of if name in card.saw]
    if card.saw:
        notes.append(
            f"Its training saw the captions of {' and '.join(card.saw)}: results on those "
            "benchmarks, and on others made of their captions, are not zero-shot on the text side."
        )
    if flattered:
        notes.append(f"The edits here were made of captions of {' and '.join(flattered)}.")
    if card.tokens.truncated:
        notes.append(
            f"{card.tokens.truncated:,} of {card.captions:,} captions are longer than "
            f"{card.space.max_tokens:,} tokens and were cut."
        )
    if card.neighbours.collisions:
        notes.append(
            f"{card.neighbours.collisions:,} of {card.captions:,} distinct captions have the row "
            "of another one: nothing can tell them apart."
        )
    if card.sensitivity and card.sensitivity.all.blind:
        edits = card.sensitivity.all
        notes.append(
            f"{edits.blind:,} of {edits.bound.count:,} edits have the very row of their caption: "
            "no image tower can tell them apart."
        )
    if card.lacking:
        notes.append(f"{_lacking(card.lacking)}: these are stored rows, which embed no new text.")
    if card.captions <= card.spread.dimensions:
        notes.append(
            f"{card.captions:,} captions can't fill {card.spread.dimensions:,} dimensions: the "
            "ranks say more about the sample than about the encoder."
        )
    elif card.captions < _ENOUGH * card.spread.dimensions:
        notes.append(
            f"{card.captions:,} captions are few for {card.spread.dimensions:,} dimensions: the "
            "ranks are the sample's and would grow with more captions; compare them on this page "
            "only."
        )
    return notes


def _lacking(lacking: Mapping[str, int]) -> str:
    """Return what was left out of a card for want of stored rows."""
    return f"Left out, without a stored row: {', '.join(f'{w}: {n:,}' for w, n in lacking.items())}"


def interval(metric: Metric) -> str:
    """Return a share with its interval: 0.931 (0.90 to 0.95) -> "93.1% (90.0 to 95.0)"."""
    return f"{metric.value:.1%} ({100 * metric.low:.1f} to {100 * metric.high:.1f})"


def _spread(card: Card) -> list[tuple[str, str, str]]:
    found = card.spread
    width = f"{found.dimensions:,}"
    return [
        (
            "cosine of two captions",
            "Mean over all pairs, with its standard deviation. Near 0 the captions are spread "
            "over the whole sphere, near 1 they crowd in one place.",
            f"{found.mean_cosine:.3f} ± {found.cosine_deviation:.3f}",
        ),
        (
            "length of the mean row",
            "0 if the rows cancel each other, 1 if all are the same: what every caption shares.",
            f"{found.mean_norm:.3f}",
        ),
        (
            "partition ratio",
            "Smallest over largest sum of exp(cosine) in any main direction: 1 is the same all "
            "round, 0.135 is everything at one point.",
            f"{found.partition_ratio:.3f}",
        ),
        (
            "effective rank",
            "Dimensions in use, by the entropy of the spectrum. Of the rows as they are.",
            f"{found.effective_rank:,.1f} of {width}",
        ),
        (
            "effective rank, centred",
            "The same without the mean row, which tells no captions apart.",
            f"{found.centred_rank:,.1f} of {width}",
        ),
        (
            "participation ratio",
            "Dimensions in use, by the squares of the spectrum: large directions weigh more.",
            f"{found.participation:,.1f} of {width}",
        ),
        (
            "participation ratio, centred",
            "The same without the mean row.",
            f"{found.centred_participation:,.1f} of {width}",
        ),
    ]


def _neighbours(card: Card) -> list[tuple[str, str, str]]:
    found = card.neighbours
    rows = [
        (
            "cosine with the nearest caption",
            "Median. The nearer, the finer an image tower has to aim.",
            f"{found.median:.3f}",
        ),
        (
            "nearest above 0.95",
            "Captions with another one closer than that.",
            f"{found.over_95:.2%}",
        ),
        ("nearest above 0.99", "Captions that hardly differ from another.", f"{found.over_99:.2%}"),
        (
            "same row as another",
            "Distinct captions that the encoder can't tell apart at all.",
            f"{found.collisions:,}",
        ),
    ]
    for prefix in card.prefixes:
        rows.append(
            (
                f"10 nearest kept by {prefix.width:,} values",
                "How many of the ten nearest captions stay if rows are cut to their first "
                f"values; {'trained' if card.matryoshka else 'not known to be trained'} for it.",
                f"{prefix.agreement:.1%}",
            )
        )
    return rows


def _tokens(card: Card) -> list[tuple[str, str, str]]:
    found = card.tokens
    if not found.known:
        return [("tokens", "This encoder does not tell how long a caption is.", "not known")]
    return [
        ("median tokens", "Prompt and special tokens included.", f"{found.median:,.0f}"),
        ("99th percentile", "One caption in a hundred is longer.", f"{found.p99:,.0f}"),
        ("longest", "Before any cut.", f"{found.longest:,}"),
        (
            "cut captions",
            "Share longer than the encoder reads; what comes after the cap is lost.",
            f"{found.truncated / card.captions:.2%} at {card.space.max_tokens:,}",
        ),
    ]


def _edits(card: Card) -> list[tuple[str, str, str]]:
    found = card.sensitivity
    if found is None:
        return []
    rows = [
        (
            "distance of an edit",
            "Median |p - n|. No image tower can prefer the caption to its edit by more than that "
            "in cosine.",
            f"{found.all.bound.median:.3f}",
        )
    ]
    for name, says, apart in (
        (
            "distance of a paraphrase",
            "Median, of a caption and another text that means the same: somebody else's caption "
            "of the photo, or a paraphrase from the files.",
            found.paraphrases,
        ),
        (
            "distance of unrelated captions",
            "Median, of captions of different photos, or with different meanings where no photo is "
            "named.",
            found.unrelated,
        ),
    ):
        rows.append((name, says, _median(apart)))
    if found.all.nearer and found.all.auc:
        rows += [
            (
                "edits nearer than the paraphrase",
                "Share of edits that lie nearer to their caption than its paraphrase does.",
                interval(found.all.nearer),
            ),
            (
                "edit from paraphrase by distance",
                "Chance that an edit lies further away than a paraphrase (area under the curve): "
                "50% is chance, below it edits pass for the same meaning.",
                interval(found.all.auc),
            ),
        ]
    for kind in found.kinds:
        rows.append((f"distance, {words(kind)}", "Median of this kind.", _median(kind.bound)))
    return rows


def words(kind: Kind) -> str:
    """Return a kind's name for people: "swap_att" -> "swap att"."""
    return kind.name.replace("_", " ")


def _median(found: Distances | None) -> str:
    return "none" if found is None else f"{found.median:.3f}"


def _cost(card: Card) -> list[tuple[str, str, str]]:
    speed = card.speed
    rows = [
        (
            "captions a second",
            f"Of this sample, here, in float32; on the CPU with {speed.threads} thread(s).",
            f"{speed.captions_per_second:,.0f} on {speed.device}",
        )
    ]
    if speed.tokens_per_second:
        rows.append(
            ("tokens a second", "After cuts, padding apart.", f"{speed.tokens_per_second:,.0f}")
        )
    for codec, size in card.storage.items():
        rows.append(
            (
                f"{codec} row",
                "Bytes of one row's values; a million captions take as many MB.",
                f"{size:,} bytes",
            )
        )
    return rows


def _identity(card: Card) -> list[tuple[str, str, str]]:
    space = card.space
    saw = ", ".join(card.saw) or "none known"
    trained = "yes" if card.matryoshka else "not known"
    return [
        ("model", "", space.model),
        ("revision", "", space.revision),
        ("fingerprint", "Equal fingerprints, comparable rows.", space.fingerprint),
        ("encoder", "", f"{card.part.name} ({space.encoder})"),
        ("pooling", "How token vectors become one row.", space.pooling),
        ("prompt", "Put before every caption.", space.prompt or "none"),
        ("token cap", "", f"{space.max_tokens:,}"),
        ("dimensions", "", f"{space.dimensions:,}"),
        (
            "unit length",
            "Of its own rows; all figures here are of unit rows.",
            _yes(space.normalised),
        ),
        ("prefixes trained for", "Matryoshka: first values of a row are a row.", trained),
        ("captions seen in training", "Of which benchmarks; no entry is no proof.", saw),
        (
            "licence",
            "As the README beside the model names it, where that is on this disk.",
            card.licence or "not stated",
        ),
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"
