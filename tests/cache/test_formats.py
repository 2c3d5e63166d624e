"""Caches of every format version that was ever written stay readable.

Each was written once, by this, and is never written again:

    encoder = build_encoder(part("text/encoders", "hashing", dimensions=16, max_tokens=8))
    embed(CAPTIONS, encoder, "tests/fixtures/cache-v1", rows_per_shard=3)
    for number in range(2):
        embed(LINKED, encoder, "tests/fixtures/cache-v2", part=(number, 2), codec="int8",
              rows_per_shard=3)
    for number in ("1/2", "2/2"):  # the tower is that of tests/test_bundle.py's make()
        embed_images(["scenes:count=3,seed=1"], part("towers", "lift_model", model=FOLDER),
                     "tests/fixtures/features-v2", rows=Rows(views=1, seed=3), part=number,
                     options=["augment.flip=0.5"], codec=part("cache/codecs", "int8"))
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from lift.cache.audit import audit
from lift.cache.features import FeatureCache
from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed
from lift.data.augment import View
from lift.data.stored_views import StoredViews, drawn_view
from lift.text.probes import PROBES
from lift.text.roles import Linked

V1 = Path(__file__).parents[1] / "fixtures" / "cache-v1"
V2 = V1.with_name("cache-v2")
IMAGES_V2 = V1.with_name("features-v2")
CAPTIONS = [
    "a red dog on the beach",
    "two people",
    "Café noir 犬",
    "nine words are one more than this encoder reads",
    "Two people.",
]

LINKED = [
    *(Linked(text, f"{i}.jpg", "raw", "fixture", 0.5, "en") for i, text in enumerate(CAPTIONS)),
    Linked("a red cat on the beach", "0.jpg", "negative", parent="a red dog on the beach"),
    Linked("the beach", "0.jpg", "phrase", parent="a red dog on the beach"),
]


def test_version_1_is_read():
    cache = EmbeddingCache.open(V1, verify=True)
    assert cache.manifest.version == 1 and len(cache) == 5
    assert cache.manifest.versions == ()  # recorded since, in the same version
    assert cache.find([*CAPTIONS, "new"]).tolist() == [0, 1, 2, 3, 4, -1]
    encoder = cache.manifest.plan.build_encoder("cpu")
    assert encoder.space == cache.space
    expected = encoder.encode(CAPTIONS).rows.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(cache.take(range(5)), expected)
    assert cache.view(1).truncated.tolist() == [True, False]
    assert cache.view(1).tokens.tolist() == [9, 3]
    assert audit(V1, captions=CAPTIONS, encoder=encoder).ok


def test_version_1_grows(tmp_path):
    folder = tmp_path / "c"
    shutil.copytree(V1, folder)
    encoder = EmbeddingCache.open(folder).manifest.plan.build_encoder("cpu")
    report = embed([*CAPTIONS, "one more"], encoder, folder)
    assert (report.stored, report.embedded) == (5, 1)
    assert EmbeddingCache.open(folder, verify=True).find(["one more"]).tolist() == [5]


def test_version_2_is_read():
    cache = EmbeddingCache.open(V2, verify=True)
    assert [m.version for m in cache.manifests] == [2, 2] and len(cache) == 7
    texts = [item.text for item in LINKED]
    encoder = cache.plan.build_encoder("cpu")
    rows = cache.take(cache.require(texts))
    np.testing.assert_allclose(rows, encoder.encode(texts).rows, rtol=0, atol=4e-3)
    links = [row for table in cache.links() for row in table.to_pylist()]
    assert sorted(row["image"] for row in links) == [
        *(["0.jpg"] * 3),
        *(f"{i}.jpg" for i in range(1, 5)),
    ]
    assert {row["role"] for row in links} == {"raw", "negative", "phrase"}
    assert sum(row["cosine"] is not None for row in links) == 2
    assert cache.probes().texts == PROBES
    found = audit(V2, captions=CAPTIONS, encoder=encoder)
    assert found.ok and found.fidelity.rows == 7 and found.drift.ok


def test_version_2_grows(tmp_path):
    shutil.copytree(V2, tmp_path / "c")
    encoder = EmbeddingCache.open(V2).plan.build_encoder("cpu")
    for number in range(2):
        embed(["one more"], encoder, tmp_path / "c", part=(number, 2), progress=False)
    assert len(EmbeddingCache.open(tmp_path / "c", verify=True)) == 8


def test_image_features_of_version_2_are_read():
    cache = FeatureCache.open(IMAGES_V2, verify=True)
    assert [m.version for m in cache.manifests] == [2, 2] and len(cache) == 6
    fingerprint = "8f337d1ebe5140c2635946d89b7d7515cb7c6af82633185f3a7f32e12b2e9cf3"
    assert cache.space.fingerprint == fingerprint
    assert (cache.tower.name, cache.views, cache.grid, cache.seed) == ("lift_model", 1, 0, 3)
    first = "8dddde578f2cc8e0b398d71523f51ab6"
    images = [first, "fb76a986ccd7eb7a03440c875d39c415", "0" * 32]
    assert (cache.find_images(images) >= 0).tolist() == [True, True, False]
    assert (cache.find_images(images, 0) >= 0).tolist() == [True, True, False]
    assert cache.find_images(images, 1).tolist() == [-1, -1, -1]
    row = cache.take(cache.find_images([first]))[0, :3]
    np.testing.assert_allclose(row, [1.6792482, -0.940379, -0.7657372], atol=1e-6)
    links = [link for table in cache.links() for link in table.to_pylist()]
    assert sorted((link["image"], link["role"]) for link in links) == [
        (f"scene-1-000000{number}", role) for number in range(3) for role in ("image", "view")
    ]
    probes = cache.probes()
    assert probes is not None and probes.texts[-1] == "probe 15"
    assert audit(IMAGES_V2).ok


def test_views_of_stored_features_stay_where_they_are():
    views = StoredViews.of(FeatureCache.open(IMAGES_V2))
    drawn = drawn_view(views, "8dddde578f2cc8e0b398d71523f51ab6", 0, 375, 500, 224)
    assert drawn == View((4, 17, 362, 482))
