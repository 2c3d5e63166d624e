"""What img2dataset downloads: `00000.tar` with `00000.parquet` and `00000_stats.json` beside it."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lift.data.formats._captions import Column, captions_of, lines
from lift.data.formats._downloads import not_downloaded
from lift.data.formats._members import Recipe
from lift.data.formats._paths import (
    File,
    expand_anywhere,
    key_prefixes,
    parent_and_name,
)
from lift.data.formats._shards import Parts, TarBounds, TarLayout
from lift.errors import DataError
from lift.terms import Caption


@dataclass(frozen=True, kw_only=True)
class Config(TarBounds):
    """Options of img2dataset's shards; `path` may also be the folder that they are in."""


def build(config: Config) -> Downloaded:
    """Open every shard and return the source.

    Raises:
        DataError: a shard is missing, cut off, not a tar, or without samples; or the folder holds
            none.
        BrokenSample: `strict`, and something in a shard is left out.
    """
    return Downloaded(config)


class Downloaded(TarLayout):
    """Samples that img2dataset fetched, under its keys: `.txt`, else `caption` of `.json`.

    What it could not fetch is counted by reason where a local `.parquet` stands beside the shard;
    `strict` does not stop at those, because nothing of them is here that could be broken.
    """

    def __init__(self, config: Config) -> None:
        files = _shards(config.path)
        # Shards and rows are numbered in its keys, so those of one folder don't repeat.
        one_folder = len({parent_and_name(file)[0] for file in files}) == 1
        absent = not_downloaded([file for file in files if isinstance(file, Path)])
        recipe = Recipe(("txt", "json"))
        super().__init__(config, recipe, files, None if one_folder else key_prefixes(files), absent)

    def _captions(self, parts: Parts) -> tuple[Caption, ...]:
        most = self.bounds.max_caption_chars
        if parts.has_text():
            return lines(parts.text(), "raw", parts.key, most)
        return captions_of(parts.record(), [Column("caption", "raw")], parts.key, most)


def _shards(paths: str | Sequence[str]) -> Sequence[File]:
    return expand_anywhere([_in_folder(p) for p in ([paths] if isinstance(paths, str) else paths)])


def _in_folder(path: str) -> str:
    """Return the glob of a folder's shards, or the path itself where it is no folder."""
    if not os.path.isdir(path):
        return path
    names = os.listdir(path)
    if not any(name.endswith(".tar") for name in names):
        inner = any(name.isdigit() and os.path.isdir(os.path.join(path, name)) for name in names)
        also = f"; of output_format=files, folder:{path} reads the images" if inner else ""
        raise DataError(f"{path} holds no .tar{also}.")
    return os.path.join(glob.escape(path), "*.tar")
