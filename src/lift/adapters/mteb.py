"""A model as mteb wants it (2.x), for its image tasks, and for its text tasks as well.

    model = lift.adapters.mteb.model("runs/x")
    mteb.evaluate(model, mteb.get_tasks(tasks=["Flickr30kI2TRetrieval"]))

Anything that can be judged (`lift.contenders`) can be given. Where an item has both an image and a
text its vector is the direction of their sum, as mteb's own wrappers of CLIP models have it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from lift import plugins
from lift.contenders import open_contender
from lift.errors import ConfigError
from lift.terms import Encoder, unit

_OWNER = "lift/"
"""mteb names models by owner and name."""


class MtebModel:
    """An `Encoder` with the methods of mteb's `EncoderProtocol`.

    Attributes:
        encoder: does the work.
    """

    def __init__(self, encoder: Encoder) -> None:
        """Hold a model."""
        self.encoder = encoder

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb writes beside its results.

        Raises:
            MissingPackage: mteb is not installed.
        """
        plugins.require("mteb", "mteb", "adapters/mteb")
        kind: Any = importlib.import_module("mteb.models.model_meta").ModelMeta
        identity = str(getattr(self.encoder, "identity", ""))
        unknown = (
            *("release_date", "n_parameters", "memory_usage_mb", "max_tokens", "license"),
            *("public_training_code", "public_training_data", "training_datasets", "languages"),
        )
        return kind(
            **dict.fromkeys(unknown),
            loader=None,
            name=_OWNER + self.encoder.name.replace("/", "-").replace(" ", "-"),
            revision=identity.removeprefix("sha256:")[:40] or "unknown",
            embed_dim=int(self.encoder.encode_texts(["a"]).shape[1]),
            open_weights=None,
            framework=["PyTorch"],
            similarity_fn_name="cosine",
            use_instructions=False,
            modalities=["image", "text"],
        )

    def encode(self, inputs: Iterable[Mapping[str, Any]], **_: Any) -> Float32[np.ndarray, "n d"]:
        """Return one unit-length row an item, in order; task and prompts change nothing.

        Args:
            inputs: batches, with a list of images, of texts, or of both.

        Raises:
            ConfigError: an item with neither.
        """
        rows = [self._rows(batch) for batch in inputs]
        return np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)

    def _rows(self, batch: Mapping[str, Any]) -> Float32[np.ndarray, "n d"]:
        found = []
        if (images := batch.get("image")) is not None:
            found.append(self.encoder.encode_images(list(images)))
        if (texts := batch.get("text")) is not None:
            found.append(self.encoder.encode_texts([str(text) for text in texts]))
        if not found:
            raise ConfigError(
                f"Models of images and texts have no vector for {', '.join(batch) or 'nothing'}; "
                "choose another task of mteb."
            )
        return found[0] if len(found) == 1 else unit(torch.from_numpy(found[0] + found[1])).numpy()

    def similarity(self, a: Any, b: Any) -> Float[Tensor, "n m"]:
        """Return the cosine of every row of the one with every row of the other."""
        return _rows_of(a) @ _rows_of(b).T

    def similarity_pairwise(self, a: Any, b: Any) -> Float[Tensor, " n"]:
        """Return the cosine of every row of the one with the same row of the other."""
        return (_rows_of(a) * _rows_of(b)).sum(dim=1)


def model(words: str, *, device: str = "auto") -> MtebModel:
    """Return a model in words (see `lift.contenders`) as mteb wants it.

    Raises:
        ConfigError, CheckpointError: there is none, or it can't be read.
    """
    return MtebModel(open_contender(words, device=device))


def _rows_of(values: Any) -> Float[Tensor, "n d"]:
    """Return rows as unit-length rows of torch; a single row is one of one."""
    rows: Sequence[Any] | Tensor = torch.as_tensor(values)
    return unit(rows[None] if rows.ndim == 1 else rows)
