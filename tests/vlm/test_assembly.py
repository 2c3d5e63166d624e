"""A tower and a language model as one LLaVA: same patch tokens, and plain transformers loads it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lift.bundle import Bundle
from lift.errors import ConfigError, LiftError
from lift.towers.vit import ViT
from lift.vlm import conversations, recipes
from lift.vlm.assembly import assemble, chat_template, open_llava, transform_of
from lift.vlm.conversations import Conversation, encode, question

SHAPES = ("siglip", "clip")


def photos(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40, 30 + i, 3), dtype=np.uint8) for i in range(count)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layer", [-2, -1, 0, 2])
def test_patch_tokens_are_those_of_our_tower(
    shape: str, layer: int, llavas: dict[str, Path], bundles: dict[str, Bundle]
) -> None:
    seeing, bundle = open_llava(llavas[shape]), bundles[shape]
    seeing.model.config.vision_feature_layer = layer
    images = photos(3)
    with torch.inference_mode():
        theirs = seeing.tokens(seeing.pixels(list(images)))
        pixels = torch.stack([bundle.transform.evaluate(image) for image in images])
        tower = bundle.side.tower
        assert isinstance(tower, ViT)
        ours = tower.tokens(bundle.transform.normalise(pixels), layer)
    assert theirs.shape == ours.shape == (3, seeing.patches, 16)
    assert (theirs - ours).abs().max() < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_the_connector_gets_those_tokens(shape: str, llavas: dict[str, Path]) -> None:
    """Through transformers' own way from pixels to what the language model gets."""
    seeing = open_llava(llavas[shape])
    assert seeing.model.config.vision_feature_layer == -2
    with torch.inference_mode():
        pixels = seeing.pixels(list(photos(2)))
        got = seeing.model.get_image_features(pixels).pooler_output
        made = seeing.model.model.multi_modal_projector(seeing.tokens(pixels))
    assert (torch.stack(list(got)) - made).abs().max() < 1e-6


def test_both_networks_are_bit_for_bit_what_they_were(
    towers: dict[str, Path], language: Path, llavas: dict[str, Path]
) -> None:
    tower = load_file(towers["clip"] / "model.safetensors")
    words = load_file(language / "model.safetensors")
    model = open_llava(llavas["clip"]).model
    state = model.model.vision_tower.state_dict()
    for name, value in tower.items():
        found = state.get(name, state.get(name.removeprefix("vision_model.")))
        assert found is not None and torch.equal(found, value), name
    for name, value in model.model.language_model.state_dict().items():
        before = words[f"model.{name}"]
        assert torch.equal(value[: len(before)], before), name
    assert torch.equal(model.lm_head.weight[:-1], words["lm_head.weight"])


def test_equal_seeds_give_equal_connectors(
    towers: dict[str, Path], language: Path, llavas: dict[str, Path], tmp_path: Path
) -> None:
    again = open_llava(assemble(towers["clip"], language, tmp_path / "a")).model.state_dict()
    other = open_llava(
        assemble(towers["clip"], language, tmp_path / "b", seed=1)
    ).model.state_dict()
    first = open_llava(llavas["clip"]).model.state_dict()
    assert all(torch.equal(again[name], value) for name, value in first.items())
    weight = "model.multi_modal_projector.linear_1.weight"
    assert not torch.equal(first[weight], other[weight])


_STRANGER = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, torch
from PIL import Image
from transformers import LlavaForConditionalGeneration, LlavaProcessor
image = Image.fromarray(np.load(sys.argv[1]))
chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": sys.argv[2]}]}]
for folder in sys.argv[3:]:
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    processor = LlavaProcessor.from_pretrained(folder)
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    given = processor(images=image, text=text, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**given).logits[0, -1].tolist()
    print(json.dumps({"text": text, "ids": given["input_ids"][0].tolist(), "logits": logits}))
assert "lift" not in sys.modules
"""


@pytest.mark.slow
def test_plain_transformers_loads_and_asks_it(llavas: dict[str, Path], tmp_path: Path) -> None:
    """In a fresh process without lift: the same text, the same tokens, the same answer."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "image.npy", image)
    asked = "what colour is the ring?"
    given = [str(tmp_path / "image.npy"), asked, *(str(llavas[shape]) for shape in SHAPES)]
    done = subprocess.run(
        [sys.executable, "-c", _STRANGER, *given], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    for shape, line in zip(SHAPES, lines, strict=True):
        told: dict[str, Any] = json.loads(line)
        seeing = open_llava(llavas[shape])
        assert told["text"] == question(recipes.VICUNA, asked, 1)
        ids = seeing.tokenizer(question(recipes.VICUNA, asked, seeing.patches))["input_ids"]
        assert told["ids"] == ids
        with torch.inference_mode():
            ours = seeing.model(input_ids=torch.tensor([ids]), pixel_values=seeing.pixels([image]))
        assert (ours.logits[0, -1] - torch.tensor(told["logits"])).abs().max() < 1e-4


def test_a_chat_is_the_text_that_was_trained_on(llavas: dict[str, Path]) -> None:
    seeing = open_llava(llavas["clip"])
    turns = (("is it red?", "no"), ("why?", "it is blue"))
    chat: list[dict[str, Any]] = []
    for number, (asked, answer) in enumerate(turns):
        shown = [{"type": "image"}] if not number else []
        said = [*shown, {"type": "text", "text": asked}]
        chat += [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]
    for template in (recipes.VICUNA, recipes.Template(end="!")):
        seeing.tokenizer.chat_template = chat_template(template)
        text = seeing.tokenizer.apply_chat_template(chat, tokenize=False)
        text = text.replace("<image>", "<image>" * seeing.patches)
        made = encode(
            Conversation("1", b"", turns), template, seeing.tokenizer, seeing.patches, 999
        )
        assert seeing.tokenizer(text)["input_ids"] == made.ids.tolist()


def test_what_does_not_fit_is_refused_in_a_sentence(
    towers: dict[str, Path], language: Path, tmp_path: Path
) -> None:
    def complaint(tower: Path, words: Path, out: Path = tmp_path / "new", **options: Any) -> str:
        with pytest.raises(LiftError) as caught:
            assemble(tower, words, out, **options)
        assert not (tmp_path / "new").exists()
        return str(caught.value)

    clip = towers["clip"]
    assert "it has no config.json" in complaint(tmp_path, language)
    assert "holds a llama, not a CLIPVisionModel or SiglipVisionModel" in complaint(
        language, language
    )
    wordless = shutil.copytree(clip, tmp_path / "wordless")
    for path in language.glob("tokenizer*"):
        shutil.copy(path, wordless)
    assert complaint(clip, wordless).startswith("The language model ")
    assert complaint(clip, language, layer=-5) == "layer must lie in -4..3, not -5."
    full = tmp_path / "full"
    full.mkdir()
    (full / "letters.txt").write_text("dear")
    assert "was not assembled here" in complaint(clip, language, full)
    before = sorted(path.name for path in language.iterdir())
    for given in (language, clip):  # a folder too many in the call must not cost a model
        assert "was not assembled here" in complaint(clip, language, given)
    assert sorted(path.name for path in language.iterdir()) == before
    broken = shutil.copytree(clip, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\xff" * 100)
    assert "could not be loaded" in complaint(broken, language)
    larger = shutil.copytree(clip, tmp_path / "larger")
    path = larger / "preprocessor_config.json"
    told = json.loads(path.read_text())
    told.update(size={"height": 64, "width": 64}, do_center_crop=False, crop_size=None)
    path.write_text(json.dumps(told))
    assert "trained on 32 pixels, but its image processor makes 64" in complaint(larger, language)
    told.update(size={"longest_edge": 32})
    path.write_text(json.dumps(told))
    assert "give it one square size, bicubic or bilinear" in complaint(larger, language)


def test_an_image_processor_is_read_as_what_it_does() -> None:
    class Processor:
        size: dict[str, int]
        crop_size: dict[str, int] | None = None
        image_mean, image_std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
        resample, do_center_crop = 3, False

    one = Processor()
    one.size = {"height": 24, "width": 24}
    squashed = transform_of(one)
    assert (squashed.resolution, squashed.resize, squashed.interpolation) == (
        24,
        "squash",
        "bicubic",
    )
    assert squashed.mean == (0.1, 0.2, 0.3) and squashed.std == (0.4, 0.5, 0.6)
    one.size, one.crop_size, one.do_center_crop = (
        {"shortest_edge": 24},
        {"height": 24, "width": 24},
        True,
    )
    one.resample = 2
    assert (transform_of(one).resize, transform_of(one).interpolation) == (
        "center_crop",
        "bilinear",
    )
    one.size = {"shortest_edge": 30}
    with pytest.raises(ConfigError, match="can't be made here"):
        transform_of(one)


def test_the_published_recipe() -> None:
    """LLaVA-1.5's scripts/v1_5/pretrain.sh and finetune.sh."""
    plan = recipes.llava_1_5()
    assert plan.layer == -2
    first, second = plan.connector, plan.tuning
    assert (first.lr, first.batch_size, first.language) == (1e-3, 256, False)
    assert (second.lr, second.batch_size, second.language) == (2e-5, 128, True)
    for stage in (first, second):
        assert (stage.epochs, stage.warmup, stage.weight_decay) == (1, 0.03, 0.0)
        assert (stage.max_tokens, stage.precision, stage.clip) == (2048, "bfloat16", 1.0)
    assert first.template == recipes.PLAIN and second.template == recipes.VICUNA
    text = question(recipes.VICUNA, "Why?", 1)
    assert text.endswith("human's questions. USER: <image>\nWhy? ASSISTANT:")
    for wrong, sentence in (({"lr": 0.0}, "lr must be above 0"), ({"epochs": 0}, "epochs must be")):
        with pytest.raises(ConfigError, match=sentence):
            recipes.Stage(
                **{"language": True, "template": recipes.PLAIN, "lr": 1.0, "batch_size": 1, **wrong}
            )
    assert conversations.IGNORED == -100
