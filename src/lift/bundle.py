"""A model in hand: image side, transform and text space in one folder, used from Python.

    model = lift.load("runs/flickr")
    model.classify(["cat.jpg"], ["a cat", "a dog"])

A folder holds `bundle.json`, `model.safetensors`, and of a model that was trained here
`trained_on.parquet`; where texts were trained with the images also `text.safetensors` and
`tokenizer.json`. Nothing in it is pickled. Images need no text encoder to be encoded.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32
from safetensors import SafetensorError
from safetensors.torch import load_file

from lift import text_side as texts_of
from lift.bank import Bank, Fired
from lift.bank.value import TEMPLATES
from lift.bundle_record import BundleRecord, Guess, read_record
from lift.cache.manifest import PROBES
from lift.cache.place import place_of
from lift.cache.probes import Probes, dump, require_near
from lift.cache.probes import read as read_probes
from lift.config import to_dict
from lift.data import provenance
from lift.data.provenance import Provenance
from lift.data.transform import Transform
from lift.efficiency import Efficiency
from lift.errors import CheckpointError, ConfigError
from lift.files import is_ours_or_empty, restore_old, whole_folder
from lift.image_encoder import ImageEncoder
from lift.model import Side, build_side, digest_of, save_tensors
from lift.model_folder import FORMAT as FORMAT
from lift.model_folder import IN_A_RUN, MARKER, WEIGHTS, require_model
from lift.terms import ImageLike
from lift.text.encoder import TextEncoder, build_encoder
from lift.text.space import TextSpace
from lift.text.tokenizer import Tokenizer
from lift.text_side import TrainedText
from lift.world import Precision, choose_device


class Bundle(ImageEncoder):
    """An image encoder in a text space; an `Encoder` that every evaluation accepts.

    All vectors are float32 numpy rows of unit length; cosine is their dot product.

    Attributes:
        name: for tables.
        record: what is saved with the weights.
        saw: benchmarks whose captions the text encoder was trained on.
        side: the image tower and head.
        device, precision: where and in what they compute.
    """

    def __init__(
        self,
        side: Side,
        record: BundleRecord,
        *,
        name: str = "model",
        device: torch.device | None = None,
        precision: Precision = "float32",
        text_encoder: TextEncoder | None = None,
        probes: Probes | None = None,
        trained_on: Path | None = None,
        text_side: Side | None = None,
        tokenizer: Tokenizer | None = None,
        folder: Path | None = None,
    ) -> None:
        """Hold a model.

        Args:
            side, record, name, device, precision, probes: as above.
            text_encoder: of the record's space; else the one that the record names.
            trained_on: the record of the samples it was trained on.
            text_side, tokenizer: the text side that `record.text` tells of, and its tokenizer; or
            folder: where they lie until somebody asks for a text.
        """
        self.name = name
        self.record = record
        self.saw = record.saw
        self.device = device or torch.device("cpu")
        self.precision: Precision = precision
        self.side = side.to(self.device)
        self._text_encoder = text_encoder
        self.probes = probes
        self._trained_on = trained_on
        self._own_texts = None if text_side is None else (text_side, tokenizer)
        self._folder = folder

    @property
    def space(self) -> TextSpace:
        """The text space that the vectors live in."""
        return self.record.space

    @property
    def transform(self) -> Transform:
        """How pixels become what the tower sees."""
        return self.record.transform

    @property
    def scale(self) -> float | None:
        """What its objective multiplied cosines with; None where it had no such number."""
        return self.record.scalars.get("scale")

    @property
    def dimensions(self) -> int:
        """Width of that space."""
        return self.space.dimensions

    @property
    def text_encoder(self) -> TextEncoder:
        """The live text encoder, built on first use and checked against the space.

        Where texts were trained with the images it is the model's own text side.

        Raises:
            MissingPackage: it is not installed; the message says how to install it.
            SpaceMismatch: what is installed makes vectors of another space.
            CheckpointError: the model's own text side is damaged.
        """
        if self._text_encoder is None:
            named = self.record.encoder
            encoder = self._own_text_encoder() if named is None else build_encoder(named)
            self._text_encoder = self._held(encoder)
        return self._text_encoder

    def _own_text_encoder(self) -> TrainedText:
        record, own = self.record, self._own_texts
        if own is None or own[1] is None:
            if self._folder is None:
                raise ConfigError(
                    f"The model {self.name} was made without its text side; give text_side= and "
                    "tokenizer= to Bundle."
                )
            own = texts_of.read(self._folder, record.text, record.space)
        side, tokenizer = own
        assert tokenizer is not None, "read or given"
        return TrainedText(side, tokenizer, record.space, saw=record.saw, device=self.device)

    @property
    def trained_on(self) -> Provenance | None:
        """The samples that it was trained on; None where nobody kept them. Raises DataError."""
        return None if self._trained_on is None else Provenance(self._trained_on)

    def _held(self, encoder: TextEncoder) -> TextEncoder:
        """Return an encoder that makes rows of this model's space: by name, then by its rows."""
        self.space.require_same(encoder.space, ours="this model", theirs="the text encoder")
        if self.probes is not None:
            require_near(self.probes, encoder, f"the model {self.name}")
        return encoder

    def encode_texts(self, texts: str | Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return one unit-length row a text, from the untouched text encoder or the own text side.

        Raises:
            MissingPackage: the text encoder is not installed; the message says how.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            return np.zeros((0, self.space.dimensions), np.float32)
        own = self.record.encoder is None  # an encoder's rows have one precision
        precision: Precision = self.precision if own else "float32"
        rows = self.text_encoder.encode(texts, precision=precision).rows
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    def cut(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"] | None:
        """Return which texts are longer than the text encoder takes; None where it can't tell."""
        tell = getattr(self.text_encoder, "cut", None)
        return None if tell is None else tell(texts)

    def with_pixels(
        self, mean: tuple[float, float, float], std: tuple[float, float, float]
    ) -> Bundle:
        """Return the same model behind other pixel statistics than it was trained with.

        Weights and text encoder are shared; its record, and so what it is, differs.

        Args:
            mean, std: of each channel, for values in [0, 1].

        Raises:
            ConfigError: numbers that are none of these.
        """
        other = copy.copy(self)
        transform = dataclasses.replace(self.transform, mean=tuple(mean), std=tuple(std))
        other.record = dataclasses.replace(self.record, transform=transform)
        return other

    @property
    def identity(self) -> str:
        """A digest of weights, pixels, precision and text space: equal digests, equal vectors.

        It reads all weights, each time.
        """
        pixels = {name: v for name, v in to_dict(self.transform).items() if name != "augment"}
        facts = [to_dict(self.record.image), pixels, self.space.fingerprint, self.precision]
        return digest_of(self.side, facts)

    def efficiency(self, *, texts: bool = True, batches: int = 5) -> Efficiency:
        """Measure what it costs on this machine.

        Args:
            texts: whether to measure those, too; not where they come from a cache.
            batches: that are timed.
        """
        own = self.encode_texts if texts else None
        return self.measured(own, lambda: self.text_encoder, batches)

    def similarity(
        self, images: ImageLike | Iterable[ImageLike], texts: str | Sequence[str]
    ) -> Float32[np.ndarray, "n m"]:
        """Return the cosine of every image with every text."""
        return self.encode_images(images) @ self.encode_texts(texts).T

    def classify(
        self,
        images: ImageLike | Iterable[ImageLike],
        labels: Sequence[str] | Bank,
        *,
        templates: Sequence[str] = TEMPLATES,
        top: int = 5,
    ) -> list[list[Guess]]:
        """Return each image's most likely labels, best first, with probabilities.

        Args:
            images: one image or several.
            labels: what an image may show, or a bank of this model's space.
            templates: sentences with `{}` for the label; several are averaged. A bank has its own.
            top: labels to return an image.

        Raises:
            ConfigError: no labels, or a template without `{}`.
            SpaceMismatch: a bank of another space.
        """
        bank = labels if isinstance(labels, Bank) else self._bank(labels, templates)
        bank.require_space(self, f"the model {self.name}")
        logits = bank.scores(self.encode_images(images)) * self.record.scalars.get("scale", 100.0)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        probability = odds / odds.sum(axis=1, keepdims=True)
        order = np.argsort(-probability, axis=1, kind="stable")[:, :top].tolist()
        return [
            [Guess(bank.classes[int(j)], float(odds_of[j])) for j in best]
            for best, odds_of in zip(order, probability, strict=True)
        ]

    def _bank(self, labels: str | Sequence[str], templates: str | Sequence[str]) -> Bank:
        labels = [labels] if isinstance(labels, str) else list(labels)
        if not labels or not templates:
            raise ConfigError("classify needs at least one label and one template.")
        return Bank.of_names(self, labels, templates)

    def explain(
        self, images: ImageLike | Iterable[ImageLike], bank: Bank, *, top: int = 5
    ) -> list[list[Fired]]:
        """Return the rows of a bank that are nearest to each image, nearest first.

        Raises:
            SpaceMismatch: the bank is of another space.
        """
        bank.require_space(self, f"the model {self.name}")
        return bank.explain(self.encode_images(images), top)

    def save(self, folder: str | Path) -> Path:
        """Write the bundle, whole or not at all, and return its folder.

        Raises:
            CheckpointError: the folder holds something else.
            DataError: the record of what it was trained on is damaged.
            StorageError: the disk refused.
        """
        folder = Path(folder)
        ours = {MARKER, WEIGHTS, PROBES, provenance.NAME, *texts_of.FILES}
        trained_on = self.trained_on
        if not is_ours_or_empty(folder, MARKER) or (
            folder.exists() and {path.name for path in folder.iterdir()} - ours
        ):
            raise CheckpointError(
                f"{folder} holds something else, which saving would remove; choose another folder."
            )
        with whole_folder(folder) as aside:
            save_tensors(self.side.state_dict(), aside / WEIGHTS)
            if self.record.encoder is None:
                own = self._text_encoder
                if not isinstance(own, TrainedText):
                    own = self._own_text_encoder()
                texts_of.write(own, aside)
            if self.probes is not None:
                dump(aside / PROBES, self.probes, self.space)
            if trained_on is not None and trained_on.fits_a_model:
                shutil.copyfile(trained_on.path, aside / provenance.NAME)
            text = json.dumps(to_dict(self.record), indent=2, ensure_ascii=False)
            (aside / MARKER).write_text(text + "\n", encoding="utf-8")
        return folder


def load(
    path: str | Path,
    *,
    device: str = "auto",
    precision: Precision = "float32",
    text_encoder: TextEncoder | None = None,
) -> Bundle:
    """Load a bundle, or the bundle of a finished run.

    Args:
        path: the bundle's folder, or a run's folder (which keeps its bundle in `model`).
        device: auto, cpu, cuda or mps.
        precision: what the tower computes in.
        text_encoder: in place of the one that the bundle names, which can't ask for trust.

    Raises:
        CheckpointError: no bundle there, a newer format, or damaged weights.
        CacheError: damaged probes.
        SpaceMismatch: `text_encoder` makes other rows.
    """
    folder = Path(path).resolve()
    restore_old(folder)
    restore_old(folder / IN_A_RUN)
    folder = require_model(folder, str(path))
    record = read_record(folder / MARKER)
    side = build_side(record.image, None, record.space.dimensions, kept=True)
    try:
        side.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"The weights in {folder} can't be loaded ({str(error).splitlines()[0]}); "
            "copy the folder again from where it was made."
        ) from error
    name = folder.parent.name if folder.name == IN_A_RUN else folder.name
    probes = read_probes(place_of(folder), record.space)
    made = Bundle(
        side.eval(),
        record,
        name=name,
        device=choose_device(device),
        precision=precision,
        probes=probes,
        trained_on=provenance.beside(folder, record.origin),
        folder=folder,
    )
    if text_encoder is not None:
        made._text_encoder = made._held(text_encoder)
    return made
