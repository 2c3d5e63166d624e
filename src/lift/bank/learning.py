"""Rows that are learned from labelled vectors, each starting from its class's text."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float32, Int64

from lift.bank.scoring import Reduce, class_vectors, logits_of
from lift.errors import ConfigError, DataError, NotFinite
from lift.terms import unit

STEPS = 200
"""Of L-BFGS, at most; it mostly ends within 50."""


def learn(
    rows: Float32[np.ndarray, "n d"],
    owner: Int64[np.ndarray, " n"],
    weights: Float32[np.ndarray, " n"],
    classes: int,
    reduce: Reduce,
    temperature: float,
    *,
    z: Float32[np.ndarray, "m d"],
    truth: Int64[np.ndarray, " m"],
    scale: float,
    decay: float,
    weight: float,
) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, "k d"], Float32[np.ndarray, " k"]]:
    """Return the classes that occur in `truth`, a learned row for each, and its weight.

    The rows that are there stay as they are and go on counting. A learned row starts as its
    class's vector, so that at first nothing changes, and minimises the cross-entropy of
    scale * scores over all classes, + decay / 2 * the mean over learned rows of the squared
    distance from the start. A class is weighted by nothing: each vector counts alike.

    Args:
        rows, owner, weights, classes, reduce, temperature: the bank.
        z, truth: vectors of unit length, and the number of each one's class.
        scale: what turns a cosine into a logit.
        decay: 0 lets a row go anywhere.
        weight: of a learned row, relative to all other rows of its class together.

    Raises:
        ConfigError: a number that makes no sense.
        DataError: no vectors.
        NotFinite: a vector holds NaN.
    """
    if scale <= 0 or decay < 0 or weight <= 0 or not math.isfinite(scale + decay + weight):
        raise ConfigError(
            f"A learned row needs scale and weight above 0 and decay of 0 or more, not {scale:g}, "
            f"{weight:g} and {decay:g}."
        )
    if len(z) == 0:
        raise DataError("No vector was given to learn a row from.")
    if not np.isfinite(z).all():
        raise NotFinite("A vector to learn a row from holds NaN or infinity.")
    taught = np.unique(truth)
    start = torch.from_numpy(class_vectors(rows, owner, weights, classes)[taught]).double()
    totals = np.bincount(owner, weights, minlength=classes)[taught] * weight
    own = totals.astype(np.float32)
    fixed = torch.tensor(rows, dtype=torch.float64)  # a copy: rows of a bank are read-only
    owners = torch.from_numpy(np.concatenate([owner, taught]))
    shares = torch.from_numpy(np.concatenate([weights, own])).double()
    inputs, targets = torch.tensor(z, dtype=torch.float64), torch.from_numpy(truth)
    learned = start.clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [learned], max_iter=STEPS, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        solver.zero_grad()
        every = torch.cat([fixed, unit(learned)])
        scores = logits_of(inputs, every, owners, shares, classes, reduce, temperature)
        found = torch.nn.functional.cross_entropy(scale * scores, targets)
        found = found + decay / 2 * (learned - start).square().sum(dim=1).mean()
        found.backward()
        return found

    solver.step(loss)  # type: ignore[arg-type]  # a closure that returns a tensor, as documented
    return taught, unit(learned.detach()).float().numpy(), own
