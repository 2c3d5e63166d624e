"""Compute rows with a sentence-transformers model, in batches of our own making."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int32

from lift.config import Part
from lift.errors import ConfigError
from lift.text.encoder import EncodedTexts, batches, clean, default_token_budget
from lift.text.probes import PROBES
from lift.text.space import TextSpace
from lift.world import Precision, choose_device

_COUNTED_AT_ONCE = 256


class SentenceEncoder:
    """A `TextEncoder` over a loaded model; see the attributes there."""

    def __init__(
        self,
        model: Any,
        space: TextSpace,
        part: Part,
        saw: tuple[str, ...],
        device: torch.device,
    ) -> None:
        """Freeze the model in float32 on its device and cap its tokens as the space says.

        Args:
            model: a `SentenceTransformer` without gradients to come.
            space: what its files say that it computes; checked against the model.
            part: rebuilds the encoder.
            saw: benchmarks whose captions its training saw.
            device: where to compute.

        Raises:
            ConfigError: model and space disagree on the length of a row or on the token cap.
        """
        self.space, self.part, self.saw, self.device = space, part, saw, device.type
        self.matryoshka, self.probes = False, PROBES
        # Checkpoints in half precision would otherwise compute in it, whatever is asked for.
        self._model = model.to(device).float().eval().requires_grad_(False)
        self._device = device
        width, cap = model.get_embedding_dimension(), model.max_seq_length
        if width is not None and width != space.dimensions:
            raise ConfigError(
                f"The model {space.model!r} makes rows of {width} values, but its files promise "
                f"{space.dimensions}; its configuration is damaged."
            )
        if cap is not None and space.max_tokens > cap:
            raise ConfigError(
                f"{part.room}/{part.name}: max_tokens is {space.max_tokens}, but the model "
                f"{space.model!r} reads at most {cap} tokens; give max_tokens={cap} or less."
            )
        model.max_seq_length = space.max_tokens

    def encode(
        self,
        texts: Sequence[str],
        *,
        precision: Precision = "float32",
        token_budget: int | None = None,
    ) -> EncodedTexts:
        """Return rows, token counts and cuts of `texts`, in their order (see `TextEncoder`)."""
        cleaned = [clean(text) for text in texts]
        tokens = self._count(cleaned)
        cut = np.minimum(tokens, self.space.max_tokens)
        rows = np.empty((len(cleaned), self.space.dimensions), np.float32)
        for batch in batches(cut, token_budget or default_token_budget(self.device)):
            rows[batch] = self._forward([cleaned[i] for i in batch], precision)
        return EncodedTexts(rows, tokens, tokens > self.space.max_tokens)

    def _count(self, texts: Sequence[str]) -> Int32[np.ndarray, " n"]:
        """Return the tokens of every whole text, prompt and special tokens included."""
        tokens = np.zeros(len(texts), np.int32)
        # Similar lengths together: the model's own tokenising pads to the longest.
        order = np.argsort([len(text) for text in texts], kind="stable")
        whole = {"text": {"truncation": False, "max_length": None}}
        with _quiet_tokenizer():
            for start in range(0, len(order), _COUNTED_AT_ONCE):
                some = order[start : start + _COUNTED_AT_ONCE]
                features = self._model.preprocess(
                    [texts[i] for i in some],
                    prompt=self.space.prompt or None,
                    processing_kwargs=whole,
                )
                tokens[some] = features["attention_mask"].sum(dim=1).numpy()
        return tokens

    def _forward(self, texts: list[str], precision: Precision) -> Float32[np.ndarray, "n d"]:
        """Return the rows of one batch; only the network itself runs in `precision`."""
        features = self._model.preprocess(texts, prompt=self.space.prompt or None)
        features = {name: _moved(value, self._device) for name, value in features.items()}
        network, *after = self._model
        kind = self._device.type
        with torch.inference_mode():
            # Also switches off an autocast of the caller, which would change stored rows.
            with torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16"):
                features = network(features)
            with torch.autocast(kind, torch.bfloat16, enabled=False):
                features = {name: _widened(value) for name, value in features.items()}
                for module in after:
                    features = module(features)
        return features["sentence_embedding"].float().cpu().numpy()


def load_model(source: str | Path, device: str, **options: Any) -> tuple[Any, torch.device]:
    """Return (SentenceTransformer, device) of a folder or hub id, without progress bars.

    Raises:
        ConfigError: the files are not a model that the library can load.
    """
    from sentence_transformers import SentenceTransformer

    where = choose_device(device)
    with loading(source):
        return SentenceTransformer(str(source), device=str(where), **options), where


@contextlib.contextmanager
def loading(source: str | Path) -> Iterator[None]:
    """Load a model inside without progress bars; what fails is a ConfigError that names it."""
    try:
        with _no_progress_bars():
            yield
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"The text encoder {str(source)!r} could not be loaded "
            f"({' '.join(str(error).split())[:300]}); check the folder or the hub id."
        ) from error


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def _quiet_tokenizer() -> Iterator[None]:
    """Silence "sequence is longer than the maximum": counting beyond it is the purpose here."""
    logger = logging.getLogger("transformers.tokenization_utils_base")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value


def _widened(value: Any) -> Any:
    half = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value
