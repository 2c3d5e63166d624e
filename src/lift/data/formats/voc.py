"""Pascal VOC's folders: photos with a mask of classes for every pixel (Everingham et al. 2010)."""

from __future__ import annotations

import io
import json
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from lift.data import kinds
from lift.data.formats._captions import captions
from lift.data.formats._files import folder_of
from lift.data.formats._images import bounded_file, usable
from lift.data.formats._layout import Absent, Bounds, Told
from lift.data.formats._paths import inside, read_bounded
from lift.data.formats._ragged import Ragged, in_order
from lift.data.formats._records import Listed
from lift.errors import BrokenSample, ConfigError, DataError
from lift.terms import Caption, Sample

NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
    *("chair", "cow", "dining table", "dog", "horse", "motorbike", "person", "potted plant"),
    *("sheep", "sofa", "train", "tv monitor"),
)
"""Of the numbers in its masks; 255 is the border of things and of none."""

PHOTOS, MASKS = "JPEGImages", "SegmentationClass"

_MOST_LIST = 64 << 20
_MOST_MASK = 64 << 20
_MOST_PIXELS = 89_478_485
_NAME = re.compile(r"[\w.-]{1,200}", re.ASCII)
_NOBODY = 255


@dataclass(frozen=True, kw_only=True)
class Config(Bounds):
    """Options of Pascal VOC's folders. Keys are the names in the lists (`2007_000033`).

    Attributes:
        path: the folder of a year (`VOCdevkit/VOC2012`), with `JPEGImages` and
            `SegmentationClass`.
        split: a list of `ImageSets/Segmentation` without its ending; where there are no lists, ""
            takes every mask.
        names: of the classes, by their number in the masks; None takes those of VOC.
        templates: captions of the classes that are in a photo, with {} for the name; for whoever
            searches or trains.
        allow_outside: follow links that lead out of the folder.
    """

    path: str = ""
    split: str = "val"
    names: tuple[str, ...] | None = None
    templates: tuple[str, ...] = ("a photo of a {}.",)
    allow_outside: bool = False


def build(config: Config) -> Masked:
    """List the photos and return the source.

    Raises:
        ConfigError: no such split, or a template without `{}`.
        DataError: no such folder, or no samples.
        BrokenSample: the first photo that is left out, where `strict`.
    """
    return Masked(config)


class Masked(Listed):
    """Records are names; the photo is `JPEGImages/NAME.jpg`, the mask `SegmentationClass/NAME.png`.

    Captions name the classes of the photo's mask, the largest first.
    """

    def __init__(self, config: Config) -> None:
        """Read the list of the split."""
        root = folder_of(config.path, f"the folder with {PHOTOS} and {MASKS}")
        self._names = NAMES if config.names is None else config.names
        if not all(name.strip() for name in self._names) or not 1 <= len(self._names) <= _NOBODY:
            raise ConfigError(f"names must be 1 to {_NOBODY} names of classes, none empty.")
        for template in config.templates:
            if "{}" not in template:
                raise ConfigError(f"The template {template!r} has no {{}} for the class's name.")
        self._config, self._most = config, config.max_caption_chars
        self._told_names = json.dumps(self._names)
        absent = Absent(strict=config.strict)
        listed = _listed(config, root)
        records = Ragged(in_order(self._there(listed, root, config, absent)))
        super().__init__(config.path, root, records, config, absent, config.allow_outside)

    @staticmethod
    def _there(listed: Iterator[str], root: str, config: Config, absent: Absent) -> Iterator[bytes]:
        seen: set[str] = set()
        for name in listed:
            if not _NAME.fullmatch(name) or name.startswith("."):
                absent.add(kinds.IMAGE_PATH, ascii(name)[:200])
            elif name in seen:
                absent.add(kinds.KEY_TWICE, name)
            elif usable(root, f"{PHOTOS}/{name}.jpg", config, absent, config.allow_outside):
                seen.add(name)
                yield name.encode()

    def _read(self, group: int, place: int) -> Sample:
        name = self._records[place].decode()
        image = self._image(f"{PHOTOS}/{name}.jpg", name)
        mask = self._mask(name)
        return Sample(
            name,
            image,
            self._captions(name, mask),
            {"mask_classes": self._told_names},
            mask=mask,
        )

    def _told(self, group: int) -> Iterator[Told]:
        for name in map(bytes.decode, self._records):
            yield name, partial(self._captions_of, name)

    def _captions_of(self, name: str) -> tuple[Caption, ...]:
        return self._captions(name, self._mask(name))

    def _mask(self, name: str) -> bytes:
        return bounded_file(
            self._root,
            f"{MASKS}/{name}.png",
            _MOST_MASK,
            f"Sample {name}",
            self._allow_outside,
            kinds.MASK_UNREADABLE,
        )

    def _captions(self, name: str, mask: bytes) -> tuple[Caption, ...]:
        """Return a caption for each template and class of a mask."""
        found = [at for at in _classes_of(mask, name) if at < len(self._names)]
        shown = [self._names[at] for at in found if self._names[at] != "background"]
        shown = shown or [self._names[at] for at in found]
        if not shown:
            return ()
        texts = [
            template.replace("{}", word) for word in shown for template in self._config.templates
        ]
        return tuple(captions(texts, "class", name, self._most))


def _listed(config: Config, root: str) -> Iterator[str]:
    """Yield the names of a split."""
    if config.split:
        if not _NAME.fullmatch(config.split):
            raise ConfigError(f"split is the name of a list (train, val), not {config.split!r}.")
        lists = os.path.join("ImageSets", "Segmentation")
        path = inside(
            root, os.path.join(lists, f"{config.split}.txt"), "split", config.allow_outside
        )
        if not os.path.isfile(path):
            folder = os.path.join(root, lists)
            there = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
            known = ", ".join(name[:-4] for name in there[:8] if name.endswith(".txt")) or "none"
            raise ConfigError(
                f"{config.path} has no list {config.split} in {lists} (there: {known}); give "
                "split=NAME, or split= for every mask."
            )
        try:
            text = read_bounded(path, _MOST_LIST, "split").decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 ({error}).") from error
        yield from filter(None, map(str.strip, text.split("\n")))
        return
    folder = folder_of(os.path.join(root, MASKS), f"the folder above {MASKS}")
    yield from (name[:-4] for name in sorted(os.listdir(folder)) if name.endswith(".png"))


def _classes_of(mask: bytes, name: str) -> list[int]:
    """Return the numbers in a mask, the one with most pixels first. Raises BrokenSample."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata; broken pixels raise
            with Image.open(io.BytesIO(mask), formats=("PNG",)) as image:
                if image.width * image.height > _MOST_PIXELS or image.mode not in ("P", "L"):
                    raise ValueError(f"{image.width} x {image.height} of mode {image.mode}")
                count = np.bincount(np.asarray(image).ravel(), minlength=256)
    except _BROKEN as error:
        reason = str(error).partition("<")[0].strip() or type(error).__name__
        raise BrokenSample(
            kinds.MASK_UNREADABLE, f"Sample {name}: its mask can't be read ({reason})."
        ) from error
    count[_NOBODY] = 0
    return [int(at) for at in np.argsort(-count, kind="stable") if count[at]]


_BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError),
    *(AttributeError, OverflowError, RuntimeError, MemoryError, Image.DecompressionBombError),
)
"""What Pillow raises on files that are broken on purpose or by accident."""
