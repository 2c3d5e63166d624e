"""A server in use: what clients make up, what breaks beside it, what goes on at the same time."""

from __future__ import annotations

import logging
import socket
import threading
from pathlib import Path

import pytest

from lift.commands.serve import TOKEN, serve, told_token
from lift.errors import ConfigError
from lift.search.index import Index
from lift.serving import running
from lift.serving.config import ServerConfig
from serving.in_memory import InMemory, drawn, items
from serving.served import Process, asked, data_url, wait_until


def test_methods_that_clients_make_up_are_counted_together(shapes: Index) -> None:
    with asked(shapes, token="x" * 16) as client:  # /health is open: nobody has to know the token
        for number in range(5):
            assert client.request(f"MADE{number}", "/health").status_code == 405
        told = client.get("/metrics", headers={"authorization": "Bearer " + "x" * 16}).text
    assert "MADE" not in told
    assert 'method="other",route="/health",status="405"} 5' in told


def test_no_address_leads_to_a_name_that_the_client_made_up(shapes: Index) -> None:
    with asked(shapes, token="x" * 16, host="0.0.0.0") as client:
        for path in ("/page/app.js/", "/health/"):
            answer = client.get(path, headers={"host": "other.example"}, follow_redirects=False)
            assert answer.status_code in (401, 404) and "location" not in answer.headers


def test_it_says_whether_it_can_edit(shapes: Index, shapes_folder: Path) -> None:
    combiner = shapes_folder / "combiner"
    with asked(shapes) as client:
        assert client.get("/about").json()["edits"] is False
        combiner.mkdir()
        assert client.get("/about").json()["edits"] is True
        combiner.rmdir()
        assert "count is at most" in client.get("/items?count=5000").json()["error"]["message"]


def test_a_vocabulary_is_no_book(shapes: Index) -> None:
    with asked(shapes, characters=100) as client:
        told = {"key": "item-0", "vocabulary": ["x" * 100, "y" * 101]}
        answer = client.post("/explain", json=told)
        assert answer.status_code == 400
        assert "200 characters together, not 201" in answer.json()["error"]["message"]
        told["vocabulary"] = ["x" * 100, "y" * 100]
        assert client.post("/explain", json=told).status_code == 200


def test_words_are_searched_for_while_a_picture_is_looked_at(shapes: Index) -> None:
    end, begun = threading.Event(), threading.Event()

    def long() -> bool:
        begun.set()
        return end.wait(20)

    with asked(shapes) as client:
        workers = client.app.state.service.workers  # type: ignore[attr-defined]
        assert client.portal is not None
        at_it = client.portal.start_task_soon(workers.with_image, long)
        assert begun.wait(5)
        assert client.post("/search", json={"query": "a red bar"}).status_code == 200
        assert client.post("/describe", json={"key": "item-0"}).status_code == 200
        assert not at_it.done()
        end.set()
        assert at_it.result(5)


def test_a_disk_that_is_gone_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    class Gone(InMemory):
        looked = 0

        def refresh(self) -> None:
            self.looked += 1
            raise OSError("the disk is gone" if self.looked < 4 else "another disk is gone")

    gone = Gone(items(3))
    caplog.set_level(logging.WARNING)
    with asked(gone, refresh_seconds=0.005):
        wait_until(lambda: gone.looked > 8)
    told = [one.getMessage() for one in caplog.records if "looked at again" in one.getMessage()]
    assert [line.rpartition(": ")[2] for line in told] == [
        "the disk is gone",
        "another disk is gone",
    ]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 on this machine")
def test_everywhere_is_where_the_printed_address_leads() -> None:
    config = ServerConfig(host="::")
    with running._listener("::", 0) as listener:
        port = listener.getsockname()[1]
        assert running.address(config, port) == f"http://127.0.0.1:{port}/"
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=5).close()


def test_a_token_may_come_unseen(monkeypatch: pytest.MonkeyPatch, shapes_folder: Path) -> None:
    monkeypatch.setenv(TOKEN, " from-the-environment\n")
    assert told_token("") == "from-the-environment" and told_token("told") == "told"
    monkeypatch.setenv(TOKEN, "short")
    with pytest.raises(ConfigError, match="at least 16"):
        serve(shapes_folder, port=0)


def test_the_pictures_of_a_query_are_bounded_together(shapes: Index) -> None:
    picture = {"image": data_url(drawn("red", "bar", 100))}
    with asked(shapes, pixels=10_000) as client:
        for count, status in ((4, 200), (5, 400)):
            answer = client.post("/search", json={"query": [picture] * count})
            assert answer.status_code == status, answer.text
        assert "40,000 pixels together, not 50,000" in answer.json()["error"]["message"]


def test_a_request_whose_end_is_in_doubt_ends_the_connection(process: Process) -> None:
    """A proxy that goes by the length would take the second request for a part of the first."""
    head = b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    told = b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    answer = process.raw(head + told + b"GET /about HTTP/1.1\r\nHost: localhost\r\n\r\n", 5)
    assert answer.count(b"HTTP/1.1 ") == 1 and b" 400 " in answer and b"in one way" in answer


def test_a_name_in_brackets_is_all_of_the_host(shapes: Index) -> None:
    with asked(shapes) as client:
        for host, status in (("[::1]:80", 200), ("[::1]", 200), ("[localhost]@other", 403)):
            assert client.get("/about", headers={"host": host}).status_code == status
