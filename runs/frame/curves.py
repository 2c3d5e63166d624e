"""Figures over sizes: what runs of so many samples find, with draws over items and seeds, and fits.

Row 0 of whatever is drawn is what was measured; the other rows are resamples of the test items
(the same ones for all arms and sizes), each with what the mean of so few seeds may be off by: the
spread of seeds, pooled over sizes, times draws of Student's t. It is pooled on the scale of angles,
arcsin(sqrt(share)), on which shares of items vary alike whether they are small or large.
"""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from frame.found import Found
from frame.runs import unpacked
from lift.bootstrap import Spread
from lift.terms import Outcomes

DRAWS = 2_000
FLOOR = 2e-3
"""Nearer than this to chance or to the top, a logarithm says too much."""

Drawn = Float64[np.ndarray, " draws"]
Table = Float64[np.ndarray, "draws sizes"]


def sized(arm: str, size: int) -> str:
    """Return the name of an arm's runs with so many samples."""
    return f"{arm}-{size}"


def split(name: str) -> tuple[str, int]:
    """Return arm and size of `sized`."""
    arm, _, size = name.rpartition("-")
    return arm, int(size)


@dataclasses.dataclass(frozen=True)
class Curve:
    """What an arm finds at each size.

    Attributes:
        sizes: samples, in order.
        seeds: how many runs each size has.
        drawn: the figure, a row a draw, row 0 as measured.
        noise: standard deviation between seeds as angles, 0 where no size has two.
        freedom: degrees of freedom of `noise`.
        chance: what guessing finds.
        top: what can be found at most, where the records tell it; else 1.
        items: that are resampled.
    """

    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    drawn: Table
    noise: float
    freedom: int
    chance: float
    top: float
    items: int

    @property
    def most(self) -> int:
        """The largest size."""
        return self.sizes[-1]

    def at(self, size: int) -> Drawn:
        """Return what is found at a size."""
        return self.drawn[:, self.sizes.index(size)]

    def spread(self, size: int) -> Spread:
        """Return what is found at a size, with its interval."""
        return spread(self.at(size), self.items, self.seeds[self.sizes.index(size)])

    def needed(self, targets: Drawn) -> Drawn:
        """Return how many samples find so much, a draw a target.

        By interpolation along the logarithm of samples; the curve is not let fall. Targets below
        the smallest size give that size, targets above the largest infinity.
        """
        climbing = np.maximum.accumulate(self.drawn, axis=1)
        climbing = climbing + 1e-9 * np.arange(len(self.sizes))
        logs = np.log(self.sizes)
        pairs = zip(np.broadcast_to(targets, len(climbing)), climbing, strict=True)
        return np.exp([np.interp(t, row, logs, right=np.inf) for t, row in pairs])


@functools.cache
def curve(found: Found, of: str, arm: str, figure: str, *, most: float = np.inf) -> Curve | None:
    """Return an arm's curve from its records up to a size; None where there is no record."""
    sizes = sorted({split(n)[1] for n in found.arms(of) if split(n)[0] == arm})
    sizes = [size for size in sizes if size <= most]
    records = [found.of(of, sized(arm, size)) for size in sizes]
    if not sizes:
        return None
    told = [[one["figures"][figure] for one in own] for own in records]
    per_seed = [np.stack([_resampled(unpacked(f["outcomes"])) for f in own]) for own in told]
    noise, freedom = _between_seeds([own[:, 0] for own in per_seed])
    seeds = tuple(map(len, per_seed))
    means = np.stack([own.mean(axis=0) for own in per_seed], axis=1)
    off = _students(zlib.crc32(f"{of} {arm}".encode()), freedom, len(sizes))
    first = told[0][0]
    return Curve(
        sizes=tuple(sizes),
        seeds=seeds,
        drawn=shares(angles(means) + noise * off / np.sqrt(seeds)),
        noise=noise,
        freedom=freedom,
        chance=float(first.get("chance", 0.0)),
        top=float(records[0][0].get("captions", {}).get("ceiling", 1.0)),
        items=int(first["items"]),
    )


def angles(found: np.ndarray) -> np.ndarray:
    """Return shares as angles."""
    return np.arcsin(np.sqrt(np.clip(found, 0.0, 1.0)))


def shares(of: np.ndarray) -> np.ndarray:
    """Return the shares of angles."""
    return np.sin(np.clip(of, 0.0, np.pi / 2)) ** 2


def _resampled(outcomes: Outcomes) -> Drawn:
    """Return the mean over items in each draw."""
    values = np.asarray(outcomes.values, np.float64)
    weights = np.ones(len(values)) if outcomes.weights is None else outcomes.weights
    own = np.arange(len(values)) if outcomes.clusters is None else outcomes.clusters
    own = np.unique(own, return_inverse=True)[1]
    sums, weight = np.bincount(own, weights * values), np.bincount(own, weights)
    times = _times(len(weight))
    return (times @ sums) / (times @ weight)


@functools.lru_cache(maxsize=4)
def _times(clusters: int) -> Float64[np.ndarray, "draws clusters"]:
    """Return how often each cluster is drawn; once in row 0."""
    rng = np.random.default_rng(clusters)
    drawn = rng.multinomial(clusters, np.full(clusters, 1 / clusters), DRAWS)
    return np.concatenate([np.ones((1, clusters)), drawn])


def _between_seeds(values: Sequence[np.ndarray]) -> tuple[float, int]:
    """Return the pooled deviation between seeds as angles, and its degrees of freedom."""
    freedom = sum(len(own) - 1 for own in values)
    if not freedom:
        return 0.0, 0
    squares = sum(((angles(own) - angles(own).mean()) ** 2).sum() for own in values)
    return float(np.sqrt(squares / freedom)), freedom


def _students(seed: int, freedom: int, sizes: int) -> Table:
    """Return draws of Student's t, one deviation estimate for all sizes of a draw; row 0 is 0."""
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal((DRAWS, sizes))
    scale = np.sqrt(max(freedom, 1) / rng.chisquare(max(freedom, 1), (DRAWS, 1)))
    return np.concatenate([np.zeros((1, sizes)), normal * scale])


# --- fits ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Form:
    """A curve that is a straight line over log samples once it is bent.

    Attributes:
        title: in words.
        bend: of (figure, chance, top), to what is linear.
        back: its inverse.
        tops: how many tops (what is found with endless samples) are tried, from 1 down to what was
            found; of a single one it is the curve's own.
        free: how many numbers are fitted.
    """

    title: str
    bend: Callable[[np.ndarray, float, np.ndarray], np.ndarray]
    back: Callable[[np.ndarray, float, np.ndarray], np.ndarray]
    tops: int
    free: int


def _logistic(found: np.ndarray, chance: float, top: np.ndarray) -> np.ndarray:
    found = np.clip(found, chance + FLOOR, top - FLOOR)
    return np.log((found - chance) / (top - found))


def _logistic_back(line: np.ndarray, chance: float, top: np.ndarray) -> np.ndarray:
    return chance + (top - chance) / (1 + np.exp(-line))


def _power(found: np.ndarray, chance: float, top: np.ndarray) -> np.ndarray:
    del chance
    return -np.log(top - np.minimum(found, top - FLOOR))


def _power_back(line: np.ndarray, chance: float, top: np.ndarray) -> np.ndarray:
    return np.maximum(chance, top - np.exp(-line))


FORMS: Mapping[str, Form] = {
    "logistic": Form("logistic in log N, up to the ceiling", _logistic, _logistic_back, 1, 2),
    "own top": Form("logistic in log N, with a fitted top", _logistic, _logistic_back, 40, 3),
    "power": Form("power law of the error, with a rest", _power, _power_back, 40, 3),
}


@dataclasses.dataclass(frozen=True)
class Fit:
    """A form fitted to a curve; arrays have a row a draw, row 0 from what was measured.

    Attributes:
        form: its name.
        chance: what guessing finds.
        start, slope: of the line over the natural logarithm of samples.
        top: what is found with endless samples.
        off: deviation as an angle of one more run: seeds, and what the form misses by.
        misses: the second of these alone.
        freedom: degrees of freedom of `off`.
    """

    form: str
    chance: float
    start: Drawn
    slope: Drawn
    top: Drawn
    off: float
    misses: float
    freedom: int

    def at(self, size: float) -> Drawn:
        """Return what the form says of a size."""
        return FORMS[self.form].back(self.start + self.slope * np.log(size), self.chance, self.top)

    def another(self, size: float, runs: int = 1) -> Drawn:
        """Return what the mean of so many more runs of a size is expected to find."""
        seed = zlib.crc32(f"{self.form} {size}".encode())
        off = self.off * _students(seed, self.freedom, 1)[:, 0] / np.sqrt(runs)
        return shares(angles(self.at(size)) + off)


def fit(of: Curve, form: str) -> Fit | None:
    """Return a form fitted to a curve; None where it has no more sizes than numbers to fit.

    What the form misses the sizes by, more than seeds differ, is drawn as well: each draw bends
    the curve by as much at random before it is fitted again.
    """
    free = len(of.sizes) - FORMS[form].free
    if free < 1:
        return None
    first = _solved(of.drawn[:1], of, form)
    line = first[0] + first[1] * np.log(of.sizes)
    missed = angles(of.drawn[:1]) - angles(FORMS[form].back(line, of.chance, first[2]))
    by_seeds = float(np.mean(of.noise**2 / np.asarray(of.seeds)))
    misses = float(np.sqrt(max(0.0, float((missed**2).sum()) / free - by_seeds)))
    bent = _students(zlib.crc32(form.encode()), free, len(of.sizes))
    start, slope, top = _solved(shares(angles(of.drawn) + misses * bent), of, form)
    off = float(np.hypot(of.noise, misses))
    parts = (start[:, 0], slope[:, 0], top[:, 0])
    return Fit(form, of.chance, *parts, off=off, misses=misses, freedom=max(of.freedom, free))


def _solved(values: Table, of: Curve, form: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return start, slope and top of each row, by least squares weighted as shares of items vary.

    Tops are tried one by one, from the least that is above all that was found.
    """
    shape, logs = FORMS[form], np.log(of.sizes)
    share = np.clip(of.drawn[0], FLOOR, 1 - FLOOR)
    precise = 1 / (share * (1 - share))
    least = min(1.0, float(values.max()) + 0.01)
    best: tuple[np.ndarray, ...] | None = None
    for top in np.linspace(1.0, least, shape.tops) if shape.tops > 1 else (of.top,):
        at = np.full((len(values), 1), top)
        line = shape.bend(values, of.chance, at)
        # How far the figure moves where the line moves by a little.
        there = shape.bend(share, of.chance, at[:1])
        before, after = (shape.back(there + d, of.chance, at[:1]) for d in (0.0, 1e-4))
        weight = precise * ((after - before) / 1e-4) ** 2
        slope, start = _line(logs, line, weight)
        missed = shape.back(start + slope * logs, of.chance, at) - values
        loss = (precise * missed**2).sum(axis=1, keepdims=True)
        if best is None:
            best = (loss, start, slope, at)
        else:
            better = loss < best[0]
            new = (loss, start, slope, at)
            best = tuple(np.where(better, a, b) for a, b in zip(new, best, strict=True))
    assert best is not None
    return best[1], best[2], best[3]


def _line(x: np.ndarray, y: Table, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slope and start of weighted lines, a row each."""
    weight = weight / weight.sum()
    middle = (weight * x).sum()
    mean = (weight * y).sum(axis=1, keepdims=True)
    slope = (weight * (x - middle) * y).sum(axis=1, keepdims=True)
    slope = slope / (weight * (x - middle) ** 2).sum()
    return slope, mean - slope * middle


# --- words --------------------------------------------------------------------------------------


def ends(drawn: Drawn) -> tuple[float, float, float]:
    """Return what was measured and the ends of its 95% interval, which may be infinite."""
    low, high = np.quantile(drawn[1:], [0.025, 0.975], method="nearest")
    point = float(drawn[0])
    return point, min(point, float(low)), max(point, float(high))


def spread(drawn: Drawn, items: int = 0, seeds: int = 0) -> Spread:
    """Return what was measured with its 95% interval, as tables and plots take it."""
    return Spread(*ends(drawn), items=items, seeds=seeds)


def number(value: float) -> str:
    """Return a number with three digits and k, M, G, T, P."""
    for unit, name in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / (1e3 if name == 'k' else unit):.3g}{name}"
    return f"{value:,.3g}" if value < 100 else f"{value:,.0f}"


def between(drawn: Drawn, told: Callable[[float], str] = number) -> str:
    """Return "12.3k [11.1k, 14.0k]"; an end that no run reached is left open."""
    point, low, high = ends(drawn)
    if not np.isfinite(point):
        return f"not reached [{told(low)}, ...)" if np.isfinite(low) else "not reached"
    end = told(high) + "]" if np.isfinite(high) else "...)"
    return f"{told(point)} [{told(low)}, {end}"
