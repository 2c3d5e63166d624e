"""Whether a few images come up for every caption, or a few captions for every image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from lift.diagnosis._figures import GROUPS, few, from_groups
from lift.diagnosis._finding import LEVELS, Finding, Level, OfPairs, finding
from lift.diagnosis._measured import Measured
from lift.evals._metrics import TIE

NAME = "hubness"
ADVICE = (
    "Look at the named images and captions (blank, a collage, one word?) and leave them out, or "
    "score with a softmax over the queries, which takes from hubs what they give to everybody."
)
NEAREST = 10
MOST = 2_000
SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Config:
    """When hubs are looked at, and when they are a fault: by skewness and the largest one's share.

    Healthy small models have a skewness of 0.8 to 2.0 in both directions, and their largest hub
    comes up for 3% to 8% of queries; Radovanovic et al. call 1.4 strong. A model on data of another
    domain has 2 to 11, and one caption comes up for half of all images. A fault needs both, a
    skewed distribution and one item that is nearly everywhere.
    """

    look: float = 3.0
    fault: float = 5.0
    everywhere: float = 0.25
    never: float = 0.5


class Hubness(OfPairs):
    """Skewness of N_k, how many queries have an item among their ten nearest (Radovanovic 2010).

    Of images as captions find them and of captions as images find them; the worse one is told.
    Tied items share the places that are left, so that a constant encoder has no hubs.
    """

    name, advice = NAME, ADVICE
    config: Config

    def answer(self, measured: Measured) -> Finding:
        """Return the skewness of the direction that is worse off."""
        pairs = measured.pairs
        some = few(len(pairs), MOST)
        image, text = pairs.z_image[some], pairs.z_text[some]
        nearest = min(NEAREST, len(some) // 10)
        found = {
            "images": occurrences(text, image, nearest),
            "captions": occurrences(image, text, nearest),
        }
        names = {
            "images": [measured.keys[int(n)] for n in pairs.image[some]],
            "captions": [measured.texts[int(n)] for n in pairs.text[some]],
        }
        told = {what: _told(by_group, names[what]) for what, by_group in found.items()}
        levels: dict[str, Level] = {what: self._level(one) for what, one in told.items()}
        worst = min(told, key=lambda what: (LEVELS.index(levels[what]), -told[what]["skewness"]))
        figure = from_groups(
            told[worst]["skewness"],
            [skewness(found[worst].sum(axis=0) - one) for one in found[worst]],
            len(some),
        )
        return finding(
            NAME,
            levels[worst],
            figure,
            f"skewness of how often each of the {worst} is among the {nearest} nearest",
            self._means(worst, levels[worst], told[worst]),
            ADVICE,
            details={"nearest": nearest, **told},
        )

    def _level(self, told: dict) -> Level:
        skew, share = told["skewness"], told["largest_share_of_queries"]
        if skew >= self.config.fault and share >= self.config.everywhere:
            return "fault"
        odd = skew >= self.config.look or told["never_found"] >= self.config.never
        return "look" if odd else "fine"

    def _means(self, what: str, level: Level, told: dict) -> str:
        one, of = ("image", "captions") if what == "images" else ("caption", "images")
        share, never = told["largest_share_of_queries"], told["never_found"]
        first = told["most_found"][0]["item"]
        if level == "fine":
            return (
                f"No hubs: the {one} that is found most comes up for {share:.1%} of {of}; "
                f"{never:.1%} of {what} are never found."
            )
        return (
            f"Hubs: {one} {first!r} is among the nearest of {share:.1%} of {of}, and {never:.1%} "
            f"of {what} are among those of none."
        )


def occurrences(z_query: np.ndarray, z_item: np.ndarray, k: int) -> Float64[np.ndarray, "g n"]:
    """Return how often each item is among the `k` nearest, for each tenth of the queries."""
    total = np.zeros((GROUPS, len(z_item)))
    for start in range(0, len(z_query), 512):
        scores = z_query[start : start + 512] @ z_item.T
        last = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]
        above = scores > last + TIE
        tied = np.abs(scores - last) <= TIE
        left = k - above.sum(axis=1, keepdims=True)
        credit = above + tied * (left / tied.sum(axis=1, keepdims=True))
        group = (start + np.arange(len(scores))) % GROUPS
        total += (group == np.arange(GROUPS)[:, None]).astype(np.float64) @ credit
    return total


def skewness(counts: np.ndarray) -> float:
    """Return E (x - mean)^3 / sd^3; 0 where nothing varies."""
    apart = counts - counts.mean()
    variance = float((apart**2).mean())
    return float((apart**3).mean()) / variance**1.5 if variance > 1e-12 else 0.0


def _told(by_group: np.ndarray, names: list[str]) -> dict:
    """Return what is told of one direction."""
    counts = by_group.sum(axis=0)
    queries = len(counts)  # one query an item: pairs
    most = np.argsort(-counts, kind="stable")[:SHOWN]
    return {
        "skewness": skewness(counts),
        "never_found": float((counts < TIE).mean()),
        "largest_share_of_queries": float(counts.max()) / queries,
        "most_found": [
            {"item": names[int(n)][:120], "share_of_queries": float(counts[n]) / queries}
            for n in most
        ],
    }


def build(config: Config) -> Hubness:
    """Return the question."""
    return Hubness(config)
