"""Right and wrong captions by image, and the captions of COCO that lie beside them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from lift.data import kinds
from lift.data.formats._by_name import checked
from lift.data.formats._captions import Column, captions
from lift.data.formats._json_items import items
from lift.data.formats._layout import Absent, Told
from lift.data.formats._paths import read_bounded
from lift.data.formats._ragged import Ragged
from lift.data.formats._records import Listed
from lift.data.image import decode
from lift.errors import BrokenSample, DataError
from lift.terms import Caption, Foil, Sample

Box = tuple[int, int, int, int]
"""Left, top, width and height of a part of an image, in pixels."""

_OTHER = Column("caption", "caption")
_CAPTIONS = ("images.json", "captions_val2017.json", "annotations/captions_val2017.json")
"""Where COCO's captions lie beside questions about its photos."""

_MOST_JSON = 256 << 20


@dataclass
class Wanted:
    """What is asked of one image."""

    file: str
    foils: list[Foil]
    box: Box | None = None


def require_folder(path: str, what: str) -> Path:
    """Return the folder that a path names. Raises DataError where no path was given."""
    if not path:
        raise DataError(f"No path was given; set path to the folder of {what}.")
    return Path(path)


def question_files(folder: Path) -> list[Path]:
    """Return the files of questions in a folder, without captions that lie beside them."""
    names = {Path(name).name for name in _CAPTIONS}
    return sorted(file for file in folder.glob("*.json") if file.name not in names)


def read_json(file: Path, what: str) -> Any:
    """Return what a JSON file holds. Raises DataError: unreadable, too large, or no JSON."""
    try:
        return json.loads(read_bounded(file, _MOST_JSON, what))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON ({error}).") from error


def entries_of(file: Path, what: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (number, question) of a file that lists questions or numbers them.

    Raises:
        DataError: another form.
    """
    found = read_json(file, what)
    if not isinstance(found, dict | list):
        raise DataError(f"{file} lists no questions.")
    listed = found.items() if isinstance(found, dict) else enumerate(found)
    for number, entry in listed:
        if not isinstance(entry, dict):
            raise DataError(f"{file}: question {number!r} is no object.")
        yield str(number), entry


def texts_of(
    entry: Mapping[str, Any], names: Sequence[str], file: Path, number: str, most: int
) -> list[str]:
    """Return some texts of a question; benchmarks have to be whole, so one that is not there stops.

    Raises:
        DataError: it lacks one of them, or one can't be used.
    """
    if not all(isinstance(entry.get(name), str) for name in names):
        raise DataError(f"{file}: question {number!r} lacks one of {', '.join(names)}.")
    where = f"{number} of {file.name}"
    return [c.text for c in captions([entry[n] for n in names], "caption", where, most)]


class Questions(Listed):
    """One sample an image (or a part of one): its right captions first, then its others.

    Benchmarks have to be whole: a question of another form is refused, never left out.
    """

    def _read(self, group: int, place: int) -> Sample:
        key, file, foils, others, box = self._questions(self._records[place])
        image = self._image(file, key)
        return Sample(
            key,
            image if box is None else cropped(image, box, key),
            _captions(foils, others),
            foils=foils,
        )

    def _told(self, group: int) -> Iterator[Told]:
        for item in self._records:
            key, _, foils, others, _ = self._questions(item)
            yield key, partial(_captions, foils, others)

    def _questions(
        self, item: bytes
    ) -> tuple[str, str, tuple[Foil, ...], list[str], list[int] | None]:
        key, file, foils, others, box = json.loads(item)
        return key, file, tuple(Foil(*foil) for foil in foils), others, box


def records(
    found: Mapping[str, Wanted], others: Mapping[str, Sequence[str]] | None = None
) -> Ragged:
    """Return what `Questions` reads.

    Args:
        found: by key.
        others: further captions, by the name of the image file.
    """
    beside = others or {}
    return Ragged(
        json.dumps((key, one.file, one.foils, list(beside.get(one.file, ())), one.box)).encode()
        for key, one in found.items()
    )


def _captions(foils: Sequence[Foil], others: Sequence[str]) -> tuple[Caption, ...]:
    right = dict.fromkeys(foil.caption for foil in foils)
    further = (text for text in dict.fromkeys(others) if text not in right)
    return (*map(Caption, right), *(Caption(text, _OTHER.role) for text in further))


def cropped(image: bytes, box: Sequence[int], key: str) -> bytes:
    """Return a part of an image as PNG, without loss.

    Raises:
        BrokenSample: the image can't be decoded, or the box lies outside of it.
    """
    pixels = decode(image).permute(1, 2, 0).numpy()
    height, width, _ = pixels.shape
    left, top = max(0, box[0]), max(0, box[1])
    right, bottom = min(width, box[0] + box[2]), min(height, box[1] + box[3])
    if left >= right or top >= bottom:
        raise BrokenSample(
            kinds.BOX_OUTSIDE,
            f"Sample {key} asks about a part of {width} x {height} pixels that lies outside.",
        )
    out = io.BytesIO()
    Image.fromarray(pixels[top:bottom, left:right].copy()).save(out, "PNG", compress_level=1)
    return out.getvalue()


# --- captions beside ----------------------------------------------------------------------------


def captions_beside(
    given: str | None, bases: Iterable[Path], names: Iterable[str], most: int, absent: Absent
) -> dict[str, list[str]]:
    """Return COCO's captions of some photos, by the name of the image file.

    Args:
        given: by the user: a file of COCO's captions; "" for none; None looks for one.
        bases: folders to look in.
        names: of the photos.
        most: characters of a caption.
        absent: is told of captions that can't be used.

    Raises:
        DataError: the given file is missing, or the file is not JSON.
    """
    if given == "":
        return {}
    choices = (
        [Path(given)] if given else [b / name for b in dict.fromkeys(bases) for name in _CAPTIONS]
    )
    file = next((choice for choice in choices if choice.is_file()), None)
    if file is None:
        if given:
            raise DataError(f"{given} is no file of captions; leave captions out, or mend it.")
        return {}
    found: dict[str, list[str]] = {name: [] for name in names}
    by_id: dict[str, str] = {}
    apart = False
    for item in items(file):
        apart = apart or item.name == "annotations"
        name = _file_name(item.value) if item.name in ("", "images") else None
        if name in found:
            by_id[str(item.value.get("id", item.value.get("image_id")))] = name
            told = item.value.get("captions", [])
            found[name] += _usable(told, f"{file.name}, {name}", most, absent)
    for item in items(file) if apart else ():
        if item.name != "annotations" or not isinstance(item.value, dict):
            continue
        name = by_id.get(str(item.value.get("image_id")))
        if name is not None:
            found[name] += _usable(item.value.get("caption"), f"{file.name}, {name}", most, absent)
    return found


def _file_name(entry: Any) -> str | None:
    name = entry.get("file_name", entry.get("filename")) if isinstance(entry, dict) else None
    return name if isinstance(name, str) else None


def _usable(told: Any, where: str, most: int, absent: Absent) -> list[str]:
    texts = told if isinstance(told, list) else [told]
    return [c.text for c in checked([(_OTHER, text) for text in texts], where, most, absent)]
