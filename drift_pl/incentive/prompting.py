"""Lever 2, prompting: each image of a group gets its own stochastic variation of the condition (DRIFT, 2601.12401).

The policy is then trained over a neighbourhood of each prompt instead of one point. The variation is drawn once per
image: the same varied condition serves the old, the new and the reference log-probabilities. Judges read the clean
prompt, and evaluation never varies it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from drift_pl.functional.schedule import anneal_factor
from drift_pl.rng import normal_per_sample, sample_generators
from drift_pl.types import Condition


@dataclass(frozen=True)
class NoVariation:
    """Every image gets the prompt as it is: the lever is off."""

    def __call__(self, condition: Condition, seed: int, iteration: int, samples: Sequence[int]) -> "VariedCondition":
        return VariedCondition(condition)


@dataclass(frozen=True)
class EmbeddingNoise:
    """Gaussian noise on the text tokens, its strength annealed over denoising time and, if asked, over training.

    Attributes:
        scale: s >= 0, in standard deviations of a prompt's own tokens.
        low, high: noise levels between which the variation sets in, 0 <= low < high <= 1.
        anneal_iterations: iterations over which s falls linearly to zero; 0: never.
    """

    scale: float
    low: float = 0.6
    high: float = 0.9
    anneal_iterations: int = 0

    def __call__(self, condition: Condition, seed: int, iteration: int, samples: Sequence[int]) -> "VariedCondition":
        """The variation of an iteration: a function of (seed, iteration, sample) for each row of `condition`."""
        generators = sample_generators("prompt_variation", seed, iteration, samples=samples)
        noise_BLE = normal_per_sample(generators, condition.tokens_BLE.shape[1:], condition.tokens_BLE.device)
        scale = self.scale * anneal_factor(iteration, self.anneal_iterations)
        return VariedCondition(condition, noise_BLE, scale, self.low, self.high)


@dataclass(frozen=True)
class VariedCondition:
    """A condition and its variation, evaluated at a noise level.

    Attributes:
        clean: the encoded prompts, one row per image.
        noise_BLE: standard normal numbers, one draw per image, or None for no variation.
        scale: s >= 0, in standard deviations of a prompt's own tokens.
        low, high: tau1 < tau2, the noise levels between which the variation sets in.
    """

    clean: Condition
    noise_BLE: Tensor | None = None
    scale: float = 0.0
    low: float = 0.6
    high: float = 0.9

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, index: slice | Tensor) -> "VariedCondition":
        noise = None if self.noise_BLE is None else self.noise_BLE[index]
        return replace(self, clean=self.clean[index], noise_BLE=noise)

    def at(self, sigma: float) -> Condition:
        """The condition at noise level sigma: y' = y + s sqrt(1 - g(sigma)) sd(y) n.

        g falls from 1 at low noise to 0 at high noise: the layout of an image is decided at high noise, so that is
        where the condition varies (the place of CADS, arXiv 2310.17347; there the signal shrinks as well, here it
        stays, so that s -> 0 gives the clean prompt at every noise level, and s = 0 gives it bit for bit).
        """
        amplitude = self.scale * (1 - noise_gate(sigma, self.low, self.high)) ** 0.5
        if self.noise_BLE is None or amplitude == 0:
            return self.clean
        varied_BLE = self.clean.tokens_BLE + amplitude * self._unit_noise().to(self.clean.tokens_BLE.dtype)
        return replace(self.clean, tokens_BLE=varied_BLE)

    def _unit_noise(self) -> Tensor:
        """The noise in units of each prompt's own spread, zero on padded channels and appended tokens."""
        assert self.noise_BLE is not None
        return self.noise_BLE * written_channels(self.clean) * token_std(self.clean)[:, None, None]


def written_channels(condition: Condition) -> Tensor:
    """bool [L, E]: the entries of a prompt's tokens that a text encoder wrote."""
    channel_E = torch.arange(condition.tokens_BLE.shape[-1], device=condition.tokens_BLE.device)
    return channel_E < condition.num_channels_L[:, None]


def noise_gate(sigma: float, low: float, high: float) -> float:
    """g in [0, 1]: 1 up to `low`, 0 from `high`, linear between (arXiv 2310.17347, eq. 4, as a function of noise)."""
    return min(1.0, max(0.0, (high - sigma) / (high - low)))


def token_std(condition: Condition) -> Tensor:
    """Population standard deviation of each prompt's tokens over what a text encoder wrote, float32 [B]."""
    return condition.tokens_BLE[:, written_channels(condition)].float().std(1, correction=0)
