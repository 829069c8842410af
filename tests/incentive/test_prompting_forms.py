"""The forms of the noise on a prompt's embedding, against their formulas in numpy, and the pooled embedding."""

import numpy as np
import pytest
import torch
from conditions import CHANNELS, WRITTEN, condition

from drift_pl.core.rng import make_generator
from drift_pl.core.types import Condition
from drift_pl.incentive.prompting import EmbeddingNoise, VariedCondition

# sigma 0.95 and 0.9 are past the gate (g = 0), 0.75 is in the middle of it (g = 1/2), 0.675 at three quarters
GATES = [(0.95, 0.0), (0.9, 0.0), (0.75, 0.5), (0.675, 0.75)]
FORMS = [(form, rescale) for form in ("additive", "cads") for rescale in (0.0, 0.4, 1.0)]


def by_hand(y: np.ndarray, noise: np.ndarray, scale: float, gate: float, form: str, rescale: float) -> np.ndarray:
    """Oracle: the formulas on the written entries of one prompt, float64."""
    if form == "additive":
        varied = y + scale * np.sqrt(1 - gate) * y.std() * noise
    else:
        varied = np.sqrt(gate) * y + scale * np.sqrt(1 - gate) * noise
    standard = (varied - varied.mean()) / varied.std()
    return rescale * (standard * y.std() + y.mean()) + (1 - rescale) * varied


def varied_by(clean: Condition, scale: float, form: str, rescale: float) -> VariedCondition:
    """Whose noise is that of samples 0 to 3, of the pooled embedding too."""
    return EmbeddingNoise(scale, 0.6, 0.9, 0, form, rescale, pooled=True)(clean, 5, 2, range(4))


@pytest.mark.parametrize(("sigma", "gate"), GATES)
@pytest.mark.parametrize(("form", "rescale"), FORMS)
def test_every_form_is_its_formula_prompt_by_prompt(
    form: str, rescale: float, sigma: float, gate: float, generator: torch.Generator
) -> None:
    """Spreads differ by powers of four: statistics over the whole batch would be wrong.

    Catches in incentive/prompting.py: g for its root; CADS noise in the prompt's own spread; mean written on padding;
    moments of the whole batch (the ports' bug); psi swapped.
    """
    clean = condition(generator)
    varied = varied_by(clean, 0.4, form, rescale)
    noise_BLE, pooled_noise_BE = varied.noise.draw(clean, (0, 1, 2, 3))
    at = varied.at(sigma)
    written = WRITTEN.numpy()
    for row in range(4):
        y, noise = (values[row].double().numpy()[written] for values in (clean.tokens_BLE, noise_BLE))
        expected = by_hand(y, noise, 0.4, gate, form, rescale)
        # float32 rounding of entries up to 256, through a few operations
        np.testing.assert_allclose(at.tokens_BLE[row].numpy()[written], expected, rtol=1e-5, atol=1e-4)
        assert not at.tokens_BLE[row][~WRITTEN].any()
        y, noise = (values[row].double().numpy() for values in (clean.pooled_BE, pooled_noise_BE))
        expected = by_hand(y, noise, 0.4, gate, form, rescale)
        np.testing.assert_allclose(at.pooled_BE[row].numpy(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(at.num_channels_L, CHANNELS)


@pytest.mark.parametrize(("form", "rescale"), FORMS)
def test_at_low_noise_every_form_is_the_prompt_bit_for_bit(
    form: str, rescale: float, generator: torch.Generator
) -> None:
    clean = condition(generator)
    varied = varied_by(clean, 0.4, form, rescale)
    for sigma in (0.0, 0.3, 0.6):
        assert torch.equal(varied.at(sigma).tokens_BLE, clean.tokens_BLE)
        assert torch.equal(varied.at(sigma).pooled_BE, clean.pooled_BE)
    assert not torch.equal(varied.at(0.61).tokens_BLE, clean.tokens_BLE)
    assert not torch.equal(varied.at(0.61).pooled_BE, clean.pooled_BE)


@pytest.mark.parametrize("rescale", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("sigma", [1.0, 0.75, 0.61])
def test_the_additive_form_at_scale_zero_is_the_prompt_bit_for_bit(
    rescale: float, sigma: float, generator: torch.Generator
) -> None:
    clean = condition(generator)
    at = EmbeddingNoise(0.0, rescale=rescale, pooled=True)(clean, 0, 0, range(4)).at(sigma)
    assert torch.equal(at.tokens_BLE, clean.tokens_BLE)
    assert torch.equal(at.pooled_BE, clean.pooled_BE)


def test_the_cads_form_at_scale_zero_shrinks_the_prompt(generator: torch.Generator) -> None:
    """By hand: sqrt(1/2) y halfway, zero from the gate's end on; rescaling undoes the first but not the second.

    Catches in incentive/prompting.py: CADS at s = 0 returns the prompt; division by a zero spread.
    """
    clean = condition(generator)
    plain = EmbeddingNoise(0.0, form="cads")(clean, 0, 0, range(4))
    torch.testing.assert_close(plain.at(0.75).tokens_BLE, clean.tokens_BLE * 0.5**0.5, rtol=1e-5, atol=1e-5)
    assert not plain.at(0.9).tokens_BLE.any()
    rescaled = EmbeddingNoise(0.0, form="cads", rescale=1.0)(clean, 0, 0, range(4))
    torch.testing.assert_close(rescaled.at(0.75).tokens_BLE, clean.tokens_BLE, rtol=1e-5, atol=1e-4)
    lost = rescaled.at(0.9).tokens_BLE[:, WRITTEN].double().numpy()
    means = clean.tokens_BLE[:, WRITTEN].double().numpy().mean(1, keepdims=True)
    np.testing.assert_allclose(lost, np.broadcast_to(means, lost.shape), rtol=1e-4)


def test_under_rescaling_the_cads_form_loses_the_prompt_at_high_noise_whatever_the_scale(
    generator: torch.Generator,
) -> None:
    clean = condition(generator, same=True)
    weak, strong = (EmbeddingNoise(s, form="cads", rescale=1.0)(clean, 0, 0, range(4)) for s in (0.01, 2.0))
    torch.testing.assert_close(weak.at(1.0).tokens_BLE, strong.at(1.0).tokens_BLE, rtol=1e-4, atol=1e-4)
    y = clean.tokens_BLE[0, WRITTEN].numpy()
    left = [np.corrcoef(row, y)[0, 1] for row in weak.at(1.0).tokens_BLE[:, WRITTEN].numpy()]
    assert np.abs(left).max() < 4 / np.sqrt(len(y))  # four standard errors of no correlation
    unscaled = EmbeddingNoise(0.01)(clean, 0, 0, range(4)).at(1.0).tokens_BLE[:, WRITTEN].numpy()
    assert min(np.corrcoef(row, y)[0, 1] for row in unscaled) > 0.99  # the additive form keeps it


@pytest.mark.parametrize("form", ["additive", "cads"])
def test_rescaling_restores_each_prompts_own_mean_and_spread(form: str, generator: torch.Generator) -> None:
    clean = condition(generator)
    at = EmbeddingNoise(0.8, form=form, rescale=1.0)(clean, 0, 0, range(4)).at(0.8)
    before, after = (entry.tokens_BLE[:, WRITTEN].double().numpy() for entry in (clean, at))
    np.testing.assert_allclose(after.std(1), before.std(1), rtol=1e-4)
    np.testing.assert_allclose(after.mean(1), before.mean(1), rtol=1e-4)


def test_the_pooled_embedding_varies_with_numbers_of_its_own_from_the_same_stream(generator: torch.Generator) -> None:
    """Oracle: torch.randn, first for the tokens, then for the pooled embedding; the tokens' noise is unchanged.

    Catches in incentive/prompting.py: pooled embedding always varied; its noise drawn before the tokens'.
    """
    clean = condition(generator)
    plain = EmbeddingNoise(0.3)(clean, 7, 3, range(4))
    pooled = EmbeddingNoise(0.3, pooled=True)(clean, 7, 3, range(4))
    for sigma in (1.0, 0.75):
        assert torch.equal(pooled.at(sigma).tokens_BLE, plain.at(sigma).tokens_BLE)
        assert torch.equal(plain.at(sigma).pooled_BE, clean.pooled_BE)
    for sample in range(4):
        stream = make_generator("prompt_variation", 7, 3, sample)
        drawn, _ = plain.noise.draw(clean, (sample,))
        assert torch.equal(torch.randn(clean.tokens_BLE.shape[1:], generator=stream), drawn[0])
        numbers = torch.randn(8, generator=stream)
        y = clean.pooled_BE[sample]
        expected = y + 0.3 * float(np.std(y.double().numpy())) * numbers
        torch.testing.assert_close(pooled.at(1.0).pooled_BE[sample], expected, rtol=1e-5, atol=1e-6)


def test_a_family_without_a_pooled_embedding_has_nothing_to_vary_there(generator: torch.Generator) -> None:
    clean = condition(generator)
    clean = Condition(clean.tokens_BLE, None, clean.num_channels_L)
    varied = EmbeddingNoise(0.3, pooled=True)(clean, 0, 0, range(4))
    assert varied[1:].at(1.0).pooled_BE is None
    assert torch.equal(varied.at(1.0).tokens_BLE, EmbeddingNoise(0.3)(clean, 0, 0, range(4)).at(1.0).tokens_BLE)


@pytest.mark.parametrize(("form", "rescale"), FORMS)
def test_rows_of_every_form_are_the_form_of_the_rows(form: str, rescale: float, generator: torch.Generator) -> None:
    varied = varied_by(condition(generator), 0.3, form, rescale)
    whole, rows = varied.at(0.8), torch.tensor([3, 1])
    part = varied[rows].at(0.8)
    torch.testing.assert_close(part.tokens_BLE, whole.tokens_BLE[rows], rtol=1e-6, atol=1e-5)  # order of summation
    torch.testing.assert_close(part.pooled_BE, whole.pooled_BE[rows], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("form", "rescale"), FORMS)
def test_every_form_stays_in_the_tokens_precision(form: str, rescale: float, generator: torch.Generator) -> None:
    clean = condition(generator)
    clean = Condition(clean.tokens_BLE.bfloat16(), clean.pooled_BE.bfloat16(), CHANNELS)
    at = EmbeddingNoise(0.3, form=form, rescale=rescale, pooled=True)(clean, 0, 0, range(4)).at(0.8)
    assert at.tokens_BLE.dtype == at.pooled_BE.dtype == torch.bfloat16
    assert at.tokens_BLE.isfinite().all()
    assert not torch.equal(at.tokens_BLE, clean.tokens_BLE)
