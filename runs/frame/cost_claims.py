"""What study 8 expected, asked of its records and of those of study 9."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np

from frame.bills import Costs, compared, costs, embedding, less
from frame.curves import Drawn, between
from frame.found import Found
from frame.page import Answer, Hypothesis, all_of
from frame.study import RESULTS

ARMS = ("frozen", "tuned", "scratch")
SETS = {"products": "cost", "scenes": "scaling"}
"""And the studies whose runs they are."""
LADDER = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
CLIPS, TUNEDS = "CLIP's largest run", "the largest run of MiniLM tuned"
PAPER = {"short captions": 0.255, "long captions": 0.357}
"""FLOPs that the paper tells LIFT saves, from the README of its code; embedding not counted."""


@functools.cache
def runs_of(found: Found, of: str) -> Found:
    """Return the records of a set's runs: of this study, or of the one that lies beside it."""
    if SETS[of] == "cost":
        return found
    beside = found.folder.parent / SETS[of]
    return Found(beside if beside.exists() else RESULTS / SETS[of])


@functools.cache
def all_costs(found: Found, of: str) -> Mapping[str, Costs]:
    """Return what each arm's runs of a set took."""
    rows = embedding(found, of)
    told = {}
    for arm in ARMS:
        if arm == "frozen" and rows is None:  # not without its embedding
            continue
        own = costs(runs_of(found, of), of, arm, rows if arm == "frozen" else None)
        if own is not None:
            told[arm] = own
    return told


def targets(known: Mapping[str, Costs]) -> dict[str, Drawn]:
    """Return what is to be found, by words: what arms reach, then a ladder up to the best."""
    told = {}
    for arm, words in (("scratch", CLIPS), ("tuned", TUNEDS)):
        if arm in known:
            told[words] = known[arm].curve.drawn[:, -1]
    most = max((float(one.curve.drawn[0].max()) for one in known.values()), default=0.0)
    for share in LADDER:
        if share <= most:
            told[f"{100 * share:.0f}%"] = np.full(
                len(next(iter(known.values())).curve.drawn), share
            )
    return told


def _ratio(found: Found, of: str, other: str, target: str, kinds: Mapping[str, float]) -> Answer:
    """Whether LIFT's part of another arm's cost is below a bound, for each kind."""
    known = all_costs(found, of)
    if not {"frozen", other} <= known.keys():
        return Answer(None, f"{of}: no records yet")
    ratios = compared(known["frozen"], known[other], targets(known)[target])
    if ratios is None:
        return Answer(None, f"{of}: outside of the sizes that were run")
    answers = [
        Answer(less(ratios[kind], bound), _times(ratios[kind])) for kind, bound in kinds.items()
    ]
    one = all_of(answers)
    if not all(known[arm].curve.freedom for arm in ("frozen", other)):
        return Answer(None, f"{of}: one seed of each size; LIFT takes {one.told}")
    return Answer(one.held, f"{of}: LIFT takes {' and '.join(a.told for a in answers)}")


def _times(ratio: Drawn) -> str:
    return between(ratio, lambda value: f"{value:.2f}") + " of it"


def _asked(other: str, target: str, **kinds: float) -> Callable[[Found], Answer]:
    """Ask `_ratio` of every set; `one_flops` stands for "one flops"."""
    bounds = {kind.replace("_", " "): bound for kind, bound in kinds.items()}
    return lambda found: all_of(_ratio(found, of, other, target, bounds) for of in SETS)


HYPOTHESES = (
    Hypothesis(
        f"At the R@10 of CLIP's largest run LIFT needs at least "
        f"{100 * PAPER['short captions']:.1f}% fewer FLOPs of training, embedding not counted.",
        _asked("scratch", CLIPS, training_flops=1 - PAPER["short captions"]),
        paper=True,
    ),
    Hypothesis(
        "With the embedding counted, one run of LIFT needs fewer FLOPs than CLIP's largest run for "
        "the R@10 of that.",
        _asked("scratch", CLIPS, one_flops=1.0),
    ),
    Hypothesis(
        "With the embedding counted, it needs fewer CPU-seconds for that than CLIP's largest run.",
        _asked("scratch", CLIPS, one_seconds=1.0),
    ),
    Hypothesis(
        "Each of ten runs of LIFT on the same captions needs fewer FLOPs and fewer CPU-seconds for "
        "the R@10 of CLIP's largest run.",
        _asked("scratch", CLIPS, ten_flops=1.0, ten_seconds=1.0),
    ),
    Hypothesis(
        "For what MiniLM tuned has with its largest run, LIFT needs no more samples.",
        _asked("tuned", TUNEDS, samples=1.0 + 1e-9),
    ),
    Hypothesis(
        "For what MiniLM tuned has with its largest run, one run of LIFT needs fewer CPU-seconds, "
        "embedding counted.",
        _asked("tuned", TUNEDS, one_seconds=1.0),
    ),
)
