"""Photos described at length: Urban1k, DOCCI, DCI, ShareGPT4V and ImageInWords as they are had.

| layout | lies on disk as |
| --- | --- |
| urban1k | `image/NAME.jpg`, `caption/NAME.txt` |
| docci | `docci_descriptions.jsonlines`, `images/` |
| dci | `annotations/NAME.json`, `photos/` |
| sharegpt4v | `share-captioner_coco_lcs_sam_1246k_1107.json` or another such list, and its photos |
| iiw | lines of JSON with `IIW` and `image/key` (or `image`), `images/` |
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lift.data import kinds
from lift.data.formats._annotations import image_folder
from lift.data.formats._by_name import joined
from lift.data.formats._caption_files import Row
from lift.data.formats._files import folder_of, walk
from lift.data.formats._images import IMAGES
from lift.data.formats._layout import Absent, Bounds, Layout
from lift.data.formats._long_texts import FORMS, Form
from lift.data.formats._ragged import Ragged, in_order
from lift.data.formats._records import Recorded
from lift.errors import ConfigError, DataError, unknown

_PROBES = 50


@dataclass(frozen=True, kw_only=True)
class Config(Bounds):
    """Options of photos described at length. Keys are file names below the folder of photos.

    Captions have the role "long"; those of DCI come with a "short" one as well.

    Attributes:
        path: the folder of the data set.
        layout: a name of the table above; None looks what lies there.
        images: the folder of the photos; None looks at the usual places in `path`.
        split: of DOCCI: "train", "test", "qual_dev" or "qual_test".
        first: only so many rows; of ShareGPT4V, papers take the first 1000 for tests.
    """

    path: str = ""
    layout: str | None = None
    images: str | None = None
    split: str | None = None
    first: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first is not None and self.first < 1:
            raise ConfigError(f"first must be 1 or more, not {self.first}.")


def build(config: Config) -> Layout:
    """Read the captions, list the photos, and return the source.

    Raises:
        ConfigError: no such layout.
        DataError: a file or folder is missing, or there are no samples.
        BrokenSample: the first item that is left out, where `strict`.
    """
    folder = Path(folder_of(config.path, "the folder of the data set"))
    name = config.layout or layout_of(folder)
    if name is None:
        raise DataError(f"{folder} is none of {', '.join(FORMS)}; set path to the folder of one.")
    if name not in FORMS:
        raise unknown("layout of long_texts:", name, FORMS)
    form = FORMS[name]
    if not form.fits(folder):
        raise DataError(f"{folder} does not hold what {name} is made of; see `long_texts`.")
    probes = [row.image for row in islice(_rows(form, folder, config, _quiet()), _PROBES)]
    root = _root(form, folder, config, probes)
    absent = Absent(strict=config.strict)
    own = form.file(folder)
    known = "" if own is None else os.path.relpath(own, root)
    files = walk(root, IMAGES, config, absent, known=known)
    listed = Ragged(in_order(file.name.encode() for file in files))
    found = _rows(form, folder, config, absent)

    def unpaired(image: str) -> None:
        if config.split or config.first:
            absent.tally.add(kinds.OTHER_SPLIT_OR_NONE, image)
        else:
            absent.add(kinds.IMAGE_WITHOUT_CAPTION, image)

    records = Ragged(joined(listed, found, root, config.max_caption_chars, absent, unpaired))
    return Recorded(config.path, root, records, config, absent, data_set=name)


def layout_of(folder: Path) -> str | None:
    """Return which data set a folder holds, if any."""
    return next((name for name, form in FORMS.items() if form.fits(folder)), None)


def _quiet() -> Absent:
    return Absent(strict=False)


def _root(form: Form, folder: Path, config: Config, probes: list[str]) -> str:
    with_endings = [f"{name}.{ending}" for name in probes for ending in ("jpg", "png", "jpeg")]
    return image_folder(config.images, (folder,), form.images, probes + with_endings)


def _rows(form: Form, folder: Path, config: Config, absent: Absent) -> Iterator[Row]:
    for row in islice(form.rows(folder, absent), config.first):
        if config.split is None or row.rest.get("split") == config.split:
            yield row
        else:
            absent.tally.add(kinds.OTHER_SPLIT, row.where)
