"""The command that says what is wrong with a model, or with the pairs it is judged on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lift.diagnosis import Diagnosis


def diagnose(
    model: str | Path,
    *,
    data: str,
    cache: str | Path | None = None,
    label: str = "",
    out: str | Path | None = None,
    limit: int = 2_000,
    device: str = "auto",
    say: Callable[[str], object] = lambda _: None,
) -> Diagnosis:
    """Ask a model and its text space what could be wrong with them, each question with a figure.

    Args:
        model: a folder of ours or a model in words, as `lift eval` takes them.
        data: pairs in words; the better for being none that it was trained on.
        cache: take text vectors from there where it has them.
        label: field or role that holds the class of an image; "" where there are no classes.
        out: a JSON file with everything that was found; None writes none.
        limit: images at most, drawn by the hash of their keys.
        device: auto, cpu, cuda or mps.
        say: called with what is being done, in a few words.

    Raises:
        LiftError: bad input. What is found is no error.
    """
    import json

    from lift import diagnosis
    from lift.cache.reader import EmbeddingCache
    from lift.cached_texts import with_cache
    from lift.config import to_dict
    from lift.contenders import open_contender
    from lift.data.source import open_source
    from lift.files import require_writable, write_text

    if out is not None:
        require_writable(Path(out).parent)  # told before the work, not after it
    encoder = open_contender(str(model), device=device)
    judged = encoder
    if cache is not None:
        judged = with_cache(encoder, EmbeddingCache.open(cache), str(model))
    found = diagnosis.diagnose(judged, open_source(data), label=label, limit=limit, say=say)
    if out is not None:
        content = {"format": 1, "diagnosis": to_dict(found)}
        write_text(
            Path(out), json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        )
    return found
