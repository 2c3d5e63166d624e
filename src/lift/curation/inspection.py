"""Look at pairs before anything is trained on them: counts, captions, images, what is broken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from lift import plugins
from lift.config import Part, to_dict
from lift.curation.findings import Inspection, Texts
from lift.curation.layout_words import words_of
from lift.curation.looking import Look
from lift.curation.spread import Counting
from lift.data import kinds
from lift.data.dice import generator
from lift.data.guess import guess
from lift.data.source import left_out, open_source, parse_part
from lift.data.transform import Transform
from lift.errors import BrokenSample, ConfigError
from lift.terms import Source
from lift.text.encoder import clean
from lift.text.keys import KeySet, keys_of

WITHOUT_IMAGES = ("texts",)
"""Layouts that have none to look at."""

_CHUNK = 4096
_WHERE = 11
"""Purpose of a random draw; see `lift.data.dice`."""

_MOST_ROLES = 64


def inspect(
    spec: Part | str,
    *,
    transform: Transform | None = None,
    most: int = 2000,
    all_images: bool = False,
    samples: int = 10,
    seed: int = 0,
    strict: bool = False,
    progress: bool = True,
) -> Inspection:
    """Return what is in some pairs. Every caption is read, and an even draw of the images.

    Memory does not grow with the number of samples.

    Args:
        spec: a path, whose layout is guessed, or a layout in words or as a part.
        transform: turns images into what a model sees; the default one if not given.
        most: look at so many images, drawn evenly by `seed`; at all where there are no more.
        all_images: look at all.
        samples: how many to show.
        strict: stop at the first broken sample.
        progress: draw progress bars.

    Raises:
        ConfigError: an unknown layout or option, or a path whose layout can't be told.
        DataError: nothing there, or not readable; a BrokenSample where `strict`.
    """
    if most < 1 or samples < 0:
        raise ConfigError(f"most and samples can't be {most} and {samples}; give 1 and 0 or more.")
    part, why, others = _part_of(spec)
    source = open_source(part or spec, strict=strict)
    transform = transform or Transform()
    texts = _read_texts(source, strict, progress)
    numbers: Sequence[int] = range(len(source))
    if part and part.name in WITHOUT_IMAGES:
        numbers = ()
    elif not all_images and len(source) > most:
        numbers = _drawn(len(source), most, seed)
    look = Look(source, transform, numbers, samples, seed, strict)
    for number in tqdm(numbers, desc="images", unit="img", disable=not progress):
        look.at(number)
    return Inspection(
        name=source.name,
        layout=part.name if part else "several, joined",
        data=_words(spec, part if why else None),
        config=to_dict(plugins.configure(part)) if part else {},
        why=why,
        others=tuple(map(words_of, others)),
        samples=len(source),
        groups=len(source.groups),
        left_out=left_out(source),
        examples=dict(getattr(source, "examples", {})),
        texts=texts,
        images=look.images(),
        costs=look.costs(),
        shown=tuple(look.shown),
        resolution=transform.resolution,
    )


def _words(spec: Part | str, guessed: Part | None) -> str:
    """Return what to type: the words that were given, or those of what was guessed."""
    if isinstance(spec, str):
        return spec if guessed is None else words_of(guessed)
    return words_of(spec)


def _part_of(spec: Part | str) -> tuple[Part | None, str, tuple[Part, ...]]:
    """Return the part that a spec names, why (where it was guessed), and what else would fit.

    None stands for several sources joined by `::`.
    """
    if isinstance(spec, Part):
        return spec, "", ()
    if "::" in spec:
        return None, "", ()
    if spec.partition(":")[0] in plugins.names("data/formats"):
        return parse_part("data/formats", spec), "", ()
    found = guess(spec)
    return found.part, found.why, found.others


def _drawn(count: int, most: int, seed: int) -> list[int]:
    """Return `most` of `count` numbers, rising: one from each of as many equal pieces."""
    ends = np.arange(most + 1) * count // most
    draws = generator(seed, _WHERE).random(most)
    return (ends[:-1] + np.floor(draws * np.diff(ends)).astype(np.int64)).tolist()


def _read_texts(source: Source, strict: bool, progress: bool) -> Texts:
    characters, words, of_an_image = Counting(), Counting(), Counting()
    roles: dict[str, int] = {}
    seen, read, repeats, first = KeySet(), 0, 0, ""
    bar = tqdm(source.texts(), total=len(source), desc="captions", disable=not progress)
    for chunk in _chunks(bar):
        of_an_image.add(len(captions) for _, captions in chunk)
        if strict and (key := next((key for key, captions in chunk if not captions), None)):
            raise BrokenSample(
                kinds.IMAGE_WITHOUT_CAPTION, f"Sample {key} has no caption that can be used."
            )
        texts = [caption.text for _, captions in chunk for caption in captions]
        characters.add(map(len, texts))
        words.add(len(text.split()) for text in texts)
        for role in (caption.role for _, captions in chunk for caption in captions):
            # A role is a few words of a config; should a file spell thousands, the rest is summed.
            name = role if role in roles or len(roles) < _MOST_ROLES else "other roles"
            roles[name] = roles.get(name, 0) + 1
        new = seen.add(keys_of([clean(text) for text in texts]))
        read += len(texts)
        repeats += int((~new).sum())
        if not first and not new.all():
            first = texts[int(np.argmin(new))]
    return Texts(
        read, characters.spread(), words.spread(), of_an_image.spread(), roles, repeats, first
    )


def _chunks(stream: Iterable[Any]) -> Iterator[list[Any]]:
    held: list[Any] = []
    for item in stream:
        held.append(item)
        if len(held) == _CHUNK:
            yield held
            held = []
    if held:
        yield held
