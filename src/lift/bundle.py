"""A model in hand: image side, transform and text space in one folder, used from Python.

    model = lift.load("runs/flickr")
    model.classify(["cat.jpg"], ["a cat", "a dog"])

A folder holds `bundle.json`, `model.safetensors`, and of a model that was trained here
`trained_on.parquet`; where texts were trained with the images also `text.safetensors` and
`tokenizer.json`. Nothing in it is pickled. Images need no text encoder to be encoded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from safetensors import SafetensorError
from safetensors.torch import load_file
from tqdm import tqdm

from lift import text_side as texts_of
from lift.bundle_record import FORMAT as FORMAT
from lift.bundle_record import MARKER, WEIGHTS, BundleRecord, Guess, read_record
from lift.cache.manifest import PROBES
from lift.cache.place import place_of
from lift.cache.probes import Probes, dump, require_near
from lift.cache.probes import read as read_probes
from lift.config import to_dict
from lift.data import provenance
from lift.data.many import as_many, chunks
from lift.data.provenance import Provenance
from lift.data.transform import Transform
from lift.errors import CheckpointError, ConfigError
from lift.files import is_ours_or_empty, restore_old, whole_folder
from lift.model import Side, build_side, save_tensors
from lift.terms import ImageLike
from lift.text.encoder import TextEncoder, build_encoder
from lift.text.space import TextSpace
from lift.text.tokenizer import Tokenizer
from lift.text_side import TrainedText, at_rest
from lift.world import Precision, autocast, choose_device


class Bundle:
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

    def encode_images(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        batch_size: int = 64,
        progress: bool = False,
    ) -> Float32[np.ndarray, "n d"]:
        """Return one unit-length row an image.

        Args:
            images: one image or several: paths, bytes of image files, PIL images, or
                `h w 3` uint8 arrays; an `n h w 3` uint8 array is n images.
            batch_size: images that go through the tower together; the stream of images may be
                longer than memory.
            progress: whether to draw a progress bar.

        Raises:
            DataError: an image can't be read.
        """
        return self._rows(images, batch_size, progress)

    def encode_regions(
        self,
        images: ImageLike | Iterable[ImageLike],
        tiles: int = 2,
        *,
        batch_size: int = 64,
        progress: bool = False,
    ) -> Float32[np.ndarray, "n d"]:
        """Return one unit-length row an image, from the patches of its tile in a mosaic.

        The first `tiles` x `tiles` images make one mosaic, row by row, and so on; what is left of
        the last shows the first images of its batch again. Else as `encode_images`.

        Raises:
            ConfigError: the tower has no patches, or these tiles don't fit them.
            DataError: an image can't be read.
        """
        if not hasattr(self.side.tower, "regions"):
            raise ConfigError(f"The tower of {self.name} has no patches to tell tiles apart by.")
        whole = max(tiles, 1) ** 2  # whole mosaics go through the tower together
        return self._rows(images, -(-batch_size // whole) * whole, progress, tiles)

    @torch.inference_mode()
    def _rows(
        self, images: ImageLike | Iterable[ImageLike], size: int, progress: bool, tiles: int = 1
    ) -> Float32[np.ndarray, "n d"]:
        if size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {size}.")
        stream = as_many(images)
        total = len(stream) if isinstance(stream, Sequence | np.ndarray) else None
        rows: list[np.ndarray] = [np.zeros((0, self.space.dimensions), np.float32)]
        with at_rest(self.side), tqdm(total=total, unit="img", disable=not progress) as bar:
            for chunk in chunks(stream, size):
                pixels = torch.stack([self.transform.evaluate(image) for image in chunk])
                pixels = self.transform.normalise(pixels.to(self.device))
                with autocast(self.device, self.precision):
                    z = self.side(pixels, tiles)
                rows.append(z.float().cpu().numpy())
                bar.update(len(chunk))
        return np.concatenate(rows)

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

    def similarity(
        self, images: ImageLike | Iterable[ImageLike], texts: str | Sequence[str]
    ) -> Float32[np.ndarray, "n m"]:
        """Return the cosine of every image with every text."""
        return self.encode_images(images) @ self.encode_texts(texts).T

    def classify(
        self,
        images: ImageLike | Iterable[ImageLike],
        labels: Sequence[str],
        *,
        templates: Sequence[str] = ("a photo of a {}.",),
        top: int = 5,
    ) -> list[list[Guess]]:
        """Return each image's most likely labels, best first, with probabilities.

        Args:
            images: one image or several.
            labels: what an image may show.
            templates: sentences with `{}` for the label; several are averaged.
            top: labels to return an image.

        Raises:
            ConfigError: no labels, or a template without `{}`.
        """
        labels = [labels] if isinstance(labels, str) else list(labels)
        templates = [templates] if isinstance(templates, str) else list(templates)
        if not labels or not templates:
            raise ConfigError("classify needs at least one label and one template.")
        for template in templates:
            if "{}" not in template:
                raise ConfigError(f"The template {template!r} has no {{}} for the label.")
        prompts = [t.replace("{}", label) for label in labels for t in templates]
        rows = self.encode_texts(prompts).reshape(len(labels), len(templates), -1).mean(axis=1)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        logits = self.encode_images(images) @ rows.T * self.record.scalars.get("scale", 100.0)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        probability = odds / odds.sum(axis=1, keepdims=True)
        order = np.argsort(-probability, axis=1, kind="stable")[:, :top].tolist()
        return [
            [Guess(labels[int(j)], float(odds_of[j])) for j in best]
            for best, odds_of in zip(order, probability, strict=True)
        ]

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
    restore_old(folder / "model")
    if not (folder / MARKER).exists() and (folder / "model" / MARKER).exists():
        folder = folder / "model"
    if not (folder / MARKER).exists():
        raise CheckpointError(
            f"{path} is no model: neither {MARKER} nor model/{MARKER} is there. Give the folder "
            "that `lift train` wrote (a run has a model once it is finished)."
        )
    record = read_record(folder / MARKER)
    side = build_side(record.image, None, record.space.dimensions)
    try:
        side.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"The weights in {folder} can't be loaded ({str(error).splitlines()[0]}); "
            "copy the folder again from where it was made."
        ) from error
    name = folder.parent.name if folder.name == "model" else folder.name
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
