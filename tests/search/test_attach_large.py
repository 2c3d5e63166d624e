"""20,000 captions in a table, photographs and products beside them: killed, whole, found."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest

from databases import Row, postgres, table
from lift.commands.attach import open_attached
from lift.data.source import open_source
from lift.search.ranking import Ranking
from lift.search.terms import Item
from made_model import made

ROWS, FIRST = 20_000, 1_000_000  # products have keys like 1827
EACH, MOST = 3, 400  # images of an item; of a source
SHAPE = {"dimensions": 384, "width": 64}

ATTACH = """
import sys, time
from lift.commands.attach import attach
from made_model import made
from test_attach_large import SHAPE, items
url, name, out, *data = sys.argv[1:]
own, start = list(items(data)), time.process_time()
print(attach(out, url=url, table=name, images=own, model=made(**SHAPE), progress=False))
print(f"{time.process_time() - start:.1f} CPU-seconds")
"""


def captions(data: Path) -> list[str]:
    """Return 20,000 different captions of COCO."""
    found: dict[str, None] = {}
    with gzip.open(data / "text" / "coco_captions_val2017.jsonl.gz", "rt") as file:
        for line in file:
            for text in _texts(json.loads(line)):
                found.setdefault(text.strip())
    return list(found)[:ROWS]


def _texts(value) -> list[str]:
    if isinstance(value, str):
        return [value] if " " in value else []
    own = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in own for text in _texts(one)]


def items(data: list[str]) -> Iterator[Item]:
    """Yield items of several images each, so that one could be there by half."""
    for words in data:
        source = open_source(words)
        for start in range(0, min(len(source), MOST), EACH):
            some = [source.read(n) for n in range(start, min(start + EACH, MOST, len(source)))]
            yield Item(key=some[0].key, images=tuple(sample.image for sample in some))


def dump(name: str) -> list[tuple]:
    """Return all rows to the byte, with where they lie and which transactions wrote them."""
    with psycopg.connect(postgres()) as connection:
        query = f"select ctid::text, xmin::text, xmax::text, t::text from {name} t"
        return connection.execute(query).fetchall()


def counted(name: str) -> dict[str, int]:
    with psycopg.connect(postgres()) as connection:
        if connection.execute(f"select to_regclass('{name}_lift_images')").fetchone() == (None,):
            return {}
        query = f"select key, count(*) from {name}_lift_images group by key"
        return dict(connection.execute(query).fetchall())


def attaching(name: str, out: Path, data: list[str]) -> subprocess.Popen[str]:
    path = os.pathsep.join((str(Path(__file__).parent), str(Path(__file__).parents[1])))
    return subprocess.Popen(
        [sys.executable, "-c", ATTACH, postgres(), name, str(out), *data],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_twenty_thousand_texts_and_images_of_two_kinds(
    shared_data, tmp_path, record_testsuite_property
):
    model, texts = made(**SHAPE), captions(shared_data)
    assert len(texts) == ROWS
    z = model.encode_texts(texts)
    name = table(
        [
            Row(FIRST + n, text, row, {"price": n % 50})
            for n, (text, row) in enumerate(zip(texts, z, strict=True))
        ]
    )
    before = dump(name)
    assert len(before) == ROWS
    data = [f"{shared_data}/flickr8k/val-0000.tar", f"{shared_data}/fashion-products/test.parquet"]
    own = list(items(data))
    whole = {item.key: len(item.images) for item in own}
    assert len(whole) == 2 * -(-MOST // EACH)

    with attaching(name, tmp_path / "it", data) as process:
        until = time.monotonic() + 120
        while len(counted(name)) < 64 and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    there = counted(name)
    assert 64 <= len(there) < len(whole), "it was not killed in the middle"
    assert there.items() <= whole.items(), "an item is there by half"
    assert dump(name) == before
    start = time.monotonic()
    with attaching(name, tmp_path / "it", data) as process:
        said = process.communicate()[0]
    record_testsuite_property("attach", f"{said}{time.monotonic() - start:.1f} s with imports")
    assert f"{len(there):,} unchanged" in said and counted(name) == whole
    assert dump(name) == before

    keys = [item.key for item in own for _ in item.images]
    rows = model.encode_images([image for item in own for image in item.images])
    times = []
    with open_attached(tmp_path / "it") as found:
        assert len(found) == ROWS + len(own)
        for query in ("a red shirt", "two dogs run through snow", "a man riding a wave"):
            start = time.monotonic()
            hits = found.search(query, top=20)
            times.append(time.monotonic() - start)
            assert len(hits) == 20 and {hit.kind for hit in hits} == {"image", "text"}
        _mixed_answers_are_right(found, z, keys, rows)
        fit = np.arange(ROWS)[np.arange(ROWS) % 50 < 5]
        filtered = found.search("a red shirt", kinds=("text",), where="price<5", top=50)
        expected = np.sort(z[fit] @ model.encode_texts(["a red shirt"])[0])[::-1][:50]
        np.testing.assert_allclose([hit.cosine for hit in filtered], expected, atol=3e-6)
    median = np.median(times) * 1000
    record_testsuite_property("search", f"{median:.0f} ms, the median of {len(times)}, as checked")


def _mixed_answers_are_right(found, z, keys, rows) -> None:
    """Hold mixed answers to all cosines, by ranks and by made odds."""
    from lift.merging import Calibration

    odds = {"image": Calibration(30.0, -2.0), "text": Calibration(12.0, -6.0)}
    for query in ("a red shirt", "two dogs run through snow", "a man riding a wave"):
        q = found.encoder.encode_texts([query])[0]
        best: dict[str, dict[str, float]] = {"image": {}, "text": {}}
        for key, cosine in zip(keys, (rows @ q).tolist(), strict=True):
            best["image"][key] = max(best["image"].get(key, -1.0), cosine)
        best["text"] = {str(FIRST + n): cosine for n, cosine in enumerate((z @ q).tolist())}
        for known in ({}, odds):
            scores: dict[str, float] = {}
            for kind, own in best.items():
                ordered = sorted(own, key=lambda key: (-round(own[key], 6), key))
                for rank, key in enumerate(ordered[:100]):
                    curve = odds[kind]
                    odd = curve.slope * own[key] + curve.offset
                    scores[key] = odd if known else 1 / (61 + rank)
            found.ranking = Ranking({}, known)
            hits = found.search(query, top=20)
            expected = sorted(scores.values(), reverse=True)[:20]
            np.testing.assert_allclose([hit.score for hit in hits], expected, rtol=2e-5, atol=1e-4)
            for hit in hits:
                assert hit.cosine == pytest.approx(best[hit.kind][hit.key], abs=3e-6)
                assert hit.score == pytest.approx(scores[hit.key], rel=2e-2, abs=1e-4)
