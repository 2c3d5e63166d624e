"""Whether the text encoder was itself trained on the captions of a benchmark."""

from __future__ import annotations

import re

from lift.terms import Encoder, Source

SAW = "text encoder saw these captions"

OVERLAPS = {
    "sugarcrepe": ("coco",),
    "flickr8k": ("flickr30k",),
    "flickr30k": ("flickr8k",),
    "coco": (),
}
"""Benchmarks and those that share captions or photographs with them.

SugarCrepe asks about captions of COCO val2017 (Hsieh et al. 2023); Flickr30k grew out of Flickr8k
(Young et al. 2014).
"""

_WORDS = {
    "sugarcrepe": r"sugar[-_ ]?crepe",
    "flickr30k": r"flickr[-_ ]?30k",
    "flickr8k": r"flickr[-_ ]?8k|flickr",
    "coco": r"(?:ms[-_ ]?)?coco(?:[-_ ]?(?:captions?|karpathy|(?:train|val|test)?20\d\d|\dk))?",
}
"""How each is spelled as a whole word of a path; the first that is found counts."""

_WHOLE = "(?<![a-z0-9])(?:{})(?![a-z0-9])"


def seen_note(encoder: Encoder, source: Source, benchmark: str | None) -> tuple[str, ...]:
    """Return the warning that belongs beside the figures, or nothing.

    Args:
        encoder: `saw` names what its text side was trained on.
        source: where the pairs come from; without `benchmark` its name, then the folders that it
            lies in (where the source tells `whereabouts`), are looked through.
        benchmark: a name of `OVERLAPS`; any other name says that it is none of them.
    """
    name = benchmark.lower() if benchmark else _guess_source(source)
    known = (name, *OVERLAPS[name]) if name in OVERLAPS else ()
    saw = [other for other in known if other in {seen.lower() for seen in encoder.saw}]
    if not saw:
        return ()
    because = ", ".join(o if o == name else f"{o}, which overlaps {name}" for o in saw)
    return (f"{SAW} ({because})",)


def _guess_source(source: Source) -> str:
    return guess(source.name) or guess(getattr(source, "whereabouts", ""))


def guess(name: str) -> str:
    """Return the benchmark that a name or path speaks of in a whole word, or an empty string."""
    plain = name.lower()
    return next(
        (known for known, word in _WORDS.items() if re.search(_WHOLE.format(word), plain)), ""
    )
