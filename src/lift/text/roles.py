"""What part a text plays for its image, and a text with all that is stored beside its row."""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

ROLES = MappingProxyType(
    {
        "raw": "A caption as it came with the image (alt text, an annotator's sentence).",
        "rewrite": "A caption that a model wrote or reworded, about as long as a raw one.",
        "long": "A description of several sentences.",
        "sub-caption": "One sentence of a longer caption.",
        "phrase": "A noun phrase of a caption: true of the image, but of a part of it only.",
        "tag": "A keyword without grammar (a category, a search term).",
        "class": "The name of the image's class, bare or inside a prompt.",
        "negative": "A text near a caption that does not describe the image.",
    }
)
"""The standard roles and what each means. Other names are allowed: a role is a free string."""


class Linked(NamedTuple):
    """A text and what is stored beside its row.

    Attributes:
        text: the text itself, before cleaning.
        key: of the image that it belongs to, "" for none.
        role: see `ROLES`.
        source: where it came from (an annotator, a model, a column), a free string.
        weight: how often it is drawn relative to the image's other texts; 0 or more.
        language: BCP 47 tag ("en", "pt-BR"), "" where nobody said.
        parent: the text that it was derived from, "" for a text that was not.
    """

    text: str
    key: str = ""
    role: str = "raw"
    source: str = ""
    weight: float = 1.0
    language: str = ""
    parent: str = ""
