"""The audit: a sound cache passes, and each kind of damage fails by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from lift.cache import shard as shards
from lift.cache.audit import audit
from lift.cache.manifest import read_manifest, write_manifest
from lift.cache.place import place_of
from lift.cache.writer import embed
from lift.config import part
from lift.errors import CacheError, SpaceMismatch
from lift.text.encoder import build_encoder
from lift.text.encoders.hashing import Config, HashingEncoder
from lift.text.probes import PROBES


def rewrite(folder, **columns):
    """Replace columns of the first shard and make the manifest agree with it."""
    manifest = read_manifest(place_of(folder))
    plan = manifest.plan
    codec, path = plan.build_codec(), folder / "shard-00000.arrow"
    view = shards.open_shard(path, plan.schema(), codec)
    arrays = {
        "key": pa.array(view.keys.view("V16").tolist(), pa.binary(16)),
        "row": codec.encode(np.array(codec.decode(view.stored))),
        "tokens": pa.array(view.tokens),
        "truncated": pa.array(view.truncated),
    }
    arrays.update({name: change(view, codec) for name, change in columns.items()})
    shards.write_shard(
        place_of(folder), path.name, plan.schema(), arrays, view.fidelity, view.versions
    )
    record = dataclasses.replace(
        manifest.shards[0], bytes=path.stat().st_size, sha256=shards.file_hash(path)
    )
    changed = (record, *manifest.shards[1:])
    write_manifest(place_of(folder), dataclasses.replace(manifest, shards=changed))


def rows_changed(change):
    def column(view, codec):
        rows = np.array(codec.decode(view.stored))
        change(rows)
        return codec.encode(rows)

    return column


@pytest.fixture(params=["float16", "float32"])
def folder(request, tmp_path, encoder, captions):
    embed(captions, encoder, tmp_path / "c", codec=request.param, rows_per_shard=40)
    return tmp_path / "c"


def test_a_sound_cache_is_ok(folder, encoder, captions):
    report = audit(folder, captions=captions, encoder=encoder, sample=50)
    assert report.ok and report.faults == ()
    assert (report.rows, report.shards, report.truncated) == (60, 2, 15)
    assert report.norm_min == pytest.approx(1, abs=1e-3)
    assert report.norm_min <= report.norm_mean <= report.norm_max
    assert report.coverage.distinct == 60 and report.coverage.captions == 90
    assert report.resampled.sample == 50
    assert report.resampled.min_cosine > 0.999999
    if "float32" in str(read_manifest(place_of(folder)).plan.codec):
        assert report.resampled.max_difference == 0
    else:
        assert 0 < report.resampled.max_difference < 2**-12
    assert report.table().endswith("verdict         ok")


def test_without_captions_only_the_files_are_judged(folder, encoder):
    report = audit(folder, encoder=encoder)
    assert report.ok and report.coverage is None and report.resampled is None


def test_missing_captions(folder, captions):
    report = audit(folder, captions=[*captions, "not there", "nor this", "not there"])
    assert not report.ok
    assert report.coverage.missing == 2 and report.coverage.first_missing == "not there"
    assert "first missing 'not there'" in report.table()
    assert report.faults == ("2 caption(s) missing",)


def test_sample_depends_on_seed_not_on_order(folder, captions):
    asked, options = [], Config(dimensions=24, max_tokens=6)

    class Watched(HashingEncoder):
        def encode(self, texts, **options):
            if tuple(texts) != PROBES:
                asked.append(tuple(texts))
            return super().encode(texts)

    for order, seed in ((captions, 0), (captions[::-1], 0), (captions, 1)):
        audit(folder, captions=order, encoder=Watched(options), sample=8, seed=seed)
    assert asked[0] == asked[1] != asked[2]
    assert len(set(asked[0])) == 8


def test_flipped_bit(folder):
    path = folder / "shard-00001.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    report = audit(folder)
    assert report.damaged == ("shard-00001.arrow",) and not report.ok
    assert "WRONG: shard-00001.arrow" in report.table()


def test_not_finite(folder):
    def column(view, codec):
        rows = view.stored.copy()
        rows[3, 0], rows[4, 1] = np.nan, np.inf
        return shards_lists(rows)

    rewrite(folder, row=column)
    report = audit(folder)
    assert report.not_finite == 2 and "2 row(s) not finite" in report.faults


def shards_lists(rows):
    from lift.cache.codec import as_lists

    return as_lists(rows)


def test_not_unit(folder):
    rewrite(folder, row=rows_changed(lambda rows: rows.__imul__(1.01)))
    assert audit(folder).not_unit == 40


def test_duplicates(folder, encoder, captions):
    def change(rows):
        rows[5] = rows[6]

    rewrite(folder, row=rows_changed(change))
    report = audit(folder)
    assert report.duplicate_rows == 1 and report.ok  # rows may be equal, keys may not
    assert not audit(folder, captions=captions, encoder=encoder).ok

    def keys(view, codec):
        values = view.keys.view("V16").tolist()
        return pa.array([values[1], *values[1:]], pa.binary(16))

    rewrite(folder, key=keys)
    assert audit(folder).duplicate_keys == 1


def test_counters_that_lie(folder):
    rewrite(folder, truncated=lambda view, codec: pa.array(~view.truncated))
    assert audit(folder).counters_differ == ("truncated",)


def test_rows_a_little_off_are_found(folder, encoder, captions):
    def change(rows):
        rows[:, 0] += 1e-3

    rewrite(folder, row=rows_changed(change))
    report = audit(folder, captions=captions, encoder=encoder)
    assert report.resampled.beyond == 40 and not report.ok


def test_captions_of_another_set_prove_nothing(folder, encoder):
    report = audit(folder, captions=["quite other"], encoder=encoder)
    assert report.resampled.sample == 0 and not report.ok


def test_wrong_encoder_and_no_cache(folder, captions, tmp_path):
    other = build_encoder(part("text/encoders", "hashing", dimensions=25))
    with pytest.raises(SpaceMismatch):
        audit(folder, captions=captions, encoder=other)
    with pytest.raises(CacheError):
        audit(tmp_path / "nowhere")
