"""Commands about pairs: inspect, pack, select."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lift.cache.reader import EmbeddingCache
    from lift.curation.findings import Inspection
    from lift.curation.packing import PackReport
    from lift.curation.selection import Selection
    from lift.terms import Encoder, Source


def inspect(
    data: str | Path,
    *,
    out: str | Path | None = "inspect.html",
    all_images: bool = False,
    strict: bool = False,
    most: int = 2_000,
    samples: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> Inspection:
    """Look at pairs before anything is trained on them: counts, captions, images, what is broken.

    Args:
        data: a path, whose layout is guessed, or words as for `embed`.
        out: the page; a JSON file with all figures lies beside it. None writes none.
        all_images: look at every image instead of an even draw.
        strict: stop at the first broken sample.
        most: images to look at.
        samples: how many the page shows, as the model sees them.
        seed: of the draw and of the views.
        progress: draw progress bars.

    Raises:
        LiftError: nothing there, a layout that can't be told, or a page that can't be written.
    """
    from lift.curation.inspection import inspect as look
    from lift.files import require_writable
    from lift.pages.inspection import require_page, require_plots, write_inspection

    page = None if out is None else require_page(out)
    if page is not None:
        require_plots()  # told before the work, not after it
        require_writable(page.parent)
    found = look(
        str(data),
        all_images=all_images,
        strict=strict,
        most=most,
        samples=samples if page else 0,
        seed=seed,
        progress=progress,
    )
    if page is not None:
        write_inspection(found, page)
    return found


def pack(
    data: str | Sequence[str],
    *,
    out: str | Path,
    side: int = 256,
    quality: int = 90,
    shard_samples: int = 1_000,
    workers: int = 0,
    progress: bool = True,
) -> PackReport:
    """Write tar shards of small pictures, with every caption and field: faster to load.

    Running it again goes on where it stopped; any number of workers gives the same bytes.

    Args:
        data: where the pairs are, as for `embed`.
        out: the folder of the shards.
        side: a picture's shorter side is at most this, in pixels; none is enlarged.
        quality: of the JPEGs; a plain JPEG that is small enough stays as it is.
        shard_samples: samples of a shard.
        workers: processes that do the work; 0 does it in this one.
        progress: draw progress bars.

    Raises:
        LiftError: bad input, something else in the folder, or a full disk.
    """
    from lift.curation.packing import pack as run

    return run(
        _opened(data),
        out,
        side=side,
        quality=quality,
        shard_samples=shard_samples,
        workers=workers,
        progress=progress,
    )


def select(
    data: str | Sequence[str],
    *,
    out: str | Path,
    where: str = "",
    weight: str = "",
    cache: str | Path | None = None,
    model: str | Path | None = None,
    task: str | Path | Sequence[str] = (),
    role: str = "",
    clusters: int = 0,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> Selection:
    """Choose pairs by an expression over their columns; write which, and why the others are not.

    Args:
        data: where the pairs are, as for `embed`.
        out: the manifest of kept keys, `NAME.parquet`.
        where: what a sample has to fulfil: `words >= 3 and caption_copy == 0`.
        weight: how much a kept sample counts, as an expression; "" for all alike.
        cache: rows of the captions, for clusters, visualness and similarity.
        model: a run or bundle that judges how well image and caption fit.
        task: texts of the task (or a file with one a line) that captions should be near to.
        role: of the captions that are looked at; "" takes all.
        clusters: into how many groups the captions' rows are put.
        seed: of the clusters.
        device: of the model: auto, cpu, cuda or mps.
        progress: draw progress bars.

    Raises:
        LiftError: bad input, an unknown column, or a cache or model that does not fit.
    """
    from lift.cache.reader import EmbeddingCache
    from lift.curation.selection import select as run

    texts = read_task(task)
    words = [data] if isinstance(data, str) else data
    sources = list(zip(words, _opened(words), strict=True))
    stored = EmbeddingCache.open(cache) if cache else None
    return run(
        sources,
        out=Path(out),
        where=where,
        weight=weight,
        cache=stored,
        judge=_judge(model, stored, str(cache), device) if model else None,
        task=texts,
        role=role,
        clusters=clusters,
        seed=seed,
        progress=progress,
    )


def read_task(task: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Return the texts of a task: those given, or the lines of a file that are not blank.

    Raises:
        ConfigError: a file that can't be read, or without a text.
    """
    from lift.errors import ConfigError

    if not isinstance(task, str | Path):
        return tuple(task)
    if not str(task):
        return ()
    try:
        lines = Path(task).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The task's texts can't be read from {task} ({error}).") from error
    texts = tuple(line.strip() for line in lines if line.strip())
    if not texts:
        raise ConfigError(f"{task} holds no text; write one a line.")
    return texts


def _opened(data: str | Sequence[str]) -> list[Source]:
    from lift.data.source import open_source

    return [open_source(spec) for spec in ([data] if isinstance(data, str) else data)]


def _judge(model: str | Path, stored: EmbeddingCache | None, cache: str, device: str) -> Encoder:
    """Return the model, its texts taken from the cache where it has them."""
    from lift import bundle
    from lift.cache.probes import require_alike
    from lift.encoders import CachedTexts

    encoder = bundle.load(model, device=device)
    if stored is None:
        return encoder
    stored.space.require_same(encoder.space, ours=f"the cache {cache}", theirs=f"model {model}")
    require_alike(encoder.probes, stored.probes(), stored.space, cache=cache, model=str(model))
    return CachedTexts(encoder, stored)
