"""Commands that fit linear maps: fit, bridge, migrate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lift.fitting.migrate import MigrateReport
    from lift.fitting.words import FitReport


def fit(
    data: str | Sequence[str] = "",
    *,
    cache: str | Path,
    features: str | Path = "",
    out: str | Path = "",
    bridge: bool = False,
    own: str | Path = "",
    tower: str = "",
    method: str = "",
    options: Sequence[str] = (),
    holdout: float = 0.1,
    roles: Sequence[str] = (),
    progress: bool = True,
    say: Callable[[str], None] | None = None,
) -> FitReport:
    """Solve a linear head for a frozen tower, in one pass over stored vectors; or for no images.

    With `bridge`, captions alone are used: from the text space that the tower shares with a text
    tower of its own (`own`) into that of `cache`.

    Args:
        data: pairs of images and captions, whose images are not read; several of them with
            `bridge`, where captions are enough.
        cache: folder that `lift embed` made of the captions.
        features: folder that `lift embed --images` made of the images; with `bridge`, of any
            images of the tower, whose mean then centres images.
        out: the model's folder; "" keeps the model in memory.
        bridge: fit on captions alone.
        own: captions in the tower's own text space: a cache, or a model with a text side.
        tower: whose vectors those of `own` are; "" takes that of the features, or of the model.
        method: `ridge`, `procrustes`, `cca`, or `auto` (all, and the best is taken); "" is auto,
            and procrustes with `bridge`.
        options: `key=value` words about the method (`penalty=kfold`, `shrinkage=0.1`).
        holdout: share of samples that only judge, at most 5,000 of them; 0 for none.
        roles: captions that take part; () takes all.
        progress: draw a progress bar.
        say: is told what is known before anything is solved.

    Raises:
        LiftError: bad input; nothing was written.
    """
    from lift.errors import ConfigError

    given = [words for words in ([data] if isinstance(data, str) else data) if words]
    common = {
        "cache": cache,
        "features": features,
        "out": out,
        "options": options,
        "holdout": holdout,
        "progress": progress,
        "say": say or (lambda _: None),
    }
    if bridge:
        from lift.fitting.bridge import bridge as across

        if not own:
            raise ConfigError("--bridge needs the tower's own captions: give them with --own.")
        if roles:
            raise ConfigError("--roles is about pairs with images, not about --bridge.")
        return across(own, tower=tower, data=given, method=method or "procrustes", **common)
    from lift.fitting.fit import fit as run

    if own or tower:
        raise ConfigError("--own and --tower are for --bridge; the features know their tower.")
    if not given or not features:
        what = "pairs with --data" if not given else "stored features with --features"
        raise ConfigError(f"A head is fitted on pairs: give the {what}.")
    return run("::".join(given), method=method or "auto", roles=roles, **common)


def migrate(
    old: str | Path,
    new: str | Path,
    *,
    model: str | Path,
    out: str | Path = "",
    data: Sequence[str] = (),
    method: str = "procrustes",
    options: Sequence[str] = (),
    holdout: float = 0.1,
    progress: bool = True,
) -> MigrateReport:
    """Move a model into another text space by captions alone, and say how good the move is.

    Args:
        old, new: caches of the same captions, or encoders in words, which embed those of `data`.
        model: folder of a model (or a run) in the old space.
        out: the new model's folder; "" writes none.
        data: where captions are; two caches need none.
        method: `procrustes` (keeps images in place), `ridge`, `cca` or `auto`.
        options: `key=value` words about the method.
        holdout: share of captions that only judge, at most 5,000 of them.
        progress: draw a progress bar.

    Raises:
        SpaceMismatch: the model lives in another space than the old one.
        LiftError: bad input; nothing was written.
    """
    from lift.fitting.migrate import migrate as move

    return move(
        old,
        new,
        model=model,
        out=out,
        data=[data] if isinstance(data, str) else data,
        method=method,
        options=options,
        holdout=holdout,
        progress=progress,
    )
