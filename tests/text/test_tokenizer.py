"""The tokenizer of a trained text side: of the captions and not of their order, and any other."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest

from lift.data.source import open_source
from lift.data.tokens import captions_of
from lift.errors import ConfigError, DataError, MissingPackage
from lift.text.loading import fault_of
from lift.text.tokenizer import END, START, Tokenizer

pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def scenes():
    return list(captions_of(open_source("scenes:count=400")))


@pytest.fixture(scope="module")
def trained(scenes):
    return Tokenizer.trained(iter(scenes), 400)


def decoded(tokenizer, ids):
    return tokenizer._inner.decode(ids)


def test_every_text_comes_back(trained):
    texts = ["A Red  circle left of\ta blue square", "Größe 日本 \U0001f993", "\x00 <|x|>"]
    for text, ids in zip(texts, trained.encode(texts, 77).ids, strict=True):
        assert ids[0] == trained._inner.token_to_id(START)
        assert ids[-1] == trained._inner.token_to_id(END)
        assert decoded(trained, ids) == " " + " ".join(text.lower().split(" ")).replace(
            "  ", " "
        ).replace("\t", " ")
    assert trained.encode(["", "  "], 5).ids == [[0, 1], [0, 1]]


def test_a_word_is_the_same_anywhere(trained):
    """At the start, in the middle, in capitals, with other white space."""
    same = ["a red circle", "A  RED\ncircle ", "\ta red circle"]
    ids = trained.encode(same, 77).ids
    assert ids[0] == ids[1] == ids[2]
    assert ids[0][1:-1] == trained.encode(["and a red circle"], 77).ids[0][2:-1]


def test_letters_keep_their_size_if_asked(scenes):
    tokenizer = Tokenizer.trained(scenes, 400, lower=False)
    first, second = tokenizer.encode(["A red circle", "a red circle"], 77).ids
    assert first != second


def test_the_order_of_captions_has_no_part(scenes, trained):
    shuffled = list(scenes)
    random.Random(1).shuffle(shuffled)
    assert shuffled != scenes
    assert Tokenizer.trained(shuffled, 400).to_json() == trained.to_json()
    assert Tokenizer.trained(scenes[:40], 400).to_json() != trained.to_json()


@pytest.mark.parametrize("threads", ["true", "false"])
def test_another_process_makes_the_same(scenes, trained, threads, tmp_path):
    program = (
        "from lift.data.source import open_source\n"
        "from lift.data.tokens import captions_of\n"
        "from lift.text.tokenizer import Tokenizer\n"
        "found = captions_of(open_source('scenes:count=400'))\n"
        "print(Tokenizer.trained(found, 400).fingerprint)\n"
    )
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": threads, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == trained.fingerprint


def test_real_captions(shared_data):
    """Flickr8k: a vocabulary that is asked for is reached, and words are few tokens."""
    captions = list(captions_of(open_source(str(shared_data / "flickr8k"))))
    tokenizer = Tokenizer.trained(captions, 4000)
    assert tokenizer.size == 4000 and tokenizer.special == 2
    found = tokenizer.encode(captions[:2000], 77)
    words = np.mean([len(caption.split()) for caption in captions[:2000]])
    assert found.lengths.mean() - 2 < 1.25 * words and not found.truncated.any()
    reordered = Tokenizer.trained(captions[::-1], 4000)
    assert reordered.fingerprint == tokenizer.fingerprint
    assert Tokenizer.trained(captions, 49_408).size < 10_000  # as many as there are


def test_a_cut_keeps_the_end_and_is_counted(trained):
    texts = ["a red circle " * n for n in (1, 10, 200)]
    whole, cut = trained.encode(texts, 5000), trained.encode(texts, 9)
    assert not whole.truncated.any() and cut.truncated.tolist() == [False, True, True]
    assert (whole.lengths == cut.lengths).all()
    assert [len(own) for own in whole.ids] == whole.lengths.tolist()
    for short, full in zip(cut.ids, whole.ids, strict=True):
        assert len(short) <= 9 and short[-1] == full[-1] and short[:-1] == full[: len(short) - 1]
    again = trained.encode(texts, 5000)
    assert again.ids == whole.ids
    with pytest.raises(ConfigError, match="A context of 2 tokens has no room beside the 2"):
        trained.encode(texts, 2)


def test_it_travels_as_json(trained, tmp_path):
    again = Tokenizer.from_json(trained.to_json(), "here")
    other = pickle.loads(pickle.dumps(trained))
    path = tmp_path / "tokenizer.json"
    path.write_text(trained.to_json())
    for same in (again, other, Tokenizer.found(path), Tokenizer.found(tmp_path, ends=True)):
        assert same.fingerprint == trained.fingerprint
        assert same.encode(["a red dog"], 7).ids == trained.encode(["a red dog"], 7).ids
    trained.encode(["x"], 5)  # a cut that was set is no part of what it is
    assert Tokenizer.from_json(trained.to_json(), "x").fingerprint == trained.fingerprint


def plain(**changes):
    """A tokenizer.json that adds nothing to a text, pads, cuts, and merges at random."""
    from tokenizers import Tokenizer as Inner
    from tokenizers import models, pre_tokenizers

    pieces = {"a": 0, "b": 1, "ab": 2, "c": 3}
    inner = Inner(models.BPE(pieces, [("a", "b")]))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.enable_padding(length=8)
    inner.enable_truncation(2)
    values = json.loads(inner.to_str())
    values["model"] |= changes
    return json.dumps(values)


def test_anyones_tokenizer(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(plain(dropout=0.5))
    own = Tokenizer.found(path)
    assert own.special == 0 and own.size == 4
    assert own.encode(["ab c ab", "", "zzz"], 9).ids == [[2, 3, 2], [0], [0]]
    assert all(own.encode(["ab " * 20], 99).ids == [[2] * 20] for _ in range(5))
    with_ends = Tokenizer.found(path, ends=True)
    assert with_ends.special == 2 and with_ends.size == 6
    assert with_ends.encode(["ab c ab", ""], 4).ids == [[4, 2, 3, 5], [4, 5]]
    assert with_ends.fingerprint != own.fingerprint


def test_what_cannot_be_used_is_told(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="vocabulary of 257 tokens can't hold the 256 bytes"):
        Tokenizer.trained(["a"], 257)
    with pytest.raises(DataError, match="no captions to train a tokenizer on"):
        Tokenizer.trained([], 300)
    with pytest.raises(DataError, match="not valid Unicode"):
        Tokenizer.trained(["a", "\ud800"], 300)
    with pytest.raises(ConfigError, match=r"has no tokenizer\.json; `AutoTokenizer"):
        Tokenizer.found(tmp_path)
    with pytest.raises(ConfigError) as told:
        Tokenizer.found("bpee")
    assert str(told.value) == (
        "'bpee' is neither bpe, nor a file or folder, nor a hub model whose tokenizer.json can be "
        "had (the hub can't be reached and there is no copy here); check text_tower.tokenizer."
    )
    for name in ("nowhere.json", "./nowhere", "~/no/where", str(tmp_path / "none")):
        with pytest.raises(ConfigError, match=rf"^There is no tokenizer file '{name}'; check the"):
            Tokenizer.found(name)
    for text in ("", "{", "[]", "{}", '{"model": 3}', plain(vocab={}, merges=[])):
        with pytest.raises(ConfigError, match="here is no tokenizer that"):
            Tokenizer.from_json(text, "here")
    import lift.text.tokenizer as module

    module._library.cache_clear()
    real = module.plugins.importlib.util.find_spec
    monkeypatch.setattr(
        module.plugins.importlib.util,
        "find_spec",
        lambda name, *a: None if name == "tokenizers" else real(name, *a),
    )
    with pytest.raises(MissingPackage, match=r"pip install 'lift-align\[text\]'"):
        Tokenizer.trained(["a"], 300)
    monkeypatch.undo()
    module._library.cache_clear()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("GatedRepoError", "its owner has to let you in first"),
        ("RepositoryNotFoundError", "there is none that you may see"),
        ("RevisionNotFoundError", "it has no such revision"),
        ("EntryNotFoundError", "it has no such file"),
        ("RemoteEntryNotFoundError", "it has no such file"),
        ("LocalEntryNotFoundError", "the hub can't be reached and there is no copy here"),
        ("OfflineModeIsEnabled", "the hub can't be reached and there is no copy here"),
        ("HFValidationError", "that is no name of a hub model"),
    ],
)
def test_a_fault_of_the_hub_is_a_few_words_of_our_own(kind, words):
    errors = pytest.importorskip("huggingface_hub.errors")
    if not hasattr(errors, kind):
        pytest.skip(f"this huggingface_hub knows no {kind}")
    found = getattr(errors, kind)
    assert fault_of(found.__new__(found, "much about its client")) == words


def test_any_other_fault_ends_with_a_word():
    told = fault_of(OSError("word " * 100))
    assert told.startswith("OSError: word word") and told.endswith(" word ...")


def test_forks_stay_silent_and_environment_clean():
    """The library works in threads; forked data workers would each print its warning."""
    program = (
        "import os\n"
        "from lift.text.tokenizer import Tokenizer\n"
        "t = Tokenizer.trained(['a dog'] * 50, 300)\n"
        "t.encode(['a dog'] * 50, 9)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    t.encode(['a dog'] * 50, 9)\n"
        "    os._exit(0 if os.environ['TOKENIZERS_PARALLELISM'] == 'false' else 1)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "assert 'TOKENIZERS_PARALLELISM' not in os.environ\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
