"""An item made ready to be stored: its texts cleaned, its images read, its digest."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lift.cache.addresses import content_hash
from lift.data.image import file_content, picture
from lift.data.tally import Tally
from lift.errors import BrokenSample, DataError
from lift.search.filters import NAME
from lift.search.terms import IMAGE_FIELD, Fact, Item, Kind
from lift.terms import ImageLike
from lift.text.encoder import caption_key, clean

LONGEST_KEY, LONGEST_FACT, MOST_FACTS = 1_024, 4_096, 256
LONGEST_TEXT, MOST_ROWS = 100_000, 1_000
"""Characters of a text; texts and images of an item."""

_QUALITY = 85


@dataclass
class Row:
    """A vector to be.

    Attributes:
        kind, field, number: what it is of.
        content: 16 bytes by which its content is known.
        value: what is encoded: the text, or the bytes of the image file.
        place: in the file of its kind, once it has one.
    """

    kind: Kind
    field: str
    number: int
    content: bytes
    value: Any
    place: int = -1


@dataclass
class Prepared:
    """An item as it is stored.

    Attributes:
        key, facts: of the item.
        digest: of all its parts: equal where nothing changed.
        texts: JSON, by field.
        images: how many.
        pictures: small JPEGs.
        rows: its vectors to be.
    """

    key: str
    facts: Mapping[str, Fact]
    digest: bytes
    texts: str
    images: int
    pictures: list[bytes]
    rows: list[Row]

    @property
    def size(self) -> int:
        """Bytes of image files that it holds."""
        return sum(len(row.value) for row in self.rows if row.kind == "image")


def prepared(
    item: Item, thumbnails: int, left_out: Tally, known: bytes | None = None
) -> Prepared | None:
    """Return an item ready to be stored; None, and a count, where nothing of it can be used.

    Args:
        item: as it came.
        thumbnails: pixels of the longer side of the pictures that are kept, 0 for none.
        left_out: takes what can't be used: empty texts, images that can't be read.
        known: the digest of the item as it is stored; where it is the same no image is decoded.

    Raises:
        DataError: a key, a field or a fact that is none.
    """
    key = checked_key(item.key)
    facts = _checked_facts(key, item.facts)
    rows, kept = _text_rows(key, item, left_out)
    files: list[Row] = []
    for image in item.images:
        try:
            content = _bytes(image)
        except BrokenSample as error:
            left_out.add(error.kind, f"{key}: {error}")
            continue
        files.append(Row("image", IMAGE_FIELD, len(files), content_hash(content), content))
    if len(rows) + len(files) > MOST_ROWS:
        raise DataError(
            f"Item {key!r} has {len(rows) + len(files):,} texts and images; {MOST_ROWS:,} at most."
        )
    texts = json.dumps(kept, ensure_ascii=False)
    if known is not None and _digest(kept, [*rows, *files], facts, thumbnails) == known:
        return Prepared(key, facts, known, texts, len(files), [], [])
    pictures: list[bytes] = []
    for row in files:
        try:
            pictures.append(small(row.value, thumbnails) if thumbnails else _opens(row.value))
        except BrokenSample as error:
            left_out.add(error.kind, f"{key}: {error}")
            continue
        row.number = len(pictures) - 1
        rows.append(row)
    if not rows:
        left_out.add("item without text and image", key)
        return None
    digest = _digest(kept, rows, facts, thumbnails)
    return Prepared(key, facts, digest, texts, len(pictures), pictures, rows)


def _text_rows(key: str, item: Item, left_out: Tally) -> tuple[list[Row], dict[str, list[str]]]:
    """Return a row for each text of an item that can be used, and those texts by field."""
    rows: list[Row] = []
    kept: dict[str, list[str]] = {}
    for name, texts in item.texts.items():
        if not NAME.fullmatch(name) or name == IMAGE_FIELD:
            raise DataError(f"{name[:80]!r} is no name for a field of texts (item {key!r}).")
        for text in texts:
            found = _text(text)
            if not found:
                left_out.add("empty or too long text", f"{key}, {name}")
                continue
            own = kept.setdefault(name, [])
            rows.append(Row("text", name, len(own), caption_key(found), found))
            own.append(found)
    return rows, kept


def _digest(
    texts: Mapping[str, list[str]], rows: list[Row], facts: Mapping[str, Fact], thumbnails: int
) -> bytes:
    told = [texts, [row.content.hex() for row in rows], dict(facts), thumbnails]
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=16).digest()


def _text(text: str) -> str:
    """Return a cleaned text, "" where it can't be used."""
    try:
        found = clean(text)
    except DataError:
        return ""
    return "" if "\0" in found or len(found) > LONGEST_TEXT else found


def checked_key(key: str) -> str:
    """Return a key of an item. Raises DataError where it can't be one."""
    if not isinstance(key, str) or not key or len(key) > LONGEST_KEY or "\0" in key:
        raise DataError(
            f"{str(key)[:80]!r} is no key of an item: from 1 to {LONGEST_KEY:,} characters, "
            "without NUL."
        )
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"The key {key[:80]!r} is not valid Unicode.") from error
    return key


def _checked_facts(key: str, facts: Mapping[str, Fact]) -> dict[str, Fact]:
    if len(facts) > MOST_FACTS:
        raise DataError(f"Item {key!r} has {len(facts):,} facts; {MOST_FACTS} at most.")
    found: dict[str, Fact] = {}
    for name, value in facts.items():
        if not NAME.fullmatch(name):
            raise DataError(f"{name[:80]!r} is no name of a fact (item {key!r}).")
        if isinstance(value, np.generic):
            value = value.item()
        sane = isinstance(value, bool | str) or (
            isinstance(value, int | float) and math.isfinite(value) and abs(value) < 1e300
        )
        if not sane or (isinstance(value, str) and len(value) > LONGEST_FACT):
            raise DataError(
                f"The fact {name} of item {key!r} is {str(value)[:80]!r}: facts are texts of up "
                f"to {LONGEST_FACT:,} characters, finite numbers, true or false."
            )
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 63:
            value = float(value)
        found[name] = value.encode(errors="replace").decode() if isinstance(value, str) else value
    return found


def _bytes(image: ImageLike) -> bytes:
    """Return the bytes of an image file, or a PNG of what is no file.

    Raises:
        BrokenSample: it can't be read.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        return file_content(Path(image), str(image))
    pixels = picture(image).pixels().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _opens(content: bytes) -> bytes:
    """Return nothing. Raises BrokenSample where the image can't be read."""
    picture(content).pixels(8)
    return b""


def small(content: bytes, side: int) -> bytes:
    """Return a JPEG whose longer side has `side` pixels at most.

    Raises:
        BrokenSample: the image can't be read.
    """
    found = picture(content)
    longer = max(found.height, found.width)
    shrink = next(s for s in (8, 4, 2, 1) if s == 1 or longer // s >= side)
    image = Image.fromarray(found.pixels(shrink).permute(1, 2, 0).numpy())
    if longer > side:
        size = (
            max(1, round(found.width * side / longer)),
            max(1, round(found.height * side / longer)),
        )
        image = image.resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
