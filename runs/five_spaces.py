"""One tower, five text spaces: what re-targeting by rungs 0 and 1 keeps of training from scratch.

    python runs/five_spaces.py spaces --data ../shared/data      # makes the encoders, embeds titles
    python runs/five_spaces.py scratch --data ../shared/data     # products_tiny in each space
    python runs/five_spaces.py retarget --data ../shared/data    # the tower of MiniLM's, in others
    python runs/five_spaces.py table                             # from the JSON files alone
    python runs/five_spaces.py scratch --recipe products_speedrun    # half a CPU-minute a space

Shop products (14,000 photos with titles to train on, 2,000 to judge on). `scratch` trains
`products_tiny` in each space, 13 CPU-minutes each. `retarget` takes the tower that was trained in
MiniLM's space, stores its features once, and fits heads into the other spaces: closed form
(`lift fit`, the solver chosen by cross-validation) and recipe `head` started from that. Its figures
are of the same 2,000 products, which nothing was chosen by: the head stops early on 5% of the
training products, which it was not shown.

The spaces: MiniLM as it is; the vector of its class token; the mean of its third layer; TF-IDF
(words and pairs of them, fitted on the training titles) brought to 256 numbers by SVD; a small
decoder and MiniLM's own network with random weights, as controls that know nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from pathlib import Path

import torch
from frame.spaces import encoder

RESULTS = Path(__file__).parent / "results" / "five_spaces"
RECIPE = "products_tiny"
SPACES = ("minilm", "class_token", "layer3", "tfidf", "decoder", "random")
COLUMNS = "image=image,caption=title,key=id"


def specs(data: Path) -> tuple[str, str]:
    """Return the products to train on and to judge on."""
    folder = data / "fashion-products"
    return tuple(f"table:path={folder}/{name}.parquet,{COLUMNS}" for name in ("train", "test"))


def titles(data: Path) -> tuple[list[str], list[str]]:
    """Return their titles, as they are embedded."""
    from lift.data.source import Captions, open_source
    from lift.text.encoder import clean

    return tuple([clean(text) for text in Captions([open_source(spec)])] for spec in specs(data))


# --- spaces -------------------------------------------------------------------------------------


class Titles:
    """The titles to fit on, and those to judge with."""

    name = "products"

    def __init__(self, data: Path) -> None:
        self._data = data

    def texts(self, *, judged: bool) -> list[str]:
        """Return the titles of one of both."""
        return titles(self._data)[judged]


def encoder_of(name: str, data: Path, out: Path) -> str:
    """Return a space's text encoder in words, its files made if they are not there."""
    found = encoder(name, Titles(data), out)
    options = ",".join(f"{key}={value}" for key, value in found.options.items())
    return f"{found.name}:{options}" if options else found.name


# --- stages -------------------------------------------------------------------------------------


def spaces(data: Path, out: Path, names: list[str]) -> None:
    """Embed all titles in every space."""
    import lift

    for name in names:
        report = lift.embed(
            specs(data),
            out=out / "captions" / name,
            encoder=encoder_of(name, data, out),
            progress=False,
        )
        print(name, report.rows, "rows", f"{report.seconds:.0f} s")


def scratch(data: Path, out: Path, names: list[str]) -> None:
    """Train the recipe in every space."""
    import lift

    train, test = specs(data)
    for name in names:
        started = time.process_time()
        result = lift.train(
            RECIPE,
            data=train,
            validation=test,
            cache=out / "captions" / name,
            out=out / RECIPE / name,
            options=["encoder=none", "threads=1"],
            progress=False,
        )
        note(f"scratch-{name}", figures(result.results[0]), time.process_time() - started)


def figures(result) -> dict:
    """Return an evaluation's figures, as plain values."""
    return {
        "protocol": result.protocol,
        "counts": dict(result.counts),
        **{name: [m.value, m.low, m.high] for name, m in result.metrics.items()},
    }


def note(name: str, found: dict, cpu_seconds: float, **more: object) -> None:
    """Write one result."""
    from lift.world import versions

    folder = RESULTS / RECIPE
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "figures": found,
        "cpu_seconds": round(cpu_seconds, 1),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
        **more,
    }
    (folder / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(name, {k: v[0] for k, v in found.items() if "R@10" in k}, f"{cpu_seconds:.0f} CPU-s")


def fingerprint(cache: Path) -> str:
    """Return one hash of all stored rows of a cache, byte by byte."""
    digest = hashlib.sha256()
    for file in sorted(cache.rglob("*.arrow")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


HEAD = (
    "head.hidden=1024",
    "samples=400000",
    "evaluate_every=25",
    "patience=4",
    "threads=1",
)
"""What `retarget` changes of the recipe `head`: 30 epochs of 13,300 products at most."""
VIEWS = 3
AUGMENT = ("augment.scale=0.6,1.0", "augment.aspect=0.8,1.45", "augment.flip=0.5")
"""Random views that are stored beside each photo: those that the tower was trained on."""


def retarget(data: Path, out: Path, names: list[str]) -> None:
    """Fit heads for the tower of MiniLM's run in every space: closed form, then recipe `head`."""
    import lift

    train, test = specs(data)
    tower, features = out / RECIPE / "minilm", out / RECIPE / "features"
    if not (features / "done").exists():
        started = time.process_time()
        lift.embed_images(
            [train, test],
            out=features / "rows",
            tower=str(tower),
            views=VIEWS,
            options=AUGMENT,
            progress=False,
        )
        (features / "done").write_text(f"{time.process_time() - started:.1f}\n")
    once = float((features / "done").read_text())
    for name in names:
        cache = out / "captions" / name
        before = fingerprint(cache)
        seen, held = (f"share:data=[{train}],start={a},stop={b}" for a, b in ((0, 0.95), (0.95, 1)))
        started = time.process_time()
        shutil.rmtree(out / RECIPE / "fit" / name, ignore_errors=True)
        fitted = lift.fit(
            seen,
            cache=cache,
            features=features / "rows",
            out=out / RECIPE / "fit" / name,
            progress=False,
        )
        spent = time.process_time() - started
        told = {"chosen": fitted.solved.solver.name, "agreement": str(fitted.solved.agreement)}
        note(
            f"fit-{name}",
            judged(out / RECIPE / "fit" / name, test, cache),
            spent,
            **told,
            features=once,
        )
        started = time.process_time()
        shutil.rmtree(out / RECIPE / "head" / name, ignore_errors=True)
        result = lift.train(
            "head",
            data=seen,
            validation=held,
            cache=cache,
            out=out / RECIPE / "head" / name,
            options=[
                f"features={features / 'rows'}",
                f"start={out / RECIPE / 'fit' / name}",
                *HEAD,
            ],
            progress=False,
        )
        spent = time.process_time() - started
        note(
            f"head-{name}",
            judged(out / RECIPE / "head" / name, test, cache),
            spent,
            steps=result.steps,
            features=once,
            text_rows_unchanged=fingerprint(cache) == before,
        )


def judged(model: Path, test: str, cache: Path) -> dict:
    """Return the figures of a model on the products that nobody saw, its pixels decoded."""
    import lift

    found = lift.evaluate(model, on=[f"retrieval:data=[{test}]"], cache=cache, progress=False)
    return figures(found[0])


def table() -> None:
    """Print what the JSON files say."""
    metric = "text_to_image/R@10"
    print(f"{'space':12} {'scratch':>8} {'fit':>8} {'head':>8}  of scratch  CPU-s fit + head")
    for name in SPACES:
        found = {
            stage: json.loads(path.read_text())
            for stage in ("scratch", "fit", "head")
            if (path := RESULTS / RECIPE / f"{stage}-{name}.json").exists()
        }
        value = {stage: 100 * f["figures"][metric][0] for stage, f in found.items()}
        share = value["head"] / value["scratch"] if {"head", "scratch"} <= value.keys() else None
        spent = [found[stage]["cpu_seconds"] for stage in ("fit", "head") if stage in found]
        print(
            f"{name:12}",
            *(f"{value[s]:7.1f}%" if s in value else " " * 8 for s in ("scratch", "fit", "head")),
            f"  {share:.1%}" if share else " " * 8,
            f"      {' + '.join(f'{s:.0f}' for s in spent)}",
        )


def main() -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("spaces", "scratch", "retarget", "table"))
    parser.add_argument("spaces", nargs="*", default=list(SPACES))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("out/five_spaces"))
    parser.add_argument(
        "--recipe", default=RECIPE, help="of the tower, and of training from scratch"
    )
    words = parser.parse_args()
    globals()["RECIPE"] = words.recipe
    torch.set_num_threads(1)
    if words.stage == "table":
        table()
        return
    stage = {"spaces": spaces, "scratch": scratch, "retarget": retarget}[words.stage]
    stage(words.data, words.out, words.spaces)


if __name__ == "__main__":
    main()
