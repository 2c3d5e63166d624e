"""Models of sentence-transformers: the library's own vectors, prompts, and code that they bring."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

import contender_folders as folders
import decoder_folders
from lift.contenders import open_contender
from lift.errors import ConfigError

pytest.importorskip("sentence_transformers")
TEXTS = list(folders.TEXTS)
WORDS = "sentence_transformers:model="


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return folders.router(tmp_path_factory.mktemp("sentences"))


@pytest.fixture(scope="module")
def judged(folder):
    return open_contender(f"{WORDS}{folder}", device="cpu")


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_vectors_are_the_librarys(judged):
    pictures = [Image.fromarray(np.full((20, 30, 3), 60 * n, np.uint8)) for n in range(4)]
    theirs = judged.model.encode(pictures, show_progress_bar=False)
    np.testing.assert_allclose(judged.encode_images(pictures), unit(theirs), atol=2e-6)
    theirs = judged.model.encode(TEXTS, show_progress_bar=False)
    np.testing.assert_allclose(judged.encode_texts(TEXTS), unit(theirs), atol=2e-6)


def test_prompts_and_caps_are_options(folder, judged):
    told = open_contender(f'{WORDS}{folder},prompt="a photo: "', device="cpu")
    theirs = judged.model.encode(TEXTS, prompt="a photo: ", show_progress_bar=False)
    np.testing.assert_allclose(told.encode_texts(TEXTS), unit(theirs), atol=2e-6)
    assert told.identity != judged.identity
    short = open_contender(f"{WORDS}{folder},max_tokens=4", device="cpu")
    assert judged.cut(["two red cats"]).tolist() == [False] and judged.max_tokens == 16
    assert short.cut(["two red cats", "a"]).tolist() == [True, False]
    narrow = open_contender(f"{WORDS}{folder},dimensions=8", device="cpu")
    assert narrow.encode_images(folders.pictures(2)).shape == (2, 8)
    with pytest.raises(ConfigError, match=r"no prompt 'queries'"):
        open_contender(f"{WORDS}{folder},prompt_name=queries")
    with pytest.raises(ConfigError, match="not both"):
        open_contender(f"{WORDS}{folder},prompt_name=query,prompt=x")


def test_code_of_a_model_runs_only_if_trusted(folder, tmp_path):
    """A module of the model's own, which leaves a mark where it is imported."""
    copy = shutil.copytree(folder, tmp_path / "own")
    mark = tmp_path / "ran"
    (copy / "mine.py").write_text(
        "from pathlib import Path\n"
        "from sentence_transformers.sentence_transformer.modules import Normalize\n"
        f"Path({str(mark)!r}).write_text('x')\n"
        "class Mine(Normalize):\n    pass\n"
    )
    modules = json.loads((copy / "modules.json").read_text())
    modules.append({"idx": 1, "name": "1", "path": "", "type": "mine.Mine"})
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ConfigError, match="trust=true if you trust it"):
        open_contender(f"{WORDS}{copy}")
    assert not mark.exists()
    config = copy / "image_0_Transformer" / "config.json"
    shape = json.loads(config.read_text())
    (copy / "modules.json").write_text((folder / "modules.json").read_text())
    config.write_text(json.dumps({**shape, "auto_map": {"AutoModel": "mine.Mine"}}))
    with pytest.raises(ConfigError, match="trust=true if you trust it"):
        open_contender(f"{WORDS}{copy}")
    assert not mark.exists()


def test_a_class_in_the_older_place_of_routes_is_code_too(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "own")
    (found,) = copy.rglob("router_config.json")
    values = json.loads(found.read_text())
    values["types"] = dict.fromkeys(values["types"], "os.path.Mine")
    found.unlink()
    (found.parent / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="trust=true if you trust it"):
        open_contender(f"{WORDS}{copy}")


def test_weights_in_pickles_or_elsewhere_are_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "pickled")
    weights = next(copy.rglob("*.safetensors"))
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(ConfigError, match="is a pickle"):
        open_contender(f"{WORDS}{copy}")
    copy = shutil.copytree(folder, tmp_path / "adapter")
    config = {"base_model_name_or_path": "/home/somebody/model", "peft_type": "LORA"}
    (copy / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="of an adapter"):
        open_contender(f"{WORDS}{copy}")


def test_a_model_of_texts_alone_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"takes text, no images"):
        open_contender(f"{WORDS}{decoder_folders.folder()}")
    with pytest.raises(ConfigError, match="neither a folder nor a hub model"):
        open_contender(f"{WORDS}nobody/nothing")
