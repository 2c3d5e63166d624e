"""Requests of somebody who means harm, against a real process: no crash, no leak, nothing told."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import lift
from serving.hostile import LARGE, Attack, attacks
from serving.served import Process, read_all, wait_until

BOUNDS = (
    *(f"body={LARGE // 2}", "body_seconds=1", "idle_seconds=1", "seconds=4", "pixels=2000000"),
    *("connections=64", "requests=32", "waiting=64"),
)
ANSWERS = {100, 200, 204, 304, 400, 401, 403, 404, 405, 408, 413, 415, 431, 501, 503, 504}
AT_ONCE = 12
OWN_SOCKETS = 3
"""It listens, and its loop wakes itself up."""
GROWTH = 24 << 20
"""Bytes that memory may settle above where it was: what allocators keep."""


def _attacked(process: Process, attack: Attack) -> bytes:
    """Return all that the server said to an attack."""
    with socket.create_connection(("127.0.0.1", process.port), timeout=20) as line:
        with contextlib.suppress(OSError):
            for piece in attack.pieces:
                line.sendall(piece)
                if attack.pause:
                    time.sleep(attack.pause)
            if attack.leaves:
                return b""
        return read_all(line, 20)


def _checked(process: Process, attack: Attack, folder: Path) -> int:
    """Return the status that an attack was answered with, 0 for none, once nothing was told."""
    said = _attacked(process, attack)
    for secret in (str(folder), str(Path(lift.__file__).parent), sys.prefix, "site-packages"):
        assert secret.encode() not in said, (attack, said)
    for word in (b"Traceback", b'File "', b"root:x:", b" object at 0x", b"sqlite"):
        assert word not in said, (attack, said)
    statuses = [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]
    assert set(statuses) <= ANSWERS, (attack, said)
    return next((status for status in statuses if status != 100), 0)


def _all(process: Process, several: Sequence[Attack], folder: Path) -> Counter[tuple[str, int]]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda attack: _checked(process, attack, folder), several))
    return Counter((attack.kind, status) for attack, status in zip(several, found, strict=True))


def _well(process: Process) -> None:
    """The server answers as ever, and has let go of every connection."""
    assert process.alive, process.log

    def settled() -> bool:
        _, text = process.ask("GET", "/metrics")
        waiting = re.findall(rb'lift_queue_depth\{worker="\w+"\} (\d+)', text)
        return not any(map(int, waiting)) and b"\nlift_requests_now 1\n" in text

    wait_until(settled, 30)
    status, answer = process.ask("POST", "/search", {"query": "a red circle", "top": 1})
    assert status == 200 and b'"key":"item-' in answer
    wait_until(lambda: process.sockets() <= OWN_SOCKETS, 20)
    for line in process.log.splitlines():
        assert not line.startswith("Traceback"), process.log


@pytest.fixture(scope="module")
def bounded(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Yield a server with little patience."""
    with Process(shapes_folder, *BOUNDS, log=tmp_path_factory.mktemp("hostile") / "log") as one:
        yield one


def test_a_hundred_hostile_requests(bounded: Process, shapes_folder: Path) -> None:
    found = _all(bounded, list(attacks(100)), shapes_folder)
    _well(bounded)
    statuses = {status for _, status in found}
    assert {400, 404, 413} <= statuses, found
    assert found["slow body", 408] and found["slow header", 0], found


def test_a_client_that_never_reads_is_let_go(bounded: Process) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(1):
            line = held.enter_context(socket.socket())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            line.connect(("127.0.0.1", bounded.port))
            line.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 300)
        _well(bounded)


def test_too_many_connections_are_told_so(bounded: Process) -> None:
    address = ("127.0.0.1", bounded.port)
    with contextlib.ExitStack() as held:
        for _ in range(64):
            held.enter_context(socket.create_connection(address))
        time.sleep(0.2)
        with socket.create_connection(address) as late:
            assert read_all(late, 5).startswith(b"HTTP/1.1 503")
        wait_until(lambda: bounded.ask("GET", "/health")[0] == 200, 10)  # the idle ones are gone


@pytest.mark.slow
def test_a_thousand_hostile_requests_leave_no_trace(shapes_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(shapes_folder, tmp_path / "index")
    before = {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    with Process(folder, *BOUNDS, log=tmp_path / "log") as process:
        _all(process, list(attacks(500, seed=1)), folder)  # warms every pool and cache
        _well(process)
        start = process.resident()
        found = _all(process, list(attacks(1_000, seed=2)), folder)
        _well(process)
        grown = process.resident() - start
        sys.stdout.write(
            f"\n{grown / 1e6:.1f} MB more of {start / 1e6:.0f}; {sorted(found.items())}"
        )
        assert grown < GROWTH
        assert process.stop() == (0, "ended\n")
    for path, content in before.items():
        if not path.name.endswith(("-shm", "-wal")):
            assert path.read_bytes() == content, path
