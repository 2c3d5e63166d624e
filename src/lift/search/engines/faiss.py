"""Rows in cells around centroids, a byte a value (IVF with SQ8), by the library faiss.

Jegou et al. 2011 (inverted lists). Built in seconds where a graph takes a minute; the bytes are in
memory. The file is safetensors of our own and not faiss's: nothing of a stranger's is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lift.errors import ConfigError
from lift.search.engines import NOWHERE, Vectors
from lift.search.engines._approximate import FEW_PROPOSED, Approximate, Way
from lift.search.engines._built import Unusable, refused

NEEDS = {"faiss": "faiss"}

_ROWS_AT_ONCE = 16_384
_ROWS_A_CELL = 64
"""That centroids are learned from."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What the cells are.

    Attributes:
        recall: share of the true ten nearest that has to be found; how many cells are looked into
            is chosen for it when they are built.
        cells: how many; 0: four times the square root of the number of rows.
        least: rows below which all are compared.
    """

    recall: float = 0.95
    cells: int = 0
    least: int = 20_000

    def __post_init__(self) -> None:
        if not 0 < self.recall < 1:
            raise ConfigError(f"The recall of faiss lies between 0 and 1, not {self.recall}.")
        if not 0 <= self.cells <= 1_048_576:
            raise ConfigError(f"The cells of faiss are from 0 to 1,048,576, not {self.cells}.")
        if self.least < 0:
            raise ConfigError(f"The least rows of faiss are at least 0, not {self.least}.")


def build(config: Config) -> FaissMaker:
    """Return what opens the engine."""
    return FaissMaker(config)


class FaissMaker:
    """See `Maker`."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def open(self, vectors: Vectors, folder: Path, *, writes: bool) -> Approximate:
        """Return the engine with the cells that lie in the folder."""
        way = Way(
            name="faiss",
            options={"cells": self._config.cells},
            recall=self._config.recall,
            least=self._config.least,
            make=self._make,
            load=_load,
            efforts=lambda rows: (4, self._cells(rows)),
        )
        return Approximate(way, vectors, folder, writes=writes)

    def _cells(self, rows: int) -> int:
        return max(1, min(self._config.cells or int(4 * rows**0.5), rows))

    def _make(self, vectors: Vectors, path: Path) -> None:
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        cells, width = self._cells(len(vectors)), vectors.shape[1]
        if not len(vectors):
            _save(path, np.zeros((1, width), np.float32), np.zeros(2 * width, np.float32), [])
            return
        dice = np.random.default_rng(0)
        some = min(len(vectors), cells * _ROWS_A_CELL)
        sample = _rows(vectors, np.sort(dice.choice(len(vectors), some, replace=False)))
        centroids = sample[:cells].copy()
        if some > cells:
            means = faiss.Kmeans(
                width, cells, niter=10, spherical=True, seed=1, min_points_per_centroid=1
            )
            means.train(sample)
            centroids = means.centroids
        index = _empty(np.ascontiguousarray(centroids, np.float32))
        index.train(sample)
        for start in range(0, len(vectors), _ROWS_AT_ONCE):
            index.add(_rows(vectors, slice(start, start + _ROWS_AT_ONCE)))
        lists, size = index.invlists, index.code_size
        found = []
        for cell in range(index.nlist):
            length = lists.list_size(cell)
            found.append(
                (
                    faiss.rev_swig_ptr(lists.get_ids(cell), length).copy(),
                    faiss.rev_swig_ptr(lists.get_codes(cell), length * size)
                    .reshape(length, size)
                    .copy(),
                )
                if length
                else (np.zeros(0, np.int64), np.zeros((0, size), np.uint8))
            )
        _save(path, centroids, faiss.vector_to_array(index.sq.trained), found)


class Cells:
    """See `Lookup`. Searching writes nothing, so threads need no lock."""

    def __init__(self, index: Any) -> None:
        self._index = index

    def propose(
        self, z: Float32[np.ndarray, "q d"], count: int, effort: int, share: float
    ) -> Int64[np.ndarray, "q count"]:
        """Return the nearest rows of the nearest cells; see `Lookup`."""
        import faiss

        if not self._index.ntotal or not len(z):
            return np.full((len(z), count), NOWHERE, np.int64)
        faiss.omp_set_num_threads(torch.get_num_threads())
        cells = self._looked_into(count, effort, share)
        settings: Any = faiss.SearchParametersIVF()
        settings.nprobe = cells
        return self._index.search(z, count, params=settings)[1]

    def costs(self, count: int, effort: int, share: float) -> float:
        """Return what a question costs, in rows compared; see `Lookup`."""
        cells = self._index.nlist
        looked_into = self._looked_into(count, effort, share) / cells
        return 200 + cells * 0.1 + 0.15 * looked_into * self._index.ntotal + count

    def _looked_into(self, count: int, effort: int, share: float) -> int:
        """Return how many cells: the effort is that of ten hits, more and sieved ones lie wider."""
        wider = max(1.0, count * share / FEW_PROPOSED) / share
        return min(self._index.nlist, int(effort * wider) + 1)


def _rows(vectors: Vectors, places: Any) -> Float32[np.ndarray, "n d"]:
    rows = np.ascontiguousarray(vectors[places], np.float32)
    return np.nan_to_num(rows, posinf=0, neginf=0)


def _empty(centroids: Float32[np.ndarray, "c d"]) -> Any:
    import faiss

    cells, width = centroids.shape
    middle = faiss.IndexFlatIP(width)
    middle.add(centroids)  # the index keeps it alive
    index = faiss.IndexIVFScalarQuantizer(
        middle, width, cells, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
    )
    return index


def _save(path: Path, centroids: Any, trained: Any, found: list[Any]) -> None:
    width = centroids.shape[1]
    told = {
        "centroids": np.ascontiguousarray(centroids, np.float32),
        "trained": np.ascontiguousarray(trained, np.float32),
        "lengths": np.array([len(ids) for ids, _ in found] or [0], np.int64),
        "places": np.concatenate([ids for ids, _ in found] or [np.zeros(0, np.int64)]),
        "codes": np.concatenate([c for _, c in found] or [np.zeros((0, width), np.uint8)]),
    }
    try:
        save_file(told, path)
    except SafetensorError as error:
        raise refused(path, error) from error


def _load(path: Path, rows: int, width: int) -> Cells:
    import faiss

    try:
        told = load_file(path)
        centroids, trained = told["centroids"], told["trained"]
        lengths, places, codes = told["lengths"], told["places"], told["codes"]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise Unusable("its file can't be read") from error
    kinds = [str(array.dtype) for array in (centroids, trained, lengths, places, codes)]
    sound = (
        kinds == ["float32", "float32", "int64", "int64", "uint8"]
        and centroids.ndim == 2
        and centroids.shape == (len(lengths), width)
        and trained.shape == (2 * width,)
        and lengths.ndim == 1
        and len(lengths) > 0
        and places.shape == (rows,)
        and codes.shape == (rows, width)
        and bool((lengths >= 0).all())
        and bool((lengths <= rows).all())
        and int(lengths.sum()) == rows
        and bool(((places >= 0) & (places < max(1, rows))).all())
        and bool(np.isfinite(centroids).all() and np.isfinite(trained).all())
    )
    if not sound:
        raise Unusable("its file says what can't be")
    index = _empty(centroids)
    faiss.copy_array_to_vector(trained, index.sq.trained)
    index.is_trained = True
    ends = np.cumsum(lengths)
    for cell, (start, end) in enumerate(zip(ends - lengths, ends, strict=True)):
        if end > start:
            ids, bytes_ = places[start:end].copy(), codes[start:end].copy()
            index.invlists.add_entries(
                cell, int(end - start), faiss.swig_ptr(ids), faiss.swig_ptr(bytes_)
            )
    index.ntotal = rows
    return Cells(index)
