"""Write evaluation.html: what one or several models can do, with intervals and single items."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lift
from lift import plugins
from lift.errors import ConfigError
from lift.files import write_text
from lift.pages.bars import Column, columns_of
from lift.pages.evaluation_items import Showing, browser_of
from lift.pages.evaluation_tables import overview_of, pairing_of, sheet_of, side_by_side
from lift.pages.heat import Heatmaps
from lift.pages.judged import Compared, Group, Judged, groups_of
from lift.pages.pictures import Pictures, Thumbnails, picture_notes
from lift.pages.templates import source, template
from lift.pages.words import value_words

__all__ = ["Compared", "Heatmaps", "Judged", "render", "write_evaluation"]

NAME = "evaluation.html"

MOST_BYTES = 20_000_000
"""Of the page; items are left out until it is smaller, and counted."""

_SMALL = 128
"""Longest side of an answer's picture in pixels."""


def write_evaluation(
    judged: Sequence[Judged],
    folder: str | Path,
    *,
    out: str | Path | None = None,
    thumbnails: Thumbnails | None = None,
    heatmaps: Heatmaps | None = None,
    comparisons: Sequence[Compared] = (),
) -> Path:
    """Write the page of an evaluation of one or several models, and return its path.

    The page is one file without a font or a request. Its one script, inside, sorts and filters;
    without it all can be read. The same results give the same bytes.

    Args:
        judged: the models with their results.
        folder: that of the results.
        out: the file to write; `evaluation.html` in the folder where None.
        thumbnails: for each data set, by the name that results give it, the bytes of image files
            by key. Without them, and for what they do not know, a key stands for its picture.
        heatmaps: how near the parts of an image are to a text (see `lift.pages.heat`).
        comparisons: models against each other.

    Raises:
        ConfigError: no model.
        MissingPackage: jinja2 is not installed.
        StorageError: the page can't be written.
    """
    plugins.require("jinja2", "plots", "The page of an evaluation")
    if not judged:
        raise ConfigError("A page of an evaluation needs a model; none was given.")
    path = Path(out) if out is not None else Path(folder) / NAME
    showing = Showing(
        picture=Pictures(thumbnails),
        small=Pictures(thumbnails, _SMALL),
        heatmaps=None if heatmaps is None else functools.cache(heatmaps),
        # A heatmap is asked for by the name that the caller gave, not by the one on the page.
        names=tuple(model.name for model in judged),
        pictured=thumbnails is not None,
    )
    page = render(judged, showing, comparisons)
    while len(page.encode()) > MOST_BYTES and showing.most:
        showing = replace(showing, most=showing.most // 2)
        page = render(judged, showing, comparisons)
    write_text(path, page)
    return path


def render(judged: Sequence[Judged], showing: Showing, comparisons: Sequence[Compared] = ()) -> str:
    """Return the page's HTML. All of data is escaped."""
    from markupsafe import Markup

    models = _named(judged)
    columns = columns_of([model.name for model in models], alone="")
    groups = groups_of(models)
    sheets = [(sheet_of(group, columns), browser_of(group, columns, showing)) for group in groups]
    overview = overview_of(groups, columns)
    script = source("evaluation.js")
    page = template("evaluation.html").render(
        title=_title(models),
        lede=_lede(models, groups),
        columns=columns,
        notes=[(c, note) for c, m in zip(columns, models, strict=True) for note in m.notes],
        overview=overview,
        drawn=any(row.bars for row in overview),
        pairings=[pairing_of(found) for found in comparisons],
        sheets=sheets,
        pictured=showing.pictured,
        picture_notes=picture_notes(
            showing.picture, any(browser.items for _, browser in sheets), "the data was not at hand"
        ),
        about=side_by_side([model.facts for model in models]),
        costs=side_by_side([model.efficiency for model in models]),
        commands=list(dict.fromkeys(command for m in models for command in m.commands)),
        details=_details(models, columns),
        lift_version=lift.__version__,
        script=Markup(script),
        script_hash=hash_of(script),
    )
    # Lone surrogates (names of files that are no Unicode) have no bytes in UTF-8.
    return page.encode("utf-8", errors="replace").decode("utf-8")


def hash_of(script: str) -> str:
    """Return what a content security policy calls this inline script (CSP Level 3, 6.7.3.3)."""
    digest = hashlib.sha256(script.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


def _named(judged: Sequence[Judged]) -> list[Judged]:
    """Return the models with names that tell them apart."""
    counts, seen = Counter(model.name for model in judged), Counter[str]()
    models = []
    for model in judged:
        seen[model.name] += 1
        double = counts[model.name] > 1
        name = f"{model.name} ({seen[model.name]})" if double else model.name
        models.append(replace(model, name=name))
    return models


def _title(models: Sequence[Judged]) -> str:
    if len(models) <= 2:
        return " and ".join(model.name for model in models)
    return f"{len(models)} models"


def _lede(models: Sequence[Judged], groups: Sequence[Group]) -> str:
    data = len({group.data for group in groups})
    words = [_many(len(groups), "evaluation"), "of", _many(len(models), "model")]
    words += ["on", _many(data, "data set")]
    return " ".join(words) + ". Every figure has its protocol, its items and a 95% interval."


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _details(
    models: Sequence[Judged], columns: Sequence[Column]
) -> list[tuple[Column, str, list[tuple[str, str]]]]:
    """Return (model, heading, rows) of what stands at the end of the page."""
    found: list[tuple[Column, str, list[tuple[str, str]]]] = []
    for column, model in zip(columns, models, strict=True):
        whose = f" of {column.heading}" if len(models) > 1 else ""
        parts: tuple[tuple[str, Any], ...] = (
            ("Configuration", model.config),
            ("Versions", model.versions.items()),
        )
        for heading, values in parts:
            if rows := [(str(name), value_words(value)) for name, value in values]:
                found.append((column, heading + whose, rows))
    return found
