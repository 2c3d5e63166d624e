"""What a model sees: against Pillow, against formulas written anew, and the same for everybody."""

from __future__ import annotations

import colorsys
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from lift.config import from_dict, to_json
from lift.data.augment import Augment, crop_box
from lift.data.source import open_source
from lift.data.transform import CLIP_MEAN, CLIP_STD, Transform
from lift.errors import ConfigError

NO_CROP = {"scale": (1.0, 1.0), "aspect": (1.0, 1.0)}


def rng(number=0):
    return np.random.default_rng(number)


def array_of(tensor):
    return tensor.permute(1, 2, 0).numpy()


def close(ours, theirs, most):
    difference = np.abs(np.asarray(ours, dtype=int) - np.asarray(theirs, dtype=int))
    assert difference.shape == np.asarray(theirs).shape
    return difference.max() <= most


@pytest.fixture(scope="module")
def photos(shared_data):
    source = open_source(str(shared_data / "flickr8k" / "val-0000.tar"))
    return [source.read(index).image for index in range(12)]


def opened(content):
    return Image.open(io.BytesIO(content)).convert("RGB")


# --- evaluation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("side", [32, 64, 224, 300])
def test_centre_and_resize_equal_pillow(photos, side, interpolation):
    transform = Transform(resolution=side, interpolation=interpolation)
    method = getattr(Image.Resampling, interpolation.upper())
    for content in photos:
        image = opened(content)
        short = min(image.size)
        left, top = (image.width - short) // 2, (image.height - short) // 2
        square = image.crop((left, top, left + short, top + short))
        theirs = square.resize((side, side), method)
        assert close(array_of(transform.evaluate(content)), theirs, 2)


def test_squash_equals_pillow(photos):
    transform = Transform(resolution=96, resize="squash")
    for content in photos:
        theirs = opened(content).resize((96, 96), Image.Resampling.BICUBIC)
        assert close(array_of(transform.evaluate(content)), theirs, 2)


def test_canvas_is_a_step_on_the_way(photos):
    transform = Transform(resolution=64, canvas=80)
    for content in photos:
        image = opened(content)
        short = min(image.size)
        left, top = (image.width - short) // 2, (image.height - short) // 2
        canvas = image.crop((left, top, left + short, top + short)).resize(
            (80, 80), Image.Resampling.BICUBIC
        )
        ours = transform.canvas_of(content)
        assert ours.shape == (3, 80, 80) and close(array_of(ours), canvas, 2)
        theirs = canvas.resize((64, 64), Image.Resampling.BICUBIC)
        assert close(array_of(transform.evaluate(content)), theirs, 3)
        assert torch.equal(transform.evaluate(content), transform.from_canvas(ours))


@pytest.mark.parametrize("canvas", [None, 40])
@pytest.mark.parametrize("large", [1, 6])
def test_the_same_pixels_for_every_kind_of_image(photos, tmp_path, canvas, large):
    """Also of a JPEG so large that training decodes it at a fraction."""
    transform = Transform(resolution=32, canvas=canvas)
    image = opened(photos[0]).resize((320 * large, 240 * large))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    content = out.getvalue()
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    expected = transform.evaluate(content)
    lazy = Image.open(path)
    for same in (path, str(path), lazy, opened(content), np.asarray(opened(content))):
        assert torch.equal(transform.evaluate(same), expected), type(same)
    lazy.close()


def test_training_decodes_large_jpegs_smaller_and_nearly_the_same(photos):
    transform = Transform(resolution=32, canvas=40)
    out = io.BytesIO()
    opened(photos[0]).resize((1600, 1200), Image.Resampling.BICUBIC).save(out, "JPEG", quality=95)
    quick, whole = (transform.canvas_of(out.getvalue(), whole=w).int() for w in (False, True))
    assert not torch.equal(quick, whole)
    assert (quick - whole).abs().float().mean() < 1.5
    free = Transform(resolution=32, augment=Augment(scale=(0.25, 1.0), aspect=(1.0, 1.0)))
    assert min(free.canvas_of(out.getvalue()).shape[1:]) == 150  # 2 x 32 / sqrt(0.25) = 128


def test_extreme_shapes_take_little_memory():
    strip = np.zeros((1, 60_000, 3), dtype=np.uint8)
    assert Transform(resolution=8).evaluate(strip).shape == (3, 8, 8)
    assert Transform(resolution=8, canvas=16).train(
        Transform(resolution=8, canvas=16).canvas_of(strip), rng()
    ).shape == (3, 8, 8)


def test_transparent_pixels_lie_on_the_background():
    clear = Image.new("RGBA", (9, 9), (0, 0, 0, 0))
    transform = Transform(resolution=4, background=(10, 20, 30))
    assert transform.evaluate(clear)[:, 0, 0].tolist() == [10, 20, 30]


def test_normalise_is_clips():
    images = torch.randint(0, 256, (2, 3, 5, 5), dtype=torch.uint8)
    ours = Transform(resolution=5).normalise(images).double()
    for channel in range(3):
        theirs = (images[:, channel].double() / 255 - CLIP_MEAN[channel]) / CLIP_STD[channel]
        torch.testing.assert_close(ours[:, channel], theirs, atol=1e-5, rtol=0)


# --- the random crop ----------------------------------------------------------------------------


def test_the_defaults_are_the_papers_crop_and_nothing_else(photos):
    assert Augment() == Augment(scale=(0.9, 1.0), aspect=(3 / 4, 4 / 3), flip=0.0, jitter=0.0)
    transform = Transform(resolution=48)
    for number, content in enumerate(photos):
        canvas = transform.canvas_of(content)
        top, left, height, width = crop_box(*canvas.shape[1:], Augment(), rng(number))
        image = Image.fromarray(array_of(canvas))
        theirs = image.crop((left, top, left + width, top + height))
        theirs = theirs.resize((48, 48), Image.Resampling.BICUBIC)
        assert close(array_of(transform.train(canvas, rng(number))), theirs, 2)


@pytest.mark.parametrize("shape", [(80, 80), (60, 200), (333, 250)])
def test_crops_have_the_asked_areas_aspects_and_places(shape):
    augment = Augment(scale=(0.2, 0.9), aspect=(0.5, 2.0))
    draws, boxes = rng(), []
    for _ in range(1000):
        top, left, height, width = crop_box(*shape, augment, draws)
        assert 0 <= top <= shape[0] - height and 0 <= left <= shape[1] - width
        boxes.append((top, left, height, width))
    tops, lefts, heights, widths = np.array(boxes).T
    shares = heights * widths / (shape[0] * shape[1])
    aspects = widths / heights
    assert 0.18 < shares.min() < 0.25 and shares.max() < 0.93
    assert 0.47 < aspects.min() and aspects.max() < 2.1
    assert tops.min() == lefts.min() == 0
    assert (tops + heights).max() >= shape[0] - 1 and (lefts + widths).max() >= shape[1] - 1
    if shape == (80, 80):
        assert abs(np.log(aspects).mean()) < 0.05 and 0.44 < shares.mean() < 0.55


def test_a_crop_that_can_not_fit_is_the_largest_in_the_middle():
    augment = Augment(scale=(1.0, 1.0), aspect=(1.0, 1.0))
    assert crop_box(100, 300, augment, rng()) == (0, 100, 100, 100)
    assert crop_box(300, 100, augment, rng()) == (100, 0, 100, 100)
    assert crop_box(1, 1, Augment(), rng()) == (0, 0, 1, 1)


# --- colours, flips, erasing --------------------------------------------------------------------


def view_of(canvas, seed=0, **changes):
    transform = Transform(resolution=canvas.shape[1], augment=Augment(**NO_CROP, **changes))
    return transform.train(canvas, rng(seed))


@pytest.fixture(scope="module")
def muted(photos):
    """Return a photo whose values stay within [64, 160]: no change of colour clips them."""
    canvas = Transform(resolution=64, canvas=64).canvas_of(photos[3])
    return (64 + canvas.float() * 96 / 255).to(torch.uint8)


def factors(seed, **strengths):
    """Return the drawn factor of each strength, 1 + s (2 u - 1), in the order documented."""
    draws = rng(seed)
    draws.random((10, 4))  # the crop's
    _, *uniform = draws.random(6)
    names = ("brightness", "contrast", "saturation", "hue")
    return {n: strengths.get(n, 0) * (2 * u - 1) for n, u in zip(names, uniform[:4], strict=True)}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "name, reference",
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_each_jitter_equals_pillows(muted, name, reference, seed):
    ours = view_of(muted, seed, jitter=1.0, **{name: 0.5})
    change = factors(seed, **{name: 0.5})[name]
    theirs = reference(Image.fromarray(array_of(muted))).enhance(1 + change)
    assert abs(change) > 1e-3 and close(array_of(ours), theirs, 2)


@pytest.mark.parametrize("seed", range(4))
def test_hue_is_a_turn_in_the_yiq_plane(muted, seed):
    """Against `colorsys`, whose YIQ has slightly other constants."""
    turn = 2 * np.pi * factors(seed, hue=0.1)["hue"]
    ours = array_of(view_of(muted, seed, jitter=1.0, hue=0.1))
    for y, x in rng(1).integers(0, 64, (60, 2)):
        luma, i, q = colorsys.rgb_to_yiq(*(array_of(muted)[y, x] / 255.0))
        turned = i * np.cos(turn) - q * np.sin(turn), i * np.sin(turn) + q * np.cos(turn)
        theirs = np.multiply(colorsys.yiq_to_rgb(luma, *turned), 255)
        assert np.abs(ours[y, x] - theirs).max() < 3.5


def test_hue_leaves_grey_and_luma_alone(muted):
    grey = torch.full((3, 16, 16), 90, dtype=torch.uint8)
    luma = np.array([0.299, 0.587, 0.114])
    for seed in range(5):
        assert close(view_of(grey, seed, jitter=1.0, hue=0.5), grey, 1)
        turned = view_of(muted, seed, jitter=1.0, hue=0.5)
        before, after = array_of(muted) @ luma, array_of(turned) @ luma
        assert np.abs(before - after).max() < 1.5


def test_all_jitters_together_equal_one_after_the_other(muted):
    strengths = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.05}
    for seed in range(5):
        ours = view_of(muted, seed, jitter=1.0, **strengths)
        drawn = factors(seed, **strengths)
        image = muted.double().numpy() * (1 + drawn["brightness"])
        luma = np.tensordot([0.299, 0.587, 0.114], image, 1)
        image = luma + (1 + drawn["saturation"]) * (image - luma)
        turn = 2 * np.pi * drawn["hue"]
        i = np.tensordot([0.596, -0.274, -0.322], image, 1)
        q = np.tensordot([0.211, -0.523, 0.312], image, 1)
        luma = np.tensordot([0.299, 0.587, 0.114], image, 1)
        yiq = np.stack(
            [luma, i * np.cos(turn) - q * np.sin(turn), i * np.sin(turn) + q * np.cos(turn)]
        )
        back = np.linalg.inv(
            [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]
        )
        image = np.tensordot(back, yiq, 1)
        mean = np.tensordot([0.299, 0.587, 0.114], image, 1).mean()
        image = mean + (1 + drawn["contrast"]) * (image - mean)
        assert close(ours, np.rint(image).clip(0, 255), 1)


def test_grey_is_pillows_grey(muted):
    theirs = Image.fromarray(array_of(muted)).convert("L").convert("RGB")
    assert close(array_of(view_of(muted, grey=1.0)), theirs, 1)


def test_flip(muted):
    assert torch.equal(view_of(muted, flip=1.0), muted.flip(2))
    assert torch.equal(view_of(muted, flip=0.0), muted)


@pytest.mark.parametrize("name", ["flip", "grey", "erase", "jitter"])
def test_probabilities_are_shares(muted, name):
    more = {"brightness": 0.5} if name == "jitter" else {}
    small = muted[:, :16, :16]
    changed = [
        not torch.equal(view_of(small, seed, **{name: 0.3}, **more), small) for seed in range(300)
    ]
    assert 0.22 < np.mean(changed) < 0.38


def test_erasing_fills_one_rectangle_with_the_mean_colour(muted):
    fill = torch.tensor([round(255 * value) for value in CLIP_MEAN])[:, None, None]
    shares = []
    for seed in range(150):
        view = view_of(muted, seed, erase=1.0)
        rows, columns = (view != muted).any(0).nonzero().T
        top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
        assert (view[:, top:bottom, left:right] == fill).all()
        shares.append(float((bottom - top) * (right - left)) / 64**2)
    assert min(shares) > 0.01 and 0.25 < max(shares) <= 0.35


# --- one value ----------------------------------------------------------------------------------


WILD = Augment(
    scale=(0.3, 1.0), flip=0.5, jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.4,
    hue=0.1, grey=0.2, erase=0.3,
)  # fmt: skip


def test_equal_generators_give_equal_views(photos):
    transform = Transform(resolution=32, canvas=48, augment=WILD)
    canvas = transform.canvas_of(photos[0])
    before = canvas.clone()
    first = [transform.train(canvas, rng(seed)) for seed in range(20)]
    again = [transform.train(canvas, rng(seed)) for seed in reversed(range(20))][::-1]
    assert all(map(torch.equal, first, again))
    assert len({view.numpy().tobytes() for view in first}) == 20
    assert torch.equal(canvas, before)
    torch.rand(3)
    assert torch.equal(transform.train(canvas, rng(0)), first[0])


@pytest.mark.parametrize(
    "transform", [Transform(), Transform(resolution=64, canvas=80, resize="squash", augment=WILD)]
)
def test_json_round_trip(transform):
    assert from_dict(Transform, json.loads(to_json(transform))) == transform


@pytest.mark.parametrize(
    "build, sentence",
    [
        (lambda: Transform(resolution=0), "resolution must be from 1 to 4096"),
        (lambda: Transform(resolution=64, canvas=32), "canvas must be from 64"),
        (lambda: Transform(mean=(0.5,)), "mean needs three values"),
        (lambda: Transform(std=(0.0, 1.0, 1.0)), "std must be above 0"),
        (lambda: Transform(background=(0, 0, 256)), "background must be from 0 to 255"),
        (lambda: Augment(scale=(0.5, 1.5)), "augment.scale must be two numbers"),
        (lambda: Augment(scale=(0.9, 0.5)), "augment.scale must be two numbers"),
        (lambda: Augment(aspect=(1.0,)), "augment.aspect must be two numbers"),
        (lambda: Augment(flip=1.5), "augment.flip is a probability"),
        (lambda: Augment(hue=0.6), "augment.hue must be from 0 to 0.5"),
    ],
)
def test_options_are_checked(build, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build()
