"""The reweighted base model: against scipy's optimum, closed forms, and what a weighted mean of pairs is by hand."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from tilting import effective_samples, tilt, tilted_mean, weighted_pairwise_distance
from torch import Tensor
from torch.nn.functional import normalize

from drift_pl.functional.diversity import mean_pairwise_distance


def drawn(num_prompts: int = 2, num_samples: int = 12, width: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    reward_PN = torch.randn(num_prompts, num_samples, generator=generator)
    return reward_PN, torch.randn(num_prompts, num_samples, width, generator=generator)


def weights(reward_PN: Tensor, embedding_PND: Tensor, beta: float, strength: float) -> Tensor:
    mean_PD = tilted_mean(reward_PN, embedding_PND, beta, strength)
    return tilt(reward_PN, embedding_PND, mean_PD, beta, strength).softmax(-1)


def objective(weight_N: np.ndarray, reward_N: np.ndarray, unit_ND: np.ndarray, beta: float, strength: float) -> float:
    """E r + lambda (1 - |E e|^2) - beta KL(w || uniform)."""
    mean_D = weight_N @ unit_ND
    divergence = float((weight_N * np.log(weight_N * len(weight_N))).sum())
    return float(weight_N @ reward_N + strength * (1 - mean_D @ mean_D) - beta * divergence)


@pytest.mark.parametrize(("beta", "strength"), [(0.5, 0.0), (0.5, 1.0), (0.1, 3.0)])
def test_weights_maximise_reward_plus_diversity_less_divergence(beta: float, strength: float) -> None:
    """Catches in benchmarks/fronts/tilting.py: half the diversity term's slope."""
    reward_PN, embedding_PND = drawn()
    found_PN = weights(reward_PN, embedding_PND, beta, strength).numpy()
    for reward_N, unit_ND, found_N in zip(
        reward_PN.double().numpy(), normalize(embedding_PND.double(), dim=-1).numpy(), found_PN, strict=True
    ):

        def loss(logit_N: np.ndarray, reward_N: np.ndarray = reward_N, unit_ND: np.ndarray = unit_ND) -> tuple:
            weight_N = np.exp(logit_N - logit_N.max())
            weight_N /= weight_N.sum()
            slope_N = reward_N - 2 * strength * unit_ND @ (weight_N @ unit_ND) - beta * np.log(weight_N)
            value = objective(weight_N, reward_N, unit_ND, beta, strength)
            return -value, -weight_N * (slope_N - weight_N @ slope_N)

        best = minimize(loss, np.zeros(len(reward_N)), method="BFGS", jac=True, options={"gtol": 1e-9})
        # both are at a maximum, where the objective is flat to second order
        assert objective(found_N, reward_N, unit_ND, beta, strength) == pytest.approx(-best.fun, abs=1e-8)


def test_without_diversity_it_is_the_optimum_of_kl_regularised_fine_tuning() -> None:
    reward_PN, embedding_PND = drawn()
    torch.testing.assert_close(weights(reward_PN, embedding_PND, 0.3, 0.0), (reward_PN.double() / 0.3).softmax(-1))


def test_equal_rewards_and_a_strong_diversity_balance_two_unequal_modes() -> None:
    """Nine copies of one image and one of its opposite: half the weight each has the largest distance."""
    embedding_1ND = torch.tensor([[[1.0, 0.0]] * 9 + [[-1.0, 0.0]]])
    weight_N = weights(torch.zeros(1, 10), embedding_1ND, 1e-3, 1.0)[0]
    assert float(weight_N[9]) == pytest.approx(0.5, abs=1e-3)
    assert float(weight_N[0]) == pytest.approx(0.5 / 9, abs=1e-3)


def test_a_tilt_found_on_some_samples_weighs_others_by_the_same_function() -> None:
    reward_PN, embedding_PND = drawn()
    mean_PD = tilted_mean(reward_PN[:, :6], embedding_PND[:, :6], 0.5, 1.0)
    whole_PN = tilt(reward_PN, embedding_PND, mean_PD, 0.5, 1.0)
    torch.testing.assert_close(whole_PN[:, 6:], tilt(reward_PN[:, 6:], embedding_PND[:, 6:], mean_PD, 0.5, 1.0))


def test_weighted_distance_is_the_plain_one_for_equal_weights_and_by_hand_for_others() -> None:
    """Catches in benchmarks/fronts/tilting.py: a sample paired with itself in the weighted distance."""
    _, embedding_PND = drawn()
    unit_PND = normalize(embedding_PND.double(), dim=-1)
    distance_PNN = 1 - unit_PND @ unit_PND.mT
    equal_PN = torch.full((2, 12), 1 / 12, dtype=torch.float64)
    torch.testing.assert_close(
        weighted_pairwise_distance(embedding_PND, equal_PN), mean_pairwise_distance(distance_PNN)
    )
    weight_N = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    by_hand = sum(
        float(weight_N[i] * weight_N[j] * distance_PNN[0, i, j]) for i in range(3) for j in range(3) if i != j
    ) / (1 - 0.38)
    found = weighted_pairwise_distance(embedding_PND[:1, :3], weight_N[None])
    assert float(found) == pytest.approx(by_hand, abs=1e-12)


def test_effective_samples_run_from_one_to_all() -> None:
    weight_PN = torch.tensor([[0.25] * 4, [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    assert effective_samples(weight_PN).tolist() == pytest.approx([4, 1, 2])


@pytest.mark.parametrize(("beta", "strength"), [(0.0, 1.0), (-1.0, 0.0), (1.0, -0.1)])
def test_weights_out_of_range_are_refused(beta: float, strength: float) -> None:
    with pytest.raises(ValueError, match="kl_weight"):
        tilted_mean(*drawn(), beta, strength)
