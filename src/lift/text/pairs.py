"""Read captions with edits of them and with paraphrases, from files of several forms."""

from __future__ import annotations

import ast
import csv
import gzip
import hashlib
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lift.errors import DataError
from lift.text.encoder import clean
from lift.text.negatives import negatives

MADE = "made by rule"
"""Where edits come from that nobody wrote down."""

WORD_ORDER = "word_order"
"""The kind of the edits in files of ARO's form: two words or phrases of the caption swapped."""

_SUFFIXES = (".json", ".jsonl", ".jsonl.gz", ".tsv", ".tsv.gz")
_MOST_BYTES = 256 << 20
_MOST_LIST = 20_000
"""Characters of one written list of negatives; the longest of ARO's has under a thousand."""


class Edit(NamedTuple):
    """A caption and what it becomes when its meaning is changed.

    `photo` names the photo that the caption describes, "" where nobody says; its other captions
    are paraphrases.
    """

    kind: str
    caption: str
    text: str
    photo: str = ""


@dataclass(frozen=True)
class PairSet:
    """Edits, and texts of equal meaning.

    Attributes:
        edits: every one different from its caption, and from the others of its kind.
        groups: texts that mean about the same, by photo, or by `same_as(caption)`.
        left_out: how many were not taken, by reason.
        made_of: benchmarks whose captions the edits were made of.
        about: where the edits come from, in words.
    """

    edits: tuple[Edit, ...]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    made_of: tuple[str, ...] = ()
    about: str = ""

    def paraphrase(self, edit: Edit) -> str | None:
        """Return a text of the same meaning as the edit's caption, always the same one.

        Of several, the one with the smallest hash with the caption. Texts that differ from the
        caption or the edit in case and punctuation only don't count.
        """
        taken = {_bare(edit.caption), _bare(edit.text)}
        found = (*self.groups.get(edit.photo, ()), *self.groups.get(same_as(edit.caption), ()))
        fit = [text for text in found if _bare(text) not in taken]
        return min(fit, key=lambda text: _order(edit.caption, text), default=None)


def same_as(caption: str) -> str:
    """Return the name of the group of texts that mean the same as a caption."""
    return f"caption:{caption}"


def read_pairs(paths: Iterable[str | Path]) -> PairSet:
    """Read files of pairs; of a folder, every `.json`, `.jsonl` and `.tsv` file directly in it.

    The forms, told apart by ending and content (`.jsonl` and `.tsv` also with `.gz`):

    - SugarCrepe's `KIND.json`: numbered objects with caption, negative_caption, filename;
    - ARO's `.tsv`: columns title, neg_caption (a written list of texts) and filepath;
    - `.jsonl` lines {"image_id", "caption"}: captions of one photo are each other's paraphrases;
    - `.jsonl` lines {"caption", "negative_caption"} with "kind" where known, and
      {"caption", "paraphrase"}.

    Numbers in file names are taken for the photos' ids, as COCO's are: give pairs and captions of
    one data set at a time. Nothing in a file is run; larger files than 256 MiB are refused.

    Raises:
        DataError: no such file, one of another form, or one that can't be read.
    """
    gathered = _Gathered()
    for path in paths:
        for file in _files(Path(path)):
            name = file.name.removesuffix(".gz")
            if name.endswith(".json"):
                _sugarcrepe(file, gathered)
            elif name.endswith(".tsv"):
                _aro(file, gathered)
            else:
                _lines(file, gathered)
    return gathered.pairs()


def made_pairs(
    captions: Iterable[str], groups: Mapping[str, Sequence[str]] | None = None, *, seed: int = 0
) -> PairSet:
    """Return edits made by rule (English only; see `lift.text.negatives`).

    Args:
        captions: what to edit, with no known paraphrases.
        groups: captions of equal meaning, by photo; they are edited as well.
        seed: another seed makes other edits.
    """
    gathered = _Gathered()
    gathered.file(MADE)
    for photo, texts in (groups or {}).items():
        for caption in map(clean, texts):
            gathered.same(photo, caption)
            for made in negatives(caption, seed):
                gathered.edit(Edit(made.kind, caption, clean(made.text), photo))
    for caption in map(clean, captions):
        for made in negatives(caption, seed):
            gathered.edit(Edit(made.kind, caption, clean(made.text)))
    return gathered.pairs()


def choose(pairs: PairSet, limit: int) -> tuple[Edit, ...]:
    """Return at most `limit` edits, as many of each kind as can be, chosen by their hash.

    Kinds with few edits keep all of theirs; the order of the files changes nothing.
    """
    kinds: dict[str, list[Edit]] = {}
    for edit in pairs.edits:
        kinds.setdefault(edit.kind, []).append(edit)
    chosen: list[Edit] = []
    for left, kind in enumerate(sorted(kinds, key=lambda k: (len(kinds[k]), k))):
        share = (limit - len(chosen)) // (len(kinds) - left)
        ranked = sorted(kinds[kind], key=lambda edit: _order(edit.caption, edit.text))
        chosen += ranked[:share]
    return tuple(sorted(chosen, key=lambda edit: (edit.kind, _order(edit.caption, edit.text))))


class _Gathered:
    """What has been read so far."""

    def __init__(self) -> None:
        self._edits: dict[Edit, None] = {}
        self._groups: dict[str, dict[str, None]] = {}
        self._left_out: Counter[str] = Counter()
        self._made_of: dict[str, None] = {}
        self._files: list[str] = []

    def edit(self, edit: Edit) -> None:
        if not edit.caption or not edit.text:
            self._left_out["empty texts"] += 1
        elif edit.caption == edit.text:
            self._left_out["edits equal to their caption"] += 1
        elif edit in self._edits:
            self._left_out["repeated edits"] += 1
        else:
            self._edits[edit] = None

    def same(self, group: str, text: str) -> None:
        if text:
            self._groups.setdefault(group, {})[text] = None
        else:
            self._left_out["empty texts"] += 1

    def file(self, name: str, made_of: str = "") -> None:
        self._files.append(name)
        if made_of:
            self._made_of[made_of] = None

    def pairs(self) -> PairSet:
        return PairSet(
            edits=tuple(self._edits),
            groups={group: tuple(texts) for group, texts in self._groups.items()},
            left_out=dict(self._left_out),
            made_of=tuple(self._made_of),
            about=", ".join(self._files),
        )


def _files(path: Path) -> list[Path]:
    """Return the file, or the files of the folder."""
    if path.is_file():
        if not path.name.endswith(_SUFFIXES):
            raise DataError(f"{path} is not a file of pairs: those end in {', '.join(_SUFFIXES)}.")
        return [path]
    if not path.is_dir():
        raise DataError(f"No file or folder of pairs is at {path}; check the path.")
    found = sorted(f for f in path.iterdir() if f.name.endswith(_SUFFIXES) and f.is_file())
    if not found:
        raise DataError(f"No file of pairs ({', '.join(_SUFFIXES)}) is in {path}.")
    return found


def _read(path: Path) -> str:
    """Return the text of a file, unpacked where it is packed, within bounds."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise DataError(f"{path} holds more than {_MOST_BYTES >> 20} MiB; split the file.")
        return data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as UTF-8 text ({error}).") from error


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON ({error}).") from error


def _sugarcrepe(path: Path, gathered: _Gathered) -> None:
    entries = _json(_read(path), str(path))
    if not isinstance(entries, dict):
        raise DataError(f"{path} is not in SugarCrepe's form: an object of numbered questions.")
    kind = path.name.removesuffix(".json")
    gathered.file(kind, made_of="coco")
    for number, entry in entries.items():
        names = ("caption", "negative_caption", "filename")
        if not isinstance(entry, dict) or not all(isinstance(entry.get(n), str) for n in names):
            raise DataError(f"{path}: question {number!r} lacks one of {', '.join(names)}.")
        caption, text = clean(entry["caption"]), clean(entry["negative_caption"])
        gathered.edit(Edit(kind, caption, text, _photo(entry["filename"])))


def _aro(path: Path, gathered: _Gathered) -> None:
    gathered.file(path.name, made_of="coco")
    for number, row in enumerate(_rows(path)):
        caption = clean(row["title"])
        for text in written_list(row["neg_caption"], f"{path}: neg_caption of row {number}"):
            gathered.edit(Edit(WORD_ORDER, caption, clean(text), _photo(row.get("filepath") or "")))


def _rows(path: Path) -> Iterator[Mapping[str, str]]:
    reader = csv.DictReader(io.StringIO(_read(path), newline=""), delimiter="\t")
    needed = ("title", "neg_caption")
    try:
        if not set(needed) <= set(reader.fieldnames or ()):
            raise DataError(f"{path} is not in ARO's form: it lacks one of {', '.join(needed)}.")
        for row in reader:
            if any(not isinstance(row[name], str) for name in needed):
                raise DataError(f"{path}: row {reader.line_num} has too few columns.")
            yield row
    except csv.Error as error:
        raise DataError(f"{path} is not a table of tab-separated columns ({error}).") from error


def written_list(text: str, where: str) -> Sequence[str]:
    """Return a list of texts that was written as Python writes it; nothing is run."""
    found: Any = None
    if len(text) <= _MOST_LIST:
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            found = None  # told below
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise DataError(f"{where} is not a list of texts: {text[:60]!r}.")
    return found


def _lines(path: Path, gathered: _Gathered) -> None:
    gathered.file(path.name)
    for number, line in enumerate(_read(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        entry = _json(line, where)
        if not isinstance(entry, dict) or not isinstance(entry.get("caption"), str):
            raise DataError(f"{where} is not an object with a caption.")
        caption = clean(entry["caption"])
        photo = entry.get("image_id", "")
        photo = str(photo) if isinstance(photo, int | str) else ""
        edit, other = entry.get("negative_caption"), entry.get("paraphrase")
        if isinstance(edit, str):
            kind = entry.get("kind")
            kind = kind if isinstance(kind, str) and kind else "edit"
            gathered.edit(Edit(kind, caption, clean(edit), photo))
        if isinstance(other, str):
            gathered.same(same_as(caption), clean(other))
        if photo:
            gathered.same(photo, caption)
        elif not isinstance(edit, str) and not isinstance(other, str):
            raise DataError(f"{where} has none of image_id, negative_caption and paraphrase.")


def _photo(name: str) -> str:
    """Return the id of a photo: the last number of its file's name, else the name."""
    found = re.search(r"(\d+)\.\w+$", name)
    return (found[1].lstrip("0") or "0") if found else name


def _bare(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _order(caption: str, text: str) -> bytes:
    return hashlib.blake2b(f"{caption}\x00{text}".encode(), digest_size=16).digest()
