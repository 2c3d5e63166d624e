"""Tar shards: files that share a name are one sample (`KEY.jpg`, `KEY.txt`, `KEY.json`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from lift.data.formats._captions import Column, captions_of, columns_of, lines, usable
from lift.data.formats._members import Recipe
from lift.data.formats._paths import expand_anywhere, key_prefixes
from lift.data.formats._shards import Parts, TarBounds, TarLayout
from lift.terms import Caption

_TEXT = ".txt"


@dataclass(frozen=True, kw_only=True)
class Config(TarBounds):
    """Options of tar shards.

    Attributes:
        caption_field: where captions stand: field(s) of `.json` (each a string or a list), and
            `.txt` for the file of that ending, every line that is not blank a caption. Each word
            is `NAME` or `NAME:ROLE`; the role of `.txt` is raw, that of a field its name, unless
            another is given: `.txt+long:long`. A sample needs one of them. None is `.txt`.
        key_field: the field of `.json` that is a sample's key, unique over all shards; a sample
            without it is left out and counted. None takes the name of its files.
    """

    caption_field: str | tuple[str, ...] | None = None
    key_field: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.columns()

    def columns(self) -> tuple[Column, ...]:
        """Return what holds captions, and their roles. Raises ConfigError for an empty word."""
        found = columns_of(self.caption_field or _TEXT)
        return tuple(Column(name, "raw" if role == _TEXT else role) for name, role in found)


def build(config: Config) -> Shards:
    """Open every shard and return the source.

    Raises:
        DataError: a shard is missing, cut off, not a tar, or without samples.
        BrokenSample: `strict`, and something is left out.
    """
    return Shards(config)


class Shards(TarLayout):
    """Samples of tar shards; `.gif`, `.bmp`, `.tif` and `.avif` are images too.

    Other files of a sample (`.cls`, `.npz`) are not read, and not counted.
    """

    def __init__(self, config: Config) -> None:
        self._columns = config.columns()
        endings = dict.fromkeys(
            "txt" if column.name == _TEXT else "json" for column in self._columns
        )
        recipe = Recipe(tuple(endings), key_field=config.key_field or "")
        if config.caption_field is not None:
            self.not_fields = tuple(column.name for column in self._columns)
        files = expand_anywhere(config.path)
        super().__init__(config, recipe, files, None if config.key_field else key_prefixes(files))

    def _captions(self, parts: Parts) -> tuple[Caption, ...]:
        most = self.bounds.max_caption_chars

        def told(column: Column) -> Sequence[Caption]:
            if column.name == _TEXT:
                return lines(parts.text(), column.role, parts.key, most)
            return captions_of(parts.record(), [column], parts.key, most)

        return usable(partial(told, column) for column in self._columns)
