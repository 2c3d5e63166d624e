"""Open everything that a run needs and refuse what does not fit, before the first step."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lift.bundle import Bundle, BundleRecord
from lift.cache.reader import EmbeddingCache
from lift.data.formats.texts import Texts as TextsOnly
from lift.data.joined import sources_of
from lift.data.loader import Loader
from lift.data.provenance import Provenance, origin_of
from lift.data.rows import require_rows
from lift.data.source import left_out, open_source
from lift.data.tally import Tally
from lift.errors import CheckpointError, ConfigError
from lift.evaluation import Plan, parse_plan
from lift.model import SideConfig, TwoSided, count_parameters
from lift.ranks import Ranks
from lift.terms import Encoder, Source
from lift.training import checkpoint
from lift.training.bank import Bank
from lift.training.before import require_possible
from lift.training.checkpoint import TrainState
from lift.training.config import RunConfig
from lift.training.counting import Counting
from lift.training.folder import RunFolder, versions
from lift.training.log import Log
from lift.training.optim import make_optimizer
from lift.training.passes import Means
from lift.training.sides import build_model, frozen
from lift.training.step import Stepper
from lift.training.texts import Texts, mean_of, open_texts, rows_shown
from lift.training.trained_on import TrainedOn
from lift.training.trying import choose_precision, try_sizes
from lift.world import Precision

ORDER = 3
"""Version of what a seed means. Batches of version 1 did not go on over an epoch's end, and what
towers drop in a step had no address before version 3."""

EQUAL_CAPTIONS_WARNING = 0.1
"""Share of captions that repeat within a batch from which a warning is due: the paper's loss
pushes an image away from a caption that is its own."""


@dataclass
class Run:
    """Everything that a run holds in hand between two steps."""

    config: RunConfig
    folder: RunFolder
    loader: Loader
    texts: Texts
    state: TrainState
    stepper: Stepper
    device: torch.device
    plans: Sequence[Plan]
    log: Log
    trained_on: TrainedOn
    ranks: Ranks
    judged: Encoder | None = None

    def __post_init__(self) -> None:
        self.counting = Counting(self)

    @property
    def model(self) -> TwoSided:
        """The two sides and the objective."""
        assert isinstance(self.state.model, TwoSided)
        return self.state.model

    def close(self) -> None:
        """Let go of the log, and of the other ranks."""
        self.stepper.close()
        self.log.close()

    def train_mode(self) -> None:
        """Put the model into training, but for what the config freezes."""
        self.model.train()
        for part in frozen(self.model, self.config):
            part.eval()

    def stages(self) -> Iterator[tuple[int, int, Loader]]:
        """Yield (first step, last step + 1, loader) of what is left of the run.

        A run with `low_resolution` shows the same crops in its first part, only smaller.
        """
        begin, switch, end = self.state.step, self.config.low_steps, self.config.steps
        if begin < switch:
            small = self.config.low_resolution.resolution
            yield begin, switch, self.loader.at_resolution(small)
        if switch < end:
            yield max(begin, switch), end, self.loader

    def bundle(self, trained_on: Provenance | None = None) -> Bundle:
        """Return the model as users will hold it: the mean of weights where one is kept."""
        mean = self.state.mean
        sides = mean if isinstance(mean, TwoSided) else self.model
        if self.config.precision == "float64":  # models are float32
            sides = copy.deepcopy(sides).float()
        config = self.config
        origin: dict[str, Any] = {
            "recipe": config.recipe,
            "data": self.loader.source.name,
            **({"start": config.start} if config.start else {}),
            **({} if trained_on is None else {"trained_on": origin_of(trained_on)}),
        }
        samples = self.state.step * config.step_samples

        def record(*, head: Any = config.head, gain: float = 1.0, **more: Any) -> BundleRecord:
            scalars = self.model.objective.scalars()  # type: ignore[operator]
            if "scale" in scalars:
                scalars["scale"] *= gain
            if "temperature" in scalars:
                scalars["temperature"] /= gain
            return BundleRecord(
                image=SideConfig(tower=config.tower, head=head),
                transform=config.transform,
                scalars=scalars,
                origin={**origin, "samples": samples, "versions": versions()},
                **more,
            )

        path = None if trained_on is None else trained_on.path
        name = self.folder.path.name
        return self.texts.bundle(sides, record, name=name, device=self.device, trained_on=path)


def prepare(
    config: RunConfig, folder: RunFolder, device: torch.device, ranks: Ranks, progress: bool
) -> Run:
    """Return the run, new or restored, ready for its next step.

    Raises:
        LiftError: something does not fit; nothing was trained.
    """
    with ranks.together():
        require_possible(config)
        source = _open_data(config)
    texts = open_texts(config, source, folder.path, ranks)
    with ranks.together():
        loader = Loader(
            source, texts.rows, config.transform, config.loader, config.seed, ranks.worker
        )
        plans = _plans(config, texts)
        model = build_model(config, texts, device)
        try_sizes(config, model, texts.width, loader, device)
        _require_same_world(folder, texts, loader, device)
    if folder.facts["status"] == "new":
        _begin(config, folder, texts, model, loader, device, ranks)
    with ranks.together():
        if ranks.first:
            TrainedOn.begin(folder.path, len(source))
    with ranks.together():
        trained_on = TrainedOn(folder.path, len(source), ranks)
    loader.hash_into(trained_on.prints)
    mean = mean_of(model) if config.ema else None
    state = TrainState(0, model, make_optimizer(model, config.optim), mean, {})
    kept = 0
    with ranks.together():
        if ranks.first:
            kept = (checkpoint.steps(folder.checkpoints) or [0])[-1]
    kept = ranks.agree(kept)
    with ranks.together():
        if kept:
            checkpoint.restore(folder.checkpoints, state, kept)
    log = Log(
        folder.path, steps=config.steps, start=state.step, progress=progress, speaks=ranks.first
    )
    if state.step and not folder.finished:
        log.event("resume", ranks=ranks.size)
    elif not state.step:
        if config.evaluations and not config.validation:
            log.warning("No --validation: nothing judges this run; `lift eval` can do so later.")
        if config.cache and config.text_tower is not None:
            log.note(f"The cache {config.cache} is not used: this run trains its own text side.")
        _say_what_is_left_out(loader, state, log)
        _warn_of_equal_captions(config, loader, log)
    with ranks.together():
        means = _means(config, folder.facts["precision"], model, texts, loader, device, ranks)
    if means.bank is not None and means.bank.size < config.bank:
        log.note(
            f"The bank has {means.bank.size:,} captions that are trained on, all of each step."
        )
    stepper = Stepper(
        means, state.optimizer, clip_norm=config.optim.clip_norm, compiled=config.compile
    )
    return Run(config, folder, loader, texts, state, stepper, device, plans, log, trained_on, ranks)


def _begin(
    config: RunConfig,
    folder: RunFolder,
    texts: Texts,
    model: TwoSided,
    loader: Loader,
    device: torch.device,
    ranks: Ranks,
) -> None:
    """Choose what is chosen once, and write down what a resumed run has to find again."""
    precision, how, measured = choose_precision(config, model, loader, device, ranks)
    facts = {
        **texts.facts,
        "recipe": config.recipe,
        "precision": precision,
        "products": how,
        "probe": measured,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "parameters": _parameters(model),
        "pairs": {
            "source": loader.source.name,
            "samples": len(loader.source),
            "digest": loader.pairs.digest,
            "order": ORDER,
        },
        "device": device.type,
    }
    with ranks.together():
        if ranks.first:
            folder.write(status="running", **facts)
    folder.facts.update(status="running", **facts)


def _open_data(config: RunConfig) -> Source:
    if not config.data:
        raise ConfigError("No data: give the pairs to train on with --data.")
    source = open_source(config.data, strict=config.loader.on_unreadable == "stop")
    if isinstance(source, TextsOnly):
        source.read(0)  # raises: there are no images to train on
    if len(config.licences) not in (0, 1, len(sources_of(source))):
        raise ConfigError(
            f"licences names {len(config.licences)}, and the data are of "
            f"{len(sources_of(source))} sources: give one for each, or one for all."
        )
    return source


def _means(
    config: RunConfig,
    precision: Precision,
    model: TwoSided,
    texts: Texts,
    loader: Loader,
    device: torch.device,
    ranks: Ranks,
) -> Means:
    condition = None
    if texts.condition is not None:
        kind = torch.float64 if precision == "float64" else torch.float32
        condition = texts.condition.to(device, kind).apply
    means = Means(
        model=model,
        transform=config.transform,
        device=device,
        precision=precision,
        ranks=ranks,
        seed=config.seed,
        decode=loader.decode,
        decode_stored=texts.rows.decode,
        condition=condition,
    )
    if config.bank:
        assert isinstance(texts.rows, EmbeddingCache), "the config says so"
        rows = rows_shown(texts.rows, loader.source, config.loader.taking_part)
        means.bank = Bank(texts.rows, rows, config.bank, config.seed, means.unit_stored)
    return means


def _require_same_world(
    folder: RunFolder, texts: Texts, loader: Loader, device: torch.device
) -> None:
    """Refuse to go on in another text space, on other pairs, or on another kind of device."""
    facts, place = folder.facts, str(folder.path)
    if facts["status"] == "new":
        return
    texts.require_same(facts, place)
    if facts["pairs"].get("order") != ORDER and not folder.finished:
        raise CheckpointError(
            f"The run in {place} was started by another version of lift, to which a seed meant "
            "another order: finish it with that one, or start anew with another --out."
        )
    now = {"source": loader.source.name, "samples": len(loader.source)}
    if facts["pairs"]["digest"] != loader.pairs.digest:
        raise CheckpointError(
            f"The run in {place} was started on other pairs ({facts['pairs']}, now {now} with "
            f"digest {loader.pairs.digest}): give the data it was started with, or another --out."
        )
    if facts["device"] != device.type and not folder.finished:
        raise CheckpointError(
            f"The run in {place} was started on {facts['device']}, here is "
            f"{device.type}: go on where it was started, or start anew with another --out."
        )


def _plans(config: RunConfig, texts: Texts) -> list[Plan]:
    """Return the evaluations to run, having checked that their captions have rows."""
    if not config.evaluations or not config.validation:
        return []
    plans = [parse_plan(words, data=config.validation) for words in config.evaluations]
    for name in {plan.data for plan in plans}:
        source = open_source(name)
        if isinstance(texts.rows, EmbeddingCache):
            require_rows(source, texts.rows)
    return plans


def _parameters(model: TwoSided) -> dict[str, int]:
    parts: dict[str, nn.Module | None] = {
        "tower": model.image.tower,
        "head": model.image.head,
        "text": model.text,
        "objective": model.objective,
    }
    return {name: count_parameters(part) if part else 0 for name, part in parts.items()}


def _say_what_is_left_out(loader: Loader, state: TrainState, log: Log) -> None:
    """Count what never becomes a sample, with the first of each reason, and how reads may stall."""
    found = Tally()
    found.update(left_out(loader.source), getattr(loader.source, "examples", {}))
    found.update(loader.pairs.unusable.counts, loader.pairs.unusable.first)
    for why, count in found.counts.items():
        state.count(f"left out, {why}", count)
        log.warning(f"{count:,} left out of {loader.source.name}: {why} ({found.first[why]}).")
    if loader.linked is not None:
        told = ", ".join(f"{n:,} {role}" for role, n in loader.linked.counts.items())
        log.note(
            f"The cache ties {told} to these images; {loader.linked.strangers:,} captions in it "
            "are tied to other keys."
        )
    promise = getattr(loader.source, "promise", str)()
    if promise:
        log.note(promise)


def _warn_of_equal_captions(config: RunConfig, loader: Loader, log: Log) -> None:
    if config.objective.options.get("share_equal", True):
        return  # twins share their positives, or the objective has no negatives
    share = loader.equal_caption_share()
    if share > EQUAL_CAPTIONS_WARNING:
        log.warning(
            f"{share:.0%} of the captions in a batch of {config.loader.batch_size} have a twin in "
            "it, and the loss treats twins as negatives: set objective.share_equal=true."
        )
