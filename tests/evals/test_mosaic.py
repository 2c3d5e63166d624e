"""Mosaics of images: who comes together, what is asked, and what a tile's vector must be of."""

from __future__ import annotations

import hashlib
import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from lift.data.transform import Transform
from lift.errors import ConfigError, DataError
from lift.evals import _encode, mosaic
from lift.evals._pairs import Pairs
from lift.heads import HeadConfig, MLPHead
from lift.model import Side
from lift.terms import Caption, Encoder, Sample
from lift.towers import vit


def sample(number, *texts, image=None, role="raw"):
    texts = texts or (f"text {number}",)
    content = image or f"image {number}".encode()
    return Sample(f"k{number}", content, tuple(Caption(text, role) for text in texts))


def run(source, encoder, **options):
    return mosaic.build(mosaic.Config(**options)).run(encoder, source)


def values(result):
    return [result.metrics[name].value for name in result.metrics]


def one_hot(place, width=64):
    row = np.zeros(width, np.float32)
    row[place] = 1
    return row


class Numbers:
    """Knows every image and text by the number at its end.

    Args:
        moved: from the vectors of a mosaic's tiles [t d] to what it says of them.
    """

    name, saw = "numbers", ()

    def __init__(self, moved=lambda rows: rows):
        self.moved = moved
        self.calls = []

    def encode_images(self, images):
        return np.stack([one_hot(int(image.split()[-1])) for image in images])

    encode_texts = encode_images

    def encode_regions(self, images, tiles):
        self.calls.append(len(images))
        rows = self.encode_images(images).reshape(-1, tiles**2, 64)
        moved = np.stack([self.moved(part) for part in rows]).reshape(-1, 64)
        return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


# --- who comes together ------------------------------------------------------------------------


def most_mosaics(sizes, tiles):
    """Return how many mosaics can be made: take from the largest families first."""
    left, made = sorted(sizes, reverse=True), 0
    while len([size for size in left if size]) >= tiles:
        left = sorted([size - 1 for size in left[:tiles]] + left[tiles:], reverse=True)
        made += 1
    return made


@pytest.mark.parametrize("tiles", [4, 9])
def test_kin_never_meet_and_no_mosaic_is_missing(tiles):
    rng = np.random.default_rng(tiles)
    for _ in range(200):
        families = rng.integers(1, 30)
        kin = rng.integers(0, families, rng.integers(0, 120)) * 7
        made = mosaic.together(kin, tiles, 0)
        sizes = np.unique(kin, return_counts=True)[1].tolist()
        assert made.shape == (most_mosaics(sizes, tiles), tiles)
        assert len(np.unique(made)) == made.size
        assert all(len(set(kin[row])) == tiles for row in made)


def test_company_is_drawn_by_the_seed():
    kin = np.arange(400)
    first, again, other = (mosaic.together(kin, 4, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.9
    # Neither the neighbours in the source nor their places in a mosaic are kept.
    pairs = [sorted(pair) for row in first for pair in itertools.combinations(row, 2)]
    assert sum(b - a < 10 for a, b in pairs) < 80  # of 600; about 30 by chance
    assert abs(first[:, 0].mean() - 199.5) < 40  # standard error 11.5


def test_families_do_not_sit_at_one_place():
    kin = np.maximum(np.arange(400) - 99, 0)  # the first hundred are one family
    made = mosaic.together(kin, 4, 0)
    mosaics, places = np.nonzero(made < 100)
    assert len(made) == 100 and mosaics.tolist() == list(range(100))
    assert (np.bincount(places, minlength=4) > 10).all()  # 25 each by chance


def test_kin_of_kin_are_kin():
    rng = np.random.default_rng(0)
    for _ in range(50):
        images = int(rng.integers(1, 60))
        owner = np.sort(np.concatenate([np.arange(images), rng.integers(0, images, images)]))
        same = rng.integers(0, 2 * images, len(owner))
        content = rng.integers(0, 2 * images, images)
        texts = [set(same[owner == n].tolist()) for n in range(images)]
        near = np.array([[bool(a & b) for b in texts] for a in texts])
        near |= content[:, None] == content
        for _ in range(6):  # ways of up to 2^6 steps
            near = (near.astype(int) @ near) > 0
        pairs = Pairs([], [""] * images, [], owner, same)
        kin = mosaic._kin(pairs, content)
        np.testing.assert_array_equal(kin[:, None] == kin, near)


def test_equal_captions_and_equal_files_never_share_a_mosaic(list_source):
    # Images 0-2 are kin in a chain: 0 and 1 share their second captions, 1 and 2 their bytes.
    chain = [
        sample(0, "text 0", " same words 9 "),
        sample(1, "text 1", "same words 9", image=b"image 1"),
        sample(2, "text 2", image=b"image 1"),
    ]
    others = [sample(n) for n in range(3, 12)]
    for seed in range(20):
        seen = []
        encoder = Numbers(lambda rows, seen=seen: seen.append(rows.argmax(1).tolist()) or rows)
        result = run(list_source([*chain, *others]), encoder, seed=seed)
        assert result.counts["mosaics"] == 3 and sum(0 in part for part in seen) == 1
        assert all(sum(n in (0, 1, 2) for n in part) == 1 for part in seen), seen


def test_too_few_images_for_a_mosaic_stop(list_source):
    with pytest.raises(DataError, match="list has no 4 images whose captions"):
        run(list_source([sample(n) for n in range(3)]), Numbers())
    with pytest.raises(DataError, match=r"no 9 images .* mosaic of 3 x 3"):
        run(list_source([sample(n) for n in range(8)]), Numbers(), tiles=3)
    same = [sample(n, "one 0") for n in range(8)]
    with pytest.raises(DataError, match=r"captions .* all differ"):
        run(list_source(same), Numbers())


# --- what is asked -----------------------------------------------------------------------------


def test_tiles_that_tell_nothing_apart_score_exactly_chance(list_source):
    """A tower whose patches all say what the whole mosaic shows."""
    source = list_source([sample(n) for n in range(40)])
    result = run(source, Numbers(lambda rows: rows.mean(0, keepdims=True).repeat(len(rows), 0)))
    assert values(result) == [0.25, 0.25, 1, 1] and result.chance == 0.25
    assert next(iter(result.metrics)) == result.primary == "tile_to_text/R@1"


def test_a_tile_that_speaks_of_its_neighbour_is_wrong(list_source):
    source = list_source([sample(n) for n in range(40)])
    assert values(run(source, Numbers(lambda rows: np.roll(rows, 1, axis=0)))) == [0, 0, 1, 1]
    # Two of four tiles change places.
    result = run(source, Numbers(lambda rows: rows[[1, 0, 2, 3]]))
    assert values(result) == [0.5, 0.5, 1, 1]
    assert result.metrics[result.primary].items == 10  # mosaics


def test_the_two_directions_differ(list_source):
    source = list_source([sample(n) for n in range(16)])
    # All tiles lean to the first; the second and third hardly.
    lean = np.array([[1, 0, 0, 0], [0.4, 1, 0, 0], [0.4, 0, 1, 0], [1, 0, 0, 0.9]])
    result = run(source, Numbers(lambda rows: lean @ rows))
    assert values(result) == [0.75, 1, 1, 1]


def test_the_image_alone_is_the_control(list_source, vectors):
    class Blind(Numbers):
        def encode_images(self, images):
            return np.roll(super().encode_images(images), 1, axis=1)

        def encode_regions(self, images, tiles):
            return Numbers().encode_images(images)

        encode_texts = Numbers.encode_texts

    result = run(list_source([sample(n) for n in range(16)]), Blind())
    assert values(result)[:2] == [1, 1] and max(values(result)[2:]) < 0.5


@pytest.mark.parametrize("tiles", [2, 3])
@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_whole_mosaics_go_through_the_encoder_a_few_at_a_time(
    tiles, chunk, list_source, monkeypatch
):
    monkeypatch.setattr(_encode, "CHUNK", chunk)
    encoder = Numbers(lambda rows: rows[::-1] + 0.9 * rows)
    result = run(list_source([sample(n) for n in range(60)]), encoder, tiles=tiles)
    made = 60 // tiles**2
    assert sum(encoder.calls) == made * tiles**2 == result.counts["images"]
    assert all(n % tiles**2 == 0 and n <= max(chunk, tiles**2) for n in encoder.calls)
    assert result.counts.get("images left over", 0) == 60 - made * tiles**2
    assert result.chance == 1 / tiles**2
    assert result.protocol == f"{tiles} x {tiles} tiles, first caption"
    middle = 1 if tiles == 3 else 0  # its own opposite
    assert values(result) == pytest.approx([middle / tiles**2] * 2 + [1, 1])


def test_roles_seeds_and_images_without_captions(list_source):
    title = [sample(n, f"title {n}", role="title") for n in range(9)]
    source = list_source([*title, sample(9), sample(10)])
    result = run(source, Numbers(), role="title", seed=3)
    assert result.protocol == "2 x 2 tiles, first caption, role title, seed 3"
    assert result.counts == {
        "images": 8,
        "mosaics": 2,
        "images left over": 1,
        "images without a caption": 2,
    }
    with pytest.raises(DataError, match=r"no captions of role 'short'.*raw, title"):
        run(source, Numbers(), role="short")


def test_repeated_captions_widen_the_interval(list_source, vectors):
    def width(samples):
        figure = run(list_source(samples), vectors({})).metrics["text_to_tile/R@1"]
        return figure.high - figure.low, figure.items

    apart = [sample(n) for n in range(200)]
    shared = [sample(n, f"text {n % 20}") for n in range(200)]
    assert width(apart)[1] == 50 and width(shared)[1] == 20
    assert width(shared)[0] > width(apart)[0]


def test_examples_show_a_tile_and_the_captions_of_its_mosaic(list_source):
    source = list_source([sample(n, f"text {n}", f"other words {n}") for n in range(8)])
    result = run(source, Numbers(lambda rows: rows[[1, 0, 2, 3]]), examples=6)
    assert len(result.examples) == 6
    assert sum(example["right"] for example in result.examples) == 2  # half of them by place alone
    for example in result.examples:
        own = int(example["key"][1:])
        assert example["index"] == own and example["right"] == (example["tile"] > 1)
        assert len(example["top"]) == 4
        (right,) = [top for top in example["top"] if top["right"]]
        assert right["text"] == f"text {own}" and right["index"] == own
        assert (example["top"][0] is right) == example["right"] == (example["rank"] == 1)
        assert [top["score"] for top in example["top"]] == [1.0, 0.0, 0.0, 0.0]


def test_rows_of_tiles_are_checked(list_source):
    class Long(Numbers):
        def encode_regions(self, images, tiles):
            return 2 * super().encode_regions(images, tiles)

    class Short(Numbers):
        def encode_regions(self, images, tiles):
            return super().encode_regions(images, tiles)[1:]

    source = list_source([sample(n) for n in range(8)])
    with pytest.raises(DataError, match=r"8 tile row\(s\) not of unit length .*'k"):
        run(source, Long())
    with pytest.raises(DataError, match="one row for each"):
        run(source, Short())


def test_an_encoder_without_tiles_is_told_so(list_source):
    class Plain:
        name, saw = "plain", ()
        encode_images = Numbers.encode_images
        encode_texts = Numbers.encode_images

    assert isinstance(Plain(), Encoder) and not isinstance(Plain(), mosaic.PatchEncoder)
    assert isinstance(Numbers(), mosaic.PatchEncoder)
    source = list_source([sample(n) for n in range(8)])
    with pytest.raises(ConfigError, match="plain has no `encode_regions`"):
        run(source, Plain())
    assert source.reads == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"examples": -1}, r"mosaic\.examples"),
        ({"tiles": 1}, r"mosaic\.tiles must be from 2 to 16, not 1"),
        ({"tiles": 17}, "not 17"),
        ({"seed": -1}, r"mosaic\.seed"),
    ],
)
def test_wrong_options_stop(options, words):
    with pytest.raises(ConfigError, match=words):
        mosaic.build(mosaic.Config(**options))


# --- a real tower ------------------------------------------------------------------------------


class Model:
    """A tower and a head on real files; a text is what the model says of its image alone."""

    name, saw = "model", ()

    def __init__(self, files, **shape):
        tower = vit.build(vit.Config(width=32, depth=2, heads=2, patch=4, resolution=16, **shape))
        self.side = Side(tower, MLPHead(HeadConfig(layers=1), 32, 24)).eval()
        with torch.no_grad():
            tower.position.zero_()
            for block in tower.blocks:
                block.attention.out.weight *= 0.1
        self.transform = Transform(resolution=16)
        self.said = {f"text {n}": self.encode_images([file])[0] for n, file in enumerate(files)}

    @torch.inference_mode()
    def encode_images(self, images, **how):
        pixels = torch.stack([self.transform.evaluate(image) for image in images])
        return self.side(self.transform.normalise(pixels), **how).numpy()

    def encode_regions(self, images, tiles):
        return self.encode_images(images, tiles=tiles)

    def encode_texts(self, texts):
        return np.stack([self.said[text] for text in texts])


def picture(number):
    digest = hashlib.blake2b(str(number).encode(), digest_size=3).digest()
    image, file = Image.new("RGB", (20, 24), tuple(digest)), io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize("tiles", [2, 4])
def test_a_real_tower_on_plain_colours(pooling, tiles, list_source):
    """Tokens that hardly attend stay what they are, and a colour is the same at any size."""
    files = [picture(n) for n in range(96)]
    model = Model(files, pooling=pooling)
    source = list_source([sample(n, image=file) for n, file in enumerate(files)])
    result = run(source, model, tiles=tiles)
    assert result.counts["mosaics"] == 96 // tiles**2
    right = values(result)
    assert right[2:] == [1, 1] and min(right[:2]) > 0.9
    # Another order of the tiles is another answer.
    model.encode_regions = lambda images, tiles: np.roll(
        model.encode_images(images, tiles=tiles), 1, axis=0
    )
    assert max(values(run(source, model, tiles=tiles))[:2]) < 0.2
