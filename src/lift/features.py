"""From images to stored features: which tower, which rows of each image, which parts of the work.

The names that others need are here: `open_tower`, `tower_of`, `ImageTower`, `embed_images`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lift import plugins
from lift.cache import manifest as records
from lift.cache import writer
from lift.cache.features import FeatureCache, features_part
from lift.cache.manifest import Plan
from lift.cache.place import place_of
from lift.cache.writer import EmbedReport
from lift.config import Part, convert, override, to_dict
from lift.data.pictures import Pictures
from lift.data.source import left_out, open_source, parse_part
from lift.data.transform import Transform
from lift.embedding import assigned
from lift.errors import ConfigError, DataError
from lift.image_space import ImageSpace
from lift.image_tower import ImageTower as ImageTower
from lift.image_tower import open_tower as open_tower
from lift.image_tower import tower_of as tower_of
from lift.terms import Source
from lift.text.encoder import EncodedTexts
from lift.text.encoders import vectors as stored_vectors
from lift.text.encoders.vectors import VectorsEncoder
from lift.text.roles import Linked
from lift.tower_encoder import TowerEncoder as TowerEncoder
from lift.world import Precision, worker

_PATHS = ("model", "weights")
"""Options of towers that may name a folder."""

_JOINED = "join=key,normalised=false,model=given"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Which rows each image gets besides its own; None takes what the cache has, else none.

    Attributes:
        views: random views.
        grid: cells of a side of the patch grid.
        seed: of the views.
    """

    views: int | None = None
    grid: int | None = None
    seed: int | None = None

    def settled(self, plan: Plan | None) -> dict[str, int]:
        """Return the three numbers by name."""
        told = plan.encoder.options if plan else {}
        return {n: int(told.get(n, 0)) if v is None else v for n, v in vars(self).items()}


def embed_images(
    data: Sequence[str],
    tower: Part | None,
    out: str | Path,
    *,
    rows: Rows = Rows(),
    options: Sequence[str] = (),
    vectors: str = "",
    part: str = "",
    codec: Part | None = None,
    precision: Precision | Literal["auto"] = "float32",
    rows_per_shard: int | None = None,
    workers: int | None = None,
    device: str = "auto",
    strict: bool = False,
    progress: bool = True,
) -> EmbedReport:
    """Store the features of the images of some data; see `lift.commands.text.embed_images`.

    Args:
        data: where the images are.
        tower: of the room towers; None takes that of the cache.
        out: the cache.
        rows: which rows each image gets.
        options: words about the pixels, fields of `Transform` (`resolution=336`).
        vectors: where features that somebody computed lie, in the layouts of the text encoder
            `vectors`, each with the key of its sample.
        part, codec, precision, rows_per_shard: see `lift.embedding.embed`.
        workers: threads that decode.
        device, strict, progress: see `lift.embedding.embed`.

    Raises:
        LiftError: bad input, another tower or something else in the folder, a full disk.
    """
    process = worker()
    numbers, parts = assigned(part, process, out)
    if not data:
        raise DataError("There are no images: say with --data where they are.")
    plan = records.read_plan(place_of(out))
    plan = plan if plan is not None and isinstance(plan.space, ImageSpace) else None
    opened = _opened(tower, options, plan, device)
    chosen = rows.settled(plan)
    sources = [open_source(spec, strict=strict) for spec in data]
    pictures = Pictures(sources, views=chosen["views"], grid=chosen["grid"], strict=strict)
    if opened.takes_rows or vectors:
        encoder = GivenFeatures(opened, vectors, pictures, chosen)
    else:
        encoder = TowerEncoder(opened, sources, **chosen, workers=workers, strict=strict)
    reports = [
        writer.embed(
            encoder.items if isinstance(encoder, GivenFeatures) else pictures,
            encoder,
            out,
            part=(number, parts) if parts > 1 else None,
            codec=codec,
            precision=precision,
            rows_per_shard=rows_per_shard,
            total=len(pictures),
            progress=progress and process.rank == 0,
        )
        for number in numbers
    ]
    report = writer.together(reports)
    left = {**report.left_out, **_left_out(sources, pictures, encoder)}
    return dataclasses.replace(report, left_out=left, notes=(*opened.notes, *report.notes))


def auditor(
    cache: FeatureCache, tower: Part | None, sources: Sequence[Source], *, device: str = "auto"
) -> TowerEncoder:
    """Return what makes rows of a cache again, to be compared with those that are stored.

    Args:
        cache: of image features.
        tower: in the user's words; None takes the one that the cache names.
        sources: where its images are read, if they are.
        device: where it computes.

    Raises:
        ConfigError: the rows were computed elsewhere, or there is no such tower.
        MissingPackage: the tower needs a package that is not installed.
    """
    opened = _opened(tower, (), cache.plan, device)
    return TowerEncoder(opened, sources, views=cache.views, grid=cache.grid, seed=cache.seed)


class GivenFeatures:
    """Features that somebody computed, as what makes the rows of a cache.

    They are joined to images by the keys of their samples; see `lift.cache.maker.RowMaker`.

    Attributes:
        space, part, saw, device, matryoshka, probes: see there.
        items: the images that have a vector, as the writer takes them.
        without: images that have none.
    """

    saw: tuple[str, ...] = ()
    device = "cpu"
    matryoshka = False

    def __init__(
        self, tower: ImageTower, vectors: str, pictures: Pictures, chosen: dict[str, int]
    ) -> None:
        """Join vectors to images; reads and hashes every image.

        Args:
            tower: says what the rows are.
            vectors: where they lie.
            pictures: the images.
            chosen: views, grid and seed.

        Raises:
            ConfigError: no vectors, rows of another width, or rows that can't be had of vectors.
            DataError: no key in common, or a key with two images.
        """
        if not tower.takes_rows or not vectors:
            raise ConfigError(
                "Features that were computed elsewhere need both --vectors (where they lie) and "
                f"--tower stored:width=...,model=... (what they are), not the tower {tower.part}."
            )
        if chosen["views"] or chosen["grid"]:
            raise ConfigError("Views and grids need a tower that runs; leave out views and grid.")
        words = f"vectors:{vectors},{_JOINED}"
        built = stored_vectors.build(_vector_config(words), trusted=True)
        assert isinstance(built, VectorsEncoder)
        if built.space.dimensions != tower.space.dimensions:
            raise ConfigError(
                f"{vectors} has rows of {built.space.dimensions} values, and the tower says "
                f"width={tower.space.dimensions}; they have to be one."
            )
        self._stored, self._pictures = built, pictures
        self.space = tower.space
        self.part = features_part(tower.part, {}, 0, 0, chosen["seed"])
        built.join((found.key, found.image) for found in pictures.images())
        self.probes, self.items, self.without = built.probes, _WithVector(self), 0

    def encode(
        self,
        texts: Sequence[str],
        *,
        precision: Precision = "float32",
        token_budget: int | None = None,
    ) -> EncodedTexts:
        """Return the stored rows of addresses. Raises MissingRows where there is none."""
        return self._stored.encode(texts, precision=precision, token_budget=token_budget)

    def has(self, images: Sequence[str]) -> np.ndarray:
        """Return which images [n] have a vector."""
        return self._stored.knows(images)


class _WithVector:
    """The images of some data that have a vector; it can be read again."""

    def __init__(self, given: GivenFeatures) -> None:
        self._given = given

    def __iter__(self) -> Iterator[Linked]:
        given, count = self._given, 0
        for item in given._pictures:
            if given.has([item.text])[0]:
                yield item
            else:
                count += 1
        given.without = count


def _vector_config(words: str) -> stored_vectors.Config:
    return plugins.configure(parse_part("text/encoders", words))


def _opened(
    tower: Part | None, options: Sequence[str], plan: Plan | None, device: str
) -> ImageTower:
    """Return the tower that is asked for, with the pixels of the cache where there is one."""
    if tower is None and plan is None:
        raise ConfigError("Say with --tower which tower is to see the images.")
    named = tower or convert(Part, plan.encoder.options["tower"] if plan else None, "tower")
    tower = _absolute(named)
    before = plan.encoder.options["transform"] if plan else None
    if not before:
        return open_tower(tower, options, device=device)
    if not options:
        return open_tower(tower, before, device=device)
    changed = override(convert(Transform, before, "transform"), options)
    return open_tower(tower, to_dict(changed), device=device)


def _absolute(tower: Part) -> Part:
    """Return the part with folders named from the root: a cache is opened from anywhere."""
    found = {
        name: str(Path(value).expanduser().resolve())
        for name in _PATHS
        if isinstance(value := tower.options.get(name), str) and Path(value).expanduser().exists()
    }
    return Part(tower.room, tower.name, {**tower.options, **found})


def _left_out(
    sources: Sequence[Source], pictures: Pictures, encoder: TowerEncoder | GivenFeatures
) -> dict[str, int]:
    counts = {f"{s.name}, {why}": n for s in sources for why, n in left_out(s).items()}
    counts |= {why: n for why, n in pictures.counters.items() if n}
    if isinstance(encoder, GivenFeatures) and encoder.without:
        counts["images without a vector"] = encoder.without
    return counts
