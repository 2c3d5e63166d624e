"""Towers as our export writes them, and a language model of whole words, both untrained."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lift import plugins
from lift.bundle import Bundle
from lift.bundle_record import BundleRecord
from lift.config import part
from lift.data.formats.scenes import Config, build
from lift.data.transform import Transform
from lift.export import transformers as exporter
from lift.heads import HeadConfig
from lift.model import SideConfig, build_side
from lift.terms import Sample
from lift.vlm import small
from lift.vlm.assembly import assemble
from lift.vlm.conversations import Conversation, Listed
from lift.vlm.questions import Question, questions

CLIP = {"class_token": True, "pre_norm": True, "patch_bias": False, "norm_eps": 1e-5}
SHAPES: dict[str, dict[str, Any]] = {"siglip": {}, "clip": CLIP}


def bundle_of(**options: Any) -> Bundle:
    """Return an untrained model whose tower has three blocks."""
    torch.manual_seed(1)
    texts = plugins.build(part("text/encoders", "hashing", dimensions=16))
    shape = {"width": 16, "depth": 3, "heads": 2, "patch": 8, "resolution": 32, "pooling": "mean"}
    tower = plugins.resolve(part("towers", "vit", **shape, **options))
    image = SideConfig(tower=tower, head=HeadConfig(layers=1))
    transform = Transform(resolution=32, canvas=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    record = BundleRecord(
        image=image, transform=transform, space=texts.space, encoder=plugins.resolve(texts.part)
    )
    return Bundle(build_side(image, None, 16), record)


@pytest.fixture(scope="session")
def bundles() -> dict[str, Bundle]:
    return {name: bundle_of(**options) for name, options in SHAPES.items()}


@pytest.fixture(scope="session")
def towers(bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name, bundle in bundles.items():
        found[name] = tmp_path_factory.mktemp("towers") / name
        exporter.build(exporter.Config()).write(bundle, found[name])
    return found


@pytest.fixture(scope="session")
def shown() -> list[tuple[Sample, list[Question]]]:
    source = build(Config(count=60, seed=2, resolution=32, short=1, long=1))
    return list(questions(source.read(i) for i in range(60)))


@pytest.fixture(scope="session")
def asked(shown: Sequence[tuple[Sample, list[Question]]]) -> Listed:
    return Listed(
        Conversation(s.key, s.image, tuple((q.text, q.answer) for q in own)) for s, own in shown
    )


@pytest.fixture(scope="session")
def language(
    shown: Sequence[tuple[Sample, list[Question]]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    texts = [f"{q.text} {q.answer}" for _, own in shown for q in own]
    texts += [c.text for s, _ in shown for c in s.captions]
    words = small.small_tokenizer(["USER: ASSISTANT: a b c d .", *texts])
    folder = tmp_path_factory.mktemp("language") / "llama"
    return small.small_llama(folder, words, width=32, depth=2, heads=2)


@pytest.fixture(scope="session")
def llavas(
    towers: dict[str, Path], language: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("llavas")
    return {name: assemble(path, language, folder / name) for name, path in towers.items()}


@pytest.fixture(scope="session")
def frozen() -> Any:
    """Return a function that copies the weights of a part of a LLaVA."""
    return lambda part: copy.deepcopy(part.state_dict())
