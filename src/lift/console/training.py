"""Console of the commands about runs: quickstart, train, compare, budget, recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from lift.commands import training
from lift.console.words import Options
from lift.errors import LiftError


def quickstart(*, out: Path = Path("quickstart"), quiet: bool = False) -> None:
    """Go the whole road on drawn scenes: embed, train, judge, save, report.

    For example:

      lift quickstart

    Args:
        out: where cache and run go; running it again goes on with them.
        quiet: no progress bars.
    """
    result = training.quickstart(out, progress=not quiet)
    _print_run(result)
    print(f"page: {out / 'run' / 'report.html'}")


def train(
    recipe: tyro.conf.Positional[str],
    *,
    out: str = "",
    data: str = "",
    validation: str = "",
    cache: str = "",
    options: Options = (),
    resume: bool = False,
    strict: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
) -> None:
    """Train an image encoder to match stored caption vectors.

    The same command goes on with a run that was stopped or killed.

    For example:

      lift train flickr8k_tiny --data 'flickr8k/train-*.tar' --validation flickr8k/val-0000.tar
        --cache captions --out runs/flickr
      lift train products_tiny ... --set objective=cosine optim.lr=5e-4
      lift train flickr8k_tiny+clip --data ... --validation ... --out runs/clip
      lift train lift_b16_512m --dry-run

    Args:
        recipe: a recipe's name (`lift recipes`), with +METHOD to make another method of it; or
            the folder of a run to repeat.
        out: the run's folder.
        data: pairs to train on.
        validation: pairs for the evaluations during and after training.
        cache: the folder that `lift embed` made.
        options: change the recipe: `--set optim.lr=5e-4 objective=cosine`.
        resume: insist that there is a run to go on with.
        strict: stop at the first sample that can't be used, instead of counting it.
        dry_run: print parameters, FLOPs, memory, steps and cache size; train nothing.
        quiet: no progress bar.
    """
    if dry_run:
        print(training.dry_run(recipe, data=data, cache=cache, options=options).table())
        return
    if not out:
        raise LiftError("Where to? Give the run's folder with --out.")
    result = training.train(
        recipe,
        data=data,
        validation=validation,
        cache=cache,
        out=out,
        options=options,
        resume=resume,
        strict=strict,
        progress=not quiet,
    )
    _print_run(result)
    if result.told:
        print(f"page: lift report {out}")


def compare(
    arms: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ARM ARM ...")],
    *,
    out: str,
    data: str = "",
    validation: str = "",
    cache: str = "",
    seeds: tuple[int, ...] = (0, 1, 2),
    options: Options = (),
    budget: Literal["samples", "flops"] = "samples",
    quiet: bool = False,
) -> None:
    """Train arms with several seeds on the same data; print their paired differences.

    The same command goes on where it was stopped; finished runs are not run again, and those of
    other seeds and arms in the same folder stay in the comparison.

    For example:

      lift compare flickr8k_tiny flickr8k_tiny+clip --data 'flickr8k/train-*.tar'
        --validation flickr8k/val-0000.tar --cache captions --out runs/against-clip
        --set loader.captions=one
      lift compare products_tiny products_tiny:objective=cosine ... --seeds 0 1 2 3 4

    Args:
        arms: the others are compared with the first. Each is a recipe's name, RECIPE+METHOD, or
            the folder of a run; its own options may follow a colon and win over all others
            (`RECIPE:optim.lr=5e-4`; `RECIPE:cache=FOLDER,encoder=none` for another text encoder).
        out: the comparison's folder.
        data: pairs to train on.
        validation: pairs to judge every arm on.
        cache: the folder that `lift embed` made, for arms that train against stored rows.
        seeds: of weights, order of the data and views; arms are paired by them.
        options: change every arm's recipe, before it becomes a method.
        budget: what is equal between arms: samples, or FLOPs of training, to which the other
            arms' samples are scaled.
        quiet: no progress bars.
    """
    found = training.compare(
        arms,
        data=data,
        validation=validation,
        cache=cache,
        out=out,
        seeds=seeds,
        options=options,
        budget=budget,
        progress=not quiet,
    )
    print(found.table())
    print(f"figures: {Path(out) / 'comparison.json'}; page: lift report {out}")
    failed = [one for one in found.failed if one.arm in arms and one.seed in seeds]
    if failed:
        of = len(arms) * len(seeds)
        first = failed[0]
        raise LiftError(
            f"{len(failed)} of {of} runs failed. The first is {first.arm}, seed "
            f"{first.seed}: {first.why} The same command goes on with what is missing."
        )


def budget(
    recipe: tyro.conf.Positional[str],
    *,
    data: str = "",
    cache: str = "",
    encoder: str = "",
    captions: int | None = None,
    tokens: float | None = None,
    longest: int | None = None,
    device: str = "this-machine",
    tflops: float | None = None,
    utilisation: float | None = None,
    models: int = 1,
    price_per_million_tokens: float | None = None,
    options: Options = (),
) -> None:
    """Count what LIFT costs with the embedding in it, against CLIP, and say which is cheaper.

    CLIP is the recipe's image tower with a text tower in proportion to it: that of CLIP-B (12
    blocks of 512) beside ViT-B. Nothing is fetched: what is not on this disk is said to be unknown.

    For example:

      lift budget lift_b16_512m --device h100
      lift budget lift_b16_512m --captions 256000000 --tokens 66 --device h200 --models 4
      lift budget flickr8k_tiny --cache captions

    Args:
        recipe: a recipe's name (`lift recipes`), or the folder of a run.
        data: captions to count and measure; an epoch is their images.
        cache: a cache of them, instead; an epoch is the images that it knows.
        encoder: a text encoder as for `lift embed`, whose width, cap and size count; the cache's
            or the recipe's if not given.
        captions: how many, whatever data, cache or recipe say.
        tokens: their mean length in tokens, whatever data or cache say.
        longest: the longest of them, in tokens, whatever data or cache say.
        device: b200, h200, h100, a100, l40s, 'RTX 4090', ...; or this-machine, which is measured.
        tflops: peak rate of a device that is not known.
        utilisation: share of the peak that is reached, from 0 to 1.
        models: how many models will be trained on the same rows.
        price_per_million_tokens: of an embedding server.
        options: change the recipe: `--set optim.lr=5e-4`.
    """
    found = training.budget(
        recipe,
        data=data,
        cache=cache,
        encoder=encoder,
        captions=captions,
        tokens=tokens,
        longest=longest,
        device=device,
        tflops=tflops,
        utilisation=utilisation,
        models=models,
        price_per_million_tokens=price_per_million_tokens,
        options=options,
    )
    print(found.table())


def recipes() -> None:
    """List the recipes, and the methods that RECIPE+METHOD makes of them.

    For example:

      lift recipes
    """
    from lift.recipes import SHORT, describe

    lines = describe()
    lines += [(name, f"Short for {recipe}.") for name, recipe in SHORT.items()]
    wide = max(len(name) for name, _ in lines)
    for name, sentence in lines:
        print(f"{name:<{wide}}  {sentence}")


def _print_run(result) -> None:
    """Print what a run ended with; of several processes one speaks."""
    from lift.results import table

    if not result.told:
        return
    if result.results:
        print(table(result.results))
    for name, count in result.counters.items():
        print(f"{name}: {count}")
    print(f"model: {result.folder} ({result.steps} steps, {result.seconds:.0f} s)")
