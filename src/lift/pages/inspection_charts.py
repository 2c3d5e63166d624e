"""The charts of an inspection: how long captions are, how large images and files."""

from __future__ import annotations

from lift.curation.findings import Inspection
from lift.curation.spread import Bars, Spread
from lift.pages.charts import Chart, Line


def charts_of(found: Inspection) -> dict[str, list[Chart]]:
    """Return the charts of each section; a figure that never changes is not drawn."""
    texts, images = found.texts, found.images
    charts = {
        "captions": [
            _chart("words", "Words", "words of a caption", "captions", texts.words),
            _chart(
                "characters", "Characters", "characters of a caption", "captions", texts.characters
            ),
            _chart("captions-of", "Captions of a sample", "captions", "samples", texts.of_an_image),
        ],
        "images": [
            _chart("shorter", "Shorter side", "pixels", "images", images.shorter),
            _chart("width", "Width", "pixels", "images", images.width),
            _chart("bytes", "File size", "bytes", "images", images.file_bytes),
        ],
    }
    return {name: [c for c in some if c is not None] for name, some in charts.items()}


def _chart(slug: str, title: str, across: str, what: str, spread: Spread) -> Chart | None:
    if spread.least == spread.most:
        return None
    bars = spread.bars
    about = f"How many {what} there are of each size."
    if bars.beyond:
        about += f" {bars.beyond:,} of {spread.count:,} lie further right."
    return Chart(
        slug=slug,
        title=title,
        unit=what,
        about=about,
        lines=(_outline(bars),),
        zero=True,
        across=across,
    )


def _outline(bars: Bars) -> Line:
    """Return the outline of the bars, from the axis and back to it."""
    x: list[float] = []
    y: list[float] = []
    for left, right, count in zip(bars.edges, bars.edges[1:], bars.counts, strict=False):
        x += [left, right]
        y += [count, count]
    return Line([x[0], *x, x[-1]], [0.0, *y, 0.0])
