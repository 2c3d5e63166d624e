"""One index of coloured shapes for all tests of the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lift.search.index import Index
from serving import served
from serving.served import Process


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an index of 30 coloured shapes."""
    return served.built(tmp_path_factory.mktemp("served") / "shapes.index")


@pytest.fixture(scope="session")
def process(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Yield a server of that index in a process of its own, with the bounds it has by itself."""
    with Process(shapes_folder, log=tmp_path_factory.mktemp("process") / "log") as one:
        yield one


@pytest.fixture
def shapes(shapes_folder: Path) -> Iterator[Index]:
    """Yield that index, open."""
    with Index.open(shapes_folder, device="cpu") as index:
        yield index
