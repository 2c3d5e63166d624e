"""Caches of every format version that was ever written stay readable.

`tests/fixtures/cache-v1` was written once by this, and is never written again:

    embed(CAPTIONS, build_encoder(part("text/encoders", "hashing", dimensions=16, max_tokens=8)),
          "tests/fixtures/cache-v1", rows_per_shard=3)
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from lift.cache.audit import audit
from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed

V1 = Path(__file__).parents[1] / "fixtures" / "cache-v1"
CAPTIONS = [
    "a red dog on the beach",
    "two people",
    "Café noir 犬",
    "nine words are one more than this encoder reads",
    "Two people.",
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
