"""The shaping bonus: its value by hand, and that it ascends the diversity that it claims to."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from drift_pl.functional.advantage import group_advantages
from drift_pl.functional.diversity import distance_to_others
from drift_pl.incentive.potentials import POTENTIALS
from drift_pl.incentive.shaping import DiversityShaping

ALL = torch.ones(1, 3, dtype=torch.bool)


def on_the_circle(angle: Tensor) -> Tensor:
    """Unit embeddings whose cosine is the cosine of the difference of angles."""
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def test_the_raw_bonus_by_hand() -> None:
    """Two copies and one opposite: d = (0 + 2) / 2 = 1 for the copies, 2 for the other.

    Catches in incentive/shaping.py: bonus with the wrong sign.
    """
    embedding = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [-2.0, 0.0]]])
    bonus = DiversityShaping(weight=0.5)(embedding, ALL, num_steps=7)
    torch.testing.assert_close(bonus, torch.tensor([[0.5, 0.5, 1.0]]))


def test_discounting_gives_gamma_to_the_number_of_steps() -> None:
    """Oracle: gamma Phi(s') - Phi(s), discounted and summed step by step, with Phi zero until the last state.

    Catches in incentive/shaping.py: gamma to the T - 1.
    """
    embedding = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    gamma, steps = 0.9, 10
    potential = DiversityShaping(1.0).phi(embedding, ALL)
    states = [torch.zeros_like(potential)] * steps + [potential]
    summed = sum(gamma**t * (gamma * states[t + 1] - states[t]) for t in range(steps))
    torch.testing.assert_close(DiversityShaping(2.0, gamma)(embedding, ALL, steps), 2 * summed)


def test_minmax_stretches_a_group_to_the_unit_interval() -> None:
    """Angles 0, 90 and 180 degrees: d = 1.5, 1, 1.5."""
    embedding = on_the_circle(torch.tensor([[0.0, math.pi / 2, math.pi]]))
    torch.testing.assert_close(DiversityShaping(1.0).phi(embedding, ALL), torch.tensor([[1.5, 1.0, 1.5]]))
    stretched = DiversityShaping(1.0, normalise="minmax").phi(embedding, ALL)
    torch.testing.assert_close(stretched, torch.tensor([[1.0, 0.0, 1.0]]))


def test_the_floor_keeps_near_copies_from_being_told_apart() -> None:
    """Angles 0, 0 and 0.2: d = (1 - cos 0.2) / 2 twice and 1 - cos 0.2; spread 0.00997, which is 0.1993 of 0.05.

    Catches in incentive/shaping.py: min-max without its floor.
    """
    embedding = on_the_circle(torch.tensor([[0.0, 0.0, 0.2]]))
    share = (1 - math.cos(0.2)) / 2 / 0.05
    stretched = DiversityShaping(1.0, normalise="minmax", floor=0.05).phi(embedding, ALL)
    torch.testing.assert_close(stretched, torch.tensor([[0.0, 0.0, share]]), rtol=1e-4, atol=1e-6)
    in_full = DiversityShaping(1.0, normalise="minmax", floor=0.001).phi(embedding, ALL)
    torch.testing.assert_close(in_full, torch.tensor([[0.0, 0.0, 1.0]]))


def test_copies_and_groups_without_images_get_a_finite_bonus() -> None:
    embedding = torch.ones(3, 4, 2)
    valid = torch.tensor([[True] * 4, [False] * 4, [True, False, False, False]])
    embedding[~valid] = torch.nan
    for normalise in ("raw", "minmax", "centred", "residual"):
        bonus = DiversityShaping(1.0, normalise=normalise)(embedding, valid, 5, torch.zeros(3, 4))
        torch.testing.assert_close(bonus, torch.zeros(3, 4), rtol=0, atol=1e-6)


def test_minmax_looks_at_valid_images_only() -> None:
    """The valid angles 0, 90, 180 degrees; an invalid row is NaN and gets no bonus.

    Catches in incentive/shaping.py: min-max over invalid images too.
    """
    embedding = on_the_circle(torch.tensor([[0.0, math.pi / 2, math.nan, math.pi]]))
    valid = torch.tensor([[True, True, False, True]])
    stretched = DiversityShaping(1.0, normalise="minmax").phi(embedding, valid)
    torch.testing.assert_close(stretched, torch.tensor([[1.0, 0.0, 0.0, 1.0]]))


def group_of_five(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings, rewards and valid images of two groups of five; one embedding and one reward are missing."""
    embedding = torch.randn(2, 5, 6, generator=generator) + 0.7
    reward = torch.tensor([[0.1, 0.4, math.nan, 0.3, 0.2], [2.0, -1.0, 0.0, 1.0, 5.0]])
    embedding[1, 4] = math.nan
    return embedding, reward, reward.isfinite() & embedding.isfinite().all(-1)


@pytest.mark.parametrize("potential", POTENTIALS)
def test_the_bonus_is_the_potential_of_the_name(potential: str, generator: torch.Generator) -> None:
    embedding, _, valid = group_of_five(generator)
    expected = 0.5 * 0.9**7 * POTENTIALS[potential](embedding, valid)
    bonus = DiversityShaping(0.5, 0.9, potential=potential)(embedding, valid, num_steps=7)
    torch.testing.assert_close(bonus, expected)
    assert expected[valid].abs().min() > 0


@pytest.mark.parametrize("normalise", ["raw", "minmax", "centred", "residual"])
@pytest.mark.parametrize("potential", POTENTIALS)
def test_the_order_of_images_and_what_is_invalid_are_nothing(
    potential: str, normalise: str, generator: torch.Generator
) -> None:
    """Permuted images get the permuted bonus; the invalid one may hold any values and gets no bonus."""
    embedding, reward, valid = group_of_five(generator)
    shaping = DiversityShaping(1.0, normalise=normalise, potential=potential, gate="median")
    bonus = shaping(embedding, valid, 3, reward)
    order = torch.tensor([3, 0, 4, 2, 1])
    permuted = shaping(embedding[:, order], valid[:, order], 3, reward[:, order])
    torch.testing.assert_close(permuted, bonus[:, order], rtol=0, atol=1e-6)
    embedding[~valid] = 100 * torch.eye(6)[:2]
    torch.testing.assert_close(shaping(embedding, valid, 3, reward), bonus)
    assert torch.equal(bonus[~valid], torch.zeros(2))


@pytest.mark.parametrize("normalise", ["raw", "minmax", "centred", "residual"])
@pytest.mark.parametrize("potential", POTENTIALS)
def test_a_group_of_copies_gets_nothing_and_no_nan(potential: str, normalise: str) -> None:
    """0 / 0 wherever a diversity is divided by that of the group."""
    shaping = DiversityShaping(1.0, normalise=normalise, potential=potential, gate="median")
    copies = torch.tensor([0.3, -2.0, 1.0]).expand(1, 4, 3)
    valid, reward = torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 4)
    torch.testing.assert_close(shaping(copies, valid, 5, reward), torch.zeros(1, 4), rtol=0, atol=1e-6)
    per_step = shaping.stepwise(copies, copies.expand(2, 1, 4, 3), valid, (0, 3), 5, reward)
    torch.testing.assert_close(per_step, torch.zeros(2, 1, 4), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("gate", "quantile", "passing"),
    [
        ("none", 0.9, [[1, 1, 0, 1, 1], [1, 1, 1, 1, 0]]),
        ("median", 0.9, [[0, 1, 0, 1, 0], [1, 0, 0, 1, 0]]),  # medians 0.25 and 1, of the finite rewards
        ("quantile", 1.0, [[0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]),  # the second group's best has no embedding
        ("quantile", 0.25, [[0, 1, 0, 1, 1], [1, 0, 1, 1, 0]]),  # 0.175 and 0
    ],
)
def test_only_images_with_a_good_reward_pass_the_gate(
    gate: str, quantile: float, passing: list[list[int]], generator: torch.Generator
) -> None:
    """Images that pass keep their diversity relative to all valid images, including those that do not pass."""
    embedding, reward, valid = group_of_five(generator)
    bonus = DiversityShaping(1.0, gate=gate, gate_quantile=quantile)(embedding, valid, 3, reward)
    expected = distance_to_others(embedding, valid) * torch.tensor(passing)
    torch.testing.assert_close(bonus, expected)
    torch.testing.assert_close(DiversityShaping(1.0)(embedding, valid, 3, reward), distance_to_others(embedding, valid))


def test_minmax_stretches_among_those_who_pass() -> None:
    """Angles 0, 0, 60, 120 and 180 degrees: d = 1, 1, 0.75, 1, 1.5; of those that pass, 1 is the smallest."""
    embedding = on_the_circle(torch.tensor([[0.0, 0.0, math.pi / 3, 2 * math.pi / 3, math.pi]]))
    reward, valid = torch.tensor([[1.0, 0.0, 0.0, 1.0, 2.0]]), torch.ones(1, 5, dtype=torch.bool)
    torch.testing.assert_close(DiversityShaping(1.0).phi(embedding, valid), torch.tensor([[1, 1, 0.75, 1, 1.5]]))
    gated = DiversityShaping(1.0, normalise="minmax", gate="median")(embedding, valid, 3, reward)
    torch.testing.assert_close(gated, torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0]]))


def test_centred_compares_those_who_pass_with_one_another() -> None:
    """Of the angles 0, 90, 180 (the reward passes) and 170 degrees (it does not): d = 1.5, 1, 1.5 among the three."""
    embedding = on_the_circle(torch.tensor([[0.0, math.pi / 2, math.pi, 17 * math.pi / 18]]))
    reward, valid = torch.tensor([[3.0, 1.0, 2.0, 0.0]]), torch.ones(1, 4, dtype=torch.bool)
    shaping = DiversityShaping(3.0, normalise="centred", gate="quantile", gate_quantile=0.3)
    expected = torch.tensor([[0.5, -1.0, 0.5, 0.0]])
    torch.testing.assert_close(shaping(embedding, valid, 4, reward), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("gate", ["none", "quantile"])
def test_passing_the_gate_is_worth_nothing_when_centred(gate: str, generator: torch.Generator) -> None:
    """The bonus sums to zero over the images that pass, so also over the group; without a gate it is raw, centred."""
    embedding, reward, valid = group_of_five(generator)
    bonus = DiversityShaping(1.0, normalise="centred", gate=gate, gate_quantile=0.25)(embedding, valid, 3, reward)
    torch.testing.assert_close(bonus.sum(1), torch.zeros(2), rtol=0, atol=1e-6)
    assert bonus.abs().max() > 0.01
    if gate == "none":
        raw = DiversityShaping(1.0)(embedding, valid, 3, reward)
        mean = raw.sum(1, keepdim=True) / valid.sum(1, keepdim=True)
        torch.testing.assert_close(bonus, torch.where(valid, raw - mean, 0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("gate", ["none", "quantile"])
def test_the_residual_is_that_of_least_squares(gate: str, generator: torch.Generator) -> None:
    """Oracle: numpy's least squares of the distances on 1 and the reward, among the images that pass.

    So advantages have the same product with the rewards as without a bonus, up to the divisor: none is taken back.

    Catches in incentive/potentials.py: the slope of the reward on the distance; a regression over the whole group; no
    mean subtracted from the rewards.
    """
    embedding = torch.randn(3, 9, 4, generator=generator)
    reward, valid = torch.randn(3, 9, generator=generator), torch.ones(3, 9, dtype=torch.bool)
    shaping = DiversityShaping(2.0, normalise="residual", gate=gate, gate_quantile=0.5)
    bonus = shaping(embedding, valid, 3, reward)
    passing = reward >= reward.median(1, keepdim=True).values if gate == "quantile" else valid
    for group in range(3):
        among = passing[group].numpy()
        distance = distance_to_others(embedding[group : group + 1, among])[0].double().numpy()
        design = np.stack([np.ones(among.sum()), reward[group, among].double().numpy()], axis=1)
        fitted = design @ np.linalg.lstsq(design, distance, rcond=None)[0]
        np.testing.assert_allclose(bonus[group, among], 2 * (distance - fitted), atol=1e-6)
        assert not bonus[group, ~among].any()
    advantage, plain = (group_advantages(reward, valid, 0.7, 0.0, each) for each in (bonus, None))
    torch.testing.assert_close((advantage * plain).sum(1), plain.square().sum(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("gate", "reward"),
    [
        ("none", [0.8 + 1e-7 * image for image in range(6)]),
        ("median", [0.0, 0.0, 0.0, 0.8, 0.8 + 1e-7, 0.8 + 2e-7]),
        ("median", [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
    ],
)
def test_where_all_score_alike_the_residual_is_the_centred_bonus(
    gate: str, reward: list[float], generator: torch.Generator
) -> None:
    """Rewards that differ by rounding are no reward: a regression on them would take anything away.

    Catches in incentive/potentials.py: a regression on rounding; NaN where those that pass the gate are equally good.
    """
    embedding, valid = torch.randn(1, 6, 3, generator=generator), torch.ones(1, 6, dtype=torch.bool)
    centred, residual = (
        DiversityShaping(1.0, normalise=normalise, gate=gate)(embedding, valid, 3, torch.tensor([reward]))
        for normalise in ("centred", "residual")
    )
    assert torch.equal(centred, residual)


def test_a_residual_needs_the_rewards() -> None:
    with pytest.raises(ValueError, match="needs the rewards"):
        DiversityShaping(1.0, normalise="residual")(torch.randn(1, 6, 3), torch.ones(1, 6, dtype=torch.bool), 3)


def test_a_gate_needs_the_rewards(generator: torch.Generator) -> None:
    embedding, _, valid = group_of_five(generator)
    for gate in ("median", "quantile"):
        with pytest.raises(ValueError, match=f"gate '{gate}' needs the rewards"):
            DiversityShaping(1.0, gate=gate)(embedding, valid, 3)
        with pytest.raises(ValueError, match=f"gate '{gate}' needs the rewards"):
            DiversityShaping(1.0, gate=gate).stepwise(embedding, embedding[None], valid, (0,), 3)


class GaussianAngles:
    """A policy that draws an angle from N(mu, s^2), with the closed form of its expected pairwise distance.

    For independent angles a, b: E[1 - cos(a - b)] = 1 - exp(-s^2) =: J, so dJ / dlog s = 2 s^2 exp(-s^2), dJ / dmu = 0.
    """

    spread, groups, size = 0.8, 200_000, 4

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(11)
        self.normal = torch.randn(self.groups, self.size, generator=generator)
        self.embedding = on_the_circle(0.3 + self.spread * self.normal)
        self.valid = torch.ones_like(self.normal, dtype=torch.bool)
        self.gradient = 2 * self.spread**2 * math.exp(-(self.spread**2))

    def estimate(self, worth_PG: Tensor, direction: str) -> tuple[float, float]:
        """Mean and standard error of 1/G sum_i worth_i grad log p(x_i); the score has a closed form as well."""
        score = self.normal.square() - 1 if direction == "log_std" else self.normal / self.spread
        per_group = (worth_PG.double() * score.double()).mean(1)
        return float(per_group.mean()), float(per_group.std() / self.groups**0.5)


@pytest.fixture(scope="module")
def angles() -> GaussianAngles:
    return GaussianAngles()


def test_the_toys_closed_form_is_right(angles: GaussianAngles) -> None:
    distance = distance_to_others(angles.embedding).double().mean(1)
    error = float(distance.std() / angles.groups**0.5)
    assert float(distance.mean()) == pytest.approx(1 - math.exp(-(angles.spread**2)), abs=4 * error)


def test_the_bonus_is_half_the_gradient_of_the_expected_pairwise_distance(angles: GaussianAngles) -> None:
    """The oracle of the module's docstring: E[1/G sum d_i grad log p_i] = grad J / 2."""
    bonus = DiversityShaping(1.0)(angles.embedding, angles.valid, num_steps=10)
    estimate, error = angles.estimate(bonus, "log_std")
    assert estimate == pytest.approx(angles.gradient / 2, abs=4 * error)
    assert abs(estimate - angles.gradient) > 20 * error  # a factor of 1 is excluded
    sideways, error = angles.estimate(bonus, "mean")
    assert sideways == pytest.approx(0, abs=4 * error)


def test_centred_on_the_group_the_gradient_shrinks_by_two_gth(angles: GaussianAngles) -> None:
    """(G - 2) / G of it after `group_advantages` centres it, neither all of it nor (G - 1) / G."""
    bonus = DiversityShaping(1.0)(angles.embedding, angles.valid, num_steps=10)
    advantage = group_advantages(torch.zeros_like(bonus), angles.valid, 1.0, 1e-3, bonus)
    estimate, error = angles.estimate(advantage, "log_std")
    half, size = angles.gradient / 2, angles.size
    assert estimate == pytest.approx((size - 2) / size * half, abs=4 * error)
    for wrong in (1.0, (size - 1) / size):
        assert abs(estimate - wrong * half) > 20 * error
