"""Captions without their images, one a line or a column of a table: to embed, to make a card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lift.data import kinds
from lift.data.formats._paths import expand, source_name
from lift.errors import DataError
from lift.terms import Caption, Sample
from lift.text.encoder import clean
from lift.text.reading import has_columns, no_columns, texts_of


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        path: a file (.txt, .jsonl, both also with .gz, .csv, .tsv, .parquet, .npy), a glob, a
            brace range, or a list of them.
        column: with the texts; None takes `caption`, `text`, ...
        key: a column with the key of each text's image, so that the two are linked; None for none.
        role: of every text; see `lift.text.roles`.
    """

    path: str | tuple[str, ...] = ()
    column: str | None = None
    key: str | None = None
    role: str = "raw"


def build(config: Config) -> Texts:
    """Return the source; files are read when they are asked for.

    Raises:
        ConfigError: a column is asked of a file that has none.
        DataError: a file is missing.
    """
    return Texts(config)


class Texts:
    """A source of texts alone: nothing is kept of them, every reading reads the files.

    Attributes:
        counters: empty texts, and those with a NUL byte, passed over by the last complete reading.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._paths = expand(config.path)
        asked = config.key or config.column
        if asked is not None:
            for path in self._paths:
                if not has_columns(path):
                    raise no_columns(path, asked)
        self.name = source_name(self._paths)
        self.counters: dict[str, int] = {}
        self._count: int | None = None

    @property
    def groups(self) -> tuple[int, ...]:
        """Return one group."""
        return (len(self),)

    def __len__(self) -> int:
        if self._count is None:
            self._count = sum(1 for _ in self.texts())
        return self._count

    def read(self, index: int) -> Sample:
        """Refuse: there are no images."""
        raise DataError(
            f"{self.name} holds texts without images: it can be embedded, but not trained or "
            "judged on."
        )

    def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        """Yield (key of the image or "", its text) in the order of the files."""
        empty = nul = 0
        for path in self._paths:
            texts = (text for chunk in texts_of(path, self._config.column, False) for text in chunk)
            for key, text in zip(self._keys(path), texts, strict=False):
                if text is None or not clean(text):
                    empty += 1
                elif "\0" in text:
                    nul += 1
                else:
                    yield key, (Caption(text, self._config.role),)
        self.counters = {kinds.CAPTION_EMPTY: empty} | ({kinds.CAPTION_NUL: nul} if nul else {})

    def _keys(self, path: Path) -> Iterator[str]:
        if self._config.key is None:
            while True:
                yield ""
        for chunk in texts_of(path, self._config.key, True):
            for key in chunk:
                if not key:
                    raise DataError(
                        f"{path} has a text without a value in {self._config.key!r}; fill it in, "
                        "or leave out key=."
                    )
                yield key
