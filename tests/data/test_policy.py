"""Which captions an image shows: shares kept on average, in turn, from (seed, epoch, key) alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from lift.data.policy import Policy
from lift.errors import ConfigError
from lift.terms import Caption

RAW = [Caption("r0", "raw"), Caption("r1", "raw")]
REWRITE = [Caption("w0", "rewrite")]
SUB = [Caption(f"s{n}", "sub-caption") for n in range(6)]


def views(words, captions, epochs=3000, key="k", seed=0):
    policy = Policy.parse(words)
    for epoch in range(epochs):
        places = policy.shown(captions, key, seed, epoch)
        assert len(set(places.tolist())) == len(places) >= 1
        assert places.tolist() == sorted(places.tolist())
        yield [captions[place] for place in places]


def means(words, captions, **more):
    counts, sizes = Counter(), Counter()
    total = 0
    for view in views(words, captions, **more):
        counts.update(caption.role for caption in view)
        sizes[len(view)] += 1
        total += 1
    return {role: n / total for role, n in counts.items()}, set(sizes)


def test_shares_are_the_mean_numbers_shown():
    got, sizes = means("raw:0.3 rewrite:0.3 sub-caption:4", RAW + REWRITE + SUB)
    assert sizes == {4, 5}
    assert got == pytest.approx({"raw": 0.3, "rewrite": 0.3, "sub-caption": 4}, abs=0.03)


def test_shares_that_add_to_one_show_one():
    got, sizes = means("raw:0.7, rewrite:0.3", RAW + REWRITE)
    assert sizes == {1} and got["raw"] == pytest.approx(0.7, abs=0.03)


def test_a_role_that_is_missing_leaves_its_share():
    got, sizes = means("raw:0.5 rewrite:0.5", RAW)
    assert sizes == {1} and got == {"raw": 1.0}
    got, sizes = means("raw:1 sub-caption:4", RAW + SUB[:2], epochs=50)
    assert sizes == {3} and got == {"raw": 1.0, "sub-caption": 2.0}


def test_its_share_goes_to_the_others_in_proportion():
    raw = [Caption(f"r{n}", "raw") for n in range(4)]
    rewrite = [Caption(f"w{n}", "rewrite") for n in range(4)]
    got, sizes = means("raw:0.5 rewrite:1 sub-caption:1.5", raw + rewrite)
    assert sizes == {3} and got == pytest.approx({"raw": 1.0, "rewrite": 2.0}, abs=0.03)


def test_whole_numbers_are_exact_and_in_turn():
    seen = Counter(c.text for view in views("any:2", SUB, epochs=6) for c in view)
    assert set(seen.values()) == {2} and len(seen) == 6


def test_one_shows_each_in_turn_and_all_shows_all():
    assert Counter(v[0].text for v in views("one", RAW, epochs=10)) == {"r0": 5, "r1": 5}
    assert all(view == RAW + SUB for view in views("all", RAW + SUB, epochs=3))


def test_weights_that_differ_are_drawn_in_proportion():
    graded = [Caption("a", "query", 3.0), Caption("b", "query", 1.0), Caption("c", "query", 0.0)]
    seen = Counter(view[0].text for view in views("one", graded))
    assert seen["a"] / 3000 == pytest.approx(0.75, abs=0.03) and "c" not in seen
    pairs = Counter(c.text for view in views("any:2", graded) for c in view)
    assert pairs["a"] == pairs["b"] == 3000


def test_it_depends_on_seed_epoch_and_key_alone():
    def drawn(**more):
        return [[c.text for c in view] for view in views("any:1.5", SUB, epochs=40, **more)]

    assert drawn() == drawn() != drawn(key="l") and drawn() != drawn(seed=1)
    np.random.seed(3)
    assert drawn() == drawn()


@pytest.mark.parametrize(
    "words, told",
    [
        ("two", "'two'"),
        ("raw", "'raw'"),
        ("raw:x", "'raw:x'"),
        ("raw:-1", "'raw:-1'"),
        ("raw:1 raw:1", "'raw:1'"),
        ("raw:0.2 rewrite:0.3", "shows 0.5 captions"),
        ("raw:1e9", "'raw:1e9'"),
        ("raw:100000", "shows 100000"),
        ("any:1 raw:1", "any stands for all roles"),
        ("", "shows 0 captions"),
        ("raw:nan", "'raw:nan'"),
    ],
)
def test_words_that_are_no_policy(words, told):
    with pytest.raises(ConfigError, match=r"loader\.captions=") as error:
        Policy.parse(words)
    assert told in str(error.value)
