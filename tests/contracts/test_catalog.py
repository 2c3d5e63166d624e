"""Every file in catalog/: its miniature is found as itself, and all that is asked of it works."""

from __future__ import annotations

import importlib.util

import pytest

from lift import plugins
from lift.catalog import LAST, ROOM, search
from lift.errors import ConfigError
from lift.evaluation import evaluate, parse_plan

NAMES = [name for name in plugins.names(ROOM) if name != LAST]


class Coloured:
    """A real encoder of little use: images by their colours, texts by the letters they hold."""

    name, saw = "colours", ()

    def encode_images(self, images):
        import numpy as np
        import torch

        from lift.data.transform import Transform
        from lift.terms import unit

        transform = Transform(resolution=8)
        seen = [transform.evaluate(image).float().flatten() / 255 - 0.5 for image in images]
        rows = torch.stack(seen) @ self._turn(3 * 64)
        return np.asarray(unit(rows))

    def encode_texts(self, texts):
        import numpy as np
        import torch

        from lift.terms import unit

        rows = torch.zeros(len(texts), 256)
        for number, text in enumerate(texts):
            for letter in text.encode():
                rows[number, letter] += 1
        return np.asarray(unit(rows @ self._turn(256)))

    def features(self, images):
        return self.encode_images(images)

    def encode_patches(self, images):
        import numpy as np

        from lift.evals._dense import Patches

        z = self.encode_images(images)
        frame = np.tile(np.array([[0, 0, 1, 1]], np.float32), (len(images), 1))
        return Patches(np.tile(z[:, None, None], (1, 2, 2, 1)), frame)

    def with_pixels(self, mean, std):
        return self

    @staticmethod
    def _turn(size):
        import torch

        return torch.randn(size, 32, generator=torch.Generator().manual_seed(size))


def miniature(name, folder):
    folder.mkdir(parents=True, exist_ok=True)
    spec = importlib.util.spec_from_file_location(
        f"miniature_{name}", __file__.replace("contracts/test_catalog.py", f"miniatures/{name}.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is(name):
    module = plugins.load(ROOM, name)
    for word in (module.TITLE, module.WHERE, module.LAYOUT):
        assert isinstance(word, str) and len(word) > 3
    assert module.WHERE.endswith("."), "a sentence"


@pytest.mark.parametrize("name", NAMES)
def test_a_miniature_is_found_and_all_that_is_asked_of_it_works(name, tmp_path):
    root = miniature(name, tmp_path / "data sets" / name).parent
    found = search(root)
    assert {one.name for one in found.found} == {name}, "found as itself, and as nothing else"
    assert name not in found.absent and not found.unknown
    words = [word for one in found.found for word in one.on]
    assert words
    for word in words:
        results = evaluate(Coloured(), [parse_plan(word)], progress=False)
        assert results[0].digest and results[0].counts["images"] > 0, word


@pytest.mark.parametrize("name", NAMES)
def test_something_else_is_left_alone(name, tmp_path):
    module = plugins.load(ROOM, name)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"")
    (tmp_path / "annotations.json").write_text("[" * 100_000)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing")
    (tmp_path / "x.tar").write_bytes(b"nothing")
    assert module.look(tmp_path) == []
    assert module.look(tmp_path / "images") == []
    with pytest.raises(ConfigError):
        parse_plan("nothing:data=x")
