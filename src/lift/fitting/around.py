"""What every fit does around its pass over the pairs: looks at options, shows progress, tells."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from tqdm import tqdm

from lift.data.stored_pairs import PairBlock
from lift.errors import CheckpointError, ConfigError, DataError
from lift.files import is_ours_or_empty
from lift.fitting.gathering import Gathered, gather, share_held
from lift.fitting.predict import Agreement
from lift.fitting.texts import TextPairs
from lift.model_folder import MARKER
from lift.ranks import Ranks

HOLDOUT = 0.1
"""Share of samples held out where nobody says; at most 5,000, and none of fewer than 500."""

Told = Callable[[str], None]


def shown(blocks: Iterable[PairBlock], total: int | None, progress: bool) -> Iterable[PairBlock]:
    """Yield blocks as they are, with a progress bar over their samples if asked."""
    with tqdm(total=total, unit="pair", disable=not progress) as bar:
        for block in blocks:
            yield block
            bar.update(len(block.h))


def over_captions(
    pairs: TextPairs, ranks: Ranks, *, holdout: float, names: tuple[str, str], progress: bool
) -> Gathered:
    """Return what a pass over the captions that two spaces share found; every process calls it.

    Args:
        pairs: their vectors in both.
        ranks: the processes.
        holdout: share of the captions that nothing is fitted on.
        names: what a vector of either space is called in messages.
        progress: draw a progress bar.

    Raises:
        DataError: the spaces share no caption.
        NotFinite: a vector with NaN or infinity.
    """
    gathered = gather(
        shown(pairs.blocks(ranks), None, progress and ranks.first),
        pairs.old.space.dimensions,
        pairs.new.space.dimensions,
        holdout=share_held(holdout, len(pairs)),
        ranks=ranks,
        names=names,
        items="captions",
    )
    with ranks.together():
        require_pairs(gathered.sums.images, "no caption is in both spaces")
    return gathered


def tell(alike: Agreement | None, ranks: Ranks, say: Told) -> None:
    """Say how alike both sides are, before anything is solved; one process speaks."""
    if ranks.first and alike is not None:
        say(f"before: {alike}")


def require_free(out: str | Path) -> None:
    """Raise CheckpointError if a folder holds something else than a model."""
    if out and not is_ours_or_empty(Path(out), MARKER):
        raise CheckpointError(
            f"{out} holds something else, which saving would remove; choose another folder."
        )


def require_share(holdout: float) -> None:
    """Raise ConfigError unless it is a share that leaves something to fit on."""
    if not 0 <= holdout < 1:
        raise ConfigError(f"holdout must lie in [0, 1), not {holdout}.")


def require_pairs(found: int, why: str) -> None:
    """Raise DataError if there is nothing to fit on."""
    if not found:
        raise DataError(f"There are no pairs to fit on: {why}.")
