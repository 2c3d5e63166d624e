"""Captions that only the cache knows: tied to samples by key, drawn by role, on disk."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from lift.cache.reader import EmbeddingCache
from lift.commands.text import embed
from lift.data.linked import LinkedCaptions
from lift.data.loader import Loader, LoaderConfig
from lift.data.source import open_source
from lift.data.transform import Transform
from lift.errors import ConfigError, DataError

LOOK = Transform(resolution=8)


@pytest.fixture(scope="module")
def made(tmp_path_factory, picture, write_tar):
    """Return shards whose captions have rewrites in another file, and a cache of both."""
    folder = tmp_path_factory.mktemp("linked")
    for shard in range(2):
        members = []
        for n in range(12):
            members += [(f"{n:02d}.png", picture(n)), (f"{n:02d}.txt", f"raw {shard} {n}".encode())]
        write_tar(folder / f"s-{shard}.tar", members)
    rows = [
        {"image": f"s-{shard}/{n:02d}", "caption": f"rewrite {shard} {n} {turn}"}
        for turn in range(2)
        for shard in range(2)
        for n in range(12)
        if n != 5
    ]
    rows += [{"image": "elsewhere/00", "caption": "nobody's"}]
    (folder / "rewrites.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "wrong.jsonl").write_text(json.dumps({"image": "s-0/00", "caption": "a foil"}))
    data = [
        f"{folder}/s-*.tar",
        f"texts:path={folder}/rewrites.jsonl,key=image,column=caption,role=rewrite",
        f"texts:path={folder}/wrong.jsonl,key=image,column=caption,role=negative",
    ]
    embed(data, out=folder / "cache", encoder="hashing:dimensions=16", progress=False)
    return f"{folder}/s-*.tar", EmbeddingCache.open(folder / "cache")


def loader(made, **config):
    spec, cache = made
    config = {"batch_size": 8, "linked": True, **config}
    return Loader(open_source(spec), cache, LOOK, LoaderConfig(**config), 0)


def test_links_are_found_by_key(made):
    spec, cache = made
    source = open_source(spec)
    links = LinkedCaptions(source, cache, ())
    assert links.counts == {"raw": 24, "rewrite": 44} and links.strangers == 1
    for number, (key, captions) in enumerate(source.texts()):
        told, rows = links.of(number)
        shard, n = key[2], int(key[4:])
        texts = [captions[0].text] + [f"rewrite {shard} {n} {t}" for t in range(2) if n != 5]
        assert sorted(rows.tolist()) == sorted(cache.find(texts).tolist())
        assert Counter(c.role for c in told) == Counter(raw=1, rewrite=len(texts) - 1) - Counter()


@pytest.mark.parametrize("workers", [0, 2])
def test_rewrites_are_drawn_by_role(made, workers):
    spec, cache = made
    raws = {
        number: cache.find([c[0].text])[0]
        for number, (_, c) in enumerate(open_source(spec).texts())
    }
    drawn = Counter()
    for batch in loader(made, captions="raw:0.5 rewrite:0.5", workers=workers).batches(0, 60):
        assert len(batch.row) == 8
        for number, row in zip(batch.index.tolist(), batch.row.tolist(), strict=True):
            drawn[number % 12 == 5, row == raws[number]] += 1
    assert drawn[True, True] == 40 and drawn[True, False] == 0  # these have no rewrite
    assert drawn[False, True] / 440 == pytest.approx(0.5, abs=0.1)


def test_all_shows_each_once(made):
    for batch in loader(made, captions="all").batches(0, 3):
        for place, number in enumerate(batch.index.tolist()):
            rows = batch.row[batch.owner == place].tolist()
            assert len(rows) == len(set(rows)) == (1 if number % 12 == 5 else 3)


def test_a_role_that_only_the_cache_has(made):
    lost = [d for b in loader(made, captions="rewrite:1").batches(0, 3) for d in b.dropped]
    assert {d.kind for d in lost} == {"without a caption of the roles"} and len(lost) == 2


def test_nothing_to_link_is_told(made, stored):
    spec, cache = made
    with pytest.raises(DataError, match=r"ties no caption of the roles title to the keys of"):
        loader(made, captions="title:1")
    with pytest.raises(DataError, match="ties no caption to the keys of scenes"):
        LinkedCaptions(open_source("scenes:count=9,resolution=32"), cache, ())
    with pytest.raises(ConfigError, match="needs a cache"):
        LinkedCaptions(open_source(spec), object(), ())


def test_samples_that_share_a_key_are_refused(made, tmp_path, picture, write_tar):
    """Two sets of shards with the same names: the second's captions would go to the first's."""
    spec, cache = made
    for name, caption in (("s-0", b"raw 0 3"), ("t-0", b"raw 0 4")):
        members = [("00.png", picture(77)), ("00.txt", caption)]
        write_tar(tmp_path / f"{name}.tar", members)
    both = open_source(f"{spec}::{tmp_path}/*.tar")
    with pytest.raises(DataError, match=r"^1 samples of .* have the key of another"):
        LinkedCaptions(both, cache, ())
