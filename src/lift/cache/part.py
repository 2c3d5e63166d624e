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
from lift.cache.addresses import WHOLE, Address
from lift.cache.fidelity import Fidelity, measure, merge
from lift.cache.found import FoundPart, link_keys
from lift.cache.links import Link
from lift.cache.maker import EncodedImages, RowMaker, home_of, items_of
from lift.cache.manifest import Manifest, Plan
from lift.cache.place import Place
from lift.cache.planning import version_note, versions
from lift.cache.rows import StoredRows
from lift.errors import CacheError, ConfigError, NotFinite
from lift.text.derive import FARTHEST, NEAREST, keep_negative
from lift.text.encoder import EncodedTexts
from lift.text.keys import KEY, KeySet, keys_of
from lift.text.roles import Linked
from lift.text.space import TextSpace

_CHUNK = 4_096


def owners(keys: np.ndarray, parts: int) -> np.ndarray:
    """Return the part [n] that each key belongs to: of the text, whatever set it came in.

    So a longer list adds to every part only what is new, and parts have no text in common.
    """
    # Not the first bytes: sets of keys are divided by those.
    return np.ascontiguousarray(keys).view("<u8").reshape(-1, 2)[:, 1] % np.uint64(parts)


def _whole(key: np.ndarray | np.bytes_) -> bytes:
    """Return all 16 bytes of one key: numpy's own bytes lose zeros at the end."""
    return np.asarray(key, KEY).tobytes()


def _is_linked(item: Linked) -> bool:
    """Return whether there is more to say of a text than its row: its image, or its parent."""
    return bool(item.key or item.parent)


def _left_out(cosine: float | None) -> str:
    """Return why a negative gets no link, "" where it does."""
    if cosine is None:
        return "without a caption's row"
    return "too near" if cosine > NEAREST else "too far" if cosine < FARTHEST else ""


class OpenPart(FoundPart):
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
        encoder: RowMaker,
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
        super().__init__(place, plan, number)
        self.encoder, self._advance = encoder, advance
        self.counts: Counter[str] = Counter()
        self._seen = KeySet(self.place.scratch)
        self._now = versions(plan.space)
        self._known = tuple(self._versions) or (plan.versions,)

    @property
    def distinct(self) -> int:
        """Return how many distinct captions of this run belong to this part."""
        return len(self._seen)

    @property
    def left_out(self) -> dict[str, int]:
        """Return what got no link in this run, by reason."""
        reasons = ("negatives ", "links to ", *self._absent)
        return {n: c for n, c in self.counts.items() if c and n.startswith(reasons)}

    def embed(self, items: Iterable[Linked]) -> bool:
        """Store a row of every text that has none; return whether there are links to store."""
        pending: list[str] = []
        linked = False
        for chunk, keys in self._mine(items):
            new = self._seen.add(keys)
            stored = self._stored.contains(keys) & new
            absent = self._absent_of(chunk, keys, new)
            fresh = new & ~stored & ~absent
            self.counts["captions"] += len(chunk)
            self.counts["stored"] += int(stored.sum())
            linked = linked or any(map(_is_linked, chunk))
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
        rows = self._stored_rows()
        pending: list[Link] = []
        for chunk, keys in self._mine(items):
            there = self._seen.contains(keys)
            self.counts["links to texts that came after the rows"] += int((~there).sum())
            for _, absent in self._why_absent(keys):
                there &= ~absent
            chosen = [i for i in np.flatnonzero(there).tolist() if _is_linked(chunk[i])]
            found = [Link(chunk[i], _whole(keys[i])) for i in chosen]
            found = self._with_parents(rows, found)
            new = self._linked.add(link_keys(link.identity() for link in found))
            for i in np.flatnonzero(new).tolist():
                link = found[i]
                if link.item.role == "negative" and (why := _left_out(link.cosine)):
                    self.counts[f"negatives {why}"] += 1
                else:
                    pending.append(link)
            while len(pending) >= links.ROWS_PER_FILE:
                self._write_links(pending[: links.ROWS_PER_FILE])
                del pending[: links.ROWS_PER_FILE]
        if pending:
            self._write_links(pending)

    def finish(self) -> str:
        """Write the manifest, if there is anything new to say; return a note about versions."""
        before = self._before
        known = self._versions or [self.plan.versions]
        note = version_note(self._known, self._now) if self.counts["embedded"] else ""
        have = (len(before.shards), len(before.links)) if before else None
        if have != (len(self._shards), len(self._links)):
            earlier = before.devices if before else (self.plan.device,)
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
                        **self.left_out,
                    },
                    fidelity=self.fidelity(),
                    devices=tuple(sorted({*earlier, self.encoder.device})),
                    versions=tuple(known),
                ),
            )
        return note

    def _mine(self, items: Iterable[Linked]) -> Iterator[tuple[Sequence[Linked], np.ndarray]]:
        """Yield the items of this part in chunks, with their keys; see `home_of`."""
        stream = iter(items)
        while chunk := list(itertools.islice(stream, _CHUNK)):
            keys = keys_of([item.text for item in chunk])
            if self.plan.parts > 1:
                of = keys_of([home_of(item) for item in chunk])
                mine = np.flatnonzero(owners(of, self.plan.parts) == self.number)
                chunk, keys = [chunk[i] for i in mine.tolist()], keys[mine]
            yield chunk, keys

    def _with_parents(self, rows: StoredRows, found: list[Link]) -> list[Link]:
        """Return links with parent's key and cosine, where they are of derived texts."""
        derived = [i for i, link in enumerate(found) if link.item.parent]
        if not derived:
            return found
        parents = keys_of([found[i].item.parent for i in derived])
        at = rows.find_keys(parents), rows.find_keys([found[i].caption for i in derived])
        both = (at[0] >= 0) & (at[1] >= 0)
        known = [np.where(both, place, 0) for place in at]
        compared = keep_negative(*self._pairs(rows, found, derived, known))
        for i, key, there, value in zip(derived, parents, both, compared.cosine, strict=True):
            cosine = float(value) if there and np.isfinite(value) else None
            found[i] = found[i]._replace(parent=_whole(key), cosine=cosine)
        return found

    def _pairs(
        self, rows: StoredRows, found: list[Link], derived: list[int], at: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return rows of parents and of what was derived from them, as the encoder makes them.

        A coarse codec would move their cosines across the bounds of the filter, so there they are
        made again, all of a chunk together: a run that is resumed gets the same bits.
        """
        if not self._codec.coarse:
            return rows.take(at[0]), rows.take(at[1])
        items = [found[i].item for i in derived]
        texts = list(dict.fromkeys(text for item in items for text in (item.parent, item.text)))
        place = {text: number for number, text in enumerate(texts)}
        again = self.encoder.encode(
            texts, precision=self.plan.precision, token_budget=self.plan.token_budget
        ).rows
        return again[[place[i.parent] for i in items]], again[[place[i.text] for i in items]]

    def _absent_of(self, chunk: Sequence[Linked], keys: np.ndarray, new: np.ndarray) -> np.ndarray:
        """Return which new items are known to have no row, and count the images among them."""
        found = np.zeros(len(keys), bool)
        for why, absent in self._why_absent(keys):
            found |= absent
            self._count_absent(why, [chunk[i].text for i in np.flatnonzero(absent & new).tolist()])
        return found & new

    def _count_absent(self, why: str, texts: Iterable[str]) -> None:
        # Once an image, whatever rows it was to have.
        self.counts[why] += sum(isinstance(text, Address) and text.role == WHOLE for text in texts)

    def _write(self, texts: list[str]) -> None:
        """Embed and store one shard; its bytes depend on its captions and the plan alone."""
        rows, tokens, cuts, measured = [], [], [], []
        kept: list[str] = []
        absent: dict[str, list[str]] = {}
        for start in range(0, len(texts), self.plan.block):
            block = texts[start : start + self.plan.block]
            encoded = self.encoder.encode(
                block, precision=self.plan.precision, token_budget=self.plan.token_budget
            )
            self._check(block, encoded)
            block, encoded = self._present(block, encoded, absent)
            if block:
                kept += block
                rows.append(self._codec.encode(encoded.rows))
                measured.append(measure(self._codec, encoded.rows, self._codec.stored(rows[-1])))
                tokens.append(encoded.tokens)
                cuts.append(encoded.truncated)
        for why, lacking in absent.items():
            self._note_absent(why, keys_of(lacking))
            self._count_absent(why, lacking)
        if not kept:
            return  # no file has no rows: these are tried again by the next run
        columns = {
            "key": pa.array(keys_of(kept).view("V16").tolist(), self._schema.field("key").type),
            "row": pa.concat_arrays(rows),
            "tokens": pa.array(np.concatenate(tokens)),
            "truncated": pa.array(np.concatenate(cuts)),
        }
        fidelity = merge(measured)
        if fidelity.worst_cosine <= 0:
            raise CacheError(
                f"The codec {self._codec.name} turns a row into zeros, or into its opposite: its "
                "values are too small for it, or lie where it looks away; use codec float32."
            )
        self._store(columns, fidelity, absent)

    def _present(
        self, block: list[str], encoded: EncodedTexts, absent: dict[str, list[str]]
    ) -> tuple[list[str], EncodedTexts]:
        """Return what has a row; note the others in `absent`, and count tokens and progress."""
        self._advance(len(block))
        self.counts["padded tokens"] += encoded.padded
        if isinstance(self.plan.space, TextSpace):
            cut = np.minimum(encoded.tokens, self.plan.space.max_tokens)
            self.counts["real tokens"] += int(cut.sum())
        if not isinstance(encoded, EncodedImages) or not encoded.absent:
            return block, encoded
        for number, why in encoded.absent.items():
            absent.setdefault(why, []).append(block[number])
        there = [number for number in range(len(block)) if number not in encoded.absent]
        rows, tokens, cuts = encoded.rows[there], encoded.tokens[there], encoded.truncated[there]
        return [block[number] for number in there], EncodedTexts(rows, tokens, cuts)

    def _store(
        self,
        columns: dict[str, pa.Array],
        fidelity: Fidelity,
        absent: dict[str, list[str]],
    ) -> None:
        name = shards.name_of(len(self._shards))
        told = {why: [_whole(key).hex() for key in keys_of(of)] for why, of in absent.items()}
        shards.write_shard(self.place, name, self._schema, columns, fidelity, self._now, told)
        view = shards.open_shard(self.place.local(name), self._schema, self._codec)
        record = self._record(name, view)
        self._shards.append(record)
        self._learn(view)
        self.place.forget(name)
        self.counts["embedded"] += record.rows
        self.counts["truncated"] += record.truncated

    def _check(self, texts: Sequence[str], encoded: EncodedTexts) -> None:
        rows, items = encoded.rows, items_of(self.plan.space)
        if rows.shape != (len(texts), self.plan.space.dimensions):
            raise ConfigError(
                f"The encoder {self.encoder.part.name} returned "
                f"{' rows of '.join(map(str, rows.shape))} values for {len(texts)} {items}; its "
                f"space promises {self.plan.space.dimensions} values. What was stored before is "
                "whole."
            )
        if not len(texts) == len(encoded.tokens) == len(encoded.truncated):
            raise ConfigError(
                f"The encoder {self.encoder.part.name} returned {len(encoded.tokens)} token counts "
                f"for {len(texts)} {items}. What was stored before is whole."
            )
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            raise NotFinite(
                f"The encoder returned NaN or infinity for {int((~finite).sum())} {items[:-1]}(s), "
                f"first for {texts[int(np.argmin(finite))]!r}; check its weights or use "
                "precision float32."
            )

    def _write_links(self, found: Sequence[Link]) -> None:
        self._links.append(links.write(self.place, len(self._links), found))
        self.place.forget(links.name_of(len(self._links) - 1))
        self.counts["links"] += len(found)
