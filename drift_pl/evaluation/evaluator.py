"""Held-out evaluation: how good and how diverse a policy's images are, for callbacks and commands alike.

It differs from training on purpose: other prompts, fixed seeds that do not depend on the run's, the deterministic
sampler, no variation of prompts, an encoder that nothing was trained on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import normalize

from drift_pl.core.rng import normal_per_sample, sample_generators
from drift_pl.functional.distribution import frechet_distance, kernel_distance
from drift_pl.functional.diversity import (
    cosine_kernel,
    mean_nearest_distance,
    mean_pairwise_distance,
    rke_score,
    vendi_score,
)
from drift_pl.functional.similarity import structural_similarity
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.prompts import PromptEncoder
from drift_pl.sampling.rollout import Sampler, sample_ode
from drift_pl.scoring.protocol import Encoder, ImageFilter, Measure, PairwiseDistance, move
from drift_pl.scoring.rewards import Judge, score_images

DRIFT_MEASURES = ("fid", "kid")
EXTRA_MEASURES = ("rke", "nearest_distance", "pairwise_ssim", *DRIFT_MEASURES)


@dataclass(frozen=True)
class Evaluated:
    """Values per prompt, and some of the images.

    Attributes:
        prompts: P prompts, in the order of the values.
        values: name -> float64 [P]; NaN where a prompt has no such value.
        grid_PS3HW: the first seeds of the first prompts, in [0, 1], on the CPU.
        embedding_PSD: unit embeddings of all images by the evaluation encoder, float32, on the CPU; None unless a
            measure of drift is asked for.
        overall: name -> what is measured on the images of all prompts together.
    """

    prompts: tuple[str, ...]
    values: dict[str, Tensor]
    grid_PS3HW: Tensor
    embedding_PSD: Tensor | None = None
    overall: dict[str, float] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Mean over prompts that have a value, and what is measured on all prompts together."""
        return {name: float(value_P.nanmean()) for name, value_P in self.values.items()} | self.overall


@dataclass(frozen=True)
class Evaluator:
    """Everything that evaluation needs but the policy's weights.

    Attributes:
        judges: those trained on; `reward` is their weighted sum. A groupwise judge sees a prompt's images together.
        heldout_judges: reported as `heldout/NAME`, so that over-optimisation of the others shows.
        encoder: embeds images for `pairwise_distance` and `vendi`.
        lpips: all-pairs distance for `pairwise_lpips`.
        micro_batch: images per forward pass.
        grid_prompts, grid_seeds: how many images are kept for looking at.
        vendi_order: q of `vendi`.
        extra: further names out of `EXTRA_MEASURES`: `rke`, `nearest_distance`, `pairwise_ssim` per prompt; `fid`,
            `kid` over all prompts: how far the embeddings are from the base model's.

    Raises:
        ValueError: a name in `extra` is none of `EXTRA_MEASURES`.
    """

    judges: Sequence[Judge]
    encoder: Encoder
    lpips: PairwiseDistance
    micro_batch: int
    heldout_judges: Sequence[Judge] = ()
    measures: Sequence[Measure] = ()
    grid_prompts: int = 4
    grid_seeds: int = 8
    vendi_order: float = 1.0
    extra: Sequence[str] = ()

    def __post_init__(self) -> None:
        unknown = [name for name in self.extra if name not in EXTRA_MEASURES]
        if unknown:
            raise ValueError(f"unknown measures {unknown}; there are {EXTRA_MEASURES}")

    @property
    def measures_drift(self) -> bool:
        """Whether embeddings are kept, to be compared with the base model's."""
        return any(name in DRIFT_MEASURES for name in self.extra)

    def to(self, device: torch.device | str) -> None:
        """Moves the frozen networks that only evaluation uses."""
        for part in (self.encoder, self.lpips, *(judge.reward for judge in self.heldout_judges), *self.measures):
            move(part, device)

    def run(
        self,
        policy: Policy,
        encode: PromptEncoder,
        sampler: Sampler,
        prompts: Sequence[str],
        seeds_per_prompt: int,
        device: torch.device,
        reference: Tensor | None = None,
    ) -> Evaluated:
        """Samples and measures; with several processes each takes every n-th prompt and all get the whole result.

        Args:
            seeds_per_prompt: S images per prompt, from noise that is a function of (prompt, seed index) alone.
            reference: the base model's embeddings, [..., D]; None: no `fid` and no `kid`.
        """
        rank, world = _rank_and_world()
        rank, world = (0, 1) if len(prompts) < world else (rank, world)  # then every process evaluates everything
        sizes = (len(prompts), min(self.grid_prompts, len(prompts)), len(prompts) if self.measures_drift else 0)
        names: list[str] = []
        parts: list[Tensor] = []
        for index in range(rank, len(prompts), world):
            images_S3HW = self._sample(policy, encode, sampler, prompts[index], seeds_per_prompt, device)
            values, kept = self._look(images_S3HW, prompts[index])
            names = names or list(values)
            rows = (torch.stack([values[name] for name in names]), *kept)
            parts = parts or [
                torch.zeros(size, *row.shape, dtype=row.dtype) for size, row in zip(sizes, rows, strict=True)
            ]
            for part, row in zip(parts, rows, strict=True):
                if index < len(part):
                    part[index] = row
        if world > 1:  # every row is zero on all processes but one
            parts = [_sum_over_processes(part, device) for part in parts]
        table_PN, grid_PS3HW, embedding_PSD = parts
        values_P = dict(zip(names, table_PN.T, strict=True))
        if not self.measures_drift:
            return Evaluated(tuple(prompts), values_P, grid_PS3HW)
        overall = {} if reference is None else self._drift(embedding_PSD, reference)
        return Evaluated(tuple(prompts), values_P, grid_PS3HW, embedding_PSD, overall)

    def _drift(self, embedding_PSD: Tensor, reference: Tensor) -> dict[str, float]:
        embedding_ND, reference_MD = embedding_PSD.flatten(0, -2), reference.flatten(0, -2)
        distances = {
            "fid": lambda: frechet_distance(embedding_ND, reference_MD),
            # unit embeddings, and the base model's images are of the same noise: see there
            "kid": lambda: kernel_distance(embedding_ND, reference_MD, gamma=1.0, paired=True),
        }
        return {name: float(distance()) for name, distance in distances.items() if name in self.extra}

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

    def _look(self, images_S3HW: Tensor, prompt: str) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
        """Values of one prompt's images, images for the grid and unit embeddings; all on the CPU."""
        embedding_SD = self.encoder(images_S3HW)
        values = {name: value.double().cpu() for name, value in self._measure(images_S3HW, embedding_SD, prompt)}
        unit_SD = normalize(embedding_SD.float(), dim=-1)
        return values, (images_S3HW[: self.grid_seeds].float().cpu(), unit_SD.cpu())

    def _measure(self, images_S3HW: Tensor, embedding_SD: Tensor, prompt: str) -> Iterator[tuple[str, Tensor]]:
        num_images = len(images_S3HW)
        repeated = [prompt] * num_images
        reward_S, by_judge = score_images(self.judges, images_S3HW, repeated, num_images, allow_unscored=True)
        yield "reward", reward_S.nanmean()
        for name, score_S in by_judge.items():
            yield f"reward/{name}", score_S.nanmean()
        for judge in self.heldout_judges:
            yield f"heldout/{judge.name}", judge(images_S3HW, repeated, num_images).nanmean()
        kernel_SS = cosine_kernel(embedding_SD)
        yield "pairwise_distance", mean_pairwise_distance(1 - kernel_SS)
        yield "vendi", vendi_score(kernel_SS, self.vendi_order)
        yield "pairwise_lpips", mean_pairwise_distance(self.lpips(images_S3HW))
        yield from self._measure_extra(images_S3HW, kernel_SS)
        for measure in self.measures:
            if isinstance(measure, ImageFilter):
                kept_S = measure.counts(images_S3HW, prompt).to(kernel_SS.device)
                yield "valid_pairwise_distance", _distance_within(kernel_SS, kept_S)
            for name, value_P in measure(images_S3HW[None], [prompt]).items():
                yield name, value_P[0]

    def _measure_extra(self, images_S3HW: Tensor, kernel_SS: Tensor) -> Iterator[tuple[str, Tensor]]:
        if "rke" in self.extra:
            yield "rke", rke_score(kernel_SS)
        if "nearest_distance" in self.extra:
            yield "nearest_distance", mean_nearest_distance(1 - kernel_SS)
        if "pairwise_ssim" in self.extra:
            yield "pairwise_ssim", mean_pairwise_distance(1 - structural_similarity(images_S3HW))


def _distance_within(kernel_SS: Tensor, kept_S: Tensor) -> Tensor:
    """Mean pairwise distance of the kept images alone; NaN if there are fewer than two."""
    kept_SS = kernel_SS[kept_S][:, kept_S]
    return mean_pairwise_distance(1 - kept_SS) if len(kept_SS) > 1 else torch.tensor(torch.nan)


def _rank_and_world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _sum_over_processes(part: Tensor, device: torch.device) -> Tensor:
    if not part.numel():
        return part
    total = part.to(device)
    torch.distributed.all_reduce(total)
    return total.cpu()
