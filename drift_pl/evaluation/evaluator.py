"""Held-out evaluation: how good and how diverse a policy's images are, for callbacks and commands alike.

It differs from training on purpose: other prompts, fixed seeds that do not depend on the run's, the deterministic
sampler, no variation of prompts, an encoder that nothing was trained on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import normalize

from drift_pl.core.rng import sample_generators
from drift_pl.evaluation.metrics import DriftMetric, GroupedMetric, standard_metrics
from drift_pl.evaluation.partial import PartialPoint, Row
from drift_pl.evaluation.sampling import Model, SamplingPlan, sample_images
from drift_pl.functional.diversity import cosine_kernel, mean_pairwise_distance
from drift_pl.sampling.rollout import Sampler
from drift_pl.scoring.protocol import Encoder, ImageFilter, Measure, PairwiseDistance, move
from drift_pl.scoring.rewards import WeightedReward, score_images


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
    """What is measured of a prompt's images, and of all images together.

    Attributes:
        judges: those trained on; `reward` is their weighted sum. A groupwise judge sees a prompt's images together.
        encoder: embeds images for the metrics that compare embeddings.
        lpips: all-pairs distance for `pairwise_lpips`; None: not measured.
        micro_batch: images per forward pass.
        heldout_judges: reported as `heldout/NAME`, so that over-optimisation of the others shows.
        measures: whatever else is reported.
        metrics: name -> a further metric: of a prompt's images, or (`DriftMetric`) of how far the embeddings of all
            images are from the base model's.
        grid_prompts, grid_seeds: how many images are kept for looking at.
        vendi_order: q of `vendi`.
    """

    judges: Sequence[WeightedReward]
    encoder: Encoder
    lpips: PairwiseDistance | None
    micro_batch: int
    heldout_judges: Sequence[WeightedReward] = ()
    measures: Sequence[Measure] = ()
    metrics: Mapping[str, GroupedMetric | DriftMetric] = field(default_factory=dict)
    grid_prompts: int = 4
    grid_seeds: int = 8
    vendi_order: float = 1.0

    @cached_property
    def per_prompt(self) -> dict[str, GroupedMetric]:
        """Metrics of a prompt's images."""
        further = {name: metric for name, metric in self.metrics.items() if isinstance(metric, GroupedMetric)}
        return standard_metrics(self.lpips, self.vendi_order) | further

    @cached_property
    def drift(self) -> dict[str, DriftMetric]:
        """Metrics of all images against the base model's; embeddings are kept if there is one."""
        return {name: metric for name, metric in self.metrics.items() if isinstance(metric, DriftMetric)}

    def to(self, device: torch.device | str) -> None:
        """Moves everything that holds a network."""
        judges = [judge.reward for judge in (*self.judges, *self.heldout_judges)]
        for part in (self.encoder, *self.per_prompt.values(), *judges, *self.measures):
            move(part, device)

    def run(
        self,
        model: Model,
        sampler: Sampler,
        prompts: Sequence[str],
        seeds_per_prompt: int,
        reference: Tensor | None = None,
        partial: PartialPoint | None = None,
    ) -> Evaluated:
        """Samples and measures; with several processes each takes every n-th prompt and all get the whole result.

        Args:
            seeds_per_prompt: S images per prompt, from noise that is a function of (prompt, seed index) alone.
            reference: the base model's embeddings, [..., D]; None: no metrics of drift.
            partial: prompts that are done already, to which the others are added.
        """
        rank, world = _rank_and_world()
        rank, world = (0, 1) if len(prompts) < world else (rank, world)  # then every process evaluates everything
        sizes = (len(prompts), min(self.grid_prompts, len(prompts)), len(prompts) if self.drift else 0)
        names: list[str] = []
        parts: list[Tensor] = []
        for index in range(rank, len(prompts), world):
            row = partial.read(index) if partial else None
            if row is None or set(row[0]) != set(names or row[0]):
                row = self._row(model, sampler, prompts[index], seeds_per_prompt)
                if partial:
                    partial.write(index, row, [index < size for size in sizes])
            names = names or row[0]
            rows = (row[1][0][[row[0].index(name) for name in names]], *row[1][1:])
            parts = parts or [
                torch.zeros(size, *row.shape, dtype=row.dtype) for size, row in zip(sizes, rows, strict=True)
            ]
            for part, row in zip(parts, rows, strict=True):
                if index < len(part):
                    part[index] = row
        if world > 1:  # every row is zero on all processes but one
            parts = [_sum_over_processes(part, model.device) for part in parts]
        table_PN, grid_PS3HW, embedding_PSD = parts
        values_P = dict(zip(names, table_PN.T, strict=True))
        if not self.drift:
            return Evaluated(tuple(prompts), values_P, grid_PS3HW)
        overall = {} if reference is None else self._drift(embedding_PSD, reference)
        return Evaluated(tuple(prompts), values_P, grid_PS3HW, embedding_PSD, overall)

    def _row(self, model: Model, sampler: Sampler, prompt: str, seeds: int) -> Row:
        """Samples and measures one prompt."""
        generators = sample_generators(f"evaluation_latents:{prompt}", samples=range(seeds))
        condition = model.encode([prompt], model.device)
        values, kept = self._look(sample_images(model, sampler, condition, generators, self.micro_batch), prompt)
        return list(values), (torch.stack(list(values.values())), *kept)

    def measure(self, images_S3HW: Tensor, prompt: str) -> dict[str, Tensor]:
        """Named values of one prompt's images; metrics and measures need at least two images."""
        return dict(self._measure(images_S3HW, self.encoder(images_S3HW), prompt))

    def _drift(self, embedding_PSD: Tensor, reference: Tensor) -> dict[str, float]:
        embedding_ND, reference_MD = embedding_PSD.flatten(0, -2), reference.flatten(0, -2)
        return {name: float(metric.between(embedding_ND, reference_MD)) for name, metric in self.drift.items()}

    def _look(self, images_S3HW: Tensor, prompt: str) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
        """Values of one prompt's images, images for the grid and unit embeddings; all on the CPU."""
        embedding_SD = self.encoder(images_S3HW)
        values = {name: value.double().cpu() for name, value in self._measure(images_S3HW, embedding_SD, prompt)}
        unit_SD = normalize(embedding_SD.float(), dim=-1)
        return values, (images_S3HW[: self.grid_seeds].float().cpu(), unit_SD.cpu())

    def _measure(self, images_S3HW: Tensor, embedding_SD: Tensor, prompt: str) -> Iterator[tuple[str, Tensor]]:
        num_images = len(images_S3HW)
        repeated = [prompt] * num_images
        reward_S, by_reward = score_images(self.judges, images_S3HW, repeated, num_images, allow_unscored=True)
        yield "reward", reward_S.nanmean()
        for name, score_S in by_reward.items():
            yield f"reward/{name}", score_S.nanmean()
        for judge in self.heldout_judges:
            yield f"heldout/{judge.name}", judge(images_S3HW, repeated, num_images).nanmean()
        if num_images < 2:
            return
        for name, metric in self.per_prompt.items():
            yield name, metric.of_group(images_S3HW if metric.of_images else embedding_SD)
        for measure in self.measures:
            if isinstance(measure, ImageFilter):
                kept_S = measure.counts(images_S3HW, prompt).to(embedding_SD.device)
                yield "valid_pairwise_distance", _distance_within(cosine_kernel(embedding_SD), kept_S)
            for name, value_P in measure(images_S3HW[None], [prompt]).items():
                yield name, value_P[0]


@dataclass(frozen=True)
class Bench:
    """Samples a model and measures its images: the one definition of held-out evaluation.

    Attributes:
        evaluator: what is measured.
        sampling: how images are sampled.
    """

    evaluator: Evaluator
    sampling: SamplingPlan

    def base(
        self, model: Model, prompts: Sequence[str], seeds_per_prompt: int, partial: PartialPoint | None = None
    ) -> Evaluated:
        """The model before fine-tuning; see `Evaluator.run`."""
        with model.base(self.sampling) as sampler:
            return self.evaluator.run(model, sampler, prompts, seeds_per_prompt, partial=partial)

    def tuned(
        self,
        model: Model,
        prompts: Sequence[str],
        seeds_per_prompt: int,
        reference: Tensor | None = None,
        partial: PartialPoint | None = None,
    ) -> Evaluated:
        """The weights that the model holds now; see `Evaluator.run`.

        Args:
            reference: the base model's embeddings of the same prompts, for metrics of drift.
        """
        with model.tuned(self.sampling) as sampler:
            return self.evaluator.run(model, sampler, prompts, seeds_per_prompt, reference, partial)


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
