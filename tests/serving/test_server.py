"""Every route on a real index: what it answers, and in which words it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from lift.errors import ConfigError, DataError
from lift.scoring.heat import heatmap
from lift.search import words
from lift.search.index import Index
from lift.search.terms import Query, Term
from lift.serving.app import create_app
from lift.serving.config import ServerConfig, guarded
from serving.in_memory import drawn
from serving.served import asked, data_url, wait_until


@pytest.fixture
def client(shapes: Index) -> Iterator[TestClient]:
    with asked(shapes) as one:
        yield one


def _keys(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [hit["key"] for hit in answer.json()["hits"]]


def _refusal(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error["message"]


# --- searching ----------------------------------------------------------------------------------


def test_a_search_is_what_the_index_finds(client: TestClient, shapes: Index) -> None:
    answer = client.post("/search", json={"query": "a red circle", "top": 5}).json()
    hits = shapes.search("a red circle", top=5)
    assert [hit["key"] for hit in answer["hits"]] == [hit.key for hit in hits]
    for told, hit in zip(answer["hits"], hits, strict=True):
        item = shapes.item(hit.key)
        assert item is not None
        assert told == {
            **hit._asdict(),
            "title": item.title,
            "facts": dict(item.facts),
            "images": item.images,
        }
    assert answer["merge"] == "auto" and answer["seconds"] >= 0


def test_queries_of_several_terms_filters_kinds_and_merges(
    client: TestClient, shapes: Index
) -> None:
    image = drawn("blue", "square")
    query = Query((Term("text", "a circle", 0.5), Term("image", image), Term("item", "item-2", -1)))
    parts = [
        {"text": "a circle", "weight": 0.5},
        {"image": data_url(image)},
        {"item": "item-2", "weight": -1},
    ]
    for more in (
        {},
        {"kinds": ["image"]},
        {"where": "colour=red|blue price<30"},
        {"where": {"in_stock": True, "price": {"ge": 15}}},
        {"merge": "cosine"},
    ):
        found = client.post("/search", json={"query": parts, "top": 7, **more})
        z, of = shapes.vectors([query])
        from lift.search.filters import Filter

        where = Filter.of(more["where"]) if "where" in more else None
        kinds, merge = more.get("kinds", ["image", "text"]), more.get("merge", "auto")
        hits = shapes.near(z, of=of, top=7, where=where, kinds=kinds, merge=merge)[0]
        assert _keys(found) == [hit.key for hit in hits], more


def test_a_vector_is_asked_as_it_is(client: TestClient, shapes: Index) -> None:
    z = shapes.encoder.encode_texts("a green bar")[0]
    found = client.post("/search", json={"query": [{"vector": (3 * z).tolist()}], "top": 4})
    assert _keys(found) == [hit.key for hit in shapes.search("a green bar", top=4)]


def test_similar_leaves_the_item_itself_out(client: TestClient, shapes: Index) -> None:
    found = client.post("/similar", json={"key": "item-0", "top": 6, "kinds": ["image"]})
    keys = _keys(found)
    assert len(keys) == 6 and "item-0" not in keys
    others = shapes.search(Query((Term("item", "item-0"),)), top=7, kinds=("image",))
    assert keys == [hit.key for hit in others if hit.key != "item-0"]
    assert "no item 'gone'" in _refusal(client.post("/similar", json={"key": "gone"}), 404)


def test_items_facts_and_what_it_is(client: TestClient, shapes: Index) -> None:
    page = client.get("/items", params={"start": 2, "count": 3}).json()
    assert [item["key"] for item in page["items"]] == ["item-2", "item-3", "item-4"]
    assert page["total"] == 30
    page = client.get("/items", params={"where": "colour=red", "count": 4}).json()
    assert page["total"] == 10 and len(page["items"]) == 4
    page = client.get("/items", params={"where": '{"price": {"lt": 12}}'}).json()
    assert [item["key"] for item in page["items"]] == ["item-0", "item-1"]
    item = client.get("/item", params={"key": "item-3"}).json()
    assert item["texts"]["title"] == ["a red square"] and item["images"] == 0
    assert item["facts"] == {"colour": "red", "price": 13.0, "in_stock": False}
    facts = client.get("/facts").json()
    assert facts["price"] == {"values": [], "low": 10.0, "high": 39.0, "items": 30}
    assert sorted(facts["colour"]["values"]) == [["blue", 10], ["green", 10], ["red", 10]]
    about = client.get("/about").json()
    assert about["items"] == 30 and about["dense"] is True and about["name"] == shapes.name
    assert about["space"]["fingerprint"] == shapes.space.fingerprint
    assert client.get("/health").json() == {"ready": True, "items": 30}


def test_a_picture_is_small_kept_by_its_tag_and_of_the_database(
    client: TestClient, shapes: Index
) -> None:
    answer = client.get("/image", params={"key": "item-0", "number": 1})
    assert answer.content == shapes.picture("item-0", 1)
    assert answer.headers["content-type"] == "image/jpeg"
    assert "max-age" in answer.headers["cache-control"]
    tag = {"if-none-match": answer.headers["etag"]}
    again = client.get("/image", params={"key": "item-0", "number": 1}, headers=tag)
    assert again.status_code == 304 and not again.content
    other = client.get("/image", params={"key": "item-1"}, headers=tag)
    assert other.status_code == 200
    for params in ({"key": "item-0", "number": 9}, {"key": "../items.db"}, {"key": "item-3"}):
        assert "no image" in _refusal(client.get("/image", params=params), 404)


def test_what_a_picture_is_told_in(client: TestClient, shapes: Index) -> None:
    image, z = drawn("red", "circle"), shapes.rows("item-0")
    own = next(row for kind, _, _, row in z if kind == "image")
    found = client.post("/labels", json={"key": "item-0", "top": 4}).json()["labels"]
    assert found == [one._asdict() for one in words.labels(shapes, own, 4, without=("item-0",))]
    found = client.post("/describe", json={"key": "item-0", "top": 4}).json()["quotes"]
    assert found and "item-0" not in [one["key"] for one in found]
    body = {"image": data_url(image), "vocabulary": ["red", "bar", "dog"], "top": 2}
    found = client.post("/explain", json=body).json()["words"]
    told = words.explain(shapes, shapes.encoder.encode_images([image])[0], body["vocabulary"], 2)
    assert found == [{"text": one.text, "cosine": one.cosine} for one in told]
    found = client.post("/heatmap", json={"image": data_url(image), "text": "a circle"}).json()
    heat = heatmap(shapes.encoder, image, "a circle")
    assert found["values"] == heat.values.tolist() and found["frame"] == list(heat.frame)
    assert (found["rows"], found["cols"]) == heat.values.shape
    found = client.post("/heatmap", json={"key": "item-1", "text": "red"})
    assert found.status_code == 200
    none = {"key": "item-3", "text": "red"}
    assert "has no image" in _refusal(client.post("/heatmap", json=none), 404)


# --- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/search", {}, "query: Field required"),
        ("/search", {"query": ""}, "empty"),
        ("/search", {"query": 3}, "valid"),
        ("/search", {"query": []}, "at least 1"),
        ("/search", {"query": "a", "topp": 3}, "topp: Extra inputs"),
        ("/search", {"query": "a", "top": 0}, "top: Input should be greater"),
        ("/search", {"query": "a", "top": 5_000}, "top is at most 1,000"),
        ("/search", {"query": "a", "top": 1.5}, "top: "),
        ("/search", {"query": "a", "kinds": ["sound"]}, "kinds"),
        ("/search", {"query": "a", "kinds": []}, "kinds"),
        ("/search", {"query": "a", "where": "colour"}, "no condition"),
        ("/search", {"query": "a", "where": {"price": {"near": 3}}}, "operator"),
        ("/search", {"query": "a", "where": {"price": 10**400}}, "too large"),
        ("/search", {"query": [{"text": "a", "item": "b"}]}, "has one of text"),
        ("/search", {"query": [{}]}, "has one of text"),
        ("/search", {"query": [{"text": "a", "weight": -1}]}, "above 0"),
        ("/search", {"query": [{"text": "a", "weight": 1e9}]}, "weight"),
        ("/search", {"query": [{"text": "a"}] * 17}, "at most 16"),
        ("/search", {"query": [{"vector": [1.0, 2.0]}]}, "24 numbers here, not 2"),
        ("/search", {"query": [{"vector": [0.0] * 24}]}, "length above 0"),
        ("/search", {"query": [{"vector": [1e300] * 24}]}, "float32"),
        ("/search", {"query": [{"item": "gone"}]}, "no item 'gone'"),
        ("/search", {"query": [{"image": "/etc/passwd"}]}, "no paths"),
        ("/search", {"query": [{"image": "file:///etc/passwd"}]}, "no paths"),
        ("/search", {"query": [{"image": "http://127.0.0.1:1/a.png"}]}, "no addresses"),
        ("/search", {"query": [{"image": "data:image/png;base64,!!"}]}, "base64"),
        ("/search", {"query": [{"image": "data:image/png;base64,aGk="}]}, "can't be read"),
        ("/search", {"query": "a" * 40_000}, "32,768 characters"),
        ("/search", {"query": "a", "combine": "edit"}, "one picture and one text"),
        ("/labels", {"key": "item-0", "image": "x"}, "either"),
        ("/labels", {}, "either"),
        ("/labels", {"image": "item-0"}, "no paths"),
        ("/explain", {"key": "item-0", "vocabulary": []}, "vocabulary"),
        ("/explain", {"key": "item-0", "vocabulary": [" "]}, "none of them empty"),
        ("/heatmap", {"key": "item-0", "text": ""}, "text"),
        ("/heatmap", {"key": "item-0", "text": " "}, "what to look for"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(
    client: TestClient, path: str, body: Any, told: str
) -> None:
    assert told in _refusal(client.post(path, json=body), 400)


def test_what_is_no_json_is_told(client: TestClient) -> None:
    def post(content: bytes, kind: str = "application/json") -> Any:
        return client.post("/search", content=content, headers={"content-type": kind})

    for content in (b"", b"{", b"\xff", b'{"query": NaN}', b"[" * 100_000, b'{"query": "\\ud800"}'):
        assert "JSON" in _refusal(post(content), 400)
    assert "dictionary" in _refusal(post(b"[]"), 400)
    assert "application/json" in _refusal(post(b"{}", "text/plain"), 415)
    bad = {"start": -1}, {"count": 0}, {"count": 5000}, {"start": "x"}, {"where": "{"}
    for params in bad:
        _refusal(client.get("/items", params=params), 400)
    assert "nothing here" in _refusal(client.get("/etc/passwd"), 404)
    assert "asked in this way" in _refusal(client.get("/search"), 405)


def test_bounds_hold(shapes: Index) -> None:
    with asked(shapes, body=1_000, pixels=5_000, texts=2, images=1, characters=20) as client:
        assert "at most 1,000 bytes" in _refusal(
            client.post("/search", json={"query": "a" * 2_000}), 413
        )
        chunks = client.post(
            "/search",
            content=(b"x" * 400 for _ in range(9)),
            headers={"content-type": "application/json"},
        )
        assert "at most 1,000 bytes" in _refusal(chunks, 413)
        large = {"query": [{"image": data_url(drawn("red", "bar", 80))}]}
        assert "80 x 80 pixels" in _refusal(client.post("/search", json=large), 400)
        embed = "/v1/embeddings"
        assert "2 texts" in _refusal(client.post(embed, json={"input": ["a"] * 3}), 400)
        assert "20 characters" in _refusal(client.post(embed, json={"input": "a" * 21}), 400)


def test_an_error_of_the_server_says_nothing_of_the_disk(
    shapes: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise DataError("/secret/place/items.db can't be read")

    def worse(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("/secret/place")

    with asked(shapes) as client:
        for error in (broken, worse):
            monkeypatch.setattr(shapes, "item", error)
            monkeypatch.setattr(shapes, "near", error)
            for answer in (
                client.get("/item", params={"key": "item-0"}),
                client.post("/search", json={"query": "red"}),
            ):
                assert _refusal(answer, 500) == "The server failed; its log says why."


# --- who may ask --------------------------------------------------------------------------------


def test_a_token_guards_all_but_the_page_and_health(shapes: Index) -> None:
    token = "a-token-of-some-length"
    with asked(shapes, token=token) as client:
        for path in ("/", "/health", "/page/app.js"):
            assert client.get(path).status_code == 200
        for path in ("/about", "/items", "/metrics", "/openapi.json", "/v1/models", "/nowhere"):
            answer = client.get(path)
            assert "Bearer" in _refusal(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
        for said in ("Bearer", "Bearer x", f"Basic {token}", f"Bearer {token}x", token, "Bearer é"):
            told = client.get("/about", headers={"authorization": said.encode()})
            _refusal(told, 401)
        for said in (f"Bearer {token}", f"bearer  {token}"):
            assert client.get("/about", headers={"authorization": said}).status_code == 200


def test_a_server_that_others_reach_gets_a_token() -> None:
    assert guarded(ServerConfig()).token == ""
    assert guarded(ServerConfig(host="::1")).token == ""
    made = guarded(ServerConfig(host="0.0.0.0"))
    assert len(made.token) >= 32 and made.token != guarded(ServerConfig(host="0.0.0.0")).token
    assert guarded(ServerConfig(host="192.168.1.4")).token
    with pytest.raises(ConfigError, match="at least 16"):
        ServerConfig(token="short")
    with pytest.raises(ConfigError, match="origin"):
        ServerConfig(origins=("shop.example",))
    with pytest.raises(ConfigError, match="seconds"):
        ServerConfig(seconds=0)


def test_pages_of_other_sites_may_not_ask(shapes: Index) -> None:
    with asked(shapes, names=("pictures.lan",), origins=("https://shop.example",)) as client:
        for host in ("evil.example", "127.0.0.1.evil.example", "", "localhost.evil", "10.0.0.1"):
            assert "own name" in _refusal(client.get("/about", headers={"host": host}), 403)
        for host in ("localhost:8000", "127.0.0.1", "[::1]:80", "pictures.lan", "LOCALHOST."):
            assert client.get("/about", headers={"host": host}).status_code == 200
        for origin in ("https://evil.example", "null", "http://localhost:9", "http://127.0.0.1"):
            _refusal(client.get("/about", headers={"origin": origin}), 403)
        own = client.get("/about", headers={"origin": "http://localhost"})
        assert own.status_code == 200 and "access-control-allow-origin" not in own.headers
        image = client.get("/image?key=item-0", headers={"sec-fetch-site": "cross-site"})
        _refusal(image, 403)
        known = {"origin": "https://shop.example"}
        told = client.get("/about", headers=known)
        assert told.headers["access-control-allow-origin"] == "https://shop.example"
        asked_first = client.options("/search", headers=known)
        assert asked_first.status_code == 204
        assert "authorization" in asked_first.headers["access-control-allow-headers"]


def test_every_answer_has_the_headers(client: TestClient) -> None:
    for path in ("/", "/about", "/nowhere", "/image?key=item-0", "/items?start=-1", "/metrics"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


# --- the page, the schema, the counts -----------------------------------------------------------


def test_the_page_is_a_fixed_set_of_files(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    tag = {"if-none-match": page.headers["etag"]}
    assert client.get("/", headers=tag).status_code == 304
    script = client.get("/page/app.js")
    assert script.headers["content-type"].startswith("text/javascript")
    for name in (
        "../app.py",
        "..%2fapp.py",
        "%2e%2e/app.py",
        "..%5capp.py",
        "%2fetc%2fpasswd",
        "app.js%00",
        "./app.js/../../app.py",
        "",
    ):
        assert client.get(f"/page/{name}").status_code == 404, name


def test_the_schema_knows_every_body_and_no_host_but_this(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    shapes = schema["components"]["schemas"]
    for path in ("/search", "/similar", "/heatmap", "/explain", "/labels", "/describe"):
        body = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert body["schema"]["$ref"].rpartition("/")[2] in shapes
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(schema)))
    assert named <= set(shapes)
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404


def test_counts_are_told_by_route_and_grow_with_no_name(client: TestClient) -> None:
    client.post("/search", json={"query": "red"})
    for number in range(5):
        client.get(f"/nowhere/{number}")
    text = client.get("/metrics").text
    assert 'lift_requests_total{method="POST",route="/search",status="200"} 1' in text
    assert 'lift_requests_total{method="any",route="other",status="404"} 5' in text
    assert 'lift_request_seconds_count{route="/search"} 1' in text
    assert 'lift_batch_size_count{worker="near"} 1' in text
    for name in ("lift_queue_depth", "lift_resident_bytes", "lift_items 30"):
        assert f"\n{name}" in text
    for line in text.splitlines():
        assert line.startswith("# ") or re.fullmatch(r"[a-z_]+(\{[^{}]*\})? [0-9.e+-]+", line)


def test_what_another_process_adds_is_found(shapes_folder: Path, tmp_path: Path) -> None:
    import shutil

    from lift.search.terms import Item

    folder = shutil.copytree(shapes_folder, tmp_path / "copy")
    reading = Index.open(folder, device="cpu")
    with reading, asked(reading, refresh_seconds=0.05) as client:
        with Index.open(folder, device="cpu", writes=True) as writing:
            writing.add([Item(key="new", texts={"title": ("a zebra",)})])
        wait_until(lambda: client.get("/health").json()["items"] == 31)
        asked_for = {"query": "a zebra", "top": 1, "kinds": ["text"]}
        assert _keys(client.post("/search", json=asked_for)) == ["new"]


def test_the_app_stands_alone(shapes: Index) -> None:
    """Without a config it is the app of this machine."""
    with TestClient(create_app(shapes), base_url="http://127.0.0.1:8000") as client:
        assert client.get("/health").status_code == 200
