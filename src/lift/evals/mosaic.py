"""Tile recovery: whether the vector of a tile of a mosaic belongs to the tile's own caption."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int, Int64

from lift.errors import ConfigError, DataError
from lift.evals import _encode
from lift.evals import _metrics as metrics
from lift.evals._encode import Images, encode_distinct
from lift.evals._pairs import Pairs, collect, of_images
from lift.evals._seen import seen_note
from lift.terms import Encoder, EvalResult, ImageLike, Metric, Source

_MOST = 16
"""Tiles of a mosaic's side; more would be a few pixels each."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the mosaic evaluation.

    Attributes:
        tiles: tiles of a mosaic's side.
        role: only captions that play this part ("short", "title"); None takes all. Of those of an
            image the first is asked about.
        seed: which images come together. Results of two seeds are two samples of mosaics.
        benchmark: what the pairs are ("flickr8k", "coco", ...), for the warning about captions
            that the text encoder saw; None guesses from the source's name.
        examples: tiles kept for the report.
    """

    tiles: int = 2
    role: str | None = None
    seed: int = 0
    benchmark: str | None = None
    examples: int = 8


@runtime_checkable
class PatchEncoder(Encoder, Protocol):
    """An `Encoder` that also puts the tiles of a mosaic into its space, each by its patches."""

    def encode_regions(self, images: Sequence[ImageLike], tiles: int) -> Float32[np.ndarray, "n d"]:
        """Return a float32 row of unit length for each image, seen as one tile among others.

        The first `tiles` x `tiles` images make one mosaic, row by row, the next make the next.
        """
        ...


@dataclass(frozen=True)
class Laid:
    """Mosaics, and the vectors of what lies in them.

    Attributes:
        image: the image at each place [m t], as a place in `Pairs.keys`.
        caption: its first caption, as a place in `Pairs.texts`.
        kin: a number for each place, equal where captions or photographs are.
        z_tile, z_alone, z_text: of the tile, of the image by itself, and of the caption.
    """

    image: Int64[np.ndarray, "m t"]
    caption: Int64[np.ndarray, "m t"]
    kin: Int64[np.ndarray, "m t"]
    z_tile: Float32[np.ndarray, "m t d"]
    z_alone: Float32[np.ndarray, "m t d"]
    z_text: Float32[np.ndarray, "m t d"]


class Mosaic:
    """Share of tiles whose own caption is nearest among those of their mosaic, and the reverse.

    A tower whose patches all say the same scores chance, one in `tiles`^2. The figures marked
    "(alone)" ask the same of the same images when each is encoded whole, by itself: what a tile
    could reach at most if shrinking cost nothing. No two images of a mosaic share a caption or
    are the same photograph. A mosaic is one cluster in the intervals; images with the same
    caption or bytes in several mosaics are counted as alike there too.
    """

    version = 1
    primary = "tile_to_text/R@1"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.protocol = (
            f"{config.tiles} x {config.tiles} tiles, first caption"
            + (f", role {config.role}" if config.role else "")
            + (f", seed {config.seed}" if config.seed else "")
        )

    def run(self, encoder: Encoder, source: Source) -> EvalResult:
        """Return the figures of `encoder` on mosaics of the images of `source`.

        Every image is read twice: by itself, then with the others of its mosaic.

        Raises:
            ConfigError: the encoder has no `encode_regions`, or can't make these tiles.
            DataError: no captions, no image that can be read, or too few for one mosaic.
            NotFinite: the encoder returned NaN.
        """
        start = time.perf_counter()
        if not isinstance(encoder, PatchEncoder):
            raise ConfigError(
                f"{encoder.name} has no `encode_regions`, which the mosaic evaluation asks for the "
                "vectors of tiles: leave the evaluation out, or take a tower of patches (vit)."
            )
        pairs = collect(source, self.config.role, first_only=False)
        images = Images(encoder, source)
        z_alone = np.concatenate([z for _, _, z in images])
        pairs, _ = of_images(pairs, images.numbers, source)
        kin = _kin(pairs, images.clusters())
        laid = self._lay(encoder, source, pairs, kin, z_alone)
        to_text = _places(laid.z_tile, laid.z_text)
        asked, used = len(np.unique(pairs.owner)), laid.image.size
        counts = {"images": used, "mosaics": len(laid.image)}
        if asked > used:
            counts["images left over"] = asked - used
        if asked < len(pairs.keys):
            counts["images without a caption"] = len(pairs.keys) - asked
        return EvalResult(
            evaluation="mosaic",
            version=self.version,
            protocol=self.protocol,
            data=source.name,
            primary=self.primary,
            metrics=_figures(laid, to_text),
            counts=counts | images.counts(),
            chance=1 / self.config.tiles**2,
            notes=images.notes() + seen_note(encoder, source, self.config.benchmark),
            examples=_examples(laid, to_text, pairs, self.config.examples),
            seconds=time.perf_counter() - start,
            encoder=encoder.name,
            digest=images.digest,
        )

    def _lay(
        self,
        encoder: PatchEncoder,
        source: Source,
        pairs: Pairs,
        kin: np.ndarray,
        z_alone: np.ndarray,
    ) -> Laid:
        """Return the mosaics with all their vectors."""
        asked, first = np.unique(pairs.owner, return_index=True)
        tiles = self.config.tiles**2
        spots = together(kin[asked], tiles, self.config.seed)
        if not len(spots):
            raise DataError(
                f"{source.name} has no {tiles} images whose captions (and files) all differ, which "
                f"a mosaic of {self.config.tiles} x {self.config.tiles} takes."
            )
        image, caption = asked[spots], first[spots]
        vectors, place = encode_distinct(encoder, [pairs.texts[c] for c in caption.flat])
        return Laid(
            image=image,
            caption=caption,
            kin=kin[image],
            z_tile=self._encode(encoder, source, pairs, image),
            z_alone=z_alone[image],
            z_text=vectors[place].reshape(*image.shape, -1),
        )

    def _encode(
        self, encoder: PatchEncoder, source: Source, pairs: Pairs, image: np.ndarray
    ) -> Float32[np.ndarray, "m t d"]:
        """Return the vectors of all tiles; images are in memory for a few mosaics at a time."""
        step, rows = max(1, _encode.CHUNK // image.shape[1]), []
        for start in range(0, len(image), step):
            chunk = image[start : start + step].ravel().tolist()
            files = [source.read(pairs.numbers[i]).image for i in chunk]
            rows.append(encoder.encode_regions(files, self.config.tiles))
            _encode.check(rows[-1], [pairs.keys[i] for i in chunk], encoder, "tile")
        return np.concatenate(rows).reshape(*image.shape, -1)


def _kin(pairs: Pairs, content: np.ndarray | None) -> Int64[np.ndarray, " n"]:
    """Return a number for each image, equal for those that must not meet in a mosaic.

    They share a caption or their bytes, with each other or through others that do.
    """
    label = np.arange(len(pairs.keys))
    ties = [(pairs.owner, pairs.same)]
    if content is not None:
        ties.append((np.arange(len(content)), content))
    while True:
        before = label.copy()
        for image, group in ties:
            least = np.full(int(group.max()) + 1, len(label))
            np.minimum.at(least, group, label[image])
            np.minimum.at(label, image, least[group])
        label = label[label]
        if np.array_equal(label, before):
            return label


def together(kin: Int[np.ndarray, " n"], tiles: int, seed: int) -> Int64[np.ndarray, "m tiles"]:
    """Return as many mosaics as there can be of items that are no kin, drawn by a seed.

    Items are put in a random order with kin side by side, and dealt out like cards to the m
    mosaics: kin, of whom m at most take part, come to different ones.

    Args:
        kin: a number for each item, equal among kin.
        tiles: items of a mosaic.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    _, family, sizes = np.unique(kin, return_inverse=True, return_counts=True)
    low, count = 0, len(kin) // tiles
    while low < count:  # min(size, m) summed is concave in m: above m * tiles up to one point
        middle = (low + count + 1) // 2
        if np.minimum(sizes, middle).sum() >= middle * tiles:
            low = middle
        else:
            count = middle - 1
    order = rng.permutation(len(kin))
    turn = rng.permutation(len(sizes))[family]
    order = order[np.argsort(turn[order], kind="stable")]
    starts = np.flatnonzero(np.diff(turn[order], prepend=-1))
    within = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    dealt = order[within < count][: count * tiles].reshape(tiles, count).T
    return rng.permuted(dealt, axis=1)


def _places(z_query: np.ndarray, z_key: np.ndarray) -> metrics.Places:
    """Return where the own item of each query stands among those of its mosaic."""
    scores = np.einsum("mqd,mkd->mqk", z_query, z_key)
    right = np.broadcast_to(np.eye(scores.shape[1], dtype=np.bool_), scores.shape)
    tiles = scores.shape[1]
    return metrics.places(scores.reshape(-1, tiles), right.reshape(-1, tiles))


def _figures(laid: Laid, to_text: metrics.Places) -> dict[str, Metric]:
    found = {
        "tile_to_text/R@1": to_text,
        "text_to_tile/R@1": _places(laid.z_text, laid.z_tile),
        "image_to_text/R@1 (alone)": _places(laid.z_alone, laid.z_text),
        "text_to_image/R@1 (alone)": _places(laid.z_text, laid.z_alone),
    }
    mosaics, tiles = laid.image.shape
    clusters, kin = np.repeat(np.arange(mosaics), tiles), laid.kin.ravel()
    alike = None
    if len(np.unique(kin)) < len(kin):
        alike = metrics.Alike(np.arange(len(kin)), kin)
    return {
        name: metrics.share(metrics.recall_at_k(places, 1), None, clusters, alike)
        for name, places in found.items()
    }


def _examples(
    laid: Laid, places: metrics.Places, pairs: Pairs, count: int
) -> tuple[dict[str, Any], ...]:
    """Return a few tiles, right and wrong in turn, with the captions of their mosaic, as JSON."""
    first = (places.ahead == 0) & (places.tied == 1)
    found = []
    for at in metrics.chosen(first, count):
        mosaic, tile = divmod(at, laid.image.shape[1])
        scores = laid.z_text[mosaic] @ laid.z_tile[mosaic, tile]
        image = int(laid.image[mosaic, tile])
        top = [
            {
                "text": pairs.texts[int(laid.caption[mosaic, k])],
                "index": pairs.numbers[int(laid.image[mosaic, k])],
                "score": round(float(scores[k]), 4),
                "right": bool(k == tile),
            }
            for k in np.argsort(-scores, kind="stable")
        ]
        found.append(
            {
                "direction": "tile_to_text",
                "key": pairs.keys[image],
                "index": pairs.numbers[image],
                "mosaic": mosaic,
                "tile": tile,
                "rank": float(metrics.ranks(places)[at]),
                "right": bool(first[at]),
                "top": top,
            }
        )
    return tuple(found)


def build(config: Config) -> Mosaic:
    """Return the evaluation.

    Raises:
        ConfigError: a negative number of examples, or tiles that make no mosaic.
    """
    if config.examples < 0:
        raise ConfigError(f"mosaic.examples must be 0 or more, not {config.examples}.")
    if not 2 <= config.tiles <= _MOST:
        raise ConfigError(f"mosaic.tiles must be from 2 to {_MOST}, not {config.tiles}.")
    if config.seed < 0:
        raise ConfigError(f"mosaic.seed must be 0 or more, not {config.seed}.")
    return Mosaic(config)
