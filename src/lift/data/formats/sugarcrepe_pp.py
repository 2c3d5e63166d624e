"""SugarCrepe++'s files: `KIND.json` with two right captions and a wrong one (Dumpala et al. 2024).

The layout is that of github.com/Sri-Harsha/scpp, and of Aman-J/SugarCrepe_pp on Hugging Face's
hub: a list of objects with filename, caption, caption2 and negative_caption. Photos are those of
COCO val2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift.data.formats._crepe import CrepeConfig, questions
from lift.data.formats._questions import Questions, texts_of
from lift.terms import Foil

_TEXTS = ("caption", "caption2", "negative_caption")


@dataclass(frozen=True, kw_only=True)
class Config(CrepeConfig):
    """Options of SugarCrepe++'s files; the folder above may hold them in `sugarcrepe_pp`."""


def build(config: Config) -> Questions:
    """Read every `KIND.json` and return the source; the two captions and the foil are a group.

    Raises:
        DataError: no such folder, no questions in it, or a file of another form.
    """
    return questions(config, "SugarCrepe++", "sugarcrepe_pp", ("sugarcrepe_pp", "data"), _foils)


def _foils(file: Path, number: str, entry: dict[str, Any], most: int) -> Iterator[Foil]:
    *right, wrong = texts_of(entry, _TEXTS, file, number, most)
    for caption in right:
        yield Foil(file.stem, caption, wrong, f"{file.stem}/{number}")
