"""Study 2: text encoders. Does `lift card`, which sees texts alone, predict what training gives?

    python runs/text_encoders.py --dry-run                # what it would take
    python runs/text_encoders.py                          # every run that is missing
    python runs/text_encoders.py --sets scenes --seeds 0  # some of them
    python runs/results.py pages text_encoders            # its page, from the JSON files alone

LIFT with the softmax loss is trained against each of 16 text spaces: the same image tower, the same
images in the same order. MiniLM (`minilm`), its class token (`class_token`), the mean of its
embeddings (`layer0`) and of its first one to five layers (`layer1` to `layer5`); its first 96 and
24 numbers (`minilm96`, `minilm24`), its 64 largest directions brought to one spread (`whitened`),
its rows with one vector added to all (`offset`). Controls that were not pre-trained: its network
with random weights (`random`), a small Llama with random weights (`decoder`), TF-IDF with SVD
(`tfidf`) and the 32 largest directions of that (`tfidf32`).

Each space has a card, from captions that are trained on; `cards/` has its figures. Edits are made
by rule; on scenes other captions of a scene are the paraphrases. Rates are those that study 1
chose: of its arms `random` (for `random` and `decoder`), `tfidf` (for both of TF-IDF) and `frozen`
(for all others). A figure predicts if its rank correlation with an outcome over the spaces stays
below p = 0.05 by permutation after Holm's correction for all figures and outcomes of a set.

Written before the first run:

1. At least one figure of the card predicts retrieval on both sets, in the same direction: else the
   card is no guide.
2. The rank of the centred rows, by its entropy, predicts retrieval on both sets, the larger the
   better.
3. The mean cosine of all captions predicts retrieval on both sets, the smaller the better.
4. How far edits move the rows predicts composition on scenes, the farther the better.
5. No figure predicts new wordings on both sets: a card can't see meaning.
6. MiniLM finds more by new wordings than each control, on both sets.
7. By trained wordings some earlier layer or the class token finds more on scenes than MiniLM.
8. No space gets above 60% on swapped objects or swapped attributes.
9. `offset` loses at most 3 points of R@10 against MiniLM: closeness that all rows share is no harm.
"""

from __future__ import annotations

import dataclasses
import time

from frame.derived_spaces import asked, card_part, prepare
from frame.encoders_page import HYPOTHESES, written
from frame.figures import FORTH
from frame.rates import chosen, known
from frame.runs import Arm, ran
from frame.sets import Set, get
from frame.study import Job, Place, Record, Study, main

from lift.text.card import card
from lift.text.figures import Card
from lift.world import threads, versions

CONTROLS = ("random", "decoder", "tfidf", "tfidf32")
SPACES = (
    *("minilm", "random", "tfidf", "layer0", "class_token", "layer2", "decoder", "minilm96"),
    *("layer4", "whitened", "tfidf32", "layer1", "offset", "layer3", "minilm24", "layer5"),
)
SETS = ("scenes", "products")
SAMPLES = {"scenes": 6_400, "products": 6_400}
SEEDS = 4
CARD_LIMIT = 1_500
"""Captions, and edits, of a card: MiniLM embeds 200 to 400 a second."""
RATES = {"random": "random", "decoder": "random", "tfidf": "tfidf", "tfidf32": "tfidf"}
"""The arm of study 1 whose rate a space takes, where it is not `frozen`."""


@dataclasses.dataclass(frozen=True)
class CardJob(Job):
    """A card of a space on a set."""

    @property
    def name(self) -> str:
        """Of its JSON, beside the runs."""
        return f"cards/{self.set}-{self.arm}"


def jobs() -> list[Job]:
    """Return the cards, then the runs, seed by seed."""
    cards: list[Job] = [CardJob(of, arm, 0) for of in SETS for arm in SPACES]
    return cards + [Job(of, arm, seed) for seed in range(SEEDS) for of in SETS for arm in SPACES]


def guess(job: Job) -> float:
    """Return the CPU seconds of a run."""
    return 15 if isinstance(job, CardJob) else 25


def ready(job: Job, place: Place) -> bool:
    """Return whether the rate that a run takes is chosen."""
    return isinstance(job, CardJob) or known(job.set, RATES.get(job.arm, "frozen"), place)


def work(job: Job, place: Place) -> Record:
    """Make a card or a run."""
    of = get(job.set, place.data, place.out)
    if isinstance(job, CardJob):
        return of_card(job.arm, of, place)
    prepare(job.arm, of, place.out)
    return ran(
        Arm(job.arm, job.arm, job.arm), of, place.out,
        place.out / "models" / "text_encoders" / job.name,
        samples=SAMPLES[job.set], seed=job.seed,
        rate=chosen(job.set, RATES.get(job.arm, "frozen"), place),
    )  # fmt: skip


def of_card(name: str, of: Set, place: Place) -> Record:
    """Return the figures of a space's card."""
    began = time.process_time()
    with threads(1):
        told = asked(of, CARD_LIMIT)
        space = card_part(name, of, place.out, told)
        found = card([space], told.captions, told.pairs, limit=CARD_LIMIT, device="cpu")[0]
    seconds = time.process_time() - began
    return {
        "captions": found.captions,
        "cpu_seconds": {"card": round(seconds, 1)},
        "figures": {name: {"value": value} for name, value in figures(found).items()},
        "versions": versions(),
    }


def figures(found: Card) -> dict[str, float]:
    """Return a card's figures that tell spaces apart; sizes in bytes and seconds do not."""
    told: dict[str, float] = {
        name: getattr(found.spread, name)
        for name in (
            *("dimensions", "mean_cosine", "cosine_deviation", "mean_norm", "partition_ratio"),
            *("effective_rank", "participation", "centred_rank", "centred_participation"),
        )
    }
    near = found.neighbours
    told |= {f"nearest {name}": getattr(near, name) for name in ("over_95", "over_99", "median")}
    told["collisions"] = near.collisions
    halves = ("half", "quarter")
    told |= {f"prefix of a {n}": p.agreement for n, p in zip(halves, found.prefixes, strict=False)}
    moved = found.sensitivity
    if moved is None:
        return told
    for kind in (moved.all, *moved.kinds):
        told[f"edits, {kind.name}: distance"] = kind.bound.mean.value
        if kind.auc is not None and kind.nearer is not None:
            told[f"edits, {kind.name}: area"] = kind.auc.value
    if moved.all.nearer is not None:
        told["edits nearer than paraphrases"] = moved.all.nearer.value
    if moved.paraphrases is not None:
        told["paraphrases: distance"] = moved.paraphrases.mean.value
    if moved.unrelated is not None:
        told["unrelated: distance"] = moved.unrelated.mean.value
        told["edits over unrelated"] = moved.all.bound.mean.value / moved.unrelated.mean.value
    return told


STUDY = Study(
    name="text_encoders",
    number=2,
    title="Text encoders, and what their card predicts",
    jobs=jobs(),
    guess=guess,
    work=work,
    ready=ready,
    smallest=Job("products", "tfidf", 0),
    primary=FORTH,
    hypotheses=HYPOTHESES,
    page=written,
)

if __name__ == "__main__":
    main(STUDY, __doc__ or "")
