"""What stands for an image's row where a caption's text stands for the caption's."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

HASH_DIGITS = 32
"""Hex digits of BLAKE2b-128."""

WHOLE, VIEW, PATCH = "image", "view", "patch"
"""Roles of the rows of an image: all of it, a random view, a cell of the patch grid."""

_FORM = re.compile(r"[0-9a-f]{32}(/v(0|[1-9]\d{0,8})|/g(0|[1-9]\d{0,4}),(0|[1-9]\d{0,4}))?")


def content_hash(content: bytes) -> bytes:
    """Return the 16 bytes by which an image file is known, whatever it is called."""
    return hashlib.blake2b(content, digest_size=HASH_DIGITS // 2).digest()


class Place(NamedTuple):
    """Where an image can be read: which source, and its number there."""

    source: int
    number: int


class Address(str):
    """`HASH` of an image file, `HASH/v3` for random view 3, `HASH/g1,2` for a cell of a grid.

    Cells are (row, column) from the top left. It is text all over, so that caches of images are
    those of captions; the place is of this process only, and no part of what it says.

    Attributes:
        place: where the image can be read, None where nobody said.
    """

    __slots__ = ("place",)
    place: Place | None

    def __new__(cls, text: str, place: Place | None = None) -> Address:
        """Keep the text. Raises ValueError where it is no address."""
        if _FORM.fullmatch(text) is None:
            raise ValueError(f"{text!r} is no address of an image")
        made = super().__new__(cls, text)
        made.place = place
        return made

    @property
    def image(self) -> str:
        """Return the hash of the image file, 32 hex digits."""
        return self[:HASH_DIGITS]

    @property
    def role(self) -> str:
        """Return which kind of row it is: "image", "view" or "patch"."""
        mark = self[HASH_DIGITS + 1 : HASH_DIGITS + 2]
        return {"": WHOLE, "v": VIEW, "g": PATCH}[mark]

    @property
    def view(self) -> int:
        """Return the number of the view. Raises ValueError where it is none."""
        return int(self[HASH_DIGITS + 2 :])

    @property
    def cell(self) -> tuple[int, int]:
        """Return row and column in the grid. Raises ValueError where it is no cell."""
        row, _, column = self[HASH_DIGITS + 2 :].partition(",")
        return int(row), int(column)

    def __reduce__(self) -> tuple:
        return Address, (str(self), self.place)


def addresses(
    image: str, views: int = 0, grid: int = 0, place: Place | None = None
) -> list[Address]:
    """Return the addresses of all rows of an image: all of it, its views, its cells."""
    cells = [f"/g{row},{column}" for row in range(grid) for column in range(grid)]
    ends = ["", *(f"/v{number}" for number in range(views)), *cells]
    return [Address(image + end, place) for end in ends]
