"""What can be judged, in words: folders, kinds with options, brackets around commas."""

from __future__ import annotations

import pytest

import contender_folders as folders
from lift.bundle import Bundle
from lift.config import Part
from lift.contenders import contender, open_contender
from lift.data.source import parse_part
from lift.errors import CheckpointError, ConfigError


def test_a_folder_is_a_model_of_ours(tmp_path):
    found = open_contender(str(folders.bundle(tmp_path / "mine")), device="cpu")
    assert isinstance(found, Bundle) and found.name == "mine"


def test_brackets_keep_commas_together():
    found = contender(
        "paired:model=runs/x,text=[api:model=e,url=http://h/v1,dimensions=8],by=probes"
    )
    assert found.options["text"] == Part(
        "text/encoders", "api", {"model": "e", "url": "http://h/v1", "dimensions": 8}
    )
    assert found.options["by"] == "probes"
    found = contender("vectors:images=[a.npy,texts=b.txt],texts=caps,saw=[coco,flickr30k]")
    assert found.options["images"] == "a.npy,texts=b.txt" and found.options["texts"] == "caps"
    of = parse_part("data/formats", "table:path=part[0-9].csv")  # a pattern keeps its brackets
    assert of.options["path"] == "part[0-9].csv"


@pytest.mark.parametrize(
    "words, error, told",
    [
        ("nowhere/at/all", CheckpointError, "neither a folder nor a kind of model"),
        ("hugingface:model=x", ConfigError, "Did you mean 'huggingface'"),
        ("huggingface:modle=x", ConfigError, "Did you mean 'model'"),
        ("huggingface:model=nobody/nothing", ConfigError, "neither a folder nor a hub model"),
        ("paired:model=x,text=[hashin:seed=1]", ConfigError, "Did you mean 'hashing'"),
    ],
)
def test_wrong_words_are_one_sentence(words, error, told):
    with pytest.raises(error, match=told) as caught:
        open_contender(words, device="cpu")
    assert "\n" not in str(caught.value)
