"""Probes as a user runs them: real photos, training images by name, a table of results."""

from __future__ import annotations

import functools
import io

import numpy as np
import pytest
from PIL import Image

from lift.errors import ConfigError, DataError
from lift.evaluation import evaluate, parse_plan
from lift.results import table
from lift.terms import unit


class Colours:
    """An encoder that looks at 6 x 6 colours through a random matrix; its tower at the colours."""

    name, saw = "colours", ()
    matrix = np.random.default_rng(0).standard_normal((108, 64)).astype(np.float32)

    def __init__(self):
        self._look = functools.cache(self._look)  # three evaluations look at the same photos

    def features(self, images):
        return np.stack([self._look(image) for image in images])

    def _look(self, image):
        opened = Image.open(io.BytesIO(image))
        opened.draft("RGB", (48, 48))
        small = opened.convert("RGB").resize((6, 6), Image.Resampling.BOX)
        return np.asarray(small, np.float32).ravel() / 255 - 0.5

    def encode_images(self, images):
        import torch

        return unit(torch.from_numpy(self.features(images) @ self.matrix)).numpy()

    def encode_texts(self, texts):
        raise AssertionError("no probe asks for a text")


@pytest.fixture(scope="module")
def results(shared_data):
    folder = shared_data / "caltech101-a"
    if not folder.is_dir():
        pytest.skip(f"caltech101-a is not at {shared_data}")
    on = f"data=[table:path={folder}/test.parquet,caption=class_name],"
    on += f"train=[table:path={folder}/train.parquet,caption=class_name]"
    plans = [parse_plan(f"{name}:{on}") for name in ("knn", "few_shot")]
    plans += [parse_plan(f"linear_probe:{on},decays=[0.1,1.0]")]
    return evaluate(Colours(), plans, progress=False)


def test_photos_are_told_apart_by_colours_alone(results):
    """35 classes, ten photos of each to learn from: colours say more than chance, not much."""
    for result in results:
        first = result.metrics[result.primary]
        assert result.chance == pytest.approx(1 / 35) and first.low > 2 * result.chance
        assert result.counts["images"] == result.counts["training images"] == 350
        assert first.items == 350 and not result.notes[1:]
        assert result.protocol.endswith("train caltech101-a/train.parquet (350 images)")
    few = results[1].metrics
    assert few["8-shot top-1"].value > few["1-shot top-1"].value
    assert results[1].notes[0].startswith("16 shots left out")
    words = table(results)
    assert "linear_probe" in words and "2-shot mean per class" in words


def test_training_data_is_opened_before_anything_is_encoded(tmp_path):
    class Blind(Colours):
        def encode_images(self, images):
            raise AssertionError("too early")

        features = encode_images

    data = "scenes:count=8,resolution=32"
    for name in ("knn", "linear_probe", "few_shot"):
        with pytest.raises((DataError, ConfigError), match="nowhere"):
            plan = parse_plan(f"{name}:data=[{data}],train={tmp_path}/nowhere.parquet")
            evaluate(Blind(), [plan], progress=False)
