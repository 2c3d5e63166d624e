"""Values of a record to captions and fields: strings and lists of strings, never empty."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from lift.errors import DataError
from lift.terms import Caption


def captions(value: Any, role: str, sample: str) -> list[Caption]:
    """Return the captions in a column or JSON field: a string, or a list of strings.

    Raises:
        DataError: no text, an empty one, or another type; the sentence names the sample.
    """
    texts = value if isinstance(value, list | tuple) else [value]
    if not texts:
        raise DataError(f"Sample {sample} has an empty caption ({role!r} holds no text).")
    return [Caption(_checked(text, role, sample), role) for text in texts]


def _checked(text: Any, role: str, sample: str) -> str:
    if text is None or (isinstance(text, str) and not text.strip()):
        raise DataError(
            f"Sample {sample} has an empty caption in {role!r}; mend it or leave the sample out."
        )
    if not isinstance(text, str):
        raise DataError(
            f"Sample {sample} has a caption in {role!r} that is {type(text).__name__}, not text."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:  # half of a pair, which JSON can spell
        raise DataError(
            f"Sample {sample} has a caption in {role!r} that can't be written as UTF-8 "
            f"({error}); mend it or leave the sample out."
        ) from error
    return text.strip()


def lines(text: bytes, role: str, sample: str) -> list[Caption]:
    """Return one caption for each line that is not blank; lines end in \\n or \\r\\n only.

    Raises:
        DataError: nothing but blanks, or not UTF-8.
    """
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"Sample {sample} has a caption that is not UTF-8 ({error}).") from error
    # splitlines() would also cut a caption at a form feed or a paragraph separator inside it.
    return captions([line for line in decoded.split("\n") if line.strip()], role, sample)


def as_fields(record: Mapping[str, Any], leave_out: Iterable[str]) -> dict[str, str]:
    """Return the scalar values of a record as text; lists, bytes and nulls are not fields."""
    out = set(leave_out)
    return {
        name: json.dumps(value) if isinstance(value, bool | int | float) else str(value)
        for name, value in record.items()
        if name not in out
        and value is not None
        and not isinstance(value, dict | list | tuple | bytes)
    }
