"""Judge one rung on the held-out pairs, from stored vectors, and keep what it found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from lift.bundle import Bundle, load
from lift.cache.features import FeatureCache
from lift.cache.reader import EmbeddingCache
from lift.config import Part, to_json
from lift.data.source import open_source
from lift.encoders import CachedImages, CachedTexts
from lift.errors import CheckpointError, LiftError
from lift.evaluation import Plan, evaluate
from lift.files import write_text
from lift.model import save_tensors
from lift.results import write_results
from lift.rungs.meter import Meters
from lift.rungs.paired import Listening, pairs_of
from lift.rungs.places import Asked, Split
from lift.rungs.record import Rung, read_as

RUNG = "rung.json"
HITS = "hits.safetensors"
RETRIEVAL = Part("evals", "retrieval", {"protocol": "all-captions"})


class Judge:
    """Opens what is stored once, and judges rung after rung.

    Attributes:
        captions, images: the caches.
        held: the pairs that judge.
        pairs: their captions.
    """

    def __init__(self, asked: Asked, split: Split, *, progress: bool) -> None:
        """Open the caches.

        Raises:
            CacheError: one of them can't be read.
        """
        self._asked, self._split, self._progress = asked, split, progress
        self.captions = EmbeddingCache.open(asked.captions)
        self.images = FeatureCache.open(asked.features)
        self.held = open_source(split.held)
        self.pairs = pairs_of(self.held)

    def judged(self, rung: Rung, model: Bundle | None = None) -> Rung:
        """Return a rung with its figures, and write both down in its folder."""
        folder = self._asked.rung(rung.name)
        model = model or load(folder, device="cpu")
        heard = Listening(CachedTexts(CachedImages(model, self.images), self.captions))
        found = evaluate(heard, [Plan(RETRIEVAL, self._split.held)], progress=self._progress)
        hits = heard.hits(self.pairs)
        (folder / HITS).unlink(missing_ok=True)
        if hits is not None:
            save_tensors({"hits": torch.from_numpy(hits)}, folder / HITS)
        write_results(found, folder / "evals")
        done = replace(
            rung, result=replace(found[0], examples=()), folder=str(self._relative(folder))
        )
        write_text(folder / RUNG, to_json(done))
        return done

    def hits(self, name: str) -> np.ndarray | None:
        """Return what a rung found of each caption; None where that is not known."""
        path = self._asked.rung(name) / HITS
        return load_file(path)["hits"].numpy() if path.exists() else None

    def _relative(self, folder: Path) -> Path:
        return folder.relative_to(self._asked.out)


def known(asked: Asked, name: str, options: tuple[str, ...] = ()) -> Rung | None:
    """Return a rung that came out before; None where it did not.

    Raises:
        CheckpointError: it was made with other options, or its record is damaged.
    """
    path = asked.rung(name) / RUNG
    if not path.exists():
        return None
    rung: Rung = read_as(Rung, path)
    if rung.options != options:
        was, now = (" ".join(words) or "nothing" for words in (rung.options, options))
        raise CheckpointError(
            f"The rung {name} in {asked.out} was made with --set {was}, not {now}: remove "
            f"{path.parent} to make it again."
        )
    return rung


def tried(rung: Rung, meters: Meters, make: Callable[[], Rung]) -> Rung:
    """Return what `make` returns, or the rung as failed with the sentence of the error."""
    try:
        return make()
    except LiftError as error:
        return replace(rung, status="failed", why=str(error), cost=meters.cost(rung.name))
