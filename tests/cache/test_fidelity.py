"""What a codec changes is measured as declared, adds up, and is small where it has to be."""

from __future__ import annotations

import gzip
import itertools
import json
import time

import numpy as np
import pytest

from lift import plugins
from lift.cache.fidelity import Fidelity, measure, merge
from lift.config import part
from lift.errors import CacheError, ConfigError
from lift.text.encoder import build_encoder


def codec(name, width, **options):
    return plugins.build(part("cache/codecs", name, **options), width)


def unit_rows(count, width=64, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def real_rows(shared_data):
    """Return MiniLM's rows of 600 COCO captions."""
    pytest.importorskip("sentence_transformers")
    with gzip.open(shared_data / "text" / "coco_captions_val2017.jsonl.gz", "rt") as lines:
        captions = [json.loads(line)["caption"] for line in itertools.islice(lines, 600)]
    encoder = build_encoder(part("text/encoders", "minilm"), "cpu")
    return encoder.encode(captions, precision="float32", token_budget=1024).rows


def by_definition(one, rows, queries, gallery):
    """Return top-1 and top-10 counts with loops, as the docstring of `measure` says them."""
    decoded = one.decode(one.stored(one.encode(rows)))
    top1 = top10 = 0
    for q in range(min(queries, len(rows))):
        others = [n for n in range(min(gallery, len(rows))) if n != q]

        def cosines(matrix, q=q, others=others):
            asked = rows[q].astype(np.float64)
            wide = matrix[others].astype(np.float64)
            return wide @ asked / np.linalg.norm(wide, axis=1) / np.linalg.norm(asked)

        truth, found = cosines(rows), cosines(decoded)
        order, mine = np.argsort(-truth), np.argsort(-found)
        top1 += order[0] == mine[0]
        top10 += len(set(order[:10]) & set(mine[:10]))
    return top1, top10


@pytest.mark.parametrize("name", ["int8", "int4", "binary"])
def test_counts_are_those_of_the_definition(name):
    rows = unit_rows(300)
    rows *= np.linspace(0.5, 2, 300, dtype=np.float32)[:, None]  # cosines, whatever the lengths
    found = measure(codec(name, 64), rows, queries=150, gallery=200)
    assert (found.top1, found.top10) == by_definition(codec(name, 64), rows, 150, 200)
    assert (found.rows, found.queries, found.places) == (300, 150, 1500)
    decoded = codec(name, 64).decode(codec(name, 64).stored(codec(name, 64).encode(rows)))
    cosines = (rows * decoded).sum(1, dtype=np.float64) / np.linalg.norm(rows, axis=1)
    cosines /= np.linalg.norm(decoded, axis=1)
    assert found.mean_cosine == pytest.approx(cosines.mean(), abs=1e-7)
    assert found.worst_cosine == pytest.approx(cosines.min(), abs=1e-6)
    if name == "binary":
        assert 0.3 < found.top10_overlap < 0.95 and found.top1_agreement < 0.95


def test_more_rows_than_a_block_and_stored_ones_at_hand():
    rows = unit_rows(5000, 16)
    one = codec("int4", 16)
    found = measure(one, rows)
    assert (found.rows, found.queries, found.places) == (5000, 128, 1280)
    assert measure(one, rows, one.stored(one.encode(rows))) == found == measure(one, rows)
    wrong = measure(one, rows, one.stored(one.encode(rows[::-1])))
    assert wrong.top10_overlap < 0.1 and wrong.worst_cosine < 0


def test_an_exact_codec_needs_no_measuring():
    found = measure(codec("float32", 64), unit_rows(300))
    assert found.mean_cosine == found.worst_cosine == found.top1_agreement == 1
    assert found.top10_overlap == 1 and (found.queries, found.places) == (128, 1280)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
@pytest.mark.parametrize("name", ["float32", "float16", "int4"])
def test_few_rows(name, count):
    found = measure(codec(name, 8), unit_rows(count, 8))
    asked = count if count > 1 else 0
    assert (found.rows, found.queries) == (count, asked)
    assert found.places == asked * (count - 1) == found.top10
    assert found.worst_cosine > 0.9 and found.mean_cosine > 0.9


def test_equal_rows_are_ties_and_ties_agree():
    rows = np.repeat(unit_rows(20), 3, axis=0)
    found = measure(codec("float16", 64), rows)
    assert found.top1 == found.queries == 60 and found.top10 == found.places == 600


def test_zero_rows():
    rows = unit_rows(30)
    rows[4] = 0
    found = measure(codec("int8", 64), rows)
    assert found.worst_cosine > 0.999
    lost = measure(codec("prefix", 64, dimensions=1), np.eye(64, dtype=np.float32))
    assert lost.worst_cosine == 0 and lost.cosine_sum == 1


def test_shards_add_up():
    rows = unit_rows(900)
    one = codec("int4", 64)
    parts = [measure(one, rows[start : start + 300]) for start in (0, 300, 600)]
    total = merge(parts)
    assert total == merge(reversed(parts)) == merge(part for part in parts)
    assert total.rows == 900 and total.queries == 384
    assert total.mean_cosine == pytest.approx(measure(one, rows).mean_cosine, abs=1e-12)
    assert total.worst_cosine == min(part.worst_cosine for part in parts)
    assert total.top10 == sum(part.top10 for part in parts)
    assert merge([]) == Fidelity() and Fidelity().mean_cosine == 1


def test_plain_values_and_back():
    found = measure(codec("int8", 64), unit_rows(200))
    values = json.loads(json.dumps(found.as_dict()))
    assert Fidelity.from_dict(values) == found
    with pytest.raises(ConfigError, match="cosine"):
        Fidelity.from_dict({**values, "cosin_sum": 1.0})


def test_rows_that_cannot_be_stored_are_refused():
    rows = unit_rows(10)
    rows[2, 0] = np.nan
    with pytest.raises(CacheError, match="NaN"):
        measure(codec("int8", 64), rows)


def test_costs_little():
    """0.15 s for a shard of MiniLM's width, measured alone; the limit is for busy machines."""
    rows = unit_rows(16_384, 384)
    one = codec("int8", 384)
    stored = one.stored(one.encode(rows))
    started = time.process_time()
    measure(one, rows, stored)
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    ("name", "options", "top1", "top10"),
    [("int8", {}, 0.99, 0.99), ("int4", {}, 0.90, 0.93), ("binary", {}, 0.6, 0.7)],
)
def test_real_rows_keep_their_neighbours(real_rows, name, options, top1, top10):
    found = measure(codec(name, 384, **options), real_rows, queries=600)
    assert found.top1_agreement >= top1 and found.top10_overlap >= top10


def test_a_prefix_of_rows_that_were_not_trained_for_it_does_not(real_rows):
    found = measure(codec("prefix", 384, dimensions=8, force=True), real_rows, queries=600)
    assert found.top1_agreement < 0.5
