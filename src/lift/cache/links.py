"""What ties stored texts to images: role, source, weight, language; in files beside the rows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pyarrow as pa

from lift.cache.manifest import Shard
from lift.cache.place import Place
from lift.cache.shard import file_hash
from lift.errors import CacheError
from lift.text.encoder import KEY_BYTES
from lift.text.roles import Linked

ROWS_PER_FILE = 65_536

SCHEMA = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("caption", pa.binary(KEY_BYTES), nullable=False),
        pa.field("role", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("source", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("language", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),
        # Of derived texts only: nobody else has them.
        pa.field("text", pa.string()),
        pa.field("parent", pa.binary(KEY_BYTES)),
        pa.field("cosine", pa.float32()),
    ],
    metadata={"lift": "lift.cache.links/1"},
)
"""`image` is "" for a text that came without one, `caption` the key of the text's row (see
`caption_key`). A derived text has its `parent`'s key and the cosine between the two rows."""

IDENTITY = ("image", "caption", "role", "source", "parent")
"""Columns that tell links apart. A link that is there keeps its weight and language."""

LinkTable: TypeAlias = pa.Table
_NAME = re.compile(r"links-\d{5,}\.arrow")
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


class Link(NamedTuple):
    """One link: the text with what belongs to it, its key, its parent's, and their cosine."""

    item: Linked
    caption: bytes
    parent: bytes | None = None
    cosine: float | None = None

    def identity(self) -> tuple[str, bytes, str, str, bytes | None]:
        """Return the values of `IDENTITY`."""
        item = self.item
        return item.key, self.caption, item.role, item.source, self.parent


def name_of(number: int) -> str:
    """Return the name of the links file `number`."""
    return f"links-{number:05d}.arrow"


def is_links(name: str) -> bool:
    """Return whether a file of this name holds links."""
    return _NAME.fullmatch(name) is not None


def key_of(image: str, caption: bytes, role: str, source: str, parent: bytes | None) -> bytes:
    """Return what tells a link apart, 16 bytes."""
    words = f"{image}\0{role}\0{source}\0".encode()
    return hashlib.blake2b(words + caption + (parent or b""), digest_size=KEY_BYTES).digest()


def write(place: Place, number: int, links: Sequence[Link]) -> Shard:
    """Write one file of links whole and return its record; equal links give equal bytes."""
    items = [link.item for link in links]
    columns = {
        "image": [item.key for item in items],
        "caption": [link.caption for link in links],
        "weight": [item.weight for item in items],
        "text": [item.text if item.parent else None for item in items],
        "parent": [link.parent for link in links],
        "cosine": [link.cosine for link in links],
    }
    arrays = {name: pa.array(values, SCHEMA.field(name).type) for name, values in columns.items()}
    for name in ("role", "source", "language"):
        values = pa.array([getattr(item, name) for item in items], pa.string())
        arrays[name] = values.dictionary_encode().cast(SCHEMA.field(name).type)
    batch = pa.RecordBatch.from_arrays([arrays[name] for name in SCHEMA.names], schema=SCHEMA)
    name = name_of(number)

    def fill(path: Path) -> None:
        with path.open("wb") as file, pa.ipc.new_file(file, SCHEMA, options=_OPTIONS) as writer:
            writer.write_batch(batch)

    place.write(name, fill)
    return record(place, name, len(links))


def read(place: Place, shard: Shard) -> LinkTable:
    """Return one file of links.

    Raises:
        CacheError: damaged, or not with the rows that the manifest says.
    """
    table = read_unlisted(place, shard.file)
    if len(table) != shard.rows:
        raise CacheError(
            f"{place}/{shard.file} has {len(table)} links, the manifest says {shard.rows}; copy "
            "the cache again, or remove the folder and embed again."
        )
    return table


def read_unlisted(place: Place, name: str) -> LinkTable:
    """Return one file of links that no manifest lists yet; see `read`."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(place.local(name)))).read_all()
        table.validate(full=True)
        if not table.schema.equals(SCHEMA, check_metadata=True):
            raise ValueError(f"its columns are {', '.join(table.column_names)}")
        return table
    except (pa.ArrowException, OSError, ValueError, KeyError, IndexError) as error:
        raise CacheError(
            f"{place}/{name} can't be read as links ({' '.join(str(error).split())[:200]}); copy "
            "the cache again, or remove the folder and embed again."
        ) from error


def record(place: Place, name: str, rows: int) -> Shard:
    """Return the record of a file of links."""
    path = place.local(name)
    return Shard(file=name, rows=rows, bytes=path.stat().st_size, sha256=file_hash(path))
