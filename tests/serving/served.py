"""A real index of coloured shapes, a client without a network, and a server as a process."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from lift.search.index import Index
from lift.search.terms import Searchable
from lift.serving.app import create_app
from lift.serving.config import ServerConfig
from made_model import made
from serving.in_memory import items

PROGRAM = """
import json, sys
import torch
torch.set_num_threads(1)
from lift.commands.serve import serve
folder, bounds, options = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
serve(folder, port=0, device="cpu", bounds=bounds, listening=lambda url, _: print(url, flush=True),
      **options)
print("ended", flush=True)
"""


def built(folder: Path, count: int = 30, **model: Any) -> Path:
    """Return the folder of an index of coloured shapes."""
    with Index.create(folder, made(**model)) as index:
        index.add(items(count))
    return folder


@contextlib.contextmanager
def asked(searchable: Searchable, **config: Any) -> Iterator[TestClient]:
    """Yield a client of a server in this process."""
    app = create_app(searchable, ServerConfig(**config))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def wait_until(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so; fail if it never is."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it never was so"
        time.sleep(0.02)


def data_url(content: bytes, kind: str = "image/png") -> str:
    """Return the content as a data URL."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


class Process:
    """A server as a process of its own.

    Attributes:
        url: of the page, with the token if there is one.
        port: where it listens.
        log: what it said on stderr so far.
    """

    def __init__(self, folder: Path, *bounds: str, log: Path, **options: Any) -> None:
        self._log = log.open("w+b")
        told = json.dumps(bounds), json.dumps(options)
        self.started = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder), *told],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self.started.stdout is not None
        self.url = self.started.stdout.readline().strip()
        assert self.url.startswith("http://"), self.log
        self.port = int(self.url.split(":")[2].split("/")[0])

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.started.poll() is None:
            self.stop()
        assert self.started.stdout is not None
        self.started.stdout.close()
        self._log.close()

    @property
    def log(self) -> str:
        self._log.flush()
        return Path(self._log.name).read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.started.poll() is None

    def stop(self, how: int = signal.SIGTERM) -> tuple[int, str]:
        """End it; return its exit code and what it printed last."""
        self.started.send_signal(how)
        said, _ = self.started.communicate(timeout=30)
        return self.started.returncode, said

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Return status and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = json.dumps(body).encode() if body is not None else None
        told = {"content-type": "application/json"} if sent else {}
        try:
            connection.request(method, path, sent, {**told, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def raw(self, content: bytes, seconds: float = 10.0) -> bytes:
        """Send bytes and return all that comes until the server closes or the time is up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as line:
            with contextlib.suppress(OSError):
                line.sendall(content)
            return read_all(line, seconds)

    def sockets(self) -> int:
        """Return how many sockets it has open."""
        found = 0
        for name in os.listdir(f"/proc/{self.started.pid}/fd"):
            with contextlib.suppress(OSError):
                found += os.readlink(f"/proc/{self.started.pid}/fd/{name}").startswith("socket:")
        return found

    def resident(self) -> int:
        """Return its memory in bytes."""
        pages = int(Path(f"/proc/{self.started.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")


def read_all(line: socket.socket, seconds: float) -> bytes:
    """Return what comes on a connection until it ends or the time is up."""
    found, end = b"", time.monotonic() + seconds
    with contextlib.suppress(OSError):
        while time.monotonic() < end:
            line.settimeout(max(0.01, end - time.monotonic()))
            part = line.recv(1 << 16)
            if not part:
                break
            found += part
    return found
