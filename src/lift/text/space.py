"""The identity of a fixed embedding space: everything that decides what a text vector means.

Precision, device and package versions move the numbers of a vector by their rounding (about 1e-7
in float32, 1e-3 in bfloat16). They don't make another space and are not in the fingerprint; a
cache records them in its plan and manifest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from lift.config import from_dict, to_dict
from lift.errors import CacheError
from lift.identity import Identity

FORMAT = "lift.text.space/1"
"""Hashed with the fields, so that a field added later can't silently keep an old fingerprint."""


@dataclass(frozen=True, kw_only=True)
class TextSpace(Identity):
    """What has to be equal for two text vectors to be comparable.

    Attributes:
        encoder: how the vectors are computed ("sentence-transformers", "hashing").
        model: hub id of the model, or "local" where only its content identifies it.
        revision: commit on the hub, or "sha256:..." of the content; never a path or a branch.
        prompt: text put before every caption, "" for none.
        pooling: how token vectors become one ("mean", "cls", ...), with layers after it.
        max_tokens: longer texts are cut here, special tokens included.
        normalised: whether the rows have unit length.
        dimensions: length of a row.
    """

    FORMAT: ClassVar[str] = FORMAT
    KIND: ClassVar[str] = "text space"

    encoder: str
    model: str
    revision: str
    prompt: str
    pooling: str
    max_tokens: int
    normalised: bool
    dimensions: int

    def to_json(self) -> str:
        """Return indented JSON: format, fingerprint, fields."""
        head = {"format": FORMAT, "fingerprint": self.fingerprint}
        return json.dumps({**head, **to_dict(self)}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> TextSpace:
        """Return the space that `to_json` wrote.

        Raises:
            CacheError: not such a JSON, another format, or fields that don't give its fingerprint.
            ConfigError: an unknown or missing field, or a wrong type.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise CacheError(
                f"The description of a text space is not JSON ({error}); write it again."
            ) from error
        stated = values.pop("fingerprint", None) if isinstance(values, dict) else None
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise CacheError(
                f"The description of a text space is not of the format {FORMAT!r}; "
                "use the version of lift that wrote it."
            )
        space = from_dict(cls, values, "text space")
        if stated != space.fingerprint:
            raise CacheError(
                f"The description of a text space was changed after it was written: its fields "
                f"give the fingerprint {space.fingerprint}, not the stated {stated}."
            )
        return space
