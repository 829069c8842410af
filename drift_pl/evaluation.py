"""Held-out evaluation: how good and how diverse a policy's images are, for callbacks and commands alike.

It differs from training on purpose: other prompts, fixed seeds that do not depend on the run's, the deterministic
sampler, no variation of prompts, an encoder that nothing was trained on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.functional.diversity import cosine_kernel, mean_pairwise_distance, vendi_score
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.protocol import Policy
from drift_pl.prompts import PromptEncoder
from drift_pl.rng import normal_per_sample, sample_generators
from drift_pl.rollout import Sampler, sample_ode
from drift_pl.scoring.judges import Judge, score_images
from drift_pl.scoring.protocol import Encoder, ImageFilter, Measure, PairwiseDistance


@dataclass(frozen=True)
class Evaluated:
    """Values per prompt, and some of the images.

    Attributes:
        prompts: P prompts, in the order of the values.
        values: name -> float64 [P]; NaN where a prompt has no such value.
        grid_PS3HW: the first seeds of the first prompts, in [0, 1], on the CPU.
    """

    prompts: tuple[str, ...]
    values: dict[str, Tensor]
    grid_PS3HW: Tensor

    def means(self) -> dict[str, float]:
        """Mean over prompts that have a value."""
        return {name: float(value_P.nanmean()) for name, value_P in self.values.items()}


@dataclass(frozen=True)
class Evaluator:
    """Everything that evaluation needs but the policy's weights.

    Attributes:
        judges: those trained on; `reward` is their weighted sum.
        heldout_judges: reported as `heldout/NAME`, so that over-optimisation of the others shows.
        encoder: embeds images for `pairwise_distance` and `vendi`.
        lpips: all-pairs distance for `pairwise_lpips`.
        micro_batch: images per forward pass.
        grid_prompts, grid_seeds: how many images are kept for looking at.
    """

    judges: Sequence[Judge]
    encoder: Encoder
    lpips: PairwiseDistance
    micro_batch: int
    heldout_judges: Sequence[Judge] = ()
    measures: Sequence[Measure] = ()
    grid_prompts: int = 4
    grid_seeds: int = 8

    def to(self, device: torch.device | str) -> None:
        """Moves the frozen networks that only evaluation uses."""
        self.encoder.to(device)
        self.lpips.to(device)
        for judge in self.heldout_judges:
            judge.reward.to(device)

    def run(
        self,
        policy: Policy,
        encode: PromptEncoder,
        sampler: Sampler,
        prompts: Sequence[str],
        seeds_per_prompt: int,
        device: torch.device,
    ) -> Evaluated:
        """Samples and measures; with several processes each takes every n-th prompt and all get the whole result.

        Args:
            seeds_per_prompt: S images per prompt, from noise that is a function of (prompt, seed index) alone.
        """
        rank, world = _rank_and_world()
        rank, world = (0, 1) if len(prompts) < world else (rank, world)  # then every process evaluates everything
        shown = min(self.grid_prompts, len(prompts))
        table_PN = grid_PS3HW = torch.zeros(0)
        names: list[str] = []
        for index in range(rank, len(prompts), world):
            images_S3HW = self._sample(policy, encode, sampler, prompts[index], seeds_per_prompt, device)
            row = {name: value.double().cpu() for name, value in self._measure(images_S3HW, prompts[index])}
            if not names:
                names = list(row)
                table_PN = torch.zeros(len(prompts), len(names), dtype=torch.float64)
                grid_PS3HW = torch.zeros(shown, *images_S3HW[: self.grid_seeds].shape)
            table_PN[index] = torch.stack([row[name] for name in names])
            if index < shown:
                grid_PS3HW[index] = images_S3HW[: self.grid_seeds].cpu()
        if world > 1:  # every row and every grid is zero on all processes but one
            table_PN, grid_PS3HW = _sum_over_processes(table_PN, device), _sum_over_processes(grid_PS3HW, device)
        return Evaluated(tuple(prompts), dict(zip(names, table_PN.T, strict=True)), grid_PS3HW)

    def _sample(
        self,
        policy: Policy,
        encode: PromptEncoder,
        sampler: Sampler,
        prompt: str,
        seeds_per_prompt: int,
        device: torch.device,
    ) -> Tensor:
        generators = sample_generators(f"evaluation_latents:{prompt}", samples=range(seeds_per_prompt))
        noise_SCHW = normal_per_sample(generators, policy.latent_shape, device)
        condition = encode([prompt], device)
        images = []
        for noise_BCHW in noise_SCHW.split(self.micro_batch):
            repeated = VariedCondition(condition.repeat_interleave(len(noise_BCHW)))
            images.append(policy.decode(sample_ode(policy, sampler, noise_BCHW, repeated)))
        return torch.cat(images)

    def _measure(self, images_S3HW: Tensor, prompt: str) -> Iterator[tuple[str, Tensor]]:
        repeated = [prompt] * len(images_S3HW)
        reward_S, by_judge = score_images(self.judges, images_S3HW, repeated)
        yield "reward", reward_S.nanmean()
        for name, score_S in by_judge.items():
            yield f"reward/{name}", score_S.nanmean()
        for judge in self.heldout_judges:
            yield f"heldout/{judge.name}", judge(images_S3HW, repeated).nanmean()
        kernel_SS = cosine_kernel(self.encoder(images_S3HW))
        yield "pairwise_distance", mean_pairwise_distance(1 - kernel_SS)
        yield "vendi", vendi_score(kernel_SS)
        yield "pairwise_lpips", mean_pairwise_distance(self.lpips(images_S3HW))
        for measure in self.measures:
            if isinstance(measure, ImageFilter):
                kept_S = measure.counts(images_S3HW, prompt).to(kernel_SS.device)
                yield "valid_pairwise_distance", _distance_within(kernel_SS, kept_S)
            for name, value_P in measure(images_S3HW[None], [prompt]).items():
                yield name, value_P[0]


def _distance_within(kernel_SS: Tensor, kept_S: Tensor) -> Tensor:
    """Mean pairwise distance of the kept images alone; NaN if there are fewer than two."""
    kept_SS = kernel_SS[kept_S][:, kept_S]
    return mean_pairwise_distance(1 - kept_SS) if len(kept_SS) > 1 else torch.tensor(torch.nan)


def _rank_and_world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _sum_over_processes(part: Tensor, device: torch.device) -> Tensor:
    total = part.to(device)
    torch.distributed.all_reduce(total)
    return total.cpu()
