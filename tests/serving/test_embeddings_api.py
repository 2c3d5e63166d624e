"""/v1/embeddings as OpenAI's own client asks it: raw HTTP in its shapes, against a real process."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from lift.search.index import Index
from serving.in_memory import drawn
from serving.served import Process, asked, data_url

PATH = "/v1/embeddings"
HEADERS = (
    "Host: {host}\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
    "Accept: application/json\r\nContent-Type: application/json\r\n"
    "User-Agent: OpenAI/Python 1.99.1\r\nX-Stainless-Lang: python\r\n"
    "X-Stainless-Package-Version: 1.99.1\r\nAuthorization: Bearer sk-none\r\n"
    "X-Stainless-Retry-Count: 0\r\nX-Stainless-Read-Timeout: 600\r\n"
)
"""What openai-python sends with `client.embeddings.create(...)`."""


def _sent(process: Process, body: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to the bytes that the official client writes."""
    content = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    head = f"POST {PATH} HTTP/1.1\r\n" + HEADERS.format(host=f"127.0.0.1:{process.port}")
    head = head.replace("keep-alive", "close") + f"Content-Length: {len(content)}\r\n\r\n"
    answer = process.raw(head.encode() + content)
    told, _, rest = answer.partition(b"\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 200"), answer
    return json.loads(rest)


def _rows(answer: dict[str, Any]) -> np.ndarray:
    rows = []
    for place, one in enumerate(answer["data"]):
        assert one["object"] == "embedding" and one["index"] == place
        told = one["embedding"]
        if isinstance(told, str):
            rows.append(np.frombuffer(base64.b64decode(told, validate=True), "<f4"))
        else:
            rows.append(np.array(told, np.float32))
    return np.stack(rows)


def test_what_the_official_client_sends(process: Process, shapes: Index) -> None:
    texts = ["a red circle", "Ein Hafen bei Nacht", "  spaces  ", "日本"]
    want = shapes.encoder.encode_texts(texts)
    for more in ({"encoding_format": "base64"}, {"encoding_format": "float"}, {}):
        body = {"input": texts, "model": "text-embedding-3-small", "user": "me", **more}
        answer = _sent(process, body)
        assert answer["object"] == "list" and isinstance(answer["model"], str)
        assert np.array_equal(_rows(answer), want), more  # bit for bit
        tokens = int(shapes.encoder.text_encoder.encode(texts).tokens.sum())
        assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    one = _sent(process, {"input": texts[0], "model": "x"})
    assert np.array_equal(_rows(one), shapes.encoder.encode_texts(texts[:1]))


def test_images_in_every_shape_and_among_texts(process: Process, shapes: Index) -> None:
    url = data_url(drawn("red", "bar"))
    want = shapes.encoder.encode_images([drawn("red", "bar")])[0]
    text = shapes.encoder.encode_texts(["a bar"])[0]
    inputs = [
        *(url, "a bar", {"image": url}, {"type": "image_url", "image_url": {"url": url}}),
        *({"image_url": url}, {"type": "text", "text": "a bar"}),
    ]
    answer = _sent(process, {"input": inputs, "model": "m", "encoding_format": "base64"})
    rows = _rows(answer)
    for place in (0, 2, 3, 4):
        assert np.allclose(rows[place], want, atol=1e-6)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert np.allclose(rows[[1, 5]], text, atol=1e-6)
    assert np.allclose(_rows(_sent(process, {"input": {"image": url}})), want, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"input": [1, 2, 3]}, "Token numbers"),
        ({"input": [[1, 2], [3]]}, "Token numbers"),
        ({"input": []}, "The input is empty"),
        ({"input": ""}, "Input 0 is empty"),
        ({"input": ["a", ""]}, "Input 1 is empty"),
        ({}, "input: Field required"),
        ({"input": "a", "dimensions": 8}, "24 numbers, not 8"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": {"image": "/etc/passwd"}}, "no paths"),
        ({"input": {"image_url": {"url": "https://a.example/b.png"}}}, "no addresses"),
        ({"input": {"image": "data:image/png;base64,AA", "text": "a"}}, "has one of"),
        ({"input": "data:image/png;base64,iVBORw0KGgo="}, "can't be read"),
    ],
)
def test_what_is_refused(process: Process, body: dict[str, Any], told: str) -> None:
    status, answer = process.ask("POST", PATH, body)
    error = json.loads(answer)["error"]
    assert status == 400 and error["type"] == "invalid_request_error"
    assert told in error["message"], error


def test_models_are_listed(process: Process) -> None:
    status, answer = process.ask("GET", "/v1/models")
    listed = json.loads(answer)
    assert status == 200 and listed["object"] == "list" and len(listed["data"]) == 1
    one = listed["data"][0]
    assert one["object"] == "model" and one["owned_by"] == "lift"
    assert process.ask("GET", f"/v1/models/{one['id']}")[0] == 200
    assert process.ask("GET", "/v1/models/gpt-9")[0] == 404


def test_the_front_of_a_row_where_the_encoder_was_made_for_it(
    shapes: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes.encoder.text_encoder, "matryoshka", True)
    row = shapes.encoder.encode_texts(["a red circle"])[0][:8]
    with asked(shapes) as client:
        answer = client.post(PATH, json={"input": "a red circle", "dimensions": 8}).json()
        assert np.allclose(_rows(answer)[0], row / np.linalg.norm(row), atol=1e-6)
        assert client.post(PATH, json={"input": "a", "dimensions": 25}).status_code == 400
