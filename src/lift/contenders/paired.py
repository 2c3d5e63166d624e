"""The images of a model of ours with texts from elsewhere: a server, another library, stored rows.

    paired:model=runs/x,text=[api:model=text-embedding-3-small,url=https://...]

Both have to lie in one space. The name of the space says so; where another server or library runs
the same encoder under another name, `by=probes` holds it to the rows of the model's 32 sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float32

from lift import bundle
from lift.bundle import Bundle
from lift.cache.probes import LEAST_COSINE_DECODED, Probes, between
from lift.config import Part, part_field
from lift.contenders._two_towers import digest
from lift.efficiency import Efficiency
from lift.encoders import Wrapped
from lift.errors import ConfigError, MissingRows, SpaceMismatch
from lift.terms import unit
from lift.text.encoder import ROOM, TextEncoder, build_encoder

_NAME = "contenders/paired"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        model: folder of a finished run or of a bundle, whose images are taken.
        text: the text encoder, in the user's own words: it may name servers and files.
        by: "space" asks for the fingerprint of the model's text space, and then for its probes;
            "probes" for those alone, where the same encoder has another name.
    """

    model: str
    text: Part | None = part_field(ROOM, None)
    by: Literal["space", "probes"] = "space"


def build(config: Config, device: torch.device) -> Paired:
    """Return the two as one.

    Raises:
        ConfigError: no text encoder is named, or a wrong option of it.
        CheckpointError: no model there.
        SpaceMismatch: the encoder makes rows of another space than the model's images lie in.
    """
    if config.text is None:
        raise ConfigError(f"{_NAME} needs text=ENCODER, which makes the rows of texts.")
    live = build_encoder(config.text, str(device), trusted=True)
    if config.by == "space":
        return Paired(bundle.load(config.model, device=str(device), text_encoder=live), live)
    model = bundle.load(config.model, device=str(device))
    if model.probes is None:
        raise ConfigError(
            f"{_NAME}: the model {config.model} holds no probes (an older lift wrote it), so only "
            "by=space can tell whether the texts are of its space."
        )
    if model.dimensions != live.space.dimensions:
        raise SpaceMismatch(
            f"{_NAME}: {config.text.name} makes rows of {live.space.dimensions} values, and the "
            f"model {config.model} lies in a space of {model.dimensions}."
        )
    _require_rows(model.probes, live, config)
    return Paired(model, live)


def _require_rows(probes: Probes, live: TextEncoder, config: Config) -> None:
    """Hold an encoder of another name to the rows that came with a model. Raises SpaceMismatch."""
    try:
        rows = live.encode(list(probes.texts)).rows
    except MissingRows as error:
        raise SpaceMismatch(
            f"{_NAME}: {live.part.name} knows stored texts only, not the {len(probes.texts)} "
            f"sentences that {config.model} is told by; give by=space."
        ) from error
    found = between(probes, rows, LEAST_COSINE_DECODED, live.space.normalised)
    if not found.ok:
        raise SpaceMismatch(
            f"{_NAME}: {live.part.name} does not make the rows that the images of {config.model} "
            f"lie among ({found}); give the text encoder that the model was trained with."
        )


class Paired(Wrapped):
    """Images of a bundle, texts of an encoder; an `Encoder`.

    Attributes:
        name, saw: for tables; benchmarks whose captions either was trained on.
        identity: a digest of both.
    """

    def __init__(self, model: Bundle, texts: TextEncoder) -> None:
        """Hold the two; `build` looks whether they fit."""
        super().__init__(model)
        self.name = f"{model.name} with texts of {texts.part.name}"
        self.saw = tuple(dict.fromkeys([*model.saw, *texts.saw]))
        self.identity = digest(model.identity, texts.space.fingerprint)
        self._model, self._texts = model, texts

    def cut(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"] | None:
        """Return which texts are longer than the encoder takes; None where it can't tell."""
        tell = getattr(self._texts, "cut", None)
        return None if tell is None else tell(texts)

    def encode_texts(self, texts: str | Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return one unit-length row a text, as the other encoder makes it.

        Raises:
            MissingRows: it only knows stored texts, and this is none of them.
            ServerError: the server does not answer.
        """
        several = [texts] if isinstance(texts, str) else list(texts)
        if not several:
            return np.zeros((0, self._model.dimensions), np.float32)
        return unit(torch.from_numpy(self._texts.encode(several).rows)).numpy()

    def efficiency(self, *, texts: bool = True, batches: int = 5) -> Efficiency:
        """Measure what it costs on this machine; of texts, how long an answer takes."""
        own = self.encode_texts if texts else None
        return self._model.measured(own, lambda: self._texts, batches)
