"""The run: from a resolved config to a saved, judged model, resumable at any moment."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lift.data.kinds import CAPTION_ROLES, OF_CAPTIONS
from lift.data.provenance import Provenance
from lift.errors import Stopped
from lift.evaluation import CachedTexts, evaluate, read_result, write_results
from lift.files import sole_writer
from lift.terms import Batch, EvalResult
from lift.training import checkpoint
from lift.training.config import RunConfig
from lift.training.folder import open_run
from lift.training.log import Meter, finite
from lift.training.optim import learning_rate, update_mean
from lift.training.prepare import Run, prepare
from lift.training.step import train_step
from lift.training.stop import StopRequest
from lift.training.transfer import moved
from lift.world import threads

NAMED = 20
"""Unreadable images that a run names; the others are counted."""


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
    with sole_writer(out), threads(count), StopRequest() as stop:
        current = prepare(config, folder, count, progress)
        try:
            if not folder.finished:
                _loop(current, stop)
            return _finish(current, stop)
        finally:
            current.log.close()


def _loop(run: Run, stop: StopRequest) -> None:
    """Take every step that is left; once in a while report, judge and save."""
    config, state = run.config, run.state
    accumulate = config.optim.accumulate
    made = run.loader.batches(
        state.step * accumulate, config.steps * accumulate, pin=run.device.type == "cuda"
    )
    with contextlib.closing(made):  # an error may hold this frame, and workers with it
        _steps(run, stop, moved(made, run.device, run.loader.images))


def _steps(run: Run, stop: StopRequest, batches: Iterator[Batch]) -> None:
    config, state = run.config, run.state
    several = len(run.loader.sources) > 1
    meter = Meter(run.loader.wait_s)
    run.model.train()
    while state.step < config.steps:
        _leave_if_asked(run, stop)
        started = time.perf_counter()
        step_batches = [next(batches) for _ in range(config.optim.accumulate)]
        _count(run, step_batches)
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
            decode=run.loader.decode,
            by_source=several and _is_due(run, state.step + 1, config.log_every),
        )
        if state.mean is not None and config.ema is not None:
            update_mean(state.mean, run.model.image, config.ema, state.step)
        state.step += 1
        run.log.advance()
        state.seconds += time.perf_counter() - started
        meter.add(report, time.perf_counter() - started)
        _once_in_a_while(run, meter, rate, last=state.step == config.steps)


def _leave_if_asked(run: Run, stop: StopRequest) -> None:
    """Save the state, unless it is saved already, and raise Stopped if a signal asked for it."""
    if not stop.name:
        return
    state, folder = run.state, run.folder.checkpoints
    if state.step and checkpoint.steps(folder)[-1:] != [state.step]:
        checkpoint.save(folder, state)
    raise Stopped(
        f"Stopped by {stop.name} after step {state.step} of {run.config.steps}; the state is "
        "saved. Run the same command again to go on."
    )


def _once_in_a_while(run: Run, meter: Meter, rate: float, *, last: bool) -> None:
    config, state = run.config, run.state

    def due(every: int) -> bool:
        return _is_due(run, state.step, every)

    if due(config.log_every):
        facts = meter.facts(run.loader.wait_s)
        samples = state.step * config.step_samples
        for number, loss in facts.pop("by_source").items():
            facts[f"loss, {run.loader.sources[number].name}"] = finite(loss)
        run.log.step(
            {
                "step": state.step,
                "epoch": round(samples / run.loader.samples_per_epoch, 4),
                "samples": samples,
                "lr": rate,
                **facts,
                **run.model.objective.scalars(),  # type: ignore[operator]
                "seconds": round(state.seconds, 3),
            }
        )
        _warn_of_guessing(run, facts["loss"])
    if config.evaluate_every and due(config.evaluate_every) and not last:
        run.log.evaluation(state.step, _judge(run))
    if due(config.checkpoint_every):
        run.trained_on.flush()
        checkpoint.save(run.folder.checkpoints, state)


def _is_due(run: Run, step: int, every: int) -> bool:
    return step == run.config.steps or (every > 0 and step % every == 0)


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


def _count(run: Run, batches: Sequence[Batch]) -> None:
    """Count images by source; name each sample that can't be used once, and count it by kind."""
    state = run.state
    for batch in batches:
        run.trained_on.add(batch)
        if len(run.loader.sources) > 1:
            for number, images in zip(*batch.source.unique(return_counts=True), strict=True):
                what = f"images of {run.loader.sources[int(number)].name}"
                state.count(what, int(images))
        for key, kind, reason in batch.dropped:
            state.count("views left out")
            if key not in state.unreadable:
                state.unreadable.add(key)
                if kind in OF_CAPTIONS and not (kind == CAPTION_ROLES and run.loader.linked):
                    continue  # counted and named when the captions were read
                state.count(f"left out, {kind}")
                if len(state.unreadable) <= NAMED:  # the count goes on, the naming ends
                    run.log.warning(f"left out: {reason}")


def _judge(run: Run, trained_on: Provenance | None = None) -> list[EvalResult]:
    if run.judged is None:  # holds the towers themselves, and what the text encoder said
        run.judged = CachedTexts(run.bundle(), run.cache)
    return evaluate(run.judged, run.plans, progress=False, trained_on=trained_on)


def _finish(run: Run, stop: StopRequest) -> RunResult:
    """Save the model, judge it, and say that the run is finished."""
    state, folder = run.state, run.folder
    evals = folder.path / "evals"
    if folder.finished:
        results = [read_result(evals / name) for name in folder.facts["results"]]
    else:
        _leave_if_asked(run, stop)
        trained_on = run.trained_on.save(run.loader.source, run.config)
        run.bundle(trained_on).save(folder.model)
        _leave_if_asked(run, stop)
        results = _judge(run, trained_on)
        if trained_on.fits_a_model:
            trained_on.path.unlink()  # the model has it
        run.log.evaluation(state.step, results)
        run.log.event("counters", counters=state.counters)
        paths = write_results(results, evals)
        folder.write(
            status="finished",
            seconds=round(state.seconds, 3),
            counters=state.counters,
            results=[path.name for path in paths],
        )
    return RunResult(folder.path, tuple(results), state.step, state.seconds, dict(state.counters))
