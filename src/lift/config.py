"""Frozen dataclasses <-> JSON <-> `key=value` words; unknown keys and wrong types stop.

Every option of lift lives in one frozen dataclass beside the code that reads it. A part that is
chosen by name (a tower, an objective, ...) is a `Part`: the room, the name, and its options.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from lift.errors import ConfigError, unknown

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True)
class Part:
    """A part chosen by name: the file `lift/<room>/<name>.py` and the options of its `Config`.

    Attributes:
        room: the plugin room, for example "towers" or "text/encoders".
        name: the file in it, for example "vit".
        options: what differs from the defaults of the part's `Config`.
    """

    room: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


def part(room: str, name: str, /, **options: Any) -> Part:
    """Return `Part(room, name, options)`; reads well inside recipes."""
    return Part(room, name, options)


def part_field(room: str, name: str | None, /, **options: Any) -> Any:
    """Return a dataclass field that holds a part of `room`, this one if none is given."""
    default = None if name is None else Part(room, name, options)
    return field(default_factory=lambda: default, metadata={"room": room})


def to_dict(config: Any) -> Any:
    """Return plain dicts, lists and scalars of a (nested) dataclass, ready for JSON.

    Fields whose metadata say `saved: False` are left out.
    """
    if is_dataclass(config) and not isinstance(config, type):
        saved = [f.name for f in fields(config) if f.metadata.get("saved", True)]
        return {name: to_dict(getattr(config, name)) for name in saved}
    if isinstance(config, Mapping):
        return {str(key): to_dict(value) for key, value in config.items()}
    if isinstance(config, tuple | list):
        return [to_dict(value) for value in config]
    return config


def to_json(config: Any) -> str:
    """Return indented JSON of a (nested) dataclass; equal configs give equal text."""
    return json.dumps(to_dict(config), indent=2, ensure_ascii=False, sort_keys=False) + "\n"


def from_dict(kind: type[ConfigT], values: Mapping[str, Any], where: str = "") -> ConfigT:
    """Build the dataclass `kind` from plain values, strictly.

    Raises:
        ConfigError: unknown key (with the nearest match), missing key, or wrong type.
    """
    known = {f.name: f for f in fields(typing.cast(Any, kind))}
    hints = typing.get_type_hints(kind)
    for name in values:
        if name not in known:
            raise unknown(f"option of {where or kind.__name__}:", name, known)
    built = {}
    for name, value in values.items():
        room = known[name].metadata.get("room")
        if room and isinstance(value, str):  # a part by its bare name
            value = Part(room, value)
        built[name] = found = convert(hints[name], value, f"{where}.{name}" if where else name)
        if room and isinstance(found, Part) and found.room != room:  # a stranger's file may say so
            raise ConfigError(f"{where}.{name} must be a part of {room}, not of {found.room!r}.")
    missing = [
        f.name
        for f in known.values()
        if f.name not in built
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where or kind.__name__} lacks the option(s) {', '.join(missing)}.")
    return kind(**built)


def from_options(kind: type[ConfigT], options: Mapping[str, Any], where: str) -> ConfigT:
    """Build a part's `Config` from its options, which words may have written.

    More is understood than by `from_dict`: one value, or values with commas between them, where
    an option is a list; and words about a part inside the part, as `override` leaves them.

    Raises:
        ConfigError: as `from_dict`, or options of what has none.
    """
    known = {f.name: f for f in fields(typing.cast(Any, kind))}
    hints = typing.get_type_hints(kind)
    values = dict(options)
    for name in known.keys() & options.keys():
        value = options[name]
        if isinstance(value, Mapping) and _NAME in value:
            values[name] = _inner_part(known[name], value, f"{where}.{name}")
        elif (items := _items(hints[name], value)) is not None:
            values[name] = items
    return from_dict(kind, values, where)


_NAME = ""
"""Key of a part's name among words about it, where nobody knows its room and defaults yet: such a
part is `{"": its name or None for the default's, option: value, ...}`. No option is called so."""


def _inner_part(known: dataclasses.Field, told: Mapping[str, Any], where: str) -> Part:
    """Return the part that words name, or its field's default with their options."""
    room, name = known.metadata.get("room"), told[_NAME]
    options = {key: value for key, value in told.items() if key != _NAME}
    if not room:
        deeper = ", ".join(f"{known.name}.{key}" for key in options)
        raise ConfigError(f"{where} is no part with options: {deeper} goes deeper than they do.")
    if name is not None:
        return Part(room, name, options)
    default = typing.cast(Any, known.default_factory)()
    if default is None:
        raise ConfigError(f"{where} is none: give {known.name}=NAME before options of it.")
    return dataclasses.replace(default, options={**default.options, **options})


def convert(hint: Any, value: Any, where: str) -> Any:
    """Return `value` as the annotated type `hint`, or raise ConfigError naming `where`."""
    origin = get_origin(hint) or hint
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(get_args(hint), value, where)
    if origin is Literal:
        return _convert_literal(hint, value, where)
    if origin in (tuple, list, Mapping, dict):
        return _convert_collection(hint, value, where)
    if is_dataclass(hint):
        if isinstance(value, typing.cast(type, hint)):
            return value
        if isinstance(value, Mapping):
            return from_dict(typing.cast(Any, hint), value, where)
        raise _wrong_type(hint, value, where)
    return _convert_scalar(hint, value, where)


def _convert_literal(hint: Any, value: Any, where: str) -> Any:
    choices = get_args(hint)
    if value in choices:
        return value
    if isinstance(value, str):
        raise unknown(f"value of {where}:", value, [str(choice) for choice in choices])
    raise _wrong_type(hint, value, where)


def _convert_collection(hint: Any, value: Any, where: str) -> Any:
    if (get_origin(hint) or hint) in (Mapping, dict):
        if not isinstance(value, Mapping):
            raise _wrong_type(hint, value, where)
        return dict(value)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _wrong_type(hint, value, where)
    inner = get_args(hint)[0] if get_args(hint) else Any
    return tuple(convert(inner, v, f"{where}[{i}]") for i, v in enumerate(value))


def _convert_union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in args:
        return None
    others = [arg for arg in args if arg is not type(None)]
    for arg in others[:-1]:
        try:
            return convert(arg, value, where)
        except ConfigError:
            continue
    return convert(others[-1], value, where)


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ConfigError(f"{where} must be a finite number, not {value!r}.")
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint in (bool, str) and isinstance(value, hint):
        return value
    raise _wrong_type(hint, value, where)


_EXAMPLES = {int: "[64,128]", float: "[0.9,0.98]"}


def _wrong_type(hint: Any, value: Any, where: str) -> ConfigError:
    name = getattr(hint, "__name__", None) if get_origin(hint) is None else None
    if get_origin(hint) is tuple:
        name = f"a list, as {_EXAMPLES.get(get_args(hint)[0], '[one,two]')}"
    return ConfigError(f"{where} must be {name or hint}, not {value!r}.")


def override(config: ConfigT, words: Sequence[str]) -> ConfigT:
    """Return a copy of `config` with `path=value` words applied, left to right.

    A path goes through nested dataclasses and into the options of a `Part`, and of a part inside
    it. Giving a part a bare name (`objective=cosine`) swaps it for that file's defaults. A list is
    `[64,128]`, or without the brackets; one value stands for a list of one.

    Raises:
        ConfigError: no `=`, unknown path (with the nearest match), or wrong type.
    """
    changes: dict[str, Any] = {}
    for word in words:
        path, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is not an option; write it as key=value.")
        _note(config, path.split("."), text, path, changes)
    return _rebuild(config, changes)


def _note(config: Any, path: Sequence[str], text: str, whole: str, changes: dict) -> None:
    """Put one word into the tree of changes, its value converted; nothing is built yet.

    Values that have to fit each other (samples and batch size) are checked together at the end,
    so the order of the words does not matter.
    """
    name, rest = path[0], path[1:]
    config = changes.get(_WHOLE, config)
    if isinstance(config, Part):
        before = changes.get(name, config.options.get(name))
        changes[name] = _deepened(before, rest, text, whole) if rest else _literal(text)
        return
    if not is_dataclass(config):
        raise ConfigError(f"{whole} goes deeper than the options do.")
    known = {f.name: f for f in fields(config)}
    if name not in known:
        prefix = whole[: whole.rfind(name)]
        raise unknown("option", whole, [prefix + k for k in known])
    hint = typing.get_type_hints(type(config))[name]
    if rest:
        _note(getattr(config, name), rest, text, whole, changes.setdefault(name, {}))
    elif room := known[name].metadata.get("room"):
        empty = _literal(text) is None and type(None) in get_args(hint)
        changes[name] = {_WHOLE: None if empty else Part(room, text)}
    else:
        changes[name] = _read(hint, text, whole)


def _deepened(value: Any, path: Sequence[str], text: str, whole: str) -> dict[str, Any]:
    """Return an option of a part that is a part itself, with one word about it put in."""
    if isinstance(value, Part):
        value = to_dict(value)
    if isinstance(value, Mapping) and value.keys() == {"room", "name", "options"}:
        told: dict[str, Any] = {_NAME: value["name"], **value["options"]}
    elif isinstance(value, Mapping) and _NAME in value:
        told = dict(value)
    elif value is None or isinstance(value, str):
        told = {_NAME: value}
    else:
        raise ConfigError(f"{whole} goes deeper than the options do.")
    name, rest = path[0], path[1:]
    told[name] = _deepened(told.get(name), rest, text, whole) if rest else _literal(text)
    return told


_WHOLE = object()
"""Key, in a tree of changes, of what replaces the whole part."""


def _rebuild(config: Any, changes: dict) -> Any:
    if _WHOLE in changes:
        config = changes.pop(_WHOLE)
    if isinstance(config, Part):
        return dataclasses.replace(config, options={**config.options, **changes})
    if not changes:
        return config
    known = {
        name: _rebuild(getattr(config, name), value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return dataclasses.replace(config, **known)


def _read(hint: Any, text: str, whole: str) -> Any:
    """Return a word as the type of its option."""
    tries: list[Any] = [_literal(text), text]
    items = _items(hint, text)
    for value in tries if items is None else [*tries, items]:
        try:
            return convert(hint, value, whole)
        except ConfigError:
            continue
    return convert(hint, items or tries[0], whole)  # raises, about what was written


_IN_BRACKETS = re.compile(r"(?:[^][{}\"]|\{\})+")
_BARE = re.compile(r"[\w.+*/-]+")
"""An item of a list without brackets: nothing that a sentence, or a part with options, has."""


def _items(hint: Any, value: Any) -> list[Any] | None:
    """Return the list that a value stands for where an option is one; None: leave it as it is.

    `a,b` and `[a,b]` are lists of words, nothing is an empty one, and everything that can't be
    more is a list of one. Where the option may also be a plain string it is that, whatever commas
    it has.
    """
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    inner = next((get_args(kind)[0] for kind in kinds if get_origin(kind) is tuple), None)
    if inner is None or str in kinds or value is None or isinstance(value, Mapping | list | tuple):
        return None
    if not isinstance(value, str):
        return None if inner is str else [value]
    if not value:
        return []
    pieces, allowed = value.split(","), _BARE
    if value.startswith("[") and value.endswith("]"):
        pieces, allowed = [piece.strip() for piece in value[1:-1].split(",")], _IN_BRACKETS
    if not all(allowed.fullmatch(piece) for piece in pieces):
        return None if allowed is _IN_BRACKETS or inner is not str else [value]
    items = pieces if inner is str else [_literal(piece) for piece in pieces]
    return None if inner is not str and items == [value] else items


def _literal(text: str) -> Any:
    """Read a word as JSON (numbers, true, null, lists), else keep it as the string it is."""
    lowered = {"True": "true", "False": "false", "None": "null", "none": "null"}.get(text, text)
    try:
        return json.loads(lowered)
    except json.JSONDecodeError:
        return text
