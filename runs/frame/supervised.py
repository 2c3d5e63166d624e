"""A positive control: the same image tower, taught the facts of scenes and no text at all.

It learns the probability of every fact: that a shape is there, and what it is like if it is. A
text is scored by the sum of the log-probabilities of what it claims, so that the very questions
that an image-text model answers are answered by what the tower sees. The sum is an inner product,
of the image's log-probabilities with zeros and ones of the text: the control is an `Encoder` like
all others and is judged by the same evaluation.

Shapes are learned late from what an image holds alone. A control that is `shown` where things are
also learns, for each patch, how much of it which shape covers.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from PIL import Image
from torch import Tensor, nn

from frame.scene_claims import BEHIND, CLAIMS, LIKE, PRESENT, SCENE, claims, counted, facts
from lift import plugins
from lift.data.formats._scene_facts import SHAPES
from lift.data.source import open_source
from lift.data.transform import Transform
from lift.terms import ImageLike, Outcomes, Sample, unit
from lift.training.config import RunConfig
from lift.training.optim import learning_rate, make_optimizer, set_rate

_LEAST = -20.0
"""A log-probability is no lower: one wrong claim must not drown the others in rounding."""
_MOST_CLAIMS = 16
"""Of a text: four things with four claims each; a text of more is refused."""


def _blocks() -> tuple[tuple[slice, int, str], ...]:
    """Return where each choice lies among the claims: (places, shape or -1, what)."""
    found = []
    for at, claim in enumerate(CLAIMS):
        of = -1 if claim.of == SCENE else SHAPES.index(claim.of)
        if claim.what != PRESENT and (not found or found[-1][1:] != (of, claim.what)):
            values = BEHIND[claim.what] if of < 0 else LIKE[claim.what]
            found.append((slice(at, at + len(values)), of, claim.what))
    return tuple(found)


BLOCKS = _blocks()


class Facts(nn.Module):
    """A tower and one matrix behind it: logits of all claims."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.tower = plugins.build(config.tower)
        self.head = nn.Linear(self.tower.width, len(CLAIMS))
        self.where = nn.Linear(self.tower.width, 1 + len(SHAPES))
        self.transform: Transform = config.transform

    def forward(self, images: UInt8[Tensor, "b 3 r r"]) -> Float[Tensor, "b c"]:
        """Return logits of pixels."""
        return self.head(self.tower(self.transform.normalise(images)))

    def seen(
        self, images: UInt8[Tensor, "b 3 r r"]
    ) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b p k"]]:
        """Return the same logits, and of each patch those of ground and shapes."""
        tokens = self.tower.tokens(self.transform.normalise(images), normed=True)
        return self.head(tokens.mean(1)), self.where(tokens)  # the tower pools by the mean too


def log_probabilities(logits: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    """Return the log-probability of every claim; what a thing is like, given that it is there."""
    there = F.logsigmoid(logits[:, : len(SHAPES)])
    return torch.cat([there, *(logits[:, at].log_softmax(1) for at, _, _ in BLOCKS)], dim=1)


def loss_of(logits: Float[Tensor, "b c"], true: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Return how unlikely all facts of a scene are, in nats, the mean over scenes."""
    absent = F.logsigmoid(-logits[:, : len(SHAPES)]) * (1 - true[:, : len(SHAPES)])
    return -((log_probabilities(logits) * true).sum() + absent.sum()) / len(logits)


def taught(config: RunConfig, *, shown: bool) -> Facts:
    """Return the control, trained with the config's batches and rates.

    Args:
        config: data are scenes; each is seen as often as `samples` asks for.
        shown: whether it is also taught where things are. Then the scenes have masks, and are not
            cropped.
    """
    torch.manual_seed(config.seed)
    model = Facts(config).train()
    optimiser = make_optimizer(model, config.optim)
    for step, samples in enumerate(_batches(config)):
        set_rate(optimiser, learning_rate(step, config.steps, config.optim))
        optimiser.zero_grad()
        true = torch.from_numpy(facts_of(samples))
        if shown:
            views = [config.transform.evaluate(sample.image) for sample in samples]
            logits, where = model.seen(torch.stack(views))
            covered = torch.from_numpy(np.stack([_covered(sample, where) for sample in samples]))
            told = -(where.log_softmax(2) * covered).sum() / len(samples)
            (loss_of(logits, true) + told).backward()
        else:
            loss_of(model(_cropped(config, samples, step)), true).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip_norm or math.inf)
        optimiser.step()
    return model.eval()


def _batches(config: RunConfig) -> Iterator[list[Sample]]:
    """Yield scenes in random order, pass by pass."""
    source, size = open_source(config.data), config.loader.batch_size
    rng = np.random.default_rng(config.seed)
    passes = -(-config.steps * size // len(source))
    order = np.concatenate([rng.permutation(len(source)) for _ in range(passes)]).tolist()
    for start in range(0, config.steps * size, size):
        yield [source.read(number) for number in order[start : start + size]]


def _cropped(config: RunConfig, samples: Sequence[Sample], step: int) -> UInt8[Tensor, "b 3 r r"]:
    """Return views cropped at random, as every run of lift's has them."""
    rng = np.random.default_rng((config.seed, step))
    canvases = (config.transform.canvas_of(sample.image) for sample in samples)
    return torch.stack([config.transform.train(canvas, rng) for canvas in canvases])


def _covered(sample: Sample, where: Float[Tensor, "b p k"]) -> Float32[np.ndarray, "p k"]:
    """Return which share of each patch is ground, and each shape."""
    mask = np.asarray(Image.open(io.BytesIO(sample.mask)))
    side = math.isqrt(where.shape[1])
    pixels = np.eye(where.shape[2], dtype=np.float32)[mask]
    patches = pixels.reshape(side, len(mask) // side, side, len(mask) // side, -1)
    return patches.mean(axis=(1, 3)).reshape(side * side, -1)


def facts_of(samples: Sequence[Sample]) -> Float32[np.ndarray, "n c"]:
    """Return a row of zeros and ones for each scene."""
    return counted(facts(sample.fields["scene"]) for sample in samples)


class FactsEncoder:
    """The control as an `Encoder`: unit vectors whose cosines are in the order of the scores.

    Texts of few claims get one number more, where images have a zero, that makes all texts equally
    long. Images are scaled each by its own, so cosines compare texts of one image, not images.
    """

    name = "supervised on facts"
    saw: tuple[str, ...] = ()

    def __init__(self, model: Facts) -> None:
        self._model = model

    @torch.inference_mode()
    def log_probabilities(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n c"]:
        """Return the log-probability of every claim."""
        transform = self._model.transform
        pixels = [transform.evaluate(image) for image in images]
        found = log_probabilities(self._model(torch.stack(pixels)))
        return found.clamp(min=_LEAST).numpy()

    def encode_images(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n d"]:
        """Return one row an image."""
        found = self.log_probabilities(images)
        return unit(torch.from_numpy(np.pad(found, ((0, 0), (0, 1))))).numpy()

    def encode_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return one row a text.

        Raises:
            ValueError: a text that is no caption of a scene, or claims too much.
        """
        said = counted(claims(text) for text in texts)
        left = _MOST_CLAIMS - said.sum(axis=1, keepdims=True)
        if (left < 0).any():
            raise ValueError(f"A text of more than {_MOST_CLAIMS} claims.")
        return np.concatenate([said, np.sqrt(left)], axis=1) / np.float32(np.sqrt(_MOST_CLAIMS))


def facts_found(
    encoder: FactsEncoder, samples: Sequence[Sample]
) -> dict[str, tuple[Outcomes, float]]:
    """Return how many facts of scenes the control names, and what the commonest answer scores.

    Args:
        encoder: the control.
        samples: test scenes.

    Returns:
        By name: whether a shape is there ("presence"; an item is a shape of a scene), what a thing
        that is there is like ("colour", ...; an item is a thing), and both for a whole scene.
    """
    true = facts_of(samples).astype(bool)
    images = [samples[at : at + 256] for at in range(0, len(samples), 256)]
    said = np.concatenate([encoder.log_probabilities([s.image for s in part]) for part in images])
    shapes = len(SHAPES)
    there = (said[:, :shapes] > np.log(0.5)) == true[:, :shapes]
    scene = np.repeat(np.arange(len(samples)), shapes).reshape(there.shape)
    share = true[:, :shapes].mean(axis=0)
    found = {"presence": (_outcomes(there.ravel(), scene.ravel()), float((1 - share).mean()))}
    whole = there.all(axis=1)
    for what in (*LIKE, *BEHIND):
        right, items, answers = _named(what, said, true)
        found[what] = _outcomes(right, items), float(np.bincount(answers).max() / len(answers))
        np.logical_and.at(whole, items, right)
    found["all of a scene"] = _outcomes(whole, np.arange(len(whole))), 0.0
    return found


def _named(
    what: str, said: Float32[np.ndarray, "n c"], true: Bool[np.ndarray, "n c"]
) -> tuple[Bool[np.ndarray, " m"], Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Return for each thing whether an attribute is right, its scene, and the right value."""
    right, items, answers = [], [], []
    for at, _, name in BLOCKS:
        if name == what:
            own = np.flatnonzero(true[:, at].any(axis=1))
            answers.append(true[own, at].argmax(axis=1))
            right.append(said[own, at].argmax(axis=1) == answers[-1])
            items.append(own)
    return np.concatenate(right), np.concatenate(items), np.concatenate(answers)


def _outcomes(right: np.ndarray, items: np.ndarray) -> Outcomes:
    return Outcomes(right.astype(np.float32), None, items.astype(np.int64))
