"""SugarCrepe's files: `KIND.json` with a right and a wrong caption for each image (Hsieh 2023)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift.data.formats._crepe import CrepeConfig, questions
from lift.data.formats._questions import Questions, texts_of
from lift.terms import Foil


@dataclass(frozen=True, kw_only=True)
class Config(CrepeConfig):
    """Options of SugarCrepe's files; the folder above may hold them in `sugarcrepe`."""


def build(config: Config) -> Questions:
    """Read every `KIND.json` and return the source.

    Raises:
        DataError: no such folder, no questions in it, or a file of another form.
    """
    return questions(config, "SugarCrepe", "sugarcrepe", ("sugarcrepe",), _foils)


def _foils(file: Path, number: str, entry: dict[str, Any], most: int) -> Iterator[Foil]:
    right, wrong = texts_of(entry, ("caption", "negative_caption"), file, number, most)
    yield Foil(file.stem, right, wrong)
