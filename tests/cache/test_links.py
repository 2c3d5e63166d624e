"""What ties rows to images, the filter of negatives, and the probe sentences."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from lift.cache.audit import audit
from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed
from lift.config import part
from lift.errors import CacheError, ConfigError, NotFinite, SpaceMismatch
from lift.text.derive import derive
from lift.text.encoder import build_encoder, caption_key
from lift.text.encoders.hashing import Config, HashingEncoder
from lift.text.probes import PROBES
from lift.text.roles import Linked

ITEMS = [
    Linked("a red dog", "1.jpg", "raw", "web", 0.5, "en"),
    Linked("a red dog", "2.jpg", "raw", "web", 1.0, "en"),
    Linked("ein roter Hund", "1.jpg", "rewrite", "mt", 1.0, "de"),
    Linked("a red cat", "1.jpg", "negative", "rule", 1.0, "en", parent="a red dog"),
    Linked("a red dog ", "1.jpg", "raw", "web", 0.5, "en"),  # the first again
    Linked("nobody's text"),
]


def linked(cache: EmbeddingCache) -> list[dict]:
    return [row for table in cache.links() for row in table.to_pylist()]


def test_links_say_what_was_given(tmp_path, encoder):
    report = embed(ITEMS, encoder, tmp_path / "c", progress=False)
    assert (report.captions, report.distinct, report.links) == (6, 4, 4)
    cache = EmbeddingCache.open(tmp_path / "c")
    found = linked(cache)
    assert [row["image"] for row in found] == ["1.jpg", "2.jpg", "1.jpg", "1.jpg"]
    assert [row["role"] for row in found] == ["raw", "raw", "rewrite", "negative"]
    assert found[0]["caption"] == found[1]["caption"] == caption_key("a red dog")
    assert (found[0]["weight"], found[0]["source"], found[2]["language"]) == (0.5, "web", "de")
    assert found[0]["text"] is found[0]["parent"] is found[0]["cosine"] is None
    assert found[3]["text"] == "a red cat" and found[3]["parent"] == caption_key("a red dog")
    a, b = encoder.encode(["a red dog", "a red cat"]).rows
    assert found[3]["cosine"] == pytest.approx(float(a @ b), abs=2e-3)
    assert cache.counters["links"] == 4 and audit(tmp_path / "c", encoder=encoder).links == 4


def test_only_new_links_are_added(tmp_path, encoder):
    embed(ITEMS[:2], encoder, tmp_path / "c", progress=False)
    before = linked(EmbeddingCache.open(tmp_path / "c"))
    report = embed(ITEMS, encoder, tmp_path / "c", progress=False)
    assert report.links == 2
    assert linked(EmbeddingCache.open(tmp_path / "c"))[:2] == before
    assert embed(ITEMS, encoder, tmp_path / "c", progress=False).links == 0


def test_many_links_are_cut_into_files(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr("lift.cache.links.ROWS_PER_FILE", 3)
    items = [Linked(f"dog {i}", f"{i}.jpg") for i in range(8)]
    embed(items, encoder, tmp_path / "c", progress=False)
    cache = EmbeddingCache.open(tmp_path / "c", verify=True)
    assert [len(table) for table in cache.links()] == [3, 3, 2]
    path = tmp_path / "c" / "links-00001.arrow"
    path.write_bytes(path.read_bytes()[:-9] + b"123456789")
    with pytest.raises(CacheError, match=r"links-00001\.arrow"):
        list(cache.links())
    assert audit(tmp_path / "c").damaged == ("links-00001.arrow",)


def test_links_need_a_second_reading(tmp_path, encoder):
    with pytest.raises(ConfigError, match="can be read only once"):
        embed(iter(ITEMS), encoder, tmp_path / "c", progress=False)
    assert embed(ITEMS, encoder, tmp_path / "c", progress=False).stored == 4
    embed(iter(["a", "b"]), encoder, tmp_path / "d", progress=False)  # texts alone may be


def test_negatives_too_near_or_too_far_get_no_link(tmp_path):
    encoder = build_encoder(part("text/encoders", "hashing", dimensions=256))
    parent = "a red dog by the old stone wall"
    texts = {
        "kept": "a red cat by the old stone wall",
        "too near": "A red dog by the old stone wall",  # an uncased encoder can't tell them apart
        "too far": "completely other words",
    }
    items = [Linked(parent, "1.jpg")]
    items += [Linked(text, "1.jpg", "negative", parent=parent) for text in texts.values()]
    report = embed(items, encoder, tmp_path / "c", progress=False)
    assert report.left_out == {"negatives too near": 1, "negatives too far": 1}
    found = linked(EmbeddingCache.open(tmp_path / "c"))
    assert [row["text"] for row in found] == [None, texts["kept"]]


def test_derived_texts_are_stored_and_linked(tmp_path, encoder):
    captions = [Linked("A red dog runs to a small boat. The sea is calm today.", "1.jpg", "long")]
    items = list(derive(captions, ["sub-caption", "phrase", "negative"], 0))
    assert {item.role for item in items} == {"long", "sub-caption", "phrase", "negative"}
    embed(items, encoder, tmp_path / "c", progress=False)
    cache = EmbeddingCache.open(tmp_path / "c")
    assert (cache.find([item.text for item in items]) >= 0).all()
    roles = {row["role"] for row in linked(cache)}
    assert {"long", "sub-caption", "phrase"} <= roles


def test_probes_are_stored_with_every_cache(tmp_path, encoder):
    embed(["a"], encoder, tmp_path / "c", progress=False)
    stored = EmbeddingCache.open(tmp_path / "c").probes()
    assert stored.texts == PROBES and len(PROBES) == 32
    np.testing.assert_array_equal(stored.rows, encoder.encode(PROBES).rows)
    assert audit(tmp_path / "c", encoder=encoder).drift.max_difference == 0


class Drifted(HashingEncoder):
    """Claims the same space, but its rows have moved, as those of other weights would."""

    amount = 0.05

    def encode(self, texts, **options):
        found = super().encode(texts)
        noise = np.random.default_rng(0).standard_normal(found.rows.shape).astype(np.float32)
        rows = found.rows + self.amount * noise
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return dataclasses.replace(found, rows=rows)


def test_an_encoder_that_drifted_is_stopped_with_the_numbers(tmp_path, encoder, captions):
    embed(captions[:9], encoder, tmp_path / "c", progress=False)
    drifted = Drifted(Config(dimensions=24, max_tokens=6))
    with pytest.raises(SpaceMismatch, match=r"smallest cosine 0\.9\d+ .*0\.9999 needed"):
        embed(captions, drifted, tmp_path / "c", progress=False)
    report = audit(tmp_path / "c", encoder=drifted)
    assert not report.ok and "the encoder drifted from the stored probes" in report.faults
    assert "smallest cosine" in report.table()
    drifted.amount = 1e-6  # rounding is no drift
    assert embed(captions, drifted, tmp_path / "c", progress=False).embedded > 0


def test_probes_that_are_damaged_or_of_another_space(tmp_path, encoder, captions):
    embed(captions, encoder, tmp_path / "c", progress=False)
    other = build_encoder(part("text/encoders", "hashing", dimensions=24, seed=1))
    embed(captions, other, tmp_path / "d", progress=False)
    path = tmp_path / "c" / "probes.arrow"
    whole = path.read_bytes()
    path.write_bytes((tmp_path / "d" / "probes.arrow").read_bytes())
    with pytest.raises(CacheError, match=r"probes\.arrow is damaged \(it was made in another"):
        embed(captions, encoder, tmp_path / "c", progress=False)
    path.write_bytes(whole[:300])
    with pytest.raises(CacheError, match=r"probes\.arrow is damaged"):
        audit(tmp_path / "c", encoder=encoder)
    path.unlink()
    embed(captions, encoder, tmp_path / "c", progress=False)
    assert path.read_bytes() == whole


def test_probes_that_are_not_finite_stop_at_once(tmp_path, captions):
    class Broken(HashingEncoder):
        def encode(self, texts, **options):
            found = super().encode(texts)
            return dataclasses.replace(found, rows=found.rows * np.float32(np.nan))

    with pytest.raises(NotFinite, match="NaN or infinity for 'a dog'"):
        embed(captions, Broken(Config()), tmp_path / "c", progress=False)
    assert json.loads((tmp_path / "c" / "plan.json").read_text())["parts"] == 1


def test_a_width_that_changes_in_mid_run_is_one_sentence(tmp_path, captions):
    class Narrower(HashingEncoder):
        calls = 0

        def encode(self, texts, **options):
            self.calls += 1
            found = super().encode(texts)
            rows = found.rows[:, :10] if self.calls > 3 else found.rows
            return dataclasses.replace(found, rows=rows)

    with pytest.raises(ConfigError, match=r"returned 16 rows of 10 values .* promises 64"):
        embed(captions, Narrower(Config()), tmp_path / "c", rows_per_shard=16, progress=False)
    assert len(list((tmp_path / "c").glob("shard-*"))) == 2
    report = embed(captions, HashingEncoder(Config()), tmp_path / "c", progress=False)
    assert report.stored == 32
