"""Several sources as one, and batches of one source, cluster or mixture."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lift.config import to_dict
from lift.data import ordering
from lift.data.formats._kept import METADATA, Record
from lift.data.formats.selected import Digest, Selected
from lift.data.joined import Joined
from lift.data.order import PERIOD, Alike, Interleaved, Shuffled, Windowed, batches
from lift.data.ordering import order_of
from lift.data.source import open_source
from lift.errors import ConfigError

A, B, C = (f"scenes:count={n},resolution=32,seed={n}" for n in (30, 50, 7))


def take(order, size, count, start=0):
    return list(itertools.islice(batches(order, size, start), count))


# --- one after the other ------------------------------------------------------------------------


def test_numbers_run_on():
    joined, alone = open_source(f"{A}::{B}"), [open_source(A), open_source(B)]
    assert isinstance(joined, Joined) and len(joined) == 80 == sum(joined.groups)
    assert joined.name == f"{alone[0].name} + {alone[1].name}"
    assert joined.read(0) == alone[0].read(0) and joined.read(30) == alone[1].read(0)
    assert joined.read(79) == alone[1].read(49)
    assert list(joined.texts()) == [*alone[0].texts(), *alone[1].texts()]
    assert joined.source_of(np.array([0, 29, 30, 79])).tolist() == [0, 0, 1, 1]
    with pytest.raises(IndexError):
        joined.read(80)


def test_without_weights_every_sample_comes_once_an_epoch():
    order = order_of(open_source(f"{A}::{B}"), 0, 8)
    got = take(order, 80, 2)
    for epoch, found in enumerate(got):
        assert sorted(found.number.tolist()) == list(range(80))
        assert set(found.epoch.tolist()) == {epoch}


@pytest.mark.parametrize("words", [f"{A}@1::{B}", f"{A}::{B}@2"])
def test_all_sources_have_a_weight_or_none(words):
    with pytest.raises(ConfigError, match="gives some sources a weight"):
        open_source(words)


def test_weights_are_above_zero():
    with pytest.raises(ConfigError, match="must be above 0, not 0"):
        open_source(f"{A}@0::{B}@1")


# --- mixed by weight ----------------------------------------------------------------------------


def test_weights_are_shares_of_the_samples():
    source = open_source(f"{A}@3::{B}@1::{C}@0.5")
    order = order_of(source, 4, 10)
    (found,) = take(order, 9000, 1)
    counts = np.bincount(source.source_of(found.number))
    assert counts / 9000 == pytest.approx([3 / 4.5, 1 / 4.5, 0.5 / 4.5], abs=0.02)
    for owner, (begin, size) in enumerate([(0, 30), (30, 50), (80, 7)]):
        own = found.number[source.source_of(found.number) == owner] - begin
        epochs = found.epoch[source.source_of(found.number) == owner]
        assert epochs.tolist() == [place // size for place in range(len(own))]
        for epoch in range(3):  # each source shows all its samples before it begins again
            assert sorted(own[epochs == epoch].tolist()) == list(range(size))


def test_a_period_has_exactly_the_shares():
    order = Interleaved([Shuffled(100, 1), Shuffled(100, 2)], [0, 100], [1e-9, 1], 0)
    (found,) = take(order, PERIOD, 1)
    assert (found.number < 100).sum() == 1


@pytest.mark.parametrize("start", [1, 7, 40, 4095, 4096, 5001, PERIOD - 3, PERIOD, 2 * PERIOD + 17])
@pytest.mark.parametrize("unit", [1, 8])
def test_any_start_is_the_tail(start, unit):
    def order():
        parts = [Shuffled(5000, 1), Windowed([40, 60], 2, 50), Shuffled(3, 3)]
        return Interleaved(parts, [0, 5000, 5100], [5, 2, 1], 3, unit)

    def first(begin, count):
        (found,) = take(order(), count, 1, begin)
        return found

    whole = first(start - start % 64, 300 + start % 64)
    tail = first(start, 300)
    assert np.array_equal(tail.number, whole.number[start % 64 :])
    assert np.array_equal(tail.epoch, whole.epoch[start % 64 :])
    if start < 6000:
        assert np.array_equal(tail.number, first(0, start + 300).number[start:])


def test_sources_of_one_size_have_orders_of_their_own():
    order = order_of(open_source(f"{A}@1::{A}@1"), 0, 8)
    (found,) = take(order, 60, 1)
    first, second = (found.number[found.number // 30 == owner][:20] % 30 for owner in (0, 1))
    assert not np.array_equal(first, second)


# --- batches of one kind ------------------------------------------------------------------------


def test_batches_of_one_source():
    source = open_source(f"{A}::{B}")
    order = order_of(source, 1, 8, "source")
    kinds = Counter()
    for found in take(order, 8, 400):
        owners = set(source.source_of(found.number).tolist())
        assert len(owners) == 1
        kinds[owners.pop()] += 1
    assert kinds[0] / 400 == pytest.approx(30 / 80, abs=0.08)
    with pytest.raises(ConfigError, match="needs several sources"):
        order_of(open_source(A), 1, 8, "source")


@pytest.mark.parametrize("sizes", [[20, 13, 40, 3], [5, 5, 5, 5], [64], [0, 9, 0, 16]])
def test_batches_of_one_cluster(sizes):
    order, ends = Alike(sizes, 8, 2), np.cumsum(sizes)
    per_epoch = sum(sizes) // 8 if sum(n % 8 for n in sizes) >= 8 else sum(n // 8 for n in sizes)
    assert (
        order.length
        == 8 * (sum(n // 8 for n in sizes) + sum(n % 8 for n in sizes) // 8)
        <= 8 * max(per_epoch, sum(sizes) // 8)
    )
    for epoch in range(3):
        steps = order.length // 8
        got = take(order, 8, steps, epoch * order.length)
        numbers = np.concatenate([found.number for found in got])
        assert len(set(numbers.tolist())) == len(numbers)
        pure = [
            len(set(np.searchsorted(ends, found.number, side="right").tolist())) == 1
            for found in got
        ]
        assert sum(pure) >= sum(n // 8 for n in sizes)
    left = set(range(sum(sizes)))
    for found in take(order, 8, 40 * order.length // 8):
        left -= set(found.number.tolist())
    assert not left  # others are passed over in other epochs


def test_clusters_have_to_be_there():
    with pytest.raises(ConfigError, match=r"no clusters .*lift data select --clusters"):
        order_of(open_source(A), 0, 8, "cluster")


def test_order_of_a_large_source_is_one_permutation():
    big = open_source("scenes:count=40000,resolution=32")
    (found,) = take(order_of(big, 0, 8), 40_000, 1)
    assert sorted(found.number.tolist()) == list(range(40_000))
    far = np.abs(np.diff(found.number)).mean()
    assert far == pytest.approx(40_000 / 3, rel=0.02)  # windows of 16,384 would give half of it


def test_batches_of_a_source_smaller_than_one_are_refused():
    """Else each batch would show the same few images again and again, as each other's negatives."""
    with pytest.raises(ConfigError, match=r"scenes .* 7 samples an epoch, fewer than one batch"):
        order_of(open_source(f"{A}::{C}"), 1, 8, "source")


# --- selections with weights --------------------------------------------------------------------


def manifest(path, weights, clusters=()):
    """Write a manifest of as many scenes as there are weights, and return words for it."""
    words = f"scenes:count={len(weights)},resolution=32,short=1,long=0"
    inner, digest = open_source(words), Digest()
    keys = []
    for key, captions in inner.texts():
        digest.add(key, captions)
        keys.append(key)
    record = Record(
        data=words, name="x", samples=len(keys), digest=digest.hexdigest(), weight="w",
        clusters=len(clusters),
    )  # fmt: skip
    rows = {"number": range(len(keys)), "key": keys, "weight": np.array(weights, np.float32)}
    if clusters:
        rows["cluster"] = np.repeat(np.arange(len(clusters)), clusters)
    said = {METADATA: json.dumps(to_dict(record)).encode()}
    pq.write_table(pa.table(rows).replace_schema_metadata(said), path)
    return f"selected:path={path}"


WEIGHTS = [0.25, 1.5, 2.0, 0.25] * 15  # 60 draws of 60 samples


@pytest.mark.parametrize("more, begin", [("", 0), (f"::{A}", 0), (f"{A}@1::", 30)])
@pytest.mark.parametrize("window", [None, 10])
def test_weights_of_a_selection_hold_alone_and_among_others(tmp_path, more, begin, window):
    words = manifest(tmp_path / "k.parquet", WEIGHTS)
    words = f"{more}{words}@2" if more.endswith("::") else f"{words}{more}"
    source = open_source(words)
    own = next(s for s in getattr(source, "sources", [source]) if isinstance(s, Selected))
    own._inner.window_samples = window
    order, epochs = order_of(source, 5, 8), 400
    (found,) = take(order, 3 * epochs * order.length, 1)
    mine = (found.number >= begin) & (found.number < begin + 60) & (found.epoch < epochs)
    counts = np.bincount(found.number[mine] - begin, minlength=60) / epochs
    for place, weight in enumerate(WEIGHTS[:4]):
        assert counts[place::4].mean() == pytest.approx(weight, abs=0.08)
        assert np.abs(counts[place::4] - weight).max() < 0.15
    for start in (1, 59, 60, 61, 777):
        (tail,) = take(order_of(source, 5, 8), 100, 1, start)
        assert np.array_equal(tail.number, found.number[start : start + 100])


def test_batches_of_one_cluster_keep_the_weights(tmp_path):
    sizes = [16, 24, 20]
    source = open_source(manifest(tmp_path / "k.parquet", WEIGHTS, sizes))
    order = order_of(source, 5, 8, "cluster")
    found = take(order, 8, 400 * order.length // 8)
    numbers = np.concatenate([batch.number for batch in found])
    counts = np.bincount(numbers, minlength=60) * source.slots / order.length / 400
    for place, weight in enumerate(WEIGHTS[:4]):
        assert counts[place::4].mean() == pytest.approx(weight, abs=0.08)
    ends = np.cumsum(sizes)
    inside = [np.bincount(np.searchsorted(ends, batch.number, side="right")) for batch in found]
    # A draw at a border may show the first sample of the next cluster.
    assert np.mean([counts.max() >= 7 for counts in inside]) >= 6 / 7


def test_windows_of_draws_span_as_many_groups_as_windows_of_samples(tmp_path):
    source = open_source(manifest(tmp_path / "k.parquet", [0.1] * 600))
    source.groups, source.slot_groups, source._inner.window_samples = (60,) * 10, (6,) * 10, 120
    for part in take(order_of(source, 5, 8), 12, 5):  # two groups together, not all ten
        assert len(set((part.number // 60).tolist())) <= 3


def test_clusters_of_far_files_are_permuted_without_memory(tmp_path, monkeypatch):
    """They are one group: drawn as one, eight bytes a sample would lie in memory."""
    monkeypatch.setattr(ordering, "WINDOW_SAMPLES", 50)
    source = open_source(manifest(tmp_path / "k.parquet", [1.0] * 60, [20, 40]))
    source._inner.window_samples = 10
    order = order_of(source, 0, 8)
    assert isinstance(order._slots, Shuffled)
    (found,) = take(order, 60, 1)
    assert sorted(found.number.tolist()) == list(range(60))
