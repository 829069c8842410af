"""What is compared in docs/benchmark.md: the joint front of all KLs of an update, and diversity over equal prompts."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from benchmark import PLAN, tabulated
from benchmark_page import write_page
from benchmark_points import joint, means, on_equal_prompts, prompts_with_diversity, strengths
from made_up_evaluations import make_point, write_file
from made_up_tiers import EMPTY_PAGE
from plan import read_plan
from run import Queue

from drift_pl.functional.fronts import Array, diversity_gain, nondominated, pareto_front
from drift_pl.functional.intervals import diversity_gains

CONTENT = yaml.safe_load(PLAN.read_text())


def points_of(*pairs: tuple[float, float]) -> Array:
    """One seed and one prompt."""
    return np.array([[[pair] for pair in pairs]], dtype=np.float64)


def test_the_strengths_of_an_update_differ_in_their_kl_alone() -> None:
    """Levers, a lagging policy and plain runs are none, and each update has its own.

    Catches in benchmarks/fronts/benchmark_points.py: strengths of two updates together; levers as a strength.
    """
    plan = read_plan(PLAN)
    assert strengths(plan["b1"]) == {"nft": ("nft_kl_0.3", "nft_kl_0.1"), "surrogate": ("kl",)}
    assert strengths(plan["Lb"]) == {}


def test_a_joint_front_is_the_unions() -> None:
    """By hand: (0, 1), (.5, .9), (1, .5). A line from 1 to .8 has .9 over rewards 0 to 1, and the union .825.

    Catches in benchmarks/fronts/benchmark_points.py: looks of the first member alone.
    """
    points = {
        "long": points_of((0, 1), (0.4, 0.7), (1, 0.5)),
        "short": points_of((0, 1), (0.5, 0.9)),
        "method": points_of((0, 1), (1, 0.8)),
    }
    union = means(joint(points, ("long", "short")))
    assert np.unique(nondominated(union)[0]).tolist() == [0, 0.5, 1]
    assert union.shape == (4, 2), "the base model once"
    gain = diversity_gains(union, means(points["method"]))
    assert gain == pytest.approx(0.9 / 0.825 - 1)
    assert gain == pytest.approx(diversity_gain(pareto_front(*union.T), pareto_front([0, 1], [1, 0.8])).value)
    assert joint(points, ("short",)) is not points["short"]
    assert np.array_equal(joint(points, ("short",)), points["short"])


def test_over_equal_prompts_a_prompt_that_only_one_model_hits_does_not_count() -> None:
    """Two prompts: the same .4 on the one that both hit; the method alone hits the other one, with .1.

    As defined the method seems to have lost (.25 of .4); over equal prompts nothing has changed. A second seed, in
    which both are hit, has a set of its own, and a third one lacks the base model's. Rewards stay those of both.

    Catches in benchmarks/fronts/benchmark_points.py: prompts of the last look alone, of one method alone, or of all
    seeds together; rewards over fewer prompts.
    """
    missing = np.nan
    baseline = [[[0.4, missing], [0.4, missing]], [[0.4, 0.2], [0.4, 0.2]], [[0.4, missing], [0.4, 0.2]]]
    method = [[[0.4, missing], [0.4, 0.1]], [[0.4, 0.2], [0.4, 0.1]], [[0.4, missing], [0.4, 0.1]]]
    rewards = [[[0.0, 0.0], [1.0, 0.5]]] * 3
    points = {name: np.stack([rewards, each], axis=-1) for name, each in (("baseline", baseline), ("method", method))}
    assert means(points["method"])[1, 1] == pytest.approx(0.25)
    equal = on_equal_prompts(points)
    assert prompts_with_diversity(equal["method"]).tolist() == [1, 2, 1]
    assert means(equal["baseline"])[:, 1] == pytest.approx([(0.4 + 0.3 + 0.4) / 3] * 2)
    assert means(equal["method"])[1] == pytest.approx([0.75, (0.4 + 0.25 + 0.4) / 3])
    assert np.isfinite(points["method"][0, 1, 1, 1]), "the points as defined stay as they are"
    nowhere = on_equal_prompts({**points, "third": np.full_like(points["method"], missing)})
    assert np.isnan(means(nowhere["method"])[:, 1]).all()
    assert np.isfinite(means(nowhere["method"])[:, 0]).all()


def test_the_page_has_both_beside_the_frozen_definition(tmp_path: Path) -> None:
    """Rows as in the closed forms of the table, by a tier whose second prompt the levers alone hit at the end.

    As defined their front goes from 1 by .9 to (.6 + .2) / 2, over equal prompts to .6, and the baseline's from 1 by
    .75 to .5: .4 x .95 + ... is (.95 + .65) / 2 and (.95 + .75) / 2 over .75.

    Catches in benchmarks/fronts: gains over equal prompts from points as defined; no row against the joint front.
    """
    tier = read_plan(PLAN)["b1"]
    queue = Queue(tmp_path / "runs", tmp_path / "results", made_by={"protocol": 2, "commit": "abc"})
    for job in tier.jobs:
        more, also = (1.2, 0.2) if job.method == "drift_plus_nft" else (1.0, None)
        diversities = [[1.0, None], [0.75 * more, None], [0.5 * more, also]]
        points = [
            make_point(at, [reward] * 2, valid_pairwise_distance=diversity, pairwise_lpips=0.02)
            for at, reward, diversity in zip((0, 16, 48), (0.0, 0.5, 1.0), diversities, strict=True)
        ]
        queue.store.keep(job, write_file(tmp_path / "made", job.method, job.seed, points) / "evaluation.json", 6.0)
    queue.store.gather(tier)
    (table,) = tabulated({"b1": tier}, CONTENT, tmp_path / "results")
    assert table.equal_prompts == 1
    assert table.over_equal["drift_plus_nft"] == pytest.approx(0.6)
    for other in ("flowgrpo", "nft_kl_0.3 + nft_kl_0.1"):
        (levers,) = (row for row in table.rows[other] if row.method == "drift_plus_nft")
        assert levers.diversity.mean == pytest.approx(0.8 / 0.75 - 1)
        assert levers.equal_prompts.mean == pytest.approx(0.85 / 0.75 - 1)
    assert {row.method for row in table.rows["nft_kl_0.3 + nft_kl_0.1"]} == {"flowgrpo", "kl", "drift_plus_nft"}
    page = tmp_path / "page.md"
    page.write_text(EMPTY_PAGE)
    write_page(page, [table], {"b1": tier}, CONTENT)
    assert "Against the joint front of `nft_kl_0.3` and `nft_kl_0.1`:" in page.read_text()
    assert "| `drift_plus_nft` | 0.4000 | 0.6000 | +6.7 %" in page.read_text()
    assert "; +13.3 %" in page.read_text()
