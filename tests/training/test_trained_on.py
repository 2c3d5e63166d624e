"""What a run was trained on is in its model, and its evaluations see what leaked."""

from __future__ import annotations

import dataclasses
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import lift
from lift.bundle import BundleRecord
from lift.config import override, to_json
from lift.data import provenance
from lift.data.likeness import file_hash
from lift.data.source import open_source
from lift.errors import CheckpointError, ConfigError
from lift.evaluation import evaluate
from lift.terms import Batch
from lift.training.config import RunConfig
from lift.training.loop import run
from lift.training.prepare import Run
from lift.training.trained_on import TrainedOn

Maker = Callable[..., RunConfig]


def drawn(number: int) -> Image.Image:
    """Return a picture that looks like no other."""
    cells = np.random.default_rng(number).integers(0, 256, (8, 9, 3), np.uint8)
    return Image.fromarray(cells).resize((288, 256), Image.Resampling.BICUBIC)


def saved(image: Image.Image, quality: int = 95) -> bytes:
    """Return a JPEG large enough to be decoded at several fractions."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def written(folder: Path, pairs: Sequence[tuple[bytes, str]]) -> str:
    """Write pairs as a folder of images with a table, and return the words that open it."""
    folder.mkdir()
    lines = ["image\tcaption"]
    for number, (content, caption) in enumerate(pairs):
        (folder / f"{number:03d}.jpg").write_bytes(content)
        lines.append(f"{number:03d}.jpg\t{caption}")
    (folder / "pairs.tsv").write_text("\n".join(lines))
    return f"table:path={folder}/pairs.tsv,image=image,caption=caption"


@pytest.fixture
def data(tmp_path: Path) -> tuple[str, str]:
    """Return training data, and validation data of which a part is known."""
    known = [(saved(drawn(i)), f"Known caption {i}.") for i in range(48)]
    copies = known[5:9]  # image and caption
    again = [(saved(drawn(20 + i), quality=75), f"known caption, {i}") for i in range(3)]
    new = [(saved(drawn(900 + i)), f"new caption {i}") for i in range(9)]
    said = [(saved(drawn(950)), "Known caption 1.")]
    return written(tmp_path / "train", known), written(
        tmp_path / "val", new + again + copies + said
    )


@pytest.fixture
def leaky(tiny: Maker, data: tuple[str, str], tmp_path: Path) -> Maker:
    cache = tmp_path / "cache"
    lift.embed(list(data), out=cache, encoder="hashing:dimensions=32", progress=False)

    def make(**changes) -> RunConfig:
        known = {"data": data[0], "validation": data[1], "cache": str(cache), "samples": 96}
        return tiny(**{**known, **changes})

    return make


def rows(run_folder: Path) -> list[dict]:
    return pq.read_table(run_folder / "model" / provenance.NAME).to_pylist()


NOTE = (
    "seen in training: 4 of 17 images are in the training data (the first 012.jpg), 3 are near "
    "copies of some there (the first 009.jpg); 5 of 17 captions are there (the first is of "
    "012.jpg), 3 are there in the same words (the first is of 009.jpg)"
)


def test_leaks_are_counted_to_the_image(leaky: Maker, tmp_path: Path) -> None:
    config = leaky(evaluate_every=2, licences=("CC BY 4.0",))
    result = run(config, tmp_path / "run", progress=False)
    keys = [key for key, _ in open_source(config.validation).texts()]
    note = NOTE.replace("012.jpg", keys[12]).replace("009.jpg", keys[9])
    assert result.results[0].notes[-1] == note
    later = lift.evaluate(
        tmp_path / "run", on=f"retrieval:data=[{config.validation}]", progress=False
    )
    assert later[0].notes[-1] == note
    plain = lift.evaluate(
        tmp_path / "run", on=f"retrieval:data=[{config.validation}]", leaks=False, progress=False
    )
    assert plain[0].notes == later[0].notes[:-1] and plain[0].metrics == later[0].metrics

    model = lift.load(tmp_path / "run")
    assert model.trained_on is not None and len(model.trained_on) == 48
    told = model.record.origin["trained_on"]
    assert told == {**model.trained_on.summary, "kept": "model"}
    assert told["samples"] == told["of"] == told["captions"] == 48
    assert told["sources"][0]["licence"] == "CC BY 4.0"
    assert told["sources"][0]["words"] == config.data
    source = open_source(config.data)
    table = rows(tmp_path / "run")
    assert [row["key"] for row in table] == [source.read(i).key for i in range(48)]
    assert [row["image"] for row in table] == [file_hash(source.read(i).image) for i in range(48)]
    assert not (tmp_path / "run" / provenance.NAME).exists()


def test_less_than_an_epoch_lists_what_was_shown(leaky: Maker, tmp_path: Path) -> None:
    config = leaky(samples=32, evaluations=())
    seen: set[int] = set()
    add = TrainedOn.add

    def noted(self: TrainedOn, batch: Batch) -> None:
        seen.update(batch.index.tolist())
        add(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainedOn, "add", noted)
        run(config, tmp_path / "run", progress=False)
    keys = [key for key, _ in open_source(config.data).texts()]
    assert len(seen) == 32
    assert [row["key"] for row in rows(tmp_path / "run")] == [keys[i] for i in sorted(seen)]
    assert lift.load(tmp_path / "run").record.origin["trained_on"]["of"] == 48


def test_workers_write_the_same(leaky: Maker, tmp_path: Path) -> None:
    """Also where workers are an epoch ahead and hash again what was not taken in yet."""
    found = []
    for workers in (0, 2):
        config = leaky(evaluations=(), samples=48 * 4)
        config = dataclasses.replace(
            config,
            transform=dataclasses.replace(config.transform, canvas=None),
            loader=dataclasses.replace(config.loader, workers=workers),
        )
        run(config, tmp_path / f"{workers}", progress=False)
        found.append((tmp_path / f"{workers}" / "model" / provenance.NAME).read_bytes())
    assert found[0] == found[1]


def test_a_killed_run_writes_the_same(leaky: Maker, tmp_path: Path) -> None:
    config = leaky(evaluations=(), samples=48 * 12, checkpoint_every=5, log_every=1)
    config = dataclasses.replace(
        config,
        transform=dataclasses.replace(config.transform, canvas=None),
        loader=dataclasses.replace(config.loader, batch_size=8),
    )
    run(config, tmp_path / "straight", progress=False)
    out = tmp_path / "killed"
    (tmp_path / "config.json").write_text(to_json(config))
    for step in (3, 8):  # in the first epoch, in the second
        process = subprocess.Popen(
            [sys.executable, "-m", "lift", "train", tmp_path / "config.json", "--out", out],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            log = out / "events.jsonl"
            if log.exists() and f'"step": {step},' in log.read_text():
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert json.loads((out / "run.json").read_text())["status"] == "running"
    run(config, out, progress=False)
    one, two = (p / "model" / provenance.NAME for p in (tmp_path / "straight", out))
    assert one.read_bytes() == two.read_bytes()


def test_joined_sources_and_their_licences(leaky: Maker, tmp_path: Path) -> None:
    config = leaky()
    words = f"{config.data}::{config.validation}"
    config = leaky(data=words, evaluations=(), samples=160, licences=("mine", "theirs"))
    run(config, tmp_path / "run", progress=False)
    told = lift.load(tmp_path / "run").record.origin["trained_on"]
    assert [(s["samples"], s["licence"]) for s in told["sources"]] == [(48, "mine"), (17, "theirs")]
    assert [s["words"] for s in told["sources"]] == words.split("::")
    names = [row["source"] for row in rows(tmp_path / "run")]
    assert names == [told["sources"][0]["name"]] * 48 + [told["sources"][1]["name"]] * 17


def test_licences_that_fit_no_source_are_refused(leaky: Maker, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="licences names 2, and the data are of 1 source"):
        run(leaky(licences=("a", "b")), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "run.json").exists()


def test_too_much_for_a_model_stays_in_the_run(
    leaky: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "MOST_IN_A_MODEL", 47)
    result = run(leaky(), tmp_path / "run", progress=False)
    assert "seen in training: 4 of 17" in result.results[0].notes[-1]
    assert not (tmp_path / "run" / "model" / provenance.NAME).exists()
    model = lift.load(tmp_path / "run")
    assert model.record.origin["trained_on"]["kept"] == "run"
    assert model.trained_on is not None and len(model.trained_on) == 48
    elsewhere = lift.load(model.save(tmp_path / "elsewhere"))
    assert elsewhere.trained_on is None
    assert elsewhere.record.origin["trained_on"]["samples"] == 48


def test_a_model_takes_its_record_along_and_an_older_one_has_none(
    leaky: Maker, tmp_path: Path
) -> None:
    run(leaky(evaluations=()), tmp_path / "run", progress=False)
    model = lift.load(tmp_path / "run")
    again = lift.load(model.save(tmp_path / "elsewhere"))
    again.save(tmp_path / "elsewhere")  # over itself
    assert again.trained_on is not None
    content = (tmp_path / "run" / "model" / provenance.NAME).read_bytes()
    assert (tmp_path / "elsewhere" / provenance.NAME).read_bytes() == content
    (tmp_path / "elsewhere" / provenance.NAME).unlink()
    older = lift.load(tmp_path / "elsewhere")
    assert older.trained_on is None
    assert older.encode_images(np.zeros((32, 32, 3), np.uint8)).shape == (1, 32)


def test_judging_on_the_way_makes_and_reads_no_record(leaky: Maker, tmp_path: Path) -> None:
    saw: list[BundleRecord] = []
    judged: list[int | None] = []
    bundle = Run.bundle

    def asked(*given, trained_on, **options):
        judged.append(trained_on and len(trained_on))
        return evaluate(*given, trained_on=trained_on, **options)

    def noted(self: Run, *given, **options):
        made = bundle(self, *given, **options)
        saw.append(made.record)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "bundle", noted)
        patch.setattr("lift.training.judging.evaluate", asked)
        run(leaky(evaluate_every=2), tmp_path / "run", progress=False)
    assert ["trained_on" in record.origin for record in saw].count(True) == 1
    assert judged == [None, None, 48]


def _batch(index: list[int], prints: list[tuple[int, int]]) -> Batch:
    several = len(index)
    return Batch(
        images=torch.zeros(several, 3, 1, 1, dtype=torch.uint8),
        texts=torch.zeros(several, 1),
        owner=torch.arange(several),
        row=torch.arange(several),
        index=torch.tensor(index),
        source=torch.zeros(several, dtype=torch.int64),
        prints=torch.tensor(prints),
    )


def test_the_first_showing_stands(tmp_path: Path) -> None:
    TrainedOn.begin(tmp_path, 5)
    kept = TrainedOn(tmp_path, 5)
    kept.add(_batch([3, 1, 3], [(7, 1), (8, 0), (7, 2)]))
    kept.add(_batch([1, 2], [(8, 9), (0, 0)]))
    kept.collect()
    kept.add(_batch([1], [(8, 5)]))
    kept.collect()
    expected = [[0, 0], [8, 0], [0, 0], [7, 1], [0, 0]]
    assert kept.prints.tolist() == expected
    kept.flush()
    assert TrainedOn(tmp_path, 5).prints.tolist() == expected
    with pytest.raises(CheckpointError, match="is of 5 samples and the data has 6"):
        TrainedOn(tmp_path, 6)
    (tmp_path / "prints.npy").write_bytes(b"no array")
    with pytest.raises(CheckpointError, match="is damaged"):
        TrainedOn(tmp_path, 5)


def test_licences_are_an_option_like_any_other(leaky: Maker) -> None:
    assert override(leaky(), ["licences=CC0"]).licences == ("CC0",)
    assert override(leaky(), ['licences=["CC0", "own"]']).licences == ("CC0", "own")
