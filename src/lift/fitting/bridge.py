"""From a tower's own text space into another one, on captions alone: no image is needed.

A tower that was trained together with a text tower (CLIP, SigLIP) puts images where that puts their
captions. A map from own captions to the same captions in another space therefore takes images
along, as far as they lie where captions do. They lie apart by a constant (the modality gap, Liang
et al. 2022), so each side is centred by its own mean: texts by theirs, images by that of some
images' features where these are given, else by that of the texts, too.

The map is a rotation unless somebody asks for another: a penalty that suits captions blows up the
directions in which captions hardly vary and images do. Of a small CLIP trained on drawn scenes
(R@10 17.5% in its own space, chance 3.4%), ridge with the penalty that captions choose gave 3.7% in
MiniLM's space, with penalty=0.3 14.2%, the rotation 14.0%.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from lift.bundle import Bundle, load
from lift.cache.addresses import WHOLE
from lift.cache.features import FeatureCache
from lift.cache.reader import EmbeddingCache
from lift.config import Part
from lift.data.transform import Transform
from lift.errors import ConfigError, SpaceMismatch
from lift.features import open_tower, tower_of
from lift.fitting.around import (
    HOLDOUT,
    Told,
    over_captions,
    require_free,
    require_pairs,
    require_share,
    tell,
)
from lift.fitting.making import model_of, tensors_of, transform_of
from lift.fitting.moments import require_finite
from lift.fitting.solving import Solved, predicted, solve, solvers_of
from lift.fitting.texts import TextPairs, Texts, texts_of
from lift.fitting.words import FitReport
from lift.heads import Head
from lift.image_tower import named_tower
from lift.model import Side
from lift.model_folder import model_in
from lift.moved_heads import chained, linear_head
from lift.ranks import joined
from lift.text.keys import KEY

_BLOCK = 4_096

NAMES = ("own caption vector", "caption vector")


@dataclass(frozen=True)
class _Own:
    """A tower with the space that it shares with its own text tower.

    Attributes:
        texts: that space.
        side: tower, and the head by which it gets there, if any.
        tower: the part that rebuilds the tower.
        transform: how pixels reach it.
    """

    texts: Texts
    side: Side
    tower: Part | None
    transform: Transform


def bridge(
    own: str | Path,
    *,
    cache: str | Path,
    out: str | Path = "",
    tower: str = "",
    features: str | Path = "",
    data: Sequence[str] = (),
    method: str = "procrustes",
    options: Sequence[str] = (),
    holdout: float = HOLDOUT,
    progress: bool = True,
    say: Told = lambda _: None,
) -> FitReport:
    """Return a tower's model in another text space, fitted on captions.

    Args:
        own: captions as the tower's own text tower puts them: a cache, or the folder of a model
            with a text side, which encodes the captions of `data`.
        cache: captions in the other space.
        out: the model's folder; "" writes none.
        tower: the tower in words, whose vectors are those of `own`; "" takes that of the features,
            or the model's.
        features: stored features of any images, of that tower: their mean centres images.
        data: where captions are; two caches need none.
        method, options, holdout, progress, say: as for `lift.fitting.fit.fit`; what is held out
            are captions.

    Raises:
        LiftError: bad input; nothing was written.
    """
    start = time.perf_counter()
    solvers = solvers_of(method, options)
    require_share(holdout)
    with joined(torch.device("cpu")) as ranks:
        with ranks.together():
            require_free(out)
            target = texts_of(EmbeddingCache.open(cache))
            images = FeatureCache.open(features) if features else None
            found = _opened(str(own), tower, images)
            pairs = TextPairs(found.texts, target, data)
            centre = None if images is None else _mean(images, found.side)
        gathered = over_captions(pairs, ranks, holdout=holdout, names=NAMES, progress=progress)
        passed = time.perf_counter() - start
        alike = predicted(gathered)
        tell(alike, ranks, say)
        with ranks.together():
            solved = solve(gathered, solvers, alike=alike)
            shift = None if centre is None else gathered.sums.mean_h - centre
            model = _model(found, target, solved, shift, Path(out).name or "model")
            if out and ranks.first:
                model.save(out)
    return FitReport(
        folder=str(out),
        model=model,
        solved=solved,
        title=f"{found.texts.space.model} into {target.space.model}, on captions alone",
        left_out=dict(pairs.missing),
        seconds=(passed, time.perf_counter() - start),
    )


def _model(own: _Own, target: Texts, solved: Solved, shift: np.ndarray | None, name: str) -> Bundle:
    """Return the tower, its own head if any, unit length, then the map."""
    weight, bias = tensors_of(solved.linear, shift)
    head: Head = linear_head(weight, bias, unit=True)
    if own.side.head is not None:
        assert isinstance(own.side.head, Head)
        head = chained(own.side.head, head)
    origin = {
        "recipe": "bridge",
        "from": {**vars(own.texts.space), "fingerprint": own.texts.space.fingerprint},
        "centred_by": "texts" if shift is None else "images",
        **solved.origin(),
    }
    return model_of(own.tower, own.side, head, own.transform, target, origin, name)


def _opened(own: str, tower: str, images: FeatureCache | None) -> _Own:
    """Return the tower with its own text space.

    Raises:
        ConfigError: no tower, or two.
        SpaceMismatch: the tower's vectors are not as long as its captions'.
    """
    if model_in(own) is not None:
        if tower:
            raise ConfigError(f"{own} is a model, which has its tower: leave --tower out.")
        model = load(own, device="cpu")
        texts = Texts(
            f"the model {own}",
            model.space,
            model.record.encoder,
            model.saw,
            encode=model.encode_texts,
        )
        return _Own(texts, model.side, model.record.image.tower, model.transform)
    texts = texts_of(EmbeddingCache.open(own))
    if not tower and images is None:
        raise ConfigError(
            f"{own} holds captions only: say with --tower which tower's they are, or give its "
            "stored features with --features."
        )
    if images is None:
        opened = open_tower(named_tower(tower), device="cpu")
    elif tower:
        raise ConfigError("--features know their tower: leave --tower out.")
    else:
        opened = tower_of(images, device="cpu")
    if opened.space.dimensions != texts.space.dimensions:
        raise SpaceMismatch(
            f"The tower gives {opened.space.dimensions} numbers, the captions in {own} have "
            f"{texts.space.dimensions}: they are not of one space; use the tower's joint vectors "
            "and its own text tower."
        )
    return _Own(texts, Side(opened.module, None), opened.kept, transform_of(opened))


@torch.inference_mode()
def _mean(images: FeatureCache, own: Side) -> Float64[np.ndarray, " w"]:
    """Return the mean of images in the tower's own space, at unit length; views are left out."""
    own.eval()
    found, count = np.zeros(0), 0
    for table in images.links():
        whole = np.array(table["role"].to_pylist(), dtype=object) == WHOLE
        keys = np.array(table["caption"].to_pylist(), KEY)[whole]
        for start in range(0, len(keys), _BLOCK):
            rows = images.find_keys(keys[start : start + _BLOCK])
            z = own.finish(torch.from_numpy(images.take(rows[rows >= 0]))).double().numpy()
            require_finite(z, "image vector")
            found = found + z.sum(axis=0) if count else z.sum(axis=0)
            count += len(z)
    require_pairs(count, f"the features {images.folder} hold no whole image")
    return found / count
