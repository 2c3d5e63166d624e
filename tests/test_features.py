"""Image features in a cache: which rows, from which pixels, by which tower; killed, resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lift
from lift.cache import writer
from lift.cache.addresses import content_hash
from lift.cache.features import FeatureCache
from lift.cache.reader import EmbeddingCache
from lift.config import Part, part
from lift.console import text as console
from lift.data.image import picture
from lift.data.pictures import Pictures
from lift.data.source import open_source
from lift.data.stored_views import StoredViews, drawn_view
from lift.data.transform import Transform, cut, scaled
from lift.errors import (
    CacheError,
    ConfigError,
    DataError,
    MissingRows,
    NotFinite,
    SpaceMismatch,
)
from lift.features import Rows, embed_images, open_tower, tower_of
from lift.tower_encoder import TowerEncoder, probe_picture
from test_bundle import make

STRONG = ("augment.scale=0.2,1", "augment.flip=0.5", "augment.jitter=1", "augment.hue=0.1")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model") / "m"
    make().save(folder)
    return str(folder)


def pictured(seed: int, side: tuple[int, int] = (50, 70)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    return Image.fromarray(coarse).resize(side[::-1])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of twelve images, two of them the same file, with a caption each."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(11):
        kind = "jpg" if number % 2 else "png"
        pictured(number, (40 + 9 * number, 300 - 20 * number)).save(folder / f"{number:02}.{kind}")
        (folder / f"{number:02}.txt").write_text(f"photo {number}\n")
    shutil.copy(folder / "03.jpg", folder / "copy.jpg")
    (folder / "copy.txt").write_text("photo 3 again\n")
    return folder


def run(photos: Path, model: str | None, out: Path, **options):
    words = {"progress": False, "device": "cpu", "workers": 2, **options}
    words["rows"] = Rows(**{n: words.pop(n) for n in ("views", "grid", "seed") if n in words})
    named = part("towers", "lift_model", model=model) if model else None
    return embed_images([str(photos)], named, out, **words)


def hash_of(path: Path) -> str:
    return content_hash(path.read_bytes()).hex()


def files_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def test_rows_are_the_towers_own_and_equal_files_share_theirs(photos, model, tmp_path):
    report = run(photos, model, tmp_path / "f", codec=part("cache/codecs", "float32"))
    assert (report.captions, report.distinct, report.embedded, report.links) == (12, 11, 11, 12)
    assert "captions" not in report.table()
    cache = FeatureCache.open(tmp_path / "f", verify=True)
    tower, transform = make().side.tower.eval(), make().transform
    names = sorted(p for p in photos.iterdir() if p.suffix != ".txt")
    rows = cache.find_images([hash_of(path) for path in names])
    assert (rows >= 0).all()
    with torch.no_grad():
        images = torch.stack([transform.evaluate(path) for path in names])
        ours = tower(transform.normalise(images)).numpy()
    np.testing.assert_allclose(cache.take(rows), ours, atol=1e-5)
    assert cache.find_images(["0" * 32]).tolist() == [-1]
    links = [link for table in cache.links() for link in table.to_pylist()]
    assert {link["image"] for link in links} == {path.name for path in names}
    assert {(link["role"], link["parent"]) for link in links} == {("image", None)}
    assert cache.tower.options["model"] == model
    assert cache.space.tower.name == "vit" and model not in json.dumps(cache.space.tower.options)


def test_a_changed_file_under_the_same_key_gets_its_own_row(photos, model, tmp_path):
    run(photos, model, tmp_path / "f")
    old = hash_of(photos / "00.png")
    pictured(99).save(photos / "00.png")
    report = run(photos, None, tmp_path / "f")
    assert (report.stored, report.embedded, report.links) == (10, 1, 1)
    cache = FeatureCache.open(tmp_path / "f")
    rows = cache.find_images([old, hash_of(photos / "00.png")])
    assert len(set(rows.tolist())) == 2 and (rows >= 0).all()


def test_views_can_be_drawn_again_from_the_file_alone(photos, model, tmp_path):
    pictured(9, (400, 500)).save(photos / "09.jpg")  # large enough to be decoded smaller
    run(photos, model, tmp_path / "f", views=3, seed=5, options=STRONG)
    cache = FeatureCache.open(tmp_path / "f")
    assert (cache.views, cache.seed) == (3, 5)
    assert "augment" not in cache.space.transform
    views, tower = StoredViews.of(cache), tower_of(cache, device="cpu")
    path = photos / "09.jpg"
    image = picture(path)
    shown, shrunk = [], []
    for number in range(3):
        view = drawn_view(views, hash_of(path), number, image.height, image.width, 32)
        shrunk.append(tower.transform.shrink(view))
        pixels = image.pixels(shrunk[-1])
        view = scaled(view, image, *pixels.shape[1:])
        shown.append(tower.transform.finish(view, cut(pixels, view.box)))
    assert max(shrunk) > 1
    rows = np.concatenate([cache.find_images([hash_of(path)], n) for n in range(3)])
    found = cache.take(rows)
    np.testing.assert_allclose(found, tower.features(torch.stack(shown)).numpy(), atol=5e-3)
    assert np.abs(found[0] - found[1]).max() > 0.1
    roles = [link["role"] for table in cache.links() for link in table.to_pylist()]
    assert {role: roles.count(role) for role in set(roles)} == {"image": 12, "view": 36}
    large = [drawn_view(views, hash_of(path), n, image.height, image.width, 224) for n in range(3)]
    small = [drawn_view(views, hash_of(path), n, image.height, image.width, 32) for n in range(3)]
    for one, other in zip(large, small, strict=True):
        assert one.box == other.box and one.flip == other.flip
        np.testing.assert_array_equal(one.colour, other.colour)
    assert len({view.box for view in large}) == 3
    with pytest.raises(ConfigError, match="no view 3: the cache has 3"):
        drawn_view(views, hash_of(path), 3, 10, 10, 32)


def test_cells_of_the_grid_are_those_of_the_tower(photos, model, tmp_path):
    run(photos, model, tmp_path / "f", grid=2, codec=part("cache/codecs", "float32"))
    cache, transform = FeatureCache.open(tmp_path / "f"), make().transform
    path = photos / "04.png"
    with torch.no_grad():
        pixels = transform.normalise(transform.evaluate(path)[None])
        own = make().side.tower.eval().grid(pixels, 2).numpy()
    cells = [f"{hash_of(path)}/g{row},{column}" for row in (0, 1) for column in (0, 1)]
    np.testing.assert_allclose(cache.take(cache.require(cells)), own, atol=1e-5)
    with pytest.raises(ConfigError, match="tiles"):
        run(photos, model, tmp_path / "g", grid=3)


def test_images_that_are_broken_are_counted_and_never_tried_again(photos, model, tmp_path):
    content = (photos / "05.jpg").read_bytes()
    (photos / "05.jpg").write_bytes(content[: len(content) // 2])
    (photos / "06.png").write_bytes(b"no image")
    report = run(photos, model, tmp_path / "f", views=1)
    why = {"images, truncated or damaged image": 1, "images, not an image": 1}
    assert report.left_out == why
    assert (report.embedded, report.links) == (18, 20)
    again = run(photos, None, tmp_path / "f")
    assert (again.left_out, again.embedded) == (why, 0)
    found = lift.audit(tmp_path / "f", data=[str(photos)])
    assert found.ok, found.faults
    assert (found.coverage.missing, found.coverage.broken, found.dangling) == (0, 4, 0)
    assert "18 of 22 distinct images, 4 can't be decoded" in found.table()
    with pytest.raises(DataError, match="can't be read as an image"):
        run(photos, model, tmp_path / "s", strict=True)


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from lift.config import part
from lift.features import Rows, embed_images

torch.set_num_threads(1)
photos, model, folder, kills, parts = sys.argv[1:4] + [int(word) for word in sys.argv[4:]]

def start(name):
    children = []
    for number in range(parts):
        children.append(os.fork())
        if children[-1] == 0:
            code = 1
            try:
                embed_images(
                    [photos], part("towers", "lift_model", model=model), Path(folder, name),
                    part=f"{number + 1}/{parts}", rows=Rows(views=1), rows_per_shard=5, workers=2,
                    device="cpu", progress=False,
                )
                code = 0
            finally:
                os._exit(code)
    return children

def end(children):
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

began = time.monotonic()
assert set(end(start("whole"))) == {0}
whole = time.monotonic() - began
dice, left = random.Random(parts), []
while len(left) < kills:
    children = start("killed")
    time.sleep(dice.uniform(0.2, 1) * whole)
    for child in children:
        os.kill(child, signal.SIGKILL)
    if -signal.SIGKILL in end(children):
        left.append(len(list(Path(folder, "killed").rglob("shard-*"))))
    else:  # done before the signal came
        os.rename(Path(folder, "killed"), Path(folder, f"finished-{time.monotonic()}"))
print(left)
assert set(end(start("killed"))) == {0}
"""


@pytest.mark.parametrize("parts", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_killed_and_resumed_is_bit_equal(photos, model, tmp_path, parts):
    content = (photos / "05.jpg").read_bytes()
    (photos / "05.jpg").write_bytes(content[: len(content) // 2])
    for number in range(20, 40):
        pictured(number).save(photos / f"{number}.png")
        (photos / f"{number}.txt").write_text("one more\n")
    (photos / "21.png").write_bytes(b"no image")
    words = [str(photos), model, str(tmp_path), "3", str(parts)]
    subprocess.run([sys.executable, "-c", KILLED, *words], check=True, timeout=200)
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    run(photos, model, tmp_path / "one", views=1)
    one, many = FeatureCache.open(tmp_path / "one"), FeatureCache.open(tmp_path / "killed")
    assert len(one) == len(many) == 58
    keys = np.concatenate(list(one.keys()))
    ours, theirs = (cache.take(cache.find_keys(keys)) for cache in (one, many))
    np.testing.assert_allclose(ours, theirs, atol=5e-3)


def test_another_tower_or_other_pixels_are_refused_with_both_fingerprints(photos, model, tmp_path):
    run(photos, model, tmp_path / "f")
    ours = FeatureCache.open(tmp_path / "f").space.fingerprint
    make(seed=1).save(tmp_path / "other")
    for words in (
        {"options": ("resolution=64", "canvas=none")},
        {"model": str(tmp_path / "other")},
    ):
        with pytest.raises(SpaceMismatch) as told:
            run(photos, words.pop("model", model), tmp_path / "f", **words)
        assert ours in str(told.value) and str(told.value).count("fingerprint") == 1
    with pytest.raises(CacheError, match="created with views 0, not 2; leave views out"):
        run(photos, model, tmp_path / "f", views=2)
    with pytest.raises(CacheError, match="created with augment"):
        run(photos, model, tmp_path / "f", options=STRONG)
    report = run(photos, model, tmp_path / "own", options=("resolution=24",))
    assert "resolution is 24, not 32 as of the tower's weights" in report.notes


def test_captions_and_images_do_not_mix(photos, model, tmp_path, encoder_words="hashing"):
    lift.embed([str(photos)], out=tmp_path / "t", encoder=encoder_words, progress=False)
    run(photos, model, tmp_path / "f")
    with pytest.raises(CacheError, match=r"holds image features \(vit\).* a cache of captions"):
        EmbeddingCache.open(tmp_path / "f")
    with pytest.raises(CacheError, match=r"holds the rows of captions \(hashing.*--images"):
        FeatureCache.open(tmp_path / "t")
    with pytest.raises(SpaceMismatch, match=r"image space.* text space"):
        lift.embed([str(photos)], out=tmp_path / "f", encoder=encoder_words, progress=False)
    with pytest.raises(SpaceMismatch, match=r"text space.* image space"):
        run(photos, model, tmp_path / "t")
    with pytest.raises(ConfigError, match="image features of the tower vit"):
        FeatureCache.open(tmp_path / "f").plan.build_encoder()
    for words in ({"tower": model}, {"views": 2}, {"options": ("resolution=8",)}):
        with pytest.raises(ConfigError, match="says nothing about captions; say --images"):
            console.embed(out="x", data=(str(photos),), images=console.OfImages(**words))
    with pytest.raises(ConfigError, match="derive says nothing about images"):
        of_images = console.OfImages(images=True, tower=model)
        console.embed(out="x", data=(str(photos),), images=of_images, derive=("phrase",))
    with pytest.raises(ConfigError, match="Say with --tower"):
        lift.embed_images([str(photos)], out=tmp_path / "x")
    with pytest.raises(DataError, match="say with --data"):
        lift.embed_images([], out=tmp_path / "x", tower=model)
    (tmp_path / "captions.txt").write_text("a dog\n")
    with pytest.raises(DataError, match="None of 1 images can be read; the first"):
        lift.embed_images([f"{tmp_path}/captions.txt"], out=tmp_path / "x", tower=model)


class Sick(torch.nn.Module):
    """A tower whose weights are as they were, and whose rows are not."""

    def __init__(self, inner: torch.nn.Module, factor: float) -> None:
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner(images * self.factor)


def test_a_tower_that_drifted_is_noticed_by_probes(photos, model, tmp_path):
    run(photos, model, tmp_path / "f")
    cache = FeatureCache.open(tmp_path / "f")
    assert cache.probes().texts[0] == "probe 0"
    tower = tower_of(cache, device="cpu")
    tower.module = Sick(tower.module, 1.3)
    pictures = Pictures([open_source(str(photos))])
    with pytest.raises(SpaceMismatch, match=r"does not make the rows any more .*probe"):
        writer.embed(pictures, TowerEncoder(tower), tmp_path / "f", progress=False)
    tower.module.factor = float("nan")
    with pytest.raises(NotFinite):
        writer.embed(
            pictures, TowerEncoder(tower, pictures.sources), tmp_path / "g", progress=False
        )
    assert len({probe_picture(number, 8).tobytes() for number in range(16)}) == 16


def test_audit_finds_damage_and_needs_no_tower_for_it(photos, model, tmp_path):
    run(photos, model, tmp_path / "f", codec=part("cache/codecs", "int8"))
    found = lift.audit(tmp_path / "f", data=[str(photos)])
    assert found.ok and found.resampled.sample == 11 and found.drift.probes == 16
    assert "11 of 11 distinct images" in found.table() and "truncated" not in found.table()
    pictured(77).save(photos / "new.png")
    (photos / "new.txt").write_text("new\n")
    assert lift.audit(tmp_path / "f", data=[str(photos)]).faults == ("1 image(s) missing",)
    shard = next((tmp_path / "f").glob("shard-*"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    moved = Path(model).rename(tmp_path / "moved")
    try:
        told = lift.audit(tmp_path / "f")
        assert "without their checksum" in told.faults[0] and "is no model of lift" in told.not_live
        assert lift.audit(tmp_path / "f", encoder=str(moved), data=[str(photos)]).drift.ok
    finally:
        moved.rename(model)


def test_codecs_say_what_they_change_and_refuse_what_they_can_not(photos, model, tmp_path):
    report = run(photos, model, tmp_path / "f", codec=part("cache/codecs", "int4"))
    assert 0.9 < report.fidelity.worst_cosine < 0.99999
    with pytest.raises(ConfigError, match="keeps the first values of a row"):
        run(photos, model, tmp_path / "p", codec=part("cache/codecs", "prefix", dimensions=8))


def test_features_that_were_computed_elsewhere(photos, tmp_path):
    names = [p.name for p in sorted(photos.iterdir()) if p.suffix in (".png", ".jpg")][:8]
    rows = np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32)
    np.save(tmp_path / "feats.npy", rows)
    (tmp_path / "keys.txt").write_text("".join(f"{name}\n" for name in names))
    words = {
        "tower": "stored:width=6,model=dinov2-l",
        "vectors": f"{tmp_path}/feats.npy,texts={tmp_path}/keys.txt",
        "progress": False,
        "codec": "float32",
    }
    report = lift.embed_images([str(photos)], out=tmp_path / "f", **words)
    # The copy has the content of an image that has a vector, though no vector of its own.
    assert (report.embedded, report.left_out["images without a vector"]) == (8, 3)
    cache = FeatureCache.open(tmp_path / "f")
    found = cache.take(cache.find_images([hash_of(photos / name) for name in names]))
    np.testing.assert_array_equal(found, rows)
    assert cache.space.name == "stored dinov2-l" and cache.space.transform == {}
    assert lift.audit(tmp_path / "f", data=[str(photos)]).coverage.missing == 3
    with pytest.raises(ConfigError, match="rows of 6 values, and the tower says width=7"):
        wrong = {**words, "tower": "stored:width=7"}
        lift.embed_images([str(photos)], out=tmp_path / "g", **wrong)
    with pytest.raises(ConfigError, match="need both --vectors"):
        lift.embed_images([str(photos)], out=tmp_path / "g", **{**words, "vectors": ""})
    with pytest.raises(ConfigError, match="Views and grids need a tower that runs"):
        lift.embed_images([str(photos)], out=tmp_path / "g", views=2, **words)
    with pytest.raises(ConfigError, match="no pixels to change; leave out resolution=8"):
        lift.embed_images([str(photos)], out=tmp_path / "g", options=["resolution=8"], **words)
    with pytest.raises(DataError, match="No key of the data"):
        (tmp_path / "keys.txt").write_text("".join(f"x{name}\n" for name in names))
        lift.embed_images([str(photos)], out=tmp_path / "g", **words)


def test_an_image_that_changes_while_it_is_embedded(photos, model, tmp_path):
    source = open_source(str(photos))
    pictures = Pictures([source])
    items = [item.text for item in pictures]
    pictured(98).save(photos / "00.png")
    encoder = TowerEncoder(open_tower(part("towers", "lift_model", model=model)), [source])
    with pytest.raises(DataError, match=r"sample '00.png' has changed"):
        encoder.encode(items[:1])
    with pytest.raises(MissingRows, match="Nobody said where the image"):
        encoder.encode([str(items[1])])
    assert [item.text for item in pictures] == items  # what was hashed is not read again


def test_a_vit_by_itself_has_its_own_resolution_and_a_new_fingerprint():
    torch.manual_seed(0)
    small = part("towers", "vit", width=16, depth=1, heads=2, patch=8, resolution=32)
    tower = open_tower(small, device="cpu")
    assert tower.transform == Transform(resolution=32)
    other = open_tower(small, {"mean": [0.5, 0.5, 0.5]}, device="cpu")
    assert tower.space.weights != other.space.weights
    assert other.transform.mean == (0.5, 0.5, 0.5)
    with pytest.raises(ConfigError, match="resolutoin"):
        open_tower(small, ["resolutoin=8"])
    stored = open_tower(part("towers", "stored", width=4))
    with pytest.raises(ConfigError, match="takes rows that were computed elsewhere"):
        stored.transform  # noqa: B018


def test_the_command(photos, model, tmp_path):
    words = [sys.executable, "-m", "lift"]
    options = ["--views", "2", "--set", "augment.flip=0.5", "--quiet"]
    where = ["--images", "--data", str(photos), "--tower", model, "--out", "f"]
    made = subprocess.run(
        [*words, "embed", *where, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert "images, views, patches  36" in made.stdout
    told = subprocess.run(
        [*words, "audit", "f", "--data", str(photos)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "33 of 33 distinct images" in told.stdout and "verdict         ok" in told.stdout


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(model, tmp_path):
    program = """
import resource, sys
from lift.config import part
from lift.features import embed_images
tower = part("towers", "lift_model", model=sys.argv[1])
for count in (300, 6_000):
    embed_images([f"scenes:count={count}"], tower, f"{sys.argv[2]}/{count}", progress=False,
                 device="cpu", workers=2, rows_per_shard=256)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    told = subprocess.run(
        [sys.executable, "-c", program, model, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    few, many = map(int, told.stdout.split())
    assert many - few < 60_000, told.stdout  # kB


def test_all_rows_of_an_image_lie_in_one_part(photos, model, tmp_path):
    for number in ("2/3", "1/3"):
        run(photos, model, tmp_path / "f", views=2, grid=2, part=number)
    with pytest.raises(CacheError, match="no manifest of part 3"):
        FeatureCache.open(tmp_path / "f")
    report = run(photos, model, tmp_path / "f")  # one process takes all parts
    assert (report.parts, report.numbers, report.rows) == (3, (0, 1, 2), 77)
    cache = FeatureCache.open(tmp_path / "f")
    sizes = [sum(shard.rows for shard in manifest.shards) for manifest in cache.manifests]
    assert len(cache) == sum(sizes) == 77 and all(size % 7 == 0 for size in sizes)
    assert cache.counters["links"] == 84


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"views": 0', '"views": 9', "was changed after it was written"),
        ('"dimensions": 16', '"dimensions": 17', "its space has the fingerprint"),
        ('"weights": "', '"wieghts": "', r"is damaged \(Unknown option .*wieghts.*weights"),
    ],
)
def test_a_plan_that_was_changed(photos, model, tmp_path, old, new, why):
    run(photos, model, tmp_path / "f")
    path = tmp_path / "f" / "plan.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(CacheError, match=why):
        FeatureCache.open(tmp_path / "f")


def test_a_plan_that_does_not_say_how_its_features_were_made(photos, model, tmp_path):
    run(photos, model, tmp_path / "f")
    manifest = FeatureCache.open(tmp_path / "f").manifest
    options = {**manifest.plan.encoder.options, "views": "many"}
    plan = dataclasses.replace(manifest.plan, encoder=Part("features", "tower", options))
    with pytest.raises(CacheError, match=r"does not say how its features were made \(views"):
        FeatureCache(tmp_path / "f", [dataclasses.replace(manifest, plan=plan)])


def test_a_cache_names_the_weights_of_its_tower_from_the_root(tmp_path, monkeypatch):
    """It is opened from anywhere, and its tower with it."""
    from lift.features import _absolute

    (tmp_path / "w.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    named = _absolute(part("towers", "timm", model="resnet10t", weights="w.safetensors"))
    assert named.options == {"model": "resnet10t", "weights": str(tmp_path / "w.safetensors")}
