"""Leaks: equal files, near copies and captions are counted; pictures of one kind are no leaks."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lift.config import part
from lift.data import provenance
from lift.data.image import picture
from lift.data.likeness import ALIKE_BITS, file_hash, look_at
from lift.data.provenance import Provenance, write
from lift.errors import DataError
from lift.evaluation import Plan, evaluate
from lift.leaks import Found, Judged, Leaks, leaks, telling_bits
from lift.terms import Caption, Sample
from listed_samples import Listed


def drawn(number: int) -> Image.Image:
    """Return a picture that looks like no other: a smooth field of chance colours."""
    dice = np.random.default_rng(number)
    cells = dice.integers(0, 256, (8, 9, 3), np.uint8)
    return Image.fromarray(cells).resize((90, 80), Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def sample(key: str, image: bytes, *texts: str) -> Sample:
    return Sample(key, image, tuple(Caption(text, "raw") for text in texts))


def trained(path: Path, samples: list[Sample]) -> Provenance:
    prints = [(file_hash(s.image), look_at(picture(s.image))) for s in samples]
    return write(path, Listed(samples), np.array(prints, np.int64))


@pytest.fixture
def record(tmp_path: Path) -> Provenance:
    known = [
        sample(f"t{i}", saved(drawn(i)), f"Caption {i}, the first.", f"another one of {i}")
        for i in range(300)
    ]
    plain = sample("plain", saved(Image.new("RGB", (50, 50), "white")), "nothing")
    return trained(tmp_path / provenance.NAME, [*known, plain])


@pytest.fixture
def judged() -> Listed:
    small = drawn(11).resize((45, 40), Image.Resampling.BICUBIC)
    return Listed(
        [
            sample("new", saved(drawn(1_000)), "never said", "nor this"),
            sample("copy", saved(drawn(7)), "Caption 7, the first.", "a new one"),
            sample("again", saved(drawn(9), "JPEG", quality=75), "caption 9 the FIRST"),
            sample("small", saved(small), " another one of 11 "),
            sample("broken", b"no image at all", "Caption 8; the first"),
            sample("blue", saved(Image.new("RGB", (60, 60), "blue")), "all blue"),
            sample("copy too", saved(drawn(8)), "only here"),
        ]
    )


def test_exact_counts(record: Provenance, judged: Listed) -> None:
    found = leaks(record, judged)
    assert found == Leaks(
        images=7,
        captions=9,
        equal=Found(2, "copy"),
        alike=Found(2, "again"),
        equal_captions=Found(2, "copy"),
        alike_captions=Found(2, "again"),
        bits=ALIKE_BITS,
    )
    assert found.note() == (
        "seen in training: 2 of 7 images are in the training data (the first copy), 2 are near "
        "copies of some there (the first again); 2 of 9 captions are there (the first is of copy), "
        "2 are there in the same words (the first is of again)"
    )


def test_small_pieces_find_the_same(
    record: Provenance, judged: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = leaks(record, judged)
    monkeypatch.setattr(provenance, "_GROUP", 7)
    assert leaks(record, judged) == whole


def test_nothing_leaked_says_nothing(record: Provenance) -> None:
    found = leaks(
        record, Listed([sample(f"n{i}", saved(drawn(5_000 + i)), f"n {i}") for i in range(50)])
    )
    assert not found and found.note() == "" and found.images == 50


def test_nothing_was_trained_on(tmp_path: Path, judged: Listed) -> None:
    empty = write(tmp_path / "e.parquet", judged, np.zeros((7, 2), np.int64))
    assert not leaks(empty, judged)


def test_a_note_of_near_copies_alone() -> None:
    found = Leaks(images=2_000, captions=1, alike=Found(1_200, "k"))
    assert found.note() == (
        "seen in training: 1,200 of 2,000 images are near copies of some there (the first k)"
    )


def test_pictures_of_one_kind_are_no_copies(tmp_path: Path) -> None:
    """Products on white: other things come as near as copies, so only equal files count."""

    def product(number: int) -> bytes:
        dice = np.random.default_rng(number)
        image = Image.new("RGB", (60, 80), "white")
        size = dice.integers(24, 30, 2)
        image.paste(tuple(dice.integers(0, 200, 3).tolist()), (15, 20, *(15 + size).tolist()))
        return saved(image)

    known = [sample(f"t{i}", product(i), f"{i}") for i in range(200)]
    record = trained(tmp_path / "p.parquet", known)
    others = [sample(f"n{i}", product(1_000 + i), "x") for i in range(40)]
    found = leaks(record, Listed([*others, sample("copy", product(3), "y")]))
    assert found.bits == -1 and found.equal == Found(1, "copy") and found.alike.count == 0
    assert "too much alike to tell near copies" in found.note()


def test_the_more_was_trained_on_the_nearer_a_copy_must_be() -> None:
    dice = np.random.default_rng(0)
    one, other = dice.integers(-(2**63), 2**63 - 1, (2, 500))
    found = [telling_bits(one, other, count) for count in (100, 10**8, 10**10, 10**15)]
    assert found[0] == ALIKE_BITS and found == sorted(found, reverse=True)
    assert 0 <= found[2] < ALIKE_BITS and found[3] < found[2]
    assert telling_bits(one[:0], other, 5) == telling_bits(one, other[:0], 5) == ALIKE_BITS


def test_a_sample_that_is_read_twice_counts_once(record: Provenance, judged: Listed) -> None:
    seen = Judged(len(judged))
    for number in (1, 1, 6, 1):
        seen.add(number, judged.read(number))
    found = seen.against(record, lambda number: judged.read(number).key)
    assert found.images == 2 and found.equal == Found(2, "copy") and found.captions == 3


def test_a_source_that_cannot_be_read_is_told(record: Provenance, judged: Listed) -> None:
    class Broken(Listed):
        def read(self, index: int) -> Sample:
            if index != self.only:
                raise DataError(f"sample {index} is gone")
            return self.samples[index]

    source = Broken(judged.samples)
    source.only = 1
    assert leaks(record, source).equal == Found(1, "copy")
    source.only = None
    with pytest.raises(DataError, match="sample 6 is gone"):
        leaks(record, source)


class Flat:
    """An encoder that answers anything."""

    name, saw = "flat", ()

    def encode_images(self, images):
        return np.tile(np.float32([1, 0]), (len(images), 1))

    encode_texts = encode_images


def test_results_carry_the_note(
    record: Provenance, judged: Listed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("lift.evaluation.open_source", lambda spec: judged)
    plans = [Plan(part("evals", "retrieval"), "x")] * 2
    first, second = evaluate(Flat(), plans, progress=False, trained_on=record)
    assert first.notes[-1] == second.notes[-1] == leaks(record, judged).note()
    plain = evaluate(Flat(), plans[:1], progress=False)[0]
    assert plain.notes == first.notes[:-1] and plain.metrics == first.metrics
    clean = Listed([s for s in judged.samples if s.key == "new"])
    monkeypatch.setattr("lift.evaluation.open_source", lambda spec: clean)
    told = evaluate(Flat(), plans[:1], progress=False, trained_on=record)[0]
    assert dataclasses.replace(told, seconds=0) == dataclasses.replace(
        evaluate(Flat(), plans[:1], progress=False)[0], seconds=0
    )


def test_a_damaged_record_costs_the_note_and_not_the_result(
    record: Provenance, judged: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = record.path.read_bytes()
    record.path.write_bytes(content[:100] + bytes(8_000) + content[8_100:])
    monkeypatch.setattr("lift.evaluation.open_source", lambda spec: judged)
    plan = Plan(part("evals", "retrieval"), "x")
    (found,) = evaluate(Flat(), [plan], progress=False, trained_on=record)
    assert "whether it was seen in training is not known" in found.notes[-1]
    assert found.metrics
