"""The model card that goes with every export: README.md with the hub's front matter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lift
from lift import plugins
from lift.bundle import Bundle
from lift.config import Part
from lift.errors import DataError
from lift.export._protocol import Difference, Written
from lift.results import figure_words, interval_words, read_result
from lift.terms import EvalResult
from lift.text.card import licence_of

NAME = "README.md"
_UNKNOWN = "not known: ask whoever made it before you pass this model on"
_TESTS = ("compositional", "long_captions", "multilingual", "retrieval", "robustness", "zeroshot")
"""Evaluations of which the card says whether they were run."""


@dataclass(frozen=True, kw_only=True)
class Licences:
    """What the user knows of licences, in words of the hub ("apache-2.0") or any.

    Attributes:
        model: of the exported weights.
        data: of the images and captions.
    """

    model: str = ""
    data: str = ""


def write_card(
    bundle: Bundle,
    folder: Path,
    name: str,
    written: Written,
    differences: Sequence[Difference],
    unchecked: str,
    pictures: str,
    licences: Licences | None,
    evals: Path | None,
) -> None:
    """Write README.md.

    Args:
        bundle: the exported model.
        folder: where to.
        name: the model's, for the heading; `{folder}` of what the exporter wrote.
        written, differences, unchecked, pictures: what was written, and how it compared.
        licences: as the user knows them.
        evals: folder of results to quote.
    """
    told = licences or Licences()
    results, notes = found_results(evals)
    sections = [
        front_matter(bundle, written, told),
        f"# {plain(name)}\n\n{_first_words(bundle)}",
        f"## Use\n\n{written.usage.replace('{folder}', json.dumps(name)[1:-1]).strip()}",
        _listed("## What to know", [note.replace("{folder}", name) for note in written.notes]),
        _compared(differences, unchecked, pictures),
        _space(bundle),
        _trained_on(bundle),
        _results(results, notes, bundle.name),
        _licences(bundle, told),
        _listed("## Limits", _limits(bundle, results)),
        f"Written by lift-align {lift.__version__}.",
    ]
    text = "\n\n".join(section for section in sections if section) + "\n"
    (folder / NAME).write_text(text, encoding="utf-8", errors="backslashreplace")


def plain(value: Any) -> str:
    """Return a stranger's words as one line that Markdown and tables show as they are."""
    text = " ".join(str(value).split())[:300]
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in text)


def front_matter(bundle: Bundle, written: Written, licences: Licences) -> str:
    """Return what the hub reads; values are JSON, which YAML contains."""
    # The hub refuses a licence that is none of its own names, unless it is called "other".
    named = bool(re.fullmatch(r"[a-z0-9]+([.-][a-z0-9]+)*", licences.model))
    values: dict[str, Any] = {
        "library_name": written.library,
        "pipeline_tag": written.pipeline,
        "license": licences.model if named or not licences.model else "other",
        "license_name": "" if named else licences.model,
        "base_model": [model for model in _made_from(bundle, written) if _is_hub_id(model)],
        "tags": [*written.tags, "image-feature-extraction", "image-text-retrieval", "lift"],
    }
    values["tags"] = list(dict.fromkeys(values["tags"]))
    lines = [f"{key}: {json.dumps(value)}" for key, value in values.items() if value]
    return "\n".join(["---", *lines, "---"])


def _made_from(bundle: Bundle, written: Written) -> Iterator[str]:
    """Yield others' models whose weights are in the export, or were where training began."""
    if (tower := _others_tower(bundle)) is not None:
        yield str(tower.options["model"])
    if written.texts:
        yield bundle.space.model


def _others_tower(bundle: Bundle) -> Part | None:
    """Return the image tower's part where it is somebody else's model, by name or folder."""
    tower = bundle.record.image.tower
    return tower if tower is not None and tower.options.get("model") else None


def found_results(folder: Path | None) -> tuple[list[EvalResult], list[str]]:
    """Return the results in a folder, and sentences on those that can't be read."""
    results: list[EvalResult] = []
    notes: list[str] = []
    for path in sorted(folder.glob("*.json")) if folder is not None and folder.is_dir() else []:
        try:
            results.append(read_result(path))
        except DataError as error:
            notes.append(f"Left out: {plain(error)}")
    return results, notes


def _is_hub_id(model: str) -> bool:
    owner, slash, name = model.partition("/")
    parts = (owner, name)
    return bool(slash) and all(
        p and p.replace("-", "").replace(".", "").replace("_", "").isalnum() for p in parts
    )


def _first_words(bundle: Bundle) -> str:
    space = bundle.space
    if bundle.record.encoder is None:
        return (
            f"Images as vectors of {space.dimensions} numbers. Texts were trained with them, as in "
            "CLIP: their vectors come from this model's own text side, which lies with the model "
            "in lift and not in this folder. Text vectors of any other model do not fit."
        )
    return (
        f"Images as vectors of {space.dimensions} numbers in the text space of "
        f"{_text_words(bundle)}, which was not changed: text vectors that were made before stay "
        "valid, and cosines between them and these image vectors say how well they fit."
    )


def _text_words(bundle: Bundle) -> str:
    """Return who makes text vectors; a folder on somebody's disk has no name for others."""
    if bundle.record.encoder is None:
        return "the model's own text side"
    model = bundle.space.model
    return "a text encoder in a local folder" if model == "local" else plain(model)


def _compared(differences: Sequence[Difference], unchecked: str, pictures: str) -> str:
    head = "## Compared with the model it was made from"
    if unchecked:
        return f"{head}\n\nNot compared: {plain(unchecked)}"
    rows = [
        [
            plain(one.what),
            f"{one.count:,}",
            f"{one.largest:.1e}",
            "" if one.cosine is None else f"{one.cosine:.6f}",
            "told only" if one.tolerance is None else f"{one.tolerance:g}",
        ]
        for one in differences
    ]
    columns = ["what", "rows", "largest difference", "lowest cosine", "allowed"]
    return f"{head}\n\nReloaded and compared on {pictures}.\n\n{_table(columns, rows)}"


def _space(bundle: Bundle) -> str:
    space = bundle.space
    rows = [
        ["fingerprint", f"`{space.fingerprint}`"],
        ["text encoder", _text_words(bundle)],
        ["revision", plain(space.revision)],
        ["prompt", plain(json.dumps(space.prompt, ensure_ascii=False))],
        ["pooling", plain(space.pooling)],
        ["tokens at most", f"{space.max_tokens:,}"],
        ["unit length", "yes" if space.normalised else "no: scale text vectors to unit length"],
        ["dimensions", f"{space.dimensions:,}"],
    ]
    words = (
        "Vectors are comparable only within one text space; two with the same fingerprint are the "
        "same."
    )
    return f"## Text space\n\n{words}\n\n{_table(['of the space', 'value'], rows)}"


def _trained_on(bundle: Bundle) -> str:
    origin = bundle.record.origin
    trained = _mapping(origin.get("trained_on"))
    words = "Nobody kept what it was trained on."
    if origin.get("data"):
        words = f"Data: {plain(origin['data'])}."
    if trained.get("samples"):
        words = (
            f"{_count(trained.get('samples'))} images and {_count(trained.get('captions'))} texts."
        )
    sources = trained.get("sources")
    rows = [
        [
            plain(one.get("name", "")),
            _count(one.get("samples")),
            plain(one.get("licence") or "not stated"),
        ]
        for one in (map(_mapping, sources) if isinstance(sources, list | tuple) else [])
        if one
    ]
    table = "\n\n" + _table(["source", "images", "licence"], rows) if rows else ""
    facts = [
        f"{label}: {plain(origin[key])}."
        for key, label in (("recipe", "Recipe"), ("method", "Method"), ("start", "Start"))
        if isinstance(origin.get(key), str) and origin[key]
    ]
    if isinstance(origin.get("samples"), int):
        facts.append(f"Samples shown in training, repeats counted: {origin['samples']:,}.")
    return "## Trained on\n\n" + words + table + ("\n\n" + " ".join(facts) if facts else "")


def _results(results: Sequence[EvalResult], notes: Sequence[str], judged: str) -> str:
    if not results:
        words = "None were found beside the model: nothing is claimed."
        return "\n\n".join(["## Results", words, *notes])
    parts = ["## Results", "With 95% intervals. Figures compare only within one protocol."]
    for result in results:
        counts = ", ".join(f"{count:,} {plain(what)}" for what, count in result.counts.items())
        head = f"### {plain(result.evaluation)} on {plain(result.data)}"
        if result.encoder not in ("", judged):  # another model's, or the run has been renamed
            head += f", judged under the name {plain(result.encoder)}"
        protocol = f"Protocol, version {result.version}: {plain(result.protocol)}. {counts}."
        rows = [
            [
                plain(name) + (" (first to look at)" if name == result.primary else ""),
                figure_words(name, metric.value),
                interval_words(name, metric.low, metric.high),
                f"{metric.items:,}",
            ]
            for name, metric in result.metrics.items()
        ]
        table = _table(["figure", "value", "95% interval", "items"], rows)
        chance = (
            f"Guessing scores {figure_words(result.primary, result.chance)} on the first."
            if result.chance is not None
            else ""
        )
        more = _items([plain(note) for note in result.notes])
        parts += [part for part in (head, protocol, table, chance, more) if part]
    return "\n\n".join([*parts, *notes])


def _licences(bundle: Bundle, told: Licences) -> str:
    of_data = told.data or _data_licences(bundle.record.origin)
    found = [f"These weights: {plain(told.model) or _UNKNOWN}."]
    if (tower := _others_tower(bundle)) is not None:
        name = str(tower.options["model"])
        words = "a local folder" if Path(name).expanduser().is_dir() else plain(name)
        found.append(f"Image tower that it began from ({words}): {_of_card(tower)}.")
    if (part := bundle.record.encoder) is None:
        found.append("Text side: trained with the images, under the licence of these weights.")
    else:
        found.append(f"Text encoder ({_text_words(bundle)}): {_of_card(part)}.")
    found.append(f"Data: {plain(of_data) or _UNKNOWN}.")
    return "## Licences\n\n" + _items(found)


def _of_card(part: Part) -> str:
    licence = licence_of(part)
    return f"{plain(licence)}, as its own card says" if licence else _UNKNOWN


def _data_licences(origin: Mapping[str, Any]) -> str:
    sources = _mapping(origin.get("trained_on")).get("sources")
    listed = sources if isinstance(sources, list | tuple) else []
    found = [str(_mapping(source).get("licence") or "") for source in listed]
    return ", ".join(dict.fromkeys(found)) if found and all(found) else ""


def _limits(bundle: Bundle, results: Sequence[EvalResult]) -> Iterator[str]:
    run = {result.evaluation for result in results}
    rest = [name.replace("_", " ") for name in _TESTS if name not in run]
    rest = [name for name in rest if name.replace(" ", "_") in plugins.names("evals")]
    if rest:
        yield f"Not judged by: {', '.join(rest)}."
    if bundle.saw:
        seen = ", ".join(plain(name) for name in bundle.saw)
        yield (
            f"The text encoder was trained on captions of {seen}: figures on these are not those "
            "of unseen texts."
        )
    side = bundle.transform.resolution
    yield f"It sees images at {side} x {side} pixels; what is smaller than a few of those is lost."
    yield f"Texts are cut after {bundle.space.max_tokens:,} tokens."
    yield (
        "It tells apart no more than its text space does: what two captions with nearly the same "
        "vector say differently, images can't be sorted by."
    )
    yield (
        "Nobody has looked at what it does with pictures of people, at the biases of its data, or "
        "at uses in which a mistake harms somebody."
    )


# --- Markdown -----------------------------------------------------------------------------------


def _listed(head: str, sentences: Sequence[str] | Iterator[str]) -> str:
    words = _items(list(sentences))
    return f"{head}\n\n{words}" if words else ""


def _items(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "?"
