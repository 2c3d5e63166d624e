"""Every layout, the decoder and the guesses on spoiled data; `make fuzz` goes on for longer.

`FUZZ_SECONDS` (60) is the time of each target of `make fuzz`, `FUZZ_SEED` (0) where it starts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from fuzz import properties, seeds, spoil
from lift import plugins
from lift.data import image, likeness
from lift.data.formats import _scans
from lift.data.source import open_source

pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
for _name in plugins.names(seeds.ROOM):
    plugins.load(seeds.ROOM, _name)

FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))
FUZZ_SEED = int(os.environ.get("FUZZ_SEED", "0"))
ROUND = 40
OUTSIDE = {
    "secret.png": seeds.images()["png"] + properties.CANARY.encode(),
    "secret.txt": properties.CANARY.encode(),
    "secret.json": f'{{"told": "{properties.CANARY}"}}'.encode(),
    "secret.jsonl": f'{{"file_name": "0.png", "text": "{properties.CANARY}"}}'.encode(),
}


@pytest.fixture(scope="module", autouse=True)
def _outside() -> Iterator[None]:
    properties.emptied(seeds.HOME / "outside")
    properties.put(seeds.HOME / "outside", OUTSIDE)
    yield
    shutil.rmtree(seeds.HOME, ignore_errors=True)


Ops = st.lists(spoil.TREE_OPS, min_size=1, max_size=3)


def layout(name: str, ops: list[Any], strict: bool, keep: Counter[str]) -> None:
    """Spoil a miniature and hold its layout to every promise."""
    if name in seeds.SLOW:
        pytest.importorskip("datasets")  # takes seconds, which are not the layout's
    made = seeds.seed(name)
    files, items = made.files, made.items
    whole = True
    if name.startswith("texts"):  # of the only file, which the user has named
        ops = [op for op in ops if op[0] != "link"]
    for op in ops:
        files, kept = spoil.tree_spoiled(files, op)
        whole = whole and kept
    properties.emptied(seeds.FOLDER)
    properties.put(seeds.FOLDER, files)
    part = made.at(str(seeds.FOLDER))
    count = properties.check_layout(part, seeds.FOLDER, items if whole else None, strict)
    keep["opened" if count >= 0 else "refused"] += 1


def guesses(name: str, ops: list[Any], keep: Counter[str]) -> None:
    """Spoil a miniature and guess what it is."""
    files = seeds.seed(name).files
    for op in ops:
        files, _ = spoil.tree_spoiled(files, op)
    properties.emptied(seeds.FOLDER)
    properties.put(seeds.FOLDER, files)
    properties.check_guess(seeds.FOLDER)
    keep["looked at"] += 1


def decoding(kind: str, ops: list[Any], keep: Counter[str]) -> None:
    """Spoil an image and decode it."""
    content = seeds.images()[kind]
    for op in ops:
        content = spoil.image_spoiled(content, op)
    with properties.bounded():
        known = properties.check_image(content)
        if kind.startswith("jpeg"):
            properties.check_jpeg(content)
        if known:
            likeness.look_at(image.picture(content, max_pixels=properties.PIXELS))
    keep["decoded" if known else "refused"] += 1


def scans(name: str, ops: list[Any], keep: Counter[str]) -> None:
    """Spoil what is kept of a shard's scan: the shard says the same as before."""
    made, index = seeds.seed(name), seeds.HOME / "index"
    properties.emptied(seeds.FOLDER)
    properties.emptied(index)
    properties.put(seeds.FOLDER, made.files)
    part = made.at(str(seeds.FOLDER), index=str(index))
    least, _scans._LEAST_SAMPLES = _scans._LEAST_SAMPLES, 1
    try:
        told = list(open_source(part).texts())
        for file in index.iterdir():
            content = file.read_bytes()
            for op in ops:
                content = spoil.bytes_spoiled(content, op)
            file.write_bytes(content)
        with properties.bounded():
            again = open_source(part)
            assert list(again.texts()) == told
            assert all(again.read(n).key == told[n][0] for n in range(len(told)))
    finally:
        _scans._LEAST_SAMPLES = least
    keep["the same"] += 1


def target(name: str, keep: Counter[str]) -> Callable[[], Any]:
    """Return the property of a target, as hypothesis runs it."""
    if name == "image":
        ops = st.lists(spoil.IMAGE_OPS, min_size=1, max_size=2)
        jpegs = [kind for kind in seeds.images() if kind.startswith("jpeg")]
        kinds = st.sampled_from(sorted(seeds.images())) | st.sampled_from(jpegs)
        return given(kinds, ops)(lambda kind, ops: decoding(kind, ops, keep))
    if name == "scans":
        shards, ops = ("webdataset", "datacomp"), st.lists(spoil.BYTE_OPS, min_size=1, max_size=3)
        return given(st.sampled_from(shards), ops)(lambda name, ops: scans(name, ops, keep))
    if name == "guess":
        quick = sorted(set(seeds.SEEDS) - seeds.SLOW)
        return given(st.sampled_from(quick), Ops)(lambda name, ops: guesses(name, ops, keep))
    return given(Ops, st.booleans())(lambda ops, strict: layout(name, ops, strict, keep))


TARGETS = ("image", "guess", "scans", *seeds.SEEDS)
RARE = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_spoiled_examples(name: str) -> None:
    examples = {"image": 60, "guess": 12}.get(name, 2 if name in seeds.SLOW else 3)
    check = seed(zlib.crc32(name.encode()))(target(name, Counter()))
    settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=RARE,
    )(check)()


@pytest.mark.fuzz
@pytest.mark.parametrize("name", TARGETS)
def test_spoiled(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    keep: Counter[str] = Counter()
    start, number = time.monotonic(), 0
    while time.monotonic() - start < FUZZ_SECONDS:
        first = zlib.crc32(f"{name} {FUZZ_SEED} {number}".encode())
        check = settings(
            max_examples=ROUND if name not in seeds.SLOW else 15,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # examples are short as they are
            suppress_health_check=RARE,
            print_blob=False,
        )(seed(first)(target(name, keep)))
        check()
        number += 1
    with capfd.disabled():
        seconds = time.monotonic() - start
        sys.stdout.write(f"\n{name}: {seconds:.0f} s, {keep.total():,} examples {dict(keep)}\n")


def test_the_properties_see_what_they_look_for() -> None:
    made = seeds.seed("folder")
    properties.emptied(seeds.FOLDER)
    properties.put(seeds.FOLDER, {**made.files, "0.png": ("link", "../outside/secret.png")})
    here = str(seeds.FOLDER)
    assert properties.check_layout(made.at(here), seeds.FOLDER, 4) == 3
    with pytest.raises(AssertionError, match="accounted"):
        properties.check_layout(made.at(here), seeds.FOLDER, 6)
    with pytest.raises(AssertionError, match=properties.CANARY):
        properties.check_layout(made.at(here, allow_outside=True), seeds.FOLDER, 4)
    if sys.platform == "linux":
        # In a process of its own: what other tests left may be given back meanwhile.
        program = (
            "from fuzz import properties\n"
            "with properties.bounded(): bytearray(2 * properties.MEGABYTES << 20).count(1)"
        )
        command = [sys.executable, "-c", program]
        tests = str(Path(__file__).parents[1])
        done = subprocess.run(command, cwd=tests, capture_output=True, text=True)
        assert done.returncode != 0 and "AssertionError" in done.stderr
