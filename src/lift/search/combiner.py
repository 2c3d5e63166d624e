"""A picture and what is to change in it as one vector, learned from captions alone.

A caption, an edit in words and the edited caption are made by rule (`lift.search.edited`); from the
vectors of the first two the third is predicted. A picture's vector takes the caption's place when
a query comes, since both are in one space; what still differs between them (the gap between the
kinds, Liang et al. 2022) is met by centring each kind and by noise on the captions in training, as
in text-only training of captioners (Nukrai et al. 2022) and of composed search (Gu et al. 2024).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor, nn

from lift.errors import CheckpointError, ConfigError, DataError, SpaceMismatch, StorageError
from lift.files import is_ours_or_empty, restore_old, whole_folder
from lift.model import save_tensors
from lift.search.edited import Triplet, triplets
from lift.search.terms import Kind
from lift.terms import Encoder, unit
from lift.text.space import TextSpace

FORMAT = 1
MARKER, WEIGHTS = "combiner.json", "combiner.safetensors"
LEAST = 200
"""Triplets that can be learned from."""

MOST_HIDDEN = 16_384


class Network(nn.Module):
    """Vector and edit, each less its middle, weighted and added, and what a hidden layer adds."""

    middles: Tensor

    def __init__(self, dimensions: int, hidden: int) -> None:
        super().__init__()
        self.into = nn.Linear(2 * dimensions, hidden)
        self.out = nn.Linear(hidden, dimensions)
        self.shares = nn.Parameter(torch.tensor([1.0, 0.5]))
        self.register_buffer("middles", torch.zeros(3, dimensions))  # of texts, edits, images
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, z: Float[Tensor, "n d"], z_edit: Float[Tensor, "n d"], dropout: float = 0.0
    ) -> Float[Tensor, "n d"]:
        """Return unit rows near to the changed captions; `z` is less the middle of its kind."""
        edit = z_edit - self.middles[1]
        hidden = F.gelu(self.into(torch.cat([z, edit], dim=1)))
        hidden = F.dropout(hidden, dropout, training=dropout > 0)
        return unit(self.middles[0] + self.shares[0] * z + self.shares[1] * edit + self.out(hidden))


class Combiner:
    """From pictures and texts that say what is to change in them to vectors to search with.

    Attributes:
        space: of all vectors.
        trained: how it was made, and what it reached on captions that were held out.
    """

    def __init__(self, network: Network, space: TextSpace, trained: dict[str, Any]) -> None:
        self.space, self.trained = space, trained
        self._network = network.eval().requires_grad_(False)

    @torch.inference_mode()
    def __call__(
        self,
        z: np.ndarray,
        z_edit: np.ndarray,
        *,
        kind: Kind = "image",
    ) -> Float32[np.ndarray, "n d"]:
        """Return unit-length rows that lie where texts about the changed pictures lie.

        Args:
            z: what is to be changed: rows of unit length [n d].
            z_edit: in what way: a text's row for each.
            kind: what `z` was made of.

        Raises:
            ConfigError: rows of another number or width.
        """
        width = self.space.dimensions
        if z.shape != z_edit.shape or z.ndim != 2 or z.shape[1] != width:
            raise ConfigError(
                f"The combiner takes two arrays of n x {width}, not {z.shape} and {z_edit.shape}."
            )
        middle = self._network.middles[2 if kind == "image" else 0]
        known = torch.from_numpy(np.array(z, np.float32)) - middle  # an index's rows are read-only
        return self._network(known, torch.from_numpy(np.array(z_edit, np.float32))).numpy()

    def with_middle(self, images: Float32[np.ndarray, "n d"]) -> Combiner:
        """Return the combiner with another middle of pictures: the mean of these vectors.

        Raises:
            ConfigError: no vectors, or of another width.
        """
        if images.ndim != 2 or not len(images) or images.shape[1] != self.space.dimensions:
            raise ConfigError(f"The middle of pictures can't be found from {images.shape}.")
        network = Network(self.space.dimensions, self._network.into.out_features)
        network.load_state_dict(self._network.state_dict())
        network.middles[2] = torch.from_numpy(images.mean(axis=0, dtype=np.float64))
        return Combiner(network, self.space, self.trained)

    def save(self, folder: str | Path) -> Path:
        """Write the combiner, whole or not at all, and return its folder.

        Raises:
            CheckpointError: the folder holds something else.
            StorageError: the disk refused.
        """
        folder = Path(folder)
        held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if not is_ours_or_empty(folder, MARKER) or held - {MARKER, WEIGHTS}:
            raise CheckpointError(
                f"{folder} holds something else, which saving would remove; choose another folder."
            )
        words = {
            "format": FORMAT,
            "space": json.loads(self.space.to_json()),
            "fingerprint": self.space.fingerprint,
            "hidden": self._network.into.out_features,
            "trained": self.trained,
        }
        try:
            with whole_folder(folder) as aside:
                save_tensors(self._network.state_dict(), aside / WEIGHTS)
                text = json.dumps(words, indent=2, ensure_ascii=False)
                (aside / MARKER).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise StorageError(f"Can't write the combiner to {folder}: {error}.") from error
        return folder


def load(folder: str | Path, space: TextSpace) -> Combiner:
    """Return the combiner that `save` wrote.

    Args:
        folder: the combiner's.
        space: that it has to be of.

    Raises:
        CheckpointError: no combiner there, a newer format, or a damaged one.
        SpaceMismatch: it is of another space.
    """
    folder = Path(folder)
    restore_old(folder)
    if not (folder / MARKER).is_file():
        raise CheckpointError(f"{folder} is no combiner: {MARKER} is not there.")
    try:
        words = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        written, fingerprint, hidden = words["format"], words["fingerprint"], words["hidden"]
        trained = dict(words["trained"])
        if not isinstance(written, int) or written > FORMAT:
            raise CheckpointError(
                f"{folder} has format {written}, this version reads up to {FORMAT}: upgrade "
                "lift-align."
            )
        if not isinstance(hidden, int) or not 1 <= hidden <= MOST_HIDDEN:
            raise ValueError(f"{hidden!r} hidden numbers")
        if fingerprint != space.fingerprint:
            raise SpaceMismatch(
                f"The combiner in {folder} is of the space {fingerprint}, the index of "
                f"{space.fingerprint}: train one for this index."
            )
        network = Network(space.dimensions, hidden)
        tensors = load_file(folder / WEIGHTS)
        network.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError),
        *(SafetensorError, RecursionError),
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"The combiner {folder} is damaged ({reason}); train it again."
        ) from error
    if not all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values()):
        raise CheckpointError(f"The combiner {folder} is damaged (not finite); train it again.")
    return Combiner(network, space, trained)


def train_combiner(
    encoder: Encoder,
    captions: Sequence[str],
    *,
    images: Float32[np.ndarray, "n d"] | None = None,
    each: int = 2,
    noise: float = 0.3,
    hidden: int = 384,
    epochs: int = 10,
    seed: int = 0,
) -> Combiner:
    """Return a combiner trained on edits of captions; no picture is needed.

    Args:
        encoder: of the index's space.
        captions: as those of the pictures that will be searched, in English; some 5,000 are enough.
        images: vectors of some pictures of the index, for the middle of that kind; None: pictures
            are taken to lie where captions do.
        each: edits made of a caption.
        noise: length of the noise that is put on a caption's vector (of length 1) in training.
        hidden: width of its hidden layer.
        epochs: how often each triplet is shown.
        seed: of all that is random.

    Raises:
        ConfigError: an encoder that doesn't say its space.
        DataError: captions of which less than 200 edits can be made.
        MissingPackage: the text encoder is not installed.
    """
    space = getattr(encoder, "space", None)
    if not isinstance(space, TextSpace):
        raise ConfigError(f"{encoder.name} doesn't say its text space; a combiner belongs to one.")
    made = triplets(list(dict.fromkeys(captions)), each=each, seed=seed)
    if len(made) < LEAST:
        raise DataError(
            f"Of {len(captions):,} captions only {len(made):,} edits could be made, {LEAST} at "
            "least are needed; captions have to be English sentences about things."
        )
    texts = {text: 0 for triplet in made for text in triplet[:3]}
    texts = {text: at for at, text in enumerate(texts)}
    rows = encoder.encode_texts(list(texts))
    return fitted(
        space,
        made,
        texts,
        rows,
        images=images,
        noise=noise,
        hidden=hidden,
        epochs=epochs,
        seed=seed,
    )


def fitted(
    space: TextSpace,
    made: Sequence[Triplet],
    place: dict[str, int],
    rows: Float32[np.ndarray, "n d"],
    *,
    images: Float32[np.ndarray, "m d"] | None = None,
    noise: float = 0.3,
    hidden: int = 384,
    epochs: int = 10,
    seed: int = 0,
    rate: float = 3e-3,
    temperature: float = 0.05,
    batch: int = 128,
) -> Combiner:
    """Return a combiner trained on triplets whose texts' vectors are known.

    The changed caption has to be nearer than those of the other triplets of its batch and than any
    of their captions before the change: softmax over cosines.

    Args:
        space, made: as above.
        place, rows: of each text its row.
        images, noise, hidden, epochs, seed: as in `train_combiner`.
        rate: of Adam at its highest, falling to 0 along a cosine.
        temperature: cosines are divided by it.
        batch: triplets a step.
    """
    z = unit(torch.from_numpy(rows))
    numbers = torch.tensor([[place[text] for text in triplet[:3]] for triplet in made])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(z.shape[1], hidden)
        middles = [z[numbers[:, 0]].mean(dim=0), z[numbers[:, 1]].mean(dim=0)]
        middles.append(middles[0] if images is None else torch.tensor(images).mean(dim=0))
        network.middles.copy_(torch.stack(middles))
        optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
        steps = epochs * max(1, len(made) // batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps + 1, pct_start=0.1)
        step, loss = 0, torch.zeros(())
        while step < steps:
            for own in torch.randperm(len(made)).split(batch)[: max(1, len(made) // batch)]:
                caption, edit, changed = (z[numbers[own, at]] for at in range(3))
                shaken = unit(caption + noise * unit(torch.randn_like(caption)))
                found = network(shaken - network.middles[0], edit, dropout=0.2)
                logits = found @ torch.cat([changed, caption]).T / temperature
                same = numbers[own, 2][:, None] == torch.cat([numbers[own, 2], numbers[own, 0]])
                same[:, : len(own)].fill_diagonal_(False)  # another's answer that is ours, too
                loss = F.cross_entropy(logits.masked_fill(same, -torch.inf), torch.arange(len(own)))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                step += 1
    trained = {
        **{"triplets": len(made), "epochs": epochs, "noise": noise, "seed": seed},
        **{"images": 0 if images is None else len(images), "loss": round(float(loss.detach()), 4)},
    }
    return Combiner(network, space, trained)
