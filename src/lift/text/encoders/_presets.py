"""How known decoders make a vector of a text: hub id and options, as their authors describe them.

A caption is a *document* to the embedders below: they put an instruction in front of queries and
nothing in front of documents, so no preset has a prompt.

Sources: the model cards (pooling, cap, normalisation); MTEB's record of each model (causal
attention, last token, normalised). GritLM and LLM2Vec are missing because they attend in both
directions, which takes their own code; NV-Embed is an encoder of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lift.text.encoders._tokens import Side

Pooling = Literal["last", "mean", "weightedmean"]

FLICKR = ("flickr30k",)
"""For training sets with NLI: the premises of SNLI are the captions of Flickr30k."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What decides a row, and what is known of the model.

    The first eight are options of the encoder, described there; `matryoshka` is as `TextEncoder`'s.
    """

    model: str
    pooling: Pooling = "last"
    padding: Side = "right"
    append_eos: bool = False
    prompt: str = ""
    normalised: bool = True
    max_tokens: int | None = None
    saw: tuple[str, ...] = ()

    matryoshka: bool = False


def _decoder(model: str) -> Options:
    """Return how LIFT's published code reads a decoder that was trained to write.

    EOS appended, last layer after its norm, last token. That code names families and no versions;
    the ids here are the usual 7B ones, of the width (4,096) that its configs have.
    """
    return Options(model=model, append_eos=True, max_tokens=4_096)


def _e5_family(model: str) -> Options:
    return Options(model=model, padding="left", append_eos=True, max_tokens=4_096, saw=FLICKR)


PRESETS: dict[str, Options] = {
    "vicuna": _decoder("lmsys/vicuna-7b-v1.5"),
    "mistral": _decoder("mistralai/Mistral-7B-v0.1"),
    "e5_mistral": _e5_family("intfloat/e5-mistral-7b-instruct"),
    # Both were tuned from e5-mistral, and so is the next generation of SFR.
    "sfr": _e5_family("Salesforce/SFR-Embedding-Mistral"),
    "sfr2": _e5_family("Salesforce/SFR-Embedding-2_R"),
    "linq": _e5_family("Linq-AI-Research/Linq-Embed-Mistral"),
    # Its tokenizer ends every text with <|endoftext|>, which is not its EOS token.
    "qwen3_embedding": Options(
        model="Qwen/Qwen3-Embedding-0.6B", padding="left", max_tokens=8_192, matryoshka=True
    ),
}

_MATRYOSHKA = "Qwen/Qwen3-Embedding-"


def seen_by(model: str) -> tuple[str, ...]:
    """Return what a model is known to have seen, chosen by its preset or by its id alone."""
    return next((known.saw for known in PRESETS.values() if known.model == model), ())


def usable_prefixes(model: str, options: Options) -> bool:
    """Return whether the first values of a row are documented to be a usable row."""
    return options.matryoshka or model.startswith(_MATRYOSHKA)
