"""What a study's records say: figures with intervals over items and seeds, paired differences."""

from __future__ import annotations

import json
import math
import statistics
from functools import cached_property
from pathlib import Path

from frame.composition import with_composed
from frame.runs import unpacked
from frame.study import Record, cpu_seconds, read
from lift.bootstrap import Spread, paired, pooled
from lift.errors import DataError
from lift.terms import Outcomes
from lift.training.paired import difference, t_quantile

RESAMPLES = 4_000
"""Of a bootstrap: a page has hundreds of figures."""


class Found:
    """The records of a folder, trials left out.

    Attributes:
        folder: where they are.
        records: by set, arm and seed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[tuple[str, str, int], Record] = {}
        self._unpacked: dict[tuple[str, str, int, str], Outcomes] = {}
        for path in sorted(folder.glob("*.json")):
            record = read(path)
            if "seed" not in record:  # a prediction, not a run
                continue
            record["figures"] = with_composed(record["figures"])
            self.records[record["set"], record["arm"], record["seed"]] = record

    @cached_property
    def sets(self) -> list[str]:
        """The sets there are records of, in the order of their names."""
        return sorted({name for name, _, _ in self.records})

    @cached_property
    def most_seeds(self) -> int:
        """How many seeds the arm has that has the most; 0 without records."""
        arms = {(name, arm) for name, arm, _ in self.records}
        return max((len(self.seeds(*one)) for one in arms), default=0)

    def seeds_an_arm(self) -> str:
        """Return how many seeds arms have: "3", or "1 to 3"."""
        many = {len(self.seeds(of, arm)) for of in self.sets for arm in self.arms(of)} or {0}
        return f"{min(many)}" if len(many) == 1 else f"{min(many)} to {max(many)}"

    def arms(self, of: str) -> list[str]:
        """Return the arms of a set."""
        return sorted({arm for name, arm, _ in self.records if name == of})

    def seeds(self, of: str, *arms: str) -> list[int]:
        """Return the seeds that all these arms have."""
        found = [{s for n, a, s in self.records if (n, a) == (of, arm)} for arm in arms]
        return sorted(set.intersection(*found)) if found else []

    def of(self, name: str, arm: str) -> list[Record]:
        """Return an arm's records, by seed."""
        return [self.records[name, arm, seed] for seed in self.seeds(name, arm)]

    def figures(self, of: str, evaluation: str = "") -> list[str]:
        """Return the figures of a set's records, of one evaluation where it is named."""
        found: dict[str, None] = {}
        for (name, _, _), record in self.records.items():
            if name == of:
                found.update(dict.fromkeys(record["figures"]))
        return [figure for figure in found if figure.startswith(evaluation)]

    def outcomes(self, of: str, arm: str, figure: str, seeds: list[int]) -> list[Outcomes]:
        """Return what each item scored, a seed an entry; [] where a seed lacks the figure."""
        told = [self.records[of, arm, s]["figures"].get(figure, {}) for s in seeds]
        if not all("outcomes" in one for one in told):
            return []
        for seed, one in zip(seeds, told, strict=True):
            if (of, arm, seed, figure) not in self._unpacked:
                self._unpacked[of, arm, seed, figure] = unpacked(one["outcomes"])
        return [self._unpacked[of, arm, seed, figure] for seed in seeds]

    def spread(self, of: str, arm: str, figure: str) -> Spread | None:
        """Return a figure with its interval, None where no record has it."""
        seeds = [s for s in self.seeds(of, arm) if figure in self.records[of, arm, s]["figures"]]
        found = self.outcomes(of, arm, figure, seeds) if seeds else []
        return pooled(found, resamples=RESAMPLES) if found else None

    def difference(self, of: str, arm: str, other: str, figure: str) -> Spread | None:
        """Return how much more `arm` has than `other`, paired by items and seeds.

        Raises:
            DataError: they were not judged on the same items: one of the records is stale.
        """
        seeds = self.seeds(of, arm, other)
        ours, theirs = (self.outcomes(of, a, figure, seeds) for a in (arm, other))
        if not ours or len(ours) != len(theirs):
            return None
        both = [self.records[of, a, s]["figures"][figure] for a in (arm, other) for s in seeds]
        if len({one.get("digest") for one in both}) > 1:
            raise DataError(f"{of}: {arm} and {other} were judged on other items: {figure}.")
        return paired(ours, theirs, resamples=RESAMPLES)

    def values(self, of: str, arm: str, figure: str) -> list[float]:
        """Return a figure's value of each seed."""
        return [r["figures"][figure]["value"] for r in self.of(of, arm) if figure in r["figures"]]

    def mixed(self) -> list[str]:
        """Return the arms whose runs were not made alike: samples, rate, recipe, loss, versions."""
        kinds: dict[tuple[str, str], set[str]] = {}
        for (of, arm, _), record in self.records.items():
            told = [record.get(n) for n in ("samples", "rate", "recipe", "objective", "versions")]
            kinds.setdefault((of, arm), set()).add(json.dumps(told, sort_keys=True))
        return [f"{arm} on {of}" for (of, arm), found in sorted(kinds.items()) if len(found) > 1]

    def cpu_minutes(self) -> float:
        """Return what all records took together."""
        return sum(map(cpu_seconds, self.records.values())) / 60

    def seeds_needed(
        self, of: str, arm: str, other: str, figure: str, effect: float = 0.03
    ) -> int | None:
        """Return how many paired seeds find a difference of `effect` in 80 of 100 cases.

        From the spread of the seeds that there are, n = ((t + 0.842) s / effect)^2 with Student's
        two-sided 95% point; it speaks of seeds, not of other items. None for fewer than three.
        """
        seeds = self.seeds(of, arm, other)
        both = [[self.records[of, a, s]["figures"][figure]["value"] for s in seeds]
                for a in (arm, other)]  # fmt: skip
        if len(seeds) < 3:
            return None
        spread = statistics.stdev(difference(seeds, *both).differences)
        for count in range(2, 200):
            needed = (t_quantile(0.975, count - 1) + 0.842) * spread / math.sqrt(count)
            if needed <= effect:
                return count
        return None
