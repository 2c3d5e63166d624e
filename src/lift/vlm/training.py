"""One stage of training: a connector alone, or with the language model; stopped and gone on with.

    train("llava", conversations, "stage1", recipes.llava_1_5().connector)

What step s shows and drops is made from the seed and s, so a resumed run is bit for bit the run
that was never stopped. One process, one device; the tower never moves.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from lift.config import to_dict
from lift.data.dice import generator
from lift.errors import BrokenSample, ConfigError, DataError, NotFinite, Stopped
from lift.export._quiet import quiet
from lift.files import is_ours_or_empty, sole_writer, whole_folder
from lift.vlm import stage_folder
from lift.vlm.assembly import MARKER, Llava, open_llava
from lift.vlm.conversations import IGNORED, Conversation, Encoded, encode, padded
from lift.vlm.recipes import Stage
from lift.world import autocast, choose_device

_ORDER = 202
"""Purpose of the dice."""

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "config.json")
_LOOKED_AT = 16
"""Images that are opened before the first step: a wrong folder is told at once."""


@runtime_checkable
class Conversations(Protocol):
    """What is learned from: `Listed` or `Lines`."""

    digest: str

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Conversation: ...


@dataclass(frozen=True)
class Trained:
    """What a stage ended with.

    Attributes:
        folder: the LLaVA; plain transformers loads it, and so does the next stage.
        steps: optimiser steps.
        loss: mean over the answers' tokens in the last tenth of the steps.
        counters: what was left out, by reason.
    """

    folder: Path
    steps: int
    loss: float
    counters: dict[str, int]


def train(
    start: str | Path,
    conversations: Conversations,
    out: str | Path,
    stage: Stage,
    *,
    seed: int = 0,
    device: str = "auto",
    progress: bool = False,
) -> Trained:
    """Train one stage into the folder `out`, or go on with what is there.

    Args:
        start: folder of a LLaVA: assembled, or of the stage before.
        conversations: what is learned from.
        out: the stage's folder; `out/model` is the LLaVA at its end.
        stage: what is trained and how.
        seed: of the order and of what the language model drops.
        device: auto, cpu, cuda or mps.
        progress: whether to draw a progress bar.

    Raises:
        ConfigError: `out` is of another stage, with what differs; or holds something else.
        DataError: nothing to learn from, or none of the first images can be read.
        NotFinite: the loss is; the last checkpoint stands.
        Stopped: SIGTERM or Ctrl-C; the state is saved.
    """
    start, out = Path(start), Path(out)
    if not is_ours_or_empty(out, stage_folder.RECORD):
        raise ConfigError(f"{out} holds something that is no stage; choose an empty folder.")
    if not len(conversations):
        raise DataError("There is no conversation to learn from.")
    with sole_writer(out):
        record = {
            "format": 1,
            "stage": to_dict(stage),
            "seed": seed,
            "conversations": len(conversations),
            "digest": conversations.digest,
            "start": stage_folder.stands_for(start),
        }
        stage_folder.agree(out, record)
        done = out / "model" / "trained.json"
        if done.is_file():
            return Trained(out / "model", **json.loads(done.read_text()))
        seeing = open_llava(start, choose_device(device))
        _look(seeing, conversations)
        run = _Run(seeing, conversations, stage, seed)
        run.restore(out / "checkpoints")
        with (
            stage_folder.wish_to_stop() as wish,
            tqdm(total=run.steps, initial=run.step, disable=not progress, unit="step") as bar,
        ):
            while run.step < run.steps:
                run.do_step()
                bar.update()
                due = stage.checkpoint_every and run.step % stage.checkpoint_every == 0
                if run.step < run.steps and (wish or due):
                    run.save(out / "checkpoints")
                if wish and run.step < run.steps:
                    raise Stopped(f"{wish[0]}: saved at step {run.step}; the same call goes on.")
        return run.finish(start, out)


class _Run:
    """A stage in hand."""

    def __init__(
        self, seeing: Llava, conversations: Conversations, stage: Stage, seed: int
    ) -> None:
        self.seeing, self._data, self._stage, self._seed = seeing, conversations, stage, seed
        model = seeing.model
        self._came_as = model.model.language_model.dtype
        if stage.precision != "bfloat16":
            model.to(torch.float64 if stage.precision == "float64" else torch.float32)
        model.requires_grad_(False).eval()
        parts = [model.model.multi_modal_projector]
        if stage.language:
            # Tied, the head is the embedding and is counted once.
            parts += [model.model.language_model, model.lm_head]
            model.model.language_model.train()
        if stage.recompute:
            words = model.model.language_model.train()
            older = words.gradient_checkpointing_enable  # its name in transformers 5.0
            getattr(words, "activation_checkpointing_enable", older)({"use_reentrant": False})
        for part in parts:
            # Adam's small steps would be lost in bfloat16 weights.
            part.requires_grad_(True).to(_at_least_float32(part))
        self._trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        decayed = [p for p in self._trained.values() if p.ndim >= 2]
        others = [p for p in self._trained.values() if p.ndim < 2]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": stage.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=stage.lr,
            betas=stage.betas,
            eps=stage.eps,
        )
        self.steps = max(1, stage.epochs * len(conversations) // stage.batch_size)
        self.step, self.counters = 0, {}
        self._loss: list[float] = []
        self._permuted: tuple[int, np.ndarray] | None = None

    def do_step(self) -> None:
        """Show one batch, micro batch by micro batch, and move."""
        stage = self._stage
        torch.manual_seed(int(generator(self._seed, _ORDER, 1, self.step).integers(1 << 62)))
        rate = _rate(self.step, self.steps, stage)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        shown = self._batch()
        total = sum(int((row.labels[1:] != IGNORED).sum()) for row, _ in shown)
        lost = 0.0
        for first in range(0, len(shown), stage.micro_batch):
            part = shown[first : first + stage.micro_batch]
            with autocast(self.seeing.device, stage.precision):
                loss = loss_sum(self.seeing, [row for row, _ in part], [p for _, p in part])
            (loss / total).backward()
            lost += float(loss.detach()) / total
        norm = torch.nn.utils.clip_grad_norm_(self._trained.values(), stage.clip)
        if not (math.isfinite(lost) and math.isfinite(float(norm))):
            raise NotFinite(
                f"Step {self.step}: the loss is {lost}, its gradient {float(norm)} long; lower lr."
            )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._loss = [*self._loss, lost][-max(1, self.steps // 10) :]

    def _batch(self) -> list[tuple[Encoded, Tensor | None]]:
        found = []
        for place in range(
            self.step * self._stage.batch_size, (self.step + 1) * self._stage.batch_size
        ):
            one = self._data[self._number(place)]
            row = encode(
                one,
                self._stage.template,
                self.seeing.tokenizer,
                self.seeing.patches,
                self._stage.max_tokens,
            )
            self._count("tokens cut", row.cut)
            if not (row.labels[1:] != IGNORED).any():
                self._count("conversations without an answer before max_tokens", 1)
                continue
            pixels = None
            if one.image is not None:
                try:
                    pixels = self.seeing.transform.evaluate(one.image)
                except BrokenSample as error:
                    self._count(f"images left out: {error.kind}", 1)
                    continue
            found.append((row, pixels))
        if not found:
            raise DataError(
                f"Step {self.step} has nothing to learn from: {self.counters}; look at the images "
                f"and at max_tokens={self._stage.max_tokens}."
            )
        return found

    def _number(self, place: int) -> int:
        epoch, rest = divmod(place, len(self._data))
        if self._permuted is None or self._permuted[0] != epoch:
            order = generator(self._seed, _ORDER, epoch=2 + epoch).permutation(len(self._data))
            self._permuted = epoch, order
        return int(self._permuted[1][rest])

    def _count(self, what: str, number: int) -> None:
        if number:
            self.counters[what] = self.counters.get(what, 0) + number

    def save(self, folder: Path) -> None:
        """Write what moved, its moments and the step; then drop the checkpoint before."""
        facts = {"step": self.step, "counters": self.counters, "loss": self._loss}
        stage_folder.save(folder, self._trained, self._optimizer, facts)

    def restore(self, folder: Path) -> None:
        """Go on from the newest checkpoint, if there is one."""
        facts = stage_folder.restore(folder, self._trained, self._optimizer)
        if facts is not None:
            self.step, self.counters = facts["step"], facts["counters"]
            self._loss = facts["loss"]

    def finish(self, start: Path, out: Path) -> Trained:
        """Write the LLaVA as it came, but for what moved; drop the checkpoints."""
        model = self.seeing.model
        model.to(self._came_as)
        loss = math.fsum(self._loss) / len(self._loss)
        facts = {"steps": self.step, "loss": loss, "counters": self.counters}
        with whole_folder(out / "model") as aside, quiet():
            shutil.copytree(
                start,
                aside,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns(*_WEIGHTS, "trained.json", MARKER, ".*"),
            )
            model.save_pretrained(aside)
            (aside / "trained.json").write_text(json.dumps(facts, indent=2) + "\n")
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
        return Trained(out / "model", self.step, loss, self.counters)


def loss_sum(seeing: Llava, rows: list[Encoded], images: list[Tensor | None]) -> Tensor:
    """Return the sum over all labels of what they cost; only their places meet the vocabulary."""
    ids, labels, mask = (x.to(seeing.device) for x in padded(rows, seeing.tokenizer.pad_token_id))
    shown = [image for image in images if image is not None]
    pixels = None
    if shown:
        pixels = seeing.transform.normalise(torch.stack(shown).to(seeing.device))
        pixels = pixels.to(seeing.model.model.vision_tower.dtype)
    made = seeing.model.model(
        input_ids=ids, attention_mask=mask, pixel_values=pixels, use_cache=False
    )
    ahead = labels[:, 1:]
    learned = ahead != IGNORED
    logits = seeing.model.lm_head(made.last_hidden_state[:, :-1][learned])
    return F.cross_entropy(logits.float(), ahead[learned], reduction="sum")


def _rate(step: int, steps: int, stage: Stage) -> float:
    """Return the rate of a step: linear warm-up, then half a cosine to 0."""
    rising = math.ceil(stage.warmup * steps)
    if step < rising:
        return stage.lr * (step + 1) / rising
    return stage.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _at_least_float32(part: torch.nn.Module) -> torch.dtype:
    return torch.promote_types(next(part.parameters()).dtype, torch.float32)


def _look(seeing: Llava, conversations: Conversations) -> None:
    """Raise what the first image complains of where none of the first can be read."""
    first: BrokenSample | None = None
    for number in range(min(_LOOKED_AT, len(conversations))):
        image = conversations[number].image
        try:
            if image is None or seeing.transform.evaluate(image) is not None:
                return
        except BrokenSample as error:
            first = first or error
    assert first is not None
    raise DataError(f"None of the first images can be read; the first: {first}") from first
