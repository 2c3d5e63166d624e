"""LIFT with perfect sight: the facts of a scene in the place of its pixels.

The head, the loss and the text space are those of LIFT; what the tower would have to find out is
given. What this can't answer is not the tower's fault.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from frame.scene_claims import CLAIMS, counted, facts
from lift import plugins
from lift.cache.reader import EmbeddingCache
from lift.candidates import Candidates
from lift.data.source import open_source
from lift.heads import Head, build_head
from lift.terms import ImageLike, Sample, unit
from lift.training.config import RunConfig
from lift.training.optim import learning_rate, make_optimizer, set_rate

TIMES = 8
"""Steps for one of the image tower's: they cost next to nothing, and more change nothing."""


def told(config: RunConfig) -> Head:
    """Return a head that maps facts into the text space, trained with the config's loss.

    Args:
        config: of a run of LIFT on scenes with one caption each.
    """
    source, rows = open_source(config.data), EmbeddingCache.open(config.cache)
    samples = [source.read(number) for number in range(len(source))]
    true = torch.from_numpy(counted(facts(sample.fields["scene"]) for sample in samples))
    row = torch.from_numpy(rows.find([sample.captions[0].text for sample in samples]))
    z_text = unit(torch.from_numpy(rows.take(row.numpy())))
    torch.manual_seed(config.seed)
    model = nn.ModuleDict({
        "head": build_head(config.head, len(CLAIMS), rows.dimensions),
        "objective": plugins.build(config.objective),
    })  # fmt: skip
    head, objective = model["head"], model["objective"]
    assert isinstance(head, Head)
    optimiser = make_optimizer(model, config.optim)
    rng, steps = np.random.default_rng(config.seed), TIMES * config.steps
    for step in range(steps):
        mine = torch.from_numpy(rng.choice(len(true), config.loader.batch_size, replace=False))
        set_rate(optimiser, learning_rate(step, steps, config.optim))
        optimiser.zero_grad()
        objective(unit(head(true[mine])), Candidates.alone(z_text[mine], row=row[mine])).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip_norm or math.inf)
        optimiser.step()
        objective.constrain()  # type: ignore[operator]
    return head.eval()


class ToldEncoder:
    """Such a head as an `Encoder` of scenes that it was told beforehand; texts are stored rows."""

    name = "told the facts"
    saw: tuple[str, ...] = ()

    def __init__(self, head: Head, samples: Sequence[Sample]) -> None:
        true = counted(facts(sample.fields["scene"]) for sample in samples)
        self._head = head
        self._true = dict(zip((sample.image for sample in samples), true, strict=True))

    @torch.inference_mode()
    def encode_images(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n d"]:
        """Return one row an image."""
        true = np.stack([self._true[image] for image in images])  # type: ignore[index]
        return unit(self._head(torch.from_numpy(true))).numpy()

    def encode_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Raise: every text has a stored row."""
        raise ValueError(f"No stored row of {texts[0]!r}.")
