"""Ending a run that gets no better, and keeping what was best."""

from __future__ import annotations

from collections.abc import Sequence

from lift.results import is_share
from lift.terms import EvalResult
from lift.training.run import Run


def score_of(results: Sequence[EvalResult]) -> float:
    """Return the first figure of the first evaluation, larger where it is better."""
    first = results[0]
    value = first.metrics[first.primary].value
    return value if is_share(first.primary) else -value


def note_best(run: Run, results: Sequence[EvalResult]) -> None:
    """Keep the weights where they are better than ever; end the run where they have not been."""
    # One rank decides: on another machine a figure may end in another digit.
    state, score = run.state, run.ranks.agree(score_of(results))
    assert state.best is not None, "the config asks for it"
    if score > state.best_score:
        state.best_score, state.best_step, state.waited = score, state.step, 0
        now = run.current.state_dict()
        objective = {
            f"objective.{name}": value for name, value in run.model.objective.state_dict().items()
        }
        state.best.load_state_dict({**now, **objective})
        return
    state.waited += 1
    if state.waited >= run.config.patience and state.step < run.config.steps:
        state.given_up = True
        run.log.note(
            f"{state.waited} evaluations without a better figure: the run ends at step "
            f"{state.step}, with the weights of step {state.best_step}."
        )
