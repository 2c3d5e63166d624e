"""Compute rows with a sentence-transformers model, in batches of our own making."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import normalize

from lift.config import Part
from lift.errors import ConfigError
from lift.text.encoder import EncodedTexts, clean, default_token_budget
from lift.text.encoders._features import Reader
from lift.text.encoders._long_positions import batches_within, borders
from lift.text.loading import loading, quiet_loading, require_weights
from lift.text.probes import PROBES
from lift.text.space import TextSpace
from lift.world import Precision, choose_device

Weights = Literal["float32", "bfloat16", "float16"]

_IN_FLIGHT = 8
"""Batches whose rows may wait on the device."""


class SentenceEncoder:
    """A `TextEncoder` over a loaded model; see the attributes there.

    Attributes:
        model: the `SentenceTransformer` that it runs.
    """

    def __init__(
        self,
        model: Any,
        space: TextSpace,
        part: Part,
        saw: tuple[str, ...],
        device: torch.device,
        *,
        matryoshka: bool = False,
        prefix_of: int | None = None,
        weights: Weights = "float32",
    ) -> None:
        """Freeze the model on its device and cap its tokens as the space says.

        Args:
            model: a `SentenceTransformer` without gradients to come.
            space: what its files say that it computes; checked against the model.
            part: rebuilds the encoder.
            saw: benchmarks whose captions its training saw.
            device: where to compute.
            matryoshka: whether prefixes of its rows are usable.
            prefix_of: length of the model's row where the space keeps only its first values.
            weights: what the network was loaded in. Half precision stays as it is, and the network
                computes in it; all else is float32.

        Raises:
            ConfigError: model and space disagree on the length of a row or on the token cap, the
                cap leaves no room beside the prompt, or the tokenizer tells no texts apart.
        """
        self.space, self.part, self.saw, self.device = space, part, saw, device.type
        self.matryoshka: bool = matryoshka
        self.probes: tuple[str, ...] = PROBES
        self._half_weights = weights != "float32"
        # Checkpoints in half precision would otherwise compute in it, whatever is asked for.
        for module in list(model)[1 if self._half_weights else 0 :]:
            module.float()
        self.model = model.to(device).eval().requires_grad_(False)
        self._device = device
        self._bfloat16: dict[str, torch.Tensor] = {}
        whole, cap = prefix_of or space.dimensions, model.max_seq_length
        self._prefix = None if prefix_of is None else space.dimensions
        width = model.get_embedding_dimension()
        if width is not None and width != whole:
            raise ConfigError(
                f"The model {space.model!r} makes rows of {width} values, but its files promise "
                f"{whole}; its configuration is damaged."
            )
        if cap is not None and space.max_tokens > cap:
            raise ConfigError(
                f"{part.room}/{part.name}: max_tokens is {space.max_tokens}, but the model "
                f"{space.model!r} reads at most {cap} tokens; give max_tokens={cap} or less."
            )
        model.max_seq_length = space.max_tokens
        network = getattr(model[0], "model", None)
        self._borders = borders(getattr(network, "config", None))
        _pad_within(model.tokenizer, network)
        self._reader = Reader(model, space.prompt, space.max_tokens)

    def encode(
        self,
        texts: Sequence[str],
        *,
        precision: Precision = "float32",
        token_budget: int | None = None,
    ) -> EncodedTexts:
        """Return rows, token counts and cuts of `texts`, in their order (see `TextEncoder`)."""
        read = self._reader.read([clean(text) for text in texts])
        cut = np.minimum(read.tokens, self.space.max_tokens)
        rows = np.empty((len(texts), self.space.dimensions), np.float32)
        padded = 0
        waiting: deque[tuple[np.ndarray, torch.Tensor]] = deque()
        budget = token_budget or default_token_budget(self.device)
        for batch in batches_within(cut, budget, self._borders):
            padded += len(batch) * int(cut[batch].max())
            waiting.append((batch, self._forward(read.features(batch), precision)))
            # A row that is fetched at once makes an accelerator wait for the next batch.
            if len(waiting) > _IN_FLIGHT:
                done, values = waiting.popleft()
                rows[done] = values.cpu().numpy()
        for done, values in waiting:
            rows[done] = values.cpu().numpy()
        return EncodedTexts(rows, read.tokens, read.tokens > self.space.max_tokens, padded)

    def cut(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Return which texts are longer than the cap; nothing but their tokens is computed."""
        read = self._reader.read([clean(text) for text in texts])
        return read.tokens > self.space.max_tokens

    def _forward(self, features: dict[str, Any], precision: Precision) -> Float32[Tensor, "n d"]:
        """Return the rows of one batch; only the network itself runs in `precision`."""
        features = {name: _moved(value, self._device) for name, value in features.items()}
        network, *after = self.model
        kind, half = self._device.type, precision == "bfloat16" and not self._half_weights
        with torch.inference_mode():
            # Also switches off an autocast of the caller, which would change stored rows.
            with torch.autocast(kind, torch.bfloat16, enabled=half):
                if half and kind == "cpu":
                    features = functional_call(network, self._rounded(network), (features,))
                else:
                    features = network(features)
            with torch.autocast(kind, torch.bfloat16, enabled=False):
                features = {name: _widened(value) for name, value in features.items()}
                for module in after:
                    features = module(features)
                rows = features["sentence_embedding"].float()
                if self._prefix is not None:
                    rows = rows[:, : self._prefix]
                    rows = normalize(rows, dim=1) if self.space.normalised else rows
        return rows

    def _rounded(self, network: torch.nn.Module) -> dict[str, torch.Tensor]:
        """Return the parameters of linear layers in bfloat16, rounded once and kept.

        Autocast rounds them to the same values in every batch: 6 ms each time for MiniLM on one
        core, as long as 25 tokens take.
        """
        if not self._bfloat16:
            self._bfloat16 = {
                f"{name}.{kind}": value.to(torch.bfloat16)
                for name, layer in network.named_modules()
                if isinstance(layer, torch.nn.Linear)
                for kind, value in layer.named_parameters(recurse=False)
            }
        return self._bfloat16


def load_model(
    source: str | Path,
    device: str,
    *,
    weights: Weights = "float32",
    safetensors: bool = False,
    **options: Any,
) -> tuple[Any, torch.device]:
    """Return (SentenceTransformer, device) of a folder or hub id, without progress bars.

    Args:
        source: the folder, or the id.
        device: where to compute (see `choose_device`).
        weights: precision in which the network is held, from the first byte loaded.
        safetensors: whether networks come from those files alone.
        options: of `SentenceTransformer`.

    Raises:
        ConfigError: the files are not a model that the library can load, or lack weights that
            would be random numbers.
    """
    from sentence_transformers import SentenceTransformer

    where = choose_device(device)
    held = {"dtype": getattr(torch, weights)} | ({"use_safetensors": True} if safetensors else {})
    missing: set[str] = set()
    with loading(source), quiet_loading(), _missing_weights(missing):
        model = SentenceTransformer(str(source), device=str(where), model_kwargs=held, **options)
    network = next(iter(model), None)
    if "pooler_output" not in str(getattr(network, "modality_config", "")):
        # Nobody reads BERT's pooler, and many files leave it out.
        missing = {name for name in missing if "pooler" not in name.split(".")}
    require_weights(source, missing)
    return model, where


@contextlib.contextmanager
def _missing_weights(names: set[str]) -> Iterator[None]:
    """Collect the names of weights that networks loaded inside find in no file.

    sentence-transformers has no option that hands on what transformers knows about them.
    """
    from transformers import PreTrainedModel

    base: Any = PreTrainedModel
    original = base.__dict__["from_pretrained"]

    def watched(cls: type, *args: Any, output_loading_info: bool = False, **options: Any) -> Any:
        found, info = original.__func__(cls, *args, output_loading_info=True, **options)
        names.update(info["missing_keys"])
        return (found, info) if output_loading_info else found

    base.from_pretrained = classmethod(watched)
    try:
        yield
    finally:
        base.from_pretrained = original


def _pad_within(tokenizer: Any, network: Any) -> None:
    """Pad with the token 0 where the tokenizer's own padding is no token of the network."""
    pad = getattr(tokenizer, "pad_token_id", None)
    if isinstance(pad, int) and (known := known_tokens(network)) is not None and pad >= known:
        tokenizer.pad_token_id = 0


def known_tokens(network: Any) -> int | None:
    """Return how many token ids a network of transformers has vectors for, None if unknown."""
    get = getattr(network, "get_input_embeddings", None)
    try:
        weight = getattr(get(), "weight", None) if get is not None else None
    except NotImplementedError:
        return None
    return len(weight) if isinstance(weight, Tensor) else None


def _moved(value: Any, device: torch.device) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    if device.type == "cuda":  # copies from pinned memory don't wait for the batch before
        return value.pin_memory().to(device, non_blocking=True)
    return value.to(device)


def _widened(value: Any) -> Any:
    half = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value
