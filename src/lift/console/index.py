"""Console of the commands about indexes: index build, remove, compact, attach; search."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lift.commands import index as commands
from lift.console.attach import attach
from lift.console.words import Words

Keys = tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY [KEY ...]")]]


@dataclass(frozen=True, kw_only=True)
class Alone:
    """Texts without images, and images without texts."""

    documents: str = ""
    """a table of texts without images (csv, tsv, jsonl, parquet, a text a line)."""
    texts: tuple[str, ...] = ()
    """columns of it that are embedded, each a field."""
    key: str = ""
    """column of its keys; else rows are numbered."""
    facts: tuple[str, ...] = ()
    """columns of it that filters can ask for."""
    pictures: tuple[str, ...] = ()
    """folders of pictures without captions, each an item."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a new index keeps; chosen once."""

    thumbnails: int | None = None
    """pixels of the longer side of pictures that are kept, 256 if not given; 0 keeps none."""
    stored: Literal["float32", "float16"] | None = None
    """numbers of vectors, float32 if not given."""


_NONE, _USUAL = Alone(), Kept()


def build(
    index: tyro.conf.Positional[Path],
    *,
    model: str = "",
    data: Words = (),
    alone: tyro.conf.OmitArgPrefixes[Alone] = _NONE,
    group: str = "",
    cache: str = "",
    weights: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=WEIGHT [...]")] = (),
    engine: str = "",
    kept: tyro.conf.OmitArgPrefixes[Kept] = _USUAL,
    calibrate: str = "",
    combiner: bool = False,
    prune: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> None:
    """Make an index of images and texts, or bring one up to date.

    What is there and did not change costs no encoding, so a call that was killed goes on when it
    is made again.

    For example:

      lift index build photos.index --model runs/photos --data 'photos/*.tar'
      lift index build shop.index --model runs/shop --data products.parquet --weights title=2
      lift index build shop.index --documents manuals.csv --texts title body --key id --facts year
      lift index build album.index --model runs/photos --pictures album/
      lift index build photos.index --engine usearch --combiner

    Args:
        index: its folder.
        model: a run or a model, for a new index; a copy of it goes into the folder.
        data: pairs of images and captions: paths, or `format:key=value,...`.
        alone: texts without images, and images without texts.
        group: a fact by which neighbouring pairs are one item (several photos of a product).
        cache: vectors of texts are taken from this cache where it has them, to the bit.
        weights: how many times the odds of a field's rows count.
        engine: exact, usearch or faiss, with options behind a colon.
        kept: in a new index.
        calibrate: pairs with two captions an image, on which the curves are fitted by which images
            and texts compete; else the index's own items, where they have an image and two texts.
        combiner: train the combiner that edits pictures by texts, on the index's own texts.
        prune: remove items that are in none of data, documents and pictures; nothing is removed
            where some of the data can't be read.
        device: auto, cpu, cuda or mps.
        quiet: no progress bars.
    """
    done = commands.build_index(
        index,
        model=model or None,
        data=data,
        **vars(alone),
        group=group,
        cache=cache or None,
        weights=_weighed(weights),
        engine=engine or None,
        **vars(kept),
        calibrate=calibrate,
        combiner=combiner,
        prune=prune,
        device=device,
        progress=not quiet,
    )
    print(done)
    with commands.open_index(index) as made:
        curves = "calibrated" if made.record.calibrations else "not calibrated"
        print(f"{index}: {len(made):,} items, {curves}.", end=" ")
        print(f"Next: lift serve {shlex.quote(str(index))}")


def _weighed(words: Sequence[str]) -> dict[str, float]:
    """Return weights by field."""
    from lift.errors import ConfigError

    found = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise ConfigError(f"{word!r} is no weight: write FIELD=NUMBER.") from error
    return found


def remove(index: tyro.conf.Positional[Path], keys: Keys) -> None:
    """Remove items from an index by their keys; of an attached database images alone.

    For example:

      lift index remove photos.index IMG_2041 IMG_2042

    Args:
        index: its folder, or that of a database with images attached.
        keys: of the items.
    """
    with commands.open_to_remove(index) as opened:
        print(f"{opened.delete(keys):,} of {len(keys):,} removed; {len(opened):,} items are left.")


def compact(index: tyro.conf.Positional[Path]) -> None:
    """Give back the disk that vectors of removed items take.

    For example:

      lift index compact photos.index

    Args:
        index: its folder.
    """
    with commands.open_index(index, writes=True) as opened:
        print(f"{opened.compact():,} vectors removed.")


def search(
    index: tyro.conf.Positional[Path],
    query: tyro.conf.Positional[
        Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT [TEXT ...]")]
    ] = (),
    *,
    image: tuple[Path, ...] = (),
    without: tuple[str, ...] = (),
    where: str = "",
    kinds: tuple[Literal["image", "text"], ...] = ("image", "text"),
    merge: Literal["auto", "calibrated", "reciprocal", "cosine"] = "auto",
    combine: Literal["sum", "edit"] = "sum",
    top: int = 10,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
    device: str = "auto",
) -> None:
    """Search an index by texts, pictures, or several of both.

    For example:

      lift search photos.index "two dogs in the snow"
      lift search photos.index "at night" --image harbour.jpg --combine edit
      lift search shop.index "red shoes" --where 'price<50 brand=Puma|Nike' --without "high heels"

    Args:
        index: its folder, or that of a database with images attached.
        query: texts; several count alike.
        image: pictures to look for.
        without: texts that are not wanted.
        where: conditions on facts: `colour=red|blue price<20 title~night`.
        kinds: look among images, texts, or both.
        merge: how images and texts become one list.
        combine: `sum` of all terms, or one picture `edit`ed by one text.
        top: how many.
        as_json: print a JSON object a line.
        device: auto, cpu, cuda or mps.
    """
    from lift.search.terms import Query

    with commands.open_searchable(index, device=device) as opened:
        asked = Query.of(
            *query, images=[str(path) for path in image], without=without, combine=combine
        )
        hits = opened.search(asked, top=top, where=where or None, kinds=kinds, merge=merge)
        for place, hit in enumerate(hits, 1):
            if as_json:
                print(json.dumps(hit._asdict(), ensure_ascii=False))
                continue
            item = opened.item(hit.key)
            said = hit.text or (item.title if item is not None else "")
            print(f"{place:3}  {hit.cosine:6.3f}  {hit.kind:5}  {hit.key}  {said}")


def help_() -> None:
    """Build an index of images and texts, change it, or put images beside a database's texts.

    For example:

      lift index build photos.index --model runs/photos --data 'photos/*.tar'
    """


COMMANDS = {"build": build, "attach": attach, "remove": remove, "compact": compact}
