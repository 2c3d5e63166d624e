"""Console of `lift index attach`: images beside text vectors that a database holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from lift.commands import attach as commands
from lift.console.words import Words


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns of the table."""

    id: str = ""
    """column of ids; the primary key if not given."""
    vector: str = ""
    """column of vectors; the only one if not given."""
    text: str = ""
    """column of texts; the only one if not given."""
    facts: tuple[str, ...] = ()
    """columns that filters can ask for; all of simple types if not given."""


_FOUND = Columns()


def attach(
    folder: tyro.conf.Positional[Path],
    *,
    url: str,
    table: str,
    images: Words,
    model: str,
    link: str = "",
    group: str = "",
    columns: tyro.conf.OmitArgPrefixes[Columns] = _FOUND,
    database: Literal["", "pgvector", "qdrant"] = "",
    trust_space: bool = False,
    exact: bool = False,
    index: bool = False,
    calibrate: str = "",
    thumbnails: int = 256,
    device: str = "auto",
    quiet: bool = False,
) -> None:
    """Put images beside the text vectors that a database holds; no text row is written.

    Running it again goes on where it stopped, adds what is new and replaces what changed.

    For example:

      lift index attach shop.attached --url postgresql://me@db/shop --table products
        --images 'photos/*.tar' --model runs/shop --link key
      lift index attach wiki.attached --url http://localhost:6333 --table articles
        --text page_content --images 'photos/*.tar' --model runs/photos

    Args:
        folder: for what searching needs: where the database is (no password), and the model.
        url: `postgresql://USER@HOST/DB`, `http://HOST:6333`, or the folder of a local Qdrant;
            passwords are better left to PGPASSWORD or QDRANT_API_KEY.
        table: the table or collection of texts and their vectors.
        images: pairs: paths, or `format:key=value,...`.
        model: a run or a model whose text space is that of the table.
        link: how images name their text row: `key` by their own key, or a fact with its id.
        group: a fact by which neighbouring pairs are one item (several photos of a product).
        columns: of the table.
        database: told by the URL if not given.
        trust_space: don't check that the vectors are of the model's space.
        exact: search past approximate indexes.
        index: make an approximate index over the images.
        calibrate: pairs with two captions an image, for the curves by which images and texts
            compete; else the attached images, as far as they have captions.
        thumbnails: pixels of the longer side of pictures that are kept; 0 keeps none.
        device: auto, cpu, cuda or mps.
        quiet: no progress bar.
    """
    done = commands.attach(
        folder,
        url=url,
        table=table,
        images=images,
        model=model,
        link=link,
        group=group,
        **vars(columns),
        database=database,
        trust_space=trust_space,
        exact=exact,
        index=index,
        calibrate=calibrate,
        thumbnails=thumbnails,
        device=device,
        progress=not quiet,
    )
    print(done)
    print(f"Next: lift search {folder} WORDS, or lift serve {folder}")
