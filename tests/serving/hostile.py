"""Requests of somebody who means harm: bytes to send, and how slowly."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from PIL import Image

from serving.in_memory import drawn

PATHS = (
    "../../../../etc/passwd",
    "/etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "....//....//etc/passwd",
    "..\\..\\windows\\win.ini",
    "/proc/self/environ",
    "items.db",
    "%00/etc/passwd",
    "file:///etc/passwd",
    "//evil.example/x",
    "~root/.bashrc",
)
ROUTES = ("/search", "/similar", "/heatmap", "/explain", "/labels", "/describe", "/v1/embeddings")
LARGE = 300_000
"""Bytes of a body that is larger than the server of these tests takes."""


class Attack(NamedTuple):
    """Bytes that are sent, in pieces with seconds between them.

    Attributes:
        kind: for messages.
        pieces: what is sent.
        pause: seconds between two pieces.
        leaves: whether the client closes without waiting for an answer.
    """

    kind: str
    pieces: tuple[bytes, ...]
    pause: float = 0.0
    leaves: bool = False


def attacks(count: int, seed: int = 0) -> Iterator[Attack]:
    """Yield attacks of all kinds in turn, each with its own dice."""
    makers: tuple[Callable[[random.Random], Attack], ...] = (
        *(_garbage, _truncated, _lengths, _headers, _targets, _keys, _files, _pipelined, _upgrade),
        *(_wrong_types, _deep, _numbers, _strings, _no_json, _wide, _filters, _queries),
        *(_image_paths, _broken_images, _bombs, _base64, _other_files, _many_images),
        *(_too_large, _too_large_in_chunks, _slow_header, _slow_body, _silent, _gone, _tokens),
    )
    for number in range(count):
        yield makers[number % len(makers)](random.Random(f"{seed}/{number}"))


def request(
    method: str, target: str, body: bytes = b"", headers: tuple[str, ...] = (), length: Any = None
) -> bytes:
    """Return a request as it goes over the line."""
    told = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    if body or length is not None:
        told += [f"Content-Length: {len(body) if length is None else length}"]
    if body and not any(line.lower().startswith("content-type") for line in headers):
        told += ["Content-Type: application/json"]
    return "\r\n".join(told).encode("latin-1", "replace") + b"\r\n\r\n" + body


def _post(kind: str, path: str, body: Any) -> Attack:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Attack(kind, (request("POST", path, content),))


def _url(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _with_image(kind: str, dice: random.Random, image: str) -> Attack:
    path = dice.choice(ROUTES)
    body: dict[str, Any] = {"image": image}
    if path == "/heatmap":
        body["text"] = "a circle"
    if path in ("/search", "/similar"):
        path, body = "/search", {"query": [{"image": image}]}
    if path == "/v1/embeddings":
        body = {"input": [dice.choice([{"image": image}, {"image_url": {"url": image}}])]}
    return _post(kind, path, body)


# --- the protocol -------------------------------------------------------------------------------


def _garbage(dice: random.Random) -> Attack:
    known = (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\0" * 500,
        b"\r\n" * 90,
    )
    noise = dice.randbytes(dice.randint(1, 3_000)) + b"\r\n\r\n"
    return Attack("garbage", (dice.choice([*known, noise, noise]),))


def _truncated(dice: random.Random) -> Attack:
    whole = request("POST", "/search", b'{"query": "red"}')
    return Attack("truncated", (whole[: dice.randint(1, len(whole) - 1)],), leaves=True)


def _lengths(dice: random.Random) -> Attack:
    lengths = ("-1", "1e3", "99999999999999999999", "0x10", "+5", "5, 6", "", "²")
    twice = ("Content-Length: 3", "Transfer-Encoding: chunked")
    if dice.random() < 0.3:
        return Attack("both lengths", (request("POST", "/search", b"{}", twice),))
    return Attack("length", (request("POST", "/search", b"{}", length=dice.choice(lengths)),))


def _headers(dice: random.Random) -> Attack:
    headers = dice.choice(
        [
            (f"X-Long: {'a' * 200_000}",),
            tuple(f"X-{number}: {number}" for number in range(9_000)),
            ("Bad Name: x",),
            ("X-Folded: a\r\n b",),
            ("Host: localhost",),
            ("X-Null: a\0b",),
            ("Authorization: Bearer " + "x" * 5_000,),
            ("Expect: 100-continue",),
            ("Content-Encoding: gzip",),
            ("If-None-Match: " + '"x",' * 2_000,),
            ("Origin: null", "Sec-Fetch-Site: cross-site"),
        ]
    )
    return Attack("headers", (request("POST", "/search", b'{"query": "red"}', headers),))


def _targets(dice: random.Random) -> Attack:
    method = dice.choice(
        ["GET", "PUT", "DELETE", "TRACE", "CONNECT", "HEAD", "PATCH", "G\x01T", "x" * 90]
    )
    target = dice.choice(
        ["*", "/" + "a/" * 5_000, "http://evil.example/", "/%", "/%ff%fe", "/é", ""]
    )
    return Attack("target", (request(method, target),))


def _keys(dice: random.Random) -> Attack:
    route = dice.choice(["/image?key=", "/item?key=", "/items?where=", "/items?start="])
    more = dice.choice(["", "&number=-1", "&number=99999999999999999999", "&key=a&key=b"])
    return Attack("key", (request("GET", route + dice.choice(PATHS) + more),))


def _files(dice: random.Random) -> Attack:
    front = dice.choice(["/page/", "/", "/v1/models/", "/page/../", "/static/", "//page/"])
    return Attack("file", (request("GET", front + dice.choice(PATHS)),))


def _pipelined(dice: random.Random) -> Attack:
    good = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    many = good * dice.randint(2, 40)
    return Attack("pipelined", (many + dice.randbytes(dice.randint(0, 200)) + b"\r\n\r\n",))


def _upgrade(dice: random.Random) -> Attack:
    kind = dice.choice(["websocket", "h2c", "tls/1.0", "x" * 300])
    headers = ("Upgrade: " + kind, "Connection: Upgrade", "Sec-WebSocket-Key: x")
    return Attack(
        "upgrade", (request("GET", dice.choice(["/", "/search", "/ws"]), headers=headers),)
    )


# --- JSON ---------------------------------------------------------------------------------------

VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 10**400, -(10**30), "", "x", [], {}, [[]], [None], {"a": 1}),
    *({"query": "x"}, "\0", "\u202e", "x" * 5_000, [[1, 2]], [{}], {"url": 3}, ["a", 1]),
)
FIELDS = (
    *("query", "combine", "top", "where", "kinds", "merge", "key", "image", "text", "input"),
    *("vocabulary", "model", "encoding_format", "dimensions", "weight", "vector", "__class__"),
)


def _wrong_types(dice: random.Random) -> Attack:
    body = {dice.choice(FIELDS): dice.choice(VALUES) for _ in range(dice.randint(0, 6))}
    return _post("types", dice.choice(ROUTES), body)


def _deep(dice: random.Random) -> Attack:
    depth = dice.choice([150, 250, 5_000, 60_000])
    opened, closed = dice.choice([("[", "]"), ('{"query":', "}"), ('{"where":{"a":', "}}")])
    closed = closed * depth if dice.random() < 0.5 else ""
    text = '{"query": "red", "where": ' + opened * min(depth, 20_000) + "1" + closed + "}"
    return _post("deep", dice.choice(ROUTES), text.encode()[: LARGE // 2])


def _numbers(dice: random.Random) -> Attack:
    number = dice.choice(
        ["NaN", "Infinity", "-1e999", "9" * 6_000, "1e-9999", "0" * 500, "1.0e+", "-"]
    )
    body = dice.choice(
        [
            '{"query":"a","top":%s}',
            '{"query":[{"vector":[%s]}]}',
            '{"query":[{"text":"a","weight":%s}]}',
        ]
    )
    return _post("numbers", "/search", (body % number).encode())


def _strings(dice: random.Random) -> Attack:
    text = dice.choice(
        [
            '"\\ud800"',
            '"\\u0000"',
            '"' + "\\u202e" * 900 + '"',
            '"\udcff"',
            '"a\nb"',
            '"' + "é" * 60_000 + '"',
        ]
    )
    content = f'{{"query": {text}}}'.encode("utf-8", "surrogatepass")
    return _post("strings", "/search", content)


def _no_json(dice: random.Random) -> Attack:
    kinds = ("text/plain", "multipart/form-data; boundary=x", "application/xml", "application/json")
    headers = (f"Content-Type: {dice.choice(kinds)}",)
    content = dice.choice(
        [
            b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
            b"--x--",
            b"\xff\xfe{",
            b"PK\x03\x04" + dice.randbytes(300),
            b"null",
            b"{'query': 'a'}",
        ]
    )
    return Attack("no JSON", (request("POST", dice.choice(ROUTES), content, headers),))


def _wide(dice: random.Random) -> Attack:
    body = dice.choice(
        [
            {"query": [{"text": "a"}] * 5_000},
            {"query": [{"vector": [0.1] * 20_000}]},
            {"query": "a", "where": {f"f{i}": i for i in range(4_000)}},
            {"query": "a", "where": {"price": list(range(20_000))}},
            {f"f{i}": 1 for i in range(9_000)},
            {"input": ["a"] * 20_000},
            {"key": "item-0", "vocabulary": ["a"] * 4_000},
        ]
    )
    return _post(
        "wide", "/v1/embeddings" if "input" in body else dice.choice(["/search", "/explain"]), body
    )


def _filters(dice: random.Random) -> Attack:
    where = dice.choice(
        [
            "a=" + "b|" * 500,
            "'",
            "a=1; DROP TABLE items",
            "a~%",
            "' OR 1=1 --=x",
            "a=\0",
            "=" * 4_000,
            "a<x",
            'a="',
            "price=1e99",
        ]
    )
    if dice.random() < 0.5:
        return _post("filter", "/search", {"query": "red", "where": where})
    from urllib.parse import quote

    return Attack("filter", (request("GET", "/items?where=" + quote(where)),))


def _queries(dice: random.Random) -> Attack:
    parts = [
        {"text": "a", "weight": dice.choice([0, -1, 1e6, -1e6])},
        {"item": dice.choice(["item-0", "x" * 5_000, *PATHS])},
        {"vector": [dice.choice([0, 1e38, -1e308, 1e-320])] * 24},
        {"text": "a" * dice.choice([0, 100_000])},
    ]
    body = {
        "query": dice.choices(parts, k=dice.randint(1, 16)),
        "combine": dice.choice(["sum", "edit"]),
    }
    return _post("query", "/search", body)


def _tokens(dice: random.Random) -> Attack:
    body = {"input": dice.choice([[1, 2, 3], [[1], [2]], [], "", [""], "a" * 100_000, ["a", 3]])}
    return _post(
        "tokens", "/v1/embeddings", {**body, "dimensions": dice.choice([None, 0, 3, 10**9])}
    )


# --- images -------------------------------------------------------------------------------------


def _image_paths(dice: random.Random) -> Attack:
    image = dice.choice(
        [
            *PATHS,
            "http://127.0.0.1/",
            "data:text/html;base64,PGI+",
            "data:,x",
            "data:image/png,x",
            "data:image/svg+xml;base64,PHN2Zz4=",
        ]
    )
    return _with_image("image path", dice, image)


def _broken_images(dice: random.Random) -> Attack:
    image = Image.effect_noise((40, 30), 60).convert("RGB")
    stream = io.BytesIO()
    image.save(stream, dice.choice(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA"]))
    content = bytearray(stream.getvalue())
    for _ in range(dice.randint(1, 40)):
        content[dice.randrange(len(content))] = dice.randrange(256)
    return _with_image("broken image", dice, _url(bytes(content[: dice.randint(4, len(content))])))


def _bombs(dice: random.Random) -> Attack:
    side = dice.choice([3_000, 60_000, 2_147_483_647, 0])
    kind = dice.choice(["png", "png", "bmp", "gif"])
    if kind == "bmp":
        head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
        return _with_image(
            "bomb", dice, _url(b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head, "bmp")
        )
    if kind == "gif":
        head = b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\x80\0\0\0\0\0\xff\xff\xff"
        return _with_image(
            "bomb", dice, _url(head + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;", "gif")
        )
    pixels = zlib.compress(bytes(4_000_000), 9)  # 4 KB that say 4 MB
    text = zlib.compress(bytes(30_000_000), 9) if dice.random() < 0.5 else b""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))]
    chunks += [(b"zTXt", b"k\0\0" + text)] if text else []
    chunks += [(b"IDAT", pixels)] * 3 + [(b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks
    )
    return _with_image("bomb", dice, _url(b"\x89PNG\r\n\x1a\n" + body))


def _base64(dice: random.Random) -> Attack:
    good = _url(drawn("red", "bar"))
    image = dice.choice(
        [
            good[:-7],
            good.replace("A", "-"),
            good + "====",
            good + "\n",
            "data:image/png;base64," + "A" * 100_001,
            "data:image/png;base64,",
            good.replace(";base64", ""),
        ]
    )
    return _with_image("base64", dice, image)


def _other_files(dice: random.Random) -> Attack:
    import zipfile

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(5_000_000))
    content = dice.choice(
        [
            stream.getvalue(),
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"\x7fELF" + bytes(60),
            b"%PDF-1.7\n",
            b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50),
            b"P6 999999999 999999999 255\n",
        ]
    )
    return _with_image("other file", dice, _url(content))


def _many_images(dice: random.Random) -> Attack:
    image = _url(drawn("blue", "circle", 20))
    count = dice.choice([17, 65, 300])
    if dice.random() < 0.5:
        return _post("many images", "/search", {"query": [{"image": image}] * count})
    return _post("many images", "/v1/embeddings", {"input": [image] * count})


# --- sizes and time -----------------------------------------------------------------------------


def _too_large(dice: random.Random) -> Attack:
    body = b'{"query": "' + b"a" * LARGE + b'"}'
    headers = ("Expect: 100-continue",) if dice.random() < 0.3 else ()
    return Attack("too large", (request("POST", dice.choice(ROUTES), body, headers),))


def _too_large_in_chunks(dice: random.Random) -> Attack:
    head = request(
        "POST",
        dice.choice(ROUTES),
        headers=("Transfer-Encoding: chunked", "Content-Type: application/json"),
    )
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    return Attack(
        "chunks",
        (head, chunk * (LARGE // 0x10000 + 2), dice.choice([b"0\r\n\r\n", b"zz\r\n", b""])),
    )


def _slow_header(dice: random.Random) -> Attack:
    whole = request("GET", "/health", headers=("X-Slow: " + "a" * 40,))
    pieces = tuple(whole[i : i + 4] for i in range(0, len(whole), 4))
    return Attack("slow header", pieces[: dice.randint(3, 12)], pause=0.2)


def _slow_body(dice: random.Random) -> Attack:
    whole = request("POST", "/search", b'{"query": "a red circle in the snow"}')
    middle = whole.index(b"\r\n\r\n") + 8
    pieces = (whole[:middle], *(bytes([byte]) for byte in whole[middle:]))
    return Attack("slow body", pieces[: dice.randint(4, 12)], pause=0.2)


def _silent(dice: random.Random) -> Attack:
    return Attack("silent", (b"",) if dice.random() < 0.5 else (b"GET",))


def _gone(dice: random.Random) -> Attack:
    body = json.dumps({"query": [{"text": f"a red circle {dice.random()}"}]}).encode()
    return Attack("gone", (request("POST", "/search", body),), leaves=True)
