"""The next rung: a head that is trained on stored features, from the best closed form on."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from lift.config import override
from lift.rungs.judged import Judge, known, tried
from lift.rungs.meter import Meters
from lift.rungs.places import Asked, Split
from lift.rungs.record import Rung
from lift.training.config import RunConfig
from lift.training.loop import run

NAME = "head"
EPOCHS = 20
"""Times that a sample is shown at most; the recipe's own number of samples is the other limit."""
_SMALLEST = 32
_LOOKS = 10
"""Evaluations of a run, by which it stops early."""


def config_of(recipe: RunConfig, asked: Asked, split: Split, start: str) -> RunConfig:
    """Return the recipe, cut to the size of the data, with the caller's options in it.

    Raises:
        ConfigError: an option that does not exist, or that does not fit.
    """
    count = split.counts[0]
    batch = recipe.loader.batch_size
    while batch > max(_SMALLEST, count // 8):
        batch //= 2
    samples = max(min(recipe.samples, EPOCHS * count), batch)
    steps = samples // batch
    config = replace(
        recipe,
        samples=samples,
        loader=replace(recipe.loader, batch_size=batch),
        optim=replace(recipe.optim, warmup_steps=min(recipe.optim.warmup_steps, steps // 10)),
        evaluate_every=max(1, steps // _LOOKS),
        device=asked.device,
    )
    return replace(
        override(config, asked.options),
        data=split.fit,
        validation=split.stop,
        cache=str(asked.captions),
        features=str(asked.features),
        start=start,
    )


def climb(
    recipe: RunConfig,
    asked: Asked,
    split: Split,
    judge: Judge,
    meters: Meters,
    *,
    below: Rung | None,
    progress: bool,
) -> Rung:
    """Return the trained head, made now or before; as failed where it failed.

    Args:
        recipe: of a head on stored features.
        asked, split: what for, and which pairs do what.
        judge, meters: judge it and measure it.
        below: the closed form that it starts from, if one came out.
        progress: draw progress bars.

    Raises:
        ConfigError: an option that does not exist.
        CheckpointError: it was made with other options.
        Stopped: SIGTERM or Ctrl-C; the state is saved.
    """
    if (before := known(asked, NAME, asked.options)) is not None:
        return before
    start = str(asked.rung(below.name) / "model") if below is not None else ""
    config = config_of(recipe, asked, split, start)
    rung = Rung(
        name=NAME,
        level=1,
        title=f"trained head ({config.head.kind})",
        start=below.name if below is not None else "",
        options=asked.options,
    )
    make = partial(_made, rung, config, asked, judge, meters, progress)
    return tried(rung, meters, make)


def _made(
    rung: Rung, config: RunConfig, asked: Asked, judge: Judge, meters: Meters, progress: bool
) -> Rung:
    with meters.measured(NAME) as counted:
        found = run(config, asked.rung(NAME), progress=progress)
        counted.items = found.steps * config.step_samples
    shown = found.steps * config.step_samples
    facts = {
        "recipe": config.recipe,
        "head": f"{config.head.kind}, {config.head.layers} layers, hidden {config.head.hidden}",
        "objective": config.objective.name,
        "samples shown": f"{shown:,} of at most {config.samples:,}, {config.step_samples:,} a step",
        "stopped": "early, by the pairs that only say when"
        if found.steps < config.steps
        else "at the end of its schedule",
    }
    return judge.judged(replace(rung, cost=meters.cost(NAME), facts=facts))
