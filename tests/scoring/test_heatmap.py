"""Where in an image a text is."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from lift.bundle import Bundle
from lift.errors import ConfigError
from lift.scoring import Heatmap, heatmap
from lift.scoring.heat import heatmaps
from made_model import made


@pytest.fixture(scope="module")
def model() -> Bundle:
    return made()


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_a_cell_is_its_cosine_less_the_mean(model: Bundle) -> None:
    image = photo(40, 80)
    found = heatmap(model, image, "a red dog")
    patches = model.encode_patches([image])
    cosines = patches.z[0] @ model.encode_texts("a red dog")[0]
    assert found.values.shape == (4, 4) and found.values.dtype == np.float32
    assert found.values + found.mean == pytest.approx(cosines, abs=1e-6)
    assert found.values.mean() == pytest.approx(0, abs=1e-6)
    assert found.frame == pytest.approx((0.25, 0, 0.75, 1)) and found.text == "a red dog"
    two = heatmaps(model, image, ["a cat", "a red dog"])
    assert two[1].values == pytest.approx(found.values, abs=1e-6)
    assert not np.allclose(two[0].values, two[1].values)


def test_the_peak_is_the_middle_of_the_nearest_cell() -> None:
    values = np.zeros((2, 4), np.float32)
    values[1, 2] = 1
    assert Heatmap(values, 0.0, (0.5, 0.0, 1.0, 1.0), "x").peak == (0.5 + 2.5 / 8, 0.75)


def test_an_overlay_is_bright_where_the_text_is_and_only_inside_the_frame() -> None:
    values = np.array([[1, 0], [0, -1]], np.float32)
    grey = np.full((100, 200, 3), 128, np.uint8)
    found = Heatmap(values, 0.0, (0.25, 0.0, 0.75, 1.0), "x").overlay(grey, side=100)
    picture = np.asarray(Image.open(io.BytesIO(found)).convert("RGB")).astype(int)
    assert picture.shape == (50, 100, 3)
    assert (picture[:, :24] == 128).all() and (picture[:, 76:] == 128).all()
    near, far = picture[4, 28], picture[45, 71]
    assert near[0] > 150 and near[0] - near[2] > 50 and far.sum() < near.sum() - 200
    # No picture is too narrow, and small ones are made as large as the grid.
    assert Heatmap(values, 0.0, (0.4, 0.0, 0.41, 1.0), "x").overlay(grey[:1, :1])


def test_what_has_no_heatmap_is_refused(model: Bundle) -> None:
    with pytest.raises(ConfigError, match="says what to look for"):
        heatmap(model, photo(40, 40), " ")
    with pytest.raises(ConfigError, match="side must be"):
        heatmap(model, photo(40, 40), "a dog").overlay(photo(40, 40), side=0)
