"""Tar shards: files that share a name are one sample (`KEY.jpg`, `KEY.txt`, `KEY.json`)."""

from __future__ import annotations

from dataclasses import dataclass

from lift.data.formats._captions import Column, captions, columns_of, lines
from lift.data.formats._members import Need, Recipe
from lift.data.formats._paths import expand_anywhere, key_prefixes
from lift.data.formats._shards import Parts, TarBounds, TarLayout
from lift.errors import BrokenSample
from lift.terms import Caption

_TEXT = ".txt"


@dataclass(frozen=True, kw_only=True)
class Config(TarBounds):
    """Options of tar shards.

    Attributes:
        caption_field: where captions stand: field(s) of `.json` (each a string or a list), and
            `.txt` for the file of that ending, every line that is not blank a caption. Each word
            is `NAME` or `NAME:ROLE`; the role of `.txt` is raw, that of a field its name, unless
            another is given: `.txt+long:long`. A sample has to have all of them. None is `.txt`.
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
        needs = tuple(Need((ending,)) for ending in endings)
        recipe = Recipe(needs, key_field=config.key_field or "")
        if config.caption_field is not None:
            self.not_fields = tuple(column.name for column in self._columns)
        files = expand_anywhere(config.path)
        super().__init__(config, recipe, files, None if config.key_field else key_prefixes(files))

    def _captions(self, parts: Parts) -> tuple[Caption, ...]:
        most = self.bounds.max_caption_chars
        found: list[Caption] = []
        record = None
        for name, role in self._columns:
            if name == _TEXT:
                found += lines(parts.text(), role, parts.key, most)
                continue
            record = parts.record() if record is None else record
            if name not in record:
                raise BrokenSample(
                    f"without {name!r} in .json",
                    f"Sample {parts.key} has no field {name!r} in its .json; "
                    f"known: {', '.join(sorted(record)) or 'none'}.",
                )
            found += captions(record[name], role, parts.key, most)
        return tuple(found)
