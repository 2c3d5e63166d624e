"""Open everything that a run needs and refuse what does not fit, before the first step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from lift.cache.features import FeatureCache
from lift.cache.reader import EmbeddingCache
from lift.data.formats.texts import Texts as TextsOnly
from lift.data.joined import sources_of
from lift.data.loader import Loader
from lift.data.rows import require_rows
from lift.data.source import left_out, open_source
from lift.data.tally import Tally
from lift.errors import CheckpointError, ConfigError
from lift.evaluation import Plan, parse_plan
from lift.model import TwoSided, count_parameters
from lift.ranks import Ranks
from lift.terms import Source
from lift.training import checkpoint
from lift.training.anchor import Start
from lift.training.before import require_possible
from lift.training.checkpoint import TrainState
from lift.training.config import RunConfig
from lift.training.folder import RunFolder
from lift.training.given import require_same_tower, standardise
from lift.training.guard import Guard
from lift.training.log import Log
from lift.training.means import means_of, teacher_of
from lift.training.optim import make_optimizer
from lift.training.passes import Means
from lift.training.run import Run
from lift.training.sides import build_model
from lift.training.step import Stepper
from lift.training.texts import Texts, copy_of, mean_of, open_texts
from lift.training.trained_on import TrainedOn
from lift.training.trying import choose_precision, try_sizes
from lift.world import versions

ORDER = 3
"""Version of what a seed means. Batches of version 1 did not go on over an epoch's end, and what
towers drop in a step had no address before version 3."""

EQUAL_CAPTIONS_WARNING = 0.1
"""Share of captions that repeat within a batch from which a warning is due: the paper's loss
pushes an image away from a caption that is its own."""


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
        features = _features(config)
        loader = Loader(
            *(source, texts.rows, config.transform, config.loader, config.seed, ranks.worker),
            images=features,
            teacher=FeatureCache.open(config.anchor.cache) if config.anchor.cache else None,
        )
        plans = _plans(config, texts)
        watch = Guard(config.guard, folder.path)
        teacher = teacher_of(config, loader, texts, device)
        model, notes = build_model(config, texts, device)
        require_same_tower(config, model, features)
        standardise(model, features)
        held = config.anchor.pulls and not config.anchor.cache
        start = Start(model.image, config.anchor) if held else None
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
    state = _state(config, model)
    kept = 0
    with ranks.together():
        if ranks.first:
            kept = (checkpoint.steps(folder.checkpoints) or [0])[-1]
    kept = ranks.agree(kept)
    with ranks.together():
        if kept:
            checkpoint.restore(folder.checkpoints, state, kept)
    with ranks.together():
        means = means_of(config, folder.facts["precision"], model, texts, loader, device, ranks)
        means.start, means.decode_teacher = start, teacher
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
        _say_what_is_left_out(loader, state, log, notes)
        _warn_of_equal_captions(config, loader, log)
    _tell_of_bank(config, means, log)
    stepper = Stepper(
        means, state.optimizer, clip_norm=config.optim.clip_norm, compiled=config.compile
    )
    return Run(
        *(config, folder, loader, texts, state, stepper, device, plans, log, trained_on, ranks),
        guard=watch,
        features=features,
    )


def _tell_of_bank(config: RunConfig, means: Means, log: Log) -> None:
    if means.bank is not None and means.bank.size < config.bank:
        log.note(
            f"The bank has {means.bank.size:,} captions that are trained on, all of each step."
        )


def _state(config: RunConfig, model: TwoSided) -> TrainState:
    """Return the state before the first step."""
    # A tower whose features are stored is shared by all copies, and found again without them.
    tower = model.image.tower if config.features else None
    still = () if tower is None else (tower,)
    return TrainState(
        0,
        model,
        make_optimizer(model, config.optim),
        mean_of(model, still) if config.ema else None,
        {},
        best=copy_of(model, still) if config.patience else None,
        still=("image.tower.",) if still else (),
    )


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
        **({"features": loader.image_space} if loader.image_space else {}),
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


def _features(config: RunConfig) -> FeatureCache | None:
    return FeatureCache.open(config.features) if config.features else None


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
    if facts.get("features", loader.image_space) != loader.image_space:
        raise CheckpointError(
            f"The run in {place} was started on features of the image space {facts['features']}, "
            f"these are of {loader.image_space}: give those that it was started with, or another "
            "--out."
        )
    if facts["device"] != device.type and not folder.finished:
        raise CheckpointError(
            f"The run in {place} was started on {facts['device']}, here is "
            f"{device.type}: go on where it was started, or start anew with another --out."
        )


def _plans(config: RunConfig, texts: Texts) -> list[Plan]:
    """Return the evaluations to run, having checked that their captions have rows.

    Raises:
        ConfigError: nothing to judge by, and the run is to end when it gets no better.
    """
    if config.patience and not config.validation:
        raise ConfigError(
            f"patience={config.patience} ends the run when it gets no better, and nothing judges "
            "it: give --validation, or --set patience=0."
        )
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


def _say_what_is_left_out(
    loader: Loader, state: TrainState, log: Log, notes: Sequence[str]
) -> None:
    """Count what never becomes a sample, with the first of each reason, and how reads may stall.

    Notes say what of the start is left out.
    """
    for note in notes:
        log.note(note)
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
