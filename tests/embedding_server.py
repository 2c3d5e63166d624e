"""A real HTTP server that speaks /v1/embeddings over the `hashing` encoder, and errs on demand."""

from __future__ import annotations

import atexit
import base64
import functools
import json
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lift.text.encoders import hashing

Data = list[dict[str, Any]]


@dataclass
class Reply:
    """What to do instead of answering well; the defaults answer well."""

    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    edit: Callable[[Data], Data] | None = None
    delay: float = 0.0
    cut_after: int | None = None
    drip: float = 0.0


@dataclass
class Seen:
    """One request that arrived."""

    time: float
    path: str
    key: str | None
    body: dict[str, Any]

    @property
    def texts(self) -> list[str]:
        return self.body["input"]


def error(status: int, message: str, **headers: str) -> Reply:
    body = json.dumps({"error": {"message": message, "type": "test", "code": None}}).encode()
    return Reply(status=status, body=body, headers=headers)


class EmbeddingServer:
    """Listens on a free port of this machine, in threads of its own.

    Attributes:
        url: base url.
        seen: requests, in the order of arrival.
        most_at_once: requests that were in work at the same time.
        behave: from the number of a request (from 1) and the request to how it is answered.
    """

    def __init__(self, *, dimensions: int = 64, max_tokens: int = 100_000) -> None:
        self.encoder = hashing.build(hashing.Config(dimensions=dimensions, max_tokens=max_tokens))
        self.behave: Callable[[int, Seen], Reply] = lambda number, seen: Reply()
        self.seen: list[Seen] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.http = _Quiet(("127.0.0.1", 0), _Handler)
        self.http.owner = self
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(
            target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self) -> EmbeddingServer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def answer(self, seen: Seen) -> Data:
        rows = self.encoder.encode(seen.texts).rows
        rows = rows[:, : seen.body.get("dimensions", rows.shape[1])]
        if seen.body.get("encoding_format") == "base64":
            vectors: list[Any] = [base64.b64encode(row.tobytes()).decode() for row in rows]
        else:
            vectors = [[float(value) for value in row] for row in rows]
        return [
            {"object": "embedding", "index": i, "embedding": vector}
            for i, vector in enumerate(vectors)
        ]


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    owner: EmbeddingServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        assert isinstance(self.server, _Quiet)
        owner = self.server.owner
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        seen = Seen(time.monotonic(), self.path, self.headers.get("authorization"), body)
        with owner.lock:
            owner.seen.append(seen)
            number = len(owner.seen)
            owner.at_once += 1
            owner.most_at_once = max(owner.most_at_once, owner.at_once)
        try:
            self._reply(owner, seen, owner.behave(number, seen))
        finally:
            with owner.lock:
                owner.at_once -= 1

    def _reply(self, owner: EmbeddingServer, seen: Seen, reply: Reply) -> None:
        time.sleep(reply.delay)
        body = reply.body
        if body is None:
            data = owner.answer(seen)
            data = reply.edit(data) if reply.edit else data
            total = sum(len(text.split()) for text in seen.texts)
            usage = {"prompt_tokens": total, "total_tokens": total}
            whole = {"object": "list", "data": data, "model": seen.body["model"], "usage": usage}
            body = json.dumps(whole).encode()
        self.send_response(reply.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        for name, value in reply.headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if reply.cut_after is not None:
            self.wfile.write(body[: reply.cut_after])
            self.wfile.flush()
            # A reset, not an orderly end: lingering for no time makes close() send RST.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
        elif reply.drip:
            for start in range(0, len(body), 100):
                self.wfile.write(body[start : start + 100])
                self.wfile.flush()
                time.sleep(reply.drip)
        else:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@functools.cache
def shared_server() -> EmbeddingServer:
    """Return a well-behaved server that lives as long as the process."""
    return EmbeddingServer().__enter__()


@functools.cache
def tokenizer_folder() -> Path:
    """Return a folder with a byte-level BPE tokenizer of 300 tokens that puts two around a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    from lift.text.probes import PROBES

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(PROBES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.enable_truncation(8)  # files on the hub bring such settings; they count for nothing
    folder = Path(tempfile.mkdtemp(prefix="lift-tokenizer-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
