"""From the members of a tar to samples: files that share a name and stand side by side."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lift.data import kinds
from lift.data.formats._index import CHUNK, PLACES, Chunk, Spool
from lift.data.formats._tar import members
from lift.data.tally import Tally
from lift.errors import BrokenSample
from lift.text.keys import KeySet, keys_of

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")
"""Endings of image files; of several images in a sample, the first in this order is taken."""


_LONGEST_KEY = 4096
"""Bytes; thousands of keys are held in memory at a time, and a hostile one may have millions."""


@dataclass(frozen=True)
class Recipe:
    """What makes a sample of the files of one name.

    Attributes:
        captions: endings of the files with captions; a sample has one of them at least.
        extra: the ending of one more file that is read ("syn.json"); "" for none.
        key_field: the field of `.json` that holds its key; "" takes the name of its files.
    """

    captions: tuple[str, ...]
    extra: str = ""
    key_field: str = ""


class Files(NamedTuple):
    """The files of one name: (offset, bytes) by ending, and how often they come again."""

    key: str
    spans: dict[str, tuple[int, int]]
    repeated: int


class Scan:
    """One pass over a shard's headers.

    Attributes:
        left_out: what is no sample, by reason.
    """

    def __init__(self, fd: int, shard: str, recipe: Recipe, most_bytes: int) -> None:
        """Say what to scan.

        Args:
            fd: the open shard.
            shard: what errors call it.
            recipe: what makes a sample.
            most_bytes: of each file that is read.
        """
        self._fd, self._shard, self._recipe, self._most = fd, shard, recipe, most_bytes
        self._others = ("txt", "json", recipe.extra or "/")  # no ending holds a "/"
        self.left_out = Tally()

    def fill(self, spool: Spool, max_members: int) -> None:
        """Add every sample to `spool`.

        Raises:
            DataError: not a sound tar, or more than `max_members` entries.
        """
        seen = KeySet()
        numbers: list[int] = []
        keys: list[bytes] = []
        for files in self._grouped(max_members):
            if files.repeated:
                self._leave_out(kinds.KEY_TWICE, files.key, files.repeated)
            try:
                keys.append(self._key(files))
            except BrokenSample as error:
                self._leave_out(error.kind, files.key)
                continue
            numbers += self._numbers(files.spans)
            if len(keys) == CHUNK:
                self._add(spool, seen, numbers, keys)
                numbers, keys = [], []
        self._add(spool, seen, numbers, keys)

    def _add(self, spool: Spool, seen: KeySet, numbers: list[int], keys: list[bytes]) -> None:
        if keys:
            chunk = Chunk.of(numbers, keys)
            new, repeated = not_seen(chunk, seen)
            spool.add(chunk.only(new))
            for key in repeated:
                self._leave_out(kinds.KEY_TWICE, key)

    def _leave_out(self, why: str, example: str, count: int = 1) -> None:
        self.left_out.add(why, f"{example[:_LONGEST_KEY]} in {self._shard}", count)

    def _grouped(self, most: int) -> Iterator[Files]:
        """Yield the files of every name; what has no name of a sample is counted."""
        key = ""
        spans: dict[str, tuple[int, int]] = {}
        repeated: dict[str, int] = {}
        for member in members(self._fd, self._shard, most):
            slash = member.name.rfind("/") + 1
            dot = member.name.find(".", slash)
            if not member.ordinary or dot <= slash:
                if not member.name.endswith("/"):
                    self._leave_out(kinds.FILE_OTHER, member.name)
                continue
            here = member.name[:dot]
            if here != key:
                if key:
                    yield Files(key, spans, max(repeated.values(), default=0))
                key, spans, repeated = here, {}, {}
            ending = member.name[dot + 1 :].lower()
            if ending in spans:
                repeated[ending] = repeated.get(ending, 0) + 1
            else:
                spans[ending] = (member.offset, member.size)
        if key:
            yield Files(key, spans, max(repeated.values(), default=0))

    def _key(self, files: Files) -> bytes:
        """Return the key of a sample. Raises BrokenSample where the files are none."""
        spans, recipe = files.spans, self._recipe
        images = [spans[ending] for ending in IMAGES if ending in spans]
        if not images:
            raise BrokenSample(kinds.IMAGE_MISSING, files.key)
        if not images[0][1]:
            raise BrokenSample(kinds.IMAGE_EMPTY, files.key)
        if not any(ending in spans for ending in recipe.captions):
            raise BrokenSample(kinds.IMAGE_WITHOUT_CAPTION, files.key)
        read = [images[0], *(spans[ending] for ending in self._others if ending in spans)]
        if max(size for _, size in read) > self._most:
            raise BrokenSample(kinds.IMAGE_FILE_TOO_LARGE, files.key)
        key = self._field(spans, files.key) if recipe.key_field else files.key
        encoded = key.encode("utf-8", "backslashreplace")
        if len(encoded) > _LONGEST_KEY:
            raise BrokenSample(kinds.KEY_LONG, files.key)
        if len(images) > 1:
            self._leave_out(kinds.IMAGE_OF_SAMPLE_TWICE, files.key, len(images) - 1)
        return encoded

    def _field(self, spans: dict[str, tuple[int, int]], name: str) -> str:
        if "json" not in spans:
            raise BrokenSample(kinds.KEY_MISSING, name)
        offset, size = spans["json"]
        value = as_object(os.pread(self._fd, size, offset), name).get(self._recipe.key_field)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise BrokenSample(kinds.KEY_MISSING, name)
        return str(value)

    def _numbers(self, spans: dict[str, tuple[int, int]]) -> list[int]:
        image = next(spans[ending] for ending in IMAGES if ending in spans)
        others = (spans.get(ending, (0, 0)) for ending in self._others)
        numbers = [*image, *(number for span in others for number in span)]
        assert len(numbers) == PLACES
        return numbers


def as_object(text: bytes, sample: str, ending: str = "json") -> dict[str, Any]:
    """Return the JSON object in a sample's file.

    Raises:
        BrokenSample: no JSON, or no object.
    """
    kind = f"damaged .{ending}"
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenSample(kind, f"Sample {sample} has a damaged .{ending} ({error}).") from error
    if not isinstance(record, dict):
        raise BrokenSample(kind, f"Sample {sample} has a .{ending} that is no object.")
    return record


def not_seen(chunk: Chunk, seen: KeySet) -> tuple[np.ndarray, list[str]]:
    """Return which samples have a key that is new to `seen` (which grows), and the other keys."""
    keys = [key.decode("utf-8") for key in chunk.key_list()]
    new = seen.add(keys_of(keys))
    return new, [key for key, is_new in zip(keys, new.tolist(), strict=True) if not is_new]
