"""Lever 2, prompting: each image of a group gets its own stochastic variation of the condition (DRIFT, 2601.12401).

The policy is then trained over a neighbourhood of each prompt instead of one point. The variation is drawn once per
image: the same varied condition serves the old, the new and the reference log-probabilities. Rewards see the clean
prompt, and evaluation never varies it. The negative condition of guidance is not varied.

A rule rewrites texts before encoding (`rewrite`) and varies the encoded condition (`__call__`). The rules in this file
leave texts unchanged; `variants.py` has one that rewrites them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from drift_pl.core.rng import normal_per_sample, sample_generators, to_device
from drift_pl.core.types import Condition
from drift_pl.functional.schedule import anneal_factor
from drift_pl.incentive.embedding import moments, written_channels, written_places

# Smallest divisor, so that a prompt without any spread (shrunk to zero by CADS) does not become NaN.
SMALLEST_SPREAD = 1e-12


@dataclass(frozen=True)
class PromptingRule:
    """Every image gets the unchanged prompt: the lever is off. A subclass overrides what it varies."""

    def rewrite(self, prompts_B: Sequence[str], seed: int, iteration: int, samples: Sequence[int]) -> list[str]:
        """The text each image is conditioned on: a function of its prompt and (seed, iteration, sample)."""
        return list(prompts_B)

    def __call__(
        self,
        condition: Condition,
        seed: int,
        iteration: int,
        samples: Sequence[int],
        row_B: Sequence[int] | None = None,
    ) -> "VariedCondition":
        """The variation of the encoded texts for each image: a function of (seed, iteration, sample).

        Args:
            condition: one row per distinct text.
            row_B: the row of each image; None: image b has row b.
        """
        return VariedCondition(condition, row_B)


@dataclass(frozen=True)
class EmbeddingNoise(PromptingRule):
    """Gaussian noise on the text tokens, annealed over denoising time and optionally over training.

    Attributes:
        scale: s >= 0, in standard deviations of the prompt's own tokens; absolute in the `cads` form, as in the paper.
        low, high: noise levels between which the variation sets in, 0 <= low < high <= 1.
        anneal_iterations: iterations over which s falls linearly to zero; 0: never.
        form: `additive` or `cads`; see `apply`.
        rescale: psi in [0, 1], how far mean and standard deviation are restored to the prompt's own (CADS: 1).
        pooled: whether the pooled embedding varies as well, in units of its own standard deviation.
    """

    scale: float
    low: float = 0.6
    high: float = 0.9
    anneal_iterations: int = 0
    form: str = "additive"
    rescale: float = 0.0
    pooled: bool = False

    def __call__(
        self,
        condition: Condition,
        seed: int,
        iteration: int,
        samples: Sequence[int],
        row_B: Sequence[int] | None = None,
    ) -> "VariedCondition":
        annealed = replace(self, scale=self.scale * anneal_factor(iteration, self.anneal_iterations))
        return VariedCondition(condition, row_B, PromptNoise(annealed, seed, iteration), tuple(samples))

    def is_clean(self, sigma: float) -> bool:
        """Whether nothing varies at noise level sigma."""
        gate = noise_gate(sigma, self.low, self.high)
        return gate == 1 if self.form == "cads" else self.scale * (1 - gate) ** 0.5 == 0

    def apply(
        self,
        clean: Condition,
        sigma: float,
        noise_BLE: Tensor,
        pooled_noise_BE: Tensor | None = None,
        place_N: Tensor | None = None,
    ) -> Condition:
        """The condition at noise level sigma, for each prompt y separately:

            additive:   y' = y + s sqrt(1 - g) sd(y) n
            cads:       y' = sqrt(g) y + s sqrt(1 - g) n                            (arXiv 2310.17347)
            rescale:    psi ((y' - mean(y')) / sd(y') sd(y) + mean(y)) + (1 - psi) y',

        with n standard normal, g = g(sigma), and mean and sd over the entries that a text encoder wrote; the others
        stay zero. g falls from 1 at low noise to 0 at high noise: the layout of an image is decided at high noise, so
        that is where the condition varies.

        `additive` keeps the signal: s -> 0 gives the clean prompt at every noise level, and s = 0 gives it exactly.
        `cads` does not. At s = 0 the prompt shrinks to sqrt(g) y; psi = 1 undoes that where g > 0, but at g = 0 the
        prompt is lost. With psi = 1 and g = 0 the result is n with the prompt's mean and standard deviation: s cancels,
        and the prompt is lost at high noise for every s, annealed or not.

        Args:
            clean: one row per image.
            noise_BLE: standard normal noise, one draw per image.
            pooled_noise_BE: the same for the pooled embedding, or None to leave it unchanged.
            place_N: `written_places(clean)`, if it is known.
        """
        gate, place_N = noise_gate(sigma, self.low, self.high), written_places(clean) if place_N is None else place_N
        tokens_BLE = self._vary(clean.tokens_BLE, noise_BLE, written_channels(clean), place_N, gate)
        pooled_BE = clean.pooled_BE
        if pooled_BE is not None and pooled_noise_BE is not None:
            one_token_B1E = pooled_BE[:, None]
            written_1E = torch.ones_like(one_token_B1E[0], dtype=torch.bool)
            place_E = torch.arange(pooled_BE.shape[1], device=pooled_BE.device)
            pooled_BE = self._vary(one_token_B1E, pooled_noise_BE[:, None], written_1E, place_E, gate)[:, 0]
        return replace(clean, tokens_BLE=tokens_BLE, pooled_BE=pooled_BE)

    def _vary(
        self, clean_BLE: Tensor, noise_BLE: Tensor, written: Tensor, place_N: Tensor | None, gate: float
    ) -> Tensor:
        mean_B11, std_B11 = moments(clean_BLE, written, place_N)
        cads = self.form == "cads"
        noise_BLE = noise_BLE * written * (1.0 if cads else std_B11)
        amplitude = self.scale * (1 - gate) ** 0.5
        signal = gate**0.5 if cads else 1.0
        varied_BLE = signal * clean_BLE + amplitude * noise_BLE.to(clean_BLE.dtype)
        if self.rescale == 0:
            return varied_BLE
        varied_mean_B11, varied_std_B11 = moments(varied_BLE, written, place_N)
        unit_BLE = (varied_BLE - varied_mean_B11) / varied_std_B11.clamp(min=SMALLEST_SPREAD)
        rescaled_BLE = (unit_BLE * std_B11 + mean_B11) * written
        return (self.rescale * rescaled_BLE + (1 - self.rescale) * varied_BLE).to(clean_BLE.dtype)


@dataclass(frozen=True)
class PromptNoise:
    """The noise of an iteration's images: drawn where it is applied, a function of (seed, iteration, sample).

    As large as the text tokens of every image, it would be the largest thing in memory. The last rows that were drawn
    are kept, so that the steps of a rollout and the passes of an update draw once per micro-batch.

    Attributes:
        rule: how it is applied, with the scale of this iteration.
        seed, iteration: of the run, and its number.
    """

    rule: EmbeddingNoise
    seed: int
    iteration: int
    _kept: dict[tuple[int, ...], tuple[Tensor, Tensor | None]] = field(default_factory=dict, repr=False, compare=False)
    _places: list[Tensor | None] = field(default_factory=list, repr=False, compare=False)

    def apply(self, texts: Condition, images: Condition, sigma: float, samples: tuple[int, ...]) -> Condition:
        """The conditions of images at noise level sigma.

        Args:
            texts: the distinct texts of the iteration, the same in every call.
            images: the clean condition of each image.
            samples: index of each image in the iteration.
        """
        if not self._places:
            self._places.append(written_places(texts))
        return self.rule.apply(images, sigma, *self.draw(texts, samples), self._places[0])

    def draw(self, condition: Condition, samples: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
        """Standard normal noise like the tokens, float32 [B, L, E], and, if it varies, like the pooled embedding."""
        if samples not in self._kept:
            generators = sample_generators("prompt_variation", self.seed, self.iteration, samples=samples)
            tokens_BLE, pooled_BE = condition.tokens_BLE, condition.pooled_BE
            noise_BLE = normal_per_sample(generators, tokens_BLE.shape[1:], tokens_BLE.device)
            pooled_noise_BE = None
            if self.rule.pooled and pooled_BE is not None:
                # From the same streams after the token noise, which therefore does not depend on this switch.
                pooled_noise_BE = normal_per_sample(generators, pooled_BE.shape[1:], pooled_BE.device)
            self._kept.clear()
            self._kept[samples] = noise_BLE, pooled_noise_BE
        return self._kept[samples]


@dataclass(frozen=True)
class VariedCondition:
    """The conditions of images, evaluated at a noise level: `condition[rows].at(sigma)`.

    What is stored grows with the number of distinct texts, not of images.

    Attributes:
        clean: the encoded texts, one row each.
        row_B: the row of each image; None: image b has row b.
        noise: varies the texts; None for no variation.
        sample_B: index of each image in the iteration, from which its noise is drawn.
    """

    clean: Condition
    row_B: Sequence[int] | None = None
    noise: PromptNoise | None = None
    sample_B: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.clean) if self.row_B is None else len(self.row_B)

    def __getitem__(self, index: slice | Tensor) -> "VariedCondition":
        chosen = range(len(self))[index] if isinstance(index, slice) else index.tolist()
        row_B = [place if self.row_B is None else self.row_B[place] for place in chosen]
        sample_B = tuple(self.sample_B[place] for place in chosen) if self.noise else ()
        return replace(self, row_B=row_B, sample_B=sample_B)

    @cached_property
    def unvaried(self) -> Condition:
        """The clean condition of each image."""
        if self.row_B is None:
            return self.clean
        return self.clean[to_device(torch.tensor(self.row_B, dtype=torch.int64), self.clean.tokens_BLE.device)]

    def at(self, sigma: float) -> Condition:
        """The condition of each image at noise level sigma, see `EmbeddingNoise.apply`."""
        if self.noise is None or self.noise.rule.is_clean(sigma):
            return self.unvaried
        return self.noise.apply(self.clean, self.unvaried, sigma, self.sample_B)


def noise_gate(sigma: float, low: float, high: float) -> float:
    """g in [0, 1]: 1 up to `low`, 0 from `high`, linear between (arXiv 2310.17347, eq. 4, as a function of noise)."""
    return min(1.0, max(0.0, (high - sigma) / (high - low)))
