"""What pages conclude: rank correlations, and whose fault a null result is called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from frame import encoders_page
from frame.ceiling_page import HYPOTHESES, figure, verdict
from frame.composition import ALL_KINDS
from frame.figures import FORTH, REWORDED
from frame.found import Found
from frame.page import answered
from frame.rank_correlation import by_chance, family, spearman
from frame.runs import packed
from scipy.stats import spearmanr

from lift.terms import Outcomes

DICE = np.random.default_rng(0)
KINDS = ("swap_object", "swap_attribute", "replace_relation")


def test_rank_correlations_are_scipys_and_corrected_by_holm() -> None:
    tied, other = DICE.integers(0, 4, 16).tolist(), DICE.random(16).tolist()
    assert spearman(tied, other) == pytest.approx(spearmanr(tied, other)[0])
    figures = {"same": other, "tied": tied, "constant": [1.0] * 16}
    found = family(figures, {"outcome": other})
    assert [rank.figure for rank in found] == ["same", "tied"]  # one that is constant says nothing
    first, second = found
    assert first.rho == pytest.approx(1) and first.holm == pytest.approx(2 * first.p)
    assert second.p == pytest.approx(spearmanr(tied, other)[1], abs=0.02)
    assert second.holm == max(second.p, first.holm)
    assert 0.45 < by_chance(16) < 0.55 and by_chance(16, 90) > 0.7


def kept(folder: Path, arm: str, seed: int, share: float, samples: int, beside: str = "") -> None:
    """Write a record that has a share of 500 questions right."""
    credit = (np.random.default_rng(seed).permutation(500) < 500 * share).astype(np.float32)
    told = {"value": share, "items": 500, "outcomes": packed(Outcomes(credit))}
    figures = {figure(kind) + beside: told for kind in KINDS}
    record = {"set": "scenes", "arm": arm, "seed": seed, "samples": samples, "figures": figures}
    (folder / f"scenes-{arm}-{seed}.json").write_text(json.dumps(record))


def ceiling(folder: Path, *, told: float, oracle: float, control: float, seeds: int = 4) -> str:
    """Return the verdict of such records; LIFT has half of the questions right."""
    kept(folder, "space-minilm", 0, oracle, 0, " (oracle)")
    kept(folder, "shown51200", 0, control, 51_200)
    for seed in range(seeds):
        kept(folder, "lift", seed, 0.5, 12_800)
        kept(folder, "more51200", seed, 0.5, 51_200)
        kept(folder, "told", seed, told, 12_800)
    return verdict(Found(folder))


@pytest.mark.parametrize(
    ("told", "oracle", "control", "words"),
    [
        (0.60, 0.60, 0.99, "it is the text space's fault"),
        (0.60, 0.90, 0.99, "it is the loss's fault"),
        (0.95, 0.60, 0.99, "it is not the text space's fault"),
        (0.60, 0.60, 0.60, "means nothing yet"),
        (0.74, 0.60, 0.99, "Not certain: 75% lies within the interval of LIFT told the facts"),
    ],
)
def test_a_fault_is_named_where_a_control_can_answer(
    tmp_path: Path, told: float, oracle: float, control: float, words: str
) -> None:
    found = ceiling(tmp_path, told=told, oracle=oracle, control=control)
    assert words in found
    assert ("fault" in found) == (control > 0.95)


def test_one_seed_names_no_fault(tmp_path: Path) -> None:
    found = ceiling(tmp_path, told=0.6, oracle=0.6, control=0.99, seeds=1)
    assert "not decided, of one seed" in found and "fault" not in found


def test_a_control_has_not_failed_before_the_largest_is_there(tmp_path: Path) -> None:
    ceiling(tmp_path, told=0.6, oracle=0.6, control=0.6)
    answers = [answer for _, answer in answered(HYPOTHESES[:2], Found(tmp_path))]
    assert [answer.held for answer in answers] == [None, None]
    for seed in range(2):
        assert [answer.held for answer in answers] == [None, None]  # nor by one seed of that
        kept(tmp_path, "shown204800", seed, 0.6, 204_800)
    answers = [answer for _, answer in answered(HYPOTHESES[:2], Found(tmp_path))]
    assert [answer.held for answer in answers] == [False, False]


def spaces_with_cards(folder: Path, seeds: dict[str, int]) -> None:
    """Write cards and records of spaces on both sets; one figure orders them as R@10 does."""
    for of in encoders_page.SETS:
        for place, (arm, many) in enumerate(seeds.items()):
            told = {"telling": place, "the same": 2 * place + 1, "silent": (7 * place) % 5}
            card = {"arm": arm, "figures": {name: {"value": v} for name, v in told.items()}}
            (folder / "cards").mkdir(exist_ok=True)
            (folder / "cards" / f"{of}-{arm}.json").write_text(json.dumps(card))
            for seed in range(many):
                credit = (np.arange(500) < 20 * (place + 1)).astype(np.float32)
                one = {"value": float(credit.mean()), "outcomes": packed(Outcomes(credit))}
                names = (FORTH, REWORDED, ALL_KINDS)
                about = {"protocol": "p", "data": "d", "digest": "x"}
                record = {"set": of, "arm": arm, "seed": seed, "samples": 1}
                record["figures"] = {name: one | about for name in names}
                (folder / f"{of}-{arm}-{seed}.json").write_text(json.dumps(record))


def test_a_card_predicts_when_each_space_has_two_seeds(tmp_path: Path) -> None:
    seeds = {f"space{number}": 2 for number in range(12)}
    spaces_with_cards(tmp_path, seeds | {"space3": 1})
    some, none = encoders_page.HYPOTHESES[0], encoders_page.HYPOTHESES[4]
    assert [one.check(Found(tmp_path)).held for one in (some, none)] == [None, None]
    spaces_with_cards(tmp_path, seeds)
    found = Found(tmp_path)
    assert [one.check(found).held for one in (some, none)] == [True, False]
    assert {rank.figure for rank in encoders_page.ranked(found, "scenes")} == {"telling", "silent"}


def test_what_is_not_seen_is_not_ruled_out(tmp_path: Path) -> None:
    spaces_with_cards(tmp_path, {f"space{number}": 2 for number in range(12)})
    for path in (tmp_path / "cards").iterdir():
        card = json.loads(path.read_text())
        card["figures"] = {"silent": card["figures"]["silent"]}
        path.write_text(json.dumps(card))
    some, none = encoders_page.HYPOTHESES[0], encoders_page.HYPOTHESES[4]
    answers = [one.check(Found(tmp_path)) for one in (some, none)]
    assert [answer.held for answer in answers] == [None, None]
    assert "would not be found" in answers[0].told
