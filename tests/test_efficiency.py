"""What a model costs: counts are exact, measurements say what they are."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch

from lift import plugins
from lift.config import part
from lift.efficiency import Efficiency, measured, measured_work, pictures, stored_sizes
from lift.efficiency.counting import count, peak_memory
from lift.errors import ConfigError, MissingPackage

CPU = torch.device("cpu")


def vit(width=48, depth=2, patch=8, side=32, **rest):
    shape = {"width": width, "depth": depth, "patch": patch, "resolution": side}
    return plugins.build(part("towers", "vit", heads=3, **shape, **rest)).eval()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_operations_of_a_transformer_are_its_formula(mode):
    """Patches, then 12 d^2 of matrices and 2 n d of attention a token and block, twice each."""
    d, blocks, patch, side = 48, 2, 8, 32
    tower, n = vit(d, blocks, patch, side), (side // patch) ** 2
    with mode():
        found = count(lambda: tower(torch.zeros(1, 3, side, side)), [tower])
    assert found.flops == 2 * n * 3 * patch**2 * d + blocks * (2 * n * 12 * d * d + 4 * n * n * d)
    assert found.parameters == sum(p.numel() for p in tower.parameters())


def test_attention_in_one_kernel_is_counted():
    layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).eval()
    with torch.inference_mode():
        found = count(lambda: layer(torch.zeros(1, 10, 64)), [layer])
    assert found.flops == 2 * 10 * (4 * 64 * 64 + 2 * 64 * 128) + 4 * 10 * 10 * 64
    assert found.parameters == sum(p.numel() for p in layer.parameters())
    assert torch.backends.mha.get_fastpath_enabled()


def test_only_weights_that_are_read_count():
    whole = torch.nn.ModuleDict({"one": torch.nn.Linear(4, 5), "two": torch.nn.Linear(4, 500)})
    found = count(lambda: whole["one"](torch.zeros(1, 4)), [whole, whole["one"]])
    assert found == (25, 40)


def test_a_weight_that_goes_into_a_layer_is_counted_in_inference_mode():
    tower = vit(depth=1, side=16, pooling="attention")

    def run():
        with torch.inference_mode():
            tower(torch.zeros(1, 3, 16, 16))

    found = count(run, [tower])
    assert found.parameters == sum(p.numel() for p in tower.parameters()) and found.flops > 0
    assert all(p.requires_grad for p in tower.parameters())


def test_speed_is_the_median_and_its_range():
    calls = []

    def encode(items):
        calls.append(len(items))
        time.sleep([0, 0.2, 0.001, 0.002][len(calls) - 1])

    found = measured_work(encode, list(range(6)), CPU, batches=3)
    assert calls == [6, 6, 6, 6] and (found.batch, found.batches) == (6, 3)
    assert found.slowest <= 6 / 0.2 and found.per_second <= 6 / 0.002
    assert found.slowest < found.per_second < found.fastest <= 6 / 0.001
    assert found.parameters is None and found.flops is None and found.tokens == 0


def test_peak_is_what_a_block_takes():
    peak = peak_memory(lambda: np.ones(8_000_000), CPU)
    if peak is None:
        pytest.skip("only Linux tells")
    assert 60e6 < peak < 90e6
    assert peak_memory(lambda: None, CPU) < 8e6


def test_pictures_are_the_same_everywhere():
    import hashlib

    from lift.data.image import decode

    first, second = pictures(2)
    assert decode(first).shape == (3, 480, 640) and first != second
    pixels = decode(first)[:, ::97, ::89].numpy().astype(int)
    assert hashlib.sha256((pixels // 32).astype("u1").tobytes()).hexdigest()[:8] == "cd2d4d50"


def test_a_record_goes_through_json_and_a_table():
    tower = vit()
    found = measured(
        dimensions=48,
        device=CPU,
        precision="float32",
        encode_images=lambda files: tower(torch.zeros(len(files), 3, 32, 32)),
        image_weights=[tower],
        encode_texts=lambda texts: None,
        count_tokens=lambda text: len(text.split()),
        batch=2,
        batches=2,
    )
    assert Efficiency.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    lines = found.table().splitlines()
    assert lines[0].startswith("measured on this machine: cpu") and "1 thread" in lines[0]
    assert lines[1].split()[:2] == ["parameters", "FLOPs"]
    assert lines[2].startswith("images ") and lines[3].startswith("texts of 15 tokens")
    assert len({len(line) for line in lines[1:4]}) == 1
    assert lines[4] == (
        "bytes of a vector of 48 numbers: 192 as float32, 96 as float16, 52 as int8, 28 as int4, "
        "10 as binary"
    )
    with pytest.raises(ConfigError, match="efficiency"):
        Efficiency.from_dict({"images": None})


def test_texts_that_nobody_can_encode_here_are_a_note():
    def encode(texts):
        raise MissingPackage("The text encoder is not installed.")

    found = measured(dimensions=8, device=CPU, precision="float32", encode_texts=encode)
    assert found.texts is None
    assert found.notes == ("Texts were not measured: The text encoder is not installed.",)
    assert stored_sizes(8)["float32"] == 32
