"""Large JSON files an element at a time: the arrays of the object (or the array) that they are."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from lift.errors import DataError

_READ = 1 << 18
_LONGEST = 64 << 20
"""Characters of one element; more are no JSON of ours."""

_BLANKS = " \t\r\n"


class Item(NamedTuple):
    """An element of the array `name` at the top, or another value there; "" for the whole."""

    name: str
    value: Any


def items(path: Path) -> Iterator[Item]:
    """Yield every element of every array at the top of a JSON file; memory holds one.

    Raises:
        DataError: the file can't be read, or is not JSON.
    """
    try:
        with path.open("rb") as file:
            yield from _items(_Text(file, path))
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}).") from error


def _items(text: _Text) -> Iterator[Item]:
    if text.peek() != "{":
        yield from _elements(text, "")
    elif text.after("{") != "}":
        while True:
            name = text.value()
            if not isinstance(name, str) or text.peek() != ":":
                raise text.damaged("a name and a colon have to stand here")
            text.after(":")
            yield from _elements(text, name)
            if text.peek() != ",":
                break
            text.after(",")
        text.expect("}")
    else:
        text.expect("}")
    if text.peek():
        raise text.damaged("something stands behind its end")


def _elements(text: _Text, name: str) -> Iterator[Item]:
    if text.peek() != "[":
        yield Item(name, text.value())
    elif text.after("[") != "]":
        while True:
            yield Item(name, text.value())
            if text.peek() != ",":
                break
            text.after(",")
        text.expect("]")
    else:
        text.expect("]")


class _Text:
    """The text of a file through a window that grows only to the longest element."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._text, self._at, self._passed, self._ended = "", 0, 0, False

    def damaged(self, why: str) -> DataError:
        place = self._passed + self._at
        return DataError(f"{self._path} is not JSON (at character {place:,}: {why}).")

    def _more(self) -> bool:
        """Read on, forgetting what lies behind; return whether there was more."""
        if self._ended:
            return False
        # As much again as is held: an element of n characters is tried log n times.
        raw = self._file.read(max(_READ, len(self._text) - self._at))
        self._ended = not raw
        try:
            fresh = self._decoder.decode(raw, final=self._ended)
        except UnicodeDecodeError as error:
            raise DataError(f"{self._path} is not UTF-8 ({error}).") from error
        self._text = self._text[self._at :] + fresh
        self._passed += self._at
        self._at = 0
        return True

    def peek(self) -> str:
        """Return the next character that is not blank, "" at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _BLANKS:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def after(self, sign: str) -> str:
        """Step over a sign and return the next one."""
        self.expect(sign)
        return self.peek()

    def expect(self, sign: str) -> None:
        """Step over a sign. Raises DataError where another stands."""
        if self.peek() != sign:
            raise self.damaged(f"{sign!r} has to stand here")
        self._at += 1

    def value(self) -> Any:
        """Return the value that starts at the next character."""
        self.peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise self.damaged("it is nested too deeply") from error
            except ValueError as error:
                if len(self._text) - self._at > _LONGEST or not self._more():
                    raise self.damaged(str(error)) from error
                continue
            # A number that ends with the window may go on behind it.
            if end < len(self._text) or not self._more():
                self._at = end
                return value
