"""Plans, results as files, the table, and texts from a cache."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

import lift
from lift import plugins
from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed
from lift.config import Part, from_dict, part, to_dict
from lift.data.image import decode
from lift.encoders import CachedTexts
from lift.errors import ConfigError, DataError, StorageError
from lift.evaluation import Plan, evaluate, parse_plan
from lift.results import (
    OUTCOMES,
    WIDTH,
    figure_words,
    interval_words,
    is_share,
    lower_is_better,
    read_result,
    read_results,
    table,
    write_results,
)
from lift.terms import Encoder, EvalResult, Metric

WORDS = ("red", "green", "blue", "grey", "pink", "teal", "gold", "lime")


class Directions:
    """A direction of its own for every input, as wide as the hashing text encoder's."""

    name, saw = "directions", ("flickr30k",)

    def __init__(self, width: int = 64) -> None:
        self.width = width
        self.asked: list[str] = []

    def encode_images(self, images):
        return np.stack([self._row(image) for image in images])

    def encode_texts(self, texts):
        self.asked += texts
        return np.stack([self._row(text.encode()) for text in texts])

    def _row(self, content: bytes) -> np.ndarray:
        seed = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())
        row = np.random.default_rng(seed).standard_normal(self.width).astype(np.float32)
        return row / np.linalg.norm(row)


@pytest.fixture
def photos(tmp_path):
    """Return a tar of eight pictures with two captions each."""
    path = tmp_path / "flickr8k" / "few.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for number, word in enumerate(WORDS):
            picture = io.BytesIO()
            Image.new("RGB", (8, 8), (30 * number, 90, 20)).save(picture, "PNG")
            about = json.dumps({"key": word, "colour": word}).encode()
            parts = {"png": picture.getvalue(), "txt": f"{word} thing\na {word}".encode()}
            for kind, content in {**parts, "json": about}.items():
                entry = tarfile.TarInfo(f"{word}.{kind}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture
def result():
    return EvalResult(
        evaluation="retrieval",
        version=1,
        protocol="all-captions",
        data="photos/é",
        primary="text_to_image/R@10",
        metrics={
            "text_to_image/R@10": Metric(0.25, 0.2, 0.3125, 400),
            "text_to_image/median rank": Metric(12.5, 10.0, 15.0, 400),
        },
        counts={"images": 400, "captions": 2000},
        chance=0.025,
        notes=("text encoder saw these captions (coco)", "so much for that"),
        examples=({"query": "ü", "top": [{"key": "a", "score": 0.5, "right": True}]},),
        seconds=1.5,
        encoder="tiny",
    )


# --- plans -------------------------------------------------------------------------------------


def test_shorthand():
    plan = parse_plan("retrieval:data=a/b.tar,protocol=first-caption,examples=3")
    assert plan == Plan(part("evals", "retrieval", examples=3, protocol="first-caption"), "a/b.tar")
    assert plugins.build(plan.evaluation).protocol == "first-caption"


def test_brackets_hold_commas():
    plan = parse_plan(
        'zeroshot:data=[table:path=x.parquet,caption=[title,name]],label=kind,templates=["a {}, b"]'
    )
    assert plan.data == "table:path=x.parquet,caption=[title,name]"
    assert plan.evaluation.options == {"label": "kind", "templates": ("a {}, b",)}


def test_braces_hold_commas():
    assert parse_plan("retrieval:data=val-{a,b}.tar,examples=1").data == "val-{a,b}.tar"


def test_strings_stay_strings():
    assert parse_plan("zeroshot:data=x,label=5").evaluation.options == {"label": "5"}
    assert parse_plan("retrieval:data=x,role=none").evaluation.options == {"role": None}


def test_an_option_of_evaluation_and_data_is_whose_it_plainly_is():
    plan = parse_plan("mosaic:data=[scenes:count=60,seed=2]")
    assert plan == Plan(Part("evals", "mosaic"), "scenes:count=60,seed=2")
    theirs = Plan(part("evals", "mosaic", seed=2), "scenes:count=60")
    assert parse_plan("mosaic:seed=2,data=scenes:count=60") == theirs
    assert parse_plan("mosaic:data=[scenes:count=60],seed=2") == theirs
    assert parse_plan("mosaic:seed=2", data="scenes:count=60") == theirs
    assert parse_plan("mosaic:data=few.tar,seed=2").data == "few.tar"
    assert parse_plan("mosaic:data=scenes:count=60,tiles=2").evaluation.options == {"tiles": 2}


def test_data_may_be_given_aside():
    assert parse_plan("retrieval", data="val.tar") == Plan(Part("evals", "retrieval"), "val.tar")
    assert parse_plan("retrieval:data=b", data="a").data == "b"
    assert parse_plan("retrieval:examples=1", data="a").evaluation.options == {"examples": 1}


def test_plans_survive_json():
    plan = parse_plan('zeroshot:data=x.tar,label=kind,templates=["a {}"]')
    again = from_dict(Plan, json.loads(json.dumps(to_dict(plan))))
    assert plugins.configure(again.evaluation) == plugins.configure(plan.evaluation)
    assert again.data == plan.data


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("retreival:data=x", "Unknown eval 'retreival'. Did you mean 'retrieval'"),
        ("retrieval:data=x,protocl=a", "Did you mean 'protocol'"),
        ("retrieval:data=x,protocol=first", "Did you mean 'first-caption'"),
        ("retrieval:data=x,examples", "write it as key=value"),
        ("retrieval:data=table:path=x,caption=y", r"data=\[table:path=x,...\]"),
        ("retrieval", "write retrieval:data=PATH"),
        (
            "mosaic:data=scenes:count=60,seed=2",
            r"seed=2 after data=scenes:count=60 may be .*: write mosaic:data=\[scenes:count=60,"
            r"seed=2\] for the data, or mosaic:seed=2,data=scenes:count=60 for the evaluation",
        ),
    ],
)
def test_faults_of_shorthand(text, words):
    with pytest.raises(ConfigError, match=words):
        parse_plan(text)


# --- running -----------------------------------------------------------------------------------


def test_evaluate_runs_plans_in_order(photos, capsys):
    plans = [
        parse_plan(f"retrieval:data={photos}"),
        parse_plan(f"zeroshot:data={photos},label=colour"),
    ]
    results = evaluate(Directions(), plans, progress=False)
    assert [r.evaluation for r in results] == ["retrieval", "zeroshot"]
    assert results[0].counts["captions"] == 16 and results[1].counts["classes"] == 8
    assert any("flickr30k, which overlaps flickr8k" in note for note in results[0].notes)
    assert capsys.readouterr() == ("", "")
    own = parse_plan(f"retrieval:data={photos},benchmark=own")
    assert not evaluate(Directions(), [own], progress=False)[0].notes
    evaluate(Directions(), plans[:1])
    assert "retrieval on" in capsys.readouterr().err


def test_evaluate_opens_everything_before_it_encodes(photos):
    encoder = Directions()
    plans = [parse_plan(f"retrieval:data={photos}"), Plan(part("evals", "retrieval"), "nowhere")]
    with pytest.raises((ConfigError, DataError)):
        evaluate(encoder, plans, progress=False)
    assert encoder.asked == []


def test_a_model_with_texts_of_its_own_takes_no_cache(cache):
    """No cache can hold its vectors, and fingerprints would not say so."""
    model = Path(__file__).parent / "fixtures" / "bundle-v2"
    with pytest.raises(ConfigError, match=r"text side of its own, .*: leave --cache out\.$"):
        lift.evaluate(model, on=["retrieval:data=scenes:count=3"], cache=cache.folder)


# --- files -------------------------------------------------------------------------------------


def test_results_are_written_and_read(tmp_path, result):
    (path,) = write_results([result], tmp_path / "evals")
    assert path.name == "retrieval-photos-all-captions.json"
    assert read_results(tmp_path / "evals") == [result]
    content = json.loads(path.read_text("utf-8"))
    assert content["made"].keys() == {"date", "lift", "torch", "numpy"}
    assert content["made"]["lift"] == lift.__version__
    assert content["made"]["torch"] == torch.__version__


def test_real_results_survive(tmp_path, photos):
    plans = [
        parse_plan(f"retrieval:data={photos}"),
        parse_plan(f"retrieval:data={photos},protocol=first-caption"),
        parse_plan(f"zeroshot:data={photos},label=colour"),
    ]
    results = evaluate(Directions(), plans, progress=False)
    write_results(results, tmp_path / "evals")
    assert sorted(read_results(tmp_path / "evals"), key=lambda r: r.seconds) == sorted(
        results, key=lambda r: r.seconds
    )


def test_same_evaluation_replaces_its_file_and_others_stay(tmp_path, result):
    other = dataclasses.replace(result, protocol="first-caption")
    write_results([result, other], tmp_path)
    write_results([dataclasses.replace(result, seconds=9.0)], tmp_path)
    assert [r.seconds for r in read_results(tmp_path)] == [9.0, 1.5]
    twice = write_results([result, result], tmp_path / "two")
    assert len({path.name for path in twice}) == 2


def test_another_measurement_is_never_overwritten(tmp_path, result):
    """Names are short and plain, so those of two measurements may be equal."""
    others = [
        dataclasses.replace(result, protocol="all captions!"),
        dataclasses.replace(result, encoder="another model"),
    ]
    for one in (result, *others):
        write_results([one], tmp_path)
    found = read_results(tmp_path)
    assert len(found) == 3 and all(one in found for one in (result, *others))
    write_results([dataclasses.replace(others[1], seconds=77.0)], tmp_path)
    assert sorted(r.seconds for r in read_results(tmp_path)) == [1.5, 1.5, 77.0]


def test_an_unreadable_image_does_not_end_an_evaluation(tmp_path, photos):
    """Also through the part that watches a source, and with the real decoder."""

    class Decoding(Directions):
        def encode_images(self, images):
            for image in images:
                decode(image)
            return super().encode_images(images)

    path = tmp_path / "one-broken.tar"
    content = bytearray(photos.read_bytes())
    content[content.index(b"IHDR") + 4] = 255  # a picture four billion pixels wide
    path.write_bytes(content)
    plans = [parse_plan(f"retrieval:data={path}"), parse_plan(f"zeroshot:data={path},label=colour")]
    for found in evaluate(Decoding(), plans, progress=False):
        assert found.counts["images"] == 7 and found.counts["unreadable images"] == 1
        assert any("left out: sample 'red'" in note for note in found.notes)


def test_a_failed_write_leaves_the_old_file(tmp_path, result):
    write_results([result], tmp_path)
    broken = dataclasses.replace(result, metrics={"x": Metric(float("nan"), 0.0, 0.0, 1)})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_results([broken], tmp_path)
    assert read_results(tmp_path) == [result]
    (tmp_path / "file").write_text("")
    with pytest.raises((StorageError, NotADirectoryError, FileExistsError)):
        write_results([result], tmp_path / "file")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is damaged"),
        ("[" * 100_000, "is damaged"),
        ("9" * 5_000, "is damaged"),
        ("[1]", "is not a result"),
        ('{"format": 99, "result": {}}', "has the format 99, this lift reads 2"),
        ('{"format": 1, "result": {"metrics": {}}}', "is damaged.*lacks the option"),
        ('{"format": 1, "result": {"metrics": {"a": 1}}}', "is damaged"),
        ('{"format": 1, "result": {}}', "is damaged"),
    ],
)
def test_faults_of_files(tmp_path, content, words):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=words):
        read_results(tmp_path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"values R@1": np.zeros((2, 2), np.float32)},
        {"values R@1": np.zeros(2, np.float32), "weights R@1": np.zeros(3, np.float32)},
        {"values R@1": np.full(2, np.nan, np.float32)},
        {"values R@1": np.float32(1)},
    ],
)
def test_outcomes_of_another_form_are_damaged(tmp_path, result, tensors):
    result = dataclasses.replace(result, metrics={"R@1": Metric(0.5, 0.0, 1.0, 2)})
    (path,) = write_results([result], tmp_path)
    about = {"digest": result.digest, "protocol": result.protocol}
    tensors = {name: np.asarray(values) for name, values in tensors.items()}
    save_file(tensors, path.with_name(path.stem + OUTCOMES), about)
    with pytest.raises(DataError, match=r"outcomes .* are damaged"):
        read_results(tmp_path)


@pytest.mark.parametrize("content", ['{"format": 99, "result": {}}', '{"mine": 1}'])
def test_files_of_others_and_of_a_newer_lift_stay(tmp_path, result, content):
    (path,) = write_results([result], tmp_path)
    path.write_text(content)
    (other,) = write_results([result], tmp_path)
    assert other != path and path.read_text() == content and read_result(other) == result
    path.write_text("{")
    assert write_results([result], tmp_path) == [path]  # a damaged one is mended


def test_an_empty_folder_has_no_results(tmp_path):
    with pytest.raises(DataError, match="holds no results"):
        read_results(tmp_path)


def test_the_bar_does_not_run_beyond_its_end(photos, capsys):
    evaluate(Directions(), [parse_plan(f"robustness:data={photos},changes=[flip]")])
    assert "100%" in (told := capsys.readouterr().err) and "| 16/16 [" in told


# --- table -------------------------------------------------------------------------------------


def test_table(result):
    other = dataclasses.replace(result, data="b", notes=result.notes[:1], chance=None)
    other = dataclasses.replace(other, protocol="words, " * 30 + "/a/path" * 30, counts={})
    lines = table([result, other]).splitlines()
    assert lines[0] == "retrieval on photos/é  [1][2]"
    assert lines[1] == "  protocol, version 1: all-captions"
    assert lines[2].startswith("  counts: ") and "400 images" in lines[2]
    assert lines[3].split() == ["figure", "value", "95%", "interval", "items", "chance"]
    assert [cell.strip() for cell in lines[4].split("  ") if cell] == [
        *("text_to_image/R@10 *", "25.0%", "20.0% to 31.2%", "400", "2.5%"),
    ]
    assert [cell.strip() for cell in lines[5].split("  ") if cell] == [
        *("text_to_image/median rank", "12.5", "10 to 15", "400"),
    ]
    assert lines[6] == "" and lines[7] == "retrieval on b  [1]" and "counts" not in lines[8]
    long = [line for line in lines if len(line) > WIDTH]
    assert [line.strip() for line in long] == ["/a/path" * 30]  # whole, to be copied
    assert lines[-2:] == ["[1] text encoder saw these captions (coco)", "[2] so much for that"]
    assert "2.5%" not in "\n".join(lines[7:])


@pytest.mark.parametrize(
    ("metric", "words", "lower"),
    [
        ("text_to_image/R@10 (strict)", "25.0%", False),
        ("image_to_text/median rank (strict)", "0.25", True),
        ("1:10 reciprocal rank/R@10 (as image)", "25.0%", False),
        ("1:10 reciprocal rank - one list/R@10", "+25.0 points", False),
        ("R@1 (first 16 words, less whole)", "+25.0 points", False),
        ("top-1 (effect of one_prompt)", "+25.0 points", False),
        ("1:1 calibrated/false positives", "25.0%", True),
        ("image-text cosine", "0.250", False),
        ("cosine gap", "0.250", True),
        ("accuracy/prank", "25.0%", False),
        ("accuracy/add_att (blind)", "25.0%", False),
    ],
)
def test_the_name_of_a_figure_tells_its_unit_and_its_better_end(metric, words, lower):
    assert figure_words(metric, 0.25) == words
    assert lower_is_better(metric) is lower
    assert is_share(metric) is ("%" in words or "points" in words)


def test_ranks_and_intervals_in_words():
    assert figure_words("median rank", 12_345.5) == "12,345.5"
    assert interval_words("top-1 (effect of pixels)", -0.021, 0.3) == "-2.1 to +30.0 points"


# --- texts from a cache ------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path):
    encoder = plugins.build(part("text/encoders", "hashing"), "cpu")
    embed([f"stored {n}" for n in range(10)], encoder, tmp_path / "cache", progress=False)
    return EmbeddingCache.open(tmp_path / "cache")


def test_cached_texts(cache):
    live = Directions(cache.dimensions)
    encoder = CachedTexts(live, cache)
    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.saw) == ("directions", ("flickr30k",))
    texts = ["new a", "stored 3", " stored 0 ", "new b", "stored 3"]
    z = encoder.encode_texts(texts)
    assert live.asked == ["new a", "new b"]
    assert (encoder.from_cache, encoder.live) == (3, 2)
    assert z.dtype == np.float32 and z.shape == (5, cache.dimensions)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(z[[0, 3]], live.encode_texts(["new a", "new b"]))
    rows = cache.take(cache.find(["stored 3", "stored 0"]))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(z[[1, 2]], rows, rtol=1e-6)
    np.testing.assert_array_equal(z[1], z[4])


def test_cached_texts_leave_the_encoder_alone_where_they_can(cache):
    live = Directions(cache.dimensions)
    encoder = CachedTexts(live, cache)
    encoder.encode_texts(["stored 1"])
    assert live.asked == []
    encoder.encode_texts(["x", "y"])
    assert live.asked == ["x", "y"] and (encoder.from_cache, encoder.live) == (1, 2)
    image = b"bytes"
    np.testing.assert_array_equal(encoder.encode_images([image]), live.encode_images([image]))


@pytest.mark.parametrize(("codec", "told"), [("float16", False), ("int8", False), ("int4", True)])
def test_queries_of_a_coarse_cache_are_told(tmp_path, codec, told):
    encoder = plugins.build(part("text/encoders", "hashing", dimensions=64), "cpu")
    embed([f"bird {i}" for i in range(30)], encoder, tmp_path / "c", codec=codec, progress=False)
    notes = CachedTexts(Directions(), EmbeddingCache.open(tmp_path / "c")).notes
    assert bool(notes) == told
    if told:
        assert "texts from a cache in codec int4, mean cosine 0.99" in notes[0]
