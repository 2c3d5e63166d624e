"""Cells of a patch grid: where they lie, pointing with them, and naming every pixel."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lift.errors import BrokenSample, ConfigError, DataError, NotFinite
from lift.evals import _dense, _masks, pointing, segmentation
from lift.evals._dense import Patches, centres
from lift.evals._masks import chance_iou, mask_of, mean_iou, overlaps
from lift.evals.pointing import cells_of
from lift.terms import Region, Sample

WHOLE = np.array([0, 0, 1, 1], np.float32)


def png(values, kind="PNG", palette=False, mode=None) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(np.asarray(values, np.uint8))
    if palette:
        image.putpalette([value % 256 for value in range(768)])
    (image if mode is None else image.convert(mode)).save(out, kind)
    return out.getvalue()


class Cells:
    """Says for each image what was stated: cells [rows cols d], and its frame.

    Args:
        known: by the bytes of an image or the words of a text.
    """

    name, saw = "cells", ()

    def __init__(self, known, frame=WHOLE):
        self.known, self.frame, self.calls = known, frame, []

    def encode_images(self, images):
        return np.stack([self._cells(image).mean((0, 1)) for image in images])

    def encode_texts(self, texts):
        rows = np.stack([np.asarray(self.known[text], np.float32) for text in texts])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def encode_patches(self, images):
        self.calls.append(len(images))
        if b"broken" in images:
            raise DataError("no image")
        z = np.stack([self._cells(image) for image in images])
        return Patches(z, np.tile(np.asarray(self.frame, np.float32), (len(z), 1)))

    def _cells(self, image):
        cells = np.asarray(self.known[image], np.float32)
        return cells / np.maximum(np.linalg.norm(cells, axis=2, keepdims=True), 1e-12)


def lit(rows, cols, *spots, width=3, at=0):
    """Return cells of which some say `at`, the others the last direction."""
    cells = np.zeros((rows, cols, width))
    cells[..., -1] = 1
    for spot in spots:
        cells[spot] = np.eye(width)[at]
    return cells


# --- where cells lie -----------------------------------------------------------------------------


def test_centres_of_cells_lie_in_the_frame():
    down, across = centres(2, 4, WHOLE)
    assert down.tolist() == [0.25, 0.75] and across.tolist() == [0.125, 0.375, 0.625, 0.875]
    down, across = centres(2, 2, np.array([0.25, 0, 0.75, 1], np.float32))
    assert across.tolist() == [0.375, 0.625] and down.tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 0.5, 0.5), [(0, 0), (0, 1), (1, 0), (1, 1)]),
        ((0, 0, 1, 0.2), [(0, 0), (0, 1), (0, 2), (0, 3)]),
        ((0.5, 0.25, 0.74, 0.5), [(1, 2)]),
        ((0.55, 0.55, 0.6, 0.6), [(2, 2)]),  # no centre in it: the cell of its middle
        ((0, 0, 1, 1), [(r, c) for r in range(4) for c in range(4)]),
    ],
)
def test_cells_that_hit_a_box(box, expected):
    assert list(zip(*np.nonzero(cells_of(box, 4, 4, WHOLE)), strict=True)) == expected


def test_a_box_out_of_sight_has_no_cell():
    frame = np.array([0.25, 0, 0.75, 1], np.float32)
    assert not cells_of((0.0, 0.2, 0.2, 0.4), 2, 2, frame).any()
    assert cells_of((0.0, 0.2, 0.4, 0.4), 2, 2, frame).nonzero()[1].tolist() == [0]


# --- pointing ------------------------------------------------------------------------------------


def point(source, encoder, **options):
    return pointing.build(pointing.Config(**options)).run(encoder, source)


def test_pointing_by_hand(list_source):
    known = {
        b"hit": lit(2, 2, (0, 1)),
        b"miss": lit(2, 2, (1, 0)),
        b"torn": lit(2, 2, (0, 1), (1, 1)),
        "a dog": [1, 0, 0],
    }
    box = (0.5, 0.0, 1.0, 0.5)
    samples = [
        Sample(k, k.encode(), (), regions=(Region("a dog", box),)) for k in ("hit", "miss", "torn")
    ]
    samples += [Sample("bare", b"hit", ()), Sample("broken", b"broken", ())]
    result = point(list_source(samples), Cells(known))
    assert result.metrics["accuracy"].value == pytest.approx((1 + 0 + 0.5) / 3)
    assert result.chance == pytest.approx(0.25)
    assert result.counts == {
        "images": 3, "regions": 3, "images without regions": 1, "unreadable images": 1
    }  # fmt: skip
    told = {example["key"]: example for example in result.examples}
    assert told["hit"]["right"] and not told["miss"]["right"] and not told["torn"]["right"]
    assert told["hit"]["point"] == [0.75, 0.25] and told["hit"]["box"] == list(box)
    outcomes = result.metrics["accuracy"].outcomes
    assert outcomes is not None and outcomes.values.tolist() == [1, 0, 0.5]
    assert [told[k]["item"] for k in ("hit", "miss", "torn")] == [0, 1, 2]
    assert any("middle of each image would be right for 100.0%" in n for n in result.notes)


def test_regions_out_of_sight_are_misses_that_are_counted(list_source):
    known = {b"a": lit(2, 2, (0, 0)), "x": [1, 0, 0], "the x": [0, 0, 1]}
    source = list_source([Sample("a", b"a", (), regions=(Region("x", (0, 0, 0.1, 0.1)),))])
    frame = np.array([0.25, 0, 0.75, 1], np.float32)
    result = point(source, Cells(known, frame))
    assert result.metrics["accuracy"].value == 0 == result.chance
    assert result.counts["regions out of sight"] == 1
    there = list_source([Sample("a", b"a", (), regions=(Region("x", (0, 0, 0.4, 0.4)),))])
    assert point(there, Cells(known, frame)).metrics["accuracy"].value == 1
    other = point(there, Cells(known, frame), template="the {}")
    assert other.metrics["accuracy"].value == 0 and "template 'the {}'" in other.protocol


def test_memory_is_bounded_and_texts_are_asked_once(list_source, monkeypatch):
    monkeypatch.setattr(_dense, "AT_ONCE", 4)
    known = {f"{n}".encode(): lit(1, 1, (0, 0)) for n in range(10)} | {"x": [1, 0, 0]}
    encoder = Cells(known)
    asked = []
    plain = encoder.encode_texts
    encoder.encode_texts = lambda texts: asked.append(list(texts)) or plain(texts)
    box = (0, 0, 1, 1)
    samples = [Sample(f"{n}", f"{n}".encode(), (), regions=(Region("x", box),)) for n in range(10)]
    point(list_source(samples), encoder)
    assert encoder.calls == [4, 4, 2] and asked == [["x"]]
    monkeypatch.setattr(pointing, "_REMEMBERED", 0)
    point(list_source(samples), encoder)
    assert asked[1:] == [["x"]]


def test_errors_of_dense_evaluations(list_source, vectors):
    source = list_source([Sample("a", b"a", ())])
    for kind in (pointing, segmentation):
        evaluation = kind.build(kind.Config())
        with pytest.raises(ConfigError, match="vectors has no `encode_patches`"):
            evaluation.run(vectors({}), source)
        with pytest.raises(ConfigError, match="examples must be 0 or more"):
            kind.build(kind.Config(examples=-1))
        with pytest.raises(ConfigError, match="for the name"):
            kind.build(kind.Config(template="a photo"))
        with pytest.raises(DataError, match="None of the 1 images"):
            evaluation.run(Cells({}), list_source([Sample("a", b"broken", ())]))
        nan = Cells({b"a": np.full((2, 2, 3), np.nan)})
        with pytest.raises(NotFinite, match="patch"):
            evaluation.run(nan, source)
    with pytest.raises(DataError, match="holds no regions"):
        point(source, Cells({b"a": lit(1, 1)}))
    with pytest.raises(DataError, match="holds no masks"):
        segment(source, Cells({b"a": lit(1, 1)}))


# --- naming pixels -------------------------------------------------------------------------------


def segment(source, encoder, **options):
    return segmentation.build(segmentation.Config(**options)).run(encoder, source)


NAMED = {f"a photo of a {name}.": row for name, row in zip("abc", np.eye(3), strict=True)}


def masked(key, mask, names=("a", "b", "c"), image=None):
    fields = {"mask_classes": json.dumps(names)}
    return Sample(key, image or key.encode(), (), fields, mask=png(mask))


def test_pixels_by_hand(list_source):
    """Two images, one of them all a: intersections and unions add up over images."""
    both = (0, 0), (0, 1)
    known = {b"one": lit(1, 2, *both, at=0), b"two": lit(1, 2, (0, 0), at=1), **NAMED}
    mask = np.array([[1] * 4 + [2] * 4] * 2)
    mask[:, 3] = 255
    source = list_source([masked("one", np.zeros((2, 2))), masked("two", mask)])
    result = segment(source, Cells(known), ignore=())
    # Image two says b on the left half, c on the right; its left has one column of nobody.
    assert result.metrics["IoU/a"].value == 1
    assert result.metrics["mIoU"].value == 1 == result.metrics["pixel accuracy"].value
    flipped = {**known, b"two": lit(1, 2, (0, 1), at=1)}
    worse = segment(source, Cells(flipped), ignore=())
    assert worse.metrics["mIoU"].value == pytest.approx(1 / 3)
    assert worse.metrics["pixel accuracy"].value == pytest.approx(4 / 18)
    shifted = {**known, b"one": lit(1, 2, *both, at=1)}
    found = segment(source, Cells(shifted), ignore=()).metrics
    assert found["IoU/a"].value == 0 and found["IoU/c"].value == 1
    assert found["IoU/b"].value == pytest.approx(6 / 10)
    assert found["mIoU"].value == pytest.approx((0 + 0.6 + 1) / 3)


def test_ignored_classes_and_pixels_of_nobody(list_source):
    known = {b"one": lit(1, 2, (0, 0), at=0), **NAMED}
    mask = np.array([[0, 0, 2, 255]])
    names = ("background", "b", "c")
    source = list_source([masked("one", mask, names), masked("none", np.zeros((2, 2)), names)])
    known[b"none"] = lit(1, 2)
    result = segment(source, Cells(known))
    assert result.metrics["mIoU"].value == 1 and result.metrics["pixel accuracy"].items == 1
    assert result.counts == {
        "images": 1, "classes": 2, "classes without a pixel": 1, "images without a judged pixel": 1
    }  # fmt: skip
    assert "without background" in result.protocol
    given = segment(source, Cells(known), classes=("background", "a", "b"))
    assert given.metrics["mIoU"].value == 0.0 and given.protocol != result.protocol
    with pytest.raises(ConfigError, match="leaves no class"):
        segment(source, Cells(known), ignore=names)


def test_interpolation_between_cells_and_beyond_the_frame():
    scores = np.zeros((1, 2, 2))
    scores[0, 0, 0] = scores[0, 1, 1] = 1
    truth = np.array([[0] * 6 + [1] * 2])
    found = overlaps(scores, truth, WHOLE)
    assert found.tolist() == [[4, 2], [4, 4], [6, 2]]
    # The grid covers the left half: its middle lies at a quarter.
    left = overlaps(scores, truth, np.array([0, 0, 0.5, 1], np.float32))
    assert left.tolist() == [[2, 2], [2, 6], [6, 2]]
    odd = overlaps(scores, np.zeros((1, 3), np.int64), WHOLE)  # its middle pixel ties
    assert odd.tolist() == [[1.5, 0], [1.5, 1.5], [3, 0]]


def test_strips_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    scores, truth = rng.random((3, 4, 5)), rng.integers(-1, 5, (17, 13))
    whole = overlaps(scores, truth, WHOLE)
    monkeypatch.setattr(_masks, "_AT_ONCE", 1)
    assert overlaps(scores, truth, WHOLE) == pytest.approx(whole)
    assert whole[2].sum() == (truth >= 0).sum() == pytest.approx(whole[1].sum())


def test_the_interval_of_a_mean_iou_is_that_of_a_bootstrap():
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 200, (120, 4)) * (rng.random((120, 4)) < 0.5)
    truth[:, 0] += 1
    inter = truth * rng.random((120, 4)) ** 0.5
    named = inter + rng.random((120, 4)) * 30
    found = np.stack([inter, named, truth], 1)
    every = np.ones(4, bool)
    metric = mean_iou(found, every)
    drawn = [mean_iou(found[rng.integers(0, 120, 120)], every).value for _ in range(1000)]
    assert metric.high - metric.low == pytest.approx(2 * 1.96 * np.std(drawn), rel=0.12)
    assert metric.outcomes is not None
    assert metric.outcomes.values.mean() == pytest.approx(metric.value, abs=1e-5)
    twice = mean_iou(np.repeat(found, 2, axis=0), every, np.repeat(np.arange(120), 2))
    assert twice.items == 120 and twice.high == pytest.approx(metric.high)
    one = mean_iou(found[:1], np.array([True, False, False, False]))
    assert one.low < 0.2 and one.items == 1


def test_chance_is_what_a_constant_scores(list_source):
    rng = np.random.default_rng(0)
    samples: list[Sample] = []
    known: dict[Any, np.ndarray] = dict(NAMED)
    for n in range(5):
        known[f"{n}".encode()] = np.ones((2, 2, 3))
        samples.append(masked(f"{n}", rng.integers(0, 2, (6, 7))))
    known |= {name: np.ones(3) for name in NAMED}
    result = segment(list_source(samples), Cells(known), ignore=())
    assert result.metrics["mIoU"].value == pytest.approx(result.chance)
    assert chance_iou(np.array([50.0, 50.0])) == pytest.approx(25 / 75)


def test_masks_are_bounded_and_broken_ones_told(monkeypatch, list_source):
    assert mask_of(png([[1, 2]], palette=True), "k").tolist() == [[1, 2]]
    large = np.zeros((2, 3 * _masks.MOST_SIDE), np.uint8)
    large[:, large.shape[1] // 2 :] = 7
    small = mask_of(png(large), "k")
    assert small.shape == (1, _masks.MOST_SIDE) and set(small.ravel().tolist()) == {0, 7}
    noise = png(np.random.default_rng(0).integers(0, 255, (90, 90)))
    for content in (
        b"",
        b"no",
        noise[: len(noise) // 2],
        png([[1]], mode="RGB"),
        png([[1]], "BMP"),
    ):
        with pytest.raises(BrokenSample, match="mask of sample 'k' can't be read"):
            mask_of(content, "k")
    known = {b"a": lit(1, 1, (0, 0), at=0), **NAMED}
    torn = Sample("b", b"a", (), {"mask_classes": "[]"}, mask=b"torn")
    whole = segment(list_source([masked("a", [[0]]), torn]), Cells(known))
    assert whole.counts["unreadable masks"] == 1 and "'b'" in whole.notes[0]
    with pytest.raises(DataError, match="holds the class 3, and 3 classes have names"):
        segment(list_source([masked("a", [[3]])]), Cells(known))
    bare = Sample("a", b"a", (), {}, mask=png([[0]]))
    with pytest.raises(DataError, match="does not tell the names"):
        segment(list_source([bare]), Cells(known))
    for told in ("{", "[" * 100_000, '["a", 1]', "[]", '"a"'):
        strange = Sample("a", b"a", (), {"mask_classes": told}, mask=png([[0]]))
        with pytest.raises(DataError, match="mask_classes of sample 'a'"):
            segment(list_source([strange]), Cells(known))
    with pytest.raises(ConfigError, match="list of 1 to 255 names"):
        segmentation.build(segmentation.Config(classes=("a", " ")))
    monkeypatch.setattr(_masks, "MOST_PIXELS", 1)
    with pytest.raises(BrokenSample, match="2 x 1"):
        mask_of(png([[1, 2]]), "k")


def test_the_same_picture_twice_is_one_item(list_source):
    known = {b"a": lit(1, 1, (0, 0), at=0), b"b": lit(1, 1, (0, 0), at=1), **NAMED}
    twice = [
        masked("1", [[0]], image=b"a"),
        masked("2", [[0]], image=b"a"),
        masked("3", [[0]], image=b"b"),
    ]
    result = segment(list_source(twice), Cells(known))
    assert result.metrics["mIoU"].items == 2 == result.metrics["pixel accuracy"].items
