"""What potentials prefer, against closed forms; rescaling and the gate, against numpy and by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from drift_pl.incentive.potentials import POTENTIALS, reward_gate, stretch


def on_the_circle(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def two_modes(size: int) -> Tensor:
    """Half of the images at each of two opposite points, of different lengths."""
    rows = torch.tensor([[0.6, 0.8], [-0.6, -0.8]]).repeat_interleave(size // 2, dim=0)
    return (rows * torch.linspace(1, 2, size)[:, None])[None]


def ring(size: int) -> Tensor:
    return on_the_circle(torch.arange(size) * (2 * math.pi / size) + 0.1)[None]


def entropy(*shares: float) -> float:
    return -sum(share * math.log(share) for share in shares)


def ring_by_hand(size: int, ridge: float = 0.01) -> dict[str, float]:
    """The ring's kernel has eigenvalue G / 2 twice, without an image G / 2 and G / 2 - 1; all images are equivalent.

    (K + r I)^-1 has the diagonal 1/r (1 - 2 / (G + 2 r)), and 1/r (1 - 1 / (G + r)) for a group of copies.
    """
    lowest = math.log((size + ridge) / (size - 1 + ridge))
    gain = math.log((size + 2 * ridge) / (size + 2 * ridge - 2))
    rest = size - 1
    return {
        "mean": size / rest,
        "nearest": 1 - math.cos(2 * math.pi / size),
        "logdet": (gain - lowest) / (math.log((1 + ridge) / ridge) - lowest),
        "vendi": 2 - math.exp(entropy(size / 2 / rest, (size / 2 - 1) / rest)),
    }


@pytest.mark.parametrize("size", [4, 8, 24])
@pytest.mark.parametrize("potential", POTENTIALS)
def test_only_the_mean_distance_is_satisfied_by_two_opposite_modes(potential: str, size: int) -> None:
    valid = torch.ones(1, size, dtype=torch.bool)
    collapsed = POTENTIALS[potential](two_modes(size), valid)
    spread = POTENTIALS[potential](ring(size), valid)
    torch.testing.assert_close(spread, torch.full((1, size), ring_by_hand(size)[potential]), rtol=1e-4, atol=1e-6)
    two_modes_value = size / (size - 1) if potential == "mean" else 0.0
    torch.testing.assert_close(collapsed, torch.full((1, size), two_modes_value), rtol=1e-6, atol=1e-6)
    if potential != "mean":
        assert (spread > collapsed + 1e-3).all()


def test_the_numbers_of_the_module() -> None:
    """The table of two modes against a ring of eight."""
    expected = {"mean": 1.143, "nearest": 0.293, "logdet": 0.034, "vendi": 0.020}
    assert ring_by_hand(8) == pytest.approx(expected, abs=5e-4)


def test_of_half_a_ring_the_mean_distance_thinks_less_than_of_two_modes() -> None:
    """Eight different images on half a circle against two modes: strictly the wrong way round."""
    valid = torch.ones(1, 8, dtype=torch.bool)
    half_a_ring = on_the_circle(torch.linspace(0, math.pi, 8))[None]
    groups = {name: (f(two_modes(8), valid).sum(), f(half_a_ring, valid).sum()) for name, f in POTENTIALS.items()}
    assert groups["mean"][0] > groups["mean"][1] + 1
    for name in ("nearest", "logdet", "vendi"):
        assert groups[name][1] > groups[name][0] + 0.05


def log_determinant(cosine: float) -> float:
    return math.log(1.01**2 - cosine**2)


def vendi_of_two(cosine: float) -> float:
    return math.exp(sum(-p * math.log(p) for p in ((1 + cosine) / 2, (1 - cosine) / 2) if p > 0))


# Factor that undoes the scale of a pair's gain: the distance between its bounds, inverted.
PAIRS = {
    "mean": (lambda cosine: 1 - cosine, 1.0),
    "logdet": (log_determinant, math.log(1.01) - math.log(0.01 * 2.01 / 1.01)),
    "vendi": (vendi_of_two, 1.0),
}


@pytest.mark.parametrize("potential", PAIRS)
def test_a_leave_one_out_gain_is_the_gradient_of_the_groups_diversity(potential: str) -> None:
    """sum_i g_i grad l_i against dE[F] / dlog s, for two angles drawn from N(mu, s^2).

    Oracle: F depends on the difference of the angles, N(0, 2 s^2), so E[F] is an integral over it (scipy's quad) and
    its derivative a central difference. The score of a normal draw z with respect to log s is z^2 - 1.
    """
    value, scale = PAIRS[potential]
    spread, groups = 0.5, 40_000
    normal = torch.randn(groups, 2, generator=torch.Generator().manual_seed(7))
    gain = POTENTIALS[potential](on_the_circle(spread * normal), torch.ones(groups, 2, dtype=torch.bool))
    per_group = (scale * gain.double() * (normal.double().square() - 1)).sum(1)

    def expectation(std: float) -> float:
        def integrand(z: float) -> float:
            return value(math.cos(math.sqrt(2) * std * z)) * math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)

        return quad(integrand, -9, 9, limit=400)[0]

    step = 1e-4
    derivative = (expectation(spread * math.exp(step)) - expectation(spread * math.exp(-step))) / (2 * step)
    error = float(per_group.std() / groups**0.5)
    assert float(per_group.mean()) == pytest.approx(derivative, abs=4 * error)
    assert abs(derivative) > 20 * error


def test_a_stretch_by_hand() -> None:
    """Among 1, 2 and 3 the range is 2; the 9 and the NaN are ignored.

    Catches in incentive/potentials.py: min-max looks at images that do not pass; no floor.
    """
    values = torch.tensor([[1.0, 2.0, 3.0, 9.0, math.nan], [1.0, 1.0, 1.1, 0.0, 0.0]])
    among = torch.tensor([[True, True, True, False, False]] * 2)
    expected = torch.tensor([[0.0, 0.5, 1.0, 0.0, 0.0], [0.0, 0.0, 0.2, 0.0, 0.0]])  # 0.1 of the floor 0.5
    torch.testing.assert_close(stretch(values, among, floor=0.5), expected)
    assert torch.equal(stretch(values, torch.zeros_like(among), floor=0.5), torch.zeros(2, 5))


@pytest.mark.parametrize("quantile", [0.0, 0.25, 0.3, 0.5, 0.8, 1.0])
def test_the_gate_is_numpys_quantile(quantile: float, generator: torch.Generator) -> None:
    """Oracle: np.quantile of the finite rewards, group by group.

    Catches in incentive/potentials.py: gate: strict; below; NaN counted; infinity passes; quantile over the batch.
    """
    reward = torch.randn(5, 9, generator=generator)
    reward[1, 3], reward[2, [0, 5]], reward[3, 1:], reward[4] = math.nan, math.inf, -math.inf, math.nan
    passing = reward_gate(reward, quantile)
    for group in range(4):
        finite = reward[group][reward[group].isfinite()].numpy()
        expected = [bool(np.isfinite(r) and r >= np.quantile(finite, quantile)) for r in reward[group].numpy()]
        assert passing[group].tolist() == expected
    assert not passing[4].any()


def test_ties_with_the_quantile_pass() -> None:
    """Medians 2, 2.5 and 1: of the four different rewards the upper two pass, of the equal ones all."""
    reward = torch.tensor([[2.0, 1.0, 2.0, 2.0, 3.0, math.nan], [1, 2, 3, 4, math.nan, math.nan], [1] * 6])
    expected = torch.tensor([[1, 0, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0], [1] * 6]).bool()
    assert torch.equal(reward_gate(reward, 0.5), expected)


def test_rounding_does_not_shut_out_the_quantile_itself() -> None:
    """The quantile 0.28 of 0 ... 25 is 7, though 0.28 * 25 > 7 in binary; the images 7 to 25 pass."""
    assert 0.28 * 25 > 7
    assert reward_gate(torch.arange(26.0)[None], 0.28).tolist() == [[False] * 7 + [True] * 19]


@pytest.mark.parametrize("size", [3, 6, 16])
def test_leave_one_out_similarity_is_the_centred_mean_distance(size: int, generator: torch.Generator) -> None:
    """Oracle: what an image adds to its group's mean pairwise distance, by taking it away.

    MPD(all) - MPD(all but i) = 2 / (G - 2) (d_i - mean d), so that it needs no potential of its own.
    """
    embedding = torch.nn.functional.normalize(torch.randn(1, size, 5, generator=generator).double(), dim=-1)
    distance = 1 - embedding[0] @ embedding[0].mT
    gains = []
    for image in range(size):
        rest = [other for other in range(size) if other != image]
        without = distance[rest][:, rest]
        mean_without = without.sum() / max(1, (size - 1) * (size - 2))
        gains.append(distance.sum() / (size * (size - 1)) - mean_without)
    mean = POTENTIALS["mean"](embedding, torch.ones(1, size, dtype=torch.bool))[0].double()
    torch.testing.assert_close(torch.stack(gains), 2 / (size - 2) * (mean - mean.mean()), rtol=0, atol=1e-6)
