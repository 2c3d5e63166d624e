"""Images through a tower and a head: what a model does with pixels, and with features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float32
from tqdm import tqdm

from lift.data.many import as_many, chunks
from lift.data.transform import Transform
from lift.efficiency import Efficiency, measured, networks_of
from lift.errors import ConfigError
from lift.evals._dense import Patches
from lift.model import Side
from lift.terms import ImageLike
from lift.text.encoder import TextEncoder
from lift.text_side import at_rest
from lift.world import Precision, autocast


class ImageEncoder:
    """An image side at work.

    All vectors are float32 numpy rows.

    Attributes:
        name: for messages.
        side: the image tower and head.
        transform: how pixels become what the tower sees.
        dimensions: of the space that the head ends in.
        device, precision: where and in what they compute.
    """

    name: str
    side: Side
    device: torch.device
    precision: Precision

    @property
    def transform(self) -> Transform:
        """How pixels become what the tower sees."""
        raise NotImplementedError

    @property
    def dimensions(self) -> int:
        """Width of the space that the head ends in."""
        raise NotImplementedError

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
    def encode_patches(
        self, images: ImageLike | Iterable[ImageLike], *, batch_size: int = 16
    ) -> Patches:
        """Return a unit-length row for each patch of every image, and what part of it they cover.

        Each patch goes through the head by itself, as the pooled ones do together. Only
        `batch_size` images are in the tower at a time; the rows of all of them are returned.

        Args:
            images: as in `encode_images`.
            batch_size: images that go through the tower together.

        Raises:
            ConfigError: the tower has no patches, or its pooling makes no vectors of them.
            DataError: an image can't be read.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {batch_size}.")
        tower, z, frames = self.side.tower, [], []
        grid = getattr(tower, "grid", None)
        if tower is None or grid is None:
            raise ConfigError(f"The tower of {self.name} has no patches to tell places apart by.")
        side = 0
        with at_rest(self.side), autocast(self.device, self.precision):
            for chunk in chunks(as_many(images), batch_size):
                framed = [self.transform.framed(image) for image in chunk]
                pixels = torch.stack([one for one, _ in framed]).to(self.device)
                pixels = self.transform.normalise(pixels)
                side = side or _patches_a_side(tower, pixels[:1])
                made = self.side.finish(grid(pixels, side)).float().cpu().numpy()
                z.append(made.reshape(len(chunk), side, side, self.dimensions))
                frames += [frame for _, frame in framed]
        if not z:
            none = np.zeros((0, 1, 1, self.dimensions), np.float32)
            return Patches(none, np.zeros((0, 4), np.float32))
        return Patches(np.concatenate(z), np.array(frames, np.float32))

    @torch.inference_mode()
    def _rows(
        self,
        images: ImageLike | Iterable[ImageLike],
        size: int,
        progress: bool,
        tiles: int = 1,
        raw: bool = False,
    ) -> Float32[np.ndarray, "n width"]:
        if size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {size}.")
        stream = as_many(images)
        total = len(stream) if isinstance(stream, Sequence | np.ndarray) else None
        tower = self.side.tower
        assert tower is not None, "an image side has a tower"
        width = int(tower.width) if raw else self.dimensions  # type: ignore[arg-type]
        rows: list[np.ndarray] = [np.zeros((0, width), np.float32)]
        with at_rest(self.side), tqdm(total=total, unit="img", disable=not progress) as bar:
            for chunk in chunks(stream, size):
                pixels = torch.stack([self.transform.evaluate(image) for image in chunk])
                pixels = self.transform.normalise(pixels.to(self.device))
                with autocast(self.device, self.precision):
                    x = self.side.features(pixels) if raw else self.side(pixels, tiles)
                rows.append(x.float().cpu().numpy())
                bar.update(len(chunk))
        return np.concatenate(rows)

    @torch.inference_mode()
    def encode_features(
        self, h: Float32[np.ndarray, "n width"], *, batch_size: int = 4096
    ) -> Float32[np.ndarray, "n d"]:
        """Return one unit-length row for each of the tower's, which `features` gave earlier.

        Args:
            h: what the tower makes of images, raw.
            batch_size: rows that go through the head together.

        Raises:
            ConfigError: rows of another width than the tower's.
        """
        tower = self.side.tower
        assert tower is not None, "an image side has a tower"
        if h.ndim != 2 or h.shape[1] != tower.width:
            raise ConfigError(
                f"{self.name} takes features of {tower.width} numbers, not of shape {h.shape}."
            )
        rows = [np.zeros((0, self.dimensions), np.float32)]
        with at_rest(self.side), autocast(self.device, self.precision):
            for start in range(0, len(h), batch_size):
                chunk = torch.from_numpy(h[start : start + batch_size]).to(self.device)
                rows.append(self.side.finish(chunk).float().cpu().numpy())
        return np.concatenate(rows)

    def features(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        batch_size: int = 64,
        progress: bool = False,
    ) -> Float32[np.ndarray, "n width"]:
        """Return what the tower makes of each image, raw, in no text space; see `encode_images`."""
        return self._rows(images, batch_size, progress, raw=True)

    def measured(
        self,
        encode_texts: Callable[[Sequence[str]], np.ndarray] | None,
        behind: Callable[[], TextEncoder],
        batches: int,
    ) -> Efficiency:
        """Measure images here, and texts as somebody encodes them.

        Args:
            encode_texts: from texts to vectors; None measures none.
            behind: gives the text encoder that does it.
            batches: that are timed.
        """
        return measured(
            dimensions=self.dimensions,
            device=self.device,
            precision=self.precision,
            encode_images=self.encode_images,
            image_weights=[self.side],
            encode_texts=encode_texts,
            text_weights=lambda: networks_of(behind()),
            count_tokens=lambda text: int(behind().encode([text]).tokens[0]),
            batches=batches,
        )


def _patches_a_side(tower: torch.nn.Module, pixels: torch.Tensor) -> int:
    """Return how many patches a tower sees along each side of its images."""
    told = getattr(tower, "patches_a_side", None)
    if told is not None:
        return told(pixels)
    return pixels.shape[-1] // tower.config.patch  # type: ignore[union-attr]  # a ViT of ours
