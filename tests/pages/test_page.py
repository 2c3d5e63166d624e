"""The page: one file, safe with any text, the same for the same run, also of an unfinished run."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lift import plugins
from lift.config import Part, to_dict
from lift.data.image import decode
from lift.data.source import parse_part
from lift.errors import CheckpointError, DataError
from lift.pages.curves import _about_scale, guess_loss
from lift.pages.page import _lede, write_report
from lift.pages.pictures import data_uri
from lift.pages.record import Record
from lift.pages.repeat import commands_of, encoder_words
from lift.results import write_results
from lift.terms import EvalResult, Metric
from page_reader import HOSTILE, Balance


def result(data: str = "val.tar") -> EvalResult:
    return EvalResult(
        evaluation="retrieval",
        version=1,
        protocol="all-captions",
        data=data,
        primary="text_to_image/R@10",
        metrics={
            "text_to_image/R@10": Metric(0.3, 0.25, 0.35, 400),
            "text_to_image/median rank": Metric(21.0, 18.0, 25.0, 400),
        },
        counts={"images": 400, "captions": 2000},
        chance=0.025,
        notes=("text encoder saw these captions",),
        examples=(
            {
                "query": HOSTILE,
                "top": [
                    {"key": "a", "score": 0.5, "right": True},
                    {"key": "b", "score": 0.4, "right": False},
                ],
                "right": True,
            },
            {
                "key": "b",
                "top": [{"text": HOSTILE, "score": 0.5, "right": False}],
                "right": False,
                "rank": 7,
            },
            {
                "kind": "swap_object",
                "key": "a",
                "caption": HOSTILE,
                "foil": "a foil",
                "caption_score": 0.4,
                "foil_score": 0.5,
                "right": False,
            },
        ),
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return the folder of a run whose texts are as hostile as they can be."""
    folder = tmp_path / "run"
    folder.mkdir()
    facts = {
        "format": 1,
        "status": "finished",
        "recipe": "tiny",
        "config": {
            "data": HOSTILE,
            "cache": "captions",
            "seed": 0,
            "loader": {"batch_size": 64},
            "tower": {"room": "towers", "name": "vit", "options": {"width": 8}},
        },
        "space": {"model": "all-MiniLM-L6-v2", "fingerprint": "f" * 64, "dimensions": 384},
        "precision": "float32",
        "threads": 1,
        "parameters": {"tower": 1000, "head": 10},
        "versions": {"torch": "2.13"},
    }
    (folder / "run.json").write_text(json.dumps(facts))
    events = [
        {
            "event": "step",
            "step": step,
            "epoch": step / 10,
            "samples": 64 * step,
            "loss": 4.1 - step / 100,
            "lr": 1e-3,
            "scale": 14.0,
            "grad_norm": 1.0,
            "img_per_s": 200.0,
            "wait": 0.01,
            "seconds": step / 3,
        }
        for step in range(10, 110, 10)
    ]
    events.insert(5, {"event": "eval", "step": 50, "results": [to_dict(result())]})
    events += [
        {"event": "warning", "text": HOSTILE},
        {"event": "counters", "counters": {"unreadable images": 3}},
    ]
    lines = [json.dumps(event) for event in events]
    (folder / "events.jsonl").write_text("\n".join(lines) + '\n{"event": "st')
    write_results([result()], folder / "evals")
    return folder


def picture(colour: str) -> bytes:
    packed = io.BytesIO()
    Image.new("RGB", (80, 60), colour).save(packed, "png")
    return packed.getvalue()


def read(path: Path) -> tuple[str, Balance]:
    text = path.read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return text, parser


def test_the_page_is_one_safe_file(run: Path) -> None:
    path = write_report(run, thumbnails={"val.tar": {"a": picture("red"), "b": picture("blue")}})
    text, parser = read(path)
    assert "script" not in parser.tags
    assert "&lt;script&gt;" in text
    assert parser.images_without_words == 0
    for reference in parser.references:
        assert reference.startswith(("data:", "#")), reference
    assert not re.search(r"(?:@import|url\()\s*['\"]?(?!#|data:)", text)
    for words in ("all-captions", "30.0%", "25.0% to 35.0%", "text encoder saw these captions"):
        assert words in text, words
    assert (
        "f" * 64 in text and "unreadable images" in text and "lift train run/ --out again" in text
    )
    assert text.count("data:image/") >= 3


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    thumbnails = {"val.tar": {"a": picture("red")}}
    one = write_report(run, out=tmp_path / "1.html", thumbnails=thumbnails).read_bytes()
    assert one == write_report(run, out=tmp_path / "2.html", thumbnails=thumbnails).read_bytes()


def test_pictures_that_are_missing_or_broken_are_told(run: Path) -> None:
    text, _ = read(write_report(run, thumbnails={"val.tar": {"a": b"no picture"}}))
    assert "could not be read as a picture; the first is a." in text
    assert "had no picture to show; the first is b." in text
    read(write_report(run))


def colours(text: str) -> list[tuple[int, ...]]:
    found = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", text)
    pictures = [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]
    return [tuple(picture.resize((1, 1)).getpixel((0, 0))) for picture in pictures]  # type: ignore[arg-type]


def test_a_picture_belongs_to_its_data(run: Path) -> None:
    """Keys of tables are row numbers: those of two tables are the same."""
    write_results([result("other.csv")], run / "evals")
    red, blue = {"a": picture("red"), "b": picture("red")}, {"a": picture("blue")}
    text, _ = read(write_report(run, thumbnails={"val.tar": red}))
    assert colours(text) and all(colour[0] > 200 for colour in colours(text))
    assert "Keys stand in for the pictures of other.csv" in text
    text, _ = read(write_report(run, thumbnails={"val.tar": red, "other.csv": blue}))
    assert {colour[0] > 200 for colour in colours(text)} == {True, False}
    assert "Keys stand in" not in text


def test_a_lookup_that_fails_costs_the_picture_only(run: Path) -> None:
    def find(key: str) -> bytes:
        raise DataError(f"Sample {key} can't be read.")

    text, _ = read(write_report(run, thumbnails={"val.tar": find}))
    assert "could not be read as a picture" in text


def test_thumbnails_are_decoded_like_everything_else() -> None:
    grey = (np.arange(1600, dtype=np.uint16) * 40).reshape(40, 40)
    packed = io.BytesIO()
    Image.fromarray(grey).save(packed, "png")
    small = Image.open(io.BytesIO(base64.b64decode(data_uri(packed.getvalue()).split(",")[1])))
    expected = decode(packed.getvalue()).float().mean().item()
    assert abs(np.asarray(small).mean() - expected) < 3
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\nshowpage\n"
    with pytest.raises(DataError, match="it is none of JPEG"):  # no program is started for it
        data_uri(eps)
    wide = io.BytesIO()
    Image.new("RGB", (2000, 300), "green").save(wide, "jpeg")
    data = base64.b64decode(data_uri(wide.getvalue()).split(",")[1])
    assert Image.open(io.BytesIO(data)).size == (208, 31)


def test_the_commands_repeat_the_run(run: Path) -> None:
    facts = json.loads((run / "run.json").read_text())
    options = {"model": "org/m", "revision": "f" * 40, "prompt": None, "max_tokens": None}
    facts["config"] |= {
        "data": "a b.tar",
        "validation": "val.tar",
        "encoder": {"room": "text/encoders", "name": "sentence_transformer", "options": options},
    }
    commands, inferred = commands_of(Record("run", facts))
    assert inferred and commands[1] == "lift train run/ --out again"
    words = shlex.split(commands[0])
    before = ["lift", "embed", "--data", "a b.tar", "val.tar", "--out", "captions", "--encoder"]
    assert words[:-1] == before
    part = parse_part("text/encoders", words[-1])
    assert part.options == {"model": "org/m", "revision": "f" * 40}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("minilm", {}),
        ("hashing", {"dimensions": 64}),
        ("sentence_transformer", {"model": "7", "prompt": "a, b + [c"}),
        ("sentence_transformer", {"model": "x", "saw": ["coco", "flickr30k"], "max_tokens": 9}),
    ],
)
def test_words_of_an_encoder_mean_the_same_encoder(name: str, options: dict) -> None:
    part = plugins.resolve(Part("text/encoders", name, options))
    words = encoder_words(to_dict(part))
    assert plugins.resolve(parse_part("text/encoders", words)) == part
    assert options or words == name


def test_a_run_that_has_only_begun_has_a_page(run: Path) -> None:
    (run / "events.jsonl").unlink()
    for path in (run / "evals").iterdir():
        path.unlink()
    text, _ = read(write_report(run))
    assert "tiny" in text


def test_before_the_end_the_page_says_so(run: Path) -> None:
    for path in (run / "evals").iterdir():
        path.unlink()
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**facts, "status": "running"}))
    text, _ = read(write_report(run))
    assert "these figures are from step 50" in text


def test_a_folder_without_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="give the folder that `lift train` wrote"):
        write_report(tmp_path)


def test_a_run_with_two_trained_sides_is_told_as_one() -> None:
    config = {
        "data": "pairs",
        "tower": {"name": "vit"},
        "text_tower": {"name": "transformer"},
        "dimensions": 384,
        "freeze": ["image.tower"],
    }
    parameters = {"tower": 0, "head": 24, "text": 1_000, "objective": 1}
    assert _lede({"config": config, "parameters": parameters}) == (
        "An image encoder (vit) of 24 trained parameters and a text encoder (transformer) of 1,000 "
        "trained parameters, trained on pairs into a shared space of 384 dimensions, image tower "
        "held still."
    )
    alone = {"config": {"tower": "vit"}, "parameters": {"tower": 7, "head": 1, "objective": 1}}
    assert _lede(alone) == (
        "An image encoder (vit) of 8 trained parameters into a fixed text space."
    )


@pytest.mark.parametrize("of", [False, True])
def test_a_temperature_that_is_not_learned_does_not_grow(of: bool) -> None:
    objective: dict = {"name": "softmax", "options": {"learn_temperature": False}}
    if of:
        objective = {"name": "matryoshka", "options": {"of": objective}}
    assert "held still" in _about_scale({"config": {"objective": objective}})
    assert "learned" in _about_scale({"config": {"objective": {"name": "softmax"}}})


def test_the_loss_of_guessing_is_that_of_a_whole_step() -> None:
    config = {"objective": "softmax", "loader": {"batch_size": 16}, "optim": {"accumulate": 4}}
    assert guess_loss({"config": config}) == (pytest.approx(np.log(64)), 64)
