"""What a model was trained on, as a Parquet file: a row for each sample that it was shown.

A row has the sample's key, the number and name of its source, a hash of its image file and one of
its look (`lift.data.likeness`), and for each caption of the roles that took part a hash of the
text and one of its words. Nobody can read a picture or a sentence out of it, and whoever has one
can tell whether it was there.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from lift.data.joined import Joined, sources_of
from lift.data.rows import of_roles
from lift.errors import DataError
from lift.files import whole_file
from lift.terms import Caption, Source
from lift.text.encoder import clean
from lift.text.keys import keys_of

NAME = "trained_on.parquet"
FORMAT = 1

MOST_IN_A_MODEL = 5_000_000
"""Samples from which on the file stays in the run's folder: 0.2 GB with one caption each."""

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("image", pa.int64()),
        ("look", pa.int64()),
        ("captions", pa.list_(pa.int64())),
        ("alike", pa.list_(pa.int64())),
    ]
)
_ABOUT = b"lift"
_READ_TOGETHER = 1_024
_GROUP = 65_536
_PLAIN = re.compile(r"[a-z0-9]+")
_SECRETS = (
    (re.compile(r"(?<=://)[^/@\s,]*@"), ""),
    (re.compile(r"(https?://[^\s,?]*)\?[^\s,]*"), r"\1"),
)


class Provenance:
    """The file, of which only what it says about itself is read at first.

    Attributes:
        path: of the file.
        summary: samples, captions, samples of the data in all, roles, and for each source its
            name, the words it was opened from, its licence and its samples.
    """

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            DataError: damaged, something else, or of a newer lift.
        """
        self.path = path
        try:
            with pq.ParquetFile(path) as file:
                schema, rows = file.schema_arrow, file.metadata.num_rows
                self.summary: dict[str, Any] = json.loads(file.metadata.metadata[_ABOUT])
                form = self.summary.pop("format")
        except (
            pa.ArrowException,
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
        ) as error:
            raise DataError(
                f"{path} is no readable record of what a model was trained on "
                f"({str(error)[:200]}); copy it again from where it was made."
            ) from error
        if form != FORMAT:
            raise DataError(
                f"{path} has format {form}, this version reads {FORMAT}: upgrade lift-align."
            )
        if not schema.equals(SCHEMA) or rows != self.summary.get("samples"):
            raise DataError(f"{path} is damaged: it does not hold what it says.")

    def __len__(self) -> int:
        return self.summary["samples"]

    @property
    def fits_a_model(self) -> bool:
        """Whether the file is small enough to go wherever the model goes."""
        return len(self) <= MOST_IN_A_MODEL

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield some columns of all rows in pieces.

        Raises:
            DataError: the file is damaged.
        """
        try:
            with pq.ParquetFile(self.path) as file:
                yield from file.iter_batches(_GROUP, columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{self.path} is damaged ({str(error)[:200]}); copy it again from where it was "
                "made."
            ) from error


def write(
    path: Path,
    source: Source,
    prints: Int64[np.ndarray, "samples 2"],
    *,
    words: Sequence[str] = (),
    licences: Sequence[str] = (),
    roles: Sequence[str] = (),
) -> Provenance:
    """Write what of a source was shown; one pass over its texts, in bounded memory.

    Equal arguments give equal bytes.

    Args:
        path: of the file, which appears whole.
        source: the pairs.
        prints: hashes (file, look) of each sample; 0 for those that were not shown.
        words: what each joined source was opened from; passwords and signatures are left out.
        licences: of each joined source, or one for all.
        roles: of the captions that took part; empty for all.

    Raises:
        DataError: the source has another number of samples now.
        StorageError: the disk is full.
    """
    names = _apart([one.name for one in sources_of(source)])
    counts = np.zeros(len(names), np.int64)
    captions = 0
    with (
        whole_file(path) as aside,
        open(aside, "wb") as file,
        pq.ParquetWriter(
            file,
            SCHEMA,
            compression="zstd",
            use_dictionary=["source"],  # type: ignore[arg-type]
        ) as writer,
    ):
        for table in _grouped(_rows(source, prints, roles, names), _GROUP):
            indices = table["source"].combine_chunks().indices
            counts += np.bincount(indices.to_numpy(), minlength=len(names))
            captions += len(table["captions"].combine_chunks().values)
            writer.write_table(table, row_group_size=_GROUP)
        sources = [
            {
                "name": name,
                "words": _without_secrets(_of(words, place)),
                "licence": _of(licences, place) if len(licences) != 1 else licences[0],
                "samples": int(counts[place]),
            }
            for place, name in enumerate(names)
        ]
        about = {
            "format": FORMAT,
            "samples": int(counts.sum()),
            "captions": captions,
            "of": len(prints),
            "roles": list(roles),
            "sources": sources,
        }
        writer.add_key_value_metadata({_ABOUT: json.dumps(about, ensure_ascii=False).encode()})
    return Provenance(path)


def origin_of(provenance: Provenance) -> dict[str, Any]:
    """Return what a model's own record says of the file, with where it lies: model or run."""
    return {**provenance.summary, "kept": "model" if provenance.fits_a_model else "run"}


def beside(folder: Path, origin: Mapping[str, Any]) -> Path | None:
    """Return where the file of the model in `folder` lies, None where there is none.

    Args:
        folder: of the model.
        origin: what the model's record says of its making.
    """
    about = origin.get("trained_on")
    in_run = isinstance(about, Mapping) and about.get("kept") == "run"
    path = (folder.parent if in_run else folder) / NAME
    return path if path.is_file() else None


def caption_hashes(texts: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """Return the first 8 bytes of each caption's key (`lift.text.encoder.caption_key`)."""
    keys = keys_of([clean(text) for text in texts])
    return keys.view("<i8").reshape(-1, 2)[:, 0].astype(np.int64)


def words_hashes(texts: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """Return a hash of each caption's words: case, punctuation and spaces make no difference."""
    blake = hashlib.blake2b
    found = b"".join(blake(words_of(t).encode(), digest_size=8).digest() for t in texts)
    return np.frombuffer(found, "<i8").astype(np.int64)


def words_of(text: str) -> str:
    """Return letters and digits of a caption, without case, in words with one space between.

    Marks stay: they are the vowels of many scripts. A caption without any letter or digit stays
    as it is, or all captions of emoji would be one.
    """
    if text.isascii():
        return " ".join(_PLAIN.findall(text.lower())) or clean(text)
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept = "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in folded)
    return " ".join(kept.split()) or clean(text)


def _rows(
    source: Source,
    prints: Int64[np.ndarray, "samples 2"],
    roles: Sequence[str],
    names: Sequence[str],
) -> Iterator[pa.RecordBatch]:
    """Yield rows of the samples that were shown."""
    told = iter(source.texts())
    for first in range(0, len(prints), _READ_TOGETHER):
        piece = list(itertools.islice(told, _READ_TOGETHER))
        if len(piece) != min(_READ_TOGETHER, len(prints) - first):
            break
        shown = np.flatnonzero(prints[first : first + len(piece), 0])
        if not len(shown):
            continue
        kept = [piece[place] for place in shown.tolist()]
        texts = [_texts(captions, roles) for key, captions in kept]
        flat = list(itertools.chain.from_iterable(texts))
        offsets = np.cumsum([0, *map(len, texts)], dtype=np.int32)
        of = source.source_of(shown + first) if isinstance(source, Joined) else 0 * shown
        columns = [
            # Half of a surrogate pair, as in odd file names, is no text to Parquet.
            pa.array([key.encode("utf-8", "backslashreplace").decode() for key, _ in kept]),
            pa.DictionaryArray.from_arrays(of.astype(np.int32), list(names)),
            pa.array(np.ascontiguousarray(prints[shown + first, 0])),
            pa.array(np.ascontiguousarray(prints[shown + first, 1])),
            pa.ListArray.from_arrays(offsets, caption_hashes(flat)),
            pa.ListArray.from_arrays(offsets, words_hashes(flat)),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
    else:
        if next(told, None) is None:
            return
    raise DataError(
        f"{source.name} has another number of samples than the {len(prints):,} that were there "
        "when the run began: give it the data that it was started with."
    )


def _texts(captions: Sequence[Caption], roles: Sequence[str]) -> list[str]:
    return [caption.text for caption in of_roles(captions, roles)]


def _grouped(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Yield tables of at least so many rows, but for the last: a row group each."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= rows:
            yield pa.Table.from_batches(held).combine_chunks()
            held = []
    if held:
        yield pa.Table.from_batches(held).combine_chunks()


def _apart(names: Sequence[str]) -> list[str]:
    """Return names, those that were there before with a number behind."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _of(values: Sequence[str], place: int) -> str:
    return values[place] if place < len(values) else ""


def _without_secrets(words: str) -> str:
    for pattern, instead in _SECRETS:
        words = pattern.sub(instead, words)
    return words
