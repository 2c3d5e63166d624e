"""DataComp's shards, as its downloader writes them: the key is the `uid` of `.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lift.data.formats._captions import lines
from lift.data.formats._downloads import not_downloaded
from lift.data.formats._members import Recipe
from lift.data.formats._paths import expand_anywhere
from lift.data.formats._shards import Parts, TarBounds, TarLayout
from lift.terms import Caption


@dataclass(frozen=True, kw_only=True)
class Config(TarBounds):
    """Options of DataComp's shards."""


def build(config: Config) -> DataComp:
    """Open every shard and return the source.

    Raises:
        DataError: a shard is missing, cut off, not a tar, or without samples.
        BrokenSample: `strict`, and something in a shard is left out.
    """
    return DataComp(config)


class DataComp(TarLayout):
    """Samples of DataComp under their uid, which stays when shards are downloaded anew.

    A sample without a uid, or with one that came before in any shard, is left out and counted;
    so are failed downloads, where a local `.parquet` beside the shard tells of them.
    """

    def __init__(self, config: Config) -> None:
        files = expand_anywhere(config.path)
        recipe = Recipe(("txt",), key_field="uid")
        absent = not_downloaded([file for file in files if isinstance(file, Path)])
        super().__init__(config, recipe, files, None, absent)

    def _captions(self, parts: Parts) -> tuple[Caption, ...]:
        return lines(parts.text(), "raw", parts.key, self.bounds.max_caption_chars)
