"""What must be equal for two vectors to be comparable, and the hash that stands for it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import ClassVar

from lift.config import to_dict
from lift.errors import SpaceMismatch


class Identity:
    """The base of frozen dataclasses that say what a vector means.

    Attributes:
        FORMAT: hashed with the fields, so that a field added later can't silently keep an old
            fingerprint.
        KIND: what it is called in messages.
    """

    FORMAT: ClassVar[str]
    KIND: ClassVar[str]

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 (64 hex digits) of the canonical JSON of format and fields."""
        canonical = json.dumps(
            {"format": self.FORMAT, **to_dict(self)},
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=True,
        )
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()

    def differences(self, other: Identity) -> dict[str, tuple[object, object]]:
        """Return {field: (own value, other's value)} of the fields that differ.

        Of two kinds it is the kind that differs.
        """
        if type(self) is not type(other):
            return {"kind": (self.KIND, other.KIND)}
        pairs = {
            field.name: (getattr(self, field.name), getattr(other, field.name))
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
        }
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def require_same(
        self, other: Identity, *, ours: str = "this", theirs: str = "the other"
    ) -> None:
        """Do nothing if both are one.

        Args:
            other: what to compare with.
            ours: what to call the owner of this one in the message.
            theirs: what to call the owner of the other.

        Raises:
            SpaceMismatch: with both fingerprints and the fields that differ, or with both kinds.
        """
        if self == other:
            return
        if type(self) is not type(other):
            raise SpaceMismatch(
                f"{_capital(ours)} holds vectors of one {self.KIND}, and {theirs} makes vectors of "
                f"one {other.KIND}; captions and images go into folders of their own."
            )
        fields = "; ".join(
            f"{name}: {a!r} against {b!r}" for name, (a, b) in self.differences(other).items()
        )
        raise SpaceMismatch(
            f"Two {self.KIND}s that have to be one are not: {ours} has the fingerprint "
            f"{self.fingerprint}, {theirs} has {other.fingerprint} ({fields}); "
            "use the same encoder and options for both, or embed into another folder."
        )


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
