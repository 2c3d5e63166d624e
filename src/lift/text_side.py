"""A text side that was trained with the images: its tokenizer, its rows, its space, its files.

LIFT's own text side is stored rows, and none of this is needed. A CLIP's has a tower of the room
`text_towers`, and with every step its space is another one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lift import plugins
from lift.config import Part, to_dict
from lift.errors import CheckpointError, ConfigError, LiftError
from lift.files import write_text
from lift.heads import build_head, described
from lift.model import Side, SideConfig, save_tensors
from lift.text.encoder import EncodedTexts, batches, default_token_budget
from lift.text.probes import PROBES
from lift.text.space import TextSpace
from lift.text.tokenizer import FILE, TokenisedTexts, Tokenizer
from lift.world import Precision, autocast

WEIGHTS = "text.safetensors"
FILES = (WEIGHTS, FILE)
"""What a model's folder holds of its text side."""

SPACE = "lift"
"""`TextSpace.encoder` of a text side that was trained here."""

_NO_PART_IN_ROWS = (
    *("tokenizer", "vocabulary", "lower", "model", "revision"),
    *("pad_to", "dropout", "checkpoint_activations"),
)
"""Options of a tower that its rows don't show: how it began, and how it was trained."""

_AT_ONCE = 8_192
"""Texts whose tokens are in memory at a time."""


# --- for a run ----------------------------------------------------------------------------------


def tokenizer_of(part: Part, captions: Iterable[str], folder: Path | None = None) -> Tokenizer:
    """Return the tokenizer of a text tower; a run's folder keeps it, for the run to go on with.

    Args:
        part: the tower.
        captions: that it may be trained on; read only where it is.
        folder: of the run. What is there is read; else it is written there.

    Raises:
        LiftError: no such tokenizer, no captions, a missing package, a full disk.
    """
    path = None if folder is None else folder / FILE
    if path is not None and path.exists():
        return _read_tokenizer(path)
    made = plugins.load(part.room, part.name).tokenizer(plugins.configure(part), captions)
    if path is not None:
        write_text(path, made.to_json())
    return made


def fitted(part: Part, tokenizer: Tokenizer) -> Part:
    """Return a text tower's part with every option spelled out, as the tokenizer decides it.

    Raises:
        ConfigError: tower and tokenizer don't fit together.
    """
    config = plugins.load(part.room, part.name).fitted(plugins.configure(part), tokenizer)
    return Part(part.room, part.name, to_dict(config))


def saw(part: Part) -> tuple[str, ...]:
    """Return the benchmarks whose captions a tower saw before the run began."""
    found = getattr(plugins.load(part.room, part.name), "saw", None)
    return () if found is None else found(plugins.configure(part))


def stored(side: Side, config: SideConfig) -> SideConfig:
    """Return the options that a model keeps: they rebuild the side, and need no other file.

    Args:
        side: as built.
        config: what it was built from.
    """
    assert config.tower is not None and side.tower is not None, "the text side is trained"
    options = to_dict(side.tower.config)  # type: ignore[arg-type]
    return SideConfig(tower=Part(config.tower.room, config.tower.name, options), head=config.head)


def text_space_of(side: Side, tokenizer: Tokenizer, config: SideConfig) -> TextSpace:
    """Return the identity of the rows that a text side makes as it is now.

    It is the hash of its weights (as float32), its tokenizer and what of its options shows in a
    row: 0.3 s for CLIP B's.
    """
    kept = stored(side, config)
    assert kept.tower is not None
    seen = {k: v for k, v in kept.tower.options.items() if k not in _NO_PART_IN_ROWS}
    about = {"tower": kept.tower.name, "options": seen, "head": described(kept.head)}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode("utf-8"))
    digest.update(tokenizer.fingerprint.encode("ascii"))
    width = 0
    for name, tensor in sorted(side.state_dict().items()):
        value = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
        digest.update(f"\n{name} {tuple(value.shape)}\n".encode())
        digest.update(np.ascontiguousarray(value.cpu().numpy()).data)
    width = _width(side)
    return TextSpace(
        encoder=SPACE,
        model="local",
        revision=f"sha256:{digest.hexdigest()}",
        prompt="",
        pooling=str(seen.get("pooling", "")),
        max_tokens=side.tower.context,  # type: ignore[union-attr, arg-type]
        normalised=True,
        dimensions=width,
    )


def _width(side: Side) -> int:
    if side.head is None:
        return side.tower.width  # type: ignore[union-attr, return-value]
    linear = [layer for layer in side.head.modules() if isinstance(layer, nn.Linear)]
    return linear[-1].out_features


# --- for a model --------------------------------------------------------------------------------


class TrainedText:
    """A text side and its tokenizer as a `TextEncoder`; see the attributes there.

    Attributes:
        side: tower and head; their weights may still move, and `space` is that of the moment.
        tokenizer: of its texts.
    """

    def __init__(
        self,
        side: Side,
        tokenizer: Tokenizer,
        space: TextSpace,
        *,
        saw: tuple[str, ...] = (),
        device: torch.device | None = None,
    ) -> None:
        """Move the side to its device.

        Args:
            side: the text side.
            tokenizer: of its texts.
            space: what it makes rows of.
            saw: benchmarks whose captions it was trained on.
            device: where to compute; CPU by default.
        """
        self._device = device or torch.device("cpu")
        self.side, self.tokenizer = side.to(self._device), tokenizer
        self.space, self.saw, self.device = space, saw, self._device.type
        self.part = Part("text/encoders", SPACE, {"revision": space.revision})
        self.matryoshka: bool = False
        self.probes: tuple[str, ...] = PROBES

    def encode(
        self,
        texts: Sequence[str],
        *,
        precision: Precision = "float32",
        token_budget: int | None = None,
    ) -> EncodedTexts:
        """Return rows, token counts and cuts of `texts`, in their order (see `TextEncoder`)."""
        rows = np.empty((len(texts), self.space.dimensions), np.float32)
        tokens, truncated = np.empty(len(texts), np.int32), np.empty(len(texts), bool)
        budget, padded = token_budget or default_token_budget(self.device), 0
        with torch.inference_mode(), at_rest(self.side), autocast(self._device, precision):
            for start in range(0, len(texts), _AT_ONCE):
                chunk = slice(start, min(start + _AT_ONCE, len(texts)))
                read = self.tokenizer.encode(list(texts[chunk]), self.space.max_tokens)
                tokens[chunk], truncated[chunk] = read.lengths, read.truncated
                cut = np.array([len(own) for own in read.ids], np.int32)
                for batch in batches(cut, budget):
                    ids = _padded(read, batch)
                    padded += ids.numel()
                    rows[start + batch] = self.side(ids.to(self._device)).float().cpu().numpy()
        return EncodedTexts(rows, tokens, truncated, padded)

    def cut(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Return which texts are longer than the cap; nothing but their tokens is computed."""
        found = [
            self.tokenizer.encode(list(texts[start : start + _AT_ONCE]), self.space.max_tokens)
            for start in range(0, len(texts), _AT_ONCE)
        ]
        return np.concatenate([read.truncated for read in found] or [np.zeros(0, np.bool_)])


def _padded(read: TokenisedTexts, batch: np.ndarray) -> Int64[Tensor, "n t"]:
    own = [torch.tensor(read.ids[at]) for at in batch]
    return nn.utils.rnn.pad_sequence(own, batch_first=True, padding_value=-1)


@contextlib.contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """Put a module and its parts into evaluation mode, and each back as it was."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def write(own: TrainedText, folder: Path) -> None:
    """Write weights and tokenizer into a model's folder. Raises StorageError."""
    save_tensors(own.side.state_dict(), folder / WEIGHTS)
    (folder / FILE).write_text(own.tokenizer.to_json(), encoding="utf-8")


def read(folder: Path, config: SideConfig, space: TextSpace) -> tuple[Side, Tokenizer]:
    """Return the text side of a model's folder, at rest.

    Nothing outside the folder is read, whatever its options say.

    Raises:
        CheckpointError: a file is missing or damaged, or all are not those that the model was
            saved with.
        MissingPackage: the tower or the tokenizer needs a package that is not installed.
        ConfigError: an unknown tower or option.
    """
    tokenizer = _read_tokenizer(folder / FILE)
    side = _rebuilt(config, space.dimensions)
    try:
        side.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"The weights of the text side in {folder} can't be loaded "
            f"({str(error).splitlines()[0]}); copy the folder again from where it was made."
        ) from error
    if tokenizer.size > (known := _known(side)):
        raise CheckpointError(
            f"The tokenizer in {folder} has {tokenizer.size} tokens and the text tower vectors for "
            f"{known}; copy the folder again from where it was made."
        )
    found = text_space_of(side, tokenizer, config)
    if found != space:
        differing = ", ".join(space.differences(found))
        raise CheckpointError(
            f"The text side in {folder} is not the one that its {space.revision[:19]}... names "
            f"(other: {differing}); copy the folder again from where it was made."
        )
    return side.eval(), tokenizer


def _rebuilt(config: SideConfig, dimensions: int) -> Side:
    """Return a saved model's side with random weights. Raises ConfigError, CheckpointError."""
    part = config.tower
    if part is None or part.room != "text_towers":
        raise CheckpointError(f"A text tower can't be of {part}; copy the model again.")
    tower = plugins.load(part.room, part.name).rebuild(plugins.configure(part))
    if not config.head.layers:
        if tower.width != dimensions:
            raise CheckpointError(
                f"The text tower makes {tower.width} numbers, the model's space has {dimensions}; "
                "copy the model again."
            )
        return Side(tower, None)
    return Side(tower, build_head(config.head, tower.width, dimensions))


def _known(side: Side) -> int:
    """Return how many tokens a tower has vectors for."""
    tower = side.tower
    network = getattr(tower, "network", None)
    if network is not None:
        return len(network.get_input_embeddings().weight)  # type: ignore[operator, union-attr]
    return len(tower.token)  # type: ignore[union-attr, arg-type]


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_json(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        why = str(error) if isinstance(error, LiftError) else "it can't be read"
        raise CheckpointError(
            f"The tokenizer {path} is missing or damaged ({why.rstrip('.')}); copy the folder "
            "again from where it was made."
        ) from error
