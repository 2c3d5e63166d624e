"""The whole road on real photographs with the real text encoder, by the commands a user types."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

import lift
from lift.cli import main


@pytest.fixture(scope="module")
def photos(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 48 training and 24 validation photos of Flickr8k."""
    folder = tmp_path_factory.mktemp("photos") / "flickr8k"
    folder.mkdir()
    for part, count in (("train", 48), ("val", 24)):
        with (
            tarfile.open(shared_data / "flickr8k" / f"{part}-0000.tar") as whole,
            tarfile.open(folder / f"{part}.tar", "w") as some,
        ):
            for member in whole.getmembers()[: 3 * count]:
                some.addfile(member, whole.extractfile(member))
    return folder


def test_embed_train_eval_report_use(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, val = str(photos / "train.tar"), str(photos / "val.tar")
    cache, run = str(tmp_path / "captions"), str(tmp_path / "run")

    assert main(["embed", "--data", train, val, "--out", cache, "--quiet"]) == 0
    assert "embedded now" in capsys.readouterr().out
    assert main(["audit", cache, "--data", train, val, "--sample", "16"]) == 0
    capsys.readouterr()

    small = ["samples=96", "loader.batch_size=16", "tower.depth=1", "tower.width=64"]
    options = ["--set", *small, "precision=float32", "optim.warmup_steps=2"]
    places = ["--data", train, "--validation", val, "--cache", cache]
    words = ["train", "flickr8k_tiny", *places, "--out", run, *options, "--quiet"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "all-captions" in printed and "text encoder saw these captions" in printed

    on = [f"retrieval:data={val},protocol=first-caption", "compositional:data=scenes:count=12"]
    assert main(["eval", run, "--on", *on, "--cache", cache, "--quiet"]) == 0
    assert "first-caption" in capsys.readouterr().out
    found = [json.loads(p.read_text())["result"] for p in (tmp_path / "run/evals").glob("*.json")]
    assert {r["protocol"] for r in found} >= {"all-captions", "first-caption"}
    for result in found:
        assert result["counts"] and all(
            m["low"] <= m["value"] <= m["high"] for m in result["metrics"].values()
        )

    assert main(["report", run]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "data:image/" in page and "first-caption" in page

    Path(val).rename(photos / "moved.tar")  # the page loses its pictures, not itself
    assert main(["report", run, "--out", str(tmp_path / "later.html")]) == 0
    assert "Keys stand in for the pictures" in (tmp_path / "later.html").read_text()
    (photos / "moved.tar").rename(val)

    model = lift.load(run)
    row = model.encode_texts(["a dog runs through the snow"])
    assert row.shape == (1, 384) and abs(float(np.linalg.norm(row)) - 1) < 1e-5
    # The text side is the untouched encoder: its rows are those that the cache holds.
    cached = lift.EmbeddingCache.open(cache)
    text = next(iter(_captions(val)))
    stored = cached.take(cached.require([text]))
    assert ((stored @ model.encode_texts([text]).T).item()) > 0.9999


def _captions(path: str) -> list[str]:
    from lift.data.source import Captions, open_source

    return list(Captions([open_source(path)]))


def test_another_encoders_cache_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, cache = str(photos / "train.tar"), str(tmp_path / "captions")
    words = ["embed", "--data", train, "--out", cache, "--encoder", "hashing", "--quiet"]
    assert main(words) == 0
    words = ["train", "flickr8k_tiny", "--data", train, "--cache", cache]
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    ours = lift.EmbeddingCache.open(cache).space.fingerprint
    assert ours in told and "fingerprint" in told and told.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert main(["embed", "--data", train, "--out", cache, "--quiet"]) == 2
    assert ours in capsys.readouterr().err
