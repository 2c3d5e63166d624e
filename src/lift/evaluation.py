"""Run evaluations on an Encoder: what is asked on which data, in words and at work."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from lift import plugins
from lift.config import Part, override
from lift.data.provenance import Provenance
from lift.data.source import ROOM as FORMATS
from lift.data.source import left_out, open_source
from lift.errors import ConfigError, DataError
from lift.leaks import Judged
from lift.terms import Caption, Encoder, EvalResult, Evaluation, Sample, Source

ROOM = "evals"


@dataclass(frozen=True)
class Plan:
    """One evaluation and the pairs it runs on.

    Attributes:
        evaluation: a part of the room "evals".
        data: what `lift.data.source.open_source` takes.
    """

    evaluation: Part
    data: Part | str


def parse_plan(text: str, data: str = "") -> Plan:
    """Return the plan of a shorthand such as "retrieval:data=val.tar,protocol=first-caption".

    A value in square brackets may hold commas: `data=[table:path=x.parquet,caption=title]`,
    `templates=["a {}.", "the {}."]`. Without brackets all keys but `data` are the evaluation's.

    Args:
        text: `NAME` or `NAME:key=value,...`; the keys are `data` and the options of the part.
        data: the pairs where the text names none.

    Raises:
        ConfigError: unknown evaluation or option (with the nearest match), a wrong value, no
            data, or an option that may be of either.
    """
    rest = text.partition(":")[2]
    name, words = split_plan(text)
    kind = plugins.load(ROOM, name).Config
    given = [word for word in words if word.startswith("data=")]
    for word in given:
        data = word.removeprefix("data=")
        if data.startswith("[") and data.endswith("]"):
            data = data[1:-1]
    if not data:
        raise ConfigError(f"{text!r} does not say on what to run: write {name}:data=PATH.")
    options = [word for word in words if word not in given]
    if given and not given[-1].endswith("]"):
        _require_clear(name, data, words[words.index(given[-1]) + 1 :])
    try:
        config = override(kind(), options)
    except ConfigError as error:
        if given and ":" in data and "[" not in rest:
            hint = f"{error} (Options of the data go in brackets: data=[{data},...].)"
            raise ConfigError(hint) from error
        raise
    keys = {word.partition("=")[0] for word in options}
    return Plan(Part(ROOM, name, {key: getattr(config, key) for key in sorted(keys)}), data)


def split_plan(text: str) -> tuple[str, list[str]]:
    """Return the name of the evaluation in a shorthand, and its `key=value` words."""
    name, _, rest = text.partition(":")
    return name, [word.strip() for word in _split(rest)] if rest.strip() else []


def _require_clear(name: str, data: str, after: Sequence[str]) -> None:
    """Raise ConfigError if a word after the data may be meant for the data, as it stands there."""
    form, colon, _ = data.partition(":")
    if not colon or form not in plugins.names(FORMATS):
        return
    both = {f.name for f in dataclasses.fields(plugins.load(ROOM, name).Config)}
    both &= {f.name for f in dataclasses.fields(plugins.load(FORMATS, form).Config)}
    for word in after:
        if word.partition("=")[0] in both:
            raise ConfigError(
                f"{word} after data={data} may be an option of {form} or of {name}: write "
                f"{name}:data=[{data},{word}] for the data, or {name}:{word},data={data} for the "
                "evaluation."
            )


def _split(text: str) -> Iterator[str]:
    """Yield what stands between the commas that no bracket encloses."""
    depth = start = 0
    for at, letter in enumerate(text):
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            yield text[start:at]
            start = at + 1
    yield text[start:]


class _Watched:
    """A source that moves a progress bar along with every sample read, and hashes it if asked."""

    def __init__(self, source: Source, bar: tqdm, judged: Judged | None) -> None:
        self.name, self.groups = source.name, source.groups
        self.whereabouts = getattr(source, "whereabouts", "")
        self._source, self._bar, self._judged = source, bar, judged

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: int) -> Sample:
        if self._bar.total is not None and self._bar.n >= self._bar.total:
            self._bar.total += len(self._source)  # evaluations may go through it several times
        self._bar.update(1)
        sample = self._source.read(index)
        if self._judged is not None:
            self._judged.add(index, sample)
        return sample

    def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        return self._source.texts()


def evaluate(
    encoder: Encoder,
    plans: Sequence[Plan],
    *,
    progress: bool = True,
    keep: Callable[[EvalResult], object] | None = None,
    trained_on: Provenance | None = None,
    looks: dict[int, int] | None = None,
) -> list[EvalResult]:
    """Return the results of the plans on `encoder`, in order.

    Every option and source is opened before the first image is encoded.

    Args:
        encoder: what is judged.
        plans: on what, and how.
        progress: draw progress bars.
        keep: called with each result as it comes, so that a later evaluation that fails does not
            lose it.
        trained_on: what the encoder was trained on: samples that are there too get a note.
        looks: of images, shared by several calls (see `lift.leaks.Judged`).

    Raises:
        ConfigError: an evaluation or option that does not exist.
        DataError: pairs that can't be read, or that the evaluation can't use.
        NotFinite: the encoder returned NaN.
    """
    ready = [(*_taught(plan.evaluation), open_source(plan.data)) for plan in plans]
    results = []
    for evaluation, train, source in ready:
        name = f"{evaluation.__class__.__module__.rpartition('.')[2]} on {source.name}"
        with tqdm(total=len(source), desc=name, unit="img", disable=not progress) as bar:
            judged = None if trained_on is None else Judged(len(source), looks)
            result = evaluation.run(encoder, _Watched(source, bar, judged))
        notes = [
            f"{n} of {read.name} left out: {why}"
            for read in (source, *train)
            for why, n in left_out(read).items()
        ]
        notes += getattr(encoder, "notes", ())
        if trained_on is not None and judged is not None:
            notes += _leaked(judged, trained_on, source)
        results.append(dataclasses.replace(result, notes=(*result.notes, *notes)))
        if keep is not None:
            keep(results[-1])
    return results


def _taught(part: Part) -> tuple[Evaluation, list[Source]]:
    """Return an evaluation and, where it learns from other images than it judges, those."""
    evaluation = plugins.build(part)
    if not (name := getattr(evaluation, "train_name", "")):
        return evaluation, []
    train = open_source(name)
    evaluation.learn_from(train)
    return evaluation, [train]


def _leaked(judged: Judged, trained_on: Provenance, source: Source) -> list[str]:
    try:
        note = judged.against(trained_on, lambda number: source.read(number).key).note()
    except DataError as error:  # the result stands without it
        return [f"whether it was seen in training is not known: {error}"]
    return [note] if note else []
