"""What reweighting could do: hulls by hand, optima in their order, and one line for what is missing."""

import json
from pathlib import Path

import pytest
import torch
from optima import Samples, explore, front_of, gains_over_kl, weighted
from room import AttributeEncoder, conclude

from drift_pl.builtin.world import ATTRIBUTES, render, scenes_of
from drift_pl.core.errors import UserError


def point(reward: float, distance: float) -> dict[str, float]:
    return {"reward": reward, "pairwise_distance": distance}


def test_a_front_is_the_concave_hull_from_the_base_on() -> None:
    """Catches in benchmarks/fronts: a front of optima that is no hull."""
    points = [point(0.5, 2.0), point(1.0, 0.9), point(2.0, 0.5), point(1.5, 0.6), point(3.0, 0.4), point(2.9, 0.1)]
    front = front_of(points, point(1.0, 1.0))
    # (0.5, 2) gains nothing; (1, 0.9) and (2.9, 0.1) are dominated; (1.5, 0.6) and (2, 0.5) lie below the line
    assert front.reward_N.tolist() == [1.0, 3.0]
    assert front.diversity_N.tolist() == [1.0, 0.4]
    bent = front_of([*points, point(2.0, 0.9)], point(1.0, 1.0))
    assert bent.reward_N.tolist() == [1.0, 2.0, 3.0]


def test_optima_keep_the_order_that_theory_gives_them() -> None:
    """Rewards that favour one of two modes: shaping that sees the modes is ahead of the KL, a blind one is not."""
    generator = torch.Generator().manual_seed(0)
    mode_PN = torch.randint(2, (4, 200), generator=generator)
    noise_PND = 0.3 * torch.randn(4, 200, 3, generator=generator)
    seen_PND = torch.nn.functional.one_hot(mode_PN, 3) + noise_PND
    reward_PN = (0.6 * mode_PN + torch.randn(4, 200, generator=generator)).double()
    blind_PND = torch.randn(4, 200, 3, generator=generator)
    all_PN = torch.ones(4, 200, dtype=torch.bool)
    room = explore(Samples(reward_PN, seen_PND, all_PN), {"blind": blind_PND, "evaluation": seen_PND})
    gains = gains_over_kl(room)
    assert gains["evaluation"]["value"] > 0.05
    assert abs(gains["blind"]["value"]) < 0.01
    assert room["base"]["reward"] == pytest.approx(float(reward_PN.mean()))
    for points in room["kinds"].values():
        assert all(point["effective_samples"] >= 10 for point in points)


def test_half_the_images_are_measured_that_the_weights_were_not_found_on() -> None:
    """Noise all of it: fitted on the images that are measured, a diversity term would seem to gain by their noise.

    Catches in benchmarks/fronts: optima measured on the images that they were found on.
    """
    generator = torch.Generator().manual_seed(1)
    embedding_PND = torch.randn(20, 40, 16, generator=generator)
    reward_PN = torch.randn(20, 40, generator=generator).double()
    samples = Samples(reward_PN, embedding_PND, torch.ones(20, 40, dtype=torch.bool))
    room = explore(samples, {"evaluation": embedding_PND})
    highest = max(point["pairwise_distance"] for point in room["kinds"]["evaluation"])
    assert highest < room["base"]["pairwise_distance"] + 0.01


def test_images_that_fit_the_prompt_are_a_point_of_their_own() -> None:
    """Four images, two on prompt: by hand, and left out where a prompt has one such image, which has no distance."""
    reward_PN = torch.tensor([[1.0, 3.0, 0.0, 0.0]], dtype=torch.float64)
    embedding_PND = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]])
    on_prompt_PN = torch.tensor([[True, True, False, False]])
    samples = Samples(reward_PN, embedding_PND, on_prompt_PN)
    room = explore(samples, {"evaluation": embedding_PND})
    among = {"valid_pairwise_distance": 1.0}
    assert room["on_prompt"] == pytest.approx({"reward": 2.0, "pairwise_distance": 1.0, "alignment": 1.0, **among})
    assert room["base"] == pytest.approx({"reward": 1.0, "pairwise_distance": 0.5, "alignment": 0.5, **among})
    tilted = weighted(samples, torch.tensor([[0.5, 0.25, 0.25, 0.0]], dtype=torch.float64))
    assert tilted["alignment"] == pytest.approx(0.75)
    alone = samples._replace(on_prompt_PN=torch.tensor([[True, False, False, False]]))
    assert "on_prompt" not in explore(alone, {"evaluation": embedding_PND})


def test_the_distance_among_on_prompt_images_by_hand() -> None:
    """Weights 1/2 and 1/4, 1/4 of three images, after the one that misses: pairs at 1, 1 and 0 weigh 1/8, 1/8 and 1/16.

    A second prompt with one such image has no pair and does not count. Weights that underflow leave the pair alone.

    Catches in benchmarks/fronts/optima.py: images that miss among the pairs; a distance of 0 for a prompt without one.
    """
    embedding_PND = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]]] * 2)
    on_prompt_PN = torch.tensor([[True, True, True, False], [True, False, False, False]])
    samples = Samples(torch.zeros(2, 4).double(), embedding_PND, on_prompt_PN)
    found = weighted(samples, torch.tensor([[0.4, 0.2, 0.2, 0.2], [0.25] * 4], dtype=torch.float64))
    assert found["valid_pairwise_distance"] == pytest.approx((1 / 8 + 1 / 8) / (1 / 8 + 1 / 8 + 1 / 16))
    alone = weighted(samples, torch.tensor([[0.0, 0.0, 0.0, 1.0], [0.25] * 4], dtype=torch.float64))
    assert alone["valid_pairwise_distance"] == pytest.approx(2 / 3)
    missed = samples._replace(on_prompt_PN=torch.zeros(2, 4, dtype=torch.bool))
    assert "valid_pairwise_distance" not in weighted(missed, torch.full((2, 4), 0.25, dtype=torch.float64))


def test_attributes_are_told_apart_and_counted_alike() -> None:
    """A circle and a square that are otherwise one: four of the five attributes agree."""
    attributes = {name: torch.zeros(2, dtype=torch.long) for name in ATTRIBUTES}
    attributes["shape"] = torch.tensor([0, 1])
    first, second = AttributeEncoder()(render(scenes_of(attributes, torch.Generator().manual_seed(0))))
    assert first @ first == second @ second == 5
    assert first @ second == 4


def test_without_its_points_it_says_how_to_make_them(tmp_path: Path) -> None:
    from plan import read_plan

    with pytest.raises(UserError, match=r"A/room\.json does not exist: without --draw"):
        conclude(read_plan()["A"], tmp_path)


def test_figure_and_gains_come_from_the_points_alone(tmp_path: Path) -> None:
    from plan import read_plan

    base = point(0.0, 1.0)
    kinds = {"kl": [point(1.0, 0.5)], "drift": [point(1.0, 0.8)], "drift_plus": [point(1.0, 0.5)]}
    (tmp_path / "A").mkdir()
    (tmp_path / "A" / "room.json").write_text(
        json.dumps({"base": base, "kinds": {**kinds, "evaluation": [point(1.0, 0.9)]}})
    )
    conclude(read_plan()["A"], tmp_path)
    gains = json.loads((tmp_path / "A" / "room.json").read_text())["gain_over_kl"]
    # means of the lines from 1 to 0.5, to 0.8 and to 0.9: 0.75, 0.9 and 0.95
    found = [gains[name]["value"] for name in ("drift", "drift_plus", "evaluation")]
    assert found == pytest.approx([0.2, 0, 0.95 / 0.75 - 1])
    assert (tmp_path / "A" / "room.png").stat().st_size > 10_000
