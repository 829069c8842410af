"""Do the levers pay: the comparisons of the rule, adjusted over worlds. The page at one length, and compute."""

from dataclasses import replace
from pathlib import Path

import benchmark_table
import numpy as np
import pytest
import yaml
from benchmark import PLAN, tabulated
from benchmark_claim import claim_lines
from benchmark_compute import compute_lines
from benchmark_page import figure_of, write_page
from benchmark_table import Row, Table, _gains
from levels import LENGTH_TOLERANCE, MAX_UNREACHED, SHARE
from made_up_tiers import EMPTY_PAGE, short, stored
from plan import Tier, read_plan

from drift_pl.core.errors import UserError
from drift_pl.functional.intervals import Interval, diversity_gains

CONTENT = yaml.safe_load(PLAN.read_text())


@pytest.fixture(scope="module")
def plan() -> dict[str, Tier]:
    return read_plan(PLAN)


def table_of(tier: Tier, p_values: dict[str, tuple[float, float] | None]) -> Table:
    """A tier's table, in which the levers gain 10 % over everything."""
    gain = Interval(0.1, 0.05, 0.15, 4, ())

    def rows(other: str) -> list[Row]:
        levers = Row(tier.claim["levers"], "", {}, gain, gain, None, None, None, gain, 1.0, p_values=p_values[other])
        return [replace(levers, method="other", p_values=(0.5, 0.5)), levers]

    found = {other: rows(other) for other in p_values}
    return Table(tier, 4, "", {}, dict.fromkeys(tier.methods, ([], [])), found, "", 0, {}, {}, "CPU")


def test_the_levers_p_values_are_adjusted_over_worlds(plan: dict[str, Tier]) -> None:
    """Holm of .01 and .03 is .02 and .03, of .2 and .04 it is .2 and .08; a comparison of one world stays as it is.

    In c the best KL is the one inside of the recipe, so it stands in both roles.

    Catches in benchmarks/fronts/benchmark_claim.py: recipes of different names in different families; p-values of other
    methods; the two integrals exchanged; no p-value taken for a small one.
    """
    b = table_of(
        plan["B"], {"nft_kl_0.1": (0.01, 0.2), "nft_kl_0.3": (0.5, 0.5), "nft_kl_0.1 + nft_kl_0.3": (0.4, 0.6)}
    )
    c = table_of(plan["C"], {"nft_kl_0.3": (0.03, 0.04)})
    lines = [line.split(" | ") for line in claim_lines([b, c])[7:-1]]
    assert [(line[0], line[1], line[3], line[6], line[8]) for line in lines] == [
        ("| the same update and KL", "b", "`expand_nft`", "0.020", "0.200"),
        ("| the same update and KL", "c", "`expand_nft_0.3`", "0.030", "0.080"),
        ("| the best KL of this update", "b", "`expand_nft`", "0.500", "0.500"),
        ("| the best KL of this update", "c", "`expand_nft_0.3`", "0.060", "0.080"),
        ("| all KLs of this update", "b", "`expand_nft`", "0.400", "0.600"),
    ]
    assert lines[0][4] == "`nft_kl_0.1`"
    assert lines[0][5] == lines[0][7] == "+10.0 % [+5.0, +15.0]"
    (one,) = claim_lines([table_of(plan["C"], {"nft_kl_0.3": None})])[7:-2]
    assert one.split(" | ")[6] == "1.000"


def test_a_row_has_each_gains_own_level_and_p_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth more diversity at every reward; the baseline gains 0.5 in reward, from 0.2.

    Catches in benchmarks/fronts/benchmark_table.py: the p-value of one integral for both; the shares exchanged.
    """
    monkeypatch.setattr(benchmark_table, "p_value", lambda low: 0.1 if low.args[0] is diversity_gains else 0.2)
    points_K2 = np.array([[0.2, 0.4], [0.7, 0.2]])
    baseline = np.tile(points_K2[None, :, None], (4, 1, 8, 1))
    method = baseline * np.array([1.0, 1.2])
    points = {"plain": baseline, "kl": method}
    row = _gains(points, points, ("plain",), "kl", bound=1.0, tested=True)
    assert row["p_values"] == (0.1, 0.2)
    assert (row["at_share"].level, row["at_whole"].level) == pytest.approx((0.2 + 0.75 * 0.5, 0.7))
    assert row["diversity"].mean == pytest.approx(0.2)
    assert _gains(points, points, ("plain",), "kl", bound=1.0, tested=False).get("p_values") is None


def test_a_pilot_and_a_tier_whose_levers_have_not_been_run_claim_nothing(plan: dict[str, Tier]) -> None:
    assert plan["b1"].claim == {}
    table = table_of(plan["B"], {"nft_kl_0.1": (0.01, 0.01)})
    assert claim_lines([replace(table, fronts={"flowgrpo": ([], [])})]) == []
    assert claim_lines([replace(table, tier=replace(table.tier, claim={}))]) == []


def test_a_claim_is_about_methods_of_its_tier(tmp_path: Path) -> None:
    """Catches in benchmarks/fronts/plan.py: a claim about a method that is spelt otherwise, and so left out."""
    wrong = {**CONTENT, "tiers": {"B": {**CONTENT["tiers"]["B"], "claim": {"levers": "expand"}}}}
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(wrong))
    with pytest.raises(UserError, match=r"tiers\.B: expand, to compare with, is not one of expand_nft, flowgrpo"):
        read_plan(path)


def test_values_after_one_length_stand_beside_the_last(plan: dict[str, Tier], tmp_path: Path) -> None:
    """Of runs with checkpoints at 16 and 48, where one length is 16; where it is 48 the last look shows it already.

    Catches in benchmarks/fronts/benchmark_table.py: the last look in place of that at one length.
    """
    tier = short(plan["b1"])
    stored(tmp_path, tier)
    frozen = CONTENT["frozen"]
    for length, expected in ((16, [0.75, 0.9, 0.9]), (48, []), (20, [])):
        lengths = {**frozen["length"], "iterations": {**frozen["length"]["iterations"], "b": length}}
        content = {**CONTENT, "frozen": {**frozen, "length": lengths}}
        (table,) = tabulated({"b1": tier}, content, tmp_path / "results")
        found = [values["valid_pairwise_distance"] for values in table.at_length.values()]
        assert found == pytest.approx(expected)
        page = tmp_path / "page.md"
        page.write_text(EMPTY_PAGE)
        write_page(page, [table], {}, content)
        assert ("After one length, 16 iterations:" in page.read_text()) == bool(expected)
        assert ("| 0.7500 | 0.0200 | 75 % |" in page.read_text()) == bool(expected)


def test_a_pilot_has_no_panel_beside_tiers_with_a_claim(plan: dict[str, Tier], tmp_path: Path) -> None:
    tier = short(plan["b1"])
    stored(tmp_path, tier)
    (pilot,) = tabulated({"b1": tier}, CONTENT, tmp_path / "results")
    claimed = replace(pilot, tier=replace(tier, claim={"levers": "drift_plus_nft"}))
    assert len(figure_of([pilot, claimed]).axes) == 1
    later = replace(claimed, tier=replace(claimed.tier, seeds=(200,)))
    (axes,) = figure_of([claimed, later]).axes
    assert axes.get_title() == "world b, 1 seeds", "the last recipe of a world"
    assert len(figure_of([claimed, replace(claimed, tier=replace(claimed.tier, world="c"))]).axes) == 2
    (axes,) = figure_of([pilot]).axes
    assert (axes.get_title(), axes.get_ylabel()) == ("world b, 3 seeds", "distance among on-prompt images")


def test_hours_are_summed_by_tier_and_device() -> None:
    """Catches in benchmarks/fronts/benchmark_compute.py: minutes of a shared accelerator among those of a core."""
    made = {"b1": {"a-s0": {"minutes": 30}, "b-s0": {"minutes": 60, "device": "CPU"}}}
    made |= {"B2": {}, "B": {"c-s0": {"minutes": 90, "device": "NVIDIA H100"}}}
    assert compute_lines({"b1": "a pilot", "B": "the rest"}, made, 40)[4:] == [
        "| b1 | a pilot | 2 | 1.5 | 0.0 |",
        "| B | the rest | 1 | 0.0 | 1.5 |",
        "| together |  | 3 | 1.5 of 40 | 1.5 |",
        "",
        "By the clock, evaluations included; a shared machine is slower than one of its own.",
        "",
    ]


def test_what_is_frozen_is_what_is_computed(plan: dict[str, Tier]) -> None:
    """And tiers with a claim have twice their world's length, a checkpoint at one."""
    frozen = CONTENT["frozen"]
    assert (frozen["gains"]["share_of_reward"], frozen["gains"]["unreached"]) == (SHARE, MAX_UNREACHED)
    assert frozen["length"]["tolerance"] == LENGTH_TOLERANCE
    for tier in (tier for tier in plan.values() if tier.claim):
        given = dict(each.split("=", 1) for each in tier.jobs[0].overrides)
        length = frozen["length"]["iterations"][tier.world]
        assert int(given["trainer.iterations"]) == 2 * length
        assert length % int(given["trainer.save_every"]) == 0
