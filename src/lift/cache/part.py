"""One part of a cache under work: which rows and links it has, and how it gets new ones."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from lift.cache import links
from lift.cache import manifest as records
from lift.cache import shard as shards
from lift.cache.fidelity import Fidelity, measure, merge
from lift.cache.links import Link
from lift.cache.manifest import Manifest, Plan, Shard
from lift.cache.place import Place
from lift.cache.planning import version_note, versions
from lift.cache.rows import StoredRows
from lift.errors import CacheError, ConfigError, NotFinite
from lift.text.derive import FARTHEST, NEAREST, keep_negative
from lift.text.encoder import TextEncoder
from lift.text.keys import KeySet, keys_of
from lift.text.roles import Linked

_CHUNK = 4_096


def owners(keys: np.ndarray, parts: int) -> np.ndarray:
    """Return the part [n] that each key belongs to: of the text, whatever set it came in.

    So a longer list adds to every part only what is new, and parts have no text in common.
    """
    # Not the first bytes: sets of keys are divided by those.
    return np.ascontiguousarray(keys).view("<u8").reshape(-1, 2)[:, 1] % np.uint64(parts)


def _left_out(cosine: float | None) -> str:
    """Return why a negative gets no link, "" where it does."""
    if cosine is None:
        return "without a caption's row"
    return "too near" if cosine > NEAREST else "too far" if cosine < FARTHEST else ""


class OpenPart:
    """One run over one part; the caller holds its lock.

    Attributes:
        counts: captions offered to this part, stored among them before, embedded, truncated, real
            and padded tokens, links, negatives left out by reason; all of this run.
    """

    def __init__(
        self,
        place: Place,
        plan: Plan,
        number: int,
        encoder: TextEncoder,
        advance: Callable[[int], object],
    ) -> None:
        """Learn what is there.

        Args:
            place: of the cache.
            plan: of the whole cache.
            number: of this part, from 0.
            encoder: makes the rows.
            advance: told how many more captions are done with.

        Raises:
            CacheError: files that the manifest lists are missing or damaged.
        """
        self.place = records.part_place(place, plan, number)
        self.plan, self.number, self.encoder = plan, number, encoder
        self.counts: Counter[str] = Counter()
        self._advance = advance
        self._codec, self._schema = plan.build_codec(), plan.schema()
        scratch = self.place.scratch
        self._before = records.read_manifest(self.place)
        self._stored, self._seen = KeySet(scratch), KeySet(scratch)
        self._fidelity: list[Fidelity | None] = []
        self._shards = self._read_shards()
        self._linked = KeySet(scratch)
        self._links = self._read_links()

    @property
    def rows(self) -> int:
        """Return how many rows this part has."""
        return sum(shard.rows for shard in self._shards)

    @property
    def distinct(self) -> int:
        """Return how many distinct captions of this run belong to this part."""
        return len(self._seen)

    def embed(self, items: Iterable[Linked]) -> bool:
        """Store a row of every text that has none; return whether there are links to store."""
        pending: list[str] = []
        linked = False
        for chunk, keys in self._mine(items):
            new = self._seen.add(keys)
            stored = self._stored.contains(keys) & new
            fresh = new & ~stored
            self.counts["captions"] += len(chunk)
            self.counts["stored"] += int(stored.sum())
            linked = linked or any(item.key for item in chunk)
            pending += [chunk[i].text for i in np.flatnonzero(fresh).tolist()]
            self._advance(len(chunk) - int(fresh.sum()))
            while len(pending) >= self.plan.rows_per_shard:
                self._write(pending[: self.plan.rows_per_shard])
                del pending[: self.plan.rows_per_shard]
        if pending:
            self._write(pending)
        return linked

    def link(self, items: Iterable[Linked]) -> None:
        """Store what ties texts to images, and nothing twice; every text has its row by now.

        A negative that the text space can't tell from its parent, or that has nothing to do with
        it, gets no link; see `lift.text.derive`.
        """
        rows = StoredRows(
            str(self.place), [(self.place, s) for s in self._shards], self._schema, self._codec
        )
        pending: list[Link] = []
        for chunk, keys in self._mine(items):
            captions = [key.tobytes() for key in keys.view(np.dtype((np.void, keys.itemsize)))]
            names = [item.key for item in chunk], captions, [item.role for item in chunk]
            new = self._linked.add(links.keys_of(*names))
            wanted = [i for i in np.flatnonzero(new).tolist() if chunk[i].key]
            parents = self._parents(rows, [(chunk[i], captions[i]) for i in wanted])

            for i, (parent, cosine) in zip(wanted, parents, strict=True):
                if chunk[i].role == "negative" and (why := _left_out(cosine)):
                    self.counts[f"negatives {why}"] += 1
                else:
                    pending.append(Link(chunk[i], captions[i], parent, cosine))
            while len(pending) >= links.ROWS_PER_FILE:
                self._write_links(pending[: links.ROWS_PER_FILE])
                del pending[: links.ROWS_PER_FILE]
        if pending:
            self._write_links(pending)

    def finish(self) -> str:
        """Write the manifest, if there is anything new to say; return a note about versions."""
        before = self._before
        known = (before.versions if before else ()) or (self.plan.versions,)
        now = versions()
        note = version_note(known, now) if self.counts["embedded"] else ""
        have = (len(before.shards), len(before.links)) if before else None
        if have != (len(self._shards), len(self._links)):
            earlier = before.devices if before else (self.plan.device,)
            left_out = {n: c for n, c in self.counts.items() if n.startswith("negatives ")}
            records.write_manifest(
                self.place,
                Manifest(
                    plan=self.plan,
                    part=self.number,
                    shards=tuple(self._shards),
                    links=tuple(self._links),
                    counters={
                        "rows": self.rows,
                        "tokens": sum(shard.tokens for shard in self._shards),
                        "truncated": sum(shard.truncated for shard in self._shards),
                        "links": sum(shard.rows for shard in self._links),
                        "captions": self.counts["captions"],
                        "distinct": self.distinct,
                        **left_out,
                    },
                    fidelity=self.fidelity(),
                    devices=tuple(sorted({*earlier, self.encoder.device})),
                    versions=(*known, now) if note else tuple(known),
                ),
            )
        return note

    def fidelity(self) -> Fidelity | None:
        """Return what the codec changed over all rows; None where older shards don't tell."""
        known = [told for told in self._fidelity if told is not None]
        return merge(known) if len(known) == len(self._fidelity) else None

    def _mine(self, items: Iterable[Linked]) -> Iterator[tuple[Sequence[Linked], np.ndarray]]:
        """Yield the items of this part in chunks, with their keys; a derived one goes with its
        parent, so that both rows are at hand."""
        stream = iter(items)
        while chunk := list(itertools.islice(stream, _CHUNK)):
            keys = keys_of([item.text for item in chunk])
            if self.plan.parts > 1:
                of = keys_of([item.parent or item.text for item in chunk])
                mine = np.flatnonzero(owners(of, self.plan.parts) == self.number)
                chunk, keys = [chunk[i] for i in mine.tolist()], keys[mine]
            yield chunk, keys

    def _parents(
        self, rows: StoredRows, items: Sequence[tuple[Linked, bytes]]
    ) -> list[tuple[bytes | None, float | None]]:
        """Return (parent's key, cosine to it) of every item, None where it was not derived."""
        found: list[tuple[bytes | None, float | None]] = [(None, None)] * len(items)
        derived = [i for i, (item, _) in enumerate(items) if item.parent]
        if not derived:
            return found
        parents = keys_of([items[i][0].parent for i in derived])
        at = rows.find_keys(parents), rows.find_keys([items[i][1] for i in derived])
        both = (at[0] >= 0) & (at[1] >= 0)
        compared = keep_negative(*(rows.take(np.where(both, place, 0)) for place in at))
        for i, key, there, value in zip(derived, parents, both, compared.cosine, strict=True):
            whole = np.asarray(key, parents.dtype).tobytes()
            found[i] = whole, float(value) if there and np.isfinite(value) else None
        return found

    def _write(self, texts: list[str]) -> None:
        """Embed and store one shard; its bytes depend on its captions and the plan alone."""
        rows, tokens, cuts, measured = [], [], [], []
        for start in range(0, len(texts), self.plan.block):
            block = texts[start : start + self.plan.block]
            encoded = self.encoder.encode(
                block, precision=self.plan.precision, token_budget=self.plan.token_budget
            )
            self._check(block, encoded.rows)
            rows.append(self._codec.encode(encoded.rows))
            measured.append(measure(self._codec, encoded.rows, self._codec.stored(rows[-1])))
            tokens.append(encoded.tokens)
            cuts.append(encoded.truncated)
            cut = np.minimum(encoded.tokens, self.plan.space.max_tokens)
            self.counts["real tokens"] += int(cut.sum())
            self.counts["padded tokens"] += encoded.padded
            self._advance(len(block))
        columns = {
            "key": pa.array(keys_of(texts).view("V16").tolist(), self._schema.field("key").type),
            "row": pa.concat_arrays(rows),
            "tokens": pa.array(np.concatenate(tokens)),
            "truncated": pa.array(np.concatenate(cuts)),
        }
        name = shards.name_of(len(self._shards))
        shards.write_shard(self.place, name, self._schema, columns, merge(measured))
        view = shards.open_shard(self.place.local(name), self._schema, self._codec)
        record = self._record(name, view)
        self._shards.append(record)
        self._fidelity.append(view.fidelity)
        self.counts["embedded"] += record.rows
        self.counts["truncated"] += record.truncated

    def _check(self, texts: Sequence[str], rows: np.ndarray) -> None:
        if rows.shape != (len(texts), self.plan.space.dimensions):
            raise ConfigError(
                f"The encoder {self.encoder.part.name} returned {rows.shape[0]} rows of "
                f"{rows.shape[1]} values for {len(texts)} captions; its space promises "
                f"{self.plan.space.dimensions} values. What was stored before is whole."
            )
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            raise NotFinite(
                f"The encoder returned NaN or infinity for {int((~finite).sum())} caption(s), "
                f"first for {texts[int(np.argmin(finite))]!r}; check its weights or use "
                "precision float32."
            )

    def _write_links(self, found: Sequence[Link]) -> None:
        self._links.append(links.write(self.place, len(self._links), found))
        self.counts["links"] += len(found)

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
            self._fidelity.append(view.fidelity)
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
            for batch in table.select(["image", "caption", "role"]).to_batches(_CHUNK):
                self._linked.add(links.keys_of(*(column.to_pylist() for column in batch.columns)))
            found.append(listed or links.record(self.place, name, len(table)))
        return found

    def _files(
        self, ours: Callable[[str], bool], name_of: Callable[[int], str], kind: str
    ) -> Iterator[tuple[str, Shard | None]]:
        """Yield (name, its record, None where the manifest does not list it yet) in order."""
        listed: Sequence[Shard] = getattr(self._before, kind) if self._before else ()
        count = sum(ours(name) for name in self.place.names())
        for number in range(max(count, len(listed))):
            name = name_of(number)
            shard = listed[number] if number < len(listed) else None
            size = self.place.size(name)
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
