"""The run: from a resolved config to a saved, judged model, resumable at any moment."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from lift.data.provenance import Provenance
from lift.errors import CheckpointError, DataError, Stopped
from lift.files import LOCK, sole_writer
from lift.ranks import Ranks, joined
from lift.results import read_result, write_results
from lift.terms import Batch, EvalResult
from lift.training import checkpoint
from lift.training.budget import budget
from lift.training.config import RunConfig
from lift.training.folder import RunFolder, clear_beginning, open_run
from lift.training.given import filled
from lift.training.judging import encoder_of, judge, look_back, measure_start
from lift.training.log import Meter, finite
from lift.training.memory import is_shortage, peak_bytes, shortage
from lift.training.optim import learning_rate, set_rate, update_mean
from lift.training.patience import note_best
from lift.training.prepare import prepare
from lift.training.profile import Watch
from lift.training.run import Run
from lift.training.stop import StopRequest
from lift.training.transfer import moved
from lift.world import choose_device, products, threads

_COLLECT_EVERY = 1000
"""Steps after which ranks put together what they met, however rarely they log or save."""


@dataclass(frozen=True)
class RunResult:
    """What a run ended with.

    Attributes:
        folder: the run's folder; `lift.load` takes it.
        results: the final evaluations.
        steps: optimiser steps done.
        seconds: wall time of the steps, resumed parts included.
        counters: samples dropped, by reason.
        told: whether this process is the one that speaks for the run.
    """

    folder: Path
    results: tuple[EvalResult, ...]
    steps: int
    seconds: float
    counters: dict[str, int]
    told: bool = True


def run(config: RunConfig, out: Path, *, resume: bool = False, progress: bool = True) -> RunResult:
    """Train what `config` says into the folder `out`, or go on with what is there.

    The same call continues a run that was killed. On the same machine, with as many processes,
    the weights end bit-equal to those of a run that was never stopped: threads and precision are
    chosen once and stored. Under `torchrun` all processes make the call; the first one writes.

    Args:
        config: from a recipe.
        out: the run's folder; several machines have to share it.
        resume: insist that there is something to go on with.
        progress: whether to draw a progress bar.

    Raises:
        LiftError: bad input, named; nothing was trained.
        NotFinite: the loss or a gradient was not finite; the last checkpoint stands.
        NotEnoughMemory: with what to change; the last checkpoint stands.
        RankLost: another process of the run ended; the last checkpoint stands.
        Stopped: SIGTERM or Ctrl-C; the state is saved.
    """
    config = filled(config).resolved()
    device = choose_device(config.device)
    # The caller's own chance goes on as if nothing had been drawn here.
    own = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with own, joined(device) as ranks, StopRequest() as stop:
        with contextlib.ExitStack() as held:
            with ranks.together():
                if ranks.first:
                    begun = open_run(out, config, resume=resume)
                    held.enter_context(sole_writer(out))
                    if begun.facts["status"] == "new":
                        clear_beginning(out)
            with ranks.together():
                folder = open_run(out, config, resume=resume and ranks.first)
            _require_shared(folder, ranks)
            count = folder.facts.get("threads") or config.threads or torch.get_num_threads()
            held.enter_context(threads(ranks.agree(count)))
            with _explained(config, config.dimensions or 512, device, ranks):
                current = prepare(config, folder, device, ranks, progress and ranks.first)
            try:
                with products(current.folder.facts.get("products", "highest")):
                    if not folder.finished:
                        measure_start(current)
                        _loop(current, stop)
                    return _finish(current, stop)
            finally:
                current.close()


def _loop(run: Run, stop: StopRequest) -> None:
    """Take every step that is left; once in a while report, judge and save."""
    config, accumulate = run.config, run.config.optim.accumulate
    with (
        _explained(config, run.texts.width, run.device, run.ranks),
        Watch(config.profile, run.folder.path, run.ranks) as watch,
    ):
        for start, end, loader in run.stages():
            made = loader.batches(
                start * accumulate, end * accumulate, pin=run.device.type == "cuda"
            )
            with contextlib.closing(made):  # an error may hold this frame, and workers with it
                _steps(run, stop, watch, moved(made, run.device, loader.images), end)


@contextlib.contextmanager
def _explained(config: RunConfig, width: int, device: torch.device, ranks: Ranks) -> Iterator[None]:
    """Say what to change where memory runs out in a block.

    Raises:
        NotEnoughMemory: with numbers.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        needs, slim = (budget(c, width) for c in (config, config.with_checkpointing()))
        raise shortage(config, needs, slim, device, ranks.size) from error


def _require_shared(folder: RunFolder, ranks: Ranks) -> None:
    """Raise CheckpointError where ranks don't see the same folder."""
    seen = ranks.hear([folder.facts["status"], (folder.path / LOCK).exists()])
    for rank, other in enumerate(seen):
        if other != seen[0]:
            raise ranks.agreed(
                CheckpointError(
                    f"Process {rank} does not see the same {folder.path} as the first one: choose "
                    "a folder with --out that all machines share."
                )
            )


def _steps(run: Run, stop: StopRequest, watch: Watch, batches: Iterator[Batch], end: int) -> None:
    config, state, counting = run.config, run.state, run.counting
    meter, wish = Meter(run.loader.wait_s), False
    run.train_mode()
    while state.step < end and not state.given_up:
        if wish if run.ranks.size > 1 else stop.name:
            _leave(run, stop)
        started = time.perf_counter()
        step_batches = _next_batches(run, stop, batches)
        counting.add(step_batches)
        rate = learning_rate(state.step, config.steps, config.optim)
        set_rate(state.optimizer, rate)
        report = run.stepper.take(
            step_batches,
            state.step,
            tiles=config.tiles_of(state.step),
            sources=len(run.loader.sources) if _wants_sources(run) else 0,
            wish=bool(stop.name),
        )
        wish = report.wish
        if state.mean is not None and config.ema is not None:
            update_mean(state.mean, run.model, config.ema, state.step)
        state.step += 1
        run.log.advance()
        watch.step()
        state.seconds += time.perf_counter() - started
        meter.add(report, time.perf_counter() - started)
        _once_in_a_while(run, meter, rate, last=state.step == config.steps)


def _wants_sources(run: Run) -> bool:
    several = len(run.loader.sources) > 1
    return several and _is_due(run, run.state.step + 1, run.config.log_every)


def _next_batches(run: Run, stop: StopRequest, batches: Iterator[Batch]) -> list[Batch]:
    """Return the own batches of the next step.

    Where the whole group of processes was told to end, data workers may be gone before anybody
    looks; alone, the state is saved all the same.
    """
    try:
        return [next(batches) for _ in range(run.config.optim.accumulate)]
    except DataError:
        if stop.name and run.ranks.size == 1:
            _leave(run, stop)
        raise


def _leave_if_asked(run: Run, stop: StopRequest) -> None:
    """Stop if a signal asked any rank for it; each calls this at the same point."""
    if run.ranks.any(bool(stop.name)):
        _leave(run, stop)


def _leave(run: Run, stop: StopRequest) -> None:
    """Save the state, unless it is saved already, and raise Stopped.

    A signal may reach one process before the others: all leave after the same step.
    """
    state = run.state
    run.counting.collect()
    with run.ranks.together():
        kept = checkpoint.steps(run.folder.checkpoints) if run.ranks.first else [state.step]
        if state.step and kept[-1:] != [state.step]:
            checkpoint.save(run.folder.checkpoints, state)
    sentence = (
        f"Stopped by {stop.name or 'a signal'} after step {state.step} of {run.config.steps}; the "
        "state is saved. Run the same command again to go on."
    )
    raise Stopped(sentence if run.ranks.first else "")


def _once_in_a_while(run: Run, meter: Meter, rate: float, *, last: bool) -> None:
    config, state = run.config, run.state

    def due(every: int) -> bool:
        return _is_due(run, state.step, every)

    if any(map(due, (config.log_every, config.checkpoint_every, _COLLECT_EVERY))):
        run.counting.collect()
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
                "peak_bytes": peak_bytes(run.device),
            }
        )
        _warn_of_guessing(run, facts["loss"])
    breach = None
    if config.evaluate_every and due(config.evaluate_every) and (not last or config.patience):
        results = judge(run)
        run.log.evaluation(state.step, results)
        if config.patience:
            note_best(run, results)
        breach = look_back(run)
        run.train_mode()
    if due(config.checkpoint_every) or state.given_up or breach:
        with run.ranks.together():
            if run.ranks.first:
                run.trained_on.flush()
                checkpoint.save(run.folder.checkpoints, state)
    if breach:
        raise breach


def _is_due(run: Run, step: int, every: int) -> bool:
    return step == run.config.steps or (every > 0 and step % every == 0)


def _warn_of_guessing(run: Run, loss: float | None) -> None:
    """Say so when a contrastive loss sits where blind guessing puts it: ln(texts)."""
    config, step = run.config, run.state.step
    guessing = math.log(config.step_samples)
    late = step >= max(2 * config.optim.warmup_steps, 200)
    on_the_mark = late and step - config.log_every < max(2 * config.optim.warmup_steps, 200)
    if on_the_mark and loss is not None and abs(loss - guessing) < 0.01 * guessing:
        run.log.warning(
            f"After {step} steps the loss {loss:.3f} still is that of guessing, ln(batch) = "
            f"{guessing:.3f}: check that images and captions belong together, or change optim.lr."
        )


def _finish(run: Run, stop: StopRequest) -> RunResult:
    """Save the model, judge it, and say that the run is finished."""
    folder, ranks = run.folder, run.ranks
    evals = folder.path / "evals"
    if folder.finished:
        results = [read_result(evals / name) for name in folder.facts["results"]]
        return _result(run, results)
    _leave_if_asked(run, stop)
    trained_on = None
    run.judged = None  # the model as it is saved
    if breach := look_back(run, encoder_of(run, now=False)):
        raise breach
    with ranks.together():
        if ranks.first:
            trained_on = run.trained_on.save(run.loader.source, run.config)
            run.bundle(trained_on).save(folder.model)
    _leave_if_asked(run, stop)
    results = judge(run, trained_on, now=False)
    with ranks.together():
        if ranks.first:
            _write_down(run, results, trained_on)
    return _result(run, results)


def _write_down(run: Run, results: list[EvalResult], trained_on: Provenance | None) -> None:
    state, folder = run.state, run.folder
    if trained_on is not None and trained_on.fits_a_model:
        trained_on.path.unlink()  # the model has it
    run.log.evaluation(state.step, results)
    run.log.event("counters", counters=state.counters)
    run.log.event("memory", peak_bytes=peak_bytes(run.device), device=str(run.device))
    paths = write_results(results, folder.path / "evals")
    folder.write(
        status="finished",
        seconds=round(state.seconds, 3),
        counters=state.counters,
        results=[path.name for path in paths],
    )


def _result(run: Run, results: list[EvalResult]) -> RunResult:
    state = run.state
    return RunResult(
        run.folder.path,
        tuple(results),
        state.step,
        state.seconds,
        dict(state.counters),
        told=run.ranks.first,
    )
