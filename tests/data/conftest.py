"""Small archives, pictures and caches, made on the spot."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed
from lift.config import part
from lift.data.source import Captions, open_source
from lift.text.encoder import build_encoder


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """Return a maker of image files: a smooth gradient, another one for each number."""

    def make(number: int = 0, width: int = 40, height: int = 30, kind: str = "PNG", **more: Any):
        rows, columns = np.mgrid[0:height, 0:width]
        red = 255 * columns // max(1, width - 1)
        green = 255 * rows // max(1, height - 1)
        pixels = np.stack([red, green, np.full_like(red, 37 * number % 256)], axis=-1)
        out = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(out, kind, **more)
        return out.getvalue()

    return make


@pytest.fixture(scope="session")
def write_tar() -> Callable[..., Path]:
    """Return a maker of tar files from (name, bytes) in order."""

    def make(path: Path, members: Iterable[tuple[str, bytes]], kind: int = tarfile.USTAR_FORMAT):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w", format=kind) as tar:
            for name, content in members:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return path

    return make


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., EmbeddingCache]:
    """Return a maker of real caches with a row for every caption of some sources."""

    def make(*specs: str) -> EmbeddingCache:
        encoder = build_encoder(part("text/encoders", "hashing", dimensions=16))
        folder = tmp_path / f"rows-{len(list(tmp_path.iterdir()))}"
        captions = Captions([open_source(spec) for spec in specs])
        embed(captions, encoder, folder, progress=False)
        return EmbeddingCache.open(folder)

    return make
