"""One file a question about a model and its text space; `build(config)` makes a `Question`.

A question is asked of vectors (`_measured.Measured`) and answers with a `_finding.Finding`: a
figure, how bad it is, one sentence on what it means and one on what to try. A fault is named by one
line: what would move another figure too is taken out of it (duplicates, a side that is one vector),
or makes it say that nothing can be measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lift import plugins
from lift.config import Part
from lift.diagnosis._finding import LEVELS, Finding, Question
from lift.diagnosis._measured import LIMIT, Measured, measure
from lift.results import wrapped
from lift.terms import Encoder, Source

ROOM = "diagnosis"

CONSEQUENCES = {
    "pixels": ("alignment", "alike", "gap", "hubness", "pairing", "rank", "temperature"),
    "rank": ("alignment", "hubness", "temperature"),
    "gap": ("hubness", "temperature"),
}
"""What follows from a fault and is no fault of its own then."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found of one model on one set of pairs.

    Attributes:
        model: name of the encoder.
        data: name of the pairs.
        images, captions, pairs: looked at; pairs have distinct images and captions.
        findings: faults first.
        notes: what has to be known beside them.
    """

    model: str
    data: str
    images: int
    captions: int
    pairs: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()


def diagnose(
    encoder: Encoder,
    source: Source,
    *,
    label: str = "",
    limit: int = LIMIT,
    questions: Sequence[Part] | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> Diagnosis:
    """Ask every question of a model on pairs.

    Args:
        encoder: what is looked at.
        source: pairs; the better for being none that it was trained on.
        label: field or role that holds the class of an image; "" where there are no classes.
        limit: images at most, drawn by the hash of their keys.
        questions: parts of this room; None asks all of them.
        say: called with what is being done, in a few words.

    Raises:
        ConfigError: no such question, or a limit below two.
        DataError: no pairs, no readable image, or no such label.
        NotFinite: the encoder returned NaN or infinity.
    """
    parts = [Part(ROOM, name) for name in plugins.names(ROOM)] if questions is None else questions
    asked = [(part.name, plugins.build(part)) for part in parts]
    say("encoding")
    return answer(measure(encoder, source, label=label, limit=limit), asked, say)


def answer(
    measured: Measured,
    questions: Sequence[tuple[str, Question]] | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> Diagnosis:
    """Return the answers to questions (None: all of this room), the worst first."""
    if questions is None:
        questions = [(name, plugins.build(Part(ROOM, name))) for name in plugins.names(ROOM)]
    found: dict[str, Finding] = {}
    for name, question in questions:
        say(name)
        found[name] = question.ask(measured)
    for cause, names in CONSEQUENCES.items():
        if cause in found and found[cause].level == "fault":
            because = found[cause].name
            found |= {name: _follows(found[name], because) for name in names if name in found}
    findings = sorted(found.values(), key=lambda one: LEVELS.index(one.level))
    return Diagnosis(
        model=measured.encoder.name,
        data=measured.source.name,
        images=len(measured.keys),
        captions=len(measured.caption),
        pairs=len(measured.pairs),
        findings=tuple(findings),
        notes=measured.notes,
    )


def _follows(finding: Finding, cause: str) -> Finding:
    """Return a finding that is no fault, since the cause is."""
    if finding.level != "fault":
        return finding
    means = f"{finding.means} This may follow from the {cause}."
    return dataclasses.replace(finding, level="look", means=means)


def table(found: Diagnosis) -> str:
    """Return the findings as text: level, name, figure with its 95% interval and what it is.

    Below each stands the sentence, and advice where something is to be done.
    """
    lines = [
        f"{found.model} on {found.data}: {found.images:,} images, {found.captions:,} captions, "
        f"{found.pairs:,} pairs of distinct ones; 95% intervals"
    ]
    indent = " " * (max(map(len, LEVELS)) + 2)
    for one in found.findings:
        lines.append(wrapped(f"{one.level:<{len(indent)}}{one.name}{_figure(one)}", indent))
        lines.append(wrapped(indent + one.means, indent))
        if one.level in ("fault", "look"):
            lines.append(wrapped(f"{indent}try: {one.advice}", indent))
    return "\n".join([*lines, *(wrapped(note, "  ") for note in found.notes)])


def _figure(finding: Finding) -> str:
    if finding.value is None:
        return ""
    words = f": {_value(finding, finding.value)}"
    if finding.low is not None and finding.high is not None:
        words += f" [{_value(finding, finding.low)}, {_value(finding, finding.high)}]"
    return f"{words}, {finding.unit}" if finding.unit else words


def _value(finding: Finding, value: float) -> str:
    return f"{value:.1%}" if finding.share else f"{value:.3g}"
