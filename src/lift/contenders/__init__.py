"""One file a kind of model that can be judged: `build(config)` makes an `Encoder` of it.

Such a file has a frozen dataclass `Config` and `build(config, device)`, which returns an
`lift.terms.Encoder`: `name`, `saw`, `encode_images`, `encode_texts`, and of `lift.terms.BESIDE`
what it can. Equal `identity` has to mean equal vectors, so it is made of weights, pixels and text
space, never of a path. Where options could do harm if a stranger chose them nothing else reads
them: a contender is named by the user alone.
"""

from __future__ import annotations

import os

from lift import plugins
from lift.config import Part
from lift.data.source import parse_part
from lift.errors import CheckpointError
from lift.terms import Encoder
from lift.world import choose_device

ROOM = "contenders"


def contender(words: str) -> Part:
    """Return the part of a model in words: a folder of ours, or `KIND:option=value,...`.

    Raises:
        ConfigError: no such kind or option (with the nearest match).
        CheckpointError: a path at which nothing lies.
    """
    kind, colon, _ = words.partition(":")
    there = os.path.exists(words)  # unlike a Path's, never raises: words may be long
    if there or (not colon and kind not in plugins.names(ROOM)):
        if not there:
            known = ", ".join(plugins.names(ROOM))
            raise CheckpointError(
                f"{words} is neither a folder nor a kind of model ({known}): write a folder of "
                "a run or a model, or KIND:option=value."
            )
        return Part(ROOM, "lift", {"model": words})
    return parse_part(ROOM, words)


def open_contender(words: str, *, device: str = "auto") -> Encoder:
    """Return what a model in words is to evaluations.

    Raises:
        ConfigError, CheckpointError: there is none, or it can't be read.
        MissingPackage: it needs a package that is not installed.
    """
    return plugins.build(contender(words), choose_device(device))
