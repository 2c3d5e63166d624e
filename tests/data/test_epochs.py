"""Every sample once an epoch: for any number of workers and ranks, stopped and resumed anywhere."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import lift.data.workers as workers_module
from lift.data.augment import Augment
from lift.data.crops import Crops
from lift.data.likeness import file_hash
from lift.data.loader import Loader, LoaderConfig
from lift.data.source import open_source
from lift.data.transform import Transform
from lift.data.workers import answers
from lift.errors import BrokenSample, ConfigError, DataError
from lift.terms import Batch
from lift.world import Worker

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

AUGMENT = Augment(scale=(0.4, 1.0), flip=0.5, jitter=0.8, brightness=0.3, contrast=0.3, erase=0.3)
LOOK = Transform(resolution=8, augment=AUGMENT)
SAMPLES, BATCH = 53, 8


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, picture, write_tar) -> str:
    """Return 53 samples in three shards of unequal size, with captions of several roles."""
    folder = tmp_path_factory.mktemp("pairs")
    for shard, numbers in enumerate([range(0, 20), range(20, 27), range(27, SAMPLES)]):
        members = []
        for number in numbers:
            roles = {"raw": [f"raw {number}"], "rewrite": [f"rewrite {number} {n}" for n in "ab"]}
            members += [
                (f"{number:03d}.png", picture(number, 20, 16)),
                (f"{number:03d}.json", json.dumps(roles).encode()),
            ]
        write_tar(folder / f"s-{shard}.tar", members)
    return f"webdataset:path={folder}/s-*.tar,caption_field=raw+rewrite"


@pytest.fixture(scope="module")
def cache(pairs, tmp_path_factory):
    from lift.cache.reader import EmbeddingCache
    from lift.cache.writer import embed
    from lift.config import part
    from lift.data.source import Captions
    from lift.text.encoder import build_encoder

    encoder = build_encoder(part("text/encoders", "hashing", dimensions=16))
    folder = tmp_path_factory.mktemp("rows") / "cache"
    embed(Captions([open_source(pairs)]), encoder, folder, progress=False)
    return EmbeddingCache.open(folder)


@pytest.fixture
def make(pairs, cache):
    def loader(spec=pairs, *, rank=0, ranks=1, look=LOOK, **config):
        config = LoaderConfig(**{"batch_size": BATCH, **config})
        worker = Worker(rank, ranks)
        return Loader(open_source(spec), cache, look, config, 3, worker)

    return loader


def facts(batch: Batch) -> list[tuple]:
    """Return what each image of a batch is, to compare batches of other shares."""
    return [
        (number, image.numpy().tobytes(), batch.row[batch.owner == place].tolist())
        for place, (number, image) in enumerate(
            zip(batch.index.tolist(), batch.images, strict=True)
        )
    ]


def steps(make, start, stop, ranks=1, **config) -> list[list[tuple]]:
    """Return the facts of each step, the shares of all ranks one after the other."""
    streams = [make(rank=rank, ranks=ranks, **config).batches(start, stop) for rank in range(ranks)]
    return [
        [fact for share in shares for fact in facts(share)] for shares in zip(*streams, strict=True)
    ]


WHOLE = 20
"""Steps: 3.02 epochs."""


@pytest.fixture(scope="module")
def expected(request, pairs, cache):
    def loader(**more):
        config = LoaderConfig(batch_size=BATCH, captions="any:1.5")
        return Loader(open_source(pairs), cache, LOOK, config, 3)

    return steps(lambda **_: loader(), 0, WHOLE)


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_batches_are_those_of_one_process(make, expected, workers, ranks):
    got = steps(make, 0, WHOLE, ranks, workers=workers, captions="any:1.5")
    assert got == expected


def test_each_sample_once_an_epoch(expected):
    numbers = [fact[0] for step in expected for fact in step]
    for epoch in range(3):
        assert sorted(numbers[epoch * SAMPLES : (epoch + 1) * SAMPLES]) == list(range(SAMPLES))
    assert all(len(step) == BATCH for step in expected)


@pytest.mark.parametrize("seed", range(4))
def test_stopped_anywhere_and_resumed_with_other_numbers(make, expected, seed):
    rng = np.random.default_rng(seed)
    done, seen = 0, []
    while done < WHOLE:
        stop = int(rng.integers(done + 1, WHOLE + 1))
        ranks, workers = int(rng.integers(1, 4)), int(rng.choice([0, 1, 2, 4]))
        seen += steps(make, done, stop, ranks, workers=workers, captions="any:1.5")
        done = stop
    assert seen == expected
    assert Counter(fact[0] for step in seen for fact in step[:None])[0] >= 3


def test_more_ranks_than_images_are_refused(make):
    with pytest.raises(ConfigError, match="leaves some of 9 processes without an image"):
        make(ranks=9)


# --- several sources ----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_sources_are_told_apart(make, pairs, tmp_path, picture, write_tar, workers):
    other = write_tar(
        tmp_path / "t.tar",
        [
            (f"{n}.{k}", c)
            for n in range(9)
            for k, c in (("png", picture(n)), ("txt", f"raw {n}".encode()))
        ],
    )
    loader = make(f"{pairs}@1::{other}@1", workers=workers)
    assert [source.name for source in loader.sources] == [
        open_source(pairs).name,
        f"{tmp_path.name}/t.tar",
    ]
    counts = Counter()
    for batch in loader.batches(0, 50):
        assert torch.equal(batch.source, (batch.index >= SAMPLES).long())
        counts.update(batch.source.tolist())
    assert counts[0] == pytest.approx(200, abs=40)


# --- policies, weights --------------------------------------------------------------------------


def test_a_policy_gives_several_positives(make, cache, pairs):
    source = open_source(pairs)
    for batch in make(captions="raw:0.5 rewrite:1.5").batches(0, 6):
        assert batch.weight is None and len(batch.owner) == 2 * BATCH
        for place, number in enumerate(batch.index.tolist()):
            shown = set(batch.row[batch.owner == place].tolist())
            own = cache.find([caption.text for caption in source.read(number).captions])
            assert len(shown) == 2 and shown <= set(own.tolist())


class _Graded:
    """A source whose captions have weights: by their text, so that each can be told."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def __len__(self):
        return len(self._inner)

    def read(self, index):
        sample = self._inner.read(index)
        graded = tuple(c._replace(weight=grade(c.text)) for c in sample.captions)
        return dataclasses.replace(sample, captions=graded)


def grade(text):
    kind, number, *turn = text.split()
    return float(np.float32((1 if kind == "raw" else 2 + (turn == ["b"])) + int(number) / 64))


@pytest.mark.parametrize("captions", ["all", "any:1.5", "rewrite:0.5 raw:1", "one", "mix"])
def test_each_caption_has_its_own_weight(pairs, cache, captions):
    source = _Graded(open_source(pairs))
    own = {
        int(cache.find([caption.text])[0]): grade(caption.text)
        for _, told in source.texts()
        for caption in told
    }
    config = LoaderConfig(batch_size=BATCH, captions=captions)
    for batch in Loader(source, cache, LOOK, config, 3).batches(0, 6):
        if captions in ("one", "mix"):  # one stands for all: there, weights are chances
            assert batch.weight is None
        else:
            assert batch.weight.tolist() == [own[row] for row in batch.row.tolist()]


def test_samples_without_a_role_are_left_out(make, pairs, cache):
    loader = make(captions="raw:1")
    assert loader.pairs.usable == SAMPLES and not loader.pairs.unusable.counts
    with pytest.raises(DataError, match="no caption of the roles title"):
        make(captions="title:1")


# --- crops for the device, hashes ---------------------------------------------------------------


@pytest.mark.parametrize("canvas", [None, 12])
@pytest.mark.parametrize("workers", [0, 2])
def test_resizing_on_the_device_gives_the_same_images(make, workers, canvas):
    look = Transform(resolution=8, canvas=canvas, augment=AUGMENT)
    plain = make(look=look)
    device = make(look=look, workers=workers, resize="device")
    for ours, theirs in zip(device.batches(0, 9), plain.batches(0, 9), strict=True):
        assert isinstance(ours.images, Crops) and torch.equal(ours.index, theirs.index)
        images = device.images(ours).int()
        assert (images - theirs.images.int()).abs().max() <= 1  # colours: a half goes either way
        assert (images != theirs.images).float().mean() < 0.01


@pytest.mark.parametrize("canvas", [None, 12])
def test_images_are_hashed_when_they_are_first_shown(make, pairs, canvas):
    known = np.zeros((SAMPLES, 2), np.int64)
    loader = make(look=Transform(resolution=8, canvas=canvas, augment=AUGMENT))
    loader.hash_into(known)
    source, met = open_source(pairs), set()
    for batch in loader.batches(0, 14):
        for number, (file, look) in zip(batch.index.tolist(), batch.prints.tolist(), strict=True):
            assert (file == 0) == (number in met)
            if file:
                assert file == file_hash(source.read(number).image) and look != 0
                known[number] = file, look
        met |= set(batch.index.tolist())  # a batch of two epochs may hold a sample twice
    assert met == set(range(SAMPLES))
    assert all(not batch.prints.any() for batch in make().batches(0, 3))  # nobody asked


# --- what stands still --------------------------------------------------------------------------


class _Stuck(torch.utils.data.Dataset):
    def __getitem__(self, request):
        if request == 2:
            time.sleep(60)
        return request


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_that_stand_still_end_the_run(workers):
    started = time.monotonic()
    stream = answers(_Stuck(), torch.utils.data.SequentialSampler(range(9)), workers, stall_s=1.5)
    with pytest.raises(DataError, match=r"No data worker came up with a batch for 1\.5 s"):
        list(stream)
    assert time.monotonic() - started < 20
    assert not multiprocessing.active_children()


def test_strict_stops_at_the_first(make, pairs, tmp_path):
    path = Path(pairs.split("path=")[1].split("/s-")[0])
    (tmp_path / "s-0.tar").write_bytes((path / "s-0.tar").read_bytes().replace(b"IDAT", b"XXXX"))
    spec = f"webdataset:path={tmp_path}/s-0.tar,caption_field=raw+rewrite"
    with pytest.raises(BrokenSample, match="sample '0"):
        list(make(spec, on_unreadable="stop").batches(0, 2))
    with pytest.raises(
        DataError, match=r"No sample of a batch of 8 can be used; the last: sample '0"
    ):
        list(make(spec).batches(0, 2))


def test_all_that_stand_still_are_ended_together():
    """PyTorch waits 5 s for each; eight would take 40."""
    stream = answers(_Endless(), torch.utils.data.SequentialSampler(range(20)), 8, stall_s=1.5)
    started = time.monotonic()
    with pytest.raises(DataError, match=r"No data worker came up"):
        list(stream)
    assert time.monotonic() - started < 12


class _Endless(torch.utils.data.Dataset):
    def __getitem__(self, request):
        time.sleep(60)


def test_workers_end_at_once_though_an_error_is_held():
    """As a notebook holds the last one."""
    before = set(multiprocessing.active_children())
    stream = answers(_Stuck(), torch.utils.data.SequentialSampler(range(9)), 2, stall_s=1.5)
    with pytest.raises(DataError) as held:
        list(stream)
    assert not set(multiprocessing.active_children()) - before, held


def test_a_pinning_thread_that_ended_is_told_at_once(monkeypatch):
    """It ends where a worker's message can't be read; then nobody would hand batches on."""
    gone = threading.Thread(target=int)
    gone.start()
    gone.join()
    original = workers_module._started

    def started(made):
        stream = original(made)
        stream._pin_memory_thread = gone
        stream._pin_memory_thread_done_event = threading.Event()
        return stream

    monkeypatch.setattr(workers_module, "_started", started)
    monkeypatch.setattr(workers_module, "_ASKED_EVERY_S", 0.5)
    stream = answers(_Endless(), torch.utils.data.SequentialSampler(range(9)), 1, stall_s=60)
    started_at = time.monotonic()
    with pytest.raises(DataError, match="thread that hands batches to the GPU ended"):
        next(stream)
    assert time.monotonic() - started_at < 15


def test_a_role_that_no_caption_has_is_a_typing_error(make):
    with pytest.raises(
        ConfigError, match=r"role of captions .*'rewrit'\. Did you mean 'rewrite'\?"
    ):
        make(captions="raw:0.5 rewrit:0.5")
