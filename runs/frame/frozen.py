"""Where study 1's records are, and the runs of its arm `frozen`, which others compare with.

`frozen` is LIFT with MiniLM's rows and the recipe as it is. It is trained once.
"""

from __future__ import annotations

from pathlib import Path

from frame.study import RESULTS, Job, Place, Record, path_of, read

FIRST, FROZEN = "freezing", "frozen"
"""Study 1, and its arm."""
_OWN = ("study", "set", "arm", "seed", "trial")
"""What a record says of the study it was made for."""


def first_study(results: Path) -> Path:
    """Return the folder of study 1's records: beside those of another study, else the committed.

    Args:
        results: of the other study.
    """
    beside = results.parent / FIRST
    return beside if (beside / "trials").is_dir() else RESULTS / FIRST


def frozen_run(of: str, seed: int, place: Place, samples: int) -> Record | None:
    """Return study 1's record of `frozen` with so many samples, None where there is none.

    Args:
        of: the set.
        seed: of the run.
        place: of the study that asks.
        samples: images seen.
    """
    job = Job(of, FROZEN, seed)
    path = path_of(job, first_study(place.results))
    if not path.exists():
        return None
    record = read(path)
    if record["samples"] != samples:
        return None
    kept = {name: value for name, value in record.items() if name not in _OWN}
    return {"taken_from": f"{FIRST}/{job.name}", **kept}
