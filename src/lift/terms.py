"""The vocabulary that the rooms share: samples, batches, unit vectors, what an evaluation sees.

Names of tensors say what they hold: `h_*` is raw, `z_*` has unit length and is made only by
`unit`; `logits` are images x texts everywhere. Letters: `b` own images of a step, `c` captions of
the step over all ranks, `e` extra texts, `n` gallery items, `q` queries, `d` the shared width,
`p` patches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, Shaped
from torch import Tensor

ImageLike: TypeAlias = "str | PathLike[str] | bytes | np.ndarray | Any"
"""A path, the bytes of an image file, an `h w 3` uint8 array, or a PIL image."""


class Caption(NamedTuple):
    """One text of an image.

    Attributes:
        text: as it came with the data.
        role: the part it plays (see `lift.text.roles.ROLES`, or any word).
        weight: how well it fits the image relative to others (a grade, a count of clicks).
        language: BCP 47 tag ("en", "pt-BR"), "" where nobody said.
    """

    text: str
    role: str = "raw"
    weight: float = 1.0
    language: str = ""


class Foil(NamedTuple):
    """A caption that is wrong for the image in one way, beside the right one it came from.

    Attributes:
        kind: what is wrong with it ("swap_obj").
        caption, foil: the right text and the wrong one.
        group: foils of one sample with the same group are one question: it is answered right only
            if every caption of the group beats every foil of it (several orders of one caption,
            as in ARO; two captions against one foil, as in SugarCrepe++). "" stands alone.
    """

    kind: str
    caption: str
    foil: str
    group: str = ""


class Region(NamedTuple):
    """A thing in an image, and what it is called.

    Attributes:
        text: a name or a phrase that fits nothing else in the image.
        box: left, top, right, bottom, as shares of the image's width and height.
    """

    text: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and what describes it; nothing is decoded yet.

    Attributes:
        key: stable and unique in its source.
        image: the bytes of an image file.
        captions: in the order of the source.
        fields: other columns a source has (labels, ids), as text.
        foils: wrong captions, where a source has them.
        regions: things in it, where a source knows them.
        mask: bytes of a PNG whose values are numbers of classes, for every pixel (255: of none);
            empty where a source has none.
    """

    key: str
    image: bytes
    captions: tuple[Caption, ...]
    fields: Mapping[str, str] = field(default_factory=dict)
    foils: tuple[Foil, ...] = ()
    regions: tuple[Region, ...] = ()
    mask: bytes = b""


@runtime_checkable
class Source(Protocol):
    """Pairs that can be read by number. Reading is safe from several processes.

    Attributes:
        name: what to call it in tables and errors.
        groups: how many samples each storage group (tar shard, row group) holds, in order.
            Sample `i` lies in the group where the running sum passes `i`. Only per-group facts
            may be kept in memory, so that memory does not grow with the number of samples.

    A source may also have `whereabouts`, `window_samples`, `counters` and `examples`, as
    `lift.data.formats._layout.Layout` describes them.
    """

    name: str
    groups: tuple[int, ...]

    def __len__(self) -> int: ...

    def read(self, index: int) -> Sample:
        """Return sample `index`. Raises DataError naming the sample where it can't be read."""
        ...

    def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        """Yield (key, captions) of every sample in order, without reading image bytes.

        A sample without a usable caption comes with none: the place stays the number.
        """
        ...


class Dropped(NamedTuple):
    """A sample that is in no tensor of its batch: its key, the kind of reason, and the sentence."""

    key: str
    kind: str
    reason: str


@runtime_checkable
class Movable(Protocol):
    """Pixels that travel to a device: a tensor, or `lift.data.crops.Crops`."""

    def __len__(self) -> int: ...
    def to(self, device: Any, *, non_blocking: bool = ...) -> Any: ...
    def pin_memory(self) -> Any: ...


@dataclass(slots=True)
class Batch:
    """Aligned tensors of one step.

    Attributes:
        images: pixels after augmentation, not yet normalised, uint8 [b 3 h w]; or crops of many
            sizes that become so on the device (`Loader.images`).
        texts: rows of the captions as the cache stores them (bytes of its codec; float32 rows
            where the loader mixes captions). `Loader.decode` makes float32 rows [c d] of them on
            the device where they are; those are not yet unit length.
        owner: for each caption, the position in `images` that it describes.
        row: for each caption, its row in the cache: equal captions have equal rows.
        weight: for each caption, how well it fits its image relative to others; None where
            all fit alike.
        index: for each image, its number in the source (for error messages).
        source: for each image, which of several joined sources it is of.
        prints: for each image that is shown for the first time, a hash of its file and one of its
            look (`lift.data.likeness`); 0 and 0 for others.
        negatives: texts that describe none of the images, as the cache stores them, and
        negative_row: the row of each; None where the loader shows none.
        teacher: what a teacher made of the same views, as its cache stores it; a row each, which
            means nothing where `taught` says so. None where there is no teacher.
        taught: for each image, whether the teacher saw it.
        own_row: rows of all captions of the images that take part, shown or not.
        dropped: samples that could not be used.
    """

    images: Movable
    texts: Shaped[Tensor, "c stored"]
    owner: Int64[Tensor, " c"]
    row: Int64[Tensor, " c"]
    index: Int64[Tensor, " b"]
    source: Int64[Tensor, " b"]
    prints: Int64[Tensor, "b 2"]
    weight: Float32[Tensor, " c"] | None = None
    negatives: Shaped[Tensor, "e stored"] | None = None
    negative_row: Int64[Tensor, " e"] | None = None
    teacher: Shaped[Tensor, "b stored"] | None = None
    taught: Bool[Tensor, " b"] | None = None
    own_row: Int64[Tensor, " o"] = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    dropped: tuple[Dropped, ...] = ()

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        """Return the batch with what the step needs on a device; the rest stays."""
        moved = {
            name: value.to(device, non_blocking=non_blocking) for name, value in self._travelling()
        }
        return dataclasses.replace(self, **moved)

    def pin_memory(self) -> Batch:
        """Return the batch with the same tensors in memory that a GPU can read by itself."""
        return dataclasses.replace(
            self, **{name: value.pin_memory() for name, value in self._travelling()}
        )

    def _travelling(self) -> Iterator[tuple[str, Any]]:
        """Yield what the step needs on its device, by name."""
        for name in (
            *("images", "texts", "owner", "row", "weight"),
            *("negatives", "negative_row", "own_row", "teacher", "taught"),
        ):
            value = getattr(self, name)
            if value is not None:
                yield name, value


@runtime_checkable
class Tower(Protocol):
    """What a file in `towers/` builds: an `nn.Module` from pixels to one raw vector an image.

    Attributes:
        width: length of `h_image`.
        resolution: pixels of a side that it was built for.
    """

    width: int
    resolution: int

    def __call__(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b width"]: ...


@runtime_checkable
class Encoder(Protocol):
    """All that an evaluation may see: something that puts images and texts in one space.

    Both return float32 rows of unit length, one for each input, in order.

    Attributes:
        name: for tables.
        saw: benchmarks whose captions the text encoder was trained on ("coco", "flickr30k").
    """

    name: str
    saw: tuple[str, ...]

    def encode_images(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n d"]: ...

    def encode_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]: ...


_LARGE = 1e15
"""Up to here a row's squares add up in float32 without overflow."""


def unit(h: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """Return `h` in float32 with every row scaled to length 1; the only maker of a `z`.

    What is float64 stays so.

    The smallest length divided by is 1e-12, so a zero row stays zero instead of becoming NaN.
    """
    values = h if h.dtype == torch.float64 else h.float()
    # Squares overflow from 2e19 on: a row beyond that is divided by its largest value first, which
    # turns no row and hence changes no gradient. Other rows keep their bits.
    largest = values.detach().abs().amax(dim=-1, keepdim=True)
    values = values / torch.where((largest > _LARGE) & largest.isfinite(), largest, 1.0)
    return torch.nn.functional.normalize(values, dim=-1, eps=1e-12)


BESIDE = (
    *("encode_regions", "encode_patches", "features", "with_pixels"),
    *("space", "identity", "cut", "trained_on", "efficiency", "scale"),
)
"""What an `Encoder` may have besides, which encoders made of it pass on.

`encode_regions` (`lift.evals.mosaic`), `encode_patches` (`lift.evals._dense`), `features(images)`:
raw rows of the tower; `with_pixels(mean, std)`: the same behind other pixel statistics; `space`: a
`TextSpace`; `identity`: a digest, equal where vectors are; `cut(texts)`: which are longer than it
takes, None where nobody can tell; `trained_on`: a record of samples; `efficiency()`
(`lift.efficiency`); `scale`: what cosines were multiplied with in training, or None.
"""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What every item of a figure scored: the figure is their weighted mean.

    Two results of one protocol on the same data (`EvalResult.digest`) have the same items in the
    same order, so that they can be compared item by item.

    Attributes:
        values: credit of each item, float32 [n].
        weights: how much each counts; None where all count alike.
        clusters: a number for each item, equal within what is drawn together (the captions of one
            image); None where items are independent.
    """

    values: Float32[np.ndarray, " n"]
    weights: Float32[np.ndarray, " n"] | None = None
    clusters: Int64[np.ndarray, " n"] | None = None


@dataclass(frozen=True)
class Metric:
    """One figure of an evaluation with its 95% interval.

    Attributes:
        value: a share in [0, 1] for accuracies and recalls, else in the metric's own unit.
        low, high: ends of the 95% interval.
        items: how many independent items the interval is over.
        outcomes: of the items, where the figure is their mean; stored beside the JSON.
    """

    value: float
    low: float
    high: float
    items: int
    outcomes: Outcomes | None = field(
        default=None, compare=False, repr=False, metadata={"saved": False}
    )


@dataclass(frozen=True)
class EvalResult:
    """What one evaluation found: never without protocol, counts and intervals.

    Attributes:
        evaluation: the name of the file in `evals/`.
        version: raised when its numbers change meaning.
        protocol: what was compared with what, in words; results compare only within one.
        data: the source's name.
        primary: the metric to look at first.
        metrics: by name, in the order to print.
        counts: images, captions, classes, ... by name.
        chance: what guessing would score on the primary metric, where that is known.
        notes: warnings that belong beside the numbers ("text encoder saw these captions").
        examples: a few queries with what came first, for the report (plain JSON values).
        seconds: wall time.
        encoder: the name of what was judged.
        digest: of the samples that were judged (images, texts, labels), in order; results with the
            same one, protocol and version can be paired item by item. "" where nobody knows.
    """

    evaluation: str
    version: int
    protocol: str
    data: str
    primary: str
    metrics: Mapping[str, Metric]
    counts: Mapping[str, int]
    chance: float | None = None
    notes: tuple[str, ...] = ()
    examples: tuple[Mapping[str, Any], ...] = ()
    seconds: float = 0.0
    encoder: str = ""
    digest: str = ""


@runtime_checkable
class Evaluation(Protocol):
    """What a file in `evals/` builds: a judge of any Encoder on any Source that fits."""

    version: int
    primary: str
    protocol: str

    def run(self, encoder: Encoder, source: Source) -> EvalResult: ...
