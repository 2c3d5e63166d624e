"""The console: parse, call the command, print, leave with the right exit code."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lift import commands
from lift.errors import BAD_INPUT_EXIT, STOPPED_EXIT, LiftError, Stopped

Words = Annotated[tuple[str, ...], tyro.conf.arg(metavar="SOURCE [SOURCE ...]")]
Options = Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="KEY=VALUE [...]")]


def embed(
    *,
    out: str,
    data: Words = (),
    encoder: str = "minilm",
    codec: str = "",
    part: str = "",
    precision: Literal["float32", "bfloat16", "auto"] = "float32",
    roles: tuple[str, ...] = (),
    derive: tuple[Literal["sub-caption", "phrase", "negative"], ...] = (),
    language: str = "",
    device: str = "auto",
    quiet: bool = False,
) -> None:
    """Compute every distinct caption's vector once and store it.

    Running it again goes on where it stopped, or adds the captions of more data. Parts run on
    any machines with a common folder; under torchrun each process takes its own.

    For example:

      lift embed --data 'flickr8k/*.tar' --out captions
      lift embed --data pairs.csv --out captions --encoder sentence_transformer:model=BAAI/bge-m3
      lift embed --data pairs.csv --out captions --encoder causal_lm:preset=qwen3_embedding
        --codec int8 --part 2/3
      lift embed --data pairs.csv --out captions --encoder api:model=text-embedding-3-small
      lift embed --encoder vectors:path=rows.npy,of=minilm --out captions
      torchrun --nproc-per-node 8 -m lift.cli embed --data 'cc12m/*.tar' --out s3://bucket/cc12m

    Args:
        out: the cache's folder, or a URL (s3://bucket/captions).
        data: where the captions are: paths, globs, `scenes:count=500`, `format:key=value,...`.
        encoder: the frozen text encoder: `minilm`, `sentence_transformer:model=...`,
            `causal_lm:model=...`, `nv_embed`, `api:model=...,url=...`, `vectors:path=...`.
        codec: how numbers are stored: float16 (if not given), float32, int8, int4,
            `prefix:dimensions=256`.
        part: `2/3` embeds the second of three parts; all of them if not given.
        precision: what the encoder computes in; auto times both and keeps the faster.
        roles: embed captions of these roles only.
        derive: also embed what is made of each caption: its sentences, noun phrases, negatives.
        language: of the captions (`en`); kept beside each.
        device: auto, cpu, cuda, cuda:1 or mps.
        quiet: no progress bar.
    """
    report = commands.embed(
        data,
        out=out,
        encoder=encoder,
        codec=codec,
        part=part,
        precision=precision,
        roles=roles,
        derive=derive,
        language=language,
        device=device,
        progress=not quiet,
    )
    print(report.table())


def train(
    recipe: tyro.conf.Positional[str],
    *,
    out: str = "",
    data: str = "",
    validation: str = "",
    cache: str = "",
    options: Options = (),
    resume: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
) -> None:
    """Train an image encoder to match stored caption vectors.

    The same command goes on with a run that was stopped or killed.

    For example:

      lift train flickr8k_tiny --data 'flickr8k/train-*.tar' --validation flickr8k/val-0000.tar
        --cache captions --out runs/flickr
      lift train products_tiny ... --set objective=cosine optim.lr=5e-4
      lift train lift_b16_512m --dry-run

    Args:
        recipe: a recipe's name (`lift recipes`), or the folder of a run to repeat.
        out: the run's folder.
        data: pairs to train on.
        validation: pairs for the evaluations during and after training.
        cache: the folder that `lift embed` made.
        options: change the recipe: `--set optim.lr=5e-4 objective=cosine`.
        resume: insist that there is a run to go on with.
        dry_run: print parameters, FLOPs, memory, steps and cache size; train nothing.
        quiet: no progress bar.
    """
    if dry_run:
        print(commands.budget(recipe, data=data, cache=cache, options=options).table())
        return
    if not out:
        raise LiftError("Where to? Give the run's folder with --out.")
    result = commands.train(
        recipe,
        data=data,
        validation=validation,
        cache=cache,
        out=out,
        options=options,
        resume=resume,
        progress=not quiet,
    )
    _print_run(result)
    print(f"page: lift report {out}")


def eval_(
    model: tyro.conf.Positional[Path],
    *,
    on: Annotated[tuple[str, ...], tyro.conf.arg(metavar="EVAL:data=SOURCE[,KEY=VALUE] ...")],
    cache: str = "",
    out: str = "",
    device: str = "auto",
    quiet: bool = False,
) -> None:
    """Judge a model: protocol, item count and 95% interval with every figure.

    For example:

      lift eval runs/flickr --on retrieval:data=flickr8k/val-0000.tar --cache captions
      lift eval runs/shop --on zeroshot:data=test.parquet,label=article_type

    Args:
        model: the folder of a run or of a saved model.
        on: what to judge it on.
        cache: take text vectors from there where it has them.
        out: where the JSON goes; beside the model, in `evals`, if not given.
        device: auto, cpu, cuda or mps.
        quiet: no progress bar.
    """
    from lift.evaluation import table

    results = commands.evaluate(
        model, on=on, cache=cache or None, out=out or None, device=device, progress=not quiet
    )
    print(table(results))


def audit(
    cache: tyro.conf.Positional[str], *, data: Words = (), sample: int = 256, live: bool = True
) -> None:
    """Prove a cache: checksums, norms, NaN, duplicates, coverage, probes, re-encoded rows.

    For example:

      lift audit captions
      lift audit captions --data 'flickr8k/*.tar'

    Args:
        cache: the folder.
        data: pairs whose captions should all have rows.
        sample: captions to encode again and compare with the stored rows.
        live: encode the stored probe sentences and the sample again (needs the text encoder).
    """
    found = commands.audit(cache, data=data, sample=sample, live=live)
    print(found.table())
    if not found.ok:
        raise LiftError(f"The cache {cache} is not sound; the lines marked above say why.")


def report(run: tyro.conf.Positional[Path], *, out: str = "") -> None:
    """Write a run's page: one HTML file with curves, intervals and a gallery.

    For example:

      lift report runs/flickr

    Args:
        run: the run's folder.
        out: where to write; `report.html` in the run if not given.
    """
    print(commands.report(run, out=out or None))


def import_(checkpoint: tyro.conf.Positional[Path], *, cache: Path, out: Path) -> None:
    """Turn a checkpoint of the paper's own code into a model.

    For example:

      lift import LIFT-ViT-B-16.pt --cache captions --out models/lift-b16

    Args:
        checkpoint: the file; tensors are read, nothing in it is run.
        cache: any cache in the checkpoint's text space, which the file does not name.
        out: folder of the model.
    """
    commands.import_reference(checkpoint, cache=cache, out=out)
    print(out)


def recipes() -> None:
    """List the recipes.

    For example:

      lift recipes
    """
    from lift.recipes import describe

    lines = describe()
    wide = max(len(name) for name, _ in lines)
    for name, sentence in lines:
        print(f"{name:<{wide}}  {sentence}")


def quickstart(*, out: Path = Path("quickstart"), quiet: bool = False) -> None:
    """Go the whole road on drawn scenes: embed, train, judge, save, report.

    For example:

      lift quickstart

    Args:
        out: where cache and run go; running it again goes on with them.
        quiet: no progress bars.
    """
    result = commands.quickstart(out, progress=not quiet)
    _print_run(result)
    print(f"page: {out / 'run' / 'report.html'}")


def _print_run(result) -> None:
    """Print what a run ended with."""
    from lift.evaluation import table

    if result.results:
        print(table(result.results))
    for name, count in result.counters.items():
        print(f"{name}: {count}")
    print(f"model: {result.folder} ({result.steps} steps, {result.seconds:.0f} s)")


COMMANDS = {
    "quickstart": quickstart,
    "embed": embed,
    "train": train,
    "eval": eval_,
    "report": report,
    "audit": audit,
    "import": import_,
    "recipes": recipes,
}


def main(words: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for bad input, 75 when told to stop."""
    words = sys.argv[1:] if words is None else list(words)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if words == ["--version"]:
        from lift import __version__

        print(f"lift {__version__}")
        return 0
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="lift",
            description="Put images into a text-embedding space that never moves.",
            args=words or ["--help"],
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except Stopped as stop:
        print(stop, file=sys.stderr)
        return STOPPED_EXIT
    except LiftError as error:
        if debug:
            traceback.print_exc()
        print(f"lift: {error}", file=sys.stderr)
        return BAD_INPUT_EXIT
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
