"""Randomness as a function of integers and a purpose."""

import pytest
import torch

from drift_pl.core.rng import make_generator, normal_per_sample, sample_generators


def draws(purpose: str, *integers: int) -> list[float]:
    return torch.randn(8, generator=make_generator(purpose, *integers)).tolist()


def test_the_same_arguments_give_the_same_stream() -> None:
    assert draws("sde_noise", 1, 2, 3) == draws("sde_noise", 1, 2, 3)


@pytest.mark.parametrize(
    "other",
    [("initial_latents", 1, 2, 3), ("sde_noise", 0, 2, 3), ("sde_noise", 1, 3, 2), ("sde_noise", 1, 2), ("sde_noise",)],
)
def test_another_purpose_or_another_integer_gives_another_stream(other: tuple) -> None:
    """Catches in core/rng.py: purpose left out of the hash."""
    assert not set(draws("sde_noise", 1, 2, 3)) & set(draws(*other))


def test_streams_of_many_samples_are_all_different() -> None:
    """Catches in core/rng.py: integers run together in the hash."""
    generators = [make_generator("sde_noise", 7, iteration, n) for iteration in range(20) for n in range(50)]
    assert len({float(torch.randn(1, generator=generator, dtype=torch.float64)) for generator in generators}) == 1000


def test_integers_do_not_run_into_each_other() -> None:
    assert draws("p", 1, 23) != draws("p", 12, 3)
    assert draws("p", 1) == draws("p", True) == draws("p", torch.tensor(1))  # whatever kind of integer it is


def test_the_stream_is_the_one_of_every_earlier_version() -> None:
    """Oracle: sha256sum of the text `initial_latents:42:3:17`, its first 8 bytes read little-endian, halved.

    Whoever changes this number changes every run that is resumed, and unpairs every evaluation from older ones.

    Catches in core/rng.py: Python's own hash.
    """
    assert make_generator("initial_latents", 42, 3, 17).initial_seed() == 7_048_045_773_703_474_881


def test_a_samples_noise_does_not_depend_on_the_batch_it_sits_in() -> None:
    """Catches in core/rng.py: noise shared between the samples of a group; noise depends on the place in the batch;
    noise from the global generator.
    Catches: noise shared between the images of a group.
    """
    together = normal_per_sample(sample_generators("sde_noise", 5, 0, samples=[3, 4, 5]), (2, 4, 4))
    assert together.dtype == torch.float32
    for row, sample in enumerate([3, 4, 5]):
        alone = normal_per_sample(sample_generators("sde_noise", 5, 0, samples=[sample]), (2, 4, 4))
        assert torch.equal(alone[0], together[row])
    backwards = normal_per_sample(sample_generators("sde_noise", 5, 0, samples=[5, 4, 3]), (2, 4, 4))
    assert torch.equal(backwards, together.flip(0))


def test_a_generator_goes_on_where_it_was() -> None:
    generators = sample_generators("sde_noise", 1, samples=[0, 1])
    first, second = normal_per_sample(generators, (3,)), normal_per_sample(generators, (3,))
    assert not torch.equal(first, second)


def test_noise_is_standard_normal() -> None:
    """Four standard errors of the moments of 64 * 4096 numbers."""
    noise = normal_per_sample(sample_generators("sde_noise", 1, samples=range(64)), (4096,)).double()
    count = noise.numel()
    assert float(noise.mean()) == pytest.approx(0, abs=4 / count**0.5)
    assert float(noise.std()) == pytest.approx(1, abs=4 / (2 * count) ** 0.5)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    normal_per_sample(sample_generators("sde_noise", 1, samples=range(4)), (16,))
    assert torch.equal(torch.get_rng_state(), before)
