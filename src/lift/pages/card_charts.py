"""The charts of a card: spectra, neighbours, lengths, distances, one line for each encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lift.pages.bars import Column, columns_of
from lift.pages.charts import SERIES, Chart, Line
from lift.text.figures import Card
from lift.text.lines import headings

_SPECTRUM_POINTS = 300
_PERCENT = tuple(range(101))


def charts_of(cards: Sequence[Card]) -> dict[str, list[Chart]]:
    """Return the charts of each section; of more encoders than colours, the first ones."""
    drawn = list(zip(columns_of(headings(cards), alone=""), cards, strict=True))[: len(SERIES)]
    spectra = [
        ("as they are", [(c.letter, card.spread.spectrum) for c, card in drawn]),
        ("centred", [(c.letter, card.spread.centred_spectrum) for c, card in drawn]),
    ]
    if len(drawn) == 1:
        spectra = [("", [(name, lines[0][1]) for name, lines in spectra])]
    charts = {
        "spread": [_spectrum(i, name, lines) for i, (name, lines) in enumerate(spectra)],
        "neighbours": [
            Chart(
                slug="nearest",
                title="Nearest other caption",
                unit="cosine",
                about="Captions in the order of their cosine with the nearest other one.",
                lines=tuple(Line(_PERCENT, d.neighbours.curve, c.letter) for c, d in drawn),
                across="share of captions, %",
            )
        ],
        "tokens": [
            Chart(
                slug="tokens",
                title="Length",
                unit="tokens",
                about="Captions in the order of their length in tokens.",
                lines=tuple(
                    Line(_PERCENT, d.tokens.curve, c.letter) for c, d in drawn if d.tokens.known
                ),
                zero=True,
                across="share of captions, %",
            )
        ],
        "edits": [_distances(c, d) for c, d in drawn if d.sensitivity],
    }
    return {name: [chart for chart in found if chart.lines] for name, found in charts.items()}


def _spectrum(number: int, name: str, lines: Sequence[tuple[str, Sequence[float]]]) -> Chart:
    drawn = []
    for label, values in lines:
        level = np.asarray(values)
        level = level[level > 1e-6 * level.max(initial=0.0)]
        at = np.unique(np.linspace(0, len(level) - 1, _SPECTRUM_POINTS).round().astype(np.int64))
        if len(level):
            drawn.append(Line((at + 1).tolist(), level[at].tolist(), label))
    return Chart(
        slug=f"spectrum-{number}",
        title=f"Spectrum of the rows {name}".strip(),
        unit="singular value / √captions",
        about="The flatter, the more directions are in use. Logarithmic.",
        lines=tuple(drawn),
        log=True,
        across="direction, strongest first",
    )


def _distances(column: Column, card: Card) -> Chart:
    assert card.sensitivity is not None
    found = card.sensitivity
    named = (
        ("edits", found.all.bound),
        ("paraphrases", found.paraphrases),
        ("unrelated", found.unrelated),
    )
    return Chart(
        slug=f"distances-{column.letter or 'A'}",
        title=f"Distances, {column.letter}" if column.letter else "Distances",
        unit="distance from the caption",
        about="Edits, paraphrases and unrelated captions in the order of their distance. Where "
        "edits run below paraphrases, a changed meaning counts for less than other words.",
        lines=tuple(Line(_PERCENT, d.curve, name) for name, d in named if d is not None),
        zero=True,
        across="share of pairs, %",
    )
