"""Scenes: what is said is checked against the facts by a reader of its own."""

from __future__ import annotations

import io
import json
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from lift.config import Part
from lift.data.source import open_source
from lift.errors import ConfigError, DataError

SHAPES = "circle square triangle diamond star cross ring heart".split()
COLOURS = "red orange yellow green cyan blue purple pink brown".split()
TEXTURES = "striped dotted hatched".split()
RELATIONS = {
    "to the left of": "left",
    "on the left of": "left",
    "left of": "left",
    "to the right of": "right",
    "on the right of": "right",
    "right of": "right",
    "higher than": "above",
    "above": "above",
    "over": "above",
    "lower than": "below",
    "below": "below",
    "under": "below",
}
NUMBERS = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4}
FRAMES = (
    "a picture of ", "a drawing of ", "an image with ",
    "the image shows ", "there is a scene with ", "this picture contains ",
)  # fmt: skip
GROUND = re.compile(
    r"^(?:the background is |all of it is on an? |(?P<rest>.*) on an? )"
    r"(?P<kind>plain|fading|noisy|checkered) (?P<ground>\w+)(?: background)?$"
)


def scenes(**options):
    return open_source(Part("data/formats", "scenes", {"count": 400, "resolution": 32, **options}))


def phrase(words):
    """Read "two small striped red circles" into what it claims; every word must be known."""
    number, *rest = words.split()
    claim = {"number": NUMBERS[number]}
    noun = rest.pop()
    if claim["number"] > 1:
        noun = noun.removesuffix("es") if noun == "crosses" else noun.removesuffix("s")
    assert noun in SHAPES, words
    claim["shape"] = noun
    for word in rest:
        kinds = (("size", ["small", "large"]), ("texture", TEXTURES), ("colour", COLOURS))
        kind = next(k for k, known in kinds if word in known)
        assert kind not in claim, words
        claim[kind] = word
    return claim


def sentence(text):
    """Return (phrases, relation, ground) that a sentence claims."""
    text = text[0].lower() + text[1:]
    background = GROUND.match(text)
    if background:
        claims = (background["kind"], background["ground"])
        if background["rest"] is None:
            return [], None, claims
        return (*sentence(background["rest"])[:2], claims)
    for frame in FRAMES:
        text = text.removeprefix(frame)
    for words in sorted(RELATIONS, key=len, reverse=True):
        parts = re.split(rf" (?:is |are )?{words} ", text)
        if len(parts) == 2:
            return [phrase(part) for part in parts], RELATIONS[words], None
    return [phrase(part) for part in re.split(r", | and ", text)], None, None


def fits(thing, claim):
    return all(thing[name] == value for name, value in claim.items())


def stands(first, relation, second):
    dx, dy = second["column"] - first["column"], second["row"] - first["row"]
    return {"left": dx > 0, "right": dx < 0, "above": dy > 0, "below": dy < 0}[relation]


def is_true(text, facts):
    """Return whether different things of the scene bear out all that a text says."""
    for part in text.rstrip(".").split(". "):
        claims, relation, ground = sentence(part)
        if ground and ground != (facts["background"], facts["ground"]):
            return False
        chosen = []
        for claim in claims:
            found = [t for t in facts["things"] if fits(t, claim) and t not in chosen]
            if not found:
                return False
            chosen.append(found[0])
        if relation and not stands(*chosen[:1], relation, *chosen[1:]):
            return False
    return True


@pytest.fixture(scope="module")
def samples():
    source = scenes()
    return [source.read(index) for index in range(len(source))]


def test_the_reader_tells_true_from_false():
    thing = {"shape": "cross", "colour": "red", "size": "small", "texture": "plain", "number": 2}
    other = {"shape": "ring", "colour": "blue", "size": "large", "texture": "dotted", "number": 1}
    facts = {
        "things": [{**thing, "column": 0, "row": 0}, {**other, "column": 1, "row": 0}],
        "background": "noisy",
        "ground": "mint",
    }
    for text, truth in {
        "two red crosses": True,
        "two striped red crosses": False,
        "three red crosses": False,
        "a picture of a large dotted blue ring right of two crosses": True,
        "two crosses to the right of a ring": False,
        "two crosses above a ring": False,
        "a ring and two red crosses on a noisy mint background": True,
        "a ring on a noisy grey background": False,
        "A ring is on the right of two crosses. The background is noisy mint.": True,
        "There is a scene with a ring, two red crosses and a star. A ring is left of a star": False,
        "a ring and a ring": False,
    }.items():
        assert is_true(text, facts) is truth, text


def test_captions_are_true_and_foils_are_false(samples):
    said = Counter()
    for sample in samples:
        facts = json.loads(sample.fields["scene"])
        for caption in sample.captions:
            assert is_true(caption.text, facts), (caption, facts)
            said[caption.role] += 1
        for foil in sample.foils:
            assert is_true(foil.caption, facts), (foil, facts)
            assert not is_true(foil.foil, facts), (foil, facts)
            said[foil.kind] += 1
        shapes = [thing["shape"] for thing in facts["things"]]
        assert len(set(shapes)) == len(shapes)
    assert said["short"] > 1000 and said["long"] > 700


def test_every_kind_of_foil_changes_what_it_says(samples):
    """add: something more is said; replace: a word that was not there; swap: the same words."""
    kinds = Counter(foil.kind for sample in samples for foil in sample.foils)
    whats = ("object", "attribute")
    assert set(kinds) == {f"{how}_{w}" for how in ("add", "replace", "swap") for w in whats} | {
        "replace_relation"
    }
    assert kinds["add_object"] == kinds["replace_attribute"] == len(samples)
    assert min(kinds.values()) > 300
    for foil in (foil for sample in samples for foil in sample.foils):
        right, relation, _ = sentence(foil.caption)
        wrong, other, _ = sentence(foil.foil)
        before, after = ([tuple(sorted(c.items())) for c in side] for side in (right, wrong))
        same_things = sorted(before) == sorted(after)
        how, what = foil.kind.split("_")
        if how == "add":
            larger = len(after) > len(before) if what == "object" else len(after) == len(before)
            assert larger and sum(map(len, after)) > sum(map(len, before))
        elif foil.kind == "replace_relation":
            assert before == after and relation != other
        elif foil.kind == "swap_object":
            assert same_things and before != after and relation == other
        elif foil.kind == "swap_attribute":
            assert [c["shape"] for c in right] == [c["shape"] for c in wrong]
            assert [c["colour"] for c in right] == [c["colour"] for c in wrong][::-1]
            assert right != wrong and relation == other
        else:
            changed = [i for i, (a, b) in enumerate(zip(right, wrong, strict=True)) if a != b]
            assert len(changed) == 1 and relation == other
            a, b = right[changed[0]], wrong[changed[0]]
            differ = [n for n in a.keys() | b.keys() if a.get(n) != b.get(n)]
            assert len(differ) == 1 and (differ[0] == "shape") == (what == "object")


def test_words_and_facts_vary(samples):
    facts = [json.loads(sample.fields["scene"]) for sample in samples]
    things = [thing for fact in facts for thing in fact["things"]]
    for name, known in (("shape", SHAPES), ("colour", COLOURS)):
        assert {thing[name] for thing in things} == set(known)
    assert {thing["number"] for thing in things} == {1, 2, 3, 4}
    assert {thing["texture"] for thing in things} == {"plain", *TEXTURES}
    assert len({fact["background"] for fact in facts}) == 4
    texts = [caption.text for sample in samples for caption in sample.captions]
    assert len(set(texts)) > 0.8 * len(texts)
    for words in RELATIONS:
        assert sum(f" {words} " in text for text in texts) > 5, words


def test_pixels_show_the_facts():
    """Where the colour of a thing lies in the picture agrees with its place in the facts."""
    colours = {"red": (214, 40, 40), "green": (45, 150, 60), "blue": (40, 80, 225)}
    source = scenes(count=300, resolution=64)
    seen = 0
    for index in range(len(source)):
        sample = source.read(index)
        facts = json.loads(sample.fields["scene"])
        plain = [t for t in facts["things"] if t["texture"] == "plain" and t["colour"] in colours]
        if len(plain) < 2 or facts["ground"] == "navy":
            continue
        with Image.open(io.BytesIO(sample.image)) as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        centres = []
        for thing in plain[:2]:
            near = (np.abs(pixels - colours[thing["colour"]]) <= 12).all(-1)
            area = near.sum() / near.size
            assert 0.004 * thing["number"] < area < 0.35, (facts, area)
            rows, columns = np.nonzero(near)
            centres.append((columns.mean(), rows.mean()))
        (x1, y1), (x2, y2) = centres
        first, second = plain[:2]
        for relation, shown in (
            ("left", x1 < x2 - 8),
            ("right", x1 > x2 + 8),
            ("above", y1 < y2 - 8),
            ("below", y1 > y2 + 8),
        ):
            assert stands(first, relation, second) == shown, (facts, centres)
        seen += 1
    assert seen > 8


def test_scenes_are_a_function_of_seed_and_number():
    source, again = scenes(count=50), scenes(count=50)
    assert [source.read(i) for i in range(50)] == [again.read(i) for i in reversed(range(50))][::-1]
    later = scenes(count=20, start=30)
    assert [later.read(i) for i in range(20)] == [source.read(30 + i) for i in range(20)]
    other = scenes(count=50, seed=1)
    assert not {s[0] for s in other.texts()} & {s[0] for s in source.texts()}
    assert source.read(0).image != other.read(0).image


def test_ranges_apart_share_nothing():
    train, validation = scenes(count=100), scenes(count=100, start=100)
    ours = [train.read(i) for i in range(100)]
    theirs = [validation.read(i) for i in range(100)]
    assert not {s.key for s in ours} & {s.key for s in theirs}
    assert not {s.image for s in ours} & {s.image for s in theirs}


@pytest.mark.parametrize("resolution", [32, 64, 224])
def test_every_scene_is_a_picture_of_its_size(resolution):
    with Image.open(io.BytesIO(scenes(resolution=resolution).read(3).image)) as image:
        assert image.size == (resolution, resolution) and image.mode == "RGB"


def test_how_many_captions():
    for short, long in ((0, 1), (8, 0), (2, 3)):
        for _, captions in scenes(count=60, short=short, long=long).texts():
            roles = Counter(caption.role for caption in captions)
            assert roles["short"] <= short and roles["long"] <= long and len(captions) > 0
            assert len({caption.text for caption in captions}) == len(captions)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"count": -1}, "must not be negative"),
        ({"start": -1}, "must not be negative"),
        ({"resolution": 8}, "32 to 1024 pixels, not 8"),
        ({"short": 0, "long": 0}, "not both 0"),
    ],
)
def test_options_are_checked(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        scenes(**options)


def test_none_is_too_few():
    with pytest.raises(DataError, match="holds no samples"):
        scenes(count=0)


def test_regions_are_the_things_and_masks_their_shapes():
    source = open_source("scenes:count=40,resolution=96,masks=true")
    for number in range(len(source)):
        sample = source.read(number)
        things = json.loads(sample.fields["scene"])["things"]
        assert len(sample.regions) == len(things) == len({r.text for r in sample.regions})
        with Image.open(io.BytesIO(sample.mask)) as opened:
            mask = np.asarray(opened)
        names = json.loads(sample.fields["mask_classes"])
        assert names == ["background", *SHAPES] and mask.shape == (96, 96)
        assert set(np.unique(mask)) == {0, *(names.index(thing["shape"]) for thing in things)}
        with Image.open(io.BytesIO(sample.image)) as opened:
            pixels = np.asarray(opened).astype(int)
        for thing, (text, box) in zip(things, sample.regions, strict=True):
            assert thing["colour"] in text and thing["shape"] in text
            left, top, right, bottom = (round(96 * end) for end in box)
            mine = mask == names.index(thing["shape"])
            inside = np.zeros_like(mine)
            inside[top:bottom, left:right] = True
            assert not (mine & ~inside).any()
            edges = [np.flatnonzero(mine.any(axis))[[0, -1]] for axis in (0, 1)]
            assert np.abs(np.array(edges) - [[left, right - 1], [top, bottom - 1]]).max() <= 10
            if thing["texture"] == "plain":  # one colour, up to the edge
                assert np.abs(pixels[mine] - np.median(pixels[mine], axis=0)).mean() < 12
    plain = open_source("scenes:count=1,resolution=96").read(0)
    assert plain.mask == b"" and "mask_classes" not in plain.fields
    assert plain.image == source.read(0).image and plain.regions == source.read(0).regions
