"""An inspection in words: figures, warnings, and the commands that come next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from lift.curation.findings import Inspection
from lift.curation.looking import PACKED_SIDE
from lift.curation.spread import Spread

SECTIONS = {
    "captions": "Captions",
    "images": "Images",
    "left-out": "What is left out",
    "costs": "What loading costs",
}
_MANY = 0.05
"""Share of captions or images from which doubles are worth a warning."""

_LONG = 150
"""Words from which small text encoders cut a caption: MiniLM reads 256 tokens."""

_FASTER = 1.3
"""Gain from which packing is worth its disk."""


class Figure(NamedTuple):
    """One figure: where it belongs, what it is called, its value, and what it means."""

    section: str
    name: str
    value: str
    says: str = ""


def figures_of(found: Inspection) -> list[Figure]:
    """Return every figure, in the order to print."""
    return [*_captions(found), *_images(found), *_left_out(found), *_costs(found)]


def as_table(found: Inspection) -> str:
    """Return the figures as aligned text, under the name of the source, warnings below."""
    lines = [(figure.name, figure.value) for figure in figures_of(found)]
    width = max(len(name) for name, _ in lines)
    head = f"{found.name}: {found.samples:,} samples in {found.groups:,} storage group(s)"
    layout = [f"layout {found.layout}" + (f": {found.why}" if found.why else "")]
    if found.others:
        layout.append(f"it could also be read as {' or '.join(found.others)}")
    table = [f"  {name.ljust(width)}  {value}" for name, value in lines]
    return "\n".join([head, *layout, *table, *(f"! {line}" for line in warnings_of(found))])


def warnings_of(found: Inspection) -> list[str]:
    """Return what should be known before training, in plain sentences."""
    return [*_of_captions(found), *_of_images(found)]


_BATCH = 64
"""Of the recipe that is named; fewer samples need a smaller one."""


def commands_of(found: Inspection) -> list[str]:
    """Return the commands to embed and train with these pairs, quoted for a shell."""
    data = shlex.quote(found.data)
    commands = [f"lift embed --data {data} --out captions"]
    if found.images.looked_at:
        train = f"lift train flickr8k_tiny --data {data} --cache captions --out run"
        if found.samples < _BATCH:
            train += f" --set loader.batch_size={max(1, found.samples // 2)}"
        commands.append(train)
    return commands


def _of_captions(found: Inspection) -> Iterator[str]:
    texts = found.texts
    without = sum(found.left_out.values())
    if without:
        yield (
            f"{without:,} item(s) are no samples, or have no usable caption, and are left out: "
            + "; ".join(f"{n:,} {why}" for why, n in found.left_out.items())
            + "."
        )
    if not texts.captions:
        yield "There are no captions: nothing can be embedded or trained; name their column."
        return
    if texts.duplicates > _MANY * texts.captions:
        yield (
            f"{share(texts.duplicates, texts.captions)} of captions are duplicates: keep "
            "objective.share_equal=true (as the small recipes have it), else equal captions are "
            "each other's negatives."
        )
    if texts.words.quantiles[-1] > _LONG:
        yield (
            f"5% of captions have {texts.words.quantiles[-1]:,} words or more: small text encoders "
            "cut them; `lift card` shows how many tokens each encoder reads."
        )
    if texts.words.median <= 2:
        yield (
            f"Captions have {texts.words.median} word(s) in the median: labels rather than "
            "sentences; with templates (`a photo of a {}`) they lie nearer to what people type."
        )


def _of_images(found: Inspection) -> Iterator[str]:
    images, costs = found.images, found.costs
    broken = sum(images.broken.values())
    if broken:
        yield (
            f"{share(broken, images.looked_at)} of the samples that were looked at are broken "
            f"({broken:,} of {images.looked_at:,}); training leaves them out and counts them."
        )
    if not images.sound:
        return
    if images.duplicates > _MANY * images.sound:
        yield (
            f"{share(images.duplicates, images.sound)} of images are the same file as another "
            "one: see that none lies in both training and validation."
        )
    if images.shorter.median < found.resolution:
        yield (
            f"Half of the images are less than {images.shorter.median + 1:,} pixels on their "
            f"shorter side: a model that sees {found.resolution} would see them enlarged."
        )
    if images.shorter.median > PACKED_SIDE and costs.packed_faster >= _FASTER:
        yield (
            f"Images are {images.width.median:,} px wide: `lift data pack` would make loading "
            f"~{costs.packed_faster:.1f}x faster, and {size(costs.total_bytes)} would be "
            f"{size(costs.packed_bytes)}."
        )


def _captions(found: Inspection) -> Iterator[Figure]:
    texts = found.texts
    yield Figure("captions", "captions", f"{texts.captions:,}")
    yield Figure("captions", "captions of a sample", spread(texts.of_an_image))
    yield Figure("captions", "roles", counted(texts.roles))
    yield Figure("captions", "words", spread(texts.words), "Of a caption, between white space.")
    yield Figure("captions", "characters", spread(texts.characters))
    yield Figure(
        "captions",
        "duplicates",
        f"{texts.duplicates:,} ({share(texts.duplicates, texts.captions)})",
        f"The first: {short(texts.duplicate)}" if texts.duplicate else "Equal to an earlier one.",
    )


def _images(found: Inspection) -> Iterator[Figure]:
    images = found.images
    drawn = "all" if images.all else f"drawn evenly from {found.samples:,}"
    yield Figure("images", "images looked at", f"{images.looked_at:,}, {drawn}")
    if not images.looked_at:
        return
    yield Figure("images", "width", f"{spread(images.width)} px")
    yield Figure("images", "height", f"{spread(images.height)} px")
    yield Figure("images", "shorter side", f"{spread(images.shorter)} px")
    yield Figure("images", "file size", spread(images.file_bytes, size))
    yield Figure("images", "formats", counted(images.kinds))
    yield Figure("images", "turned by EXIF", f"{images.turned:,}")
    yield Figure("images", "animated", f"{images.animated:,}", "The first frame is taken.")
    yield Figure(
        "images",
        "duplicate files",
        f"{images.duplicates:,} ({share(images.duplicates, images.sound)})",
        f"Equal to an earlier one that was looked at; the first: {short(images.duplicate)}"
        if images.duplicate
        else "Equal to an earlier one that was looked at.",
    )
    broken = sum(images.broken.values())
    yield Figure("images", "broken", f"{broken:,} ({share(broken, images.looked_at)})")


def _left_out(found: Inspection) -> Iterator[Figure]:
    images = found.images
    for where, counts, first in (
        ("", found.left_out, found.examples),
        (" (looked at)", images.broken, images.examples),
    ):
        for why, count in counts.items():
            example = f"The first: {short(first[why])}" if first.get(why) else ""
            yield Figure("left-out", why + where, f"{count:,}", example)


def _costs(found: Inspection) -> Iterator[Figure]:
    costs = found.costs
    if not costs.images_per_second:
        return
    about = "" if found.images.all else "about "
    yield Figure("costs", "all image files", f"{about}{size(costs.total_bytes)}")
    yield Figure(
        "costs",
        "decoding on one core",
        f"{costs.images_per_second:,.0f} images/s",
        "Measured on this machine while looking; crops, flips and the disk come on top.",
    )
    minutes = costs.epoch_minutes
    told = f"{minutes:,.0f} min" if minutes >= 2 else f"{60 * minutes:.2g} s"
    yield Figure("costs", "decoding an epoch", f"{told} of one core")
    if costs.packed_faster:
        yield Figure(
            "costs",
            "after `lift data pack`",
            f"{size(costs.packed_bytes)}, decoded {costs.packed_faster:.1f}x as fast",
            f"Measured on some of the images, shorter side {PACKED_SIDE}.",
        )


def spread(found: Spread, told=lambda value: f"{value:,}") -> str:
    """Return a median with the middle nine tenths and the ends."""
    low, *_, high = found.quantiles
    if found.least == found.most:
        return told(found.most)
    return (
        f"{told(found.median)} (5% to 95%: {told(low)} to {told(high)}; "
        f"{told(found.least)} to {told(found.most)})"
    )


def counted(counts) -> str:
    """Return `raw 10, rewrite 8`."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def share(part: int, whole: int) -> str:
    """Return a share in percent, never 0% of something and never 100% of less than all."""
    if not whole or part in (0, whole):
        return "100%" if whole and part else "0%"
    percent = min(max(100 * part / whole, 0.01), 99.99)
    digits = 2 if percent < 0.1 or percent > 99.9 else 1 if percent < 10 or percent > 99 else 0
    return f"{percent:.{digits}f}%"


def size(count: int) -> str:
    """Return bytes in the unit that reads best: 1,234,567 -> "1.2 MB"."""
    if count < 1000:
        return f"{count:,} B"
    power = min(5, int(math.log10(count) // 3))
    return f"{count / 1000**power:.3g} {'?kMGTP'[power]}B"


def short(text: str, most: int = 160) -> str:
    """Return the text, its end cut off where it is long."""
    return text if len(text) <= most else text[:most] + "…"
