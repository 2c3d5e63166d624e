"""Templates of the pages, beside the code: every value is escaped, and none may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2


def template(name: str) -> jinja2.Template:
    """Return the template in the file `name` of this folder."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    ).get_template(name)


def source(name: str) -> str:
    """Return the text of a script of this folder, as it stands in a page."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
