"""Where the files inside a tar archive lie, from its headers alone; nothing is extracted."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from lift.errors import DataError

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_ADLER = 65_521
_MOST_HEADER = 1 << 20
_LOOKED_BEHIND = 1 << 20
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
"""How files begin that are no plain tar; looked at where the first header is none."""

_ORDINARY = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


class Member(NamedTuple):
    """One entry: its name, whether it is an ordinary file, and where its bytes are."""

    name: str
    ordinary: bool
    offset: int
    size: int


def members(fd: int, shard: str, most: int = 10_000_000) -> Iterator[Member]:
    """Yield the entries of an open, uncompressed tar file (ustar, GNU and pax names).

    Links, folders and devices come with `ordinary=False`, the names of folders end in "/". Bytes
    of a name that are not UTF-8 are spelled out (`\\xe9`); a name ends at a NUL byte.

    Raises:
        DataError: naming `shard`: not a tar, damaged header, more than `most` entries, or cut off
            (also between two entries: the end mark of zeros has to be there).
    """
    for number, member in enumerate(_entries(fd, shard)):
        if number == most:
            raise DataError(
                f"{shard} has more than {most:,} members; raise max_members if that is meant."
            )
        yield member


def _refuse_packed(block: bytes, position: int, shard: str) -> None:
    for magic, how in _PACKED.items():
        if block.startswith(magic) and position == 0:
            raise DataError(
                f"{shard} is compressed ({how}), and samples are read at their offsets; "
                "unpack it to a plain .tar first."
            )


def _entries(fd: int, shard: str) -> Iterator[Member]:
    end, position = os.fstat(fd).st_size, 0
    name: str | None = None
    size: int | None = None
    while True:
        block = os.pread(fd, _BLOCK, position)
        if len(block) < _BLOCK:
            _refuse_packed(block, position, shard)
            raise DataError(f"{shard} is cut off: it ends at byte {end} without a tar end mark.")
        if block == _ZEROS:
            _prove_end(fd, position, shard)
            return
        head = _header(block, position, shard)
        position += _BLOCK
        length = head.size if size is None or head.type not in _ORDINARY else size
        if head.type not in _ORDINARY and head.type in tarfile.SUPPORTED_TYPES:
            # Links and devices may state a size but hold nothing.
            length = length if head.type in _CARRIES_DATA else 0
        if length < 0 or position + length > end:
            raise DataError(
                f"{shard} is cut off or damaged: {name or head.name!r} claims {length:,} bytes at "
                f"byte {position:,}, and the file has {end:,}."
            )
        if head.type in _EXTENSIONS:
            extra = _extension(fd, position, length, shard)
            if head.type == tarfile.GNUTYPE_LONGNAME:
                name = _text(extra)
            elif head.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                records = _pax(extra, shard)
                name, size = records.get("path", name), _pax_size(records, size, shard)
        else:
            if head.type == tarfile.GNUTYPE_SPARSE:
                raise _sparse(shard, head.name)
            yield Member(name or head.name, head.type in _ORDINARY, position, length)
            name = size = None
        position += -(-length // _BLOCK) * _BLOCK


def _sparse(shard: str, name: str) -> DataError:
    return DataError(f"{shard} holds a sparse file ({name!r}); write it plainly.")


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _prove_end(fd: int, position: int, shard: str) -> None:
    if any(os.pread(fd, _LOOKED_BEHIND, position)):
        raise DataError(
            f"{shard} goes on behind its tar end mark at byte {position:,} (archives joined by "
            "cat?); name the archives one by one."
        )


class _Header(NamedTuple):
    name: str
    type: bytes
    size: int


def _header(block: bytes, position: int, shard: str) -> _Header:
    """Return name, type and size of a header block, its checksum proven.

    The common case is read here, ten times faster than by `tarfile`, which takes the rest.
    """
    kind, prefix = block[156:157], block[345:500]
    numbers = block[124:136].rstrip(b" \0"), block[148:156].strip(b" \0")
    if kind in _ORDINARY and prefix[0] == 0 and all(map(bytes.isdigit, numbers)):
        size, checksum = (int(number, 8) if _OCTAL.issuperset(number) else -1 for number in numbers)
        # The sum of all bytes, the checksum's own as blanks. Half of adler32 is 1 + that sum, left
        # over from a division by a number that lies above all sums but absurd ones, in C.
        expected = checksum + sum(block[148:156]) - 8 * 32
        if size >= 0 and zlib.adler32(block) & 0xFFFF == (1 + expected) % _ADLER:
            return _Header(_text(block[:100]), kind, size)
    try:
        head = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
    except (tarfile.HeaderError, ValueError) as error:
        _refuse_packed(block, position, shard)
        raise DataError(
            f"{shard} is not a sound, uncompressed tar file (header at byte {position}: {error})."
        ) from error
    return _Header(head.name + "/" * head.isdir(), head.type, head.size)


_OCTAL = frozenset(b"01234567")
_EXTENSIONS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.XGLTYPE,
)
_CARRIES_DATA = (*_EXTENSIONS, *_ORDINARY, tarfile.GNUTYPE_SPARSE)


def _extension(fd: int, position: int, length: int, shard: str) -> bytes:
    if length > _MOST_HEADER:
        raise DataError(f"{shard} has an extended header of {length:,} bytes; that is no tar.")
    return os.pread(fd, length, position)


def _pax(extra: bytes, shard: str) -> dict[str, str]:
    """Return the records of a pax header: `LENGTH KEY=VALUE\\n`, LENGTH counting itself."""
    records: dict[str, str] = {}
    at = 0
    while at < len(extra) and extra[at : at + 1] != b"\0":
        space = extra.find(b" ", at, at + 20)
        digits = extra[at:space] if space > 0 else b""
        length = int(digits) if digits.isdigit() else 0
        key, equals, value = extra[space + 1 : at + length].partition(b"=")
        if length <= len(digits) + 2 or at + length > len(extra) or not equals:
            raise DataError(f"{shard} has a damaged extended header.")
        if key.startswith(b"GNU.sparse."):
            raise _sparse(shard, records.get("path", ""))
        records[_text(key)] = _text(value[:-1])
        at += length
    return records


def _pax_size(records: dict[str, str], before: int | None, shard: str) -> int | None:
    if "size" not in records:
        return before
    if not (records["size"].isascii() and records["size"].isdigit() and len(records["size"]) < 19):
        raise DataError(f"{shard} has a damaged extended header (size {records['size']!r}).")
    return int(records["size"])
