"""All studies together: their pages, a check that the smallest runs come out again, the runs.

python runs/results.py status                  # what is there, what is left and what it takes
python runs/results.py pages                   # docs/results from the JSON files alone
python runs/results.py pages freezing          # one of them
python runs/results.py check                   # `make results-check`
python runs/results.py run --seeds 0 1         # every study's missing runs of these seeds
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import shutil
import sys
from pathlib import Path

from frame.study import ROOT, Place, Record, Study, budget, make, path_of, read

from lift.files import write_text

PAGES = ROOT.parent / "docs" / "results"
STUDIES = (
    "freezing",
    "text_encoders",
    "losses_and_captions",
    "inverse_effect",
    "composition_ceiling",
    "conditioning",
    "what_pays",
    "cost",
    "scaling",
)
"""Scripts, in the order of their numbers."""


def study(name: str) -> Study:
    """Return a study by the name of its script."""
    return importlib.import_module(name).STUDY


def written(one: Study, folder: Path) -> str:
    """Return a study's page with its title, and what it was made from."""
    page = one.page(one.results, folder).strip()
    return f"# {one.number}. {one.title}\n\n{page}\n\n{made_from(one)}\n"


def made_from(one: Study) -> str:
    """Return the last line of a page: it is another one when records come or change."""
    paths = sorted(one.results.rglob("*.json"))
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.relative_to(one.results).as_posix().encode() + b"\0")
        digest.update(path.read_bytes())
    return f"<!-- made from {len(paths)} records, {digest.hexdigest()[:16]} -->"


def pages(names: list[str], folder: Path) -> None:
    """Write the pages of studies, and the summary."""
    from frame.summary import summary

    for name in names:
        write_text(folder / f"{name}.md", written(study(name), folder))
        print(folder / f"{name}.md")
    write_text(folder / "README.md", summary([study(name) for name in STUDIES], folder))


def check(names: list[str], data: Path, out: Path) -> int:
    """Make the smallest run of each study again; return how many came out otherwise.

    The figure has to lie in the interval that the committed record has for it.
    """
    failed, fresh = 0, out / "check"
    shutil.rmtree(fresh / "results", ignore_errors=True)  # studies take runs from each other's
    for name in names:
        one = study(name)
        before = path_of(one.smallest, one.results)
        if not before.exists():
            print(f"{name}: no record of {one.smallest.name} to compare with")
            failed += 1
            continue
        shutil.rmtree(fresh / "models", ignore_errors=True)
        results = fresh / "results" / name
        shutil.copytree(one.results, results)
        path_of(one.smallest, results).unlink()
        make(one, [one.smallest], Place(data, fresh, results))
        failed += not _agrees(name, one.primary, read(before), path_of(one.smallest, results))
    return failed


def _agrees(name: str, figure: str, before: Record, path: Path) -> bool:
    now, then = read(path)["figures"][figure], before["figures"][figure]
    inside = then["low"] <= now["value"] <= then["high"]
    print(
        f"{name}: {figure} {100 * now['value']:.2f}%, committed {100 * then['value']:.2f}% "
        f"[{100 * then['low']:.2f}, {100 * then['high']:.2f}]: "
        f"{'inside' if inside else 'OUTSIDE'}",
        flush=True,
    )
    return inside


def main() -> int:
    """Do what the words say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["status", "pages", "check", "run"])
    parser.add_argument("studies", nargs="*", default=[*STUDIES], metavar="STUDY")
    parser.add_argument("--data", type=Path, default=ROOT.parent.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=ROOT.parent / "out" / "studies", help="scratch")
    parser.add_argument("--pages", type=Path, default=PAGES, help="folder of the pages")
    parser.add_argument("--seeds", nargs="+", type=int, help="of `run`: others are left out")
    words = parser.parse_args()
    if unknown := [name for name in words.studies if name not in STUDIES]:
        parser.error(f"no study {unknown[0]}; there are {', '.join(STUDIES)}")
    if words.what == "pages":
        pages(words.studies, words.pages)
    elif words.what == "check":
        return min(1, check(words.studies, words.data, words.out))
    else:
        for one in map(study, words.studies):
            seeds = words.seeds
            jobs = [j for j in one.jobs if seeds is None or j.trial or j.seed in seeds]
            print(budget(one, jobs, one.results), flush=True)
            if words.what == "run":
                make(one, jobs, Place(words.data, words.out, one.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
