"""The server as a process: started, opened wider, asked by many at once, told to stop."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lift.commands.serve import serve
from lift.errors import ConfigError, DataError
from lift.search.index import Index
from serving.hostile import request
from serving.served import Process, asked, read_all, wait_until


def test_many_at_once_get_the_answers_of_single_requests(process: Process) -> None:
    words = [f"a {colour} {shape}" for colour in ("red", "green") for shape in ("bar", "circle")]
    bodies = [
        {"query": word, "top": 5, **more}
        for word in words
        for more in ({}, {"top": 7}, {"where": "in_stock=true"}, {"where": "price=1"})
    ]

    def answered(body: dict) -> list[dict]:
        status, answer = process.ask("POST", "/search", body)
        assert status == 200
        return json.loads(answer)["hits"]

    def batches() -> tuple[float, float]:
        text = process.ask("GET", "/metrics")[1].decode()
        found = dict(re.findall(r'lift_batch_size_(sum|count){worker="near"} (\S+)', text))
        return float(found["sum"]), float(found["count"])

    single = [answered(body) for body in bodies]
    before = batches()
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(answered, bodies * 3)) == single * 3
    after = batches()
    assert after[0] - before[0] == 3 * len(bodies) > after[1] - before[1]
    assert process.log == ""


@pytest.mark.parametrize(
    "how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_opened_wider_it_asks_for_a_token_and_told_to_stop_it_answers_first(
    shapes_folder: Path, tmp_path: Path, how: signal.Signals
) -> None:
    with Process(shapes_folder, "window=1.0", log=tmp_path / "log", host="0.0.0.0") as process:
        address, _, token = process.url.partition("/#token=")
        assert address == f"http://127.0.0.1:{process.port}" and len(token) >= 32
        assert process.ask("GET", "/about")[0] == 401
        assert process.ask("GET", "/health")[0] == 200
        known = {"authorization": f"Bearer {token}", "host": "any.name"}
        assert process.ask("GET", "/about", headers=known)[0] == 200
        with (
            socket.create_connection(("127.0.0.1", process.port)) as asking,
            socket.create_connection(("127.0.0.1", process.port)),
        ):
            headers = (f"Authorization: Bearer {token}",)
            asking.sendall(request("POST", "/search", b'{"query": "red"}', headers))
            time.sleep(0.3)
            threading.Thread(target=process.started.send_signal, args=(how,)).start()
            answer = read_all(asking, 10)
            assert answer.startswith(b"HTTP/1.1 200") and b'"hits":[{' in answer
        assert process.started.communicate(timeout=10)[0] == "ended\n"
        assert process.started.returncode == 0
        assert process.log == ""


def test_a_client_that_left_is_not_worked_for(shapes: Index) -> None:
    """Its query waits behind one that takes long, and never reaches the index."""
    seen, go, near = [], threading.Event(), shapes.near

    def slow(z, **asked_for):
        seen.append(len(z))
        assert go.wait(10)
        return near(z, **asked_for)

    shapes.near = slow  # type: ignore[method-assign]
    import asyncio

    async def run() -> None:
        from lift.serving.app import create_app
        from lift.serving.config import ServerConfig
        from lift.serving.guard import LEFT

        app = create_app(shapes, ServerConfig(window=0))
        tasks = [asyncio.create_task(_request(app))]
        while not seen:
            await asyncio.sleep(0.01)
        tasks += [asyncio.create_task(_request(app, left)) for left in (True, False)]
        await asyncio.sleep(0.3)
        go.set()
        done = await asyncio.gather(*tasks)
        assert [bool(messages) for messages in done] == [True, False, True]
        assert sum(seen) == 2
        metrics = app.state.service.metrics.text()
        assert f'status="{LEFT}"' in metrics
        app.state.service.workers.close()

    asyncio.run(run())


async def _request(app, left: bool = False) -> list[dict]:
    """Return what an ASGI app sends; a client that leaves does so after its body."""
    import asyncio

    body = json.dumps({"query": [{"vector": [1.0] * 24}]}).encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[dict] = []

    async def receive() -> dict:
        if messages:
            return messages.pop()
        await asyncio.sleep(0.1 if left else 60)
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {
        **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST"},
        **{"path": "/search", "raw_path": b"/search", "query_string": b"", "headers": headers},
        **{"scheme": "http", "server": ("localhost", 80), "client": ("127.0.0.1", 1)},
        **{"root_path": "", "state": {}},
    }
    await app(scope, receive, send)
    return sent


def test_what_takes_too_long_is_given_up_and_a_full_queue_says_so(shapes: Index) -> None:
    go, near = threading.Event(), shapes.near

    def slow(z, **asked_for):
        assert go.wait(10)
        return near(z, **asked_for)

    shapes.near = slow  # type: ignore[method-assign]
    body = {"query": [{"item": "item-0"}]}
    with asked(shapes, seconds=0.5, waiting=2, window=0) as client:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: client.post("/search", json=body), range(8)))
        statuses = sorted(answer.status_code for answer in answers)
        assert set(statuses) == {503, 504}, statuses
        for answer in answers:
            assert answer.json()["error"]["type"] == "server_error"
            if answer.status_code == 503:
                assert answer.headers["retry-after"] == "1"
        go.set()
        wait_until(lambda: client.post("/search", json=body).status_code == 200)


def test_the_command_says_what_is_wrong(shapes_folder: Path, tmp_path: Path) -> None:
    folder = shapes_folder
    with pytest.raises(DataError, match="index"):
        serve(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="bodyy"):
        serve(folder, bounds=["bodyy=3"])
    with pytest.raises(ConfigError, match="port"):
        serve(folder, port=99_999)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}"):
            serve(folder, port=port, device="cpu")
    with pytest.raises(ConfigError, match="listen"):
        serve(folder, host="no.such.host.invalid", port=0, device="cpu")
