"""Export a model: written aside, compared on the spot, and left there only if it is the same."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lift import plugins
from lift.bundle import Bundle
from lift.config import Part, override, to_dict
from lift.errors import CheckpointError, ConfigError, DataError, MissingPackage, unknown
from lift.export import _pictures
from lift.export._card import Licences, write_card
from lift.export._protocol import Difference, Exporter, Written
from lift.files import is_leftover, sole_writer, whole_folder

MARKER = "lift_export.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export came to.

    Attributes:
        folder: where it lies.
        to: name of the exporter.
        pictures: what was compared on, in words.
        differences: from the model, as measured on what was reloaded.
        unchecked: why nothing was compared; "" where it was.
        notes: what the user must know.
        seconds: wall time.
    """

    folder: Path
    to: str
    pictures: str
    differences: tuple[Difference, ...]
    unchecked: str
    notes: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        lines = [f"{self.to}: {self.folder} ({self.seconds:.1f} s)"]
        if self.unchecked:
            lines.append(f"not compared with the model: {self.unchecked}")
        else:
            lines.append(f"compared with the model on {self.pictures}:")
        lines += [f"  {difference}" for difference in self.differences]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


def export_model(
    bundle: Bundle,
    to: str,
    out: str | Path,
    *,
    options: Sequence[str] = (),
    images: str | Sequence[np.ndarray] | None = None,
    tolerance: float | None = None,
    licences: Licences | None = None,
    evals: Path | None = None,
) -> Exported:
    """Write a model in another library's form, reload it there, and compare.

    Nothing is left at `out` unless every difference that is judged is within its tolerance.

    Args:
        bundle: the model, in float32.
        to: name of a file in this room; "-" and "_" are the same.
        out: folder to make; an earlier export there is replaced.
        options: of that file's `Config`, as "key=value".
        images: pictures to compare on, uint8 [h w 3], or words for a data source; None makes some.
        tolerance: in place of the exporter's own, for all vectors that are judged.
        licences: of the model and its data, as the user knows them.
        evals: folder of results that the card quotes; None: none.

    Raises:
        ConfigError: no such exporter or option, or a model that can't be had in this form.
        CheckpointError: something else is at `out`, or what was reloaded differs too much.
        MissingPackage: what writes it is not installed.
        DataError: no pictures at `images`.
        StorageError: the disk refused, or another process exports to `out`.
    """
    began, out = time.perf_counter(), Path(out)
    place = out.resolve()  # where a link leads; "." has no name
    name, config, exporter = _exporter(to, options)
    _check(bundle, tolerance)
    _require_replaceable(place)
    pictures = _given(images)
    with sole_writer(place), whole_folder(place) as aside:
        written = exporter.write(bundle, aside)
        differences, unchecked = _compared(exporter, bundle, aside, pictures, tolerance)
        _judge(name, differences)
        told = _pictures.in_words(pictures)
        called = place.name
        write_card(bundle, aside, called, written, differences, unchecked, told, licences, evals)
        _mark(aside, name, config, bundle, differences)
        _require_replaceable(place)  # somebody may have put a file there meanwhile
    return Exported(
        folder=out,
        to=name,
        pictures=told,
        differences=differences,
        unchecked=unchecked,
        notes=_placed(written, place.name),
        seconds=time.perf_counter() - began,
    )


def _exporter(to: str, options: Sequence[str]) -> tuple[str, Any, Exporter]:
    name = to.replace("-", "_")
    if name not in plugins.names("export"):
        raise unknown("export", to, plugins.names("export"))
    config = override(plugins.configure(Part("export", name)), list(options))
    return name, config, plugins.load("export", name).build(config)


def _check(bundle: Bundle, tolerance: float | None) -> None:
    if bundle.precision != "float32":
        raise ConfigError(
            f"The model computes in {bundle.precision}, and exports are compared in float32: load "
            "it with precision=float32."
        )
    if tolerance is not None and not 0 < tolerance < math.inf:
        raise ConfigError(f"tolerance must be above 0 and have an end, not {tolerance}.")


def _require_replaceable(place: Path) -> None:
    """Raise CheckpointError unless nobody misses what is there, were it gone."""
    if place.exists() and not (place.is_dir() and _is_replaceable(place)):
        raise CheckpointError(
            f"{place} holds something else than an export, which exporting would remove; choose "
            "another folder."
        )
    if Path.cwd().is_relative_to(place):
        raise CheckpointError(
            f"{place} is the folder that you are in, which exporting would replace under you; "
            "choose a folder in it."
        )


def _is_replaceable(place: Path) -> bool:
    """Return whether a folder is empty, or holds an export and nothing else."""
    there = _files(place)
    try:
        known = json.loads((place / MARKER).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return not there
    return isinstance(known, list) and there <= {*map(str, known), MARKER}


def _files(folder: Path) -> set[str]:
    """Return the files below a folder, as "a/b"; not what Python made of a module that was used."""
    found = set()
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        passing = path.parent.name == "__pycache__" or any(map(is_leftover, name.parts))
        if not passing and (path.is_symlink() or not path.is_dir()):
            found.add(name.as_posix())
    return found


def _given(images: str | Sequence[np.ndarray] | None) -> Sequence[np.ndarray]:
    if images is None:
        return _pictures.made()
    pictures = _pictures.of_source(images) if isinstance(images, str) else images
    if not len(pictures):
        raise DataError("There is no picture to compare on; leave images out, and some are made.")
    return pictures


def _compared(
    exporter: Exporter,
    bundle: Bundle,
    folder: Path,
    pictures: Sequence[np.ndarray],
    tolerance: float | None,
) -> tuple[tuple[Difference, ...], str]:
    try:
        found = exporter.check(bundle, folder, pictures)
    except MissingPackage as missing:
        return (), str(missing)
    if tolerance is not None:
        found = [
            one
            if one.tolerance is None or one.cosine is None
            else dataclasses.replace(one, tolerance=tolerance)
            for one in found
        ]
    return tuple(found), ""


def _judge(name: str, differences: Sequence[Difference]) -> None:
    """Raise CheckpointError for the first difference above its tolerance, or without an end."""
    for one in differences:
        allowed = sys.float_info.max if one.tolerance is None else one.tolerance
        if not one.largest <= allowed:
            raise CheckpointError(
                f"The export to {name} is not the model: {one}. Nothing was left; give a larger "
                "tolerance if that is near enough for you, else report it."
            )


def _placed(written: Written, folder: str) -> tuple[str, ...]:
    return tuple(note.replace("{folder}", folder) for note in written.notes)


def _mark(
    folder: Path, name: str, config: Any, bundle: Bundle, differences: Sequence[Difference]
) -> None:
    """Write what this folder is, so that a later export may replace it."""
    content = {
        "format": FORMAT,
        "to": name,
        "options": to_dict(config),
        "model": bundle.identity,
        "space": {"fingerprint": bundle.space.fingerprint, **to_dict(bundle.space)},
        "differences": [to_dict(one) for one in differences],
        "files": sorted(_files(folder)),
    }
    text = json.dumps(content, indent=2, allow_nan=False)
    (folder / MARKER).write_text(text + "\n", encoding="utf-8")
