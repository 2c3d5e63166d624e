"""A graph of near rows (HNSW) by the library usearch: quick answers, mapped, slow to build.

Malkov and Yashunin 2018 (arXiv:1603.09320). The file holds the rows once more as float16 and about
150 bytes of links a row; it is mapped, so that memory is what searches touch.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, Int64

from lift.errors import ConfigError
from lift.search.engines import NOWHERE, Vectors
from lift.search.engines._approximate import Approximate, Way
from lift.search.engines._built import Unusable, refused
from lift.search.engines._usearch_file import require_sound

NEEDS = {"usearch": "usearch"}

_ROWS_AT_ONCE = 16_384


@dataclass(frozen=True, kw_only=True)
class Config:
    """What the graph is.

    Attributes:
        recall: share of the true ten nearest that has to be found; how hard the graph is searched
            is chosen for it when it is built.
        connectivity: links of a row on the upper levels; twice as many on the lowest one.
        effort: candidates looked at while a row is linked.
        numbers: of its copy of the rows.
        least: rows below which all are compared.
    """

    recall: float = 0.95
    connectivity: int = 16
    effort: int = 128
    numbers: Literal["float16", "float32"] = "float16"
    least: int = 20_000

    def __post_init__(self) -> None:
        if not 0 < self.recall < 1:
            raise ConfigError(f"The recall of usearch lies between 0 and 1, not {self.recall}.")
        if not 2 <= self.connectivity <= 256 or not 1 <= self.effort <= 4_096:
            raise ConfigError(
                "The connectivity of usearch is from 2 to 256 and its effort from 1 to 4,096, not "
                f"{self.connectivity} and {self.effort}."
            )
        if self.least < 0:
            raise ConfigError(f"The least rows of usearch are at least 0, not {self.least}.")


def build(config: Config) -> UsearchMaker:
    """Return what opens the engine."""
    return UsearchMaker(config)


class UsearchMaker:
    """See `Maker`."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def open(self, vectors: Vectors, folder: Path, *, writes: bool) -> Approximate:
        """Return the engine with the graph that lies in the folder."""
        config = self._config
        way = Way(
            name="usearch",
            options={
                "connectivity": config.connectivity,
                "effort": config.effort,
                "numbers": config.numbers,
            },
            recall=config.recall,
            least=config.least,
            make=self._make,
            load=self._load,
            efforts=lambda rows: (16, 4_096),
        )
        return Approximate(way, vectors, folder, writes=writes)

    def _make(self, vectors: Vectors, path: Path) -> None:
        graph = _empty(self._config, vectors.shape[1])
        for start in range(0, len(vectors), _ROWS_AT_ONCE):
            rows = np.nan_to_num(
                vectors[start : start + _ROWS_AT_ONCE].astype(np.float32), posinf=0, neginf=0
            )
            places = np.arange(start, start + len(rows), dtype=np.uint64)
            graph.add(places, rows, threads=torch.get_num_threads())
        try:
            graph.save(str(path))
        except RuntimeError as error:
            raise refused(path, error) from error

    def _load(self, path: Path, rows: int, width: int) -> Graph:
        graph = _empty(self._config, width)
        if not rows:  # the library's file of nothing has another shape
            return Graph(graph, 0)
        require_sound(
            path, rows, width, self._config.connectivity, 2 if "16" in self._config.numbers else 4
        )
        try:
            graph.view(str(path))
        except RuntimeError as error:  # a head of another version
            raise Unusable("its file can't be read") from error
        return Graph(graph, rows)


class Graph:
    """See `Lookup`."""

    def __init__(self, graph: Any, rows: int) -> None:
        self._graph, self._rows = graph, rows
        self._asking = threading.Lock()  # threads that ask would share what the library notes down

    def propose(
        self, z: Float32[np.ndarray, "q d"], count: int, effort: int, share: float
    ) -> Int64[np.ndarray, "q count"]:
        """Return what a walk through the graph meets; see `Lookup`."""
        found = np.full((len(z), count), NOWHERE, np.int64)
        if not self._rows or not len(z):
            return found
        most = min(count, self._rows)
        with self._asking:
            self._graph.expansion_search = max(effort, most)
            met = self._graph.search(z, most, threads=torch.get_num_threads())
        # A single question is answered in another shape.
        places = np.asarray(met.keys).reshape(len(z), -1).astype(np.int64)
        counts = getattr(met, "counts", None)
        if counts is not None:
            places[np.arange(places.shape[1]) >= np.asarray(counts)[:, None]] = NOWHERE
        found[:, : places.shape[1]] = places
        return found

    def costs(self, count: int, effort: int, share: float) -> float:
        """Return what a question costs, in rows compared; see `Lookup`."""
        return 500 + 8.0 * max(effort, count)


def _empty(config: Config, width: int) -> Any:
    from usearch.index import Index

    return Index(
        ndim=width,
        metric="ip",
        dtype="f16" if config.numbers == "float16" else "f32",
        connectivity=config.connectivity,
        expansion_add=config.effort,
        enable_key_lookups=False,
    )
