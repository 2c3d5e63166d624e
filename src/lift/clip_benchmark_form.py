"""Results in the form of clip_benchmark's files, so that its tables hold our models beside others.

Only what its own code would have measured on the same vectors is written: retrieval with all
captions, where the own pair alone is right; zero-shot classification by the mean of templates;
one caption against one foil; Winoground's scores. Names of tasks and figures are theirs
(clip_benchmark 1.6, `cli.py` and `metrics/`). Ties are counted by expectation here, by the order
of the classes or captions there; without ties the figures are equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lift.files import write_text
from lift.terms import EvalResult

_STRICT = " (strict)"
_OURS = 1
"""The version of every evaluation here whose figures were compared with theirs."""


def write_clip_benchmark(
    results: Sequence[EvalResult],
    folder: str | Path,
    *,
    model: str,
    pretrained: str = "lift",
    names: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write one file for each measurement that is theirs, too, and return their paths.

    `clip_benchmark build FOLDER` makes a table of them. Results of other protocols are left out.

    Args:
        results: of one model.
        folder: where the files go; nothing else ending in `.json` may lie there.
        model, pretrained: what their table calls the model and its weights.
        names: what they call the data ("flickr8k"), by the name that results have; data that is
            not in it keeps its name.

    Raises:
        StorageError: the disk refused.
    """
    paths: list[Path] = []
    for result in results:
        for found in in_their_form(result, model=model, pretrained=pretrained, names=names):
            # As their own default names a file.
            words = [found[n] for n in ("dataset", "pretrained", "model", "language", "task")]
            stem = re.sub(r"[^\w.-]+", "-", "_".join(words)).lstrip(".-")[:160]
            path, number = Path(folder) / f"{stem}.json", 1
            while path in paths:
                number += 1
                path = Path(folder) / f"{stem}-{number}.json"
            write_text(path, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
            paths.append(path)
    return paths


def in_their_form(
    result: EvalResult,
    *,
    model: str,
    pretrained: str = "lift",
    names: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return what their files would hold of a result; nothing where its protocol is not theirs.

    Args: as `write_clip_benchmark`.
    """
    data = (names or {}).get(result.data, result.data)
    tasks = {
        "retrieval": _retrieval,
        "zeroshot": _classification,
        "compositional": _selection,
        "winoground": _winoground,
    }
    if result.evaluation not in tasks or result.version != _OURS:
        return []
    return [
        {
            "dataset": data + part,
            "model": model,
            "pretrained": pretrained,
            "task": task,
            "metrics": figures,
            "language": language,
            "protocol": result.protocol,
        }
        for part, task, figures, language in tasks[result.evaluation](result)
        if figures
    ]


Found = Iterator[tuple[str, str, dict[str, float], str]]
"""What follows the name of the data, their name of the task, their figures, the language."""


def _retrieval(result: EvalResult) -> Found:
    """Theirs counts only the own pair as right, also where images share a caption."""
    if result.protocol != "all-captions":
        return
    theirs = {"text_to_image": "image_retrieval_recall", "image_to_text": "text_retrieval_recall"}
    if "images without a caption" in result.counts:
        del theirs["image_to_text"]  # theirs asks about those images, too, and calls them wrong
    figures = {}
    for ours, name in theirs.items():
        for k in (1, 5, 10):
            plain = f"{ours}/R@{k}"
            metric = result.metrics.get(plain + _STRICT, result.metrics.get(plain))
            if metric is not None:
                figures[f"{name}@{k}"] = metric.value
    yield "", "zeroshot_retrieval", figures, "en"


def _classification(result: EvalResult) -> Found:
    """Theirs takes the mean of all templates, and every class there is; top-5 from five on."""
    words = result.protocol
    others = (", bank ", " that are present", " and descriptors of ")
    if any(word in words for word in others) or any("taken as one" in n for n in result.notes):
        return
    theirs = {"top-1": "acc1", "top-5": "acc5", "mean per class": "mean_per_class_recall"}
    if result.counts.get("classes", 0) < 5:
        del theirs["top-5"]
    figures = {
        name: result.metrics[ours].value for ours, name in theirs.items() if ours in result.metrics
    }
    told = re.search(r"\d+ classes in ([\w-]+), ", words)
    yield "", "zeroshot_classification", figures, told.group(1) if told else "en"


def _selection(result: EvalResult) -> Found:
    """Theirs is one file a kind (`sugar_crepe/swap_obj`); of one image, it is always the right."""
    if not result.protocol.startswith("caption against foil"):
        return
    if "items of several texts" in result.counts:
        return
    for name, metric in result.metrics.items():
        kind = name.removeprefix("accuracy/")
        if kind in ("mean of kinds", "all items") or kind.endswith((" (blind)", " (oracle)")):
            continue
        figures = {"image_acc": 1.0, "text_acc": metric.value, "acc": metric.value}
        yield f"/{kind}", "image_caption_selection", figures, "en"


def _winoground(result: EvalResult) -> Found:
    theirs = {"image score": "image_acc", "text score": "text_acc", "group score": "acc"}
    figures = {
        name: result.metrics[ours].value for ours, name in theirs.items() if ours in result.metrics
    }
    yield "", "image_caption_selection", figures, "en"
