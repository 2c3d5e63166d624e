"""Commands about databases of text vectors: images attached beside them, searched, removed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lift.bundle import Bundle
    from lift.search.attached import Attached
    from lift.search.attaching import AttachReport
    from lift.search.terms import Item


def attach(
    out: str | Path,
    *,
    url: str,
    table: str,
    images: str | Sequence[str] | Iterable[Item],
    model: str | Path | Bundle,
    link: str = "",
    group: str = "",
    id: str = "",
    vector: str = "",
    text: str = "",
    facts: Sequence[str] = (),
    database: str = "",
    trust_space: bool = False,
    exact: bool = False,
    index: bool = False,
    calibrate: str = "",
    thumbnails: int = 256,
    device: str = "auto",
    progress: bool = True,
) -> AttachReport:
    """Put images beside the text vectors that a database holds; return what was done.

    The table of texts is read and never written. Running it again goes on, adds and replaces.

    Args:
        out: a folder for what searching needs: where the database is (without any password), and
            a copy of the model.
        url: of the database: `postgresql://user@host/db`, `http://host:6333` for a server of
            Qdrant, or the folder of qdrant-client's local mode.
        table: the table or collection of texts and their vectors.
        images: pairs in words (`photos/*.tar`), or items with images.
        model: a run or a model whose text space is that of the table.
        link: how images name their text row: "key", by their own key; or a fact that holds its
            id; "" for images that belong to none.
        group: a fact by which neighbouring pairs are one item (several photos of a product).
        id, vector, text: columns of the table; found out where there is one that fits.
        facts: columns that filters may ask for, all of simple types if none are named.
        database: pgvector or qdrant; told by the URL if not given.
        trust_space: take the user's word that the vectors are of the model's space.
        exact: search past approximate indexes.
        index: make an approximate index over the images (pgvector).
        calibrate: pairs with two captions an image, on which the curves for mixed search are
            fitted; "" takes the images that are attached, as far as they have captions.
        thumbnails: pixels of the longer side of the small pictures that are kept, 0 for none.
        device: where images are encoded.
        progress: draw a progress bar.

    Raises:
        LiftError: bad input, another space, a database that can't be reached.
    """
    from lift.search import attaching_into

    return attaching_into.attach(
        Path(out),
        attaching_into.Where(database, url, table, id, vector, text, tuple(facts), exact),
        images,
        model,
        attaching_into.How(
            link, group, trust_space, index, calibrate, thumbnails, device, progress
        ),
    )


def open_attached(path: str | Path, *, url: str = "", device: str = "auto") -> Attached:
    """Open what `attach` made: `search`, `browse`, `delete`.

    Args:
        path: the folder that was named.
        url: of the database with its password, in place of the address in the folder; the
            environment variable LIFT_DATABASE does the same. PostgreSQL also reads PGPASSWORD.
        device: where queries are encoded.

    Raises:
        DataError: nothing of the kind there.
        ServerError: the database can't be reached.
    """
    from lift.search.attached import Attached

    return Attached.open(path, url=url, device=device)
