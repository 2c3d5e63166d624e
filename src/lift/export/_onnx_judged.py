"""What int8 loses of a model's recall: images by onnxruntime, texts by the model's own encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32, UInt8

from lift.against import Difference, compared
from lift.bundle import Bundle
from lift.encoders import Wrapped
from lift.evaluation import evaluate, parse_plan
from lift.terms import Encoder, EvalResult, ImageLike

Run = Callable[[UInt8[np.ndarray, "b 3 r r"]], Float32[np.ndarray, "b d"]]

_BATCH = 64
_TOLD = ("text_to_image/R@1", "text_to_image/R@10")


class OnnxEncoder(Wrapped):
    """A model whose images go through a graph."""

    def __init__(self, bundle: Bundle, texts: Encoder, run: Run) -> None:
        super().__init__(texts)
        self._transform, self._run = bundle.transform, run

    def encode_images(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n d"]:
        """Return one unit-length row an image."""
        rows = []
        for start in range(0, len(images), _BATCH):
            chunk = images[start : start + _BATCH]
            pixels = np.stack([self._transform.evaluate(image).numpy() for image in chunk])
            rows.append(self._run(pixels))
        return np.concatenate(rows)


class _Remembering(Wrapped):
    """Encodes the same texts once."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self._rows: dict[tuple[str, ...], np.ndarray] = {}

    def encode_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return one unit-length row a text."""
        key = tuple(texts)
        if key not in self._rows:
            self._rows[key] = self._encoder.encode_texts(texts)
        return self._rows[key]


def losses(bundle: Bundle, run: Run, data: str) -> list[str]:
    """Return sentences on what the graph finds less often than the model, paired query by query.

    Args:
        bundle: the model.
        run: the graph in int8.
        data: pairs of images and captions, as `open_source` takes them.

    Raises:
        ConfigError, DataError, MissingPackage: the pairs or the text encoder are not to be had.
    """
    texts = _Remembering(bundle)
    plan = parse_plan(f"retrieval:data=[{data}]")
    theirs, ours = (
        evaluate(encoder, [plan], progress=False)
        for encoder in (texts, OnnxEncoder(bundle, texts, run))
    )
    found, _ = compared([ours], [theirs])
    kept = [one for one in found if one.metric in _TOLD]
    return [_sentence(one, ours[0]) for one in kept]


def _sentence(one: Difference, result: EvalResult) -> str:
    assert one.low is not None and one.high is not None, "recall is a mean of items"
    return (
        f"{one.metric} is {100 * one.ours:.2f}% in int8 and {100 * one.theirs:.2f}% in float32: "
        f"{100 * one.mean:+.2f} points, 95% interval "
        f"{100 * one.low:+.2f} to {100 * one.high:+.2f} ({one.data}, protocol {one.protocol}, "
        f"{result.counts['images']} images, {result.counts['captions']} captions)."
    )
