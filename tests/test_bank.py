"""Banks: scores against loops, rows that never move, learning from images and from captions."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch

import lift
from lift import plugins
from lift.bank import Bank, Fired
from lift.bank.learning import learn
from lift.bank.scoring import logits_of
from lift.bank.value import clause
from lift.bundle import Bundle, BundleRecord
from lift.cache.reader import EmbeddingCache
from lift.config import part
from lift.data.source import open_source
from lift.data.transform import Transform
from lift.encoders import CachedTexts
from lift.errors import CheckpointError, ConfigError, DataError, NotFinite, SpaceMismatch
from lift.evaluation import evaluate, parse_plan
from lift.heads import HeadConfig
from lift.model import SideConfig, build_side
from lift.terms import unit
from lift.text.encoders.hashing import Config, HashingEncoder


class Texts:
    """An encoder of the text space of the hashing encoder, whose images are arrays of rows."""

    name, saw = "texts", ()

    def __init__(self, dimensions: int = 24, **options) -> None:
        self._encoder = HashingEncoder(Config(dimensions=dimensions, **options))
        self.space = self._encoder.space

    def encode_texts(self, texts):
        return unit(torch.from_numpy(self._encoder.encode(list(texts)).rows)).numpy()

    def encode_images(self, images):
        return unit(torch.from_numpy(np.stack(images).astype(np.float32))).numpy()


NAMES = ("cat", "dog", "cow")
REDUCES = ("mean", "max", "logsumexp")


@pytest.fixture
def encoder() -> Texts:
    return Texts()


@pytest.fixture
def bank(encoder: Texts) -> Bank:
    return Bank.of_names(encoder, NAMES, ("a {}.", "the {}."))


def vectors(count: int, width: int = 24, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def varied(bank: Bank, reduce: str = "mean") -> Bank:
    """Return the bank with an uneven number of rows and weights."""
    more = bank.with_rows(vectors(3, seed=5), ["dog", "cat", "dog"], "text", ["x", "y", "z"])
    weights = np.array([1, 0.5, 2, 1, 0, 3, 0.25, 1, 1], np.float32)
    return dataclasses.replace(more, weights=weights, reduce=reduce, temperature=0.1)


# --- scores --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduce", REDUCES)
def test_scores_equal_loops(bank, reduce):
    bank, z = varied(bank, reduce), vectors(7)
    expected = np.zeros((7, 3))
    for c in range(3):
        own = [r for r in range(9) if bank.owner[r] == c]
        rows, weights = bank.rows[own].astype(np.float64), bank.weights[own].astype(np.float64)
        for i, vector in enumerate(z.astype(np.float64)):
            cosines = rows @ vector
            mean = (weights[:, None] * rows).sum(axis=0)
            expected[i, c] = {
                "mean": vector @ mean / np.linalg.norm(mean),
                "max": max(k for k, w in zip(cosines, weights, strict=True) if w > 0),
                "logsumexp": 0.1 * np.log((weights * np.exp(cosines / 0.1)).sum() / weights.sum()),
            }[reduce]
    np.testing.assert_allclose(bank.scores(z), expected, atol=1e-6)
    tensors = [torch.from_numpy(a.copy()) for a in (z, bank.rows, bank.owner, bank.weights)]
    order = torch.randperm(9)
    live = logits_of(tensors[0], *[t[order] for t in tensors[1:]], 3, bank.reduce, 0.1)
    np.testing.assert_allclose(live.numpy(), expected, atol=1e-6)
    best = bank.predict(z, top=2)
    assert [own[0][0] for own in best] == [NAMES[c] for c in expected.argmax(axis=1)]
    assert best[0][0][1] == pytest.approx(expected[0].max(), abs=1e-6) and len(best[0]) == 2


def test_class_vectors_are_to_the_bit_what_zero_shot_had(encoder):
    """The sum of all sentences' rows in float64, names by templates, scaled; equal ones count."""
    classes = [("cat", "kitten"), ("dog",), ("cow", "cow", "calf")]
    templates = ("a {}.", "the {}.", "{}")
    sentences = [[t.replace("{}", n) for n in own for t in templates] for own in classes]
    rows = encoder.encode_texts([text for own in sentences for text in own])
    sizes = np.array([len(own) for own in sentences])
    sums = np.add.reduceat(rows, np.cumsum(sizes) - sizes, axis=0, dtype=np.float64)
    expected = (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)
    found = Bank.of_names(encoder, classes, templates)
    assert np.array_equal(found.class_vectors, expected)
    assert found.classes == ("cat", "dog", "cow") and len(found.rows) == 18
    assert np.array_equal(found.rows, rows) and found.kinds == ("template",) * 18


@pytest.mark.parametrize("reduce", REDUCES)
def test_explains_which_rows_fired(bank, reduce):
    bank, z = varied(bank, reduce), vectors(4)
    for vector, fired in zip(z, bank.explain(z, top=9), strict=True):
        assert len(fired) == 9 and isinstance(fired[0], Fired)
        cosines = [one.cosine for one in fired]
        assert cosines == sorted(cosines, reverse=True)
        np.testing.assert_allclose(sorted(cosines), np.sort(bank.rows @ vector), atol=1e-6)
        for name in NAMES:
            assert sum(one.share for one in fired if one.label == name) == pytest.approx(1)
        unused = [one for one in fired if one.text == bank.texts[4]]
        assert [one.share for one in unused] == [0]  # its weight is 0
        best = fired[0]
        row = int((bank.rows @ vector).argmax())
        assert (best.label, best.kind, best.text) == (
            NAMES[bank.owner[row]],
            bank.kinds[row],
            bank.texts[row],
        )
    only = bank.explain(z, top=20, label="cow")[0]
    assert [one.label for one in only] == ["cow"] * 2
    assert len(bank.explain(z)[0]) == 5


# --- makers --------------------------------------------------------------------------------------


def test_descriptors_are_sentences_about_a_class(bank, encoder):
    found = bank.with_descriptors(encoder, {"dog": ["a wet nose", "four legs"], "cow": "is large"})
    texts = [t for t, k in zip(found.texts, found.kinds, strict=True) if k == "descriptor"]
    assert texts == [
        "a photo of a dog, which is a wet nose.",
        "a photo of a dog, which has four legs.",
        "a photo of a cow, which is large.",
    ]
    assert np.array_equal(found.rows[found.owner == 0], bank.rows[bank.owner == 0])
    row = found.texts.index(texts[1])
    assert np.array_equal(found.rows[row], encoder.encode_texts([texts[1]])[0])
    assert NAMES[found.owner[row]] == "dog" and found.without_kind("descriptor").digest == (
        bank.digest
    )
    plain = bank.with_texts(encoder, {"cat": "it purrs"})
    assert (plain.texts[2], plain.kinds[2]) == ("it purrs", "text")
    assert bank.with_texts(encoder, {}) is bank
    with pytest.raises(ConfigError, match=r"needs two \{\}"):
        bank.with_descriptors(encoder, {"cat": ["x"]}, template="a {}")
    with pytest.raises(ConfigError, match=r"class of the bank: 'dogs'.*Did you mean 'dog'"):
        bank.with_descriptors(encoder, {"dogs": ["x"]})
    assert clause("which purrs") == "which purrs" and clause("used to milk") == (
        "which is used to milk"
    )


def test_examples_weigh_as_much_as_the_text(bank, encoder):
    images, labels = vectors(5, seed=3), ["dog", "cat", "dog", "dog", "cat"]
    found = bank.with_examples(encoder, list(images), labels)
    assert found.kinds.count("image") == 2 and len(found.rows) == 8
    mean = images[[0, 2, 3]].mean(axis=0)
    row = next(r for r in range(8) if found.kinds[r] == "image" and found.owner[r] == 1)
    np.testing.assert_allclose(found.rows[row], mean / np.linalg.norm(mean), atol=1e-6)
    assert found.weights[row] == 2  # two templates
    every = bank.with_examples(encoder, list(images), labels, keep_all=True, weight=3)
    own = [r for r in range(len(every.rows)) if every.kinds[r] == "image"]
    assert len(own) == 5 and every.weights[own].tolist() == [3, 3, 2, 2, 2]
    np.testing.assert_allclose(every.rows[own], images[[1, 4, 0, 2, 3]], atol=1e-6)
    with pytest.raises(DataError, match="4 labels were given for 5 examples"):
        bank.with_examples(encoder, list(images), labels[:4])


# --- learning ------------------------------------------------------------------------------------


def planted(bank: Bank, count: int = 90, seed: int = 1, lean: float = 0.6):
    """Return vectors near the classes, each class moved its own way, and their labels."""
    rng = np.random.default_rng(seed)
    moved = np.random.default_rng(4).standard_normal(bank.class_vectors.shape)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    truth = rng.integers(0, len(bank.classes), count)
    z = 0.4 * bank.class_vectors[truth] + lean * moved[truth]
    z = z + 0.16 * rng.standard_normal(z.shape)
    z = (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)
    return z, [bank.classes[c] for c in truth]


def accuracy(bank: Bank, z: np.ndarray, labels: list[str]) -> float:
    return float(
        np.mean([own[0][0] == name for own, name in zip(bank.predict(z), labels, strict=True)])
    )


def kept(before: Bank, after: Bank) -> bool:
    """Return whether every row, weight and text of `before` is in `after` to the bit."""
    old = [r for r in range(len(after.rows)) if after.kinds[r] != "learned"]
    same = np.array_equal(after.rows[old], before.rows)
    same &= np.array_equal(after.weights[old], before.weights)
    return same and tuple(after.texts[r] for r in old) == before.texts


@pytest.mark.parametrize("reduce", REDUCES)
def test_learned_rows_help_and_nothing_else_moves(encoder, reduce):
    names = ("cat", "dog", "cow", "hen", "pig", "fox", "owl", "bee")
    bank = Bank.of_names(encoder, names, ("a {}.", "the {}."), reduce=reduce)
    z, labels = planted(bank)
    z_new, labels_new = planted(bank, 200, seed=2)
    found = bank.learned(z, labels)
    assert accuracy(found, z_new, labels_new) > accuracy(bank, z_new, labels_new) + 0.1
    assert kept(bank, found) and found.kinds.count("learned") == 8
    assert found.without_kind("learned").digest == bank.digest
    # Only some classes have images: the others keep their rows, and no row is added for them.
    some = [n for n, name in enumerate(labels) if name in ("cat", "bee")]
    few = bank.learned(z[some], [labels[n] for n in some])
    assert kept(bank, few) and few.kinds.count("learned") == 2
    for name in names[1:-1]:
        number = names.index(name)
        assert np.array_equal(few.rows[few.owner == number], bank.rows[bank.owner == number])
        if reduce == "mean":
            assert np.array_equal(few.class_vectors[number], bank.class_vectors[number])
    # Learning again replaces what was learned for those classes, and only that.
    again = found.learned(z[some], [labels[n] for n in some])
    assert again.kinds.count("learned") == 8 and kept(bank, again)
    other = [r for r in range(len(found.rows)) if names[found.owner[r]] not in ("cat", "bee")]
    assert np.array_equal(again.rows[other], found.rows[other])


def test_a_decay_without_end_leaves_the_start(bank):
    z, labels = planted(bank)
    found = bank.learned(z, labels, decay=1e9)
    learned = [r for r in range(len(found.rows)) if found.kinds[r] == "learned"]
    np.testing.assert_allclose(found.rows[learned], bank.class_vectors, atol=1e-6)
    np.testing.assert_allclose(found.class_vectors, bank.class_vectors, atol=1e-6)
    free, held = (bank.learned(z, labels, decay=d).class_vectors for d in (0.01, 10.0))
    far = [np.linalg.norm(v - bank.class_vectors) for v in (free, held)]
    assert far[0] > 2 * far[1] > 0


def test_learned_rows_are_a_minimum(bank):
    """No step in any of many directions from what was learned makes the objective smaller."""
    z, labels = planted(bank)
    truth = np.array([NAMES.index(name) for name in labels])
    start = torch.from_numpy(bank.class_vectors.copy()).double()

    def objective(rows: torch.Tensor) -> float:
        own = np.bincount(bank.owner, bank.weights)
        every = torch.cat([torch.from_numpy(bank.rows.copy()).double(), unit(rows)])
        owner = torch.from_numpy(np.concatenate([bank.owner, np.arange(3)]))
        weights = torch.from_numpy(np.concatenate([bank.weights, own])).double()
        sums = torch.zeros(3, 24, dtype=torch.float64)
        sums.index_add_(0, owner, every * weights[:, None])
        scores = torch.from_numpy(z).double() @ (sums / sums.norm(dim=1, keepdim=True)).T
        loss = torch.nn.functional.cross_entropy(100 * scores, torch.from_numpy(truth))
        return float(loss + 0.5 * (rows - start).square().sum(dim=1).mean())

    _, rows, weights = learn(
        bank.rows, bank.owner, bank.weights, 3, "mean", 0.05,
        z=z, truth=truth, scale=100.0, decay=1.0, weight=1.0,
    )  # fmt: skip
    assert weights.tolist() == [2, 2, 2]

    # Rows come back with unit length; along each, the length is free: take the best one.
    def best(rows: np.ndarray) -> float:
        return min(
            objective(torch.from_numpy(rows).double() * length)
            for length in np.linspace(0.3, 1.2, 46)
        )

    here, rng = best(rows), np.random.default_rng(0)
    assert here < objective(start) - 0.05
    for _ in range(20):
        assert best(rows + 0.02 * rng.standard_normal(rows.shape).astype(np.float32)) > here - 1e-3


def test_learns_from_captions_alone(bank, encoder):
    """Words that no template has teach a class, without an image."""
    captions = [f"{noise} meow" for noise in ("loud", "soft", "late", "long")]
    captions += [f"{noise} bark" for noise in ("loud", "soft", "late", "long")]
    labels = ["cat"] * 4 + ["dog"] * 4
    found = bank.learned_from_texts(encoder, captions, labels)
    asked = encoder.encode_texts(["a strange meow", "a strange bark"])
    assert [own[0][0] for own in found.predict(asked)] == ["cat", "dog"]
    assert [own[0][0] for own in bank.predict(asked)] == ["cat", "cat"]
    assert kept(bank, found)
    assert np.array_equal(found.rows[found.owner == 2], bank.rows[bank.owner == 2])


def test_faults_of_learning(bank, encoder):
    z, labels = planted(bank, 6)
    with pytest.raises(DataError, match="5 labels were given for 6 examples"):
        bank.learned(z, labels[:5])
    with pytest.raises(DataError, match="0 labels were given for 0 examples"):
        bank.learned(z[:0], [])
    with pytest.raises(ConfigError, match="class of the bank: 'cart'"):
        bank.learned(z, [*labels[:5], "cart"])
    with pytest.raises(DataError, match="rows of 24 numbers, the vectors to learn from have 8"):
        bank.learned(z[:, :8], labels)
    for options in ({"scale": 0.0}, {"decay": -1.0}, {"weight": 0.0}, {"decay": np.inf}):
        with pytest.raises(ConfigError, match="needs scale and weight above 0"):
            bank.learned(z, labels, **options)
    with pytest.raises(NotFinite, match="holds NaN"):
        bank.learned(z * np.float32(np.nan), labels)


# --- editing -------------------------------------------------------------------------------------


def test_labels_are_edited_and_rows_stay(bank, encoder):
    bank = varied(bank)
    less = bank.without("cat")
    assert less.classes == ("dog", "cow") and len(less.rows) == 6
    assert np.array_equal(less.rows, bank.rows[bank.owner > 0])
    assert less.texts == bank.texts[3:] and less.owner.tolist() == [0, 0, 0, 0, 1, 1]
    named = bank.renamed("cow", "cattle")
    assert named.classes == ("cat", "dog", "cattle") and named.texts == bank.texts
    assert named.rows is bank.rows and bank.classes == NAMES
    other = Bank.of_names(encoder, ["hen", "dog"], ("one {}",))
    both = bank.with_classes(other)
    assert both.classes == (*NAMES, "hen") and len(both.rows) == 11
    assert both.texts[both.owner.tolist().index(3)] == "one hen"
    assert np.array_equal(both.rows[both.owner == 1][-1], other.rows[1])
    assert np.array_equal(
        both.without("hen").rows[both.owner[:-1] == 0], bank.rows[bank.owner == 0]
    )
    np.testing.assert_array_equal(bank.scores(vectors(3))[:, 1:], less.scores(vectors(3)))
    with pytest.raises(ConfigError, match=r"'cow' can't be called 'cat': empty, or taken"):
        bank.renamed("cow", "cat")
    with pytest.raises(ConfigError, match="has none left"):
        bank.without(*NAMES)
    with pytest.raises(ConfigError, match="'cow' of the bank would have no row left"):
        bank.without_kind("template")
    with pytest.raises(ConfigError, match="kind of row 'templat'"):
        bank.without_kind("templat")
    with pytest.raises(ConfigError, match="2 classes of the bank are called 'cat'"):
        Bank.of_names(encoder, ["cat", "cat"]).without("cat")


def test_a_bank_never_changes(bank):
    for array in (bank.rows, bank.owner, bank.weights):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        bank.classes = ()


def test_of_names_faults(encoder):
    for names, templates, words in (
        ([], ("{}",), "at least one class and one template"),
        (["a"], (), "at least one class and one template"),
        (["a", " "], ("{}",), "empty name"),
        (["a", []], ("{}",), "empty name"),
        (["a"], ("a photo",), r"'a photo' has no \{\}"),
    ):
        with pytest.raises(ConfigError, match=words):
            Bank.of_names(encoder, names, templates)


def test_what_a_bank_refuses_to_be(bank):
    nan = bank.rows.copy()
    nan[3, 2] = np.nan
    replaced = {
        "don't match": {"texts": bank.texts[1:]},
        "order of their classes": {"owner": bank.owner[::-1].copy()},
        "owns a row": {"owner": np.zeros(6, np.int64)},
        "not of unit length": {"rows": bank.rows * np.float32(2)},
        "'the dog.': the encoder is damaged": {"rows": nan},
        "weights of a bank are 0 or more": {"weights": bank.weights * 0},
        "kind of row 'odd'": {"kinds": ("odd",) * 6},
        "temperature of a bank": {"temperature": 0.0},
    }
    for words, change in replaced.items():
        with pytest.raises((DataError, ConfigError, NotFinite), match=words):
            dataclasses.replace(bank, **change)


# --- spaces and disk -----------------------------------------------------------------------------


def test_another_space_is_refused(bank, encoder):
    other, wide = Texts(seed=1), Texts(32)
    with pytest.raises(SpaceMismatch, match=rf"the bank has .*{bank.space.fingerprint}"):
        bank.with_texts(other, {"cat": "x"})
    with pytest.raises(SpaceMismatch, match="the encoder has"):
        bank.with_examples(other, list(vectors(1)), ["cat"])
    with pytest.raises(SpaceMismatch, match="fingerprint"):
        bank.learned_from_texts(other, ["x"], ["cat"])
    with pytest.raises(SpaceMismatch, match="the other one has"):
        bank.with_classes(Bank.of_names(wide, ["hen"]))
    with pytest.raises(DataError, match="rows of 24 numbers, the vectors have 32"):
        bank.scores(vectors(2, 32))
    with pytest.raises(DataError, match="rows of 24 numbers, the vectors have 32"):
        bank.explain(vectors(2, 32))
    unnamed = dataclasses.replace(Bank.of_names(wide, ["hen"]), space=None)
    with pytest.raises(DataError, match="rows of 24 numbers, the other bank has 32"):
        bank.with_classes(unnamed)


def test_saved_and_loaded_it_is_the_same(bank, tmp_path):
    bank = varied(bank, "logsumexp").renamed("cow", "Kühe 牛")
    folder = bank.save(tmp_path / "bank")
    assert {path.name for path in folder.iterdir()} == {"bank.json", "bank.safetensors"}
    again = lift.Bank.load(folder)
    for name in ("rows", "owner", "weights"):
        assert np.array_equal(getattr(again, name), getattr(bank, name))
        assert getattr(again, name).dtype == getattr(bank, name).dtype
    for name in ("classes", "kinds", "texts", "space", "reduce", "temperature", "digest"):
        assert getattr(again, name) == getattr(bank, name)
    assert again.digest != bank.renamed("cat", "kitten").digest
    assert again.digest != dataclasses.replace(bank, reduce="max").digest
    bank.without("cat").save(folder)  # an older one is replaced
    assert Bank.load(folder).classes == ("dog", "Kühe 牛")


def test_damaged_and_foreign_folders(bank, tmp_path):
    folder = bank.save(tmp_path / "bank")
    words = json.loads((folder / "bank.json").read_text())

    def rewritten(**change) -> Path:
        (folder / "bank.json").write_text(json.dumps({**words, **change}))
        return folder

    with pytest.raises(CheckpointError, match="has format 2, this version reads up to 1"):
        Bank.load(rewritten(format=2))
    changed = {**words["space"], "model": "another"}
    with pytest.raises(CheckpointError, match=r"damaged.*was changed after it was written"):
        Bank.load(rewritten(space=changed))
    for change in (
        {"classes": ["a"]},
        {"reduce": "sum"},
        {"kinds": 3},
        {"temperature": "hot"},
        {"temperature": math.inf, "reduce": "logsumexp"},
        {"temperature": 1e-300, "reduce": "logsumexp"},
        {"classes": ["\ud800", "b"]},
        {"texts": [1] * 6},
    ):
        with pytest.raises(CheckpointError, match="is damaged"):
            Bank.load(rewritten(**change))
    rewritten()
    arrays = load_file(folder / "bank.safetensors")
    for change in (
        {"weights": np.ones((6, 2), np.float32)},
        {"weights": np.ones(6, bool)},
        {"owner": arrays["owner"].astype(np.float32)},
    ):
        save_file({**arrays, **change}, folder / "bank.safetensors")
        with pytest.raises(CheckpointError, match="is damaged"):
            Bank.load(folder)
    half = {name: torch.from_numpy(value.copy()).bfloat16() for name, value in arrays.items()}
    save_torch(half, folder / "bank.safetensors")
    with pytest.raises(CheckpointError, match="is damaged"):
        Bank.load(folder)
    (folder / "bank.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="is damaged"):
        Bank.load(folder)
    rewritten()
    (folder / "bank.safetensors").write_bytes(b"spoiled")
    with pytest.raises(CheckpointError, match="is damaged"):
        Bank.load(folder)
    (folder / "bank.json").write_text("[]")
    with pytest.raises(CheckpointError, match="is damaged"):
        Bank.load(folder)
    with pytest.raises(CheckpointError, match="is no bank"):
        Bank.load(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="holds something else"):
        bank.save(tmp_path / "own")


# --- with a model --------------------------------------------------------------------------------


def model():
    """Return a tiny model in the space of the hashing encoder."""
    torch.manual_seed(0)
    encoder = plugins.build(part("text/encoders", "hashing", dimensions=24))
    tower = part("towers", "vit", width=16, depth=1, heads=2, patch=8, resolution=32)
    image = SideConfig(tower=plugins.resolve(tower), head=HeadConfig(layers=1))
    record = BundleRecord(
        image=image,
        transform=Transform(resolution=32),
        space=encoder.space,
        encoder=plugins.resolve(encoder.part),
        scalars={"scale": 20.0},
    )
    return Bundle(build_side(image, None, 24), record)


def test_a_model_classifies_by_a_bank_and_explains():
    made = model()
    photos = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    templates = ("a {}.", "the {}.")
    bank = Bank.of_names(made, NAMES, templates)
    plain = made.classify(photos, NAMES, templates=templates)
    assert made.classify(photos, bank) == plain and bank.space == made.space
    assert [g.label for g in made.classify(photos, bank, top=1)[2]] == [plain[2][0].label]
    z = made.encode_images(photos)
    fired = made.explain(photos, bank, top=4)
    assert fired == bank.explain(z, top=4) and len(fired) == 3
    cosines = bank.rows @ z[0]
    assert fired[0][0].text == bank.texts[int(cosines.argmax())]
    # Learned from what the model sees, the bank names it; the model's own texts stay.
    learned = bank.learned(z, list(NAMES), decay=0.01)
    assert [own[0].label for own in made.classify(photos, learned)] == list(NAMES)
    assert any(one.kind == "learned" for one in made.explain(photos, learned)[0])
    other = Bank.of_names(Texts(seed=3), NAMES)
    with pytest.raises(SpaceMismatch, match="the bank has the fingerprint"):
        made.classify(photos, other)
    with pytest.raises(SpaceMismatch, match="the model model has"):
        made.explain(photos, other)


def test_texts_from_a_cache_still_tell_the_space_and_the_tower(tmp_path):
    """A model whose texts come from a cache is refused a bank of another space, too."""
    data = "scenes:count=12,resolution=32"
    lift.embed([data], out=tmp_path / "c", encoder="hashing:dimensions=24", progress=False)
    judged = CachedTexts(model(), EmbeddingCache.open(tmp_path / "c"))
    Bank.of_names(Texts(seed=3), NAMES).save(tmp_path / "bank")
    wrong = parse_plan(f"zeroshot:data=[{data}],bank={tmp_path}/bank")
    with pytest.raises(SpaceMismatch, match="the bank has the fingerprint"):
        evaluate(judged, [wrong], progress=False)
    label = next(iter(open_source(data).read(0).fields), "raw")
    probe = parse_plan(f"knn:data=[{data}],train=[{data}],k=3,label={label}")
    (result,) = evaluate(judged, [probe], progress=False)
    assert len(result.notes) == 1 and result.notes[0].startswith("12 of 12 images are in scenes")
