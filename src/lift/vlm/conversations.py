"""Conversations about images, in LLaVA's form, as tokens of which only the answers are learned.

    {"id": "1", "image": "coco/1.jpg", "conversations": [
        {"from": "human", "value": "<image>\\nWhat is this?"}, {"from": "gpt", "value": "A cat."}]}

One such object a line. A file of millions of lines is held as the places where they begin.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from lift.errors import DataError
from lift.terms import ImageLike
from lift.vlm.recipes import IMAGE, Template

_LONGEST = 1 << 20
"""Bytes of the longest line."""

_MOST_TURNS = 256
_ASKS, _ANSWERS = ("human", "user"), ("gpt", "assistant")

IGNORED = -100
"""Label of a token that nothing is learned from."""


@dataclass(frozen=True)
class Conversation:
    """Questions about one image with their answers.

    Attributes:
        key: for messages.
        image: a file's path or bytes; None where nothing is shown.
        turns: question and answer, in order; `<image>` is in none of them.
    """

    key: str
    image: ImageLike | None
    turns: tuple[tuple[str, str], ...]


class Listed(Sequence[Conversation]):
    """Conversations in memory.

    Attributes:
        digest: of what is asked and answered.
    """

    def __init__(self, conversations: Iterable[Conversation]) -> None:
        self._all = list(conversations)
        told = hashlib.sha256()
        for one in self._all:
            told.update(json.dumps([one.key, one.image is not None, one.turns]).encode())
            if isinstance(one.image, bytes):
                told.update(hashlib.sha256(one.image).digest())
        self.digest = told.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._all)

    @overload
    def __getitem__(self, index: int) -> Conversation: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Conversation]: ...
    def __getitem__(self, index: Any) -> Any:
        return self._all[index]


class Lines(Sequence[Conversation]):
    """Conversations in a file, one JSON object a line; every line is checked when it is opened.

    Attributes:
        digest: of the file.
    """

    def __init__(self, path: str | Path, images: str | Path) -> None:
        """Open a file.

        Args:
            path: of the lines. LLaVA's own files are one JSON list: `jq -c '.[]' FILE` makes lines.
            images: the folder that names of images are in. A name that leads out of it is refused.

        Raises:
            DataError: a line that is no conversation, with its number and why; or no line.
        """
        self._path, self._images = Path(path), Path(images).resolve()
        if not self._path.is_file():
            raise DataError(f"There is no file {path}.")
        if not self._images.is_dir():
            raise DataError(f"There is no folder {images} of images.")
        told, starts, start = hashlib.sha256(), [], 0
        with open(self._path, "rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST + 1), b""), 1):
                told.update(line)
                if line.strip():
                    self._parsed(line, number)
                    starts.append(start)
                start += len(line)
        if not starts:
            raise DataError(f"{path} holds no conversation.")
        self._starts = np.array(starts, np.int64)
        self.digest = told.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Conversation: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Conversation]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        with open(self._path, "rb") as file:
            file.seek(int(self._starts[index]))
            return self._parsed(file.readline(_LONGEST + 1), int(index) + 1)

    def _parsed(self, line: bytes, number: int) -> Conversation:
        where = f"Line {number} of {self._path}"
        if number == 1 and line.lstrip().startswith(b"["):
            raise DataError(
                f"{self._path} is one JSON list; make it lines with: "
                f"jq -c '.[]' {self._path.name} > lines.jsonl"
            )
        if len(line) > _LONGEST:
            raise DataError(f"{where} is longer than {_LONGEST:,} bytes.")
        try:
            told = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where} is no JSON ({str(error)[:80]}).") from error
        return conversation(told, where, self._images)


def conversation(told: Any, where: str, images: Path) -> Conversation:
    """Return a conversation from LLaVA's JSON.

    Args:
        told: the object.
        where: what to call it in a complaint.
        images: the folder of images, resolved.

    Raises:
        DataError: it is none.
    """
    said = told.get("conversations") if isinstance(told, dict) else None
    if not isinstance(said, list) or not said or len(said) % 2 or len(said) > _MOST_TURNS:
        raise DataError(
            f'{where} needs "conversations": pairs of a question and an answer '
            f"({_MOST_TURNS // 2} at most)."
        )
    texts = []
    for place, one in enumerate(said):
        wanted = _ANSWERS if place % 2 else _ASKS
        if not isinstance(one, dict) or one.get("from") not in wanted:
            raise DataError(f"{where}: part {place + 1} must be from {wanted[0]!r}.")
        if not isinstance(one.get("value"), str):
            raise DataError(f'{where}: part {place + 1} has no text under "value".')
        if any("\ud800" <= letter <= "\udfff" for letter in one["value"]):
            raise DataError(f"{where}: part {place + 1} holds half a letter (a lone surrogate).")
        texts.append(one["value"])
    image, shown = told.get("image"), sum(text.count(IMAGE) for text in texts)
    if image is not None and not isinstance(image, str):
        raise DataError(f'{where}: "image" must be the name of one file.')
    if any(IMAGE in text for text in texts[1::2]) or shown > 1 or (shown and not image):
        raise DataError(
            f"{where} shows {IMAGE} {shown} times: once, in a question, where it has an image, "
            "else never."
        )
    asked = [text.replace(IMAGE, "").strip() for text in texts[::2]]
    answers = [text.strip() for text in texts[1::2]]
    if not all(answers):
        raise DataError(f"{where} has an empty answer.")
    found = _inside(images, image, where) if image else None
    turns = tuple(zip(asked, answers, strict=True))
    return Conversation(str(told.get("id", where)), found, turns)


def _inside(images: Path, name: str, where: str) -> Path:
    try:
        path = (images / name).resolve()
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: {name[:80]!r} can't be the name of a file.") from error
    if not path.is_relative_to(images):
        raise DataError(f"{where}: {name[:80]!r} leads out of the folder of images.")
    return path


@dataclass(frozen=True)
class Encoded:
    """A conversation as tokens.

    Attributes:
        ids: int64 [t].
        labels: what is learned at each place, `IGNORED` where nothing is.
        cut: tokens that were too many.
    """

    ids: Int64[np.ndarray, " t"]
    labels: Int64[np.ndarray, " t"]
    cut: int


def encode(
    one: Conversation, template: Template, tokenizer: Any, patches: int, max_tokens: int
) -> Encoded:
    """Return a conversation as tokens; its answers and what ends them are labels, nothing else.

    The image comes first, `patches` times the token `<image>`, as transformers' processor does it.
    """
    end = tokenizer.eos_token if template.end is None else template.end
    text, spans = "", []
    for asked, answer in one.turns:
        text += question(template, asked, patches if one.image is not None else 0, first=not text)
        said = answer + end if not template.asked else f" {answer}{end}"
        spans.append((len(text), len(text) + len(said)))
        text += said
    made = tokenizer(text, return_offsets_mapping=True, verbose=False)
    ids = np.array(made["input_ids"], np.int64)
    begins, ends = np.array(made["offset_mapping"], np.int64).T
    learned = np.zeros(len(ids), bool)
    for start, stop in spans:
        learned |= (begins >= start) & (ends <= stop) & (ends > begins)
    labels = np.where(learned, ids, IGNORED)
    return Encoded(ids[:max_tokens], labels[:max_tokens], max(0, len(ids) - max_tokens))


def question(template: Template, asked: str, patches: int, *, first: bool = True) -> str:
    """Return a question as text, up to where its answer begins."""
    image = IMAGE * patches if first else ""
    if not template.asked:
        return image
    lead = template.system if first else ""
    return f"{lead}{template.user}{image and image + chr(10)}{asked} {template.assistant}"


def padded(
    rows: Sequence[Encoded], pad: int
) -> tuple[Int64[Tensor, "b t"], Int64[Tensor, "b t"], Int64[Tensor, "b t"]]:
    """Return ids, labels and mask (1 where a token is) of several, filled up at their ends."""
    longest = max(len(row.ids) for row in rows)
    ids, labels, mask = (np.full((len(rows), longest), fill) for fill in (pad, IGNORED, 0))
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = row.ids
        labels[number, : len(row.ids)] = row.labels
        mask[number, : len(row.ids)] = 1
    return torch.from_numpy(ids), torch.from_numpy(labels), torch.from_numpy(mask)
