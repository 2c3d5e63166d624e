"""What lies in a folder of pictures: pairs to learn from, pairs to judge on, how many of each."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lift.data.guess import SUFFIXES
from lift.data.guess import guess as layout_of
from lift.data.source import open_source
from lift.errors import ConfigError, DataError

_HELD_OUT = ("val", "validation", "valid", "dev", "test")
"""How files and folders of pairs are called that nothing is trained on, best first."""

_SHARE = 0.1
_MOST_JUDGED = 1_000
"""Of what is held out where nothing is: a tenth, and no more pairs than that."""

_FEWEST_JUDGED = 2

FEWEST = 16
"""Pairs that anything can be learned from."""


@dataclass(frozen=True)
class Found:
    """Pairs in a folder.

    Attributes:
        name: of the folder.
        train, validation: words for `--data` and `--validation`; no sample is in both.
        all: words of everything, for the index.
        pairs: images to train on that have a caption.
        judged: images to judge on.
        captions: of both, different or not.
        several: whether images have more than one caption, as a rule.
        first: a caption, to ask the search for.
    """

    name: str
    train: str
    validation: str
    all: tuple[str, ...]
    pairs: int
    judged: int
    captions: int
    several: bool
    first: str


def look(folder: Path) -> Found:
    """Return what lies in a folder (or a file of pairs).

    Raises:
        ConfigError: nothing there that pairs can be read from, or images without captions.
        DataError: what is there can't be read.
    """
    if not folder.exists():
        raise DataError(f"There is no folder {folder}; give one with pictures and captions.")
    words = str(folder)
    for mark in ("::", *'[]{}*?"'):
        if mark in words:
            raise ConfigError(
                f"The path {folder} holds {mark}, which means something else in the commands that "
                "this is made of; rename it, or give a link to it."
            )
    anyway = f"`lift index build INDEX --model MODEL --pictures {shlex.quote(words)}`"
    try:
        source = open_source(words)
    except ConfigError as error:
        if "without captions" not in str(error):
            raise
        raise ConfigError(
            f"{error} With a model that you have already, {anyway} makes them searchable as they "
            "are."
        ) from error
    beside = next(iter(_beside(folder)), "")
    counts, first = [], ""
    for _, captions in source.texts():
        counts.append(len(captions))
        first = first or next((caption.text for caption in captions), "")
    pairs = sum(count > 0 for count in counts)
    if pairs < FEWEST:
        raise ConfigError(
            f"{folder} has {len(counts):,} pictures and {pairs:,} of them have a caption: to learn "
            f"from pairs it takes {FEWEST} at least. With a model that you have already, {anyway} "
            "makes them searchable as they are."
        )
    total = sum(counts)
    if beside:
        other = [len(captions) for _, captions in open_source(beside).texts()]
        judged, train, validation = sum(count > 0 for count in other), words, beside
        total += sum(other)
        everything: tuple[str, ...] = (words, beside)
    else:
        train, validation, pairs, judged = _parted(words, pairs)
        everything = (words,)
    return Found(
        name=folder.resolve().name,
        train=train,
        validation=validation,
        all=everything,
        pairs=pairs,
        judged=judged,
        captions=total,
        several=total > 1.5 * (pairs + judged),
        first=first,
    )


def _parted(words: str, pairs: int) -> tuple[str, str, int, int]:
    """Return words of what is learned from and of what is held out, and the pairs of both.

    Keys draw what is held out; of few pairs more is, so that it is not empty.
    """
    for share in (min(_SHARE, _MOST_JUDGED / pairs), 0.2, 0.4):
        train = f"share:data=[{words}],stop={1 - share:.4f}"
        validation = f"share:data=[{words}],start={1 - share:.4f}"
        judged = _captioned(validation)
        if judged >= _FEWEST_JUDGED:
            break
    return train, validation, _captioned(train), judged


def _captioned(words: str) -> int:
    """Return how many images of a share have a caption, 0 where nothing falls into it."""
    try:
        return sum(bool(captions) for _, captions in open_source(words).texts())
    except DataError:
        return 0


def _beside(folder: Path) -> Iterator[str]:
    """Yield words of pairs that are to be held out, where the folder's own words leave them out."""
    if not folder.is_dir() or layout_of(str(folder)).part.name == "classes":
        return
    names = sorted(os.listdir(folder))
    used = str(layout_of(str(folder)).part.options.get("path", ""))
    for word in _HELD_OUT:
        own = [name for name in names if name.lower().startswith(word)]
        if not own or used == str(folder) or word in Path(used).name:
            continue
        endings = {name.rpartition(".")[2] for name in own if "." in name}
        for ending in sorted(endings & {suffix.lstrip(".") for suffix in SUFFIXES}):
            yield f"{folder}/{own[0][: len(word)]}*.{ending}"
