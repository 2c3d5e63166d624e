"""A study: runs that are wanted, a budget that is said first, one JSON for each finished run.

Several processes may work at one study: each run is taken by one of them, told by a lock file that
goes with its process. A run whose JSON is there is not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lift.files import write_text

if TYPE_CHECKING:
    from frame.page import Hypothesis

ROOT = Path(__file__).parents[1]
"""The folder of the scripts."""
RESULTS = ROOT / "results"
Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a study finds and leaves things.

    Attributes:
        data: the folder of the data sets.
        out: scratch: rows, models.
        results: one JSON a run.
    """

    data: Path
    out: Path
    results: Path


@dataclasses.dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        set: of pairs.
        arm: what is compared.
        seed: of weights, order and views; arms are paired by it.
        trial: a setting that is tried on pairs for choosing; "" for a run that is reported.
    """

    set: str
    arm: str
    seed: int
    trial: str = ""

    @property
    def name(self) -> str:
        """Of its JSON."""
        words = f"{self.set}-{self.arm}-{self.seed}"
        return f"trials/{words}-{self.trial}" if self.trial else words


@dataclasses.dataclass(frozen=True)
class Study:
    """What is asked, by which runs.

    Attributes:
        name: of the script, of its results' folder and of its page.
        number: in the list of studies.
        title: of the page.
        jobs: in the order in which they are run.
        guess: CPU seconds of a run before any was made.
        work: makes a run and returns its record.
        ready: whether a run has what it needs of other runs.
        smallest: the run that `results-check` makes again.
        primary: the figure of that run which is compared.
        hypotheses: written before the runs.
        page: the study's page from the folder of its records and the folder it will lie in, where
            it leaves its plots.
    """

    name: str
    number: int
    title: str
    jobs: Sequence[Job]
    guess: Callable[[Job], float]
    work: Callable[[Job, Place], Record]
    smallest: Job
    primary: str
    hypotheses: Sequence[Hypothesis]
    page: Callable[[Path, Path], str]
    ready: Callable[[Job, Place], bool] = lambda job, place: True

    @property
    def results(self) -> Path:
        """The folder of its JSON files."""
        return RESULTS / self.name


def path_of(job: Job, results: Path) -> Path:
    """Return where a run's JSON lies."""
    return results / f"{job.name}.json"


def read(path: Path) -> Record:
    """Return a record."""
    return json.loads(path.read_text(encoding="utf-8"))


def cpu_seconds(record: Record) -> float:
    """Return what a run took in all."""
    return sum(record["cpu_seconds"].values())


def expected(study: Study, job: Job, results: Path) -> float:
    """Return the CPU seconds of a run: those of the arm's other runs, else a guess."""
    known = [cpu_seconds(read(path)) for path in results.glob(f"{job.set}-{job.arm}-[0-9]*.json")]
    return sum(known) / len(known) if known else study.guess(job)


def budget(study: Study, jobs: Sequence[Job], results: Path) -> str:
    """Return in a sentence what is left to run and what it takes."""
    left = [job for job in jobs if not path_of(job, results).exists()]
    seconds = sum(expected(study, job, results) for job in left)
    there = len(jobs) - len(left)
    return (
        f"{study.name}: {len(jobs)} runs, {there} there, {len(left)} to make in about "
        f"{seconds / 60:.0f} CPU-minutes, rows of texts not counted."
    )


@contextmanager
def taken(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Yield whether this process has a lock file; it goes with the process, however it ends.

    Args:
        path: of the lock file.
        wait: for who has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def make(study: Study, jobs: Sequence[Job], place: Place) -> int:
    """Make the runs that are missing; return how many this process made.

    It waits for runs that others make, of this study or of another that it builds on.
    """
    made = 0
    told = False
    while True:
        waiting = False
        unready: list[str] = []
        for job in jobs:
            path = path_of(job, place.results)
            if path.exists():
                continue
            if not study.ready(job, place):
                unready.append(job.name)
                continue
            with taken(place.out / "locks" / study.name / f"{job.name}.lock") as mine:
                if not mine:
                    waiting = True
                elif not path.exists():
                    keep(path, study, job, study.work(job, place))
                    made += 1
        if unready and not waiting and not told:
            told = True
            print(
                f"{study.name}: {len(unready)} runs ({unready[0]}, ...) wait for trials or runs "
                "that are not there; where no other process makes them, begin with "
                "python runs/freezing.py",
                flush=True,
            )
        if not waiting and not unready:
            return made
        time.sleep(5 + random.random())


def keep(path: Path, study: Study, job: Job, record: Record) -> None:
    """Write a run's JSON, whole, and say its primary figure."""
    told = {"study": study.name, **dataclasses.asdict(job)}
    told["date"] = time.strftime("%Y-%m-%d", time.gmtime())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({**told, **record}, indent=1, sort_keys=False) + "\n")
    figures = {n: round(f["value"], 3) for n, f in record["figures"].items() if "R@10" in n}
    print(f"{study.name} {job.name}: {figures}, {cpu_seconds(record):.0f} CPU-s", flush=True)


def parser_of(study: Study, doc: str) -> argparse.ArgumentParser:
    """Return the options that every study has."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sets, arms = ([*dict.fromkeys(getattr(j, n) for j in study.jobs)] for n in ("set", "arm"))
    seeds = sorted({job.seed for job in study.jobs})
    parser.add_argument("--data", type=Path, default=ROOT.parent.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=ROOT.parent / "out" / "studies", help="scratch")
    parser.add_argument("--results", type=Path, default=study.results, help="one JSON a run")
    parser.add_argument("--sets", nargs="+", choices=sets, default=sets)
    parser.add_argument("--arms", nargs="+", choices=arms, default=arms)
    parser.add_argument("--seeds", nargs="+", type=int, default=seeds)
    parser.add_argument("--dry-run", action="store_true", help="say the budget and stop")
    return parser


def main(study: Study, doc: str) -> None:
    """Say the budget, then make the runs that are missing."""
    args = parser_of(study, doc).parse_args()
    carry_out(study, args, lambda job: bool(job.trial) or job.seed in args.seeds)


def carry_out(
    study: Study,
    args: argparse.Namespace,
    wanted: Callable[[Job], bool],
    refused: Callable[[Sequence[Job], Place], str] = lambda jobs, place: "",
) -> None:
    """Do what the options of `parser_of` say with the runs that are wanted.

    Args:
        study: whose.
        args: the options.
        wanted: which runs of the chosen sets and arms.
        refused: why they can't be made, in a sentence; "" where they can.

    Raises:
        SystemExit: they were refused.
    """
    place = Place(args.data, args.out, args.results)
    chosen = [j for j in study.jobs if j.set in args.sets and j.arm in args.arms and wanted(j)]
    print(budget(study, chosen, args.results), flush=True)
    if args.dry_run:
        return
    if why := refused(chosen, place):
        raise SystemExit(why)
    make(study, chosen, place)
    print(f"Its page: python runs/results.py pages {study.name}")


def untried(study: Study, jobs: Sequence[Job], place: Place) -> str:
    """Return a sentence where the trials of study 1 that runs need are missing, else ""."""
    if all(study.ready(job, place) for job in jobs):
        return ""
    return "Trials of study 1 for these arms are missing: python runs/freezing.py"
