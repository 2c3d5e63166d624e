"""Files that say what classes are called and how they are described.

Prompt templates with class names: {"SET": {"classes": [...], "templates": [...]}}; descriptors,
names in other languages, codes of classes: see the functions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lift.errors import DataError, unknown

_MOST_BYTES = 64 << 20
_MOST_CLASSES = 1_000_000


def templates_of(path: Path, name: str) -> tuple[str, ...]:
    """Return the templates of a set.

    Raises:
        ConfigError: no such set.
        DataError: a file that can't be read or is of another form.
    """
    return _texts(_list_of(path, name, "templates"), path)


def classes_of(path: Path, name: str) -> list[tuple[str, ...]]:
    """Return the names of every class of a set; a class may have one name or a list of them.

    Raises:
        ConfigError: no such set.
        DataError: a file that can't be read or is of another form.
    """
    listed = _list_of(path, name, "classes")
    return [_texts([found] if isinstance(found, str) else found, path) for found in listed]


def _list_of(path: Path, name: str, what: str) -> list[Any]:
    sets = _sets(path)
    if name not in sets:
        raise unknown("set of zeroshot.template_file:", name, sets)
    found = sets[name][what]
    if not isinstance(found, list) or not found:
        raise DataError(f"{path}: the {what} of {name!r} must be a list that is not empty.")
    return found


def _sets(path: Path) -> dict[str, Any]:
    sets = _json(path, "prompt templates")
    ok = isinstance(sets, dict) and all(
        isinstance(s, dict) and {"classes", "templates"} <= s.keys() for s in sets.values()
    )
    if not ok:
        raise DataError(f'{path} is not {{"SET": {{"classes": [...], "templates": [...]}}}}.')
    return sets


def _texts(found: Any, path: Path) -> tuple[str, ...]:
    texts: Sequence[Any] = found if isinstance(found, list) else ()
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(
            f"{path}: {json.dumps(found)[:60]} stands where a text or a list of texts should."
        )
    return tuple(texts)


# --- descriptors, languages, codes --------------------------------------------------------------


def descriptors_of(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the descriptors of each class: `{"CLASS": ["long tail", ...]}`.

    Raises:
        DataError: a file that can't be read or is of another form.
    """
    found = _json(path, "descriptors")
    if not isinstance(found, dict) or not found:
        raise DataError(f'{path} is not {{"CLASS": ["descriptor", ...]}}.')
    return {name: _texts(listed, path) for name, listed in found.items()}


def translated(path: Path, language: str) -> tuple[tuple[int, ...], tuple[tuple[str, ...], ...]]:
    """Return the numbers of the classes that a language has a name for, and those names.

    The file is Babel-ImageNet's (Geigle et al. 2023): `{"de": [[0, 2, ...], ["Schleie", ...]]}`.

    Raises:
        ConfigError: no such language.
        DataError: a file that can't be read or is of another form.
    """
    found = _json(path, "languages")
    if not isinstance(found, dict):
        raise DataError(f'{path} is not {{"LANGUAGE": [[number, ...], ["name", ...]]}}.')
    if language not in found:
        raise unknown("language of zeroshot.language_file:", language, list(found))
    told = found[language]
    if not isinstance(told, list) or len(told) != 2 or not isinstance(told[0], list):
        raise DataError(f"{path}: {language!r} must be a list of numbers and a list of names.")
    numbers, names = told[0], _texts(told[1], path)
    whole = all(type(number) is int and 0 <= number < _MOST_CLASSES for number in numbers)
    if not whole or len(numbers) != len(names) or len(set(numbers)) < len(numbers):
        raise DataError(
            f"{path}: {language!r} must have one name for each number, and every number once."
        )
    return tuple(numbers), tuple((name,) for name in names)


def coded(path: Path) -> list[tuple[str, str]]:
    """Return (code, first name) of all classes in the order of their numbers.

    The file is Kaggle's `LOC_synset_mapping.txt` (`n01440764 tench, Tinca tinca`) or Keras'
    `imagenet_class_index.json` (`{"0": ["n01440764", "tench"], ...}`).

    Raises:
        DataError: a file that can't be read or is of another form.
    """
    if path.suffix == ".json":
        found = _json(path, "class codes")
        numbers = [str(n) for n in range(len(found))] if isinstance(found, dict) else []
        listed = [found.get(number) for number in numbers]
        pairs = [_texts(one, path) for one in listed]
        told = [(pair[0], pair[-1].replace("_", " ")) for pair in pairs]
    else:
        lines = [line.partition(" ") for line in _text(path).splitlines() if line.strip()]
        told = [(code, names.partition(",")[0].strip()) for code, _, names in lines]
    if not told or not all(code and name for code, name in told):
        raise DataError(
            f'{path} holds neither lines \'CODE NAME, ...\' nor {{"0": ["CODE", "NAME"]}}.'
        )
    if len({code for code, _ in told}) < len(told):
        raise DataError(f"{path} has a code twice.")
    return told


def _json(path: Path, what: str) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"The file of {what} {path} is not JSON ({error}).") from error


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path} is larger than {_MOST_BYTES >> 20} MB: it is no such list.")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read ({error}).") from error
