"""Whether the text encoder was itself trained on the captions of a benchmark."""

from __future__ import annotations

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

_IN_NAMES = (*OVERLAPS, "flickr")


def seen_note(encoder: Encoder, source: Source, benchmark: str | None) -> tuple[str, ...]:
    """Return the warning that belongs beside the figures, or nothing.

    Args:
        encoder: `saw` names what its text side was trained on.
        source: where the pairs come from; its name is looked through without `benchmark`.
        benchmark: a name of `OVERLAPS`; any other name says that it is none of them.
    """
    name = benchmark.lower() if benchmark else guess(source.name)
    known = (name, *OVERLAPS[name]) if name in OVERLAPS else ()
    saw = [other for other in known if other in {seen.lower() for seen in encoder.saw}]
    if not saw:
        return ()
    because = ", ".join(o if o == name else f"{o}, which overlaps {name}" for o in saw)
    return (f"{SAW} ({because})",)


def guess(name: str) -> str:
    """Return the benchmark that a name speaks of, or an empty string."""
    plain = "".join(c for c in name.lower() if c.isalnum())
    found = next((known for known in _IN_NAMES if known in plain), "")
    return "flickr8k" if found == "flickr" else found
