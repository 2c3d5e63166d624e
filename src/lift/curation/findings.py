"""What an inspection finds, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lift.curation.spread import Spread
from lift.terms import Caption


@dataclass(frozen=True)
class Texts:
    """The captions, all of them.

    Attributes:
        captions: how many.
        characters, words: of a caption.
        of_an_image: captions a sample has; 0 where it has none that can be used.
        roles: captions by role.
        duplicates: captions that are equal to an earlier one (after NFC and strip).
        duplicate: the first of them.
    """

    captions: int
    characters: Spread
    words: Spread
    of_an_image: Spread
    roles: Mapping[str, int]
    duplicates: int
    duplicate: str


@dataclass(frozen=True)
class Images:
    """The images that were looked at.

    Attributes:
        looked_at: samples that were read.
        all: every sample was; else they are an evenly spread draw.
        sound: images that can be decoded; the figures below are theirs.
        file_bytes: of the image files.
        width, height, shorter: in pixels, upright.
        kinds: images by format and mode.
        turned, animated: images with an EXIF turn, with more than one frame.
        duplicates: files that are equal, to the byte, to an earlier one that was looked at.
        duplicate: the key of the first of them.
        broken: samples that could not be used, by reason.
        examples: the first of each reason.
    """

    looked_at: int
    all: bool
    sound: int
    file_bytes: Spread
    width: Spread
    height: Spread
    shorter: Spread
    kinds: Mapping[str, int]
    turned: int
    animated: int
    duplicates: int
    duplicate: str
    broken: Mapping[str, int]
    examples: Mapping[str, str]


@dataclass(frozen=True)
class Costs:
    """Estimates from the images that were looked at; 0 where there were none.

    Attributes:
        total_bytes: of all image files.
        images_per_second: decoded on one core of this machine, as training does.
        epoch_minutes: of decoding all samples on one core.
        packed_bytes: of all image files after `lift data pack`.
        packed_faster: how many times faster they are decoded then.
    """

    total_bytes: int = 0
    images_per_second: float = 0.0
    epoch_minutes: float = 0.0
    packed_bytes: int = 0
    packed_faster: float = 0.0


@dataclass(frozen=True)
class Shown:
    """One sample on the page; pictures are JPEG files.

    Attributes:
        key: of the sample.
        captions: the first few.
        more: captions that are not shown.
        picture: the whole image, small.
        trained: what two epochs of training see of it.
        judged: what evaluation sees of it.
    """

    key: str
    captions: tuple[Caption, ...]
    more: int
    picture: bytes
    trained: tuple[bytes, ...]
    judged: bytes


@dataclass(frozen=True)
class Inspection:
    """Everything that `inspect` found.

    Attributes:
        name: of the source.
        layout: the format that reads it.
        data: the words for `--data`.
        config: every option of the layout.
        why: how the layout was guessed; "" where it was given.
        others: layouts that would have fitted too.
        samples, groups: how many samples and storage groups.
        left_out, examples: items that are no samples, by reason, and the first of each.
        texts, images, costs: see there.
        shown: a few samples.
        resolution: of the model that the views are for, in pixels.
    """

    name: str
    layout: str
    data: str
    config: Mapping[str, Any]
    why: str
    others: tuple[str, ...]
    samples: int
    groups: int
    left_out: Mapping[str, int]
    examples: Mapping[str, str]
    texts: Texts
    images: Images
    costs: Costs
    shown: tuple[Shown, ...] = field(repr=False)
    resolution: int
