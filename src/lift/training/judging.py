"""What evaluations say of a run: of the model as it is, as it is saved, and of its start."""

from __future__ import annotations

from lift.bundle import load as load_bundle
from lift.data.provenance import Provenance
from lift.encoders import Shared
from lift.errors import LiftError
from lift.evaluation import evaluate
from lift.terms import Encoder, EvalResult
from lift.training import guard
from lift.training.run import Run


def encoder_of(run: Run, *, now: bool) -> Encoder:
    """Return what evaluations see; ranks share the images, and each gets all vectors."""
    still = run.texts.keeps_still and run.config.precision != "float64"
    if run.judged is None or not still:
        # Holds the towers themselves, and what a fixed text encoder said.
        run.judged = run.judging(run.texts.judged(run.bundle(now=now), run.ranks))
    return run.judged


def judge(run: Run, trained_on: Provenance | None = None, *, now: bool = True) -> list[EvalResult]:
    """Return what the evaluations find."""
    return evaluate(encoder_of(run, now=now), run.plans, progress=False, trained_on=trained_on)


def measure_start(run: Run) -> None:
    """Find out once what the start can do, where the run is to be held to it."""
    with run.ranks.together():
        known = run.guard.read()
        broken = run.guard.broken() if run.state.step else None
    if broken:
        raise run.ranks.agreed(run.guard.regressed(broken, run.state.step))
    if known:
        return
    start = load_bundle(run.config.start, device=str(run.device)) if run.config.start else None
    # A start that answers in a space of its own is asked there: that is what users will miss.
    encoder = (
        run.texts.judged(run.bundle(now=True), run.ranks)
        if start is None
        else Shared(start, run.ranks)
    )
    results = run.guard.measure(run.judging(encoder))
    with run.ranks.together():
        if run.ranks.first:
            run.guard.keep(results, guard.BEFORE)
    run.guard.before = results
    run.log.note(f"The start was measured on {len(results)} evaluation(s) that it is held to.")


def look_back(run: Run, encoder: Encoder | None = None) -> LiftError | None:
    """Say what became of the start's figures; return the error where they shall end the run."""
    if not run.guard.plans:
        return None
    results = run.guard.measure(encoder or encoder_of(run, now=True))
    found = run.guard.compared(results)
    run.log.event(
        "guard",
        step=run.state.step,
        changes=[[c.what, c.before.value, c.after.value, c.breach] for c in found],
    )
    # One rank decides: on another machine a figure may end in another digit.
    broken = run.ranks.agree(any(change.breach for change in found))
    ends = broken and run.config.guard.on_breach == "stop"
    if encoder is not None or ends:
        with run.ranks.together():
            if run.ranks.first:
                run.guard.keep(results, guard.AFTER)
        run.log.note(guard.table(found))
    return run.ranks.agreed(run.guard.regressed(found, run.state.step)) if ends else None
