"""Rows over HTTP from a real server on this machine, well-behaved and otherwise."""

from __future__ import annotations

import base64
import dataclasses
import email.utils
import json
import math
import re
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("httpcore2")

import stored_vectors
from embedding_server import Data, EmbeddingServer, Reply, Seen, error, tokenizer_folder
from lift.cache.writer import embed
from lift.config import part, to_json
from lift.errors import ConfigError, LiftError, NotFinite, ServerError
from lift.text.encoder import build_encoder, space_of
from lift.text.encoders._cuts import Counted, Estimate
from lift.text.encoders._http import Pace, retry_after

TEXTS = [f"{n} birds on a wire over house {n * 7}" for n in range(40)]
KEY = "sk-test-3f9a0c57e1"
WELL = Reply()


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as running:
        yield running


def client(server: EmbeddingServer | str, **options: Any) -> Any:
    url = server if isinstance(server, str) else server.url
    known = {"model": "m", "url": url, "dimensions": 64, "max_tokens": 512, "backoff": 0.01}
    return build_encoder(part("text/encoders", "api", **known | options), trusted=True)


def once(bad: Reply) -> Callable[[int, Seen], Reply]:
    return lambda number, seen: bad if number == 1 else WELL


def always(bad: Reply) -> Callable[[int, Seen], Reply]:
    return lambda number, seen: bad


def failure(encoder: Any, kind: type[LiftError], texts: list[str] = TEXTS[:2]) -> str:
    with pytest.raises(kind) as caught:
        encoder.encode(texts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same_rows(server: EmbeddingServer, found: Any, texts: list[str] = TEXTS) -> None:
    np.testing.assert_allclose(found.rows, server.encoder.encode(texts).rows, atol=1e-6)


def test_rows_are_those_of_the_server_in_order(server):
    encoder = client(server, batch_size=7, prompt="a photo of ")
    found = encoder.encode(TEXTS)
    same_rows(server, found, ["a photo of " + text for text in TEXTS])
    assert len(server.seen) == encoder.counts.requests == 6
    assert encoder.counts.repeats == 0
    assert {seen.path for seen in server.seen} == {"/v1/embeddings"}
    assert {tuple(seen.body) for seen in server.seen} == {("model", "input")}
    assert all(seen.key is None for seen in server.seen)


def test_batches_are_a_function_of_the_texts(server):
    encoder = client(server, batch_size=8, concurrency=4)
    encoder.encode(TEXTS, token_budget=60)
    first, server.seen = server.seen, []
    encoder.encode(TEXTS, token_budget=60)
    assert sorted(s.texts for s in first) == sorted(s.texts for s in server.seen)
    count = Estimate()
    for seen in server.seen:
        assert len(seen.texts) * max(count(text, 999)[1] for text in seen.texts) <= 60


def test_requests_are_full_whatever_the_lengths(server):
    texts = [f"number {n} " + "and more " * (n % 9) for n in range(64)]
    client(server, batch_size=16).encode(texts, token_budget=10_000)
    assert [len(seen.texts) for seen in server.seen] == [16] * 4


def test_rows_in_any_order_are_put_in_theirs(server):
    server.behave = always(Reply(edit=lambda data: data[::-1]))
    same_rows(server, client(server).encode(TEXTS))
    assert len(server.seen) == 2


def renumber(index: Any) -> Callable[[Data], Data]:
    return lambda data: [{**data[0], "index": index}, *data[1:]]


def refill(value: Any) -> Callable[[Data], Data]:
    def edit(data: Data) -> Data:
        vector = list(data[1]["embedding"])
        vector[3] = value
        return [data[0], {**data[1], "embedding": vector}, *data[2:]]

    return edit


TRANSIENT = {
    "500": (error(500, "boom"), r"500 \(boom\)"),
    "503": (error(503, "loading"), "503"),
    "429": (error(429, "Too Many Requests"), "429"),
    "fewer rows": (Reply(edit=lambda data: data[:-1]), r"1 row\(s\) for 2 text\(s\)"),
    "no rows": (Reply(body=b'{"object": "list"}'), "without a list"),
    "an index twice": (Reply(edit=renumber(1)), "two rows with the index 1"),
    "an index outside": (Reply(edit=renumber(2)), "index 2"),
    "no index": (Reply(edit=renumber(None)), "index None"),
    "no vector": (
        Reply(edit=lambda data: [{**item, "embedding": None} for item in data]),
        "no list of numbers",
    ),
    "words": (Reply(edit=refill("much")), "no list of numbers"),
    "HTML": (Reply(body=b"<html><body>Bad gateway</body></html>"), "not JSON"),
    "half an answer": (Reply(body=b'{"data": [{"index": 0, "emb'), "not JSON"),
    "a cut connection": (Reply(cut_after=700), "Error"),
    "no answer in time": (Reply(delay=0.6), "no answer in 0.3 seconds"),
    "drops of an answer": (Reply(drip=0.05), "no answer in 0.3 seconds"),
    "an empty answer": (Reply(body=b""), "not JSON"),
    "deep JSON": (Reply(body=b"[" * 100_000), "not JSON"),
}


@pytest.mark.parametrize("name", TRANSIENT)
def test_what_may_pass_is_asked_again_and_then_told(server, name):
    bad, words = TRANSIENT[name]
    server.behave = once(bad)
    encoder = client(server, timeout=0.3, retries=2)
    same_rows(server, encoder.encode(TEXTS[:2]), TEXTS[:2])
    assert (encoder.counts.requests, encoder.counts.repeats) == (2, 1)
    server.behave, server.seen = always(bad), []
    message = failure(encoder, ServerError)
    assert "in 3 tries" in message and "what is stored stays" in message
    assert len(server.seen) == 3
    assert re.search(words, message)


LASTING = {
    "400": (error(400, "no such field"), ConfigError, "answered 400 (no such field)"),
    "401": (error(401, "who are you"), ConfigError, "key_variable="),
    "404": (error(404, "model not found"), ConfigError, "check the url"),
    "dimensions": (
        error(400, "Invalid value for 'dimensions' = 5000. Must be less than or equal to 1536."),
        ConfigError,
        "answered 400 (Invalid value for 'dimensions'",
    ),
    "dimensions of vLLM": (
        error(400, "dimensions must be at most 1024 for input of this model"),
        ConfigError,
        "answered 400 (dimensions must be",
    ),
    "another option": (
        error(400, "user must have fewer than 64 letters"),
        ConfigError,
        "answered 400 (user",
    ),
    "compressed": (
        Reply(body=b"{}", headers={"content-encoding": "gzip"}),
        ServerError,
        "sent its answer compressed ('gzip')",
    ),
    "422": (error(422, "bad input"), ConfigError, "422 (bad input)"),
    "quota": (
        Reply(429, b'{"error": {"message": "pay", "code": "insufficient_quota"}}'),
        ConfigError,
        "quota",
    ),
    "hours": (error(429, "daily", retry_after="7200"), ServerError, "asks to wait 7,200 seconds"),
    "NaN": (Reply(edit=refill(math.nan)), NotFinite, repr(TEXTS[1])),
    "null": (Reply(edit=refill(None)), NotFinite, repr(TEXTS[1])),
    "infinity": (Reply(edit=refill(1e300)), NotFinite, repr(TEXTS[1])),
    "zeros": (
        Reply(edit=lambda data: [{**item, "embedding": [0.0] * 64} for item in data]),
        ServerError,
        "nothing but zeros",
    ),
    "another width": (
        Reply(edit=lambda data: [{**item, "embedding": [1.0] * 65} for item in data]),
        ConfigError,
        "65 values",
    ),
    "a huge body": (Reply(body=b" " * 3_000_000), ServerError, "more than 1,376,256 bytes"),
    "a long message": (error(400, "x" * 100_000), ConfigError, "xxx..."),
    "a redirect": (
        Reply(307, b"", {"location": "http://127.0.0.1:9/v1/embeddings"}),
        ConfigError,
        "'http://127.0.0.1:9/v1/embeddings', which is not followed",
    ),
}


@pytest.mark.parametrize("name", LASTING)
def test_what_stays_is_told_at_once(server, name):
    bad, kind, words = LASTING[name]
    server.behave = always(bad)
    message = failure(client(server), kind)
    assert words in message and len(message) < 700
    assert len(server.seen) == 1


def test_a_redirect_takes_nothing_along(server, monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    with EmbeddingServer() as other:
        server.behave = always(Reply(308, b"", {"location": f"{other.url}/embeddings"}))
        failure(client(server, key_variable="TEST_KEY"), ConfigError)
        assert not other.seen


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_kept_by_all(server, form):
    def behave(number: int, seen: Seen) -> Reply:
        if number != 1:
            return WELL
        when = email.utils.formatdate(time.time() + 1.5, usegmt=True)  # whole seconds
        return error(429, "slow down", retry_after="0.5" if form == "seconds" else when)

    server.behave = behave
    same_rows(server, client(server, concurrency=1, batch_size=20).encode(TEXTS))
    assert len(server.seen) == 3
    assert server.seen[1].time - server.seen[0].time >= 0.49


def test_retry_after_holds_the_other_threads():
    pace = Pace(None, None)
    assert pace.reserve(1) == 0
    pace.hold(5)
    assert 4.9 < pace.reserve(1) <= 5


def test_retry_after_values():
    assert retry_after("12") == 12
    assert retry_after("-3") == retry_after("Fri, 31 Dec 1999 23:59:59 GMT") == 0
    assert retry_after(None) is retry_after("soon") is None
    assert 8 < (retry_after(email.utils.formatdate(time.time() + 10, usegmt=True)) or 0) <= 10


def test_pauses_grow(server):
    server.behave = always(error(500, "boom"))
    failure(client(server, backoff=0.05, retries=3), ServerError)
    times = [seen.time for seen in server.seen]
    gaps = np.diff(times)
    assert len(gaps) == 3
    assert all(gap >= least for gap, least in zip(gaps, (0.015, 0.04, 0.09), strict=True))


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    assert "in 3 tries" in failure(client(url), ServerError)  # though eight repeats are allowed


def test_one_failure_ends_the_waiting_of_all(server):
    def behave(number: int, seen: Seen) -> Reply:
        return error(500, "later", retry_after="300") if number < 4 else error(401, "no")

    server.behave = behave
    encoder = client(server, batch_size=1, concurrency=4)
    start = time.monotonic()
    # The pause holds every new request, so the fourth has to be on its way before.
    with pytest.raises(LiftError):
        server.behave = lambda number, seen: dataclasses.replace(
            behave(number, seen), delay=0.2 if number < 4 else 0.3
        )
        encoder.encode(TEXTS)
    assert time.monotonic() - start < 2
    assert len(server.seen) == 4


def test_requests_run_at_once_and_no_more(server):
    server.behave = always(Reply(delay=0.05))
    same_rows(server, client(server, batch_size=2, concurrency=4).encode(TEXTS))
    assert server.most_at_once == 4
    server.most_at_once, server.behave = 0, always(Reply(delay=0.002))
    client(server, batch_size=4, concurrency=1).encode(TEXTS)
    assert server.most_at_once == 1


def test_requests_a_minute(server):
    client(server, batch_size=4, concurrency=8, requests_per_minute=1_200).encode(TEXTS)
    times = [seen.time for seen in server.seen]
    assert len(times) == 10
    assert 0.35 < times[-1] - times[0] < 1.5  # 0.45 as sent, 0.05 where nothing holds them


def test_the_pace_spaces_evenly():
    pace = Pace(1_200, None)
    np.testing.assert_allclose([pace.reserve(9) for _ in range(4)], [0, 0.05, 0.1, 0.15], atol=0.01)
    pace = Pace(1_200, 6_000)
    np.testing.assert_allclose([pace.reserve(n) for n in (9, 1, 1)], [0, 0.09, 0.14], atol=0.01)


def test_tokens_a_minute(server):
    encoder = client(server, batch_size=4, concurrency=8, tokens_per_minute=30_000)
    tokens = int(encoder.encode(TEXTS).tokens.sum())
    times = [seen.time for seen in server.seen]
    assert 0.6 * tokens / 500 < times[-1] - times[0] < 2


def test_repeats_count_for_the_pace(server):
    server.behave = lambda number, seen: error(500, "boom") if number < 5 else WELL
    client(server, requests_per_minute=600).encode(TEXTS[:1])
    assert len(server.seen) == 5
    assert server.seen[-1].time - server.seen[0].time > 0.3


def test_base64_where_asked_and_where_not(server):
    plain = client(server).encode(TEXTS).rows
    exact = client(server, ask_base64=True).encode(TEXTS).rows
    assert server.seen[-1].body["encoding_format"] == "base64"
    np.testing.assert_array_equal(plain, exact)

    def unasked(data: Data) -> Data:
        packed = [np.array(item["embedding"], "<f4").tobytes() for item in data]
        return [
            {**item, "embedding": base64.b64encode(row).decode()}
            for item, row in zip(data, packed, strict=True)
        ]

    server.behave = always(Reply(edit=unasked))
    np.testing.assert_array_equal(client(server).encode(TEXTS).rows, plain)
    server.behave = always(Reply(edit=lambda data: [{**d, "embedding": "AAA"} for d in data]))
    assert "no list of numbers" in failure(client(server, retries=0), ServerError)


def test_rows_have_unit_length_whatever_the_server_sends(server):
    def longer(data: Data) -> Data:
        return [{**d, "embedding": [7 * value for value in d["embedding"]]} for d in data]

    server.behave = always(Reply(edit=longer))
    same_rows(server, client(server).encode(TEXTS))


REFUSALS = {
    "OpenAI": (400, "Requested 416735 tokens, max 300000 tokens per request"),
    "vLLM": (400, "This model's maximum context length is 512 tokens, however ..."),
    "TEI": (422, "batch size 40 > maximum allowed batch size 4"),
    "TEI, by bytes": (413, "Failed to buffer the request body: length limit exceeded"),
    "OpenAI, by the minute": (
        429,
        "Request too large for text-embedding-3-small in organization org on tokens per min (TPM): "
        "Limit 40000, Requested 65536.",
    ),
    "OpenAI, by count": (400, "Expected an array with maximum length 4, but got one with 32."),
    "a gateway": (400, "input must have less than or equal to 4 items"),
    "llama.cpp": (500, "input (992 tokens) is too large to process. increase the batch size"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_batch_that_is_too_large_is_halved(server, name):
    refusal = error(*REFUSALS[name])
    server.behave = lambda number, seen: refusal if len(seen.texts) > 4 else WELL
    encoder = client(server, concurrency=1)
    same_rows(server, encoder.encode(TEXTS))
    sizes = [len(seen.texts) for seen in server.seen]
    assert sizes == [32, 16, 8, 4, 4, 8, 4, 4, 16, 8, 4, 4, 8, 4, 4, 8, 4, 4]
    server.behave, server.seen = always(refusal), []
    message = failure(encoder, ConfigError, [TEXTS[0]])
    assert "does not take the text '0 birds" in message and "smaller max_tokens" in message
    assert len(server.seen) == 1


def test_the_width_is_asked_once(server):
    encoder = client(server, dimensions=None)
    assert encoder.space.dimensions == 64
    assert len(server.seen) == 1
    assert encoder.part.options["dimensions"] == 64
    assert client(server).space == encoder.space == space_of(encoder.part)
    assert len(server.seen) == 1
    with pytest.raises(ConfigError, match="give dimensions="):
        space_of(part("text/encoders", "api", model="m", max_tokens=9))
    with pytest.raises(ConfigError, match="give max_tokens="):
        client(server, dimensions=None, max_tokens=None)
    assert len(server.seen) == 1


def test_dimensions_are_declared_or_asked_for(server):
    encoder = client(server, ask_dimensions=16)
    assert encoder.space.dimensions == 16
    assert encoder.encode(TEXTS).rows.shape == (40, 16)
    assert server.seen[-1].body["dimensions"] == 16
    assert build_encoder(encoder.part, trusted=True).space == encoder.space
    assert client(server, dimensions=16).space.fingerprint != encoder.space.fingerprint
    same = client(server, dimensions=None, ask_dimensions=16).space
    assert same.fingerprint == encoder.space.fingerprint
    server.behave = always(
        Reply(edit=lambda data: [{**d, "embedding": d["embedding"] * 4} for d in data])
    )
    assert "not obey ask_dimensions" in failure(encoder, ConfigError)


def test_models_of_openai_are_known():
    found = space_of(part("text/encoders", "api", model="text-embedding-3-large"))
    assert (found.dimensions, found.max_tokens, found.normalised) == (3_072, 8_191, True)


def test_matryoshka_is_what_is_documented_or_declared(server):
    assert not client(server).matryoshka
    assert client(server, matryoshka=True).matryoshka
    assert client(server, model="openai/text-embedding-3-small").matryoshka
    assert not client(server, model="text-embedding-3-small", matryoshka=False).matryoshka


def test_the_version_that_a_user_declares_is_in_the_fingerprint(server):
    prints = {client(server, revision=word).space.fingerprint for word in ("", "1", "2026-09")}
    assert len(prints) == 3


def test_the_key_is_sent_and_shown_nowhere(server, monkeypatch):
    monkeypatch.setenv("TEST_KEY", f" {KEY}\n")
    encoder = client(server, key_variable="TEST_KEY", retries=0)
    encoder.encode(TEXTS)
    assert {seen.key for seen in server.seen} == {f"Bearer {KEY}"}
    shown = [to_json(encoder.part), encoder.space.to_json(), repr(encoder), repr(vars(encoder))]
    for bad in (
        error(401, f"Incorrect API key provided: {KEY}."),
        error(500, f"failed for {KEY}"),
        Reply(302, b"", {"location": f"http://elsewhere/?key={KEY}"}),
        Reply(cut_after=300),
        Reply(delay=0.4),
        Reply(body=b"{"),
    ):
        server.behave = always(bad)
        encoder = client(server, key_variable="TEST_KEY", retries=0, timeout=0.2)
        try:
            encoder.encode(TEXTS[:2])
        except LiftError as caught:
            shown.append("".join(traceback.format_exception(caught)))
            assert caught.__cause__ is None
    assert len(shown) == 10
    assert not any(KEY in text for text in shown)
    assert "[key]" in "".join(shown)


def test_a_key_goes_to_nobody_it_is_not_for(monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ConfigError, match="in the clear") as caught:
        client("http://192.168.1.7:11434/v1", key_variable="TEST_KEY")
    assert KEY not in str(caught.value)
    client("http://192.168.1.7:11434/v1")  # a LAN without keys: nothing secret travels
    client("https://gateway.example/v1", key_variable="TEST_KEY")
    for url, sent in (("https://gateway.example/v1", ""), ("https://api.openai.com/v1", KEY)):
        assert client(url)._server._key == sent


def test_keys_that_are_none(monkeypatch):
    monkeypatch.delenv("TEST_KEY", raising=False)
    with pytest.raises(ConfigError, match="TEST_KEY is not set"):
        client("https://gateway.example/v1", key_variable="TEST_KEY")
    monkeypatch.setenv("TEST_KEY", "sk-\u00fc\u2026")
    with pytest.raises(ConfigError, match="beyond ASCII") as caught:
        client("https://gateway.example/v1", key_variable="TEST_KEY")
    assert "\u00fc" not in str(caught.value)
    for secret in (KEY, "AKIAIOSFODNN7EXAMPLE", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"):
        with pytest.raises(ConfigError, match="NAME") as caught:
            client("https://gateway.example/v1", key_variable=secret)
        assert secret not in str(caught.value)
    monkeypatch.setenv("MYCOMPANYGATEWAYKEY2", KEY)  # a name like a key, but there is such a one
    client("https://gateway.example/v1", key_variable="MYCOMPANYGATEWAYKEY2")


@pytest.mark.parametrize("option", ["model", "prompt", "revision"])
def test_half_a_character(server, option):
    with pytest.raises(ConfigError, match=f"{option}=.*not valid Unicode"):
        client(server, **{option: "caf\udce9 "})


@pytest.mark.parametrize(
    "url", ["localhost:11434", "ftp://x/v1", "http://", "http://x:99999/v1", "http://a b/v1", ""]
)
def test_no_address(url):
    with pytest.raises(ConfigError, match="no address"):
        client(url)


@pytest.mark.parametrize("url", ["https://me:secret@x/v1", "https://x/v1?key=secret"])
def test_secrets_have_no_place_in_an_address(url):
    with pytest.raises(ConfigError, match="key_variable") as caught:
        client(url)
    assert "secret" not in str(caught.value)


def test_the_endpoint_itself_is_an_address_too(server):
    same_rows(server, client(f"{server.url}/embeddings").encode(TEXTS))
    same_rows(server, client(f"{server.url}/").encode(TEXTS))
    assert {seen.path for seen in server.seen} == {"/v1/embeddings"}


@pytest.mark.parametrize(
    "options",
    [
        *({"batch_size": 0}, {"timeout": 0.0}, {"retries": -1}, {"ask_dimensions": 65}),
        *({"timeout": math.nan}, {"timeout": math.inf}, {"timeout": 1e300}, {"backoff": math.nan}),
    ],
)
def test_nonsense_options_are_refused(options):
    with pytest.raises(ConfigError):
        client("http://localhost:1/v1", **options)


STORED = {
    "a paid server": {"url": "https://api.openai.com/v1", "key_variable": None},
    "this machine": {},
    "a server that build would ask": {"dimensions": None},
    "any variable": {"url": "https://evil.example/v1", "key_variable": "AWS_SECRET_ACCESS_KEY"},
}


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("inside", [False, True])
def test_parts_of_strangers_ask_nobody(server, tmp_path, monkeypatch, name, inside):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    known = {"model": "m", "url": server.url, "dimensions": 64, "max_tokens": 512}
    stored = part("text/encoders", "api", **known | STORED[name])
    if inside:
        rows = stored_vectors.write_npy(tmp_path, TEXTS)
        stored = part("text/encoders", "vectors", path=str(rows), of=stored)
    with pytest.raises(ConfigError, match=r"not taken from files; .*--encoder api:") as caught:
        build_encoder(stored)
    assert KEY not in str(caught.value)
    assert not server.seen


def test_parts_of_strangers_open_no_file(tmp_path):
    (tmp_path / "secret.txt").write_text("top secret")
    for tokenizer in (str(tmp_path / "secret.txt"), "nobody/of-the-hub"):
        stored = part("text/encoders", "api", model="text-embedding-3-small", tokenizer=tokenizer)
        inside = part("text/encoders", "vectors", path="rows.npy", of=stored)
        for each in (stored, inside):
            with pytest.raises(ConfigError, match="what is read here is not taken from files"):
                space_of(each)
    assert space_of(part("text/encoders", "api", model="text-embedding-3-small")).dimensions == 1536


def test_vectors_of_ones_own_server(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    rows = tmp_path / "rows.npy"
    np.save(rows, server.encoder.encode(TEXTS).rows)
    rows.with_suffix(".txt").write_text("\n".join(TEXTS) + "\n")
    known = {"model": "m", "url": server.url, "dimensions": 64, "max_tokens": 512}
    own = {"tokenizer": str(tokenizer_folder()), "key_variable": "TEST_KEY"}
    live = part("text/encoders", "api", **known, **own)
    stored = part("text/encoders", "vectors", path=str(rows), of=live)
    encoder = build_encoder(stored, trusted=True)
    # A few rows are compared with what the server makes, asked as the user said.
    assert {seen.key for seen in server.seen} == {f"Bearer {KEY}"}
    assert encoder.space == space_of(stored, trusted=True) == space_of(live, trusted=True)


def test_a_prompt_that_fills_the_cap(server):
    prompt = "Represent this caption for retrieval of images : "
    count = Estimate()(prompt, 99)[1]
    for options in ({"max_tokens": count}, {"max_tokens": 2, "dimensions": None}):
        with pytest.raises(ConfigError, match="no room for a text") as caught:
            client(server, prompt=prompt, tokenizer=None, **options)
        assert f"max_tokens={options['max_tokens']}" in str(caught.value)
    with pytest.raises(ConfigError, match="no room for a text"):
        client(server, max_tokens=2, tokenizer=str(tokenizer_folder()))  # <s> and </s> fill it
    found = client(server, prompt=prompt, max_tokens=count + 1).encode(["dogs", "cats"])
    assert not np.allclose(found.rows[0], found.rows[1])


def test_texts_are_cut_before_they_are_sent(server):
    long = "very " * 100
    found = client(server, max_tokens=16).encode(["a dog", long])
    assert found.tokens.tolist() == [2, 100]
    assert found.truncated.tolist() == [False, True]
    assert server.seen[0].texts == [("very " * 16).strip(), "a dog"]
    assert found.padded == 0


def test_the_estimate_is_defined():
    count = Estimate()
    words = {
        "": 0,
        "a dog": 2,
        "standing on it.": 5,
        "naïve": 2,
        "Собака": 2,
        "犬が公園": 4,
        "🐕🏖": 2,
        "don't": 3,
        "  \n": 0,
    }
    assert {text: count(text, 99)[1] for text in words} == words
    for text in [*words, *TEXTS]:
        for cap in range(1, 12):
            short, whole = count(text, cap)
            assert text.startswith(short)
            assert count(short, 99)[1] == min(cap, whole)


def test_a_tokenizer_counts_and_cuts_exactly(server):
    from tokenizers import Tokenizer

    folder = tokenizer_folder()
    truth = Tokenizer.from_file(str(folder / "tokenizer.json"))
    truth.no_truncation()
    texts = ["a dog", "日本の犬が公園で走っています。", "🐕🏖️ " * 9 + ".", *TEXTS[:5], "a" * 300]
    found = client(server, max_tokens=16, tokenizer=str(folder)).encode(texts)
    assert found.tokens.tolist() == [len(truth.encode(text).ids) for text in texts]
    np.testing.assert_array_equal(found.truncated, found.tokens > 16)
    assert found.truncated.any() and not found.truncated.all()
    sent = [text for seen in server.seen for text in seen.texts]
    for text, tokens in zip(texts, found.tokens, strict=True):
        near = [short for short in sent if text.startswith(short) and short]
        assert any(short == text if tokens <= 16 else len(short) < len(text) for short in near)
    assert max(len(truth.encode(text).ids) for text in sent) <= 16
    assert max(len(truth.encode(text).ids) for text in sent) == 16


def test_a_cut_never_ends_inside_of_a_character():
    cut = Counted(tokenizer_folder() / "tokenizer.json")
    for cap in range(1, 20):
        short, tokens = cut("🐕 日本 犬", cap)
        assert tokens > 6 and "🐕 日本 犬".startswith(short)
        assert cap < 3 or cut(short, 99)[1] <= cap


def test_the_tokenizer_is_known_by_its_content(server, tmp_path, monkeypatch):
    file = tokenizer_folder() / "tokenizer.json"
    copy = tmp_path / "tokenizer.json"
    copy.write_text(file.read_text())
    here, there = (client(server, tokenizer=str(p)).space for p in (file.parent, copy))
    assert here == there
    monkeypatch.chdir(tmp_path)
    stored = client(server, tokenizer=".").part
    monkeypatch.chdir("/")
    assert space_of(stored, trusted=True) == here
    assert here.fingerprint != client(server).space.fingerprint
    copy.write_text(file.read_text() + "\n")
    assert client(server, tokenizer=str(tmp_path)).space != here
    copy.write_text("{}")
    with pytest.raises(ConfigError, match="no tokenizer that"):
        client(server, tokenizer=str(tmp_path))
    copy.unlink()
    with pytest.raises(ConfigError, match="the folder has none"):
        client(server, tokenizer=str(tmp_path))
    with pytest.raises(ConfigError, match=r"no tokenizer\.json"):
        client(server, tokenizer="nobody/nothing-at-all")


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".json", ".arrow")}


@pytest.fixture(scope="module")
def captions() -> list[str]:
    return [f"{n} {'small ' * (n % 7)}birds over house {n * 7}" for n in range(400)]


def test_a_cache_through_a_server_that_fails_is_bit_equal(server, captions, tmp_path):
    def store(name: str) -> dict[str, bytes]:
        encoder = client(server, batch_size=8)
        embed(captions, encoder, tmp_path / name, rows_per_shard=150, progress=False)
        return contents(tmp_path / name)

    well = store("well")
    requests = len(server.seen)
    kinds = [TRANSIENT[name][0] for name in ("500", "fewer rows", "HTML", "a cut connection")]

    def behave(number: int, seen: Seen) -> Reply:
        return kinds[number // 5 % len(kinds)] if number % 5 == 0 else WELL

    server.behave, server.seen = behave, []
    assert store("ill") == well
    assert len(server.seen) == requests + len(server.seen) // 5 > requests


def test_a_width_that_changes_in_mid_run_loses_nothing(server, captions, tmp_path):
    encoder = client(server, batch_size=8, concurrency=2)
    embed(captions, encoder, tmp_path / "well", rows_per_shard=150, progress=False)
    server.seen = []
    other = Reply(edit=lambda data: [{**d, "embedding": [1.0] * 32} for d in data])
    server.behave = lambda number, seen: WELL if number <= 30 else other
    with pytest.raises(ConfigError, match="32 values"):
        embed(captions, encoder, tmp_path / "ill", rows_per_shard=150, progress=False)
    server.behave = always(WELL)
    report = embed(captions, encoder, tmp_path / "ill", rows_per_shard=150, progress=False)
    assert report.stored == 150 and report.embedded == 250
    assert contents(tmp_path / "ill") == contents(tmp_path / "well")


def test_the_cache_stores_no_key(server, captions, tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    embed(captions[:20], client(server, key_variable="TEST_KEY"), tmp_path / "c", progress=False)
    plan = json.loads((tmp_path / "c" / "plan.json").read_text())
    assert server.url in json.dumps(plan)
    assert not any(KEY.encode() in stored for stored in contents(tmp_path / "c").values())
