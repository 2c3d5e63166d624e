"""The run: from a resolved config to a saved, judged model, resumable at any moment."""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lift import plugins
from lift.bundle import Bundle, BundleRecord
from lift.cache.reader import EmbeddingCache
from lift.config import to_dict
from lift.data.loader import Loader, require_rows
from lift.data.source import open_source
from lift.errors import ConfigError, Stopped
from lift.evaluation import CachedTexts, Plan, evaluate, parse_plan, read_results, write_results
from lift.files import sole_writer
from lift.model import TwoSided, build_side, count_parameters
from lift.terms import EvalResult
from lift.text.encoder import space_of
from lift.training import checkpoint
from lift.training.checkpoint import TrainState
from lift.training.config import RunConfig
from lift.training.folder import RunFolder, open_run, versions
from lift.training.log import Log, finite
from lift.training.optim import learning_rate, make_optimizer, update_mean
from lift.training.step import StepReport, train_step
from lift.world import Precision, choose_device, probe_precision, threads

EQUAL_CAPTIONS_WARNING = 0.1
"""Share of captions that repeat within a batch from which a warning is due: the paper's loss
pushes an image away from a caption that is its own."""


@dataclass(frozen=True)
class RunResult:
    """What a run ended with.

    Attributes:
        folder: the run's folder; `lift.load` takes it.
        results: the final evaluations.
        steps: optimiser steps done.
        seconds: wall time of the steps, resumed parts included.
        counters: samples dropped, by reason.
    """

    folder: Path
    results: tuple[EvalResult, ...]
    steps: int
    seconds: float
    counters: dict[str, int]


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
    judged: CachedTexts | None = None

    @property
    def model(self) -> TwoSided:
        """The two sides and the objective."""
        assert isinstance(self.state.model, TwoSided)
        return self.state.model

    def bundle(self) -> Bundle:
        """Return the model as users will hold it: the mean of weights where one is kept."""
        judged = self.state.mean if self.state.mean is not None else self.model.image
        samples = self.state.step * self.config.step_samples
        origin = {"recipe": self.config.recipe, "data": self.loader.source.name}
        record = BundleRecord(
            image=self.config.image,
            transform=self.config.transform,
            space=self.cache.space,
            encoder=self.cache.part,
            saw=self.cache.saw,
            scalars=self.model.objective.scalars(),  # type: ignore[operator]
            origin={**origin, "samples": samples, "versions": versions()},
        )
        return Bundle(judged, record, name=self.folder.path.name, device=self.device)  # type: ignore[arg-type]


class _StopRequest:
    """Notes SIGTERM and Ctrl-C so that the loop can end between two steps."""

    def __init__(self) -> None:
        self.name = ""

    def __enter__(self) -> _StopRequest:
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if self.name:  # asked twice: leave at once, the last checkpoint stands
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name


def run(config: RunConfig, out: Path, *, resume: bool = False, progress: bool = True) -> RunResult:
    """Train what `config` says into the folder `out`, or go on with what is there.

    The same call continues a run that was killed. On the same machine the weights end bit-equal
    to those of a run that was never stopped: threads and precision are chosen once and stored.

    Args:
        config: from a recipe.
        out: the run's folder.
        resume: insist that there is something to go on with.
        progress: whether to draw a progress bar.

    Raises:
        LiftError: bad input, named; nothing was trained.
        NotFinite: the loss or a gradient was not finite; the last checkpoint stands.
        Stopped: SIGTERM or Ctrl-C; the state is saved.
    """
    config = config.resolved()
    folder = open_run(out, config, resume=resume)
    count = folder.facts.get("threads") or config.threads or torch.get_num_threads()
    with sole_writer(out), threads(count):
        current = _prepare(config, folder, count, progress)
        try:
            if not folder.finished:
                _loop(current)
            return _finish(current)
        finally:
            current.log.close()


def _prepare(config: RunConfig, folder: RunFolder, count: int, progress: bool) -> Run:
    """Open everything and refuse whatever does not fit, before the first step."""
    device = choose_device(config.device)
    cache = _open_cache(config)
    source = open_source(config.data)
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
    if folder.facts["status"] == "new":
        precision, seconds = _choose_precision(config, model, loader, device)
        folder.write(
            status="running",
            recipe=config.recipe,
            space={**to_dict(cache.space), "fingerprint": cache.space.fingerprint},
            precision=precision,
            probe=seconds,
            threads=count,
            versions=versions(),
            parameters=_parameters(model),
            pairs=len(source),
        )
    if checkpoint.steps(folder.checkpoints):
        checkpoint.restore(folder.checkpoints, state)
    log = Log(folder.path, steps=config.steps, start=state.step, progress=progress)
    if state.step:
        log.event("resume", step=state.step)
    else:
        _warn_of_equal_captions(config, loader, log)
    precision = folder.facts["precision"]
    return Run(config, folder, loader, cache, state, device, precision, plans, log)


def _open_cache(config: RunConfig) -> EmbeddingCache:
    """Open the cache and compare its space with the recipe's, before anything is loaded."""
    if not config.cache:
        raise ConfigError("No cache: make one with `lift embed`, then give it with --cache.")
    cache = EmbeddingCache.open(Path(config.cache))
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
    images = config.transform.normalise(batch.images.to(device))
    generators = torch.get_rng_state()
    model.train()

    def step() -> None:
        model.zero_grad(set_to_none=True)
        z = model.image(images)
        z.backward(torch.ones_like(z))

    chosen, seconds = probe_precision(step, device)
    model.zero_grad(set_to_none=True)
    torch.set_rng_state(generators)  # dropped patches and paths of step 1 are as without a probe
    return chosen, seconds


def _parameters(model: TwoSided) -> dict[str, int]:
    parts: dict[str, nn.Module | None] = {
        "tower": model.image.tower,
        "head": model.image.head,
        "text": model.text,
        "objective": model.objective,
    }
    return {name: count_parameters(part) if part else 0 for name, part in parts.items()}


def _warn_of_equal_captions(config: RunConfig, loader: Loader, log: Log) -> None:
    if config.objective.options.get("share_equal", True):
        return  # twins share their positives, or the objective has no negatives
    share = loader.equal_caption_share()
    if share > EQUAL_CAPTIONS_WARNING:
        log.warning(
            f"{share:.0%} of the captions in a batch of {config.loader.batch_size} have a twin in "
            "it, and the loss treats twins as negatives: set objective.share_equal=true."
        )


def _loop(run: Run) -> None:
    """Take every step that is left; once in a while report, judge and save."""
    config, state = run.config, run.state
    accumulate = config.optim.accumulate
    batches = run.loader.batches(state.step * accumulate, config.steps * accumulate)
    meter = _Meter(run.loader.wait_s)
    run.model.train()
    with _StopRequest() as stop:
        while state.step < config.steps:
            started = time.perf_counter()
            step_batches = [next(batches) for _ in range(accumulate)]
            _count_dropped(run, step_batches)
            rate = learning_rate(state.step, config.steps, config.optim)
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            report = train_step(
                run.model,
                state.optimizer,
                step_batches,
                config.transform,
                clip_norm=config.optim.clip_norm,
                device=run.device,
                precision=run.precision,
            )
            if state.mean is not None and config.ema is not None:
                update_mean(state.mean, run.model.image, config.ema, state.step)
            state.step += 1
            state.seconds += time.perf_counter() - started
            meter.add(report, time.perf_counter() - started)
            _once_in_a_while(run, meter, rate, last=state.step == config.steps)
            if stop.name and state.step < config.steps:
                checkpoint.save(run.folder.checkpoints, state)
                raise Stopped(
                    f"Stopped by {stop.name} after step {state.step} of {config.steps}; the state "
                    "is saved. Run the same command again to go on."
                )


def _once_in_a_while(run: Run, meter: _Meter, rate: float, *, last: bool) -> None:
    config, state = run.config, run.state

    def due(every: int) -> bool:
        return last or (every > 0 and state.step % every == 0)

    if due(config.log_every):
        facts = meter.facts(run.loader.wait_s)
        samples = state.step * config.step_samples
        run.log.step(
            {
                "step": state.step,
                "epoch": round(samples / len(run.loader.source), 4),
                "samples": samples,
                "lr": rate,
                **facts,
                **run.model.objective.scalars(),  # type: ignore[operator]
                "seconds": round(state.seconds, 3),
            }
        )
        _warn_of_guessing(run, facts["loss"])
    run.log.advance()
    if config.evaluate_every and due(config.evaluate_every) and not last:
        run.log.evaluation(state.step, _judge(run))
    if due(config.checkpoint_every):
        checkpoint.save(run.folder.checkpoints, state)


def _warn_of_guessing(run: Run, loss: float | None) -> None:
    """Say so when a contrastive loss sits where blind guessing puts it: ln(batch)."""
    config, step = run.config, run.state.step
    guessing = math.log(config.loader.batch_size)
    late = step >= max(2 * config.optim.warmup_steps, 200)
    on_the_mark = late and step - config.log_every < max(2 * config.optim.warmup_steps, 200)
    if on_the_mark and loss is not None and abs(loss - guessing) < 0.01 * guessing:
        run.log.warning(
            f"After {step} steps the loss {loss:.3f} still is that of guessing, ln(batch) = "
            f"{guessing:.3f}: check that images and captions belong together, or change optim.lr."
        )


def _count_dropped(run: Run, batches: Sequence[Any]) -> None:
    for batch in batches:
        for key, reason in batch.dropped:
            name = "unreadable images"
            run.state.counters[name] = run.state.counters.get(name, 0) + 1
            if run.state.counters[name] <= 20:  # the count goes on, the naming ends
                run.log.warning(f"sample {key!r} left out: {reason}")


def _judge(run: Run) -> list[EvalResult]:
    if run.judged is None:  # holds the towers themselves, and what the text encoder said
        run.judged = CachedTexts(run.bundle(), run.cache)
    return evaluate(run.judged, run.plans, progress=False)


def _finish(run: Run) -> RunResult:
    """Save the model, judge it, and say that the run is finished."""
    state, folder = run.state, run.folder
    if folder.finished:
        results = read_results(folder.path / "evals") if run.plans else []
    else:
        run.bundle().save(folder.model)
        results = _judge(run)
        run.log.evaluation(state.step, results)
        run.log.event("counters", counters=state.counters)
        write_results(results, folder.path / "evals")
        folder.write(status="finished", seconds=round(state.seconds, 3), counters=state.counters)
    return RunResult(folder.path, tuple(results), state.step, state.seconds, dict(state.counters))


class _Meter:
    """Means since the last report: loss, speed, share of time spent waiting for data."""

    def __init__(self, waited: float) -> None:
        self._waited = waited
        self._reset()

    def _reset(self) -> None:
        self._losses: list[float] = []
        self._norm = 0.0
        self._images = 0
        self._seconds = 0.0

    def add(self, report: StepReport, seconds: float) -> None:
        """Take in one step."""
        self._losses.append(report.loss)
        self._norm = max(self._norm, report.grad_norm)
        self._images += report.images
        self._seconds += seconds

    def facts(self, waited: float) -> dict[str, Any]:
        """Return the means and start anew."""
        seconds = max(self._seconds, 1e-9)
        facts = {
            "loss": finite(sum(self._losses) / len(self._losses)),
            "grad_norm": finite(self._norm),
            "img_per_s": round(self._images / seconds, 2),
            "wait": round((waited - self._waited) / seconds, 4),
        }
        self._waited = waited
        self._reset()
        return facts
