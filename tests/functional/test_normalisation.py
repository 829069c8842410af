"""Per-reward normalization, against numpy group by group.

Catches in functional/normalisation.py: kept ignored; NaN dropped; absolute floor; weights ignored; no rounding floor.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from drift_pl.functional.normalisation import normalise_per_reward

WEIGHTS = {"taste": 2.0, "size": -0.5, "text": 1.0}


def scores(generator: torch.Generator, groups: int = 3, size: int = 6) -> dict[str, Tensor]:
    """Rewards in very different units: PickScore's 0.85 +- 0.01, kilobytes in the hundreds, zero or one."""
    draws = torch.randn(3, groups, size, generator=generator)
    return {"taste": 0.85 + 0.01 * draws[0], "size": 300 + 80 * draws[1], "text": (draws[2] > 0).float()}


def by_hand(by_reward: dict[str, Tensor], kept: Tensor) -> np.ndarray:
    """One group and one reward at a time; numpy's std divides by n."""
    total = np.zeros(kept.shape)
    for row in range(len(kept)):
        scored = np.all([by_reward[name][row].isfinite().numpy() for name in by_reward], axis=0)
        for name, score in by_reward.items():
            group = score[row].double().numpy()
            counted = group[scored & kept[row].numpy()]
            if len(counted) and counted.max() > counted.min():
                total[row] += WEIGHTS[name] * (group - counted.mean()) / counted.std()
        total[row, ~scored] = np.nan
    return total


ALL = torch.ones(3, 6, dtype=torch.bool)


def test_each_judge_counts_in_units_of_its_own_spread(generator: torch.Generator) -> None:
    by_reward = scores(generator)
    by_reward["text"][0] = torch.tensor([0.0, 1, 0, 0, 1, 1])
    normalised = normalise_per_reward(by_reward, WEIGHTS, ALL)
    np.testing.assert_allclose(normalised, by_hand(by_reward, ALL), rtol=1e-5, atol=1e-5)  # returned in float32
    assert normalised.dtype == torch.float32
    np.testing.assert_allclose(normalised.sum(1), np.zeros(3), atol=1e-5)


def test_one_judge_alone_has_unit_spread_times_its_weight(generator: torch.Generator) -> None:
    normalised = normalise_per_reward({"size": scores(generator)["size"]}, WEIGHTS, ALL)
    np.testing.assert_allclose(normalised.std(1, correction=0), 0.5 * np.ones(3), rtol=1e-5)


@pytest.mark.parametrize("judge", list(WEIGHTS))
def test_the_unit_of_a_judge_has_no_say(judge: str, generator: torch.Generator) -> None:
    """A reward times a thousand, or shifted by a constant, has the same effect."""
    by_reward = scores(generator)
    expected = normalise_per_reward(by_reward, WEIGHTS, ALL)
    louder = by_reward | {judge: 1000 * by_reward[judge]}
    moved = by_reward | {judge: by_reward[judge] + 10}
    torch.testing.assert_close(normalise_per_reward(louder, WEIGHTS, ALL), expected, rtol=0, atol=1e-4)
    # 10 + 0.85 in float32 keeps 1e-6 of a spread of 0.01
    torch.testing.assert_close(normalise_per_reward(moved, WEIGHTS, ALL), expected, rtol=0, atol=1e-3)


def test_a_raw_sum_does_depend_on_the_unit(generator: torch.Generator) -> None:
    """The reason for normalization: the raw sum is dominated by the kilobytes."""
    by_reward = scores(generator)
    raw = sum(WEIGHTS[name] * score for name, score in by_reward.items())
    normalised = normalise_per_reward(by_reward, WEIGHTS, ALL)
    against_taste = [np.corrcoef(by_reward["taste"].flatten(), total.flatten())[0, 1] for total in (raw, normalised)]
    assert abs(against_taste[0]) < 0.5 < against_taste[1]


@pytest.mark.parametrize("last_digit", [False, True])
@pytest.mark.parametrize("constant", [0.1, -1e-9, 3e7])
def test_a_judge_that_says_the_same_of_all_adds_nothing(
    constant: float, last_digit: bool, generator: torch.Generator
) -> None:
    """Nor if rounding changes the last digit of a value: divided by its own std, that would count like any reward."""
    by_reward = scores(generator)
    without = normalise_per_reward({name: by_reward[name] for name in ("taste", "size")}, WEIGHTS, ALL)
    by_reward["text"] = torch.full((3, 6), constant)
    if last_digit:
        by_reward["text"][:, 4] = torch.nextafter(torch.tensor(constant), torch.tensor(torch.inf))
    assert torch.equal(normalise_per_reward(by_reward, WEIGHTS, ALL), without)
    assert torch.equal(normalise_per_reward({"text": by_reward["text"]}, WEIGHTS, ALL), torch.zeros(3, 6))


def test_scores_of_zero_throughout_add_nothing() -> None:
    assert torch.equal(normalise_per_reward({"text": torch.zeros(3, 6)}, WEIGHTS, ALL), torch.zeros(3, 6))


@pytest.mark.parametrize("missing", [torch.nan, torch.inf, -torch.inf])
def test_an_image_that_one_judge_cannot_score_leaves_its_group(missing: float, generator: torch.Generator) -> None:
    """It has no value, and is excluded from the mean and standard deviation of the others."""
    by_reward = scores(generator)
    by_reward["size"][1, 2] = missing
    by_reward["taste"][1, 4] = missing
    by_reward["text"][2] = missing
    normalised = normalise_per_reward(by_reward, WEIGHTS, ALL)
    np.testing.assert_allclose(normalised, by_hand(by_reward, ALL), rtol=1e-5, atol=1e-5)
    assert normalised.isnan().sum(1).tolist() == [0, 2, 6]


def test_mean_and_spread_are_those_of_the_kept_images(generator: torch.Generator) -> None:
    by_reward = scores(generator)
    kept = torch.tensor([[True] * 4 + [False] * 2, [False] * 6, [True, False, True, True, True, False]])
    normalised = normalise_per_reward(by_reward, WEIGHTS, kept)
    np.testing.assert_allclose(normalised, by_hand(by_reward, kept), rtol=1e-5, atol=1e-5)
    assert normalised.isfinite().all()
    assert torch.equal(normalised[1], torch.zeros(6))


def test_groups_do_not_see_each_other(generator: torch.Generator) -> None:
    by_reward = scores(generator)
    together = normalise_per_reward(by_reward, WEIGHTS, ALL)
    for row in range(3):
        alone = {name: score[row : row + 1] for name, score in by_reward.items()}
        assert torch.equal(normalise_per_reward(alone, WEIGHTS, ALL[:1]), together[row : row + 1])


def test_every_judge_needs_a_weight(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="need weights"):
        normalise_per_reward(scores(generator), {"taste": 1.0}, ALL)
    with pytest.raises(ValueError, match="need weights"):
        normalise_per_reward({}, WEIGHTS, ALL)
