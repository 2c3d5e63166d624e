"""Every command as a typed function; each imports what it needs when it is called."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lift.bundle import Bundle
    from lift.cache.audit import AuditReport
    from lift.cache.writer import EmbedReport
    from lift.terms import EvalResult
    from lift.training.budget import Budget
    from lift.training.config import RunConfig
    from lift.training.loop import RunResult


def embed(
    data: Sequence[str] = (),
    *,
    out: str | Path,
    encoder: str = "minilm",
    codec: str = "",
    part: str = "",
    precision: Literal["float32", "bfloat16", "auto"] = "float32",
    roles: Sequence[str] = (),
    derive: Sequence[Literal["sub-caption", "phrase", "negative"]] = (),
    language: str = "",
    rows_per_shard: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> EmbedReport:
    """Compute the vector of every distinct caption once and store it.

    Running it again goes on where it stopped, or adds the captions of more data.

    Args:
        data: where the captions are: paths (`train-*.tar`, `pairs.parquet`), `scenes:count=500`,
            or `format:key=value,...`. Vectors that lie beside their texts need none.
        out: the cache's folder, or a URL that fsspec knows (`s3://bucket/captions`).
        encoder: a text encoder: `minilm`, `sentence_transformer:model=FOLDER_OR_HUB_ID`, ...
        codec: how numbers are stored: float16, float32, int8, int4, `prefix:dimensions=256`, ...;
            "" takes float16, or what the cache has.
        part: "2/3" embeds the second of three parts, on this machine or another; "" all of them.
        precision: what the encoder computes in; auto times both and keeps the faster.
        roles: embed captions of these roles only.
        derive: also embed what can be made of each caption: its sentences, its noun phrases,
            negatives.
        language: of the captions ("en"); kept beside each.
        rows_per_shard: rows of one file; None takes the default.
        device: auto, cpu, cuda, cuda:1, mps.
        progress: draw a progress bar.

    Raises:
        LiftError: bad input, another space or something else in the folder, a full disk.
    """
    from lift.data.source import parse_part
    from lift.embedding import embed as run

    return run(
        [data] if isinstance(data, str) else data,
        parse_part("text/encoders", encoder),
        out,
        part=part,
        codec=parse_part("cache/codecs", codec) if codec else None,
        precision=precision,
        roles=roles,
        derived=derive,
        language=language,
        rows_per_shard=rows_per_shard,
        device=device,
        progress=progress,
    )


def train(
    recipe: str,
    *,
    data: str = "",
    validation: str = "",
    cache: str | Path = "",
    out: str | Path,
    options: Sequence[str] = (),
    resume: bool = False,
    progress: bool = True,
) -> RunResult:
    """Train an image encoder to match stored caption vectors; save it and judge it.

    The same call goes on with a run that was stopped or killed.

    Args:
        recipe: a recipe's name (`lift recipes` lists them), or a run's folder or a JSON file with
            a config, to repeat it.
        data: pairs to train on.
        validation: pairs for the evaluations.
        cache: folder that `lift embed` made.
        out: the run's folder.
        options: `key=value` words that change the recipe (`optim.lr=5e-4`, `objective=cosine`).
        resume: insist that there is a run to go on with.
        progress: draw a progress bar.

    Raises:
        LiftError: bad input; nothing was trained.
        Stopped: SIGTERM or Ctrl-C; the state is saved.
    """
    from lift.training.loop import run

    config = _configured(recipe, options, data, validation, str(cache))
    return run(config, Path(out), resume=resume, progress=progress)


def budget(
    recipe: str,
    *,
    data: str = "",
    cache: str | Path = "",
    options: Sequence[str] = (),
) -> Budget:
    """Count what a run would cost: parameters, FLOPs, memory, steps, cache. Trains nothing.

    Args:
        recipe: a recipe's name, a run's folder, or a JSON file with a config.
        data: pairs to train on, to count captions; the recipe's own figure without it.
        cache: folder that `lift embed` made, for the width of its space; the encoder's without.
        options: `key=value` words that change the recipe.
    """
    from lift.cache.reader import EmbeddingCache
    from lift.data.source import Captions, open_source
    from lift.text.encoder import space_of
    from lift.text.keys import count_distinct
    from lift.training.budget import budget as count

    config = _configured(recipe, options, data, "", str(cache)).resolved()
    if config.cache:
        dimensions = EmbeddingCache.open(config.cache).dimensions
    elif config.dimensions or config.encoder is None:
        dimensions = config.dimensions
    else:
        dimensions = space_of(config.encoder).dimensions
    pairs = 0
    if config.data:
        pairs = count_distinct(Captions([open_source(config.data)]))
    return count(config, dimensions, pairs)


def evaluate(
    model: str | Path,
    *,
    on: Sequence[str],
    cache: str | Path | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> list[EvalResult]:
    """Judge a model; every figure comes with protocol, item count and 95% interval.

    Args:
        model: folder of a run or of a bundle.
        on: evaluations: `retrieval:data=val.tar`, `zeroshot:data=test.parquet,label=article_type`,
            `compositional:data=scenes`.
        cache: take text vectors from there where it has them.
        out: where to write one JSON a result; None beside the model, in `evals`.
        device: auto, cpu, cuda or mps.
        progress: draw progress bars.

    Raises:
        LiftError: bad input, or a text without vector and no text encoder installed.
    """
    from lift import bundle
    from lift.cache.reader import EmbeddingCache
    from lift.evaluation import CachedTexts, parse_plan, write_results
    from lift.evaluation import evaluate as judge
    from lift.files import require_writable

    plans = [parse_plan(words) for words in ([on] if isinstance(on, str) else on)]
    folder = Path(out) if out is not None else Path(model) / "evals"
    encoder = bundle.load(model, device=device)
    judged = encoder
    if cache is not None:
        stored = EmbeddingCache.open(cache)
        stored.space.require_same(encoder.space, ours=f"the cache {cache}", theirs=f"model {model}")
        judged = CachedTexts(encoder, stored)
    require_writable(folder)  # told before the work, not after it
    return judge(
        judged, plans, progress=progress, keep=lambda result: write_results([result], folder)
    )


def load(
    path: str | Path,
    *,
    device: str = "auto",
    precision: Literal["float32", "bfloat16"] = "float32",
) -> Bundle:
    """Load a trained model: `encode_images`, `encode_texts`, `similarity`, `classify`.

    Args:
        path: folder of a finished run or of a bundle.
        device: auto, cpu, cuda or mps.
        precision: what the tower computes in.

    Raises:
        CheckpointError: no model there, a newer format, or damaged weights.
    """
    from lift import bundle

    return bundle.load(path, device=device, precision=precision)


def import_reference(checkpoint: str | Path, *, cache: str | Path, out: str | Path) -> Bundle:
    """Turn a checkpoint of the paper's own code into a model of ours.

    Args:
        checkpoint: the file (`epoch_N.pt`); tensors are read, nothing in it is run.
        cache: any cache in the checkpoint's text space: the file itself does not say which.
        out: folder of the model.

    Raises:
        CheckpointError: not such a checkpoint, or something else is in `out`.
        SpaceMismatch: the cache's rows are not as wide as the checkpoint's vectors.
    """
    from lift.convert.checkpoint import import_reference as convert

    return convert(checkpoint, cache=cache, out=out)


def audit(
    cache: str | Path, *, data: Sequence[str] = (), sample: int = 256, live: bool = True
) -> AuditReport:
    """Prove a cache: checksums, norms, NaN, duplicates, coverage, probes, re-encoded rows.

    Args:
        cache: the folder.
        data: pairs whose captions should all have rows; also where re-encoded texts come from.
        sample: captions to encode again and compare.
        live: whether to encode the probe sentences again, and the sample where there is `data`.
            Without `data` an encoder that is not installed is told, and is no error.

    Raises:
        CacheError: the folder holds no readable cache.
        MissingPackage: there is `data`, and the encoder is not installed.
    """
    from lift.cache.audit import audit as prove
    from lift.cache.reader import EmbeddingCache
    from lift.data.source import Captions, open_source
    from lift.errors import ConfigError, MissingPackage
    from lift.text.encoder import build_encoder

    captions = Captions([open_source(spec) for spec in data]) if data else None
    encoder, not_live = None, ""
    if live:
        try:
            encoder = build_encoder(EmbeddingCache.open(cache).part)
        except (MissingPackage, ConfigError) as error:
            if data:
                raise
            not_live = str(error)
    return prove(cache, captions=captions, encoder=encoder, sample=sample, not_live=not_live)


def report(run: str | Path, *, out: str | Path | None = None) -> Path:
    """Write a run's page: curves, metrics with intervals, a gallery of queries. One file.

    Args:
        run: the run's folder.
        out: where to write; None is `report.html` in the run.
    """
    from lift.pages.page import write_report
    from lift.training.folder import read_config

    config = read_config(Path(run))
    return write_report(
        Path(run),
        out=Path(out) if out is not None else None,
        thumbnails=_images(config.validation),
    )


def quickstart(out: str | Path = "quickstart", *, progress: bool = True) -> RunResult:
    """Go the whole road on drawn scenes: embed, train, judge, save, report. A few minutes.

    Args:
        out: where cache and run go; running it again goes on with them.
        progress: draw progress bars.

    Raises:
        MissingPackage: no text encoder is installed; the message says how.
    """
    from lift import plugins, recipes

    for package in ("jinja2", "matplotlib"):  # told now, not after the training
        plugins.require(package, "plots", "The report of the quickstart")
    out = Path(out)
    config = recipes.get("quickstart")
    embed(
        [config.data, config.validation],
        out=out / "captions",
        encoder="minilm",
        progress=progress,
    )
    result = train("quickstart", cache=out / "captions", out=out / "run", progress=progress)
    report(out / "run")
    return result


def _configured(
    recipe: str, options: Sequence[str], data: str, validation: str, cache: str
) -> RunConfig:
    """Return the recipe with the caller's words and places in it."""
    from lift import recipes
    from lift.config import override
    from lift.training.folder import read_config

    known = recipe in recipes.names() or not Path(recipe).exists()
    config = recipes.get(recipe) if known else read_config(Path(recipe))
    config = override(config, options)
    places = {"data": data, "validation": validation, "cache": cache}
    return dataclasses.replace(config, **{name: at for name, at in places.items() if at})


def _images(spec: str):
    """Return, by the name of the data, a function from key to image bytes (None: not there).

    Data that has moved since costs the page its pictures, which it says, and nothing else.
    """
    from lift.data.source import open_source
    from lift.errors import ConfigError, DataError

    if not spec:
        return None
    try:
        source = open_source(spec)
    except (ConfigError, DataError):
        return {}
    numbers = {key: number for number, (key, _) in enumerate(source.texts())}

    def image(key: str) -> bytes | None:
        return source.read(numbers[key]).image if key in numbers else None

    return {source.name: image}
