"""Requests made from the server's own schema, fitting it and not: never its fault, always in shape.

`make fuzz` gives `FUZZ_SECONDS` to the routes together; `make test` tries a few of each.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from starlette.testclient import TestClient

from lift.search.index import Index
from serving.in_memory import drawn
from serving.served import asked, built, data_url

pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))
FUZZ_SEED = int(os.environ.get("FUZZ_SEED", "0"))
REFUSED = {400, 404, 405, 413, 415, 503}
KEYS = ("item-0", "item-3", "gone")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with Index.open(built(tmp_path_factory.mktemp("fuzz") / "index"), device="cpu") as index:
        yield index


def _sent(client: TestClient, case: Any, counted: Counter[tuple[str, int]], folder: Path) -> None:
    """Send what was made of the schema, and hold the server to what it promises."""
    body = case.body
    if isinstance(body, dict):  # no dice finds a key or a picture
        if isinstance(body.get("key"), str):
            body["key"] = KEYS[len(body["key"]) % 3]
        if isinstance(body.get("image"), str):
            body["image"] = data_url(drawn("red", "bar", 24))
    query = dict(case.query or {})
    if isinstance(query.get("key"), str):
        query["key"] = KEYS[len(query["key"]) % 3]
    told = {}
    if not isinstance(body, (type(None), type(Ellipsis))) and type(body).__name__ != "NotSet":
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        told = {"content": content, "headers": {"content-type": case.media_type or "x/y"}}
    try:
        path = case.formatted_path
        answer = client.request(case.method, path, params=query, **told)
    except (ValueError, TypeError):  # the client itself can't write it
        counted["unsent", 0] += 1
        return
    counted[case.operation.path, answer.status_code] += 1
    assert answer.status_code == 200 or answer.status_code in REFUSED, (case, answer.text)
    assert str(folder) not in answer.text
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert error["message"].endswith((".", "?")) and error["type"].endswith("_error"), error
    elif answer.headers["content-type"] == "application/json":
        json.loads(answer.content)


def _fuzzed(shapes: Index, examples: int, seconds: float) -> Counter[tuple[str, int]]:
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis import GenerationMode

    counted: Counter[tuple[str, int]] = Counter()
    with asked(shapes, characters=2_000, body=1 << 20) as client:
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        operations = [result.ok() for result in schema.get_all_operations()]
        assert len(operations) >= 15
        for operation in operations:
            end = time.monotonic() + seconds / len(operations)
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                round_ = 0
                while not round_ or time.monotonic() < end:
                    _round(client, operation.as_strategy(mode), counted, shapes, examples, round_)
                    round_ += 1
                end += seconds / len(operations) / 2
    return counted


def _round(
    client: TestClient, strategy: Any, counted: Counter, shapes: Index, examples: int, round_: int
) -> None:
    @seed(FUZZ_SEED * 1_000_003 + round_)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def one(case: Any) -> None:
        _sent(client, case, counted, shapes.folder)

    from hypothesis.errors import Unsatisfiable

    try:
        one()
    except Unsatisfiable:  # a route without anything to get wrong
        counted["nothing to make", 0] += 1


def test_a_few_requests_of_each_route(shapes: Index) -> None:
    counted = _fuzzed(shapes, 2, 0.0)
    assert sum(counted.values()) > 30
    assert {status for _, status in counted} >= {200, 400}, counted


@pytest.mark.fuzz
def test_requests_for_as_long_as_there_is_time(shapes: Index) -> None:
    counted = _fuzzed(shapes, 40, FUZZ_SECONDS)
    for path in ("/search", "/similar", "/heatmap", "/labels", "/v1/embeddings"):
        assert counted[path, 200] and counted[path, 400], counted
