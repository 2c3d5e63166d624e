"""What there is of one part of a cache: its shards and links, listed in a manifest or not yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from lift.cache import links
from lift.cache import manifest as records
from lift.cache import shard as shards
from lift.cache.fidelity import Fidelity, merge
from lift.cache.manifest import Plan, Shard
from lift.cache.place import Place
from lift.cache.probes import Probes
from lift.cache.rows import StoredRows
from lift.errors import CacheError
from lift.text.keys import KEY, KeySet, keys_of

_CHUNK = 4_096


def link_keys(identities: Iterable[tuple[str, bytes, str, str, bytes | None]]) -> np.ndarray:
    """Return keys [n] that tell links apart."""
    return np.frombuffer(b"".join(links.key_of(*identity) for identity in identities), KEY)


class FoundPart:
    """One part as an earlier run left it; memory holds no key of its rows.

    Attributes:
        place: of this part's files.
        plan: of the whole cache.
        number: of this part, from 0.
    """

    def __init__(self, place: Place, plan: Plan, number: int) -> None:
        self.place = records.part_place(place, plan, number)
        self.plan, self.number = plan, number
        self._codec, self._schema = plan.build_codec(), plan.schema()
        self._before = records.read_manifest(self.place)
        if self._before is not None and self._before.plan != plan:
            raise CacheError(
                f"{self.place}/{records.MANIFEST} was made by another plan than "
                f"{place}/{records.PLAN}: one of them was changed; copy the cache again."
            )
        self._fidelity: list[Fidelity | None] = []
        self._versions = list(self._before.versions) if self._before else []
        self._absent: dict[str, KeySet] = {}
        self._stored, self._linked = KeySet(self.place.scratch), KeySet(self.place.scratch)
        self._shards = self._read_shards()
        self._links = self._read_links()

    @property
    def rows(self) -> int:
        """Return how many rows this part has."""
        return sum(shard.rows for shard in self._shards)

    def fidelity(self) -> Fidelity | None:
        """Return what the codec changed over all rows; None where older shards don't tell."""
        known = [told for told in self._fidelity if told is not None]
        return merge(known) if len(known) == len(self._fidelity) else None

    def known(self, texts: Sequence[str]) -> Probes | None:
        """Return those of some texts that have rows here, decoded; None where none has."""
        rows = self._stored_rows()
        at = rows.find_keys(keys_of(texts))
        there = np.flatnonzero(at >= 0)
        if not len(there):
            return None
        return Probes(tuple(texts[i] for i in there.tolist()), rows.take(at[there]))

    def _stored_rows(self) -> StoredRows:
        owned = [(self.place, shard) for shard in self._shards]
        return StoredRows(str(self.place), owned, self._schema, self._codec)

    def _learn(self, view: shards.ShardView) -> None:
        """Note what a shard says about itself."""
        self._fidelity.append(view.fidelity)
        if view.versions is not None and view.versions not in self._versions:
            self._versions.append(view.versions)
        for why, keys in view.absent.items():
            self._note_absent(why, keys)

    def _note_absent(self, why: str, keys: np.ndarray) -> None:
        """Remember what can't have a row: tried again, it would shift what each shard holds."""
        self._absent.setdefault(why, KeySet(self.place.scratch)).add(keys)

    def _why_absent(self, keys: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (why, which of the keys have no row for that reason)."""
        yield from ((why, absent.contains(keys)) for why, absent in self._absent.items())

    def _read_shards(self) -> list[Shard]:
        """Return the shards that are there, listed in the manifest or not, and learn their keys."""
        found: list[Shard] = []
        for name, listed in self._files(shards.is_shard, shards.name_of, "shards"):
            path = self.place.local(name)
            try:
                view = shards.open_shard(
                    path, self._schema, self._codec, listed.rows if listed else None
                )
            except CacheError:
                if listed is None and not self.place.whole:
                    break  # a killed writer's upload: it is made again
                raise
            self._stored.add(view.keys)
            self._learn(view)
            found.append(listed or self._record(name, view))
            self.place.forget(name)
        return found

    def _read_links(self) -> list[Shard]:
        """Return the files of links that are there, and learn what they link."""
        found: list[Shard] = []
        for name, listed in self._files(links.is_links, links.name_of, "links"):
            try:
                table = links.read_unlisted(self.place, name)
            except CacheError:
                if listed is None and not self.place.whole:
                    break
                raise
            for batch in table.select(links.IDENTITY).to_batches(_CHUNK):
                columns = (column.to_pylist() for column in batch.columns)
                self._linked.add(link_keys(zip(*columns, strict=True)))
            self.place.forget(name)
            found.append(listed or links.record(self.place, name, len(table)))
        return found

    def _files(
        self, ours: Callable[[str], bool], name_of: Callable[[int], str], kind: str
    ) -> Iterator[tuple[str, Shard | None]]:
        """Yield (name, its record, None where the manifest does not list it yet) in order."""
        listed: Sequence[Shard] = getattr(self._before, kind) if self._before else ()
        sizes = self.place.sizes()
        count = sum(ours(name) for name in sizes)
        for number in range(max(count, len(listed))):
            name = name_of(number)
            shard = listed[number] if number < len(listed) else None
            size = sizes.get(name)
            if size is None or (shard is not None and size != shard.bytes):
                raise CacheError(
                    f"{self.place}/{name} is missing or does not have its size any more; remove "
                    "the folder and embed again."
                )
            yield name, shard

    def _record(self, name: str, view: shards.ShardView) -> Shard:
        path = self.place.local(name)
        return Shard(
            file=name,
            rows=len(view.keys),
            bytes=path.stat().st_size,
            sha256=shards.file_hash(path),
            tokens=int(view.tokens.sum()),
            truncated=int(view.truncated.sum()),
        )
