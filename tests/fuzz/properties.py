"""What has to hold for anything that is opened: errors of ours only, nothing lost, nothing from
outside the folder, bounded time and memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from lift.config import Part
from lift.data import guess as guessing
from lift.data import image, jpeg
from lift.data.source import open_source
from lift.errors import BrokenSample, LiftError
from lift.terms import Sample, Source

CANARY = "CANARY-3b1f"
"""Stands in every file outside the folder, and may stand in no sample."""

SECONDS, MEGABYTES, STUCK = 2.0, 300, 20
PIXELS = 1 << 22


def emptied(folder: Path) -> None:
    """Make a folder, or make it empty."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Fail where the body takes too much processor time or memory, or stands still."""

    def stuck(*_: object) -> None:
        raise AssertionError(f"nothing came for {STUCK} seconds")

    before = _peak_from_here()
    old = signal.signal(signal.SIGALRM, stuck)
    signal.alarm(STUCK)
    start = time.process_time()
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    assert time.process_time() - start < SECONDS
    assert before is None or _memory("VmHWM") - before < MEGABYTES


def _peak_from_here() -> float | None:
    """Let the kernel count the peak anew and return what is used; None where it can't."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        return _memory("VmRSS")
    except OSError:
        return None


def _memory(which: str) -> float:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(which))
    return int(line.split()[1]) / 1024


Facts = list[tuple[str, Any]]


def check_layout(part: Part, folder: Path, items: int | None, strict: bool = False) -> int:
    """Open a part twice and hold it to every promise; return the samples (-1: refused).

    Args:
        part: what to open.
        folder: where it lies, to guess at.
        items: samples and counters have to add up to these; None where nobody knows.
        strict: open it so.
    """
    with bounded():
        first = _opened(part, strict)
        again = _opened(part, strict)
        assert _facts(first) == _facts(again), "two openings differ"
        if isinstance(first, Exception):
            return -1
        known = len(first) + sum(getattr(first, "counters", {}).values())
        assert items is None or known >= items, f"{known} of {items} items are accounted for"
        return len(first)


def check_guess(folder: Path) -> None:
    """Guess at a folder, and at every file in it, and open what was guessed."""
    with bounded():
        paths = [folder, *sorted(folder.iterdir())[:12]]
        for path in paths:
            try:
                found = guessing.guess(str(path))
            except LiftError as error:
                assert CANARY not in str(error)
                continue
            assert CANARY not in found.why
            if path == folder:
                _opened(found.part, False)


def _opened(part: Part, strict: bool) -> Source | LiftError:
    try:
        return open_source(part, strict=strict)
    except LiftError as error:
        _is_sentence(error)
        return error


def _facts(source: Source | LiftError) -> Any:
    """Return everything that a source says, held against itself."""
    if isinstance(source, LiftError):
        return str(source)
    assert sum(source.groups) == len(source) > 0
    told = _told(source)
    if isinstance(told, LiftError):
        return str(told)
    if type(source).__name__ == "Texts":
        return told
    assert len(told) == len(source)
    keys = [key for key, _ in told]
    assert len(set(keys)) == len(keys), "a key repeats"
    facts: list[Any] = [told, dict(getattr(source, "counters", {}))]
    for number, (key, captions) in enumerate(told):
        try:
            sample = source.read(number)
        except BrokenSample as error:
            _is_sentence(error)
            facts.append((error.kind, str(error)))
            continue
        assert sample.key == key
        assert sample.captions == captions != (), (sample.captions, captions)
        _check_sample(sample)
        facts.append(sample)
    return facts


def _told(source: Source) -> list[tuple[str, Any]] | LiftError:
    try:
        told = list(source.texts())
    except LiftError as error:  # of a file that is damaged behind what opening looks at
        _is_sentence(error)
        return error
    for key, captions in told:
        for text in (key, *(word for caption in captions for word in caption[:2])):
            text.encode()
            assert CANARY not in text, text
        assert all(caption.text.strip() and "\0" not in caption.text for caption in captions)
    return told


def _check_sample(sample: Sample) -> None:
    assert sample.image
    assert CANARY.encode() not in sample.image, f"{CANARY} is in the image of {sample.key}"
    for name, value in sample.fields.items():
        assert CANARY not in (name + value).encode().decode(), "a field from outside"
    for foil in sample.foils:
        assert CANARY not in "".join(foil).encode().decode()
    check_image(sample.image)


def _is_sentence(error: LiftError) -> None:
    text = str(error)
    assert CANARY not in text, text
    assert len(text) > 12 and len(text) < 5_000, text
    if isinstance(error, BrokenSample):
        assert 0 < len(error.kind) < 80, error.kind


def check_image(content: bytes) -> bool:
    """Decode an image in full and shrunk; return whether it is one."""
    try:
        opened = image.picture(content, max_pixels=PIXELS)
        found = opened.pixels()
    except BrokenSample as error:
        _is_sentence(error)
        return False
    assert (
        found.shape == (3, opened.height, opened.width) and found.dtype.is_floating_point is False
    )
    for shrink in (2, 8):
        try:
            small = image.picture(content, max_pixels=PIXELS).pixels(shrink)
        except BrokenSample:
            continue  # what is damaged may show in one way of decoding only
        assert small.shape[1:] == opened.size(shrink)
    return True


def check_jpeg(content: bytes) -> None:
    """Decode a JPEG with simplejpeg and without: pixels and errors have to be the same."""
    told = [_decoded(content, shrink) for shrink in (1, 2, 8)]
    usual, jpeg.plain = jpeg.plain, lambda content: None
    try:
        by_pillow = [_decoded(content, shrink) for shrink in (1, 2, 8)]
    finally:
        jpeg.plain = usual
    for one, other in zip(told, by_pillow, strict=True):
        assert type(one) is type(other), (one, other)
        same = one == other if isinstance(one, str) else torch.equal(one, other)
        assert same, "simplejpeg and Pillow differ"


def _decoded(content: bytes, shrink: int) -> Any:
    try:
        return image.picture(content, max_pixels=PIXELS).pixels(shrink).clone()
    except BrokenSample as error:
        return error.kind


def put(folder: Path, files: dict[str, Any]) -> None:
    """Write a tree: bytes are files, ("link", target), ("fifo",) and ("folder",) what they say."""
    for name, content in files.items():
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if isinstance(content, bytes):
                with open(path, "wb") as file:
                    file.write(content)
            elif content[0] == "link":
                os.symlink(os.fsencode(content[1]), path)
            elif content[0] == "fifo":
                os.mkfifo(path)
            else:
                os.makedirs(path, exist_ok=True)
        except OSError:  # a name that this file system does not take
            continue
