"""Shares of a source: apart by key, the same in any order, and small in memory."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path

import pytest

from lift.data.dice import key_number
from lift.data.formats.share import place_of
from lift.data.ordering import order_of
from lift.data.source import left_out, open_source
from lift.errors import ConfigError, DataError
from lift.evaluation import parse_plan

SCENES = "scenes:count=1100,seed=3,resolution=32,short=1,long=0"


def keys(words: str) -> list[str]:
    return [key for key, _ in open_source(words).texts()]


def told(path: Path, first: int, end: int) -> str:
    """Write captions with keys, and return the words for them."""
    lines = [f"photo {number}\tcaption {number}\n" for number in range(first, end)]
    path.write_text("key\tcaption\n" + "".join(lines))
    return f"texts:path={path},column=caption,key=key"


@pytest.fixture
def many(tmp_path: Path) -> str:
    return told(tmp_path / "many.tsv", 0, 3000)


def test_shares_that_are_apart_have_nothing_in_common_and_make_the_whole(many):
    parts = [
        keys(f"share:data=[{many}],start={start},stop={stop}")
        for start, stop in ((0, 0.25), (0.25, 0.9), (0.9, 1))
    ]
    everything = keys(many)
    assert (
        sorted(key for part in parts for key in part) == sorted(everything)
        and len(everything) == 3000
    )
    for part, share in zip(parts, (0.25, 0.65, 0.1), strict=True):
        assert abs(len(part) / 3000 - share) < 0.03
        own = set(part)
        assert part == [key for key in everything if key in own]


def test_the_key_alone_decides(many, tmp_path):
    part = set(keys(f"share:data=[{many}],stop=0.3"))
    longer = set(keys(f"share:data=[{told(tmp_path / 'longer.tsv', 0, 5000)}],stop=0.3"))
    later = set(keys(f"share:data=[{told(tmp_path / 'later.tsv', 1000, 3000)}],stop=0.3"))
    assert part < longer and later < part
    assert all((place_of(key, 0) < 0.3 * 2**63) == (key in part) for key in keys(many))
    other = set(keys(f"share:data=[{many}],stop=0.3,seed=1"))
    assert abs(len(other & part) / len(part) - 0.3) < 0.07  # nothing to do with each other
    plain = {key for key in keys(many) if key_number(key) < 0.3 * 2**63}
    assert abs(len(plain & part) / len(part) - 0.3) < 0.07  # as with other uses of keys


def test_a_share_of_a_share_with_another_seed_is_a_share_of_it(many):
    outer = f"share:data=[{many}],stop=0.5"
    inner = keys(f"share:data=[{outer}],stop=0.5,seed=7")
    assert set(inner) < set(keys(outer)) and 0.45 < len(inner) / len(keys(outer)) < 0.55


def test_groups_are_those_of_the_source_and_joined_sources_stay_apart():
    source = open_source(f"share:data=[{SCENES}],stop=0.5")
    assert len(source.groups) == 2 and sum(source.groups) == len(source)
    told = [source.read(index).key for index in range(len(source))]
    assert told == [key for key, _ in source.texts()]
    assert int(told[source.groups[0]][-7:]) >= 1000 > int(told[source.groups[0] - 1][-7:])
    assert left_out(source) == {"outside the share": 1100 - len(source)}
    other = "scenes:count=40,seed=9,short=1,long=0"
    joined = open_source(f"share:data=[{SCENES}@2::{other}@1],stop=0.5::{other}")
    mixed, alone = joined.sources
    assert mixed.weights == (2.0, 1.0) and len(mixed.sources[0]) == len(source)
    assert len(alone) == 40
    assert order_of(mixed, 0, 8).length
    copy = pickle.loads(pickle.dumps(source))
    assert list(copy.texts()) == list(source.texts()) and copy.groups == source.groups


def test_evaluations_take_a_share():
    plan = parse_plan(f"retrieval:data=[share:data=[{SCENES}],start=0.9]")
    assert plan.data == f"share:data=[{SCENES}],start=0.9"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("share", "words of its data"),
        (f"share:data=[{SCENES}],start=0.5,stop=0.5", "0 <= start < stop <= 1"),
        (f"share:data=[{SCENES}],stop=1.5", "not 0 to 1.5"),
        ("share:data=[scenes:cuont=3],stop=0.5", "cuont"),
    ],
)
def test_bad_words_are_one_sentence(words, sentence):
    with pytest.raises(ConfigError, match=sentence):
        open_source(words)


def test_an_empty_share_and_a_source_that_changed_are_told(tmp_path):
    with pytest.raises(DataError, match="holds no samples"):
        open_source(f"share:data=[{SCENES}],stop=1e-12")
    path = tmp_path / "captions.tsv"
    source = open_source(f"share:data=[{told(path, 0, 50)}],stop=0.5")
    assert list(source.texts())
    told(path, 1000, 1050)
    with pytest.raises(DataError, match="changed"):
        list(source.texts())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_samples(tmp_path):
    peaks = []
    for count in (100, 4_000, 20_000):
        words = f"share:data=[{told(tmp_path / f'{count}.tsv', 0, count)}],stop=0.9"
        tracemalloc.start()
        source = open_source(words)
        before = tracemalloc.get_traced_memory()[0]
        assert sum(1 for _ in source.texts()) == len(source) > 0.8 * count
        peaks.append(max(before, 1))
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 60_000, peaks  # 8 bytes a sample, on disk
