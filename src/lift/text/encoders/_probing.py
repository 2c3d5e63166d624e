"""Try a tokenizer on the probes: one whose files are missing makes the same of every text."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from lift.errors import ConfigError

_ALIKE = 0.25
"""Share of the probes that may be the same to a tokenizer as another one: a vocabulary may lack a
whole script, and the probes have four besides the Latin one."""


def require_distinct(ids: Sequence[Hashable], whose: str) -> None:
    """Raise ConfigError if too many different texts have the same ids.

    Args:
        ids: of one text each, all of them different texts; none where nobody can tell.
        whose: what to call the tokenizer in the message.
    """
    alike = len(ids) - len(set(ids))
    if alike > _ALIKE * len(ids):
        raise ConfigError(
            f"Of {len(ids)} different texts {alike} are the same as another one to {whose}, so "
            "that they would have one row; its vocabulary is missing or that of another model: "
            "get the tokenizer's files again."
        )
