"""The page: a fixed set of files, read at the start; no request names a file of a disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple

INDEX = "index.html"
TYPES: Mapping[str, str] = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "webmanifest": "application/manifest+json",
    "woff2": "font/woff2",
}


class PageFile(NamedTuple):
    """A file of the page, its media type, and a tag that tells versions apart."""

    content: bytes
    media_type: str
    etag: str


def page_files() -> dict[str, PageFile]:
    """Return the files of the page by name."""
    found: dict[str, PageFile] = {}
    folder = resources.files("lift.serving") / "page"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        ending = file.name.rpartition(".")[2]
        if file.is_file() and ending in TYPES:
            found[file.name] = _made(file.read_bytes(), TYPES[ending])
    return found


def _made(content: bytes, media_type: str) -> PageFile:
    return PageFile(content, media_type, etag_of(content))


def etag_of(content: bytes) -> str:
    """Return what stands for the content in the header `ETag`."""
    return f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
