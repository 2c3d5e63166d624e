"""Whose code computes a model's rows: the library's, or Python files that come with the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lift.errors import ConfigError
from lift.text.encoders._json_files import read_any_json

OWN, LIBRARY = "own-code", "library-code"
"""Steps in the pooling of a space: one folder read with either code gives different rows."""


def code_step(
    folders: Iterable[Path],
    *,
    model: str,
    trusted: bool,
    ignored: bool,
    classes: Iterable[str] = (),
    replaceable: Iterable[str] = (),
) -> str | None:
    """Return the step that says whose code runs, None where the files name only the library's.

    transformers takes its own class in silence where a file names another one and trust is not
    given, which is another network under the same name.

    Args:
        folders: where configurations lie that may name classes (`auto_map`).
        model: a hub id, whose own repository is pinned by its commit, or "local".
        trusted: whether code that comes with the model runs.
        ignored: whether the user wants the library's classes in place of the model's.
        classes: other classes that the files name and that nothing can replace.
        replaceable: other classes that the files name and for which the library has a stand-in.

    Raises:
        ConfigError: the files name code, and nobody said whose is to run; or code to run comes
            from another repository, where it can change under the same name.
    """
    mapped = [name for folder in folders for name in _named(folder)]
    fixed, named = list(classes), [*mapped, *classes, *replaceable]
    if not named:
        return None
    if trusted and ignored:
        raise ConfigError(
            f"trust_remote_code=true runs code that comes with a model ({named[0]!r}) and "
            "ignore_remote_code=true leaves it out; give one of them."
        )
    if ignored and not fixed:
        return LIBRARY
    if not trusted:
        way_out = (
            "" if fixed else ", or ignore_remote_code=true for the library's own class instead"
        )
        raise ConfigError(
            f"The model brings its own code or names a class outside its library "
            f"({(fixed or named)[0]!r}); read that code, and if you trust it give "
            f"trust_remote_code=true yourself{way_out}: what a cache or a bundle says about trust "
            "is not believed."
        )
    for name in named:
        repository, found, _ = name.partition("--")
        if found and repository != model:
            raise ConfigError(
                f"The model names code of another repository ({name!r}), which can change while "
                "the model stays the same; download the model and that code into one folder, and "
                f"take {repository + '--'!r} out of its JSON files."
            )
    return OWN


def _named(folder: Path) -> Iterator[str]:
    """Yield what the `auto_map` of every configuration in a folder names.

    Raises:
        ConfigError: a file names a kernel of the hub, which is code that nothing pins.
    """
    for path in sorted(folder.glob("*config.json")):
        values = read_any_json(path, {})
        if isinstance(values, dict):  # others of that name may be lists, and none of ours
            yield from _strings(values.get("auto_map"))
            for one in (values, values.get("text_config")):
                _refuse_kernels(one, path)


def _refuse_kernels(values: Any, path: Path) -> None:
    for name in ("attn_implementation", "_attn_implementation", "experts_implementation"):
        found = values.get(name) if isinstance(values, dict) else None
        if any("/" in one for one in _strings(found)):
            raise ConfigError(
                f"{path} asks for a kernel of the hub ({name}={found!r}), code that can change "
                "while the model stays the same; take it out of the file."
            )


def _strings(value: Any) -> Iterator[str]:
    """Yield the texts in a value: a name, a list (slow and fast tokenizer), an object."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
