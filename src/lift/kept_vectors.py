"""Vectors kept on disk while a model is judged, so that nothing is encoded twice.

A stopped evaluation goes on where it was, and another one on the same images starts with their
vectors. What is kept is known by its content, in a folder named after the encoder's identity.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from lift.encoders import Wrapped
from lift.errors import DataError
from lift.files import told_plainly, whole_file
from lift.ranks import ALONE, Ranks
from lift.terms import Encoder, ImageLike

FORMAT = "lift.vectors/1"
_KEY = 16


class RowLog:
    """Rows on disk by key, only ever appended to; a torn end is cut off when it is opened.

    A record is 16 bytes of key, a CRC-32 and the row.

    Attributes:
        width: numbers of a row; 0 as long as there is none.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        """Open what is there, or start empty.

        Args:
            path: ends in `.rows`; what it holds is told by the file beside it, in `.json`.
            writes: whether appended rows go to the file, else they stay in memory.

        Raises:
            DataError: a file of another format.
        """
        self._path, self._writes = path, writes
        self._at: dict[bytes, int] = {}
        self._rows: np.ndarray | None = None
        self._new: list[np.ndarray] = []
        self._stored = 0
        self.width = self._known_width()
        if self.width:
            self._open()

    def __len__(self) -> int:
        return len(self._at)

    @property
    def stored(self) -> int:
        """Rows of the file."""
        return self._stored

    def find(self, keys: Sequence[bytes]) -> list[int]:
        """Return the place of each key's row, -1 where there is none."""
        return [self._at.get(key, -1) for key in keys]

    def take(self, places: Sequence[int]) -> Float32[np.ndarray, "n width"]:
        """Return the rows at these places."""
        out = np.empty((len(places), self.width), np.float32)
        for number, place in enumerate(places):
            if place < self._stored:
                assert self._rows is not None
                out[number] = self._rows[place]["row"]
            else:
                out[number] = self._new[place - self._stored]
        return out

    def append(self, keys: Sequence[bytes], rows: Float32[np.ndarray, "n width"]) -> None:
        """Keep rows; on disk when this returns.

        Raises:
            DataError: rows of another width than those that are there.
            StorageError: the disk refused.
        """
        if not len(keys):
            return
        if not self.width:
            self.width = int(rows.shape[1])
            self._begin()
        if rows.shape[1] != self.width:
            raise DataError(
                f"{self._path} holds rows of {self.width} numbers, not of {rows.shape[1]}: remove "
                "it, and evaluate again."
            )
        start = self._stored + len(self._new)  # a key may stand in the file twice
        if self._writes:
            self._write(keys, rows)
        else:
            self._new += list(rows.astype(np.float32))
        self._at.update((key, start + number) for number, key in enumerate(keys))

    def forget(self, after: int) -> None:
        """Take only the first rows of the file as known; the others are asked for again."""
        self._at = {key: at for key, at in self._at.items() if at < after}

    def _write(self, keys: Sequence[bytes], rows: Float32[np.ndarray, "n width"]) -> None:
        records = np.empty(len(keys), self._kind)
        records["key"] = np.array(keys, f"V{_KEY}")
        records["row"] = rows
        records["crc"] = [_crc(key, row) for key, row in zip(keys, records["row"], strict=True)]
        with told_plainly(self._path), self._path.open("ab") as file:
            try:
                file.write(records.tobytes())
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                with contextlib.suppress(OSError):  # else it is cut off when it is next opened
                    os.truncate(self._path, self._stored * self._kind.itemsize)
                raise
        self._map()

    @property
    def _kind(self) -> np.dtype:
        return np.dtype([("key", f"V{_KEY}"), ("crc", "<u4"), ("row", "<f4", (self.width,))])

    @property
    def _about(self) -> Path:
        return self._path.with_suffix(".json")

    def _known_width(self) -> int:
        if not self._about.exists():
            return 0
        try:
            told = json.loads(self._about.read_text(encoding="utf-8"))
            width = told["width"]
            good = told["format"] == FORMAT and isinstance(width, int) and 0 < width < 1 << 20
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{self._about} is damaged ({error}): remove its folder.") from error
        if not good:
            raise DataError(f"{self._about} is of another format: remove its folder.")
        return width

    def _begin(self) -> None:
        if not self._writes:
            return
        with told_plainly(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
        with whole_file(self._about) as aside:
            aside.write_text(json.dumps({"format": FORMAT, "width": self.width}))

    def _open(self) -> None:
        """Index the records; what follows the first broken one was torn, and goes."""
        if not self._path.exists():
            return
        self._map()
        if self._rows is None:
            return
        good = 0
        for record in self._rows:
            key = record["key"].tobytes()
            if record["crc"] != _crc(key, record["row"]):
                break
            self._at[key] = good
            good += 1
        size = good * self._kind.itemsize
        if self._writes and self._path.stat().st_size != size:
            with told_plainly(self._path):
                os.truncate(self._path, size)
        self._rows, self._stored = self._rows[:good], good

    def _map(self) -> None:
        count = self._path.stat().st_size // self._kind.itemsize
        self._rows = np.memmap(self._path, self._kind, "r", shape=(count,)) if count else None
        self._stored = count


class KeptVectors(Wrapped):
    """An Encoder that keeps what it encodes: images by their bytes, texts by their words.

    Images that come as files' bytes or as arrays of pixels are known again; others are not kept.
    Of an encoder that tells the features of its tower those are kept, and serve for both.

    Attributes:
        found, encoded: inputs whose vectors were there, and that were encoded, so far.
    """

    def __init__(
        self, encoder: Encoder, folder: Path, ranks: Ranks = ALONE, *, identity: str = ""
    ) -> None:
        """Open the vectors of this encoder; nobody else may write there meanwhile.

        Args:
            encoder: has an `identity`,
            identity: which reads all weights, so who knows it says it.
            folder: those of each encoder lie in a folder of their own there.
            ranks: who asks together; the first one writes, the others only read, and remember.

        Raises:
            DataError: files of another format.
        """
        super().__init__(encoder)
        identity = identity or str(getattr(encoder, "identity", ""))
        assert identity, "an encoder without identity has no vectors to be known again"
        self._folder = folder / hashlib.blake2b(identity.encode(), digest_size=12).hexdigest()
        self._ranks = ranks
        self._logs: dict[str, RowLog] = {}
        self.found = self.encoded = 0
        self._finish = getattr(encoder, "encode_features", None)
        if hasattr(encoder, "features"):
            self.features = self._features

    def encode_images(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n d"]:
        """Return one unit-length row an image."""
        if self._finish is not None:
            return self._finish(self._features(images))
        return self._each("images", images, [*map(_image_key, images)], super().encode_images)

    def encode_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return one unit-length row a text."""
        keys = [_digest(text.encode(errors="surrogatepass")) for text in texts]
        return self._each("texts", texts, keys, super().encode_texts)

    def _features(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n width"]:
        encode = self._encoder.features  # type: ignore[attr-defined]
        return self._each("features", images, [*map(_image_key, images)], encode)

    def _log(self, name: str) -> RowLog:
        """Open a log; what not every rank sees there (on a disk of its own) none knows."""
        path, first = self._folder / f"{name}.rows", self._ranks.first
        logs = []
        for turn in (True, False):  # the first one cuts off a torn end before others look
            with self._ranks.together():
                if first == turn:
                    logs.append(RowLog(path, writes=first))
        counts = self._ranks.hear(logs[0].stored)
        if min(counts) < max(counts):
            logs[0].forget(min(counts))
        return logs[0]

    def _each(
        self,
        name: str,
        items: Sequence[Any],
        keys: Sequence[bytes | None],
        encode: Callable[[Any], np.ndarray],
    ) -> np.ndarray:
        """Return rows that are there, or encode them: all of the new ones at once."""
        if name not in self._logs:
            self._logs[name] = self._log(name)
        log = self._logs[name]
        known = [key for key in keys if key is not None]
        place = dict(zip(known, log.find(known), strict=True))
        new = list(_first_of(items, keys, place))
        self.encoded += len(new)
        self.found += len(items) - len(new)
        if len(new) == len(items):
            rows = encode(list(items))
        else:
            fresh = encode([items[at] for at in new]) if new else None
            rows = np.empty((len(items), log.width if fresh is None else fresh.shape[1]), "f4")
            if fresh is not None:
                rows[new] = fresh
            row_of = {keys[at]: at for at in new if keys[at] is not None}
            stored = [at for at, key in enumerate(keys) if key and place[key] >= 0]
            if stored:
                rows[stored] = log.take([place[key] for at in stored if (key := keys[at])])
            for at, key in enumerate(keys):  # the same image twice
                if key in row_of:
                    rows[at] = rows[row_of[key]]
        # A fault that may pass is not kept.
        kept = [at for at in new if keys[at] is not None and np.isfinite(rows[at]).all()]
        log.append([key for at in kept if (key := keys[at])], rows[kept])
        return rows


def _first_of(
    items: Sequence[Any], keys: Sequence[bytes | None], place: dict[bytes, int]
) -> Iterator[int]:
    """Yield the places of inputs that have to be encoded; of equal ones the first."""
    met: set[bytes] = set()
    for at in range(len(items)):
        key = keys[at]
        if key is None:
            yield at
        elif place[key] < 0 and key not in met:
            met.add(key)
            yield at


def _image_key(image: ImageLike) -> bytes | None:
    if isinstance(image, bytes):
        return _digest(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return _digest(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes())
    return None


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_KEY).digest()


def _crc(key: bytes, row: np.ndarray) -> int:
    return zlib.crc32(row.tobytes(), zlib.crc32(key))
