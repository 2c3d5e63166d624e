"""What the rungs above would cost here, from what was measured, with what that rests on."""

from __future__ import annotations

import shlex

from lift.rungs.places import Asked, Split
from lift.rungs.record import Cost, Next
from lift.training.config import RunConfig

EPOCHS = 20
"""Times that tuning shows an image at most; the recipe's own samples are the other limit."""
TIMES_FORWARD = 3
"""Forward and backward together against forward alone: the backward pass has twice its products."""


def above(
    asked: Asked,
    split: Split,
    *,
    tune: RunConfig,
    scratch: RunConfig,
    images: Cost,
    start: str,
) -> tuple[Next, ...]:
    """Return the rungs that were not climbed.

    Args:
        asked, split: what the ladder is for.
        tune, scratch: their recipes.
        images: what making features took, with how many images.
        start: folder of the model to start from; "" where no rung came out.
    """
    pairs = split.counts[0] + split.counts[1]
    found = []
    if start:
        samples = max(min(tune.samples, EPOCHS * pairs), tune.loader.batch_size)
        words = ["lift", "train", tune.recipe, "--data", split.train, "--validation", split.held]
        words += ["--cache", str(asked.captions), "--out", f"{asked.out}-{tune.recipe}"]
        words += ["--set", f"start={start}", f"samples={samples}"]
        found.append(
            Next(
                level=2,
                title="the tower tuned, held near to where it was",
                command=shlex.join(words),
                samples=samples,
                cost=_estimate(samples, images),
                assumption=_assumption(f"{samples / pairs:.3g} epochs of {pairs:,} images", images),
            )
        )
    found.append(
        Next(
            level=3,
            title="a tower from scratch",
            command=shlex.join(["lift", "train", scratch.recipe, "--dry-run"]),
            samples=scratch.samples,
            cost=_estimate(scratch.samples, images),
            assumption=_assumption(f"{scratch.samples:,} images, as {scratch.recipe}", images)
            + (" A tower of this size is taken; the recipe has its own." if images.items else ""),
        )
    )
    return tuple(found)


def _estimate(samples: int, images: Cost) -> Cost | None:
    if not images.items:
        return None
    times = TIMES_FORWARD * samples / images.items
    return Cost(
        wall_seconds=times * images.wall_seconds,
        cpu_seconds=times * images.cpu_seconds,
        items=samples,
        complete=images.complete,
    )


def _assumption(shown: str, images: Cost) -> str:
    if not images.items:
        return f"{shown}; what one costs is not known: the features were not computed here."
    each = 1000 * images.wall_seconds / images.items
    return (
        f"{shown}, each at {TIMES_FORWARD} times the {each:,.3g} ms that an image took here when "
        f"features were made (decoding and start-up included, {images.items:,} images)."
    )
