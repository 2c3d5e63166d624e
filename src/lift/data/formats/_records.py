"""Layouts whose samples are records in a mapped file, and their images files below a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lift.data.formats._images import image_file
from lift.data.formats._layout import Absent, Bounds, Layout, Told
from lift.data.formats._ragged import Ragged
from lift.errors import DataError
from lift.terms import Caption, Sample

written = json.JSONEncoder(ensure_ascii=False).encode
"""What json.dumps does, but for making an encoder each time."""


class Listed(Layout):
    """One storage group of records; any order of reading costs the same."""

    def __init__(
        self,
        path: str,
        root: str,
        records: Ragged,
        bounds: Bounds,
        absent: Absent,
        allow_outside: bool = False,
        data_set: str = "",
    ) -> None:
        """Take what was found.

        Args:
            path: what the user named, for the name of the source.
            root: the folder that the names of images start from.
            records: what `_captions_of` and `_name_of` understand, one a sample.
            bounds: what is left out.
            absent: what was left out already.
            allow_outside: whether images may lie outside `root`.
            data_set: a benchmark's name, for the name of the source.

        Raises:
            DataError: no samples, with the reasons.
        """
        if not len(records):
            raise DataError(f"{path} holds no samples; left out: {absent.tally.sentence()}.")
        whole = os.path.abspath(path)
        name = "/".join(whole.rsplit(os.sep, 2)[-2:]).lstrip("/")
        if data_set:
            name = f"{data_set} ({os.path.basename(whole)})"
        super().__init__(name, f"{whole} {root}", (len(records),), bounds, absent.tally)
        self._root, self._records, self._allow_outside = root, records, allow_outside

    def _image(self, name: str, key: str) -> bytes:
        return image_file(self._root, name, key, self.bounds, self._allow_outside)


class Recorded(Listed):
    """Records are JSON: `[key, file, [[caption, role], ...], fields]`, all of it checked.

    Where a caption's language is known, it stands behind the role.
    """

    def _read(self, group: int, place: int) -> Sample:
        key, file, captions, fields = json.loads(self._records[place])
        return Sample(key, self._image(file, key), _captions(captions), fields)

    def _told(self, group: int) -> Iterator[Told]:
        for record in self._records:
            key, _, captions, _ = json.loads(record)
            yield key, _later(captions)


def record(
    key: str, file: str, captions: Sequence[Caption], fields: Mapping[str, Any] | None = None
) -> bytes:
    """Return a record of `Recorded`."""
    told = [(c.text, c.role, c.language) if c.language else (c.text, c.role) for c in captions]
    return written((key, file, told, dict(fields or {}))).encode()


def _captions(told: list[list[str]]) -> tuple[Caption, ...]:
    return tuple(Caption(text, role, 1.0, *tag) for text, role, *tag in told)


def _later(told: list[list[str]]) -> Callable[[], tuple[Caption, ...]]:
    return lambda: _captions(told)
