"""Values of a record to captions and fields: strings and lists of strings, never empty."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from lift.data import kinds
from lift.errors import BrokenSample, ConfigError
from lift.terms import Caption

_SPELLED = {"[": "]", "{": "}"}


class Column(NamedTuple):
    """A column or JSON field with captions, and their role."""

    name: str
    role: str


class NotText:
    """Stands for a string of a file whose bytes are no UTF-8."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def __str__(self) -> str:
        return self._value.decode("utf-8", "replace")


def columns_of(words: str | Iterable[str]) -> tuple[Column, ...]:
    """Return the columns that `NAME` or `NAME:ROLE` (or a list of them) name.

    Without a role the column's own name is the role.

    Raises:
        ConfigError: an empty name or role.
    """
    found = []
    for word in [words] if isinstance(words, str) else words:
        name, colon, role = word.rpartition(":")
        name, role = (name, role) if colon else (word, word)
        if not name or not role:
            raise ConfigError(f"{word!r} names no column of captions; write COLUMN or COLUMN:ROLE.")
        found.append(Column(name, role))
    return tuple(found)


def captions(value: Any, role: str, sample: str, most: int = 20_000) -> list[Caption]:
    """Return the captions in a column or JSON field: a string, or a list of strings.

    Args:
        value: what stands there.
        role: of the captions.
        sample: its key, for the sentence.
        most: characters of a caption.

    Raises:
        BrokenSample: no text, an empty one, one that is too long or no UTF-8, or another type.
    """
    texts = value if isinstance(value, list | tuple) else [value]
    if not texts:
        raise BrokenSample(
            kinds.CAPTION_EMPTY, f"Sample {sample} has an empty caption ({role!r} holds no text)."
        )
    return [Caption(_checked(text, role, sample, most), role) for text in texts]


def _checked(text: Any, role: str, sample: str, most: int) -> str:
    # Millions of captions come through here, most of them good.
    if isinstance(text, str) and text.isascii() and len(text) <= most and "\0" not in text:
        if bare := text.strip():
            return bare
    where = f"Sample {sample} has a caption in {role!r}"
    if text is None or (isinstance(text, str) and not text.strip()):
        raise BrokenSample(
            kinds.CAPTION_EMPTY,
            f"Sample {sample} has an empty caption in {role!r}; mend it or leave the sample out.",
        )
    if isinstance(text, NotText):
        raise BrokenSample(kinds.CAPTION_NO_UTF8, f"{where} that is not UTF-8.")
    if not isinstance(text, str):
        raise BrokenSample(
            kinds.CAPTION_NO_TEXT, f"{where} that is {type(text).__name__}, not text."
        )
    if len(text) > most:
        raise BrokenSample(
            kinds.CAPTION_LONG,
            f"{where} of {len(text):,} characters; up to {most:,} are read (max_caption_chars).",
        )
    if "\0" in text:
        raise BrokenSample(kinds.CAPTION_NUL, f"{where} with a NUL byte in it; it is no text.")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # half of a pair, which JSON can spell
        raise BrokenSample(
            kinds.CAPTION_NO_UTF8,
            f"{where} that can't be written as UTF-8 ({error}); mend it or leave the sample out.",
        ) from error
    return text.strip()


class Usable(tuple[Caption, ...]):
    """Captions of a sample that can be used.

    Attributes:
        troubles: what is wrong with its others.
    """

    troubles: Sequence[BrokenSample] = ()

    def in_language(self, tag: str) -> Usable:
        """Return the same captions, which are in a language."""
        told = Usable(caption._replace(language=tag.strip()) for caption in self)
        told.troubles = self.troubles
        return told


def usable(makers: Iterable[Callable[[], Sequence[Caption]]]) -> Usable:
    """Return the captions that each maker returns.

    Raises:
        BrokenSample: the first trouble, where no maker returns a caption.
    """
    found: list[Caption] = []
    troubles: list[BrokenSample] = []
    for make in makers:
        try:
            made = make()
        except BrokenSample as error:
            troubles.append(error)
        else:
            found += made
            troubles += getattr(made, "troubles", ())
    if troubles and not found:
        raise troubles[0]
    told = Usable(found)
    told.troubles = troubles
    return told


def captions_of(
    row: Mapping[str, Any], columns: Iterable[Column], sample: str, most: int
) -> Usable:
    """Return the captions of some columns of a row, or fields of a record, that can be used.

    Raises:
        BrokenSample: there is none; as `captions` does, or a record has none of the fields.
    """

    def field(column: Column) -> Usable:
        if column.name not in row:
            known = ", ".join(sorted(map(str, row))) or "none"
            raise BrokenSample(
                kinds.CAPTION_NO_FIELD,
                f"Sample {sample} has no field {column.name!r}; known: {known:.200}.",
            )
        value = row[column.name]
        texts = value if isinstance(value, list | tuple) and value else [value]
        return usable(partial(captions, text, column.role, sample, most) for text in texts)

    return usable(partial(field, column) for column in columns)


def spelled(value: Any) -> Any:
    """Return the list or object that a cell of a text table spells in JSON, else the cell."""
    if isinstance(value, list) and len(value) == 1:  # where other rows have lists
        inner = spelled(value[0])
        return value if isinstance(inner, str) else inner
    if isinstance(value, str) and _SPELLED.get(value[:1], "\0") == value[-1:]:
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            pass
    return value


def lines(text: bytes, role: str, sample: str, most: int = 20_000) -> Usable:
    """Return one caption for each line that is not blank; lines end in \\n or \\r\\n only.

    Raises:
        BrokenSample: nothing but blanks, not UTF-8, or no line that can be used.
    """
    # splitlines() would also cut a caption at a form feed or a paragraph separator inside it.
    told = [line for line in text.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]

    def one(line: bytes) -> list[Caption]:
        try:
            return captions(line.decode("utf-8"), role, sample, most)
        except UnicodeDecodeError as error:
            raise BrokenSample(
                kinds.CAPTION_NO_UTF8,
                f"Sample {sample} has a caption that is not UTF-8 ({error}).",
            ) from error

    return usable(partial(one, line) for line in told or [b""])


def as_fields(record: Mapping[str, Any], leave_out: Iterable[str]) -> dict[str, str]:
    """Return the scalar values of a record as text; lists, bytes and nulls are not fields.

    Half of a surrogate pair, which JSON can spell and UTF-8 can't, is spelled out (`\\ud800`).
    """
    out = set(leave_out)
    return {
        _sound(name): json.dumps(value)
        if isinstance(value, bool | int | float)
        else _sound(str(value))
        for name, value in record.items()
        if name not in out
        and value is not None
        and not isinstance(value, dict | list | tuple | bytes)
    }


def _sound(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
