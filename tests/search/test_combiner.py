"""A combiner learned from edited captions: what it is trained on, what it finds, how it lies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from lift.errors import CheckpointError, ConfigError, DataError, SpaceMismatch
from lift.search import combiner
from lift.search.combiner import Combiner, train_combiner
from lift.search.edited import triplets
from made_model import made

COLOURS = "red blue green yellow black white brown pink purple orange grey".split()
THINGS = "dog cat horse cow sheep bird car bus train truck boat chair bench bed couch".split()
PLACES = "street table field park house wall river bridge".split()


def captions(seed: int, count: int) -> list[str]:
    rng = np.random.default_rng(seed)
    drawn = zip(*(rng.choice(words, count) for words in (COLOURS, THINGS, PLACES)), strict=True)
    return [f"a {colour} {thing} near a {place}" for colour, thing, place in drawn]


@pytest.fixture(scope="module")
def model():
    return made(dimensions=128, encoder={"ngrams": 1})


@pytest.fixture(scope="module")
def trained(model) -> Combiner:
    return train_combiner(model, captions(0, 450), noise=0.0, hidden=64, epochs=40)


def test_an_edit_leads_from_a_caption_to_the_changed_one() -> None:
    made = triplets(["A small red dog runs next to a wooden bench with a hat."], each=20)
    assert {triplet.kind for triplet in made} >= {"colour", "size", "object", "relation", "setting"}
    for triplet in made:
        assert triplet.changed != triplet.caption and triplet.edit.strip() == triplet.edit
        if triplet.kind in ("colour", "size", "object", "setting"):
            new = set(triplet.changed.split()) - set(triplet.caption.split())
            assert new and new - {"an", "a"} <= set(triplet.edit.split())
    by_kind = {triplet.kind: triplet for triplet in made}
    assert by_kind["without"].changed == "A small red dog runs next to a wooden bench"
    assert "hat" in by_kind["without"].edit and "hat" in by_kind["with"].edit
    assert by_kind["with"].changed == by_kind["without"].caption


def test_edits_are_the_same_for_the_same_seed_and_of_different_kinds() -> None:
    texts = captions(0, 40)
    first = triplets(texts, each=2)
    assert first == triplets(texts, each=2) != triplets(texts, each=2, seed=1)
    kinds: dict[str, list[str]] = {}
    for triplet in triplets(list(dict.fromkeys(texts)), each=3):
        whole = triplet.changed if triplet.kind == "with" else triplet.caption
        kinds.setdefault(whole, []).append(triplet.kind)
    assert all(len(set(own)) == len(own) == 3 for own in kinds.values())


def test_phrases_of_other_captions_take_the_place_of_one() -> None:
    made = [t for s in range(9) for t in triplets(["a zonk", "a big frob"], each=9, seed=s)]
    swapped = {t.changed for t in made if t.kind == "phrase" and t.caption == "a zonk"}
    assert swapped == {"a big frob"}


def test_texts_without_things_make_no_edits() -> None:
    assert triplets(["", "...", "赤", "running fast"], each=5) == []


def test_it_takes_edits_that_it_has_not_seen_better_than_the_sum(model, trained: Combiner) -> None:
    held = [t for t in triplets(captions(5, 200), each=1) if t.kind in ("colour", "object")]
    before, edits, after = (
        model.encode_texts([getattr(triplet, name) for triplet in held])
        for name in ("caption", "edit", "changed")
    )

    def nearer(found: np.ndarray) -> float:
        """Return how often the changed caption is nearer than the caption."""
        return float(((found * after).sum(axis=1) > (found * before).sum(axis=1)).mean())

    combined = trained(before, edits, kind="text")
    assert np.linalg.norm(combined, axis=1) == pytest.approx(1, abs=1e-5)
    assert combined.dtype == np.float32 and len(held) > 40
    assert nearer(combined) > 0.68 > nearer(before + edits)
    assert nearer(trained(before, np.roll(edits, 7, axis=0), kind="text")) < 0.4


def test_the_same_seed_trains_the_same_combiner(model) -> None:
    z = model.encode_texts(["a red dog", "a cat"])
    before = torch.get_rng_state()
    one, two, other = (
        train_combiner(model, captions(0, 120), hidden=8, epochs=1, seed=seed)(z, z)
        for seed in (0, 0, 1)
    )
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_gap_between_the_kinds_is_taken_off_pictures(model, trained: Combiner) -> None:
    texts = model.encode_texts(captions(3, 20))
    edits = model.encode_texts(["make it blue"] * 20)
    gap = np.zeros(128, np.float32)
    gap[0] = 0.7
    middle = trained.with_middle(texts + gap)
    assert middle(texts + gap, edits) == pytest.approx(
        trained.with_middle(texts)(texts, edits), abs=1e-5
    )
    assert np.array_equal(middle(texts, edits, kind="text"), trained(texts, edits, kind="text"))
    assert not np.allclose(middle(texts, edits), trained(texts, edits))
    with pytest.raises(ConfigError, match="middle of pictures"):
        trained.with_middle(texts[:0])


def test_rows_of_an_index_are_read_only(model, trained: Combiner) -> None:
    z = model.encode_texts(["a red dog"])
    z.setflags(write=False)
    assert np.array_equal(trained(z, z.astype(np.float64)), trained(z.copy(), z.copy()))


def test_it_lies_in_a_folder(model, trained: Combiner, tmp_path: Path) -> None:
    folder = trained.save(tmp_path / "combiner")
    assert sorted(p.name for p in folder.iterdir()) == ["combiner.json", "combiner.safetensors"]
    again = combiner.load(folder, model.space)
    z, z_edit = model.encode_texts(["a red dog", "make it blue"])[:, None]
    assert np.array_equal(again(z, z_edit), trained(z, z_edit))
    assert again.trained == trained.trained and again.trained["triplets"] > 500
    trained.save(folder)  # in the place of the old one
    (folder / "mine.txt").write_text("x")
    with pytest.raises(CheckpointError, match="something else"):
        trained.save(folder)


def test_one_of_another_space_is_refused(trained: Combiner, tmp_path: Path) -> None:
    folder = trained.save(tmp_path / "combiner")
    with pytest.raises(SpaceMismatch, match="train one for this index"):
        combiner.load(folder, made(dimensions=128, encoder={"seed": 9}).space)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda folder: (folder / "combiner.json").unlink(), "is no combiner"),
        (lambda folder: (folder / "combiner.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "combiner.json").write_text("[" * 100_000), "damaged"),
        (lambda folder: told(folder, format=2), "upgrade"),
        (lambda folder: told(folder, hidden=10**9), "damaged"),
        (lambda folder: told(folder, hidden=7), "damaged"),
        (lambda folder: (folder / "combiner.safetensors").write_bytes(b"x"), "damaged"),
        (lambda folder: not_finite(folder / "combiner.safetensors"), "not finite"),
    ],
)
def test_a_damaged_one_is_refused(
    model, trained: Combiner, tmp_path: Path, spoil, match: str
) -> None:
    folder = trained.save(tmp_path / "combiner")
    spoil(folder)
    with pytest.raises(CheckpointError, match=match):
        combiner.load(folder, model.space)


def told(folder: Path, **facts: object) -> None:
    path = folder / "combiner.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


def not_finite(path: Path) -> None:
    arrays = load_file(path)
    arrays["shares"] = np.full_like(arrays["shares"], np.nan)
    save_file(arrays, path)


def test_what_it_cannot_combine_is_refused(model, trained: Combiner) -> None:
    with pytest.raises(ConfigError, match="two arrays of n x 128"):
        trained(np.zeros((1, 128), np.float32), np.zeros((2, 128), np.float32))
    with pytest.raises(DataError, match="edits could be made"):
        train_combiner(model, ["a red dog"] * 500)

    class Mute:
        name, saw = "mute", ()
        encode_images = encode_texts = staticmethod(model.encode_texts)

    with pytest.raises(ConfigError, match="doesn't say its text space"):
        train_combiner(Mute(), ["a dog"])  # type: ignore[arg-type]
