"""Draw small charts as inline SVG whose colours and fonts are the page's own."""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 372, 226
"""Size of a chart in points: one column of the page, so that text keeps its size on a phone."""

MOST_POINTS = 600
"""Longer series are drawn as means of equal groups of points; the caption then says so."""

# Colours that stand for CSS variables: matplotlib wants numbers, the page decides (light or dark).
_VARIABLES = {
    "#010101": "--ink",
    "#020202": "--muted",
    "#030303": "--line",
    "#040404": "--paper",
    "#050505": "--c1",
    "#060606": "--c2",
    "#070707": "--c3",
    "#080808": "--c4",
}
_INK, _MUTED, _LINE, _PAPER, *SERIES = _VARIABLES
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.parse_math": False,
    "text.color": _INK,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": _LINE,
    "grid.linewidth": 1.0,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
    "path.simplify": True,
}


@dataclass(frozen=True)
class Line:
    """One series: y over x, with an optional band and a name at its right end."""

    x: Sequence[float]
    y: Sequence[float]
    name: str = ""
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    marks: bool = False


@dataclass(frozen=True)
class Mark:
    """A dashed level that gives the curve a scale ("guessing", "chance")."""

    y: float
    name: str


@dataclass(frozen=True)
class Chart:
    """What one small chart shows.

    Attributes:
        slug: unique on the page; prefixes the ids inside the SVG.
        title: the heading above the chart.
        unit: label of the vertical axis.
        about: one sentence for the caption; also read out in place of the picture.
        smooth: draw the raw values faintly under a running mean.
        stops: steps at which the run was resumed.
        across: label of the horizontal axis, whose ticks are whole numbers.
    """

    slug: str
    title: str
    unit: str
    about: str
    lines: tuple[Line, ...]
    marks: tuple[Mark, ...] = ()
    smooth: bool = False
    percent: bool = False
    zero: bool = False
    log: bool = False
    stops: tuple[int, ...] = ()
    across: str = "optimiser step"


def draw(chart: Chart) -> str:
    """Return the chart as an `<svg>` element; the same chart gives the same text.

    Changes nothing in matplotlib's global state. Text stays text, set by the page's own font.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    style: Any = {**_STYLE, "svg.hashsalt": chart.slug}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        axes = figure.add_axes((52 / WIDTH, 40 / HEIGHT, 1 - 64 / WIDTH, 1 - 54 / HEIGHT))
        axes.patch.set_visible(False)
        named = _draw_lines(axes, chart)
        _dress(axes, chart)
        _draw_marks(axes, chart)
        if len(named) > 1:
            _name_ends(axes, named)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    return _inline(buffer.getvalue(), chart)


def thin(values: Sequence[float], group: int) -> list[float]:
    """Return means of `group` neighbours in order; the last group may be shorter."""
    return [
        sum(values[i : i + group]) / len(values[i : i + group])
        for i in range(0, len(values), group)
    ]


def group_of(points: int) -> int:
    """Return how many neighbouring points are drawn as one."""
    return max(1, math.ceil(points / MOST_POINTS))


def smoothed(values: Sequence[float]) -> list[float]:
    """Return a centred running mean over a twenty-fifth of the series, ends included."""
    half = max(1, len(values) // 50)
    finite = [v if math.isfinite(v) else None for v in values]
    means = []
    for i in range(len(values)):
        reach = min(half, i, len(values) - 1 - i)
        window = [v for v in finite[i - reach : i + reach + 1] if v is not None]
        means.append(sum(window) / len(window) if window else math.nan)
    return means


def _draw_lines(axes: Any, chart: Chart) -> list[tuple[float, float, str, str]]:
    """Draw every series; return (x, y, name, colour) of the right ends."""
    ends = []
    for line, colour in zip(chart.lines, SERIES, strict=False):
        group = group_of(len(line.x))
        x, y = thin(line.x, group), thin(line.y, group)
        if line.low and line.high:
            axes.fill_between(
                x, thin(line.low, group), thin(line.high, group), color=colour, alpha=0.16, lw=0
            )
        if chart.smooth and len(y) > 20:
            axes.plot(x, y, color=colour, alpha=0.28, lw=1.0)
            y = smoothed(y)
        style = {"marker": "o", "ms": 5, "mec": _PAPER, "mew": 1.2} if line.marks else {}
        if len(x) == 1:
            style = {"marker": "o", "ms": 6}
        axes.plot(x, y, color=colour, clip_on=False, **style)
        if line.name and math.isfinite(y[-1]):
            ends.append((x[-1], y[-1], line.name, colour))
    return ends


def _dress(axes: Any, chart: Chart) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if chart.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=5))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4, min_n_ticks=3))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: short(v)))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda v, _: f"{100 * v:g}%" if chart.percent else short(v))
    )
    _, high = axes.get_ylim()
    if chart.zero and not chart.log:
        axes.set_ylim(0, max(high, 1e-9))
    axes.margins(x=0.01)
    axes.set_xlabel(chart.across, labelpad=6)
    axes.set_title(chart.unit, loc="left", x=-40 / (WIDTH - 64), fontsize=11, color=_MUTED, pad=7)
    for step in chart.stops:
        axes.axvline(step, color=_MUTED, lw=1, ls=(0, (1, 2.5)))


def _draw_marks(axes: Any, chart: Chart) -> None:
    for mark in chart.marks:
        low, high = axes.get_ylim()
        axes.axhline(mark.y, color=_MUTED, lw=1.2, ls=(0, (4, 3)))
        if mark.y > high:
            axes.set_ylim(low, mark.y + 0.12 * (mark.y - low))
        elif mark.y < low:
            axes.set_ylim(mark.y - 0.06 * (high - mark.y), high)
        low, high = axes.get_ylim()
        above = (mark.y - low) / (high - low) < 0.85
        axes.annotate(
            mark.name,
            (1.0, mark.y),
            xycoords=("axes fraction", "data"),
            xytext=(0, 4 if above else -4),
            textcoords="offset points",
            ha="right",
            va="bottom" if above else "top",
            color=_MUTED,
        )


def _name_ends(axes: Any, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write each name at the end of its line, pushed apart so that none overlap."""
    room = 13 / axes.get_position().height / HEIGHT
    places = []
    for _x, y, name, colour in sorted(ends, key=lambda end: end[1]):
        height = axes.transAxes.inverted().transform(axes.transData.transform((0, y)))[1]
        places.append([height, name, colour])
    for before, after in itertools.pairwise(places):
        after[0] = max(after[0], before[0] + room)
    over = max(0.0, places[-1][0] - 1.0)
    longest = max(len(name) for _, name, _ in places)
    box = axes.get_position()
    axes.set_position((box.x0, box.y0, box.width - 6.2 * longest / WIDTH, box.height))
    for height, name, colour in places:
        axes.annotate(
            name,
            (1.0, height - over),
            xycoords="axes fraction",
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            annotation_clip=False,
        )


def short(value: float) -> str:
    """Return a number as a short label: 1500 -> "1.5k", 0.001 -> "0.001", 2e-05 -> "2e-5"."""
    size = abs(value)
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= limit:
            return f"{value / limit:.3g}{letter}"
    if 0 < size < 1e-3:
        digits, power = f"{value:.1e}".split("e")
        return f"{digits.removesuffix('.0')}e{int(power)}"
    return f"{value:.4g}"


def _inline(svg: str, chart: Chart) -> str:
    """Turn matplotlib's document into an element: own ids, page colours, no outside names."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    svg = re.sub(r"<svg[^>]*>", _opening(chart), svg, count=1)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{chart.slug}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{chart.slug}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{chart.slug}-\1"', svg)
    for junk in (r"<defs>\s*<style.*?</style>\s*</defs>", r"font-family: [^;]+; ", r"<g/>"):
        svg = re.sub(junk, "", svg, flags=re.S)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r"\n\s*", "\n", svg).strip()


def _opening(chart: Chart) -> str:
    from xml.sax.saxutils import quoteattr

    label = quoteattr(f"{chart.title}. {chart.about}").replace("\\", "\\\\")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label={label}>'
