"""Open everything that a run needs and refuse what does not fit, before the first step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lift import plugins
from lift.bundle import Bundle, BundleRecord
from lift.cache.reader import EmbeddingCache
from lift.config import to_dict
from lift.data.formats.texts import Texts
from lift.data.joined import sources_of
from lift.data.loader import Loader
from lift.data.provenance import Provenance, origin_of
from lift.data.rows import require_rows
from lift.data.source import left_out, open_source
from lift.data.tally import Tally
from lift.errors import CheckpointError, ConfigError, SpaceMismatch
from lift.evaluation import CachedTexts, Plan, parse_plan
from lift.model import TwoSided, build_side, count_parameters
from lift.text.encoder import space_of
from lift.training import checkpoint
from lift.training.checkpoint import TrainState
from lift.training.config import RunConfig
from lift.training.folder import RunFolder, versions
from lift.training.log import Log
from lift.training.optim import make_optimizer
from lift.training.trained_on import TrainedOn
from lift.world import Precision, choose_device, probe_precision

ORDER = 2
"""Version of the order of samples; batches of version 1 did not go on over an epoch's end."""

EQUAL_CAPTIONS_WARNING = 0.1
"""Share of captions that repeat within a batch from which a warning is due: the paper's loss
pushes an image away from a caption that is its own."""


@dataclass
class Run:
    """Everything that a run holds in hand between two steps."""

    config: RunConfig
    folder: RunFolder
    loader: Loader
    cache: EmbeddingCache
    state: TrainState
    device: torch.device
    precision: Precision
    plans: Sequence[Plan]
    log: Log
    trained_on: TrainedOn
    judged: CachedTexts | None = None

    @property
    def model(self) -> TwoSided:
        """The two sides and the objective."""
        assert isinstance(self.state.model, TwoSided)
        return self.state.model

    def bundle(self, trained_on: Provenance | None = None) -> Bundle:
        """Return the model as users will hold it: the mean of weights where one is kept."""
        judged = self.state.mean if self.state.mean is not None else self.model.image
        samples = self.state.step * self.config.step_samples
        origin: dict[str, Any] = {
            "recipe": self.config.recipe,
            "data": self.loader.source.name,
            **({} if trained_on is None else {"trained_on": origin_of(trained_on)}),
        }
        record = BundleRecord(
            image=self.config.image,
            transform=self.config.transform,
            space=self.cache.space,
            encoder=self.cache.part,
            saw=self.cache.saw,
            scalars=self.model.objective.scalars(),  # type: ignore[operator]
            origin={**origin, "samples": samples, "versions": versions()},
        )
        name, probes = self.folder.path.name, self.cache.probes()
        path = None if trained_on is None else trained_on.path
        return Bundle(
            judged,  # type: ignore[arg-type]
            record,
            name=name,
            device=self.device,
            probes=probes,
            trained_on=path,
        )


def prepare(config: RunConfig, folder: RunFolder, count: int, progress: bool) -> Run:
    """Return the run, new or restored, ready for its next step.

    Raises:
        LiftError: something does not fit; nothing was trained.
    """
    device = choose_device(config.device)
    cache = _open_cache(config)
    if not config.data:
        raise ConfigError("No data: give the pairs to train on with --data.")
    source = open_source(config.data, strict=config.loader.on_unreadable == "stop")
    if isinstance(source, Texts):
        source.read(0)  # raises: there are no images to train on
    if len(config.licences) not in (0, 1, len(sources_of(source))):
        raise ConfigError(
            f"licences names {len(config.licences)}, and the data are of "
            f"{len(sources_of(source))} sources: give one for each, or one for all."
        )
    loader = Loader(source, cache, config.transform, config.loader, config.seed)
    plans = _plans(config, cache)
    torch.manual_seed(config.seed)
    model = TwoSided(
        build_side(config.image, None, cache.dimensions),
        build_side(config.text, cache.dimensions, cache.dimensions),
        plugins.build(config.objective),
    ).to(device)
    mean = copy.deepcopy(model.image).eval() if config.ema else None
    state = TrainState(0, model, make_optimizer(model, config.optim), mean, {})
    facts = {
        "space": {**to_dict(cache.space), "fingerprint": cache.space.fingerprint},
        "pairs": {
            "source": source.name,
            "samples": len(source),
            "digest": loader.pairs.digest,
            "order": ORDER,
        },
        "device": device.type,
    }
    if folder.facts["status"] != "new":
        _require_same_world(folder, facts)
    else:
        precision, seconds = _choose_precision(config, model, loader, device)
        folder.write(
            status="running",
            recipe=config.recipe,
            precision=precision,
            probe=seconds,
            threads=count,
            versions=versions(),
            parameters=_parameters(model),
            **facts,
        )
    trained_on = TrainedOn(folder.path, len(source))
    loader.hash_into(trained_on.prints)
    if checkpoint.steps(folder.checkpoints):
        checkpoint.restore(folder.checkpoints, state)
    log = Log(folder.path, steps=config.steps, start=state.step, progress=progress)
    if state.step and not folder.finished:
        log.event("resume")
    elif not state.step:
        if config.evaluations and not config.validation:
            log.warning("No --validation: nothing judges this run; `lift eval` can do so later.")
        _say_what_is_left_out(loader, state, log)
        _warn_of_equal_captions(config, loader, log)
    precision = folder.facts["precision"]
    return Run(config, folder, loader, cache, state, device, precision, plans, log, trained_on)


def _open_cache(config: RunConfig) -> EmbeddingCache:
    """Open the cache and compare its space with the recipe's, before anything is loaded."""
    if not config.cache:
        raise ConfigError("No cache: make one with `lift embed`, then give it with --cache.")
    cache = EmbeddingCache.open(config.cache)
    if config.dimensions not in (0, cache.dimensions):
        raise ConfigError(
            f"Recipe {config.recipe} needs rows of {config.dimensions} numbers, the cache "
            f"{config.cache} has {cache.dimensions}: embed with the recipe's text encoder, or say "
            f"--set dimensions={cache.dimensions}."
        )
    if config.encoder is not None:
        cache.space.require_same(
            space_of(config.encoder),
            ours=f"the cache {config.cache}",
            theirs=f"recipe {config.recipe}",
        )
    return cache


def _require_same_world(folder: RunFolder, facts: dict[str, Any]) -> None:
    """Refuse to go on in another text space, on other pairs, or on another kind of device."""
    was, now = folder.facts["space"]["fingerprint"], facts["space"]["fingerprint"]
    if was != now:
        raise SpaceMismatch(
            f"The run in {folder.path} is in the text space {was}, the cache is in {now}: give "
            "the cache that the run was started with."
        )
    if folder.facts["pairs"].get("order") != ORDER and not folder.finished:
        raise CheckpointError(
            f"The run in {folder.path} was started by another version of lift, which goes through "
            "the data in another order: finish it with that one, or start anew with another --out."
        )
    if folder.facts["pairs"]["digest"] != facts["pairs"]["digest"]:
        raise CheckpointError(
            f"The run in {folder.path} was started on other pairs ({folder.facts['pairs']}, now "
            f"{facts['pairs']}): give the data it was started with, or another --out."
        )
    if folder.facts["device"] != facts["device"] and not folder.finished:
        raise CheckpointError(
            f"The run in {folder.path} was started on {folder.facts['device']}, here is "
            f"{facts['device']}: go on where it was started, or start anew with another --out."
        )


def _plans(config: RunConfig, cache: EmbeddingCache) -> list[Plan]:
    """Return the evaluations to run, having checked that their captions have rows."""
    if not config.evaluations or not config.validation:
        return []
    plans = [parse_plan(words, data=config.validation) for words in config.evaluations]
    for name in {plan.data for plan in plans}:
        require_rows(open_source(name), cache)
    return plans


def _choose_precision(
    config: RunConfig, model: TwoSided, loader: Loader, device: torch.device
) -> tuple[Precision, dict[str, float]]:
    """Return the run's precision: the config's, or the faster of two timed on a real batch."""
    if config.precision != "auto":
        return config.precision, {}
    batch = next(iter(loader.batches(0, 1)))
    images = config.transform.normalise(loader.images(batch.to(device)))
    before = checkpoint.generators()
    model.train()

    def step() -> None:
        model.zero_grad(set_to_none=True)
        z = model.image(images)
        z.backward(torch.ones_like(z))

    chosen, seconds = probe_precision(step, device)
    model.zero_grad(set_to_none=True)
    checkpoint.restore_generators(
        before
    )  # dropped patches and paths of step 1 are as without a probe
    return chosen, seconds


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
