"""Held-out evaluation: reward and diversity of a policy's images, prompt by prompt, for callbacks and commands.

It differs from training on purpose: other prompts, fixed seeds that do not depend on the run's, the deterministic
sampler, no variation of prompts, and an encoder that is not used in training.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import normalize

from drift_pl.core.processes import is_first_process, rank_and_world
from drift_pl.core.rng import sample_generators
from drift_pl.evaluation.evaluated import Evaluated, PromptRows
from drift_pl.evaluation.measures import add_values, call_measure, counted_images, drift_value, group_value
from drift_pl.evaluation.metrics import DriftMetric, GroupedMetric, standard_metrics
from drift_pl.evaluation.partial import PartialPoint, Row
from drift_pl.evaluation.sampling import Model, sample_images
from drift_pl.functional.diversity import cosine_kernel, mean_pairwise_distance
from drift_pl.policies.protocol import Offloadable
from drift_pl.policies.sharding import common_passes
from drift_pl.sampling.sampler import Sampler
from drift_pl.scoring.calls import finite_images, finite_only, known_rows, nan_images, refuse_nan_images, row_per_image
from drift_pl.scoring.protocol import Encoder, ImageFilter, Measure, PairwiseDistance, move
from drift_pl.scoring.residence import PARKED, resident
from drift_pl.scoring.rewards import WeightedReward, score_images

ENCODER = "evaluation.encoder"


@dataclass(frozen=True)
class Evaluator:
    """Measures a prompt's images, and all images together.

    Attributes:
        rewards: those trained on; `reward` is their weighted sum. Groupwise rewards see a prompt's images together.
        encoder: embeds images for the metrics that compare embeddings.
        lpips: all-pairs distance for `pairwise_lpips`; None: not measured.
        micro_batch: images per forward pass.
        heldout_rewards: reported as `heldout/NAME`, to reveal over-optimization of the trained ones.
        measures: reported in addition.
        metrics: name -> a further metric: of a prompt's images, or (`DriftMetric`) of the distance of all images'
            embeddings from the base model's.
        grid_prompts, grid_seeds: number of images kept for the grid.
        vendi_order: q of `vendi`.
        after_prompt: called after each prompt, to show progress.
        offload: networks are in main memory but for the time in which they measure; LPIPS, which is small, stays.
        pictured: of images, what the grid shows.
    """

    rewards: Sequence[WeightedReward]
    encoder: Encoder
    lpips: PairwiseDistance | None
    micro_batch: int
    heldout_rewards: Sequence[WeightedReward] = ()
    measures: Sequence[Measure] = ()
    metrics: Mapping[str, GroupedMetric | DriftMetric] = field(default_factory=dict)
    grid_prompts: int = 4
    grid_seeds: int = 8
    vendi_order: float = 1.0
    after_prompt: Callable[[], object] = lambda: None
    offload: bool = False
    pictured: Callable[[Tensor], Tensor] = lambda images_S3HW: images_S3HW

    @cached_property
    def per_prompt(self) -> dict[str, GroupedMetric]:
        further = {name: metric for name, metric in self.metrics.items() if isinstance(metric, GroupedMetric)}
        return standard_metrics(self.lpips, self.vendi_order) | further

    @cached_property
    def drift(self) -> dict[str, DriftMetric]:
        """If there are any, embeddings are kept."""
        return {name: metric for name, metric in self.metrics.items() if isinstance(metric, DriftMetric)}

    def to(self, device: torch.device | str) -> None:
        """Moves everything that holds a network."""
        for metric in self.per_prompt.values():
            move(metric, device)
        for part in self._networks():
            move(part, PARKED if self.offload else device)

    def _networks(self) -> tuple[object, ...]:
        rewards = [named.reward for named in (*self.rewards, *self.heldout_rewards)]
        return (self.encoder, *rewards, *self.measures)

    def run(
        self,
        model: Model,
        sampler: Sampler,
        prompts: Sequence[str],
        seeds_per_prompt: int,
        reference: Tensor | None = None,
        partial: PartialPoint | None = None,
    ) -> Evaluated:
        """Samples and measures; of several processes each takes every n-th prompt, and all get the whole result.

        Args:
            seeds_per_prompt: S images per prompt, from noise that is a function of (prompt, seed index) alone.
            reference: the base model's embeddings, [..., D]; None: drift is not measured.
            partial: prompts that are done already, to which the others are added.

        Raises:
            UserError: a reward, an encoder or a measure fails or returns something else than it should; or every image
                has NaN.
        """
        total = len(prompts)
        rows = PromptRows(total, self.grid_prompts, total if self.drift else 0)
        self._fill(rows, model, sampler, prompts, seeds_per_prompt, partial)
        values_P, lost, grid_PS3HW, embedding_PSD = rows.of_all_processes(model.device)
        self._report_nan(lost, total * seeds_per_prompt)
        if not self.drift:
            return Evaluated(tuple(prompts), values_P, grid_PS3HW)
        overall = {} if reference is None else self._drift(embedding_PSD, reference)
        return Evaluated(tuple(prompts), values_P, grid_PS3HW, embedding_PSD, overall)

    def _fill(
        self,
        rows: PromptRows,
        model: Model,
        sampler: Sampler,
        prompts: Sequence[str],
        seeds: int,
        partial: PartialPoint | None,
    ) -> None:
        """Adds the rows of this process's prompts, of which there is one at least."""
        rank, world = rank_and_world()
        total = len(prompts)
        own = range(rank, max(total, rank + 1), world)  # a process without a prompt repeats another's, for the shapes
        missing = [number for number in own if partial is None or partial.read(number, ()) is None]
        further = common_passes(model.policy.network, len(missing), model.device) - len(missing)
        for number in own:
            row = None if partial is None or number in missing else partial.read(number, rows.names)
            if row is None:
                row = self._sample_and_measure(model, sampler, prompts[number % total], seeds)
                if partial and number < total:
                    partial.write(number, row, rows.kept(number))
            rows.add(number, row)
            self.after_prompt()
        for _ in range(further):  # the passes of a sharded network that other processes still make
            self._sample(model, sampler, prompts[0], seeds)

    def measure(self, images_S3HW: Tensor, prompt: str) -> dict[str, Tensor]:
        """Named values of one prompt's images; metrics and measures need at least two images."""
        with resident(self._networks(), images_S3HW.device, self.offload):
            return self._measure(images_S3HW, row_per_image(ENCODER, self.encoder, images_S3HW), prompt)

    def _drift(self, embedding_PSD: Tensor, reference: Tensor) -> dict[str, float]:
        embedding_ND, reference_MD = embedding_PSD.flatten(0, -2), reference.flatten(0, -2)
        return {name: drift_value(name, metric, embedding_ND, reference_MD) for name, metric in self.drift.items()}

    def _report_nan(self, lost: int, total: int) -> None:
        refuse_nan_images(lost, total, "evaluation")
        if lost and is_first_process():
            warnings.warn(nan_images(lost, total, "evaluation"), stacklevel=1)

    def _sample_and_measure(self, model: Model, sampler: Sampler, prompt: str, seeds: int) -> Row:
        """Values of one prompt, float64; number of NaN images; images for the grid; unit embeddings. All on the CPU."""
        images_S3HW = self._sample(model, sampler, prompt, seeds)
        lost = (~finite_images(images_S3HW)).sum().double().cpu()
        if isinstance(model.policy, Offloadable):
            model.policy.rest()
        with resident(self._networks(), images_S3HW.device, self.offload):
            embedding_SD = row_per_image(ENCODER, self.encoder, images_S3HW)
            measured = self._measure(images_S3HW, embedding_SD, prompt)
            values = {name: value.double().cpu() for name, value in measured.items()}
        grid_S3HW = self.pictured(images_S3HW[: self.grid_seeds]).to("cpu", torch.float32, copy=True)
        return values, lost, grid_S3HW, normalize(embedding_SD.float(), dim=-1).cpu()

    def _sample(self, model: Model, sampler: Sampler, prompt: str, seeds: int) -> Tensor:
        generators = sample_generators(f"evaluation_latents:{prompt}", samples=range(seeds))
        condition = model.encode([prompt], model.device)
        return sample_images(model, sampler, condition, generators, self.micro_batch)

    def _measure(self, images_S3HW: Tensor, embedding_SD: Tensor, prompt: str) -> dict[str, Tensor]:
        num_images = len(images_S3HW)
        repeated = [prompt] * num_images
        reward_S, by_reward = score_images(self.rewards, images_S3HW, repeated, num_images)
        values = {"reward": _mean_score(reward_S)}
        values |= {f"reward/{name}": _mean_score(score_S) for name, score_S in by_reward.items()}
        for reward in self.heldout_rewards:
            values[f"heldout/{reward.name}"] = _mean_score(reward(images_S3HW, repeated, num_images))
        if num_images < 2:
            return values
        finite_S, known_S = finite_images(images_S3HW), known_rows(embedding_SD)
        for name, metric in self.per_prompt.items():
            rows, counts_S = (images_S3HW, finite_S) if metric.of_images else (embedding_SD, known_S)
            values[name] = group_value(name, metric, finite_only(rows, counts_S))
        for measure in self.measures:
            if isinstance(measure, ImageFilter):
                kept_S = counted_images(measure, images_S3HW, prompt, finite_S).to(embedding_SD.device)
                distance = _distance_within(cosine_kernel(embedding_SD), kept_S & known_S)
                add_values(values, measure, {"valid_pairwise_distance": distance})
            add_values(values, measure, call_measure(measure, images_S3HW, prompt, finite_S))
        return values


def _mean_score(score_S: Tensor) -> Tensor:
    """Over the images that were scored with a finite number; NaN if none was."""
    return score_S[score_S.isfinite()].mean()


def _distance_within(kernel_SS: Tensor, kept_S: Tensor) -> Tensor:
    """Mean pairwise distance of the kept images; NaN if there are fewer than two."""
    kept_SS = kernel_SS[kept_S][:, kept_S]
    return mean_pairwise_distance(1 - kept_SS) if len(kept_SS) > 1 else torch.tensor(torch.nan)
