"""Curves from cosines to the odds that an image, or a text, is right: fitted on pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float32, Int64

from lift.cache.addresses import content_hash
from lift.data.image import picture
from lift.errors import BrokenSample
from lift.merging import Calibration, Seen, calibrate
from lift.search.terms import KINDS, Kind
from lift.terms import Encoder, Source

FEWEST, MOST = 100, 2_000
"""Queries that curves are fitted on: fewer say too little, more cost time and change nothing."""

_AT_ONCE = 64

_LOOKED_AT = 20 * MOST
"""Items of an index that are looked at for them."""


class Asked(NamedTuple):
    """Queries, and the rows that they are asked of.

    Attributes:
        z: vectors of texts that ask [q d].
        of: the number of each query's item [q].
        images, texts: rows of each kind, and the numbers of the items they are of.
    """

    z: Float32[np.ndarray, "q d"]
    of: Int64[np.ndarray, " q"]
    images: tuple[Float32[np.ndarray, "i d"], Int64[np.ndarray, " i"]]
    texts: tuple[Float32[np.ndarray, "t d"], Int64[np.ndarray, " t"]]


def fit(asked: Asked) -> dict[Kind, Calibration]:
    """Return a curve for each kind; of none where there are fewer than `FEWEST` queries.

    An item that says the same as another is as right as that one, and would be taken for a wrong
    one: no two items may have a text, or an image, in common.
    """
    if len(asked.z) < FEWEST:
        return {}
    seen: dict[Kind, Seen] = {}
    for kind in KINDS:
        rows, owner = asked.images if kind == "image" else asked.texts
        if not len(rows):
            return {}
        own = seen[kind] = Seen()
        for start in range(0, len(asked.z), 256):
            z, of = asked.z[start : start + 256], asked.of[start : start + 256]
            own.add(np.clip(z @ rows.T, -1, 1), of[:, None] == owner[None, :])
    rights = sum(int(own.right.sum()) for own in seen.values())
    total = rights + sum(int(own.wrong.sum()) for own in seen.values())
    share = rights / total if total else 0.0
    found: dict[Kind, Calibration] = {kind: calibrate(own, share) for kind, own in seen.items()}
    return found if all(curve.slope > 0 for curve in found.values()) else {}


def of_source(encoder: Encoder, source: Source) -> dict[Kind, Calibration]:
    """Return the curves that data gives whose images have two different captions each, or more.

    One caption asks; the image and the other caption are among what it is asked of. Data that the
    model was not trained on gives honest curves.

    Args:
        encoder: of the index's space.
        source: pairs.

    Raises:
        DataError: a sample can't be read.
    """
    chosen = list(_with_two(source.texts()))
    order = [chosen[at] for at in _shuffled(len(chosen))]
    images: list[np.ndarray] = []
    used: list[tuple[str, str]] = []
    seen: set[bytes] = set()
    for start in range(0, len(order), _AT_ONCE):
        piece = order[start : start + min(_AT_ONCE, MOST - len(used))]
        for (_, ask, said), image in _pictured(encoder, source, piece, seen):
            images.append(image)
            used.append((ask, said))
        if len(used) >= MOST:
            break
    if len(used) < FEWEST:
        return {}
    asking = encoder.encode_texts([ask for ask, _ in used])
    held = encoder.encode_texts([said for _, said in used])
    of = np.arange(len(used), dtype=np.int64)
    return fit(Asked(asking, of, (_stack(images), of), (held, of)))


_Pair: TypeAlias = "tuple[int, str, str]"


def _pictured(
    encoder: Encoder, source: Source, piece: Sequence[_Pair], seen: set[bytes]
) -> Iterator[tuple[_Pair, Float32[np.ndarray, " d"]]]:
    """Yield what images can be read for, with their vectors; no image twice."""
    there: list[tuple[_Pair, bytes]] = []
    for one in piece:
        try:
            image = source.read(one[0]).image
            picture(image).pixels(8)
        except BrokenSample:
            continue
        if _is_new([content_hash(image)], seen):
            there.append((one, image))
    if there:
        rows = encoder.encode_images([image for _, image in there])
        yield from zip((one for one, _ in there), rows, strict=True)


def _with_two(texts: Iterator[tuple[str, Sequence]]) -> Iterator[_Pair]:
    """Yield (number, one caption, another) of the samples with two captions of their own."""
    seen: set[bytes] = set()
    for number, (_, captions) in enumerate(texts):
        own = list(dict.fromkeys(caption.text for caption in captions))[:2]
        if len(own) > 1 and _is_new([content_hash(text.encode()) for text in own], seen):
            yield number, own[1], own[0]


def _is_new(contents: Sequence[bytes], seen: set[bytes]) -> bool:
    """Return whether none of these was seen before, and note them then."""
    if any(content in seen for content in contents):
        return False
    seen.update(contents)
    return True


def _shuffled(count: int) -> list[int]:
    """Return numbers in an order that has nothing to do with theirs, always the same one."""
    return np.random.default_rng(0).permutation(count).tolist()


def of_rows(
    items: Sequence[int], rows: Callable[[int], Sequence[tuple[Kind, str, int, np.ndarray]]]
) -> dict[Kind, Calibration]:
    """Return the curves that an index's own items give: those with an image and two texts.

    Args:
        items: numbers to choose from; some are looked at, here and there.
        rows: gives kind, field, number and vector of each row of an item.
    """
    z: list[np.ndarray] = []
    of: list[int] = []
    found: dict[Kind, tuple[list[np.ndarray], list[int]]] = {"image": ([], []), "text": ([], [])}
    seen: set[bytes] = set()
    for at in _shuffled(len(items))[:_LOOKED_AT]:
        item = items[at]
        own = rows(item)
        texts = [row for kind, _, _, row in own if kind == "text"]
        texts = [
            row for at, row in enumerate(texts) if not any((row == t).all() for t in texts[:at])
        ]
        images = [row for kind, _, _, row in own if kind == "image"]
        if len(texts) < 2 or not images:
            continue
        if not _is_new([row.tobytes() for row in (texts[0], texts[1], images[0])], seen):
            continue
        z.append(texts[1])
        of.append(item)
        for kind in KINDS:
            found[kind][0].append(images[0] if kind == "image" else texts[0])
            found[kind][1].append(item)
        if len(z) >= MOST:
            break
    if len(z) < FEWEST:
        return {}
    sides = {kind: (_stack(own), np.array(of_, np.int64)) for kind, (own, of_) in found.items()}
    return fit(Asked(_stack(z), np.array(of, np.int64), sides["image"], sides["text"]))


def _stack(rows: Sequence[np.ndarray]) -> Float32[np.ndarray, "n d"]:
    return np.stack(rows).astype(np.float32)
