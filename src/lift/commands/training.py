"""Commands about runs: train, compare, dry_run, budget, quickstart."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lift.training.budget import Budget
    from lift.training.compared import Comparison
    from lift.training.config import RunConfig
    from lift.training.cost import Cost
    from lift.training.loop import RunResult


def train(
    recipe: str,
    *,
    data: str = "",
    validation: str = "",
    cache: str | Path = "",
    out: str | Path,
    options: Sequence[str] = (),
    resume: bool = False,
    strict: bool = False,
    progress: bool = True,
) -> RunResult:
    """Train an image encoder to match stored caption vectors; save it and judge it.

    The same call goes on with a run that was stopped or killed.

    Args:
        recipe: a recipe's name (`lift recipes` lists them), or RECIPE+METHOD; or a run's folder
            or a JSON file with a config, to repeat it.
        data: pairs to train on.
        validation: pairs for the evaluations.
        cache: folder that `lift embed` made.
        out: the run's folder.
        options: `key=value` words that change the recipe (`optim.lr=5e-4`, `objective=cosine`).
        resume: insist that there is a run to go on with.
        strict: stop at the first sample that can't be used (`loader.on_unreadable=stop`).
        progress: draw a progress bar.

    Raises:
        LiftError: bad input; nothing was trained.
        Stopped: SIGTERM or Ctrl-C; the state is saved.
    """
    from lift.training.loop import run

    if strict:
        options = [*options, "loader.on_unreadable=stop"]
    config = _configured(recipe, options, data, validation, str(cache))
    return run(config, Path(out), resume=resume, progress=progress)


def compare(
    arms: Sequence[str],
    *,
    data: str = "",
    validation: str = "",
    cache: str | Path = "",
    out: str | Path,
    seeds: Sequence[int] = (0, 1, 2),
    options: Sequence[str] = (),
    arm_options: Mapping[str, Sequence[str]] | None = None,
    budget: Literal["samples", "flops"] = "samples",
    progress: bool = True,
) -> Comparison:
    """Train arms with several seeds on the same data, and return their paired differences.

    The same call goes on where it was stopped; runs that are finished are not run again, and those
    of other seeds and arms in the same folder stay in the comparison. A run that fails is in
    `Comparison.failed`, and the others are trained all the same.

    Args:
        arms: the others are compared with the first. Each is a recipe as for `train`; options of
            its own may follow a colon: `flickr8k_tiny:objective=cosine,optim.lr=5e-4`. They win
            over all others: `RECIPE:cache=FOLDER,encoder=none` has another text encoder.
        data, validation: pairs to train on, and to judge every arm on.
        cache: folder that `lift embed` made, for the arms that train against stored rows.
        out: the comparison's folder; runs go into `OUT/ARM/seed-N`.
        seeds: of weights, order of the data and views; arms are paired by them.
        options: `key=value` words that change every arm's recipe, before it becomes a method.
        arm_options: more words for an arm, by its name.
        budget: what is equal: "samples", or training "flops" (the other arms' samples are scaled
            to what the first arm spends).
        progress: draw progress bars.

    Raises:
        LiftError: bad input, or arms that can't be compared; nothing was trained.
        Stopped: SIGTERM or Ctrl-C; the state is saved.
    """
    from lift.errors import ConfigError, unknown
    from lift.training.comparison import Arm
    from lift.training.comparison import compare as run_all

    arms = [arms] if isinstance(arms, str) else arms
    more = arm_options or {}
    for name in more:
        if name not in arms:
            raise unknown("arm", name, arms)
    if any(map(_is_seed, options)):
        raise ConfigError("All arms have the same seeds: give them with --seeds, not with --set.")
    places = {"data": data, "validation": validation, "cache": str(cache)}
    return run_all(
        [Arm(arm, _arm(arm, options, more.get(arm, ()), places)) for arm in arms],
        Path(out),
        seeds=seeds,
        budget=budget,
        progress=progress,
    )


def dry_run(
    recipe: str,
    *,
    data: str = "",
    cache: str | Path = "",
    options: Sequence[str] = (),
) -> Budget:
    """Count what a run would cost: parameters, FLOPs, memory, steps, cache. Trains nothing.

    Args:
        recipe: a recipe's name, a run's folder, or a JSON file with a config.
        data: pairs to train on, to count captions; the recipe's own figure without it.
        cache: folder that `lift embed` made, for the width of its space; the encoder's without.
        options: `key=value` words that change the recipe.

    Raises:
        LiftError: bad input, or what could not be trained whatever the data.
    """
    from lift.cache.reader import EmbeddingCache
    from lift.data.source import Captions, open_source
    from lift.text.encoder import space_of
    from lift.text.keys import count_distinct
    from lift.training.before import require_possible
    from lift.training.budget import budget as count
    from lift.training.given import filled

    config = filled(_configured(recipe, options, data, "", str(cache))).resolved()
    require_possible(config)
    if config.text_tower is not None:
        return count(config, config.dimensions)
    if config.cache:
        dimensions = EmbeddingCache.open(config.cache).dimensions
    elif config.dimensions or config.encoder is None:
        dimensions = config.dimensions
    else:
        dimensions = space_of(config.encoder).dimensions
    pairs = 0
    if config.data:
        pairs = count_distinct(Captions([open_source(config.data)]))
    return count(config, dimensions, pairs)


def budget(
    recipe: str,
    *,
    data: str = "",
    cache: str | Path = "",
    encoder: str = "",
    captions: int | None = None,
    tokens: float | None = None,
    longest: int | None = None,
    device: str = "this-machine",
    tflops: float | None = None,
    utilisation: float | None = None,
    models: int = 1,
    price_per_million_tokens: float | None = None,
    options: Sequence[str] = (),
) -> Cost:
    """Count what LIFT costs with the embedding in it, against CLIP with the same image tower.

    Args:
        recipe: a recipe's name, a run's folder, or a JSON file with a config.
        data: captions to count and measure, and the images of an epoch.
        cache: a cache of them, with the images that it ties them to.
        captions, tokens, longest: how many, their mean and largest length in tokens; each takes
            the place of that one figure of data, cache or recipe.
        encoder: a text encoder in words, whose width, cap and size count; "" takes the cache's,
            else the recipe's. Nothing is fetched.
        device: a card (`h100`, "RTX 4090"), or this-machine, which is measured.
        tflops, utilisation: peak rate of the device, and the share of it that is reached.
        models: how many models will be trained on the same rows.
        price_per_million_tokens: of an embedding server.
        options: `key=value` words that change the recipe.
    """
    from lift.data.source import parse_part
    from lift.errors import ConfigError
    from lift.training.bill import Given, bill

    config = _configured(recipe, options, data, "", str(cache)).resolved()
    if config.text_tower is not None:
        raise ConfigError(
            f"The bill is that of stored rows against a trained text side; {config.recipe} trains "
            "one: give a recipe of LIFT, without +METHOD."
        )
    return bill(
        config,
        encoder=parse_part("text/encoders", encoder) if encoder else None,
        given=Given(captions=captions, tokens=tokens, longest=longest),
        device=device,
        tflops=tflops,
        utilisation=utilisation,
        models=models,
        price=price_per_million_tokens,
    )


def quickstart(out: str | Path = "quickstart", *, progress: bool = True) -> RunResult:
    """Go the whole road on drawn scenes: embed, train, judge, save, report. A few minutes.

    Args:
        out: where cache and run go; running it again goes on with them.
        progress: draw progress bars.

    Raises:
        MissingPackage: no text encoder is installed; the message says how.
    """
    from lift import plugins, recipes
    from lift.commands.models import report
    from lift.commands.text import embed

    for package in ("jinja2", "matplotlib"):  # told now, not after the training
        plugins.require(package, "plots", "The report of the quickstart")
    out = Path(out)
    config = recipes.get("quickstart")
    embed(
        [config.data, config.validation],
        out=out / "captions",
        encoder="minilm",
        progress=progress,
    )
    result = train("quickstart", cache=out / "captions", out=out / "run", progress=progress)
    report(out / "run")
    return result


_BETWEEN_COMMAS = re.compile(r"(?:[^,\[\]]|\[[^\]]*\])+")
"""What stands between commas that no bracket encloses."""


def _arm(
    arm: str, options: Sequence[str], more: Sequence[str], places: Mapping[str, str]
) -> RunConfig:
    """Return the config of an arm `RECIPE` or `RECIPE:key=value,...`; its own words win.

    Raises:
        LiftError: no such recipe or option, or a seed of its own.
    """
    from lift import recipes
    from lift.config import override
    from lift.errors import ConfigError
    from lift.training.folder import read_config

    recipe, _, own = (arm, "", "") if Path(arm).exists() else arm.partition(":")
    if recipes.is_known(recipe) or not Path(recipe).exists():
        config = recipes.get(recipe, options)
    else:
        config = override(read_config(Path(recipe)), options)
    words = [*_BETWEEN_COMMAS.findall(own), *more]
    if any(map(_is_seed, words)):
        raise ConfigError(f"Arm {arm} has a seed of its own: give all arms theirs with --seeds.")
    if override(config, words).text_tower is not None:  # it needs no cache
        places = {**places, "cache": ""}
    return override(_placed(config, places), words)


def _is_seed(word: str) -> bool:
    return word.partition("=")[0].strip() == "seed"


def _configured(
    recipe: str, options: Sequence[str], data: str, validation: str, cache: str
) -> RunConfig:
    """Return the recipe with the caller's words and places in it."""
    from lift import recipes
    from lift.config import override
    from lift.training.folder import read_config

    known = recipes.is_known(recipe) or not Path(recipe).exists()
    config = recipes.get(recipe) if known else read_config(Path(recipe))
    config = override(config, options)
    return _placed(config, {"data": data, "validation": validation, "cache": cache})


def _placed(config: RunConfig, places: Mapping[str, str]) -> RunConfig:
    return dataclasses.replace(config, **{name: at for name, at in places.items() if at})
