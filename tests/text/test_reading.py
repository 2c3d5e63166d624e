"""Texts as people's files really are: quotes, byte-order marks, columns that are not there."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from lift.errors import ConfigError, DataError
from lift.text.reading import texts_of

MARK = b"\xef\xbb\xbf"


def read(path: Path, content: bytes, column: str | None = None, keys: bool = False) -> list:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return [text for chunk in texts_of(path, column, keys) for text in chunk]


def test_quotes_in_tsv_are_text(tmp_path):
    captions = ['"no" he says', '"big dog', "a cat", 'the "end', 'last" one', "", '""', "it's"]
    rows = "".join(f"{text}\tu{n}\n" for n, text in enumerate(captions))
    content = f"caption\turl\n{rows}".encode()
    assert read(tmp_path / "a.tsv", content) == captions
    assert read(tmp_path / "a.tsv", content, "url", True) == [f"u{n}" for n in range(8)]


def test_quotes_in_csv_quote(tmp_path):
    content = b'caption,url\n"one, ""two""\nthree",u1\nfour,u2\n'
    assert read(tmp_path / "a.csv", content) == ['one, "two"\nthree', "four"]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "a.jsonl.gz", "a.csv", "a.tsv"])
def test_a_byte_order_mark_is_no_text(tmp_path, name):
    body = {"txt": b"a dog\na cat\n", "jsonl": b'{"caption":"a dog"}\n{"caption":"a cat"}\n'}
    content = body.get(name.removesuffix(".gz")[2:], b"caption\na dog\na cat\n")
    assert read(tmp_path / name, MARK + content) == ["a dog", "a cat"]
    if name == "a.txt":  # only in front of a file
        assert read(tmp_path / name, b"a\n" + MARK + b"b\n") == ["a", "\ufeffb"]


@pytest.mark.parametrize("keys", [False, True])
def test_no_column_of_what_has_none(tmp_path, keys):
    np.save(tmp_path / "a.npy", np.array(["a dog"]))
    with pytest.raises(ConfigError, match=r"a\.npy has no columns.*'id'"):
        list(texts_of(tmp_path / "a.npy", "id", keys))
    for name in ("a.txt", "a.txt.gz"):
        with pytest.raises(ConfigError, match=r"has no columns.*'id'"):
            read(tmp_path / name, b"a dog\n", "id", keys)
    with pytest.raises(DataError, match="line 2: 'a cat' is no object, so it has no 'id'"):
        read(tmp_path / "a.jsonl", b'{"id": "7"}\n"a cat"\n', "id", keys)
    assert read(tmp_path / "a.jsonl", b'"a dog"\nnull\n') == ["a dog", None]


def test_characters_beyond_unicode(tmp_path):
    np.save(tmp_path / "a.npy", np.array([0x110000, 0x61], "<u4").view("U1"))
    with pytest.raises(DataError, match="from 0 on is not Unicode"):
        list(texts_of(tmp_path / "a.npy", None, False))
