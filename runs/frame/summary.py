"""The summary of all studies, from their records: what was contradicted first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from frame.captioned_page import BY_LONG, BY_SHORT
from frame.composition import COMPOSED
from frame.figures import BACK, FORTH
from frame.found import Found
from frame.page import Answer, Hypothesis, answered, differences, table
from frame.study import Study
from lift.bootstrap import Spread

START = """# What the evidence says

LIFT's claim: a frozen language model's text space makes image encoders that understand
composition and long captions better, for less. Nine studies ask what of that comes out at a scale
where we could finish: image towers of about a million weights from scratch, thousands of images,
one CPU core a run. Every number is of a command on its page; what was expected was written down
before the runs, in the script that makes them, but where it is marked as put later."""
SETS = ("scenes", "products", "emoji")
Shown = dict[str, tuple[str, str]]
"""By what is written beside a difference: the set and the figure."""


def _of_sets(figure: str, sets: Sequence[str] = SETS) -> Shown:
    return {of: (of, figure) for of in sets}


SHOWN: dict[str, tuple[str, str, str, Shown]] = {
    "LIFT - MiniLM tuned": ("freezing", "frozen", "tuned", _of_sets(FORTH)),
    "LIFT - MiniLM tuned, text of an image": ("freezing", "frozen", "tuned", _of_sets(BACK)),
    "LIFT - CLIP": ("freezing", "frozen", "scratch", _of_sets(FORTH)),
    "LIFT - CLIP, text of an image": ("freezing", "frozen", "scratch", _of_sets(BACK)),
    "LIFT - CLIP, composition": ("freezing", "frozen", "scratch", _of_sets(COMPOSED, SETS[:2])),
    "LIFT - CLIP, trained on long captions": (
        "losses_and_captions", "lift-softmax-long", "clip-softmax-long",
        {
            "found by long ones": ("scenes", BY_LONG),
            "found by short ones": ("scenes", BY_SHORT),
            "composition": ("scenes", COMPOSED),
        },
    ),
    "LIFT, softmax - cosine": ("freezing", "frozen", "cosine", _of_sets(FORTH)),
    "LIFT, rows of MiniLM - of TF-IDF": ("freezing", "frozen", "tfidf", _of_sets(FORTH)),
}  # fmt: skip
"""Of the plot: the study, two arms, and what they are compared in."""
PLOT = """![Differences between arms in percentage points](differences.png)

R@10 of finding images by text where nothing else is said; composition without the kinds in which
something is added, which a guess without the image answers. Studies 1 and 3; CLIP's rates lie at an
end of those tried on scenes in study 1, and were chosen with mixed captions in study 3."""
CLAIMS = """## The paper's claims, at this scale

"Found again" and "contradicted" are said where the 95% interval over items and seeds leaves out
the other answer, and of this scale alone; all else is open. What an interval does not cover (rates
at an end of those tried, an arm that hardly learns from so few pairs) is told on the study's
page."""
TAKEN = "Runs that a study takes over from another are counted in both."
END = """## How to read this

- Drawn scenes, shop products and emoji carry the conclusions. Where Flickr8k appears, its numbers
  are labelled "text encoder saw these captions".
- Arms of a study share tower, images, order and trials of the learning rate; figures are compared
  within one protocol and one set only. Intervals are of 95%, by a bootstrap over items, paired
  where arms are compared, and Student's t over seeds (`lift.bootstrap`).
- Small scale cuts both ways: what is shown here is shown for small towers on few pairs, and what is
  not shown here may appear at a hundred million pairs. Nothing here was run on a GPU.
- The paper's own figures, its released recipe and what we could not check of it:
  [reproduce.md](../reproduce.md).

```
make results          # these pages, from the JSON in runs/results
make results-check    # the smallest run of each study again, within its interval
python runs/results.py status
```"""


def summary(studies: Sequence[Study], folder: Path) -> str:
    """Return the page; `folder` is where it will lie, and where its plot is left."""
    answers: list[tuple[Study, Hypothesis, Answer]] = []
    rows, every = [], {one.name: Found(one.results) for one in studies}
    for one in studies:
        found = every[one.name]
        own = [(one, *answer) for answer in answered(one.hypotheses, found)]
        answers += own
        held = [answer.held for _, _, answer in own]
        rows.append(
            [
                str(one.number),
                f"[{one.title}]({one.name}.md)",
                *(str(held.count(what)) for what in (False, True, None)),
                found.seeds_an_arm(),
                str(len(found.records)),
                f"{found.cpu_minutes():.0f}",
            ]
        )
    header = ["", "study", "did not hold", "held", "undecided", "seeds", "runs", "CPU-minutes"]
    differences(folder / "differences.png", shown(every), unit="percentage points")
    parts = [START, PLOT, CLAIMS, claims(answers), "## What we expected ourselves"]
    for held, title in (
        (False, "Did not hold"),
        (True, "Held"),
        (None, "Stays open (numbers on the pages)"),
    ):
        own = [one for one in answers if one[2].held is held and not one[1].paper]
        parts.append(f"### {title}\n\n" + ("\n".join(_line(*one) for one in own) or "Nothing."))
    return "\n\n".join([*parts, "## The studies", table(header, rows), TAKEN, END]) + "\n"


def shown(found: Mapping[str, Found]) -> dict[str, dict[str, Spread | None]]:
    """Return the differences of the plot, from the records of each study."""
    return {
        title: {
            beside: found[name].difference(of, arm, other, f) for beside, (of, f) in own.items()
        }
        for title, (name, arm, other, own) in SHOWN.items()
    }


def claims(answers: Sequence[tuple[Study, Hypothesis, Answer]]) -> str:
    """Return the table of what the paper claims, contradictions first."""
    rows = [
        [f"[{one.number}]({one.name}.md)", hypothesis.words, word, answer.told]
        for held, word in (
            (False, "**contradicted**"),
            (True, "found again"),
            (None, "open"),
        )
        for one, hypothesis, answer in answers
        if hypothesis.paper and answer.held is held
    ]
    return table(["study", "claim, as it was put to the test", "here", "what was found"], rows)


def _line(one: Study, hypothesis: Hypothesis, answer: Answer) -> str:
    told = "" if answer.held is None else f" {answer.told}."  # what is open is told on its page
    return f"- [{one.number}]({one.name}.md) {hypothesis.words}{told}"
