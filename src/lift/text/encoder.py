"""What a frozen text encoder is to the rest of lift, and how captions are cleaned and batched."""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
import importlib
import inspect
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int32

from lift import plugins
from lift.config import Part, from_options
from lift.errors import ConfigError, DataError, unknown
from lift.text.space import TextSpace
from lift.world import Precision

ROOM = "text/encoders"
KEY_BYTES = 16

PADDING = 0.02
"""Padding that one call of `encode` may compute, as a share of its tokens."""

_PADDING_OF_FEW = 64
"""Padding that is worth fewer batches anyway: MiniLM's share of a batch's fixed cost on one core
is that of some 20 tokens."""

CPU_TOKEN_BUDGET = 2_048
"""Padded tokens a batch: MiniLM on one core runs at full speed from 900 to 3,600."""

ACCELERATOR_TOKEN_BUDGET = 16_384


@dataclass(frozen=True)
class EncodedTexts:
    """What `encode` returns, one entry for each text, in order.

    Attributes:
        rows: the vectors.
        tokens: tokens of the whole text, special tokens and prompt included, before any cut.
        truncated: whether the text was longer than the encoder's cap and was cut.
        padded: tokens computed in all, cut texts and padding included; 0 where nothing is padded
            or nobody can tell (a server, stored vectors).
    """

    rows: Float32[np.ndarray, "n d"]
    tokens: Int32[np.ndarray, " n"]
    truncated: Bool[np.ndarray, " n"]
    padded: int = 0


@runtime_checkable
class TextEncoder(Protocol):
    """What a file in `text/encoders/` builds: a frozen map from text to rows.

    Such a file also has `space(config) -> TextSpace`, which needs no weights wherever it can. Where
    options could do harm if a stranger chose them (files to read, servers to ask), its `build` and
    `space` take `trusted: bool` by name as well and refuse them unless it is true.

    Attributes:
        space: the identity of the rows.
        part: rebuilds this encoder; it never says that code of a model may run.
        saw: benchmarks whose captions its own training saw ("coco", "flickr30k").
        device: where it computes ("cpu", "cuda", "mps").
        matryoshka: whether it was trained so that the first values of a row are a usable row
            (Kusupati et al. 2022); false where nothing is known.
        probes: texts whose rows stand for the space in a cache; see `lift.text.probes`.

    One that has its tokenizer at hand also has `cut(texts)`: which texts are longer than its cap,
    bool [n], without a row being computed.
    """

    space: TextSpace
    part: Part
    saw: tuple[str, ...]
    device: str
    matryoshka: bool
    probes: tuple[str, ...]

    def encode(
        self,
        texts: Sequence[str],
        *,
        precision: Precision = "float32",
        token_budget: int | None = None,
    ) -> EncodedTexts:
        """Return the rows of `clean(text)` for every text.

        A row depends on the batch that it shared only by rounding (about 1e-7 in float32).

        Args:
            texts: any number of texts of any length.
            precision: of the products inside; rows are float32 either way.
            token_budget: padded tokens a batch at most; None takes the device's default.
        """
        ...


def build_encoder(part: Part, device: str = "auto", *, trusted: bool = False) -> TextEncoder:
    """Return the encoder of a part in `text/encoders`.

    Args:
        part: the encoder's name and options.
        device: where to compute (see `choose_device`).
        trusted: whether the options are the user's own words. A part that was read from a
            cache, a bundle or a run is somebody else's: its `trust_remote_code` counts as false,
            and an encoder that takes `trusted` refuses what a stranger must not choose.

    Raises:
        ConfigError: no such encoder, a wrong option, a model that only runs with its own code, or
            a server that only the user's own words may name.
        MissingPackage: its packages or weights are not installed.
    """
    if part.room != ROOM:  # a stranger's file may say so
        raise ConfigError(f"A text encoder can't be of {part.room}/{part.name}.")
    config, module = plugins.configure(part), plugins.load(part.room, part.name)
    if not trusted and getattr(config, "trust_remote_code", False):
        config = dataclasses.replace(config, trust_remote_code=False)
    return module.build(config, device, **_trust(module.build, trusted))


def space_of(part: Part, *, trusted: bool = False) -> TextSpace:
    """Return the space of a part in `text/encoders` without building the encoder.

    No code of a model runs here, whatever the options say, and no server is asked.

    Args:
        part: the encoder's name and options.
        trusted: see `build_encoder`.

    Raises:
        ConfigError: no such encoder, a wrong option, a model that can't be found, or a file that
            only the user's own words may name.
    """
    known = plugins.names(ROOM)
    if part.name not in known:
        raise unknown("text encoder", part.name, known)
    # Not plugins.load: that asks for the packages which only building needs.
    module = importlib.import_module(f"lift.text.encoders.{part.name}")
    config = from_options(module.Config, part.options, f"{ROOM}/{part.name}")
    return module.space(config, **_trust(module.space, trusted))


def _trust(function: Callable[..., Any], trusted: bool) -> dict[str, bool]:
    """Return the argument `trusted` for a function that takes it, else nothing."""
    takes = "trusted" in inspect.signature(function).parameters
    return {"trusted": trusted} if takes else {}


def clean(text: str) -> str:
    """Return what is hashed and embedded: NFC, without white space at the ends.

    Raises:
        DataError: the text is not valid Unicode (half of a surrogate pair).
    """
    if text.isascii():
        return text.strip()
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"The caption {text!r} is not valid Unicode ({error.reason} at character "
            f"{error.start}); mend the file's encoding."
        ) from error
    return unicodedata.normalize("NFC", text).strip()


def caption_key(text: str) -> bytes:
    """Return the 16 bytes by which a cache knows a caption: BLAKE2b of `clean(text)`."""
    return hashlib.blake2b(clean(text).encode("utf-8"), digest_size=KEY_BYTES).digest()


def default_token_budget(device: str) -> int:
    """Return the padded tokens a batch that suit a device."""
    return CPU_TOKEN_BUDGET if device == "cpu" else ACCELERATOR_TOKEN_BUDGET


def batches(tokens: Int32[np.ndarray, " n"], token_budget: int) -> list[np.ndarray]:
    """Return positions in batches of similar length, longest first.

    A batch padded to its longest text holds at most `token_budget` tokens; a single text above
    that is a batch of its own. Texts of one length make batches without padding, and neighbours
    are joined, the pair that needs least padding first, until 2% of all tokens would be padding
    (or 64 tokens, where a few texts are that few tokens). The result depends on nothing but the
    arguments.
    """
    order = np.argsort(-tokens, kind="stable")
    lengths, counts = np.unique(np.maximum(tokens, 1), return_counts=True)
    groups: list[tuple[int, int]] = []
    for length, count in zip(lengths[::-1].tolist(), counts[::-1].tolist(), strict=True):
        full = max(1, token_budget // length)
        rest = [(length, count % full)] if count % full else []
        groups += [(length, full)] * (count // full) + rest
    allowed = max(int(PADDING * tokens.sum(dtype=np.int64)), _PADDING_OF_FEW)
    sizes = _joined(groups, token_budget, allowed)
    return np.split(order, np.cumsum(sizes)[:-1]) if sizes else []


def _joined(groups: list[tuple[int, int]], token_budget: int, allowed: int) -> list[int]:
    """Return the texts of each batch after joining neighbours of (length, texts), longest first."""
    texts = [count for _, count in groups]
    after = list(range(1, len(groups) + 1))
    before = list(range(-1, len(groups) - 1))
    offers: list[tuple[int, int, int, int]] = []

    def offer(left: int, right: int) -> None:
        if left < 0 or right >= len(groups):
            return
        longest = groups[left][0]
        if longest * (texts[left] + texts[right]) <= token_budget:
            padding = (longest - groups[right][0]) * texts[right]
            heapq.heappush(offers, (padding, left, texts[left], texts[right]))

    for left in range(len(groups) - 1):
        offer(left, left + 1)
    while offers and offers[0][0] <= allowed:
        padding, left, ours, theirs = heapq.heappop(offers)
        right = after[left]
        # An offer made before one of the two was joined to another is void; its heir made its own.
        if texts[left] != ours or right >= len(groups) or texts[right] != theirs:
            continue
        allowed -= padding
        texts[left], texts[right] = ours + theirs, 0
        after[left] = after[right]
        if after[left] < len(groups):
            before[after[left]] = left
        offer(before[left], left)
        offer(left, after[left])
    return [count for count in texts if count]
