"""Batches are a function of the step; what can't be read is named; nothing hangs."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
import time

import numpy as np
import pytest
import torch

import lift.data.rows as rows_module
from lift import plugins
from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed
from lift.config import part
from lift.data.augment import Augment
from lift.data.loader import Loader, LoaderConfig
from lift.data.rows import require_rows
from lift.data.source import Captions, open_source
from lift.data.transform import Transform
from lift.data.workers import answers
from lift.errors import ConfigError, DataError, MissingRows
from lift.text.encoder import build_encoder

AUGMENT = Augment(scale=(0.4, 1.0), flip=0.5, jitter=0.8, brightness=0.3, hue=0.1, erase=0.3)
CANVAS = Transform(resolution=16, canvas=24, augment=AUGMENT)
SCENES = "scenes:count=52,resolution=32,short=2,long=1"


@pytest.fixture
def make(stored):
    def loader(spec=SCENES, *, transform=CANVAS, cache=None, seed=3, **config):
        config = {"batch_size": 8, "workers": 0, **config}
        cache = stored(spec) if cache is None else cache
        return Loader(open_source(spec), cache, transform, LoaderConfig(**config), seed)

    return loader


def same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        for name in ("images", "texts", "owner", "row", "index"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert one.dropped == other.dropped


# --- the same batches ---------------------------------------------------------------------------


@pytest.mark.parametrize("captions", ["one", "all", "mix"])
def test_any_number_of_workers_and_any_start(make, captions):
    plain = make(captions=captions)
    expected = list(plain.batches(0, 15))
    assert plain.samples_per_epoch == 52 and len(expected) == 15
    cache = plain._batches._cache
    for workers in (1, 2):
        again = make(captions=captions, workers=workers, cache=cache)
        same(list(again.batches(0, 15)), expected)
    for start in (1, 5, 6, 14):
        same(list(make(captions=captions, cache=cache).batches(start, 15)), expected[start:])
    again = make(captions=captions, workers=2, cache=cache)
    same(list(again.batches(8, 11)), expected[8:11])
    same(list(plain.batches(4, 9)), expected[4:9])  # and with what it holds by now
    assert list(plain.batches(5, 5)) == []


def test_seed_decides_and_torchs_generator_does_not_move(make):
    state = torch.get_rng_state()
    first = next(iter(make(workers=1).batches(0, 1)))
    assert torch.equal(torch.get_rng_state(), state)
    other = next(iter(make(seed=4).batches(0, 1)))
    assert not torch.equal(first.index, other.index)


@pytest.mark.parametrize("workers", [0, 2])
def test_canvases_in_memory_change_nothing(make, workers):
    held, fresh = make(workers=workers), make(workers=workers, canvas_memory_mb=0)
    assert held._batches._canvases is not None and fresh._batches._canvases is None
    same(list(held.batches(0, 18)), list(fresh.batches(0, 18)))
    same(list(held.batches(12, 18)), list(fresh.batches(12, 18)))


def test_workers_share_the_canvases(make):
    loader = make(workers=2)
    list(loader.batches(0, 6))
    assert loader._batches._canvases._held.sum() >= 48


def test_without_a_canvas_side(make):
    loader = make(transform=Transform(resolution=16))
    assert loader._batches._canvases is None
    assert next(iter(loader.batches(0, 1))).images.shape == (8, 3, 16, 16)


# --- what is in them ----------------------------------------------------------------------------


def test_batches_hold_the_samples_they_name(make, stored):
    cache = stored(SCENES)
    loader = make(cache=cache, captions="all")
    source = open_source(SCENES)
    for batch in loader.batches(0, 6):
        assert batch.images.dtype == torch.uint8 and batch.images.shape == (8, 3, 16, 16)
        texts, owner = [], []
        for place, number in enumerate(batch.index.tolist()):
            captions = source.read(number).captions
            texts += [caption.text for caption in captions]
            owner += [place] * len(captions)
        assert batch.owner.tolist() == owner
        assert batch.row.tolist() == cache.find(texts).tolist()
        assert np.array_equal(batch.texts.numpy(), cache.take_stored(batch.row.numpy()))


@pytest.mark.parametrize("codec", plugins.names("cache/codecs"))
@pytest.mark.parametrize("captions", ["one", "all", "mix"])
def test_batches_carry_stored_rows_that_decode_to_the_caches(tmp_path, make, codec, captions):
    options = {"dimensions": 8, "force": True} if codec == "prefix" else {}
    texts = Captions([open_source(SCENES)])
    encoder = build_encoder(part("text/encoders", "hashing", dimensions=16))
    embed(texts, encoder, tmp_path, codec=part("cache/codecs", codec, **options), progress=False)
    cache = EmbeddingCache.open(tmp_path)
    loader = make(cache=cache, captions=captions, workers=1)
    for batch in loader.batches(0, 2):
        rows = loader.decode(batch.texts)
        assert rows.dtype == torch.float32 and rows.shape == (len(batch.row), 16)
        if captions == "mix":  # between rows, so there is nothing stored to carry
            assert rows is batch.texts
            continue
        assert batch.texts.dtype == torch.from_numpy(cache.take_stored([0])).dtype
        expected = cache.take(batch.row.numpy())
        np.testing.assert_allclose(rows.numpy(), expected, rtol=1e-6, atol=1e-7)


def test_an_epoch_shows_every_image_once(make):
    for epoch in range(2):
        loader = make(batch_size=13)
        batches = list(loader.batches(4 * epoch, 4 * epoch + 4))
        assert sorted(torch.cat([b.index for b in batches]).tolist()) == list(range(52))


def test_an_image_looks_different_every_epoch(make):
    views = {}
    for batch in make(batch_size=13).batches(0, 12):
        for number, image in zip(batch.index.tolist(), batch.images, strict=True):
            views.setdefault(number, set()).add(image.numpy().tobytes())
    assert np.mean([len(seen) for seen in views.values()]) > 2.9


def test_one_shows_every_caption_once_a_cycle(tmp_path, picture, make):
    (tmp_path / "x.png").write_bytes(picture())
    rows = [{"image": "x.png", "caption": [f"{n} {c}" for c in range(3)]} for n in range(8)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    loader = make(f"table:path={tmp_path}/t.jsonl", batch_size=4)
    for cycle in range(3):
        shown = {}
        for batch in loader.batches(6 * cycle, 6 * cycle + 6):
            assert batch.owner.tolist() == [0, 1, 2, 3]
            for number, row in zip(batch.index.tolist(), batch.row.tolist(), strict=True):
                shown.setdefault(number, []).append(row)
        assert all(len(set(seen)) == len(seen) == 3 for seen in shown.values())


def test_a_mixture_lies_between_an_images_captions(make):
    mixed, every = make(captions="mix"), make(captions="all")
    seen = []
    for batch, whole in zip(mixed.batches(0, 2), every.batches(0, 2), strict=True):
        assert torch.equal(batch.index, whole.index) and torch.equal(batch.images, whole.images)
        assert torch.equal(batch.owner, torch.arange(len(batch.images)))
        for image, text in enumerate(batch.texts.double()):
            own = whole.texts[whole.owner == image].double()
            own /= own.norm(dim=1, keepdim=True)
            weights = torch.linalg.lstsq(own.T, text[:, None]).solution[:, 0]
            assert torch.allclose(weights @ own, text, atol=1e-5)
            assert weights.min() > -1e-4 and abs(float(weights.sum()) - 1) < 1e-4
            seen.append(weights.max().item())
    assert 0.34 < np.mean(seen) < 0.99  # neither the plain mean nor one caption alone
    later = next(iter(mixed.batches(7, 8)))
    assert not set(later.texts[:, 0].tolist()) & set(batch.texts[:, 0].tolist())


def test_roles_choose_captions(make, stored):
    cache = stored(SCENES)
    source = open_source(SCENES)
    batch = next(iter(make(cache=cache, roles=("long",), captions="all").batches(0, 1)))
    long = [
        caption.text
        for number in batch.index.tolist()
        for caption in source.read(number).captions
        if caption.role == "long"
    ]
    assert batch.row.tolist() == cache.find(long).tolist()
    with pytest.raises(
        DataError, match=r"No sample of scenes .* no caption of the roles title; its"
    ):
        make(cache=cache, roles=("title",))


# --- what is wrong ------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path, picture):
    """Return a table of 12 images, two of them broken: one is no image, one is not there."""
    folder = tmp_path / "shop"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number}.png").write_bytes(picture(number))
    (folder / "3.png").write_bytes(b"no image")
    (folder / "7.png").unlink()
    rows = [{"image": f"{n}.png", "caption": f"thing {n}", "sku": f"sku-{n}"} for n in range(12)]
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return f"table:{folder}/t.jsonl,key=sku"


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_left_out_and_named(make, shop, workers):
    for epoch in range(2):  # and every epoch anew, whatever is held by now
        loader = make(shop, batch_size=4, workers=workers)
        batches = list(loader.batches(3 * epoch, 3 * epoch + 3))
        index = sorted(torch.cat([b.index for b in batches]).tolist())
        assert index == [n for n in range(12) if n not in (3, 7)]
        dropped = [lost.reason for batch in batches for lost in batch.dropped]
        assert len(dropped) == 2
        assert any("sku-3" in d and "none of JPEG" in d for d in dropped)
        assert any("Sample sku-7" in d and "7.png can't be read" in d for d in dropped)
        for batch in batches:
            assert len(batch.images) == len(batch.index) == len(batch.row) == len(batch.texts)
            assert batch.owner.tolist() == list(range(len(batch.images)))
            assert len(batch.images) + len(batch.dropped) == 4
            for number, row in zip(batch.index.tolist(), batch.row.tolist(), strict=True):
                assert loader._batches._cache.find([f"thing {number}"])[0] == row


@pytest.mark.parametrize("workers", [0, 1])
def test_stop_ends_at_the_first_unreadable_image(make, shop, workers):
    loader = make(shop, batch_size=4, workers=workers, on_unreadable="stop")
    with pytest.raises(DataError, match=r"(?i)^sample '?sku-[37]") as caught:
        list(loader.batches(0, 3))
    assert "\n" not in str(caught.value)


def test_a_batch_without_any_image(make, tmp_path):
    rows = [{"image": f"{n}.png", "caption": f"thing {n}"} for n in range(4)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for workers in (0, 1):
        loader = make(f"{tmp_path}/t.jsonl", batch_size=4, workers=workers)
        with pytest.raises(DataError, match="No sample of a batch of 4 can be used; the last: Sam"):
            list(loader.batches(0, 1))


def test_captions_without_a_row(make, stored):
    cache = stored("scenes:count=30,resolution=32,short=2,long=1")
    with pytest.raises(
        MissingRows, match=r"^\d+ of 1\d\d captions of scenes .* the first is '"
    ) as e:
        make(cache=cache)
    source = open_source(SCENES)
    texts = [c.text for _, captions in source.texts() for c in captions]
    missing = [text for text, row in zip(texts, cache.find(texts), strict=True) if row < 0]
    assert str(e.value).startswith(f"{len(missing)} of {len(texts)} captions")
    assert repr(missing[0]) in str(e.value)
    require_rows(open_source("scenes:count=30,resolution=32,short=2,long=1"), cache)


def test_rows_are_looked_up_a_few_at_a_time(stored, monkeypatch):
    cache, asked = stored(SCENES), []
    find = cache.find
    monkeypatch.setattr(rows_module, "_LOOKED_UP_TOGETHER", 10)
    monkeypatch.setattr(cache, "find", lambda texts: asked.append(len(texts)) or find(texts))
    require_rows(open_source(SCENES), cache)
    assert max(asked) <= 13 and sum(asked) > 100


@pytest.mark.parametrize("workers", [0, 1])
def test_captions_that_change_under_the_run(make, tmp_path, picture, workers, write_tar):
    members = [
        (f"{n}.{k}", picture(n) if k == "png" else b"one") for n in range(4) for k in ("png", "txt")
    ]
    path = write_tar(tmp_path / "s.tar", members)
    loader = make(str(path), batch_size=4, workers=workers)
    changed = path.read_bytes().replace(b"one\0", b"two\0")
    path.write_bytes(changed)
    with pytest.raises(MissingRows, match=r"^Sample '.' has changed: 'two' has no row.$"):
        list(loader.batches(0, 1))


def test_fewer_samples_than_a_batch(make):
    with pytest.raises(
        DataError, match=r"holds 52 samples with .*fewer than one batch of 53; lower"
    ):
        make(batch_size=53)
    assert len(next(iter(make(batch_size=52).batches(0, 1))).images) == 52


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": -1}, {"canvas_memory_mb": -1}])
def test_options_are_checked(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"loader.{name} must be at least"):
        LoaderConfig(**{"batch_size": 4, **wrong})


# --- workers that die ---------------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [True, False])
def test_a_killed_worker_ends_in_a_sentence(make, waiting):
    """Also while the training process is busy with something else than waiting for a batch."""
    before = {child.pid for child in multiprocessing.active_children()}
    stream = iter(make(workers=2, canvas_memory_mb=0).batches(0, 10_000))
    next(stream)
    ours = [c.pid for c in multiprocessing.active_children() if c.pid not in before]
    assert len(ours) == 2
    os.kill(ours[0], signal.SIGKILL)
    if not waiting:
        busy_until = time.monotonic() + 0.5
        while time.monotonic() < busy_until:
            sum(range(1000))
    started = time.monotonic()
    with pytest.raises(DataError, match=r"A data worker died .*Lower loader\.workers"):
        for _ in range(10_000):
            next(stream)
    assert time.monotonic() - started < 20


class _Failing(torch.utils.data.Dataset):
    def __getitem__(self, request):
        raise RuntimeError("a fault of our own")


@pytest.mark.parametrize("kind", [ConnectionResetError, EOFError, FileNotFoundError])
def test_a_line_that_breaks_in_mid_handover_is_a_death(kind, monkeypatch):
    """Killed while it hands a batch over, a worker leaves a broken connection behind."""
    requests = torch.utils.data.SequentialSampler(range(3))
    stream = answers(_Failing(), requests, 1)

    def broken(self):
        raise kind

    monkeypatch.setattr(torch.utils.data.dataloader._BaseDataLoaderIter, "__next__", broken)
    with pytest.raises(DataError, match=r"A data worker died .*Lower loader\.workers"):
        next(stream)
    with pytest.raises(kind):
        next(answers(_Failing(), requests, 0))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_inside_a_worker_is_not_its_death(workers):
    stream = answers(_Failing(), torch.utils.data.SequentialSampler(range(3)), workers)
    with pytest.raises(RuntimeError, match="a fault of our own"):
        next(stream)
    stream.close()


def test_a_temporary_folder_with_too_long_a_name_is_told(monkeypatch):
    """Workers hand batches over through sockets in it; they would lose each in silence."""
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "long" * 20)
    requests = torch.utils.data.SequentialSampler(range(3))
    with pytest.raises(ConfigError, match=r"a name of 85 bytes, .*TMPDIR"):
        next(answers(_Failing(), requests, 1))
    with pytest.raises(RuntimeError, match="a fault of our own"):
        next(answers(_Failing(), requests, 0))


def test_workers_go_when_the_consumer_does(make):
    before = {child.pid for child in multiprocessing.active_children()}
    stream = make(workers=2).batches(0, 1000)
    next(stream)
    stream.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        left = [c for c in multiprocessing.active_children() if c.pid not in before]
        if not left:
            return
        time.sleep(0.05)
    pytest.fail(f"{left} are left")


def test_waiting_is_measured(make):
    loader = make()
    started = time.perf_counter()
    for _ in loader.batches(0, 4):
        time.sleep(0.02)
    whole = time.perf_counter() - started
    assert 0 < loader.wait_s < whole - 0.06


# --- equal captions -----------------------------------------------------------------------------


def write_captions(folder, picture, texts):
    (folder / "x.png").write_bytes(picture())
    rows = [{"image": "x.png", "caption": text} for text in texts]
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return f"table:path={folder}/t.jsonl"


def test_share_of_captions_with_a_twin(make, tmp_path, picture):
    twins = write_captions(tmp_path, picture, ["a", "a", "b", "c", "c", "c", "d", "e"])
    assert make(twins, batch_size=8).equal_caption_share() == 5 / 8
    assert make(SCENES, captions="all").equal_caption_share() < 0.2
    none = write_captions(tmp_path, picture, list("abcdefgh"))
    assert make(none, batch_size=4).equal_caption_share() == 0


def test_share_over_images_that_can_not_be_read(make, shop, tmp_path):
    assert make(shop, batch_size=12).equal_caption_share() == 0
    (tmp_path / "t.jsonl").write_text(json.dumps({"image": "gone.png", "caption": "a"}))
    assert make(str(tmp_path / "t.jsonl"), batch_size=1).equal_caption_share() == 0


# --- sources that hold little at a time ---------------------------------------------------------


def test_the_sources_window_is_kept(tmp_path):
    """Else a parquet file with large images would be loaded again for every row."""
    lines = [json.dumps({"image": "x.png", "caption": "a"})] * 50
    for name in "abcdef":
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    source = open_source(f"table:path={tmp_path}/*.jsonl")
    source.window_samples = 50

    class Everything:
        def find(self, texts):
            return np.zeros(len(texts), np.int64)

        def take(self, rows):
            return np.zeros((len(rows), 4), np.float32)

        def take_stored(self, rows):
            return self.take(rows)

        def decode(self, stored):
            return stored

    loader = Loader(source, Everything(), CANVAS, LoaderConfig(batch_size=10), seed=0)
    groups = [set((request.numbers // 50).tolist()) for request in loader.requests(0, 30)]
    assert all(len(group) == 1 for group in groups)
    source.window_samples = 300
    loader = Loader(source, Everything(), CANVAS, LoaderConfig(batch_size=10), seed=0)
    assert len(set((next(loader.requests(0, 1)).numbers // 50).tolist())) > 2
