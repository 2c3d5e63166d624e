"""Nearest neighbours: equal to loops and to scikit-learn, whatever the order, blocks and ties."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lift.errors import ConfigError, DataError
from lift.evals import _encode, knn
from lift.evals._labelled import parts_of
from lift.terms import Sample

CLASSES = 4


def samples(labels, start=0):
    return [
        Sample(f"k{i}", f"image {i}".encode(), (), {"class_name": label})
        for i, label in enumerate(labels, start)
    ]


@pytest.fixture
def two(list_source, vectors):
    """Return an encoder, images to judge and images to learn from, with something to learn."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLASSES, 16))
    names = [f"c{c}" for c in rng.integers(0, CLASSES, 300)]
    known = {
        f"image {i}".encode(): 0.7 * centres[int(name[1:])] + rng.standard_normal(16)
        for i, name in enumerate(names)
    }
    source, train = list_source(samples(names[:120])), list_source(samples(names[120:], 120))
    train.name = "shown"
    return vectors(known), source, train


def run(encoder, source, train=None, **options):
    evaluation = knn.build(knn.Config(of="vector", **options))
    if train is not None:
        evaluation.learn_from(train)
    return evaluation.run(encoder, source)


def rows(encoder, source):
    z = encoder.encode_images([sample.image for sample in source.samples]).astype(np.float64)
    return z, np.array([sample.fields["class_name"] for sample in source.samples])


@pytest.mark.parametrize("vote", ["weighted", "majority"])
@pytest.mark.parametrize("chunk", [7, 256])
def test_equals_loops(vote, chunk, two, monkeypatch):
    monkeypatch.setattr(_encode, "CHUNK", chunk)
    monkeypatch.setattr(_encode, "BLOCK", 1000)  # several blocks of queries, too
    encoder, source, train = two
    result = run(encoder, source, train, k=9, vote=vote, temperature=0.2)
    (z, own), (z_train, labels) = rows(encoder, source), rows(encoder, train)
    names, first, per_class = sorted(set(labels)), [], {}
    for row, truth in zip(z, own, strict=True):
        cosines = z_train @ row
        near = np.argsort(-cosines)[:9]
        votes = dict.fromkeys(names, 0.0)
        for at in near:
            votes[labels[at]] += np.exp(cosines[at] / 0.2) if vote == "weighted" else 1.0
        best = [n for n in names if votes[n] > max(votes.values()) - 1e-9]
        first.append((truth in best) / len(best))
        per_class.setdefault(truth, []).append(first[-1])
    assert result.metrics["top-1"].value == pytest.approx(np.mean(first), abs=1e-9)
    even = np.mean([np.mean(own) for own in per_class.values()])
    assert result.metrics["mean per class"].value == pytest.approx(even)
    assert 0.5 < result.metrics["top-1"].value < 1 and result.chance == 1 / CLASSES
    assert result.counts == {"images": 120, "classes": CLASSES, "training images": 180}


def test_equals_scikit_learn(two):
    neighbors = pytest.importorskip("sklearn.neighbors")
    encoder, source, train = two
    (z, own), (z_train, labels) = rows(encoder, source), rows(encoder, train)
    theirs = neighbors.KNeighborsClassifier(
        20, algorithm="brute", weights=lambda d: np.exp((1 - d**2 / 2) / 0.07)
    ).fit(z_train, labels)
    near = knn.Nearest(z.astype(np.float32), 20)
    names, numbers = np.unique(labels, return_inverse=True)
    near.add(z_train.astype(np.float32), numbers.astype(np.int64))
    np.testing.assert_allclose(near.votes(CLASSES, 0.07), theirs.predict_proba(z), atol=1e-4)
    result = run(encoder, source, train)
    assert result.metrics["top-1"].value == pytest.approx(theirs.score(z, own))
    assert list(names) == sorted(set(labels))


def test_ties_are_shared_whatever_the_order(vectors):
    """Of five equal neighbours that tie for two places, each has two fifths of a vote."""
    rng = np.random.default_rng(1)
    z = np.eye(4, dtype=np.float32)
    near = np.array([0, 1, 1, 1, 1, 1, 2])
    labels = np.array([0, 0, 1, 1, 1, 2, 2])
    expected = np.array([1 + 2 / 5, 2 * 3 / 5, 2 / 5]) / 3
    for _ in range(20):
        order = rng.permutation(len(near))
        found = knn.Nearest(z[:1] * 0.8 + z[1:2] * 0.6, 3)
        for part in np.array_split(order, rng.integers(1, 5)):
            found.add(z[near[part]], labels[part].astype(np.int64))
        np.testing.assert_allclose(found.votes(3, None)[0], expected, rtol=1e-6)


def votes_by_hand(scores, labels, k):
    """Return the expected votes of one each over all orders of ties."""
    last = np.sort(scores)[-k]
    above, tied = scores > last, scores == last
    share = (k - above.sum()) / tied.sum()
    return np.array(
        [(labels[above] == c).sum() + share * (labels[tied] == c).sum() for c in (0, 1)]
    )


def test_later_vectors_push_ties_out():
    """Few distinct scores, in any order and pieces: who tied for the last place may leave."""
    rng = np.random.default_rng(0)
    steps = np.linspace(0, 1, 5)
    for trial in range(60):
        scores, labels = steps[rng.integers(0, 5, 12)], rng.permutation(12) % 2
        if trial % 2:
            scores = np.sort(scores)  # each is better than all before
        z = np.stack([scores, np.sqrt(1 - scores**2)], axis=1).astype(np.float32)
        near = knn.Nearest(np.array([[1, 0]], np.float32), 4)
        for part in np.array_split(np.arange(12), rng.integers(1, 6)):
            near.add(z[part], labels[part])
        expected = votes_by_hand(scores, labels, 4) / 4
        np.testing.assert_allclose(near.votes(2, None)[0], expected, atol=1e-6)


def test_without_training_images_parts_judge_each_other(two, list_source):
    encoder, _, train = two
    result = run(encoder, train, k=5)
    assert result.counts == {"images": 180, "classes": CLASSES}
    assert (
        result.metrics["top-1"].value > 0.5 and "each of 5 parts by the others" in result.protocol
    )
    shuffled = list_source(train.samples[::-1])
    assert run(encoder, shuffled, k=5).metrics["top-1"].value == result.metrics["top-1"].value
    # A copy never votes for itself: it is in the same part.
    doubled = list_source([*train.samples, *train.samples])
    twice = run(encoder, doubled, k=10).metrics["top-1"]
    assert twice.value == pytest.approx(result.metrics["top-1"].value) and twice.items == 180


def test_parts_are_even_and_keep_copies_together():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(6), [5, 6, 7, 13, 1, 8]).astype(np.int64)
    content = [bytes([n]) for n in range(40)]
    part = parts_of(truth, content, 5)
    assert set(np.bincount(part)) == {8}
    for label in range(6):
        counts = np.bincount(part[truth == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    order = rng.permutation(40)
    shuffled = parts_of(truth[order], [content[n] for n in order], 5)
    np.testing.assert_array_equal(shuffled, part[order])
    twice = [b"a", b"b", b"c", b"a", b"d"]  # one photograph with two labels
    for labels in ([0, 1, 1, 2, 2], [2, 1, 1, 0, 2]):
        assert parts_of(np.array(labels), twice, 4).tolist() == [0, 1, 2, 0, 3]
    copies = parts_of(np.array([0, 0, 1]), [b"a", b"b", b"a"], 2)
    assert copies[0] == copies[2] != copies[1]


class Deep:
    """An encoder whose tower tells what its vectors do not."""

    name, saw = "deep", ()

    def __init__(self, encoder):
        self._encoder = encoder

    def encode_images(self, images):
        return np.repeat(np.eye(1, 16, dtype=np.float32), len(images), axis=0)

    encode_texts = encode_images

    def features(self, images):
        return 7 * self._encoder.encode_images(images)


def test_what_taught_has_a_part_in_the_digest(two, list_source):
    """Results pair by digest, and other neighbours give other answers."""
    encoder, source, train = two
    other = list_source([dataclasses.replace(train.samples[0], key="other"), *train.samples[1:]])
    other.name = train.name
    first, again, changed = (run(encoder, source, t) for t in (train, train, other))
    assert first.protocol == changed.protocol
    assert first.digest == again.digest != changed.digest


def test_looks_at_the_tower_or_at_the_vectors(two):
    encoder, source, train = two
    evaluation = knn.build(knn.Config())
    evaluation.learn_from(train)
    deep = evaluation.run(Deep(encoder), source)
    assert deep.metrics == run(encoder, source, train).metrics and not deep.notes
    assert run(Deep(encoder), source, train).metrics["top-1"].value < 0.4
    assert "features of the tower" in deep.protocol
    without = evaluation.run(encoder, source)
    assert without.notes == ("vectors tells no features of its tower: image vectors instead",)


def test_the_protocol_says_what_the_figures_depend_on(two):
    _, _, train = two
    plain = knn.build(knn.Config())
    every = [knn.build(knn.Config(**options)).protocol for options in ({"k": 3}, {"of": "vector"})]
    every += [knn.build(knn.Config(vote="majority")).protocol]
    every += [knn.build(knn.Config(label="kind")).protocol, knn.build(knn.Config(parts=3)).protocol]
    every += [knn.build(knn.Config(temperature=0.1)).protocol, plain.protocol]
    plain.learn_from(train)
    assert plain.protocol == (
        "class_name, k 20, votes weighted at 0.07, features of the tower, train shown (180 images)"
    )
    assert len({*every, plain.protocol}) == 8


def test_faults(two, list_source, vectors):
    encoder, source, train = two
    with pytest.raises(DataError, match=r"^k=500 neighbours can't be found among 180 .* of shown;"):
        run(encoder, source, train, k=500)
    with pytest.raises(DataError, match=r"^k=97 .* 96 labelled images of the other parts of list"):
        run(encoder, source, k=97)
    with pytest.raises(DataError, match=r"1 classes of list have no image in shown.*'c9'"):
        run(encoder, list_source(samples(["c1", "c9"])), train, k=3)
    with pytest.raises(DataError, match=r"1 classes of list have one image only.*'c9'.*train="):
        run(encoder, list_source(samples(["c1", "c9", "c1"])), k=1)
    bare = list_source([Sample("a", b"image 1", (), {"colour": "red"})])
    bare.name = "bare"
    with pytest.raises(DataError, match=r"Unknown field of bare .*'class_name'"):
        run(encoder, source, bare, k=1)
    with pytest.raises(DataError, match="bare has an empty 'colour' for every image"):
        blank = list_source([Sample("a", b"image 1", (), {"colour": " "})])
        blank.name = "bare"
        run(encoder, blank, k=1, label="colour")
    with pytest.raises(ConfigError, match="is not open: give it to learn_from"):
        knn.build(knn.Config(train="some.tar")).run(encoder, source)
    for options, words in (
        ({"k": 0}, "knn.k"),
        ({"temperature": 0}, "knn.temperature"),
        ({"parts": 1}, "knn.parts"),
        ({"examples": -1}, "knn.examples"),
    ):
        with pytest.raises(ConfigError, match=words):
            knn.build(knn.Config(**options))


def test_tells_of_images_that_teach_and_are_judged(two, list_source):
    encoder, source, train = two
    bare = Sample("u", b"x", (), {"class_name": ""})
    both = list_source([*train.samples, *source.samples[:3], bare])
    result = run(encoder, source, both)
    assert "3 of 120 images are in list to the byte" in result.notes
    assert "1 images without a label of list left out" in result.notes
