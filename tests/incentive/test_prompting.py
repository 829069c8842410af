"""The variation of the condition: where it acts, how strong it is, and what it depends on."""

import numpy as np
import pytest
import torch
from conditions import CHANNELS, WRITTEN, condition

from drift_pl.core.rng import normal_per_sample as normal
from drift_pl.core.types import Condition
from drift_pl.incentive import prompting
from drift_pl.incentive.prompting import EmbeddingNoise, PromptingRule, noise_gate, written_channels


def test_scale_zero_is_the_prompt_itself(generator: torch.Generator) -> None:
    clean = condition(generator)
    for off in (PromptingRule(), EmbeddingNoise(0.0)):
        varied = off(clean, seed=1, iteration=2, samples=range(4))
        for sigma in (1.0, 0.75, 0.0):
            at = varied.at(sigma)
            assert torch.equal(at.tokens_BLE, clean.tokens_BLE)
            assert torch.equal(at.pooled_BE, clean.pooled_BE)
        assert torch.equal(varied[1:3].at(1.0).tokens_BLE, clean.tokens_BLE[1:3])
        assert len(varied) == 4


@pytest.mark.parametrize("sigma", [1.0, 0.9, 0.75, 0.61])
def test_a_vanishing_scale_converges_to_the_prompt_at_every_noise_level(
    sigma: float, generator: torch.Generator
) -> None:
    """The change is linear in s: a hundredth of the scale gives a hundredth of it.

    Catches in incentive/prompting.py: signal shrinks with the noise (the prompt is lost whatever s); gate upside down.
    """
    clean = condition(generator)
    changes = []
    for scale in (0.5, 0.005):
        varied = EmbeddingNoise(scale)(clean, 0, 0, range(4)).at(sigma)
        changes.append(varied.tokens_BLE - clean.tokens_BLE)
    assert changes[0].abs().max() > 0
    # float32 rounding of tokens up to 64 * 4 in size
    torch.testing.assert_close(changes[1] * 100, changes[0], rtol=0, atol=100 * 256 * 1.2e-7)


def test_padding_appended_tokens_and_the_pooled_embedding_are_left_alone(generator: torch.Generator) -> None:
    """Catches in incentive/prompting.py: noise on padded channels and appended tokens."""
    clean = condition(generator)
    varied = EmbeddingNoise(1.0)(clean, 0, 0, range(4)).at(1.0)
    changed = varied.tokens_BLE != clean.tokens_BLE
    assert not changed[:, ~WRITTEN].any()
    assert changed[:, WRITTEN].all()
    assert torch.equal(written_channels(clean), WRITTEN)
    assert torch.equal(varied.pooled_BE, clean.pooled_BE)
    assert torch.equal(varied.num_channels_L, CHANNELS)


@pytest.mark.parametrize(("sigma", "gate"), [(1.0, 0.0), (0.9, 0.0), (0.75, 0.5), (0.675, 0.75)])
def test_the_noise_is_s_times_the_prompts_own_spread_times_the_gate(
    sigma: float, gate: float, generator: torch.Generator
) -> None:
    """Oracle: numpy's std of each prompt's written entries; 1,440 numbers per prompt, four standard errors.

    Catches in incentive/prompting.py: spread of a prompt taken over its padding too; spread taken over the batch; 1 - g
    instead of its root.
    """
    clean = condition(generator)
    varied = EmbeddingNoise(0.4)(clean, 3, 5, range(4)).at(sigma)
    for row in range(4):
        spread = clean.tokens_BLE[row].double().numpy()[WRITTEN.numpy()].std()
        noise = (varied.tokens_BLE[row] - clean.tokens_BLE[row])[WRITTEN].double()
        expected = 0.4 * np.sqrt(1 - gate) * spread
        count = len(noise)
        assert float(noise.std()) == pytest.approx(expected, rel=4 / np.sqrt(2 * count))
        assert float(noise.mean()) == pytest.approx(0, abs=4 * expected / np.sqrt(count))


@pytest.mark.parametrize("form", ["additive", "cads"])
def test_prompts_of_different_lengths_vary_as_each_alone(form: str, generator: torch.Generator) -> None:
    """Oracle: each prompt cut to its own tokens, with the same noise; float32 sums in another order.

    Catches in incentive/prompting.py: noise on padding; padding counted in a prompt's spread.
    """
    tokens, lengths = 3 + torch.randn(3, 12, 8, generator=generator), torch.tensor([12, 7, 1])
    tokens *= (torch.arange(12) < lengths[:, None])[:, :, None]
    channels = torch.tensor([6] * 4 + [8] * 8)
    tokens *= torch.arange(8) < channels[:, None]
    padded = Condition(tokens, None, channels, lengths)
    rule = EmbeddingNoise(0.5, form=form, rescale=0.3)
    varied = rule(padded, 0, 0, range(3))
    together = varied.at(0.8)
    assert together.num_tokens_B.tolist() == [12, 7, 1]
    for row, length in enumerate(lengths.tolist()):
        cut = Condition(tokens[row : row + 1, :length], None, channels[:length])
        noise, _ = varied.noise.draw(padded, (row,))
        alone = rule.apply(cut, 0.8, noise[:, :length], None).tokens_BLE
        torch.testing.assert_close(together.tokens_BLE[row : row + 1, :length], alone, rtol=1e-5, atol=1e-5)
        assert not together.tokens_BLE[row, length:].any()


def test_the_gate_is_one_at_low_noise_zero_at_high_noise_and_linear_between() -> None:
    sigmas = np.linspace(0, 1, 101)
    expected = np.interp(sigmas, [0.6, 0.9], [1, 0])
    np.testing.assert_allclose([noise_gate(sigma, 0.6, 0.9) for sigma in sigmas], expected, atol=1e-12)


def test_below_the_gate_the_prompt_is_clean_bit_for_bit(generator: torch.Generator) -> None:
    clean = condition(generator)
    varied = EmbeddingNoise(1.0, low=0.5, high=0.8)(clean, 0, 0, range(4))
    assert torch.equal(varied.at(0.5).tokens_BLE, clean.tokens_BLE)
    assert not torch.equal(varied.at(0.51).tokens_BLE, clean.tokens_BLE)


def test_each_image_of_a_group_has_a_variation_of_its_own(generator: torch.Generator) -> None:
    """Catches in incentive/prompting.py: one variation for the whole group."""
    clean = condition(generator, rows=6, same=True)
    varied = EmbeddingNoise(0.3)(clean, 0, 0, range(6)).at(1.0)
    noise = (varied.tokens_BLE - clean.tokens_BLE)[:, WRITTEN]
    correlation = np.corrcoef(noise.double().numpy()) - np.eye(6)
    assert np.abs(correlation).max() < 5 / np.sqrt(noise.shape[1])  # five standard errors of independent noise


def test_the_variation_is_a_function_of_seed_iteration_and_sample_alone(generator: torch.Generator) -> None:
    """Catches in incentive/prompting.py: variation does not depend on the iteration."""
    clean = condition(generator, rows=4, same=True)
    noise = EmbeddingNoise(0.3)

    def tokens(seed: int, iteration: int, samples: list[int]) -> torch.Tensor:
        return noise(clean[: len(samples)], seed, iteration, samples).at(1.0).tokens_BLE

    base = tokens(7, 3, [10, 11, 12, 13])
    assert torch.equal(tokens(7, 3, [10, 11, 12, 13]), base)
    assert torch.equal(tokens(7, 3, [12, 10]), base[[2, 0]])  # neither the row nor the batch matters
    for other in (tokens(8, 3, [10, 11, 12, 13]), tokens(7, 4, [10, 11, 12, 13]), tokens(7, 3, [20, 21, 22, 23])):
        assert not any(torch.equal(row, mate) for row in other for mate in base)


def test_rows_of_a_varied_condition_are_the_variation_of_the_rows(generator: torch.Generator) -> None:
    """Catches in incentive/prompting.py: a replayed row gets another row's noise."""
    varied = EmbeddingNoise(0.3)(condition(generator), 0, 0, range(4))
    rows = torch.tensor([3, 1])
    assert torch.equal(varied[rows].at(1.0).tokens_BLE, varied.at(1.0).tokens_BLE[rows])
    assert torch.equal(varied[rows].at(1.0).pooled_BE, varied.at(1.0).pooled_BE[rows])


def test_the_same_noise_serves_every_noise_level(generator: torch.Generator) -> None:
    """Between the gate's ends the change is the same up to the factor sqrt(1 - g)."""
    clean = condition(generator)
    varied = EmbeddingNoise(0.3)(clean, 0, 0, range(4))
    full, half = (varied.at(sigma).tokens_BLE - clean.tokens_BLE for sigma in (1.0, 0.75))
    torch.testing.assert_close(half, full * 0.5**0.5, rtol=0, atol=1e-4)  # float32 rounding of tokens near 256


def test_annealing_weakens_the_noise_linearly_over_its_own_length(generator: torch.Generator) -> None:
    """Catches in incentive/prompting.py: annealing ignored."""
    clean = condition(generator)
    annealed, constant = EmbeddingNoise(0.4, anneal_iterations=10), EmbeddingNoise(0.4)
    for iteration, factor in ((0, 1.0), (4, 0.6), (9, 0.1), (10, 0.0), (25, 0.0)):
        ours = annealed(clean, 0, iteration, range(4)).at(1.0).tokens_BLE - clean.tokens_BLE
        full = constant(clean, 0, iteration, range(4)).at(1.0).tokens_BLE - clean.tokens_BLE
        torch.testing.assert_close(ours, factor * full, rtol=0, atol=1e-4)
    assert torch.equal(annealed(clean, 0, 10, range(4)).at(1.0).tokens_BLE, clean.tokens_BLE)


def test_half_precision_tokens_stay_in_their_precision(generator: torch.Generator) -> None:
    clean = condition(generator)
    clean = Condition(clean.tokens_BLE.bfloat16(), clean.pooled_BE, clean.num_channels_L)
    varied = EmbeddingNoise(0.3)(clean, 0, 0, range(4)).at(1.0)
    assert varied.tokens_BLE.dtype == torch.bfloat16
    assert not torch.equal(varied.tokens_BLE, clean.tokens_BLE)


def test_noise_leaves_the_text_alone() -> None:
    for rule in (PromptingRule(), EmbeddingNoise(1.0)):
        assert rule.rewrite(("a cat", "a cat", "sky"), 1, 2, [5, 6, 7]) == ["a cat", "a cat", "sky"]


def test_one_row_per_text_serves_all_its_images_bit_for_bit(generator: torch.Generator) -> None:
    """Equivalence: a row of its own for every image, as if nothing were shared.

    Catches in incentive/prompting.py: noise of the text's row, not of the image's sample; rows of another micro-batch.
    """
    texts, rows, samples = condition(generator, rows=2), [0, 0, 1, 1, 0], [3, 4, 8, 9, 11]
    for rule in (PromptingRule(), EmbeddingNoise(0.4, pooled=True), EmbeddingNoise(0.4, form="cads", rescale=0.5)):
        shared = rule(texts, 7, 2, samples, rows)
        apart = rule(texts[torch.tensor(rows)], 7, 2, samples)
        assert len(shared) == len(apart) == 5
        assert len(shared.clean) == 2
        for index in (slice(1, 4), slice(3, 9), torch.tensor([4, 0, 2])):
            for sigma in (1.0, 0.75, 0.3):
                ours, theirs = shared[index].at(sigma), apart[index].at(sigma)
                assert torch.equal(ours.tokens_BLE, theirs.tokens_BLE)
                assert torch.equal(ours.pooled_BE, theirs.pooled_BE)
        assert torch.equal(shared[1:][torch.tensor([2])].at(1.0).tokens_BLE, apart[3:4].at(1.0).tokens_BLE)


def test_noise_is_drawn_once_per_micro_batch_and_only_where_it_acts(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches in incentive/prompting.py: noise drawn anew at every step; noise of all images kept."""
    drawn: list[int] = []
    monkeypatch.setattr(
        prompting, "normal_per_sample", lambda streams, *rest: drawn.append(len(streams)) or normal(streams, *rest)
    )
    varied = EmbeddingNoise(0.4)(condition(generator), 0, 0, range(4))
    for rows in (slice(0, 2), slice(2, 4)):
        part = varied[rows]
        for sigma in (1.0, 0.8, 0.5, 0.1):
            part.at(sigma)
    again = torch.tensor([2, 3])
    for _ in range(3):
        varied[again].at(0.7)  # an update indexes anew for every pass
    assert drawn == [2, 2]
    varied[torch.tensor([0, 1])].at(0.6)
    assert drawn == [2, 2]
    assert sum(tokens.shape[0] for tokens, _ in varied.noise._kept.values()) == 2
