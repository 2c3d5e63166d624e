"""Two stages: what moves, what stands still to the bit, and a stop that leaves no trace."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lift.errors import CheckpointError, DataError, LiftError, NotFinite, Stopped
from lift.vlm import stage_folder, training
from lift.vlm.answering import answers
from lift.vlm.assembly import open_llava
from lift.vlm.conversations import Conversation, Listed
from lift.vlm.recipes import PLAIN, Stage, Template
from lift.vlm.training import Trained, train

CONNECTOR = Stage(language=False, template=PLAIN, lr=1e-2, batch_size=8, micro_batch=8)
TUNING = Stage(language=True, template=Template(), lr=3e-3, batch_size=8, micro_batch=8)


def parts(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    model = open_llava(folder).model
    named: dict[str, nn.Module] = {
        "tower": model.model.vision_tower,
        "connector": model.model.multi_modal_projector,
        "language": model.model.language_model,
        "head": model.lm_head,
    }
    return {name: dict(part.state_dict()) for name, part in named.items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.fixture(scope="module")
def stages(
    llavas: dict[str, Path], asked: Listed, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Trained, Trained]:
    """Both stages, the second with checkpoints that nothing goes on from."""
    folder = tmp_path_factory.mktemp("stages")
    first = train(llavas["siglip"], asked, folder / "1", CONNECTOR, device="cpu")
    tuning = dataclasses.replace(TUNING, epochs=2, checkpoint_every=4)
    return first, train(first.folder, asked, folder / "2", tuning, device="cpu")


def test_stage_1_moves_the_connector_alone(
    llavas: dict[str, Path], stages: tuple[Trained, Trained]
) -> None:
    before, after = parts(llavas["siglip"]), parts(stages[0].folder)
    for name in ("tower", "language", "head"):
        assert equal(before[name], after[name]), name
    for name, value in before["connector"].items():
        assert not torch.equal(value, after["connector"][name]), name
    assert (stages[0].steps, stages[0].counters) == (7, {})


def test_stage_2_moves_all_but_the_tower(stages: tuple[Trained, Trained]) -> None:
    before, after = parts(stages[0].folder), parts(stages[1].folder)
    assert equal(before["tower"], after["tower"])
    for name in ("connector", "language", "head"):
        moved = [not torch.equal(v, after[name][n]) for n, v in before[name].items()]
        assert all(moved), name
    assert stages[1].steps == 15
    assert not (stages[1].folder.parent / "checkpoints").exists()


def stopped_at(step: int, run: Callable[[], Any]) -> None:
    """Send ourselves SIGTERM when a step begins, as a scheduler does it."""
    own = training._Run.do_step

    def counted(self: Any) -> None:
        if self.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        own(self)

    training._Run.do_step = counted  # type: ignore[method-assign]
    try:
        with pytest.raises(Stopped, match=rf"^SIGTERM: saved at step {step + 1};"):
            run()
    finally:
        training._Run.do_step = own  # type: ignore[method-assign]


@pytest.mark.parametrize("tuned", [False, True])
def test_a_stopped_run_goes_on_to_the_same_bits(
    tuned: bool, llavas: dict[str, Path], stages: tuple[Trained, Trained], asked: Listed,
    tmp_path: Path,
) -> None:  # fmt: skip
    start = stages[0].folder if tuned else llavas["siglip"]
    stage = dataclasses.replace(TUNING, epochs=2, checkpoint_every=4) if tuned else CONNECTOR

    def run() -> Trained:
        return train(start, asked, tmp_path / "run", stage, device="cpu")

    stopped_at(2, run)
    if tuned:
        stopped_at(9, run)
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == [
        f"step-{10 if tuned else 3:08d}"
    ]
    made, never = run(), stages[tuned]
    assert (made.steps, made.loss, made.counters) == (never.steps, never.loss, never.counters)
    theirs = parts(never.folder)
    assert all(equal(own, theirs[name]) for name, own in parts(made.folder).items())
    assert run() == made  # finished: nothing is done again


def test_what_a_step_learns_does_not_depend_on_micro_batches(
    llavas: dict[str, Path], asked: Listed, tmp_path: Path
) -> None:
    """Answers have several lengths: parts count by their tokens, not by their number."""
    few = Listed(asked[i] for i in range(8))
    losses = []
    for size in (8, 3):
        stage = dataclasses.replace(TUNING, micro_batch=size, warmup=0.0)
        losses.append(train(llavas["clip"], few, tmp_path / f"{size}", stage, device="cpu").loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    first, second = (parts(tmp_path / f"{size}" / "model") for size in (8, 3))
    for name, value in first["connector"].items():
        assert (value - second["connector"][name]).abs().max() < 1e-3


def test_only_answers_are_learned(llavas: dict[str, Path], tmp_path: Path) -> None:
    """The loss of a stage that barely moves is that of the answers, computed by hand."""
    one = Conversation("1", None, (("is there a red ring?", "yes"), ("a ring?", "no no")))
    stage = dataclasses.replace(TUNING, batch_size=1, lr=1e-12, warmup=0.0)
    made = train(llavas["siglip"], Listed([one]), tmp_path / "out", stage, device="cpu")
    seeing = open_llava(llavas["siglip"])
    text = "USER: is there a red ring? ASSISTANT: yes</s>USER: a ring? ASSISTANT: no no</s>"
    ids = seeing.tokenizer(text, return_tensors="pt")["input_ids"]
    words = seeing.tokenizer.convert_ids_to_tokens(ids[0])
    places = [i for i, word in enumerate(words) if word in ("yes", "no", "</s>")]
    assert len(places) == 5
    with torch.inference_mode():
        lost = seeing.model(input_ids=ids).logits[0].log_softmax(-1)
    wanted = -sum(float(lost[i - 1, ids[0, i]]) for i in places) / len(places)
    assert made.loss == pytest.approx(wanted, rel=1e-5)


def test_a_few_questions_are_learned_by_heart(
    llavas: dict[str, Path], shown: Any, tmp_path: Path
) -> None:
    """One question, answers that differ by the image alone."""
    own = [(s, next(q for q in found if q.kind == "count")) for s, found in shown
           if any(q.kind == "count" for q in found)][:6]  # fmt: skip
    words = ("one", "two", "yes", "no", "red", "blue")
    learned = Listed(
        Conversation(s.key, s.image, (("what?", word),))
        for (s, _), word in zip(own, words, strict=True)
    )
    stage = dataclasses.replace(TUNING, batch_size=6, epochs=80, lr=1e-2)
    made = train(llavas["clip"], learned, tmp_path / "out", stage, device="cpu")
    seeing = open_llava(made.folder)
    said = answers(seeing, [(s.image, "what?") for s, _ in own], Template(), max_new_tokens=3)
    assert said == list(words)
    # As LLaVA's own data spells it: the image is one, not two.
    spelled = [(s.image, "<image>\nwhat?") for s, _ in own]
    assert answers(seeing, spelled, Template(), max_new_tokens=3) == list(words)
    assert made.loss < 0.1


def test_bfloat16_moves_little_steps_and_keeps_the_rest(
    llavas: dict[str, Path], asked: Listed, tmp_path: Path
) -> None:
    """Weights that come in bfloat16 go in it; what moves is float32 meanwhile."""
    half = open_llava(llavas["clip"])
    half.model.to(torch.bfloat16).save_pretrained(tmp_path / "half")
    for path in llavas["clip"].iterdir():
        if path.suffix != ".safetensors" and path.name != "config.json":
            (tmp_path / "half" / path.name).write_bytes(path.read_bytes())
    stage = dataclasses.replace(TUNING, precision="bfloat16", recompute=True, batch_size=30)
    made = train(tmp_path / "half", asked, tmp_path / "out", stage, device="cpu")
    before, after = parts(tmp_path / "half"), parts(made.folder)
    assert equal(before["tower"], after["tower"])
    assert not equal(before["language"], after["language"])
    assert {v.dtype for part in after.values() for v in part.values()} == {torch.bfloat16}


def test_broken_images_are_counted_and_a_wrong_folder_is_told(
    llavas: dict[str, Path], asked: Listed, tmp_path: Path
) -> None:
    some = [asked[i] for i in range(8)]
    bad = dataclasses.replace(some[3], image=b"no image")
    stage = dataclasses.replace(CONNECTOR, max_tokens=60)
    made = train(
        llavas["siglip"], Listed([*some[:3], bad, *some[4:]]), tmp_path / "a", stage, device="cpu"
    )
    assert made.counters["images left out: not an image"] == 1
    nothing = Listed(dataclasses.replace(one, image=tmp_path / "none.jpg") for one in some)
    with pytest.raises(DataError, match=r"None of the first images can be read; the first: .*none"):
        train(llavas["siglip"], nothing, tmp_path / "b", stage, device="cpu")
    short = dataclasses.replace(stage, max_tokens=5)
    with pytest.raises(DataError, match=r"nothing to learn from: .* look at .* max_tokens=5"):
        train(llavas["siglip"], Listed(some), tmp_path / "c", short, device="cpu")


def test_what_does_not_belong_together_is_refused(
    llavas: dict[str, Path], asked: Listed, tmp_path: Path
) -> None:
    some = Listed(asked[i] for i in range(8))
    start, out = llavas["siglip"], tmp_path / "out"
    train(start, some, out, CONNECTOR, device="cpu")

    def complaint(*given: Any, **options: Any) -> str:
        with pytest.raises(LiftError) as caught:
            train(*given, device="cpu", **options)
        return str(caught.value)

    assert "of a stage with another seed;" in complaint(start, some, out, CONNECTOR, seed=1)
    slower = dataclasses.replace(CONNECTOR, lr=1e-4)
    assert "of a stage with another lr;" in complaint(start, some, out, slower)
    assert "another conversations, digest;" in complaint(start, asked, out, CONNECTOR)
    assert "another start;" in complaint(llavas["clip"], some, out, CONNECTOR)
    assert complaint(start, Listed([]), tmp_path / "x", CONNECTOR).startswith("There is no conv")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    assert "is no stage" in complaint(start, some, tmp_path / "letters", CONNECTOR)
    assert "no folder of a model" in complaint(tmp_path, some, tmp_path / "y", CONNECTOR)


def test_a_start_is_told_from_its_end(tmp_path: Path) -> None:
    """Two runs of one language model write files that begin alike."""
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(9 << 20))
    first = stage_folder.stands_for(tmp_path)
    with open(weights, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"1")
    assert stage_folder.stands_for(tmp_path) != first


def test_a_damaged_checkpoint_is_told(
    llavas: dict[str, Path], asked: Listed, tmp_path: Path
) -> None:
    def run() -> Trained:
        return train(llavas["siglip"], asked, tmp_path / "run", CONNECTOR, device="cpu")

    stopped_at(1, run)
    path = tmp_path / "run" / "checkpoints" / "step-00000002" / "trained.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"step-00000002 can't be used .*; remove it"):
        run()


def test_a_loss_that_is_not_finite_stops(
    llavas: dict[str, Path], asked: Listed, tmp_path: Path
) -> None:
    wild = dataclasses.replace(TUNING, lr=1e30, warmup=0.0, clip=1e30)
    with pytest.raises(NotFinite, match=r"^Step \d: the loss is .*; lower lr\.$"):
        train(llavas["siglip"], asked, tmp_path / "out", wild, device="cpu")
