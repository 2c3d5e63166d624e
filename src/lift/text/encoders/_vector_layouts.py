"""Tell which files hold rows and which hold the texts or keys of the same rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lift.errors import ConfigError, DataError
from lift.text.columns import (
    Files,
    listed,
    map_npy,
    matching,
    open_parquet,
    subfolders,
)
from lift.text.reading import KEY_COLUMNS, SUFFIXES, TEXT_COLUMNS, texts_of

LAYOUTS = ("npy", "parquet", "clip_retrieval", "reference")
_TEXT_STEMS = ("texts", "captions", "ids", "keys", "metadata")
_PROBED = 64


@dataclass(frozen=True)
class Found:
    """Files of one layout, in order.

    Attributes:
        layout: one of `LAYOUTS`.
        rows: files with vectors.
        texts: files with texts or keys; the same ones for parquet.
        by_key: whether they hold keys of images rather than texts.
        column: of texts or keys, None for the usual one.
    """

    layout: str
    rows: Files
    texts: Files
    by_key: bool
    column: str | None

    def chunks(self, lengths: Iterator[tuple[Path, int]]) -> Iterator[list[str | None]]:
        """Yield texts or keys of all rows in order; a key gets its file's folder in front.

        Args:
            lengths: each file of rows with its number of rows.

        Raises:
            DataError: not as many texts as rows.
        """
        if len(self.texts) == len(self.rows):
            for path, (rows, count) in zip(self.texts, lengths, strict=True):
                yield from _counted(self._of(path), count, str(path), str(rows))
        else:
            count = sum(count for _, count in lengths)
            every = (chunk for path in self.texts for chunk in self._of(path))
            name = f"{self.texts[0]} (and {len(self.texts) - 1} more)"
            yield from _counted(every, count, name, f"{self.rows[0]} and those after it")

    def _of(self, path: Path) -> Iterator[list[str | None]]:
        chunks = texts_of(path, self.column, self.by_key)
        if self.layout != "reference" or not self.by_key:
            return chunks
        folder = path.parent.name
        return ([None if key is None else f"{folder}/{key}" for key in some] for some in chunks)


def _counted(
    chunks: Iterator[list[str | None]], count: int, texts: str, rows: str
) -> Iterator[list[str | None]]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        yield chunk
    if total != count:
        raise DataError(
            f"{texts} has {total:,} texts or keys for the {count:,} rows of {rows}; each row "
            "needs one, in the same order."
        )


def find(
    path: str,
    layout: str = "auto",
    texts: str | None = None,
    text_column: str | None = None,
    id_column: str | None = None,
    join: str = "auto",
) -> Found:
    """Return the files that options name; see `vectors.Config`.

    Raises:
        ConfigError: a layout that can't be told, or contradictory options.
        DataError: no file there, none with texts, or one that can't be read.
    """
    layout, rows = find_rows(path, layout)
    beside = _texts_of(rows, Path(path).expanduser(), layout, texts)
    by_key = {"key": True, "text": False}.get(join)
    if by_key is None:
        by_key = _holds_keys(beside[0], layout, text_column, id_column)
    return Found(layout, rows, beside, by_key, id_column if by_key else text_column)


def find_rows(path: str, layout: str = "auto") -> tuple[str, Files]:
    """Return (layout, files with vectors) of a path, which need no texts yet; raises as `find`."""
    where = Path(path).expanduser()
    layout = _detect(where) if layout == "auto" else layout
    rows = Files(_rows_of(where, layout))
    if not len(rows):
        raise DataError(f"{path} holds no files of the layout {layout}; check path and layout.")
    return layout, rows


def _detect(path: Path) -> str:
    if not os.path.isdir(path):  # unlike a Path's, never raises
        suffix = matching(str(path))[0].suffix
        if suffix in (".npy", ".parquet"):
            return suffix[1:]
        raise ConfigError(
            f"{path} ends in neither .npy nor .parquet; vectors are read from those (and from "
            f"folders of the layouts {', '.join(LAYOUTS)})."
        )
    if (path / "text_emb").is_dir() and (path / "metadata").is_dir():
        return "clip_retrieval"
    if listed(path, ".npy"):
        return "npy"
    first = next(iter(listed(path, ".parquet")), None) or next(_in_subfolders(path), None)
    if first is None:
        raise ConfigError(
            f"{path} holds neither .npy nor .parquet files, nor folders of them; layouts are "
            f"{', '.join(LAYOUTS)}."
        )
    with open_parquet(first) as file:
        names = set(file.schema_arrow.names)
    numbered = first.stem.isdigit() and {"key", "embedding"} <= names
    return "reference" if numbered and not names & set(TEXT_COLUMNS) else "parquet"


def _in_subfolders(path: Path) -> Iterator[Path]:
    for folder in subfolders(path):
        yield from listed(folder, ".parquet")


def _rows_of(path: Path, layout: str) -> Iterator[Path]:
    """Yield the files with vectors, in natural order, folder by folder."""
    if layout == "clip_retrieval":
        yield from listed(_subfolder(path, "text_emb"), ".npy")
    elif not path.is_dir():
        yield from matching(str(path))
    elif layout == "npy":
        # A .npy of texts may lie among the rows.
        yield from (file for file in listed(path, ".npy") if map_npy(file).dtype.kind not in "US")
    else:
        yield from listed(path, ".parquet")
        yield from _in_subfolders(path)


def _subfolder(path: Path, name: str) -> Path:
    if not (path / name).is_dir():
        raise DataError(f"{path} has no folder {name}; the layout clip_retrieval needs it.")
    return path / name


def _texts_of(rows: Files, path: Path, layout: str, texts: str | None) -> Files:
    """Return the files with texts or keys: those named, the same ones, or those beside."""
    if texts is not None:
        where = Path(texts).expanduser()
        if not where.is_dir():
            return Files(matching(str(where)))
        found = [file for suffix in SUFFIXES for file in listed(where, suffix)]
        if found and len({file.suffix for file in found}) == 1:
            return Files(found)
        raise DataError(f"{where} does not hold files of one kind of {', '.join(SUFFIXES)}.")
    if layout in ("parquet", "reference"):
        return rows
    if layout == "clip_retrieval":
        folder = _subfolder(path, "metadata")
        return Files(_existing(folder / _metadata_name(file), file) for file in rows)
    return _beside(rows)


def _metadata_name(rows: Path) -> str:
    return f"metadata_{rows.stem.removeprefix('text_emb_')}.parquet"


def _existing(path: Path, rows: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} is missing, which holds the captions of {rows}.")
    return path


def _beside(rows: Files) -> Files:
    """Return one file of texts for each `.npy` of rows, else the one for all in their folder."""
    own = [_own(path) for path in rows]
    found = [path for path in own if path is not None]
    if len(found) == len(rows):
        return Files(found)
    if found:
        lacking = rows[own.index(None)]
        raise DataError(f"{lacking} has no file of texts beside it, others have; give texts=...")
    folder = rows[0].parent
    every = [folder / f"{stem}{end}" for stem in _TEXT_STEMS for end in SUFFIXES]
    there = [path for path in every if path.is_file()]
    if len(there) != 1:
        told = f"several files ({', '.join(p.name for p in there)})" if there else "no file"
        raise DataError(
            f"There is {told} with the texts of {rows[0]}: put {rows[0].stem}.txt, .jsonl, .csv, "
            ".tsv or .parquet beside it, or give texts=FILE."
        )
    return Files(there)


def _own(rows: Path) -> Path | None:
    names = [f"{rows.stem}{end}" for end in SUFFIXES if end != ".npy"]
    names += [f"{rows.stem}{join}{word}.npy" for word in _TEXT_STEMS for join in "._"]
    there = [rows.with_name(name) for name in names if rows.with_name(name).is_file()]
    if len(there) > 1:
        raise DataError(
            f"{rows} has several files of texts beside it ({', '.join(p.name for p in there)}); "
            "name one with texts=..."
        )
    return there[0] if there else None


def _holds_keys(path: Path, layout: str, text_column: str | None, id_column: str | None) -> bool:
    """Return whether keys rather than texts are meant, from what is named and what is there."""
    if text_column and id_column:
        raise ConfigError(
            "vectors: with both text_column and id_column given, say join=text or join=key."
        )
    if text_column or id_column:
        return bool(id_column)
    if layout == "reference":
        return True
    if path.suffix == ".parquet":
        with open_parquet(path) as file:
            names = set(file.schema_arrow.names)
        return not names & set(TEXT_COLUMNS) and bool(names & set(KEY_COLUMNS))
    return path.stem.endswith(("ids", "keys"))
