"""What a folder of packed pairs is begun with, and held to until it is finished."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lift.config import to_dict, to_json
from lift.curation.shards import RAW, Work, require_usable
from lift.errors import ConfigError, DataError, StorageError
from lift.files import write_text
from lift.terms import Source
from lift.text.keys import KEY, KeySet

FORMAT = "lift.pack/1"
PLAN = "plan.json"
_CHUNK = 4096
_MOST_ROLES = 64


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A source as it was when the packing began.

    Attributes:
        name, samples: of the source.
        digest: of every key and caption, in order.
    """

    name: str
    samples: int
    digest: str


def survey(sources: Sequence[Source], progress: bool) -> tuple[list[Packed], tuple[str, ...], bool]:
    """Read all keys and captions once: what the sources are, the roles, whether keys repeat."""
    if not sources:
        raise ConfigError("Nothing was given to pack; name at least one source.")
    packed: list[Packed] = []
    roles: set[str] = set()
    everywhere, repeats = KeySet(), False
    for source in sources:
        digest, keys = hashlib.blake2b(digest_size=16), KeySet()
        texts = source.texts()
        bar = tqdm(texts, total=len(source), desc=f"keys of {source.name}", disable=not progress)
        for chunk in _chunks(bar):
            found = np.frombuffer(b"".join(_hash(key) for key, _ in chunk), KEY)
            new = keys.add(found)
            if not new.all():
                twice = chunk[int(np.argmin(new))][0]
                raise DataError(f"{source.name} has the key {twice!r} twice; keys must be unique.")
            repeats = repeats or not bool(everywhere.add(found).all())
            for key, captions in chunk:
                told = (key, *((c.role, c.text, c.weight) for c in captions))
                digest.update(json.dumps(told).encode("ascii") + b"\n")
                roles.update(caption.role for caption in captions)
        if len(roles) > _MOST_ROLES:
            raise DataError(f"{source.name} has more than {_MOST_ROLES} roles of captions.")
        packed.append(Packed(name=source.name, samples=len(source), digest=digest.hexdigest()))
    require_usable(sorted(roles))
    return packed, tuple(sorted(roles, key=lambda role: (role != RAW, role))), repeats


def _hash(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _chunks(stream: Iterable[Any]) -> Iterator[list[Any]]:
    stream = iter(stream)
    while chunk := list(itertools.islice(stream, _CHUNK)):
        yield chunk


def settle(folder: Path, packed: Sequence[Packed], work: Work) -> None:
    """Write the plan, or hold this run to the one that is there."""
    plan = {"format": FORMAT, "sources": to_dict(packed), "work": to_dict(work)}
    path = folder / PLAN
    if not path.exists():
        write_text(path, to_json(plan))
        return
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        before, told = there["work"], there["sources"]
        kind = there["format"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StorageError(
            f"{path} is damaged ({error}); remove {folder} and pack again."
        ) from error
    if kind != FORMAT:
        raise StorageError(f"{folder} has the format {kind!r}, not {FORMAT}; give another folder.")
    for name in ("side", "quality", "shard_samples"):
        if before.get(name) != getattr(work, name):
            raise StorageError(
                f"{folder} was begun with {name}={before.get(name)}, not {getattr(work, name)}; "
                "give the same options, or another folder."
            )
    if told != plan["sources"] or before != plan["work"]:
        names = ", ".join(str(source.get("name")) for source in told)
        raise StorageError(
            f"{folder} was begun with other pairs ({names}), or these have changed since; give "
            "another folder."
        )
