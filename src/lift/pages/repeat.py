"""The commands that would do a run again, for its page."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping
from typing import Any

from lift import plugins
from lift.config import to_dict
from lift.errors import MissingPackage
from lift.pages.record import Record

ROOM = "text/encoders"


def commands_of(record: Record) -> tuple[list[str], bool]:
    """Return the commands that repeat the run, and whether they had to be inferred."""
    run = record.run
    recorded = run.get("commands") or run.get("command")
    if recorded:
        return ([recorded] if isinstance(recorded, str) else [str(c) for c in recorded]), False
    config = run.get("config")
    if not isinstance(config, Mapping) or not config:
        return [], False
    # The folder holds every option. The slash: a folder may be called like a recipe.
    commands = [shlex.join(["lift", "train", f"{record.name}/", "--out", "again"])]
    data, cache = config.get("data"), config.get("cache")
    if data and cache:
        sources = [str(config[name]) for name in ("data", "validation") if config.get(name)]
        words = ["lift", "embed", "--data", *sources, "--out", str(cache)]
        encoder = encoder_words(config.get("encoder"))
        commands.insert(0, shlex.join([*words, *(["--encoder", encoder] if encoder else [])]))
    return commands, True


def encoder_words(part: Any) -> str:
    """Return `name:key=value,...` of a text encoder, with the options that are not its defaults.

    Args:
        part: room, name and options, as run.json holds them; anything else gives no words.
    """
    if not isinstance(part, Mapping) or not part.get("name"):
        return ""
    name, options = str(part["name"]), part.get("options")
    usual = _defaults(name)
    words = [
        f"{key}={_word(value)}"
        for key, value in (options.items() if isinstance(options, Mapping) else ())
        if key not in usual or usual[key] != value
    ]
    return f"{name}:{','.join(words)}" if words else name


def _defaults(name: str) -> dict[str, Any]:
    """Return the default of each option; none where this machine can't load the encoder."""
    if name not in plugins.names(ROOM):
        return {}
    try:
        known = dataclasses.fields(plugins.load(ROOM, name).Config)
    except MissingPackage:
        return {}
    return {f.name: to_dict(f.default) for f in known}


def _word(value: Any) -> str:
    """Return a value as it is written on the command line: text bare unless it would be misread."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except ValueError:
        return json.dumps(value) if set(value) & set(',"[]{}+') else value
    return json.dumps(value)
