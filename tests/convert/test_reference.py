"""Checkpoints in the key layout of the paper's code: both methods, old names, broken files."""

from __future__ import annotations

import copy
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch

from lift.convert.reference import load_reference_checkpoint
from lift.convert.weights import to_layout
from lift.errors import CheckpointError
from lift.heads import HeadConfig, MLPHead
from lift.towers import vit

TINY = vit.Config(
    width=192,
    depth=2,
    heads=3,
    patch=8,
    resolution=16,
    class_token=True,
    pre_norm=True,
    patch_bias=False,
    norm_eps=1e-5,
)


@pytest.fixture
def tower():
    return vit.build(TINY).eval()


@pytest.fixture
def head():
    return MLPHead(HeadConfig(layers=2), 192, 48).eval()


@pytest.fixture
def lift_keys(tower, head):
    """What the reference code's LIFT model has as a state dict."""
    keys = to_layout(TINY, tower.state_dict(), "open_clip", prefix=True)
    del keys["visual.proj"]
    for name, tensor in head.state_dict().items():
        keys[name.replace("layers.", "mlp_projector.projector.")] = tensor
    return keys | {"logit_scale": torch.tensor(3.5)}


@pytest.fixture
def clip_keys(tower):
    """What its CLIP baseline has."""
    keys = to_layout(TINY, tower.state_dict(), "open_clip", prefix=True)
    keys |= {"visual.proj": torch.randn(192, 48), "logit_scale": torch.tensor(4.0)}
    names = ("positional_embedding", "text_projection", "token_embedding.weight", "ln_final.bias")
    text = {name: torch.randn(3, 3) for name in names}
    return keys | text | {"transformer.resblocks.0.ln_1.weight": torch.randn(3)}


def check_lift(found, tower, head):
    assert found.tower == TINY and found.head == HeadConfig(layers=2)
    assert (found.shared, found.log_scale, found.text_state) == (48, 3.5, {})
    twin, twin_head = vit.build(found.tower).eval(), MLPHead(found.head, 192, found.shared)
    twin.load_state_dict(found.tower_state)
    twin_head.load_state_dict(found.head_state)
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(twin_head(twin(x)), head(tower(x)))


def training_checkpoint(keys, tower):
    """Wrap a state dict as its training loop does, numpy learning rate included."""
    optimizer = torch.optim.AdamW(tower.parameters(), lr=1e-3)
    tower(torch.randn(1, 3, 16, 16)).sum().backward()
    optimizer.step()
    for group in optimizer.param_groups:
        group["lr"] = 0.5 * (1 + np.cos(np.float64(0.3))) * 1e-3
    state = {f"module.{name}": tensor for name, tensor in keys.items()}
    return {"epoch": 1, "name": "org", "state_dict": state, "optimizer": optimizer.state_dict()}


def test_a_training_checkpoint(tmp_path, lift_keys, tower, head):
    kept = copy.deepcopy(tower)  # the optimiser's step must not reach the copy in `lift_keys`
    torch.save(training_checkpoint(lift_keys, tower), tmp_path / "epoch_1.pt")
    check_lift(load_reference_checkpoint(tmp_path / "epoch_1.pt"), kept, head)


def test_numpy_1_wrote_it(tmp_path, lift_keys, tower):
    # numpy 2 moved the module that a pickled scalar names; the reference pins numpy 1.26.
    path, old = tmp_path / "new.pt", tmp_path / "old.pt"
    torch.save(training_checkpoint(lift_keys, tower), path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(old, "w") as target:
        for item in source.infolist():
            data = source.read(item)
            if item.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in data
                data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            target.writestr(item, data)
    assert load_reference_checkpoint(old).shared == 48


@pytest.mark.parametrize("wrap", [None, "model", "module", "state_dict"])
@pytest.mark.parametrize("old_names", [False, True])
@pytest.mark.parametrize("ddp", [False, True])
def test_every_way_it_was_saved(tmp_path, lift_keys, tower, head, wrap, old_names, ddp):
    if old_names:
        lift_keys = {n.replace("mlp_projector", "text_decoder"): t for n, t in lift_keys.items()}
    if ddp:
        lift_keys = {f"module.{name}": tensor for name, tensor in lift_keys.items()}
    torch.save({wrap: lift_keys} if wrap else lift_keys, tmp_path / "a.pt")
    check_lift(load_reference_checkpoint(tmp_path / "a.pt"), tower, head)


def test_cosine_runs_have_no_scale(tmp_path, lift_keys):
    del lift_keys["logit_scale"]
    torch.save(lift_keys, tmp_path / "a.pt")
    assert load_reference_checkpoint(tmp_path / "a.pt").log_scale is None


@pytest.mark.parametrize("layers", [1, 3])
def test_other_depths_of_head(tmp_path, lift_keys, layers):
    keys = {n: t for n, t in lift_keys.items() if not n.startswith("mlp_projector")}
    head = MLPHead(HeadConfig(layers=layers), 192, 48)
    keys |= {
        n.replace("layers.", "mlp_projector.projector."): t for n, t in head.state_dict().items()
    }
    torch.save(keys, tmp_path / "a.pt")
    found = load_reference_checkpoint(tmp_path / "a.pt")
    assert found.head.layers == layers
    MLPHead(found.head, 192, found.shared).load_state_dict(found.head_state)


def test_clip_baseline(tmp_path, clip_keys, tower):
    torch.save(clip_keys, tmp_path / "a.pt")
    found = load_reference_checkpoint(tmp_path / "a.pt")
    assert found.tower.pooling == "token" and found.shared == 48 and found.log_scale == 4.0
    assert sorted(found.text_state) == sorted(
        n for n in clip_keys if not n.startswith("visual.") and n != "logit_scale"
    )
    twin, head = vit.build(found.tower).eval(), MLPHead(found.head, 192, found.shared)
    twin.load_state_dict(found.tower_state)
    head.load_state_dict(found.head_state)
    x = torch.randn(2, 3, 16, 16)
    by_hand = tower.norm(tower._encode(x, 2))[:, 0] @ clip_keys["visual.proj"]
    torch.testing.assert_close(head(twin(x)), by_hand)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"visual.conv1.weight": None}, r"Missing .*: conv1.weight"),
        ({"mlp_projector.projector.2.bias": None}, r"Missing .*: mlp_projector.projector.2.bias"),
        ({"mlp_projector.projector.1.weight": torch.zeros(1)}, "No place .*projector.1.weight"),
        ({"mlp_projector.projector.99999998.bias": torch.zeros(1)}, "Missing .*projector.4.weight"),
        ({"mlp_projector.projector.2.weight": torch.zeros(48, 47)}, r"\(48, 47\)"),
        ({"logit_bias": torch.zeros(())}, "No place .*logit_bias"),
        ({"logit_scale": torch.zeros(2)}, r"logit_scale has the shape \(2,\)"),
        ({"visual.extra": torch.zeros(1)}, "No place .*extra"),
        ({"mlp_projector.projector.0.weight": torch.zeros(48, 60)}, "takes 60 .* gives 192"),
    ],
)
def test_lift_keys_that_do_not_fit(tmp_path, lift_keys, change, sentence):
    keys = {n: t for n, t in (lift_keys | change).items() if t is not None}
    torch.save(keys, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=sentence):
        load_reference_checkpoint(tmp_path / "a.pt")


def test_clip_keys_that_do_not_fit(tmp_path, clip_keys):
    torch.save(clip_keys | {"decoder.weight": torch.zeros(1)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"No place .*: decoder.weight"):
        load_reference_checkpoint(tmp_path / "a.pt")


def test_neither_method(tmp_path, lift_keys):
    keys = {n: t for n, t in lift_keys.items() if n.startswith("visual.")}
    torch.save(keys, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="Neither mlp_projector"):
        load_reference_checkpoint(tmp_path / "a.pt")


class Trap:
    def __reduce__(self):
        return (shutil.rmtree, ("/nonexistent-by-design",))


def test_nothing_in_the_file_is_run(tmp_path, lift_keys):
    torch.save({"state_dict": lift_keys, "args": Trap()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"a.pt holds objects other than tensors"):
        load_reference_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("content", ["empty", "text", "cut", "pickle", "tensor", "words", "gone"])
def test_files_that_are_no_checkpoints(tmp_path, lift_keys, content):
    path = tmp_path / "a.pt"
    torch.save({"tensor": torch.ones(3), "words": {"a": "b"}}.get(content, lift_keys), path)
    if content == "empty":
        path.write_bytes(b"")
    elif content == "text":
        path.write_text("<html>Google Drive can't scan this file for viruses</html>")
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:-2000])
    elif content == "pickle":
        path.write_bytes(pickle.dumps({"a": 1}))
    elif content == "gone":
        path.unlink()
    with pytest.raises(CheckpointError, match=r"a.pt"):
        load_reference_checkpoint(path)


def test_any_changed_byte_of_the_index_is_one_sentence(tmp_path):
    whole, path = tmp_path / "whole.pt", tmp_path / "a.pt"
    torch.save({"epoch": 1, "state_dict": {"visual.conv1.weight": torch.zeros(8, 3, 4, 4)}}, whole)
    with zipfile.ZipFile(whole) as source:
        members = {item.filename: source.read(item) for item in source.infolist()}
    (index,) = (name for name in members if name.endswith("data.pkl"))
    random = np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(members[index])
        for place in random.integers(len(content), size=2):
            content[place] = random.integers(256)
        with zipfile.ZipFile(path, "w") as target:
            for name, data in members.items():
                target.writestr(name, bytes(content) if name == index else data)
        with pytest.raises(CheckpointError, match=r"a\.pt|layout|a state dict"):
            load_reference_checkpoint(path)
