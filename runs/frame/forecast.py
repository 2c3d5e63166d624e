"""The prediction of study 9: fitted to sizes up to 25,600, written once, before larger runs."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from frame.curves import FORMS, Curve, Fit, curve, ends, fit, sized, split
from frame.figures import FORTH
from frame.found import Found
from frame.study import Record, read
from lift.files import write_text

FIGURE = FORTH
"""That is foretold."""
SIZES = (1_600, 3_200, 6_400, 12_800, 25_600)
"""That are fitted."""
FIT_MOST = SIZES[-1]
FORETOLD = (51_200, 102_400, 307_200, 3_000_000)
FORM = "logistic"
ARMS = ("frozen", "tuned", "scratch")
NEEDED = ("frozen", "scratch")
"""Arms without which nothing is foretold, with two seeds of every size."""


def file_of(results: Path) -> Path:
    """Return where the prediction lies."""
    return results / "prediction.json"


def beyond(found: Found) -> list[str]:
    """Return the records of sizes that are foretold, by their names."""
    return [f"{of}-{arm}-{seed}" for of, arm, seed in found.records if split(arm)[1] > FIT_MOST]


def fitted(found: Found, arm: str, form: str = FORM) -> tuple[Curve, Fit] | None:
    """Return an arm's curve up to the last size that is fitted, and the fit."""
    own = curve(found, "scenes", arm, FIGURE, most=FIT_MOST)
    made = fit(own, form) if own else None
    return (own, made) if own and made else None


def predict(results: Path) -> str:
    """Write the prediction; return where.

    Raises:
        SystemExit: it is there, larger runs are there, or runs to fit are missing.
    """
    path, found = file_of(results), Found(results)
    if path.exists():
        raise SystemExit(f"{path} is there; a prediction is written once.")
    if known := beyond(found):
        raise SystemExit(f"{known[0]} is there: what has been run can't be foretold.")
    for arm in NEEDED:
        for size in SIZES:
            if len(found.seeds("scenes", sized(arm, size))) < 2:
                raise SystemExit(f"The fit needs two seeds of {sized(arm, size)}.")
    told = told_by(found)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(told, indent=1) + "\n")
    return f"{path}: commit it before the larger runs."


def told_by(found: Found) -> dict[str, Any]:
    """Return a prediction from the records of the sizes that are fitted."""
    arms = {arm: one for arm in ARMS if (one := _arm(found, arm))}
    return {
        "study": "scaling",
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "figure": FIGURE,
        "fitted": {"sizes": SIZES, "form": FORMS[FORM].title},
        "interval": "95%, for one more run: test items, seeds, and what the form misses by",
        "arms": arms,
        "records": _digests(found, list(arms)),
    }


def _arm(found: Found, arm: str) -> dict[str, Any] | None:
    """Return what is foretold of one arm."""
    both = fitted(found, arm)
    if both is None:
        return None
    own, made = both
    others = {form: other[1] for form in FORMS if (other := fitted(found, arm, form))}
    return {
        "seeds": dict(zip(own.sizes, own.seeds, strict=True)),
        "found": {size: round(float(own.at(size)[0]), 5) for size in own.sizes},
        "parameters": {
            "chance": round(made.chance, 6),
            "ceiling": round(own.top, 6),
            "slope": _rounded(made.slope),
            "start": _rounded(made.start),
            "between seeds, angle": round(own.noise, 5),
            "missed by, angle": round(made.misses, 5),
        },
        "foretold": {size: _rounded(made.another(size)) for size in FORETOLD},
        "other forms": {
            FORMS[form].title: {size: _rounded(other.another(size)) for size in FORETOLD}
            for form, other in others.items()
            if form != FORM
        },
    }


def _rounded(drawn: Any) -> dict[str, float]:
    names = ("value", "low", "high")
    return {name: round(end, 5) for name, end in zip(names, ends(drawn), strict=True)}


def _digests(found: Found, arms: list[str]) -> dict[str, str]:
    """Return the SHA-256 of each record that was used."""
    told = {}
    for of, name, seed in sorted(found.records):
        arm, size = split(name)
        if arm in arms and size in SIZES:
            data = (found.folder / f"{of}-{name}-{seed}.json").read_bytes()
            told[f"{of}-{name}-{seed}"] = hashlib.sha256(data).hexdigest()
    return told


def stored(results: Path) -> Record | None:
    """Return the prediction, None where none was written."""
    path = file_of(results)
    return read(path) if path.exists() else None


def changed(told: Record, results: Path) -> list[str]:
    """Return the records that are no longer those the prediction was made from."""
    moved = []
    for name, digest in told["records"].items():
        path = results / f"{name}.json"
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            moved.append(name)
    return moved
