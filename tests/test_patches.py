"""The patches of a model as vectors, and a model behind other pixel statistics."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from lift import plugins
from lift.bundle import Bundle
from lift.bundle_record import BundleRecord
from lift.config import Part, part
from lift.data.transform import Transform
from lift.errors import ConfigError, DataError
from lift.evals import lift_reference, pointing
from lift.evals._dense import DenseEncoder
from lift.evals.lift_reference import RestatedEncoder
from lift.heads import HeadConfig
from lift.model import Side, SideConfig, build_side
from lift.terms import unit


def made(tower: Part, resolution: int = 32, **options) -> Bundle:
    """Return a small model of 32 pixels, and a text encoder that needs no weights."""
    torch.manual_seed(0)
    encoder = plugins.build(part("text/encoders", "hashing", dimensions=24))
    image = SideConfig(tower=plugins.resolve(tower), head=HeadConfig(layers=2))
    record = BundleRecord(
        image=image,
        transform=Transform(resolution=resolution, **options),
        space=encoder.space,
        encoder=part("text/encoders", "hashing", dimensions=24),
    )
    return Bundle(build_side(image, None, 24).eval(), record)


def vit(**options) -> Part:
    return part("towers", "vit", width=16, depth=2, heads=2, patch=8, resolution=32, **options)


def photo(height: int, width: int, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def test_each_patch_goes_through_the_head() -> None:
    model = made(vit())
    assert isinstance(model, DenseEncoder)
    images = [photo(40, 40), photo(64, 32, 1)]
    found = model.encode_patches(images)
    assert found.z.shape == (2, 4, 4, 24) and found.z.dtype == np.float32
    assert np.linalg.norm(found.z, axis=3) == pytest.approx(1, abs=1e-5)
    tower = model.side.tower
    assert tower is not None
    pixels = torch.stack([model.transform.evaluate(image) for image in images])
    with torch.inference_mode():
        tokens = tower.tokens(model.transform.normalise(pixels), normed=True)  # type: ignore[operator]
        expected = model.side.finish(tokens.flatten(0, 1)).unflatten(0, (2, 4, 4))
    assert found.z == pytest.approx(expected.numpy(), abs=1e-5)
    # Without a head, the mean of patches is what the model says of the image.
    bare = Bundle(Side(tower, None), model.record)
    pooled = bare.side.finish(tower.grid(model.transform.normalise(pixels), 4))  # type: ignore[operator]
    whole = tower(model.transform.normalise(pixels))  # type: ignore[operator]
    assert unit(tokens.mean(1)).numpy() == pytest.approx(unit(whole).detach().numpy(), abs=1e-5)
    assert len(pooled) == 32


def test_frames_are_the_part_of_the_image_that_is_seen() -> None:
    square, tall, wide = photo(40, 40), photo(80, 32), photo(30, 90)
    found = made(vit()).encode_patches([square, tall, wide]).frame
    assert found.tolist() == [
        [0, 0, 1, 1],
        pytest.approx([0, 24 / 80, 1, 56 / 80]),
        pytest.approx([30 / 90, 0, 60 / 90, 1]),
    ]
    squashed = made(vit(), resize="squash").encode_patches([tall, wide]).frame
    assert (squashed == [0, 0, 1, 1]).all()
    stored = made(vit(), canvas=40).encode_patches([tall]).frame
    assert stored[0] == pytest.approx([0, 24 / 80, 1, 56 / 80])
    turned = photo(80, 32)
    exif = turned.getexif()
    exif[0x0112] = 6
    file = io.BytesIO()
    turned.save(file, "JPEG", exif=exif)
    upright = made(vit()).encode_patches([file.getvalue()]).frame[0]
    assert upright == pytest.approx([24 / 80, 0, 56 / 80, 1])


def test_what_lies_where_is_where_it_lies() -> None:
    """A changed corner of an image changes the cell of that corner most."""
    model = made(vit())
    pixels = np.full((32, 32, 3), 100, np.uint8)
    changed = pixels.copy()
    changed[:8, 24:] = (250, 10, 10)
    before, after = model.encode_patches([pixels, changed]).z
    moved = 1 - (before * after).sum(-1)
    assert np.unravel_index(moved.argmax(), moved.shape) == (0, 3)


def test_batches_change_nothing_and_bad_ones_are_told() -> None:
    model, images = made(vit()), [photo(40, 50, seed) for seed in range(5)]
    whole, parts = model.encode_patches(images), model.encode_patches(images, batch_size=2)
    assert parts.z == pytest.approx(whole.z, abs=1e-6) and np.array_equal(parts.frame, whole.frame)
    assert model.encode_patches([]).z.shape == (0, 1, 1, 24)
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        model.encode_patches(images, batch_size=0)
    with pytest.raises(DataError):
        model.encode_patches([b"no image"])


def test_towers_without_patches_say_so() -> None:
    class Flat(torch.nn.Module):
        width, resolution = 4, 32

    flat = Bundle(Side(Flat(), None), made(vit()).record, name="flat")
    with pytest.raises(ConfigError, match="The tower of flat has no patches"):
        flat.encode_patches([photo(32, 32)])


def test_towers_of_other_libraries() -> None:
    pytest.importorskip("transformers")
    import tower_folders

    folder = str(tower_folders.folder("vit"))
    tower = plugins.build(part("towers", "huggingface", model=folder, pooling="mean"))
    options = {"model": folder, "pooling": "mean"}
    side = tower.resolution
    model = made(part("towers", "huggingface", **options), resolution=side)
    found = model.encode_patches([photo(40, 40)])
    count = found.z.shape[1]
    assert found.z.shape == (1, count, count, 24) and count > 1
    pixels = model.transform.normalise(model.transform.evaluate(photo(40, 40))[None])
    assert model.side.tower is not None
    with torch.inference_mode():
        expected = model.side.finish(model.side.tower.grid(pixels, count))  # type: ignore[operator]
    assert found.z.reshape(-1, 24) == pytest.approx(expected.numpy(), abs=1e-5)
    with pytest.raises(ConfigError, match="does not divide into"):
        model.side.tower.grid(pixels, 2 * count)  # type: ignore[operator]
    own = made(part("towers", "huggingface", **{**options, "pooling": "own"}), resolution=side)
    with pytest.raises(ConfigError, match="pooling=own makes a vector of a whole image"):
        own.encode_patches([photo(40, 40)])


# --- other pixel statistics ----------------------------------------------------------------------


def test_other_statistics_are_another_model() -> None:
    model, image = made(vit()), photo(40, 40)
    assert isinstance(model, RestatedEncoder)
    before = model.encode_images(image)
    other = model.with_pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert other.record != model.record and other.transform.std == (0.229, 0.224, 0.225)
    assert other.transform.resolution == 32 and other.side is model.side
    assert np.array_equal(model.encode_images(image), before)
    moved = other.encode_images(image)
    assert not np.allclose(moved, before, atol=1e-3)
    assert np.array_equal(other.encode_texts("a dog"), model.encode_texts("a dog"))
    same = model.with_pixels(model.transform.mean, model.transform.std)  # type: ignore[arg-type]
    assert np.array_equal(same.encode_images(image), before) and same.record == model.record
    identity = getattr(model, "identity", None)
    if identity is not None:
        assert getattr(other, "identity") != identity == getattr(same, "identity")  # noqa: B009
    with pytest.raises(ConfigError, match="std must be above 0"):
        model.with_pixels((0, 0, 0), (0, 1, 1))


def test_a_model_is_judged_by_both() -> None:
    from lift.data.source import open_source

    source = open_source("scenes:count=12,resolution=32")
    found = lift_reference.build(lift_reference.Config()).run(made(vit()), source)
    assert found.metrics["text_to_image/R@1 (effect of pixels)"].items == 12
    pointed = pointing.build(pointing.Config()).run(made(vit()), source)
    assert pointed.counts["regions"] == sum(len(source.read(n).regions) for n in range(12))
