"""Write inspect.html: one file that shows what is in some pairs, and its figures as JSON."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift import plugins
from lift.config import to_dict
from lift.curation.advice import (
    SECTIONS,
    Figure,
    commands_of,
    counted,
    figures_of,
    share,
    size,
    warnings_of,
)
from lift.curation.findings import Inspection, Shown
from lift.errors import ConfigError
from lift.files import write_text
from lift.pages.inspection_charts import charts_of
from lift.pages.templates import template
from lift.pages.words import count

FORMAT = "lift.inspection/1"

INTROS = {
    "captions": "Every caption was read. Duplicates are equal to an earlier one, after Unicode "
    "normalisation and without white space at the ends.",
    "images": "Sizes are those of the pictures the right way up. Files were read and decoded.",
    "left-out": "Items that are no samples, samples without a usable caption, and, of the images "
    "that were looked at, those that can't be read. Training leaves out the same ones.",
    "costs": "Estimates from the images that were looked at.",
}
_MOST_CHARACTERS = 600


@dataclass(frozen=True)
class Card:
    """One sample, ready to print; pictures are data URIs."""

    key: str
    captions: tuple[tuple[str, str], ...]
    more: int
    picture: str
    views: tuple[tuple[str, str], ...]


def require_plots() -> None:
    """Raise MissingPackage where the page could not be written; to be told before the work."""
    for package in ("jinja2", "matplotlib"):
        plugins.require(package, "plots", "The page of an inspection")


def write_inspection(found: Inspection, out: str | Path) -> Path:
    """Write the page, and beside it `NAME.json` with every figure.

    The page is one file: no script, no font, no request; the same inspection gives the same bytes.

    Returns:
        The page's path.

    Raises:
        ConfigError: `out` ends in `.json` itself.
        MissingPackage: jinja2 or matplotlib is not installed.
        StorageError: the page can't be written.
    """
    require_plots()
    path = require_page(out)
    write_text(path.with_suffix(".json"), to_json(found))
    write_text(path, render(found))
    return path


def require_page(out: str | Path) -> Path:
    """Return the page's path. Raises ConfigError for the name of its JSON file."""
    path = Path(out)
    if path.suffix == ".json" or not path.name:
        raise ConfigError(f"{path} can't be the page of an inspection; give NAME.html.")
    return path


def to_json(found: Inspection) -> str:
    """Return every figure as JSON; of the samples that are shown, their keys."""
    values = {name: to_dict(value) for name, value in vars(found).items() if name != "shown"}
    values = {
        "format": FORMAT,
        **values,
        "shown": [shown.key for shown in found.shown],
        "warnings": warnings_of(found),
        "commands": commands_of(found),
    }
    return json.dumps(values, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def render(found: Inspection) -> str:
    """Return the page's HTML. Every text of keys, captions and files is escaped."""
    from markupsafe import Markup

    from lift.pages.charts import draw

    figures = figures_of(found)
    sections = [
        (name, title, INTROS[name], [_row(f) for f in figures if f.section == name])
        for name, title in SECTIONS.items()
    ]
    page = template("inspect.html").render(
        title=_printable(found.name),
        lede=_lede(found),
        tiles=_tiles(found),
        notes=[Markup(_with_code(words)) for words in warnings_of(found)],
        facts=_facts(found),
        commands=[_printable(command) for command in commands_of(found)],
        sections=[section for section in sections if section[3]],
        charts={
            name: [(chart, Markup(draw(chart))) for chart in charts]
            for name, charts in charts_of(found).items()
        },
        cards=[_card(shown) for shown in found.shown],
        resolution=found.resolution,
    )
    return page


def _row(figure: Figure) -> Figure:
    return figure._replace(
        name=_printable(figure.name),
        value=_printable(figure.value),
        says=_printable(figure.says),
    )


def _printable(text: str) -> str:
    """Return text that UTF-8 can spell: a tar's names may hold any byte."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _with_code(text: str) -> str:
    """Return a sentence as HTML: what stands between backticks is code, all else is escaped."""
    from markupsafe import escape

    return re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(_printable(text))))


def _lede(found: Inspection) -> str:
    images = found.images
    words = f"{count(found.samples)} samples with {count(found.texts.captions)} captions"
    if not images.looked_at:
        return f"{words}, without images."
    which = "All images" if images.all else f"{images.looked_at:,} images, evenly drawn,"
    return f"{words}. {which} were looked at."


def _tiles(found: Inspection) -> list[Mapping[str, Any]]:
    """Return the figures above the fold."""
    texts, images, costs = found.texts, found.images, found.costs
    tiles = [
        {
            "what": "samples",
            "big": count(found.samples),
            "below": [f"{found.groups:,} storage groups, layout {found.layout}"],
        },
        {
            "what": "words of a caption (median)",
            "big": f"{texts.words.median:,}",
            "below": [
                f"{count(texts.captions)} captions: {counted(texts.roles)}",
                f"{share(texts.duplicates, texts.captions)} are duplicates",
            ],
        },
    ]
    if images.sound:
        about = "" if images.all else "about "
        tiles.append(
            {
                "what": "pixels of the shorter side (median)",
                "big": f"{images.shorter.median:,}",
                "below": [
                    f"{about}{size(costs.total_bytes)} of image files",
                    f"{share(sum(images.broken.values()), images.looked_at)} are broken",
                ],
            }
        )
    return [{**tile, "below": [_printable(line) for line in tile["below"]]} for tile in tiles]


def _facts(found: Inspection) -> list[tuple[str, str]]:
    """Return (name, value) of what was taken for what; the words tell options, the JSON all."""
    facts = [("Layout", found.layout)]
    if found.why:
        facts.append(("Why", found.why))
    if found.others:
        facts.append(("Would fit too", ", ".join(found.others)))
    return [(name, _printable(value)) for name, value in [*facts, ("Data", found.data)]]


def _card(shown: Shown) -> Card:
    return Card(
        key=_printable(shown.key),
        captions=tuple(
            (_printable(caption.role), _printable(_shortened(caption.text)))
            for caption in shown.captions
        ),
        more=shown.more,
        picture=_uri(shown.picture),
        views=(
            *((f"training, epoch {n}", _uri(view)) for n, view in enumerate(shown.trained, 1)),
            ("evaluation", _uri(shown.judged)),
        ),
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "…"


def _uri(content: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")
