"""Ways to spoil: bytes, values of JSON, csv and parquet, members of tars, chunks, names, links."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zlib
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from fuzz.seeds import HOME, IMAGE_ENDINGS, images

WHERE = st.integers(0, 1 << 20)
"""A place, as a share of the length."""

PATHS = (
    *("../outside/secret.png", "images/../../outside/secret.png", f"{HOME}/outside/secret.png"),
    *("./0.png", "a//0.png", "0.png/", "/", ".", "..", "\0.png", "0.png\0", "~/x.png", "\\0.png"),
    *("file:///etc/passwd", "http://127.0.0.1:9/x.png", "/dev/zero", "/proc/self/environ"),
    *("link.png", "pipe.png", "x" * 300 + ".png", "é.png", "e\u0301.png", "%2e%2e/secret.png"),
    *("../outside", "../data/0.png", "0.PNG", " 0.png", "C:\\x.png", "0.png#0", "*.png", "\u202e"),
)
TEXTS = (
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "\ud800",
        "\udcff",
        "a\ud83d",
        "\u202egnp.x",
        "\u0000",
        "\ufeff",
        "\ufffe",
    ),
    *(
        "👩‍👩‍👧‍👦" * 40,
        "שלום עולם",
        "x" * 30_000,
        "\n",
        "a\r\nb",
        "\u2028",
        "\x1c",
        "\x85",
        '"',
        '"",',
    ),
    *("null", "NaN", "true", "[", "{", '["a", null]', "[]", '{"a": 1}', "=cmd()", "1e999", "-0"),
    *("2012-03-04", "1" * 5000, "\t", ",", "a\tb", "|", ";", "#1", "0.png#1"),
)
NUMBERS = (
    *(0, -1, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, 1e-320),
    *(float("nan"), float("inf"), -float("inf"), True, False, None),
)
RAW = (
    "[" * 100_000,
    '{"a":' * 50_000,
    "1" * 5000,
    "nul",
    "01",
    "1e400",
    '"\\ud800"',
    "{}{}",
    "'a'",
)
"""JSON that Python would not write."""

VALUES = st.one_of(
    st.sampled_from(TEXTS + PATHS),
    st.sampled_from(["\0", "a\0b", "\ud800", "x\udcff", "", None]),
    st.sampled_from(NUMBERS),
    st.sampled_from([[], {}, [[]], [None], [""], [{}], {"": ""}, ["a", 1], ["a"] * 300]),
    st.integers(0, len(RAW) - 1).map(lambda raw: {"raw json": raw}),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
        max_leaves=6,
    ),
)

BYTE_OPS = st.one_of(
    st.tuples(st.just("flip"), WHERE, st.integers(0, 7)),
    st.tuples(
        st.just("put"),
        WHERE,
        st.binary(min_size=1, max_size=6)
        | st.sampled_from([b"\0" * 8, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80", b"\0\0\1\0"]),
    ),
    st.tuples(
        st.just("insert"),
        WHERE,
        st.binary(min_size=1, max_size=8) | st.sampled_from([b'"', b"\n", b"\0" * 512, b"{", b","]),
    ),
    st.tuples(st.just("cut"), WHERE, st.integers(1, 600)),
    st.tuples(st.just("end"), WHERE, st.none()),
    st.tuples(st.just("again"), WHERE, st.integers(1, 600)),
    st.tuples(st.just("swap"), WHERE, WHERE),
)


def bytes_spoiled(content: bytes, op: tuple[str, int, Any]) -> bytes:
    """Return bytes with one thing done to them."""
    kind, where, what = op
    at = where * max(0, len(content) - 1) >> 20
    if kind == "flip":
        return content[:at] + bytes(b ^ 1 << what for b in content[at : at + 1]) + content[at + 1 :]
    if kind == "put":
        return content[:at] + what + content[at + len(what) :]
    if kind == "insert":
        return content[:at] + what + content[at:]
    if kind == "cut":
        return content[:at] + content[at + what :]
    if kind == "end":
        return content[:at]
    if kind == "again":
        return content[: at + what] + content[at:]
    low, high = sorted((at, what * len(content) >> 20))
    width = min(64, high - low)
    a, b = content[low : low + width], content[high : high + width]
    return content[:low] + b + content[low + width : high] + a + content[high + width :]


# --- values -------------------------------------------------------------------------------------

VALUE_OPS = st.tuples(
    st.sampled_from(["replace", "replace", "replace", "delete", "again", "rename", "first"]),
    st.lists(st.integers(0, 9), min_size=1, max_size=4),
    VALUES,
)


def value_spoiled(value: Any, op: tuple[str, list[int], Any]) -> Any:
    """Return a copy of a JSON value with one thing in it changed."""
    kind, path, what = op
    if not path or not isinstance(value, dict | list) or not value:
        return what
    if isinstance(value, list):
        at = path[0] % len(value)
        inner = value[at]
        if len(path) > 1 and isinstance(inner, dict | list):
            return [*value[:at], value_spoiled(inner, (kind, path[1:], what)), *value[at + 1 :]]
        if kind == "delete":
            return value[:at] + value[at + 1 :]
        if kind == "again":
            return [*value, inner]
        if kind == "first":
            return [inner, *value[:at], *value[at + 1 :]]
        return [*value[:at], what, *value[at + 1 :]]
    name = list(value)[path[0] % len(value)]
    inner = value[name]
    if len(path) > 1 and isinstance(inner, dict | list):
        return {**value, name: value_spoiled(inner, (kind, path[1:], what))}
    if kind == "delete":
        return {n: v for n, v in value.items() if n != name}
    if kind == "rename":
        new = what if isinstance(what, str) else "other"
        return {new if n == name else n: v for n, v in value.items()}
    return {**value, name: what}


def as_json(value: Any, ascii_only: bool = True) -> bytes:
    """Return JSON, half pairs and raw pieces included."""
    raw: list[str] = []

    def held(value: Any) -> Any:
        if isinstance(value, dict):
            if list(value) == ["raw json"]:
                raw.append(RAW[value["raw json"]])
                return f"RAW{len(raw) - 1}RAW"
            return {name: held(v) for name, v in value.items()}
        return [held(v) for v in value] if isinstance(value, list) else value

    value = held(value)
    try:
        text = json.dumps(value, ensure_ascii=ascii_only)
    except ValueError:  # an integer of more digits than Python writes
        text = '{"number": ' + "9" * 5000 + "}"
    for number, piece in enumerate(raw):
        text = text.replace(f'"RAW{number}RAW"', piece)
    return text.encode("utf-8", "surrogatepass")


def _lines_spoiled(content: bytes, op: Any) -> bytes:
    """Spoil one row of jsonl."""
    rows = content.split(b"\n")
    at = op[1][0] % len(rows)
    try:
        row = json.loads(rows[at])
    except (ValueError, RecursionError):
        return content
    if op[0] == "first":
        rows.append(rows[at])
    rows[at] = as_json(value_spoiled(row, (op[0], op[1][1:], op[2])), len(op[1]) % 2 == 0)
    return b"\n".join(rows)


def _cells_spoiled(content: bytes, op: Any, mark: bytes) -> bytes:
    """Spoil one cell of csv or tsv, with quotes around it or without."""
    rows = content.split(b"\n")
    at = op[1][0] % len(rows)
    cells = rows[at].split(mark)
    column = (op[1][1] if len(op[1]) > 1 else 0) % len(cells)
    word = op[2] if isinstance(op[2], str) else as_json(op[2]).decode()
    new = word.encode("utf-8", "surrogatepass")
    if len(op[1]) > 2:
        new = b'"' + new.replace(b'"', b'""') + b'"'
    if op[0] == "delete":
        del cells[column]
    elif op[0] == "again":
        cells.append(cells[column])
    elif op[0] == "first":
        rows.append(rows[at])
    else:
        cells[column] = new
    rows[at] = mark.join(cells)
    return b"\n".join(rows)


_TYPES = (
    *(pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.int8(), pa.uint64()),
    *(pa.float16(), pa.float64(), pa.bool_(), pa.null(), pa.timestamp("ns"), pa.timestamp("s")),
    *(
        pa.timestamp("us", "Nowhere/Land"),
        pa.date32(),
        pa.date64(),
        pa.time64("ns"),
        pa.duration("ns"),
    ),
    *(pa.decimal128(38, 3), pa.list_(pa.string()), pa.list_(pa.list_(pa.string()))),
    *(pa.list_(pa.binary()), pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    *(pa.struct([("x", pa.string())]), pa.map_(pa.string(), pa.string()), pa.binary(3)),
    *(pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.struct([("a", pa.int64())]))),
    *(pa.string_view(), pa.binary_view(), pa.list_(pa.int64(), 2), pa.decimal256(70, 1)),
)

PARQUET_OPS = st.tuples(
    st.sampled_from(["type", "type", "values", "values", "broken", "rename", "drop", "cast"]),
    st.integers(0, 9),
    st.integers(0, len(_TYPES) - 1),
    st.lists(VALUES | st.binary(max_size=9), min_size=1, max_size=3),
    st.integers(1, 4),
)


def parquet_spoiled(content: bytes, op: Any) -> bytes:
    """Change the type or the values of one column."""
    kind, column, number, given, group = op
    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError, ValueError):
        return content
    if not table.num_columns or not table.num_rows:
        return content
    at = column % table.num_columns
    name, rows = table.schema.names[at], table.num_rows
    if kind == "rename":
        new = given[0] if isinstance(given[0], str) else table.schema.names[0]
        names = [new if n == name else n for n in table.schema.names]
        table = table.rename_columns([n.encode("utf-8", "replace").decode() for n in names])
    elif kind == "drop":
        table = table.remove_column(at)
    else:
        try:
            old = table.column(at).to_pylist()
        except (ValueError, OverflowError, KeyError, pa.ArrowException):
            return content
        table = table.set_column(at, name, _column(kind, _TYPES[number], given, old, rows))
    out = io.BytesIO()
    try:
        pq.write_table(table, out, row_group_size=group)
    except (pa.ArrowException, ValueError, TypeError):
        return content
    return out.getvalue()


def _column(kind: str, type_: pa.DataType, given: list[Any], old: list[Any], rows: int) -> pa.Array:
    if kind == "broken":  # text that is no UTF-8
        pieces = [b"\xff\xfe", b"ok", b"\xed\xa0\x80", b"a\0b"]
        raw = pa.array([pieces[n % 4] for n in range(rows)], pa.binary())
        return pa.Array.from_buffers(pa.string(), rows, raw.buffers())
    if kind == "values":
        values = [given[n % len(given)] if n % 2 == 0 else old[n] for n in range(rows)]
        for attempt in (values, [given[0]] * rows):
            try:
                return pa.array(attempt)
            except (pa.ArrowException, ValueError, TypeError, OverflowError):
                continue
    if kind == "cast":
        try:
            return pa.array(old).cast(type_)
        except (pa.ArrowException, ValueError, TypeError):
            pass
    bits = pa.array([-(2**63), 2**63 - 1, 253402300800 * 10**6, 5][:rows] + [0] * (rows - 4))
    for make in (
        lambda: bits.view(type_),
        lambda: pa.array([given[0]] * rows, type_),
        lambda: pa.nulls(rows, type_),
    ):
        try:
            return make()
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            continue
    return pa.nulls(rows)


# --- tars ---------------------------------------------------------------------------------------

_NAMES = st.sampled_from(
    [
        *("../outside/secret.png", f"{HOME}/outside/secret.png", "000.png", "001.txt", "0/000.png"),
        *("a.b.c.png", ".png", "000", "000.", "000.PNG", "x/", "./000.png", "é.png", "\udcff.png"),
        *("x" * 300 + ".png", "a\0b.png", "\u202e.png", "002.json", "000.syn.json", "👩‍👩‍👧.txt"),
        *("", ".", "..", "000.jpg", "\ud800.txt"),
    ]
)
_KINDS = st.sampled_from([bytes([b]) for b in b"0\x001234567gxLKSDVMNX?Z\xff"])
TAR_OPS = st.one_of(
    st.tuples(st.just("name"), st.integers(0, 40), _NAMES),
    st.tuples(st.just("type"), st.integers(0, 40), _KINDS),
    st.tuples(st.just("content"), st.integers(0, 40), st.binary(max_size=9)),
    st.tuples(st.just("value"), st.integers(0, 40), VALUE_OPS),
    st.tuples(st.just("image"), st.integers(0, 40), st.integers(0, 28)),
    st.tuples(st.just("again"), st.integers(0, 40), st.integers(0, 40)),
    st.tuples(st.just("move"), st.integers(0, 40), st.integers(0, 40)),
    st.tuples(st.just("give"), st.integers(0, 40), st.integers(0, 40)),
    st.tuples(st.just("link"), st.integers(0, 40), _NAMES),
    st.tuples(
        st.just("pax"),
        st.integers(0, 40),
        st.tuples(
            st.sampled_from(
                ["path", "size", "linkpath", "GNU.sparse.map", "GNU.sparse.major", "é"]
            ),
            st.sampled_from(
                ["0", "-1", "9" * 30, "7", "../outside/secret.png", "", "x", "a\0b.txt"]
            ),
        ),
    ),
    st.tuples(
        st.just("header"),
        st.integers(0, 40),
        st.tuples(
            st.sampled_from(
                [(0, 100), (100, 8), (124, 12), (136, 12), (148, 8), (156, 1), (257, 8), (345, 155)]
            ),
            st.sampled_from(
                [b"\0", b" ", b"7", b"\x80", b"\xff", b"8", b"-1", b"z", b"\x80\0\0\1"]
            ),
            st.booleans(),
        ),
    ),
)


class _Members:
    """The members of a tar, to be changed and written again."""

    def __init__(self, content: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            self._all = [(m, content[m.offset_data :][: m.size]) for m in archive.getmembers()]
        self._patches: dict[int, list[Any]] = {}

    def spoil(self, kind: str, where: int, what: Any) -> None:
        found = self._all
        at = where % len(found)
        member, inside = found[at]
        if kind == "again":
            found.insert(what % len(found), (_copy(member), inside))
        elif kind == "give":
            alike = [pair for pair in found if ending(pair[0].name) == ending(member.name)]
            found[at] = member, alike[what % len(alike)][1]
        elif kind == "move":
            found.insert(what % len(found), found.pop(at))
        elif kind in ("content", "value", "image"):
            found[at] = member, _inside_spoiled(kind, member.name, inside, what)
        elif kind == "header":
            self._patches.setdefault(id(member), []).append(what)
        elif kind == "name":
            member.name = what
        elif kind == "pax":
            member.pax_headers = dict([what])
        else:
            member.type = what if kind == "type" else tarfile.SYMTYPE
            member.linkname = "../outside/secret.png" if kind == "type" else what

    def packed(self) -> bytes:
        out = io.BytesIO()
        for member, inside in self._all:
            member.size = len(inside)
            head = bytearray(_head(member))
            for (start, width), value, mended in self._patches.get(id(member), ()):
                at = len(head) - 512 + start
                head[at : at + min(width, len(value))] = value[:width]
                if mended:
                    block = head[-512:]
                    total = sum(block) - sum(block[148:156]) + 8 * 32
                    head[-512 + 148 : -512 + 156] = b"%06o\0 " % total
            out.write(head + inside + bytes(-len(inside) % 512))
        return out.getvalue() + bytes(10240)


def _inside_spoiled(kind: str, name: str, inside: bytes, what: Any) -> bytes:
    if kind == "content":
        return what
    if kind == "image":
        return list(images().values())[what % len(images())]
    if not name.endswith("json"):
        return str(what[2]).encode("utf-8", "surrogatepass")
    try:
        return as_json(value_spoiled(json.loads(inside), what))
    except (ValueError, RecursionError):
        return inside


def tar_spoiled(content: bytes, ops: list[Any]) -> bytes:
    """Write the members of a tar again, some of them changed."""
    members = _Members(content)
    for op in ops:
        members.spoil(*op)
    return members.packed()


def _copy(member: tarfile.TarInfo) -> tarfile.TarInfo:
    other = tarfile.TarInfo(member.name)
    other.type = member.type
    return other


def _head(member: tarfile.TarInfo) -> bytes:
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        try:
            return member.tobuf(kind, "utf-8", "surrogateescape")
        except (UnicodeEncodeError, ValueError):
            continue
    return tarfile.TarInfo("odd").tobuf(tarfile.GNU_FORMAT)


# --- images -------------------------------------------------------------------------------------

IMAGE_OPS = st.one_of(
    BYTE_OPS.map(lambda op: ("bytes", op)),
    st.tuples(
        st.just("chunk"),
        st.tuples(
            st.integers(0, 9),
            st.sampled_from(["flip", "put", "again", "drop", "first", "name", "length"]),
            st.integers(0, 60),
            st.binary(min_size=1, max_size=5)
            | st.sampled_from([b"\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\xff\xff"]),
        ),
    ),
)


def image_spoiled(content: bytes, op: Any) -> bytes:
    """Spoil bytes, or a PNG's chunk with its sum set right, or a JPEG's or RIFF's by its frame."""
    kind, what = op
    if kind == "bytes":
        return bytes_spoiled(content, what)
    if content.startswith(b"\x89PNG"):
        return b"\x89PNG\r\n\x1a\n" + b"".join(_pieces(_png(content), what, _png_chunk))
    if content.startswith(b"\xff\xd8"):
        return b"\xff\xd8" + b"".join(_pieces(_jpeg(content), what, _jpeg_chunk))
    if content.startswith(b"RIFF"):
        return content[:12] + b"".join(_pieces(_riff(content), what, _riff_chunk))
    return bytes_spoiled(content, ("put", what[2] << 12, what[3]))


def _pieces(found: list[tuple[bytes, bytes]], what: Any, pack: Any) -> list[bytes]:
    which, kind, where, value = what
    if not found:
        return []
    at = which % len(found)
    name, inside = found[at]
    low = where % (len(inside) + 1)
    if kind in ("flip", "put"):
        inside = inside[:low] + value + inside[low + len(value) :]
    elif kind == "length":
        inside = inside[:low]
    elif kind == "name":
        name = (value + name)[: len(name)]
    found[at] = (name, inside)
    if kind == "again":
        found.insert(where % len(found), found[at])
    elif kind == "drop":
        del found[at]
    elif kind == "first":
        found.insert(0, found.pop(at))
    return [pack(*piece) for piece in found]


def _png(content: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 8 <= len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def _png_chunk(name: bytes, inside: bytes) -> bytes:
    return (
        struct.pack(">I", len(inside))
        + name
        + inside
        + struct.pack(">I", zlib.crc32(name + inside))
    )


def _jpeg(content: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        (size,) = struct.unpack(">H", content[at + 2 : at + 4])
        found.append((content[at : at + 2], content[at + 4 : at + 2 + size]))
        at += 2 + size
    return [*found, (b"", content[at:])]


def _jpeg_chunk(name: bytes, inside: bytes) -> bytes:
    return name + struct.pack(">H", min(65535, len(inside) + 2)) + inside if name else inside


def _riff(content: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 12
    while at + 8 <= len(content):
        (size,) = struct.unpack("<I", content[at + 4 : at + 8])
        found.append((content[at : at + 4], content[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    return found


def _riff_chunk(name: bytes, inside: bytes) -> bytes:
    return name + struct.pack("<I", len(inside)) + inside + bytes(len(inside) % 2)


# --- trees --------------------------------------------------------------------------------------

_LINKS = (
    *(
        "../outside/secret.png",
        "../outside/secret.txt",
        "../outside",
        f"{HOME}/outside/secret.json",
    ),
    *("link.png", "nowhere", "/dev/zero", "/dev/null", ".", "..", "0.png", "/proc/self/environ"),
    *("../outside/secret.jsonl", "/proc/self/mem", "../outside/secret.tar"),
)
_FILE_NAMES = (
    *(
        "\udcff.png",
        "a\nb.png",
        "*.png",
        "[a].png",
        "{0..9}.png",
        "é.png",
        "e\u0301.png",
        ".hidden.png",
    ),
    *(
        "x" * 250 + ".png",
        "\u202egnp.x",
        " .png",
        "0.PNG",
        "0.png.txt",
        "0.jpg",
        "a/b/c/d.png",
        "0.gif",
    ),
    *("metadata.jsonl", "captions.txt", "captions.json", "images.json", "x.tar", "-x.png", "#.png"),
    *("0.png/0.png", "data/x.png", "0", "link.png", "CON.png", "0.json", "0.txt", "👩‍👩‍👧.png"),
    *(
        "dataset_dict.json",
        "state.json",
        "train/x.png",
        "results.csv",
        "a.png#0",
        "\x01.png",
        "\\0.png",
    ),
)

TREE_OPS = st.one_of(
    st.tuples(st.just("bytes"), WHERE, st.lists(BYTE_OPS, min_size=1, max_size=3)),
    st.tuples(st.just("values"), WHERE, st.lists(VALUE_OPS, min_size=1, max_size=2)),
    st.tuples(st.just("values"), WHERE, st.lists(VALUE_OPS, min_size=1, max_size=2)),
    st.tuples(st.just("columns"), WHERE, st.lists(PARQUET_OPS, min_size=1, max_size=2)),
    st.tuples(st.just("members"), WHERE, st.lists(TAR_OPS, min_size=1, max_size=3)),
    st.tuples(
        st.just("image"),
        WHERE,
        st.tuples(st.integers(0, 40), st.lists(IMAGE_OPS, max_size=2)),
    ),
    st.tuples(st.just("rename"), WHERE, st.sampled_from(_FILE_NAMES)),
    st.tuples(st.just("copy"), WHERE, st.sampled_from(_FILE_NAMES)),
    st.tuples(st.just("link"), WHERE, st.sampled_from(_LINKS)),
    st.tuples(st.just("what"), WHERE, st.sampled_from(["fifo", "folder", "gone", "empty", "swap"])),
)


def ending(name: str) -> str:
    return name.rpartition(".")[2].lower()


_FITTING = {
    "values": ("json", "jsonl", "csv", "tsv", "txt", "token", "gz"),
    "columns": ("parquet",),
    "members": ("tar",),
    "image": IMAGE_ENDINGS,
}


def tree_spoiled(files: dict[str, Any], op: Any) -> tuple[dict[str, Any], bool]:
    """Return files with one thing done to them, and whether as many items stay as there were."""
    kind, where, what = op
    names = [name for name, content in files.items() if isinstance(content, bytes)]
    if kind in _FITTING:
        names = [name for name in names if ending(name) in _FITTING[kind]]
    if not names:
        return files, True
    name = names[min(where * len(names) >> 20, len(names) - 1)]
    if kind in ("bytes", *_FITTING):
        content, whole = _content_spoiled(kind, name, files[name], what)
        return {**files, name: content}, whole
    if kind == "copy":
        return {what: files[name], **files}, True
    return _placed(files, name, kind, what, names[0]), False


def _content_spoiled(kind: str, name: str, content: bytes, what: Any) -> tuple[bytes, bool]:
    if kind == "bytes":
        for each in what:
            content = bytes_spoiled(content, each)
        return content, ending(name) in IMAGE_ENDINGS
    if kind == "values":
        return values_spoiled(name, content, what), False
    if kind == "columns":
        for each in what:
            content = parquet_spoiled(content, each)
        return content, all(each[0] != "rename" for each in what)
    if kind == "image":
        content = list(images().values())[what[0] % len(images())]
        for each in what[1]:
            content = image_spoiled(content, each)
        return content, True
    try:
        whole = all(each[0] not in ("header", "type", "link", "pax") for each in what)
        return tar_spoiled(content, what), whole
    except (tarfile.TarError, ValueError, OSError):
        return content, False


def _placed(files: dict[str, Any], name: str, kind: str, what: str, other: str) -> dict[str, Any]:
    """Return files of which one has another name, is something else, or is gone."""
    content = files[name]
    rest = {n: c for n, c in files.items() if n != name}
    if kind == "rename":
        return {**rest, what: content}
    if kind == "link":
        return {**rest, name: ("link", what)}
    if what == "gone":
        return rest
    if what == "empty":
        return {**rest, name: b""}
    if what == "swap":
        return {**files, name: files[other], other: content}
    return {**rest, name: (what,)}


def values_spoiled(name: str, content: bytes, ops: list[Any]) -> bytes:
    """Spoil values of a text file by its form."""
    packed = name.endswith(".gz")
    try:
        content = gzip.decompress(content) if packed else content
    except (OSError, EOFError, zlib.error):
        return content
    form = ending(name.removesuffix(".gz"))
    for op in ops:
        if form == "json":
            try:
                content = as_json(value_spoiled(json.loads(content), op), len(op[1]) % 2 == 0)
            except (ValueError, RecursionError):
                return content
        elif form == "jsonl":
            content = _lines_spoiled(content, op)
        else:
            content = _cells_spoiled(content, op, b"," if form == "csv" else b"\t")
    return gzip.compress(content) if packed else content
