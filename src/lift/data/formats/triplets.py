"""Own questions: tables (csv, tsv, jsonl, parquet) of an image, right captions and wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lift.data import kinds
from lift.data.formats._captions import captions, captions_of, columns_of
from lift.data.formats._row_samples import RowOptions, RowSamples
from lift.errors import BrokenSample, ConfigError
from lift.terms import Caption, Foil

_MOST = 1_000
"""Pairs of a right and a wrong text of one row."""


@dataclass(frozen=True, kw_only=True)
class Config(RowOptions):
    """Options of tables of questions.

    Attributes:
        caption: the column(s) with right captions (text, or lists of texts).
        foil: the column(s) with wrong ones, likewise. A cell may be empty where others are not.
        kind: the column that says what is wrong with the foils; None takes the name of the column
            that a foil stands in.
        together: whether all captions and foils of a row (with `kind`; else of a column) are one
            question, which is answered right only if every caption beats every foil; otherwise
            every pair of them is a question of its own.
        captions: further columns with captions that are not asked: the text oracle's.
    """

    caption: str | tuple[str, ...] = "caption"
    foil: str | tuple[str, ...] = "foil"
    kind: str | None = None
    together: bool = True
    captions: str | tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("caption", "foil"):
            if not getattr(self, name):
                raise ConfigError(f"{name} needs the name of at least one column.")


def build(config: Config) -> Triplets:
    """Open every file, check the columns and return the source.

    Raises:
        DataError: a file is missing or damaged or holds no sample, or a column is missing.
        BrokenSample: strict, and a line is no row or a key repeats.
    """
    return Triplets(config)


class Triplets(RowSamples):
    """Rows with an image, right captions and foils."""

    def __init__(self, config: Config) -> None:
        self._right, self._wrong = columns_of(config.caption), columns_of(config.foil)
        self._others = columns_of(config.captions)
        self._kind, self._together = config.kind, config.together
        told = [column.name for column in (*self._right, *self._wrong, *self._others)]
        super().__init__(config, [*told, *([config.kind] if config.kind else [])])

    def _texts(
        self, row: Mapping[str, Any], key: str
    ) -> tuple[tuple[Caption, ...], tuple[Foil, ...]]:
        most = self.bounds.max_caption_chars
        right = [c for n in self._right for c in captions(row[n.name], "raw", key, most)]
        filled = [column for column in self._wrong if row[column.name] not in (None, "", [])]
        if not filled:
            names = ", ".join(column.name for column in self._wrong)
            raise BrokenSample(
                kinds.CAPTION_EMPTY, f"Sample {key} has no foil in {names}; leave the row out."
            )
        foils: list[Foil] = []
        for column in filled:
            kind = str(row[self._kind]) if self._kind else column.name
            group = ("row" if self._kind else column.name) if self._together else ""
            wrong = captions(row[column.name], "negative", key, most)
            foils += [Foil(kind, c.text, w.text, group) for c in right for w in wrong]
        if len(foils) > _MOST:
            raise BrokenSample(
                kinds.ROW_FORM,
                f"Sample {key} asks {len(foils):,} pairs of texts; up to {_MOST:,} are read.",
            )
        others = captions_of(row, self._others, key, most) if self._others else ()
        return (*right, *others), tuple(foils)
